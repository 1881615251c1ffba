"""Digests: SHA-256 for trust. *Hash* is the verb, *digest* the result."""

from __future__ import annotations

import base64
import hashlib
import re
from typing import NewType

from manifests.errors import DigestError, FormatError

Digest = NewType("Digest", str)

DIGEST_BYTES = 32
_HEX = re.compile(r"[0-9a-f]{64}")


def is_digest(text: str) -> bool:
    """Tell whether `text` is a blob's name: 64 lowercase hexadecimal digits."""
    return _HEX.fullmatch(text) is not None


def parse_digest(text: str) -> Digest:
    """Check a blob's name before it touches a path, a query or a page.

    Raises:
        FormatError: bad data.
    """
    if not is_digest(text):
        raise FormatError(f"{text[:80]!r} is not a blob name (64 lowercase hexadecimal digits)")
    return Digest(text)


def digest_of(data: bytes | bytearray | memoryview) -> Digest:
    """Hash bytes that are already in memory."""
    return Digest(hashlib.sha256(data).hexdigest())


def check_bytes(data: bytes | bytearray | memoryview, digest: Digest, size: int, what: str) -> None:
    """Prove bytes against the size and digest promised for them.

    Raises:
        DigestError: bad data; names `what`.
    """
    if len(data) != size:
        raise DigestError(
            f"{what}: {len(data)} bytes where {size} were promised",
            zh=f"内容长度与清单不符（{len(data)} 字节，应为 {size} 字节）：{what}",
        )
    got = digest_of(data)
    if got != digest:
        raise DigestError(
            f"{what}: digest {got[:16]}… where {digest[:16]}… was promised",
            zh=f"内容与摘要不符（{got[:16]}…，应为 {digest[:16]}…）：{what}",
        )


def dump_etag(digest: Digest) -> str:
    """The strong validator of a blob: its name in quotes (RFC 9110 section 8.8.3)."""
    return f'"{digest}"'


def dump_repr_digest(digest: Digest) -> str:
    """The `Repr-Digest` field value (RFC 9530 section 3)."""
    return f"sha-256=:{base64.b64encode(bytes.fromhex(digest)).decode('ascii')}:"
