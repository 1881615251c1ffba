"""Signatures of reports: Ed25519 over the exact text, by the edge's own key (FORMAT.md section 9).

The library is loaded where it is used: a process that only serves never needs it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from manifests.digests import digest_of
from manifests.errors import ConfigurationError, FormatError, InputError, SignatureError
from manifests.reports import MAX_REPORT_BYTES, Envelope, Report, decode_report, encode_report

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

_KEY_ID_CHARS = 16


def key_id_of(public_key: str) -> str:
    """The short name of a public key of 64 hexadecimal digits."""
    return digest_of(bytes.fromhex(public_key))[:_KEY_ID_CHARS]


def parse_public_key(text: str) -> str:
    """Check a public key that a person typed or pasted: 64 hexadecimal digits that are a key.

    Raises:
        InputError: bad data.
    """
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    key = text.strip().lower()
    try:
        if len(key) != 64 or not key.isascii():
            raise ValueError("not 64 digits")  # noqa: TRY301 - joins the faults that the library finds
        Ed25519PublicKey.from_public_bytes(bytes.fromhex(key))
    except ValueError as error:
        raise InputError(
            f"public key {text[:80]!r} is refused: 64 hexadecimal digits, as `yuanjiao edge init` prints them",
            zh=f"公钥 {text[:80]!r} 不合规：应为 `yuanjiao edge init` 显示的 64 位十六进制数",
        ) from error
    return key


class Signer:
    """Signs reports with one private key.

    Args:
        pem: the key, PKCS#8 PEM without a passphrase.
        key_id: the name under which the origin knows it; empty for the usual one.

    Raises:
        ConfigurationError: bad data; this is no such key.
    """

    def __init__(self, pem: bytes, key_id: str = "") -> None:
        from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

        self._key = _load(pem)
        self.public_key = self._key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw).hex()
        self.key_id = key_id or key_id_of(self.public_key)

    def sign(self, report: Report) -> Envelope:
        """Put a report into its envelope."""
        text = encode_report(report)
        return Envelope(self.key_id, text, self._key.sign(text.encode()).hex())


def open_envelope(envelope: Envelope, public_key: str) -> Report:
    """Prove an envelope with the public key that its edge was enrolled with, and read the report in it.

    Raises:
        SignatureError: bad data; signed by another key, or changed since.
        FormatError: bad data; signed, and yet no report that this program reads.
    """
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    try:
        text = envelope.text.encode()
    except UnicodeEncodeError as error:  # JSON can spell lone surrogates
        raise FormatError(f"a report is no text: {error.reason}", zh="上报内容不是有效文本") from error
    if len(text) > MAX_REPORT_BYTES:
        raise FormatError(f"a report of {len(text)} bytes; at most {MAX_REPORT_BYTES}", zh="上报内容过长")
    try:
        Ed25519PublicKey.from_public_bytes(bytes.fromhex(public_key)).verify(bytes.fromhex(envelope.signature), text)
    except (InvalidSignature, ValueError) as error:
        raise SignatureError(
            f"a report is not signed by key {envelope.key_id[:64]!r}",
            zh=f"上报内容的签名与密钥 {envelope.key_id[:64]!r} 不符",
        ) from error
    return decode_report(envelope.text)


def _load(pem: bytes) -> Ed25519PrivateKey:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        key = load_pem_private_key(pem, None)
    except (ValueError, TypeError) as error:
        raise _wrong(str(error)) from error
    if not isinstance(key, Ed25519PrivateKey):
        raise _wrong("it is of another kind than Ed25519")
    return key


def _wrong(reason: str) -> ConfigurationError:
    return ConfigurationError(
        f"identity/key.pem cannot be used: {reason}",
        zh=f"identity/key.pem 无法使用：{reason}",
        hint="run `yuanjiao edge init` again with a new bundle of this county",
        hint_zh="请用本县新的开通文件重新运行 `yuanjiao edge init`",
    )
