"""The courier disk: what lies on a medium that travels where no line reaches (FORMAT.md section 10).

`blobs/` and `metadata/` have the names of the content endpoints, so that the disk is one more upstream. Nothing on it
is trusted: `courier.json` says what the disk is meant to carry, for people and for planning, and proves nothing. All
names are of lowercase letters, digits, dot and hyphen, which FAT and exFAT take as they are.
"""

from __future__ import annotations

import re
from typing import Annotated, NamedTuple

import msgspec
from msgspec import Meta, Struct

from manifests.digests import Digest
from manifests.errors import FormatError
from manifests.model import MAX_COURSEWARE, Bytes, Hex64, IdText, InstantText, RegionText, Version

COURIER_FORMAT = "yuanjiao-courier"
COURIER_MAJOR = 1
FOLDER = "yuanjiao-courier"
COURIER_FILE = "courier.json"
RETURN_FOLDER = "return"
MAX_COURIER_BYTES = 128 * 1024 * 1024
# FAT32 takes no file of 4 GiB; a lost part of 1 GiB is written again in half a minute, and pieces never cross parts.
PART_BYTES = 1 << 30
_MIN_PART_BYTES = 64 * 1024
_MAX_PARTS = 1000

_BLOB_FILE = re.compile(r"([0-9a-f]{64})(?:\.([0-9]{3}))?")
_RETURN_EDGE = re.compile(r"[1-9][0-9]{5}-[0-9a-f]{8,64}")
_RETURN_FILE = re.compile(r"outbox-[0-9]{16}\.json")


class CourierLesson(Struct, frozen=True, omit_defaults=True):
    """One lesson that this disk is meant to bring, in the order of writing."""

    id: IdText
    version: Version
    title: Annotated[str, Meta(max_length=200)] = ""
    bytes: Bytes = 0


class Courier(Struct, frozen=True, omit_defaults=True):
    """The disk in its own words.

    Attributes:
        publisher: region code of the province whose catalog it carries.
        made: when this disk was begun.
        catalog_version: of the catalog on it.
        target: `all`, or region code and key id of the one edge it was packed for.
        series: the disks that together hold one packing; `part` is this one's number, `parts` how many it will take
            if all are like this one.
        part_bytes: blobs longer than this lie in files of so many bytes.
        complete: all that is listed was written.
        blobs: digest → length of everything below `blobs/`.
    """

    format: str
    major: int
    publisher: RegionText
    made: InstantText
    catalog_version: Version
    target: Annotated[str, Meta(min_length=1, max_length=80)]
    series: Annotated[str, Meta(pattern=r"^[0-9a-f]{16}\Z")]
    part: Annotated[int, Meta(ge=1, le=100_000)] = 1
    parts: Annotated[int, Meta(ge=1, le=100_000)] = 1
    part_bytes: Annotated[int, Meta(ge=_MIN_PART_BYTES, le=1 << 31)] = PART_BYTES
    complete: bool = False
    lessons: Annotated[tuple[CourierLesson, ...], Meta(max_length=MAX_COURSEWARE)] = ()
    blobs: dict[Hex64, Bytes] = msgspec.field(default_factory=dict)


class PartFile(NamedTuple):
    """One file of a blob: its path below the folder, and the half-open range of the blob that it holds."""

    path: str
    start: int
    stop: int


def encode_courier(courier: Courier) -> bytes:
    """Write `courier.json`, indented: people look at it to see what a disk is."""
    return msgspec.json.format(msgspec.json.encode(courier), indent=1) + b"\n"


def decode_courier(data: bytes) -> Courier:
    """Read `courier.json`; nothing in it is to be believed.

    Raises:
        FormatError: bad data; another format or major version included.
    """
    try:
        head = msgspec.json.decode(data)
        if not isinstance(head, dict) or head.get("format") != COURIER_FORMAT:
            raise _wrong(f"it does not say format {COURIER_FORMAT!r}")
        if head.get("major") != COURIER_MAJOR:
            raise FormatError(
                f"{COURIER_FILE} has major version {head.get('major')!r}, this program reads {COURIER_MAJOR}",
                zh=f"该递送盘的格式版本为 {head.get('major')!r}，本程序只支持 {COURIER_MAJOR}",
                hint="install the newer yuanjiao on this edge",
                hint_zh="请在本边缘服务器安装新版 yuanjiao",
            )
        return msgspec.convert(head, Courier)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _wrong(str(error)) from error


def part_files(digest: Digest, size: int, part_bytes: int) -> tuple[PartFile, ...]:
    """The files in which a blob lies: one of its own name, or numbered parts.

    Raises:
        FormatError: bad data; it would take over a thousand parts.
    """
    base = f"blobs/{digest[:2]}/{digest}"
    if size <= part_bytes:
        return (PartFile(base, 0, size),)
    count = -(-size // part_bytes)
    if count > _MAX_PARTS:
        raise FormatError(f"blob {digest[:16]} of {size} bytes would take {count} parts of {part_bytes}")
    return tuple(PartFile(f"{base}.{n:03d}", n * part_bytes, min((n + 1) * part_bytes, size)) for n in range(count))


def blob_of_file(name: str) -> Digest | None:
    """The blob to which a file below `blobs/` belongs by its name; None for a stranger's."""
    match = _BLOB_FILE.fullmatch(name)
    return Digest(match[1]) if match else None


def return_folder(region: str, key_id: str) -> str:
    """Name of the folder below `return/` into which an edge puts what goes home.

    Raises:
        FormatError: bad data; they make no safe name.
    """
    name = f"{region}-{key_id}"
    if not is_return_folder(name):
        raise FormatError(f"{name[:80]!r} is no name for an edge's folder")
    return name


def is_return_folder(name: str) -> bool:
    """Tell whether a name below `return/` is an edge's."""
    return _RETURN_EDGE.fullmatch(name) is not None


def return_file(number: int) -> str:
    """Name of a file of reports; `number` is that of the first report in it, so that names sort as reports do."""
    return f"outbox-{number:016d}.json"


def is_return_file(name: str) -> bool:
    """Tell whether a name in an edge's folder is a file of reports."""
    return _RETURN_FILE.fullmatch(name) is not None


def _wrong(reason: str) -> FormatError:
    return FormatError(
        f"{COURIER_FILE} cannot be read: {reason}",
        zh=f"递送盘上的 {COURIER_FILE} 无法读取：{reason}",
        hint="have the disk made again (`yuanjiao courier export`)",
        hint_zh="请重新制作递送盘（`yuanjiao courier export`）",
    )
