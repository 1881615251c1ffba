"""The bundle: one file carried to a county, from which an edge starts (FORMAT.md section 6).

It holds the root of trust, so its path to the county must be a trusted one (a person, a sealed envelope). It may hold
the edge's private key; then it is as secret as that key.
"""

from __future__ import annotations

from typing import Annotated, Any
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta, Struct

from manifests.errors import ConfigurationError, FormatError
from manifests.instants import parse_instant
from manifests.model import InstantText, RegionText

BUNDLE_FORMAT = "yuanjiao-bundle"
BUNDLE_MAJOR = 1
MAX_BUNDLE_BYTES = 1024 * 1024
MAX_UPSTREAM_CHARS = 500


class Identity(Struct, frozen=True):
    """The edge's own Ed25519 key pair: public key as 64 hexadecimal digits, private key as PKCS#8 PEM text."""

    key_id: Annotated[str, Meta(min_length=1, max_length=64)]
    public_key: Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")]
    private_key: str


class Bundle(Struct, frozen=True, omit_defaults=True):
    """What an edge must be told before it can trust anything.

    Attributes:
        publisher: region code of the publisher whose catalog this edge follows.
        region: region code of the edge's county.
        upstreams: base addresses, most preferred first.
        root: TUF root metadata, the exact JSON text that was signed.
        issued: instant of making; the edge's first floor of trusted time.
        identity: absent when the edge makes its own key pair at init.
    """

    format: str
    major: int
    publisher: RegionText
    region: RegionText
    region_name: Annotated[str, Meta(max_length=60)]
    upstreams: Annotated[tuple[str, ...], Meta(min_length=1, max_length=16)]
    root: str
    issued: InstantText
    identity: Identity | None = None


def encode_bundle(bundle: Bundle) -> bytes:
    """Write a bundle, indented: a person may look at it."""
    return msgspec.json.format(msgspec.json.encode(bundle), indent=2) + b"\n"


def decode_bundle(data: bytes) -> Bundle:
    """Read a bundle.

    Raises:
        ConfigurationError: bad data; the hint says to ask for a new one.
    """
    try:
        if len(data) > MAX_BUNDLE_BYTES:
            raise _wrong(f"{len(data)} bytes are too many")
        head: Any = msgspec.json.decode(data)
        if not isinstance(head, dict) or head.get("format") != BUNDLE_FORMAT:
            raise _wrong(f"it does not say format {BUNDLE_FORMAT!r}")
        if head.get("major") != BUNDLE_MAJOR:
            raise _wrong(f"it has major version {head.get('major')!r}, this program reads {BUNDLE_MAJOR}")
        bundle = msgspec.json.decode(data, type=Bundle)
        parse_instant(bundle.issued)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, FormatError) as error:
        raise _wrong(str(error)) from error
    return msgspec.structs.replace(bundle, upstreams=tuple(map(check_upstream, bundle.upstreams)))


def check_upstream(url: str) -> str:
    """Check an upstream's base address: http or https, a host, no credentials, query or fragment.

    Returns:
        The address without a slash at its end.

    Raises:
        ConfigurationError: bad data.
    """
    if not _is_upstream(url):
        raise ConfigurationError(
            f"upstream {url[:120]!r} is not a base address such as http://10.1.2.3:8080",
            zh=f"上游地址 {url[:120]!r} 不合规，应形如 http://10.1.2.3:8080",
        )
    return url.rstrip("/")


def _is_upstream(url: str) -> bool:
    # urlsplit drops line breaks and tabs without a word, so they are looked for first.
    if len(url) > MAX_UPSTREAM_CHARS or any(char <= " " or char in "\x7f\\?#@" for char in url):
        return False
    try:
        parts = urlsplit(url)
        return parts.scheme in {"http", "https"} and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        return False


def _wrong(reason: str) -> ConfigurationError:
    return ConfigurationError(
        f"this is not a bundle that an edge can start from: {reason}",
        zh=f"该文件不是可用的开通文件（bundle）：{reason}",
        hint="ask the province for a new one (`yuanjiao origin enroll`)",
        hint_zh="请向省级源站索取新的开通文件（`yuanjiao origin enroll`）",
    )
