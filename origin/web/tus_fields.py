"""Header fields of tus 1.0.0 (https://tus.io/protocols/resumable-upload) as values: what a client says, checked."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from manifests.errors import InputError

if TYPE_CHECKING:
    from hashlib import _Hash

VERSION: Final = "1.0.0"
EXTENSIONS: Final = "creation,checksum,expiration,termination"
ALGORITHMS: Final = ("sha1", "sha256", "md5")
OCTETS: Final = "application/offset+octet-stream"

_LENGTH: Final = re.compile(r"0|[1-9][0-9]{0,17}")
_KEY: Final = re.compile(r"[!-+\--~]+")  # ASCII without blank and comma
_MOST_PAIRS: Final = 16


class VersionError(InputError):
    """The client speaks another version of the protocol."""

    http_status = 412


@dataclass(frozen=True, slots=True)
class Checksum:
    """What the client hashed a chunk to."""

    algorithm: str
    digest: bytes

    def hasher(self) -> _Hash:
        """Something to hash the chunk with."""
        return hashlib.new(self.algorithm, usedforsecurity=False)


def check_version(fields: Mapping[str, str]) -> None:
    """Refuse a client that does not speak version 1.0.0.

    Raises:
        VersionError: bad data.
    """
    if fields.get("Tus-Resumable", "") != VERSION:
        raise VersionError(f"this speaks tus {VERSION} only", zh=f"仅支持 tus {VERSION} 上传协议")


def parse_length(fields: Mapping[str, str], name: str) -> int:
    """Read a count of bytes.

    Raises:
        InputError: bad data; absent, or no number.
    """
    text = fields.get(name, "")
    if not _LENGTH.fullmatch(text):
        raise InputError(f"{name} {text[:40]!a} is no count of bytes", zh=f"请求头 {name} 不是有效的字节数")
    return int(text)


def parse_metadata(text: str) -> dict[str, str]:
    """Read Upload-Metadata: pairs of a key and base64, parted by commas.

    Raises:
        InputError: bad data.
    """
    found: dict[str, str] = {}
    for pair in text.split(",") if text else ():
        key, _, value = pair.strip(" ").partition(" ")
        if not _KEY.fullmatch(key) or key in found or len(found) >= _MOST_PAIRS:
            raise InputError("Upload-Metadata cannot be read", zh="请求头 Upload-Metadata 无法识别")
        try:
            found[key] = base64.b64decode(value.strip(" ").encode("ascii"), validate=True).decode()
        except (ValueError, binascii.Error) as error:
            raise InputError(
                f"Upload-Metadata: {key[:40]} is no base64 of UTF-8", zh="请求头 Upload-Metadata 编码有误"
            ) from error
    return found


def dump_metadata(values: Mapping[str, str]) -> str:
    """Write Upload-Metadata."""
    return ",".join(f"{key} {base64.b64encode(value.encode()).decode()}" for key, value in values.items())


def parse_checksum(text: str | None) -> Checksum | None:
    """Read Upload-Checksum: an algorithm and base64.

    Raises:
        InputError: bad data; also an algorithm that is not offered.
    """
    if text is None:
        return None
    algorithm, _, value = text.partition(" ")
    try:
        digest = base64.b64decode(value.encode("ascii"), validate=True)
    except (ValueError, binascii.Error):
        digest = b""
    if algorithm not in ALGORITHMS or len(digest) != hashlib.new(algorithm, usedforsecurity=False).digest_size:
        raise InputError(f"Upload-Checksum takes {', '.join(ALGORITHMS)}", zh="不支持的校验和算法，或校验和格式有误")
    return Checksum(algorithm, digest)
