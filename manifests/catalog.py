"""Reading, writing and comparing catalogs. Strict: what breaks a rule is refused whole, never half read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import msgspec

from manifests.catalog_rules import check_catalog, check_digests, check_table
from manifests.errors import FormatError, RollbackError
from manifests.model import (
    FORMAT,
    MAJOR,
    PILOT_MINOR,
    STREAM_ROLES,
    STREAMS_MINOR,
    Catalog,
    CatalogTarget,
    Courseware,
    Pilot,
    Recall,
)
from manifests.names import Region, is_within
from manifests.pieces import PIECE_SIZE, check_piece_size

__all__ = [
    "CatalogDiff",
    "blobs_of",
    "check_catalog",
    "decode_catalog",
    "diff_catalogs",
    "encode_catalog",
    "is_for",
    "item_for",
    "items_of",
    "parse_target",
    "resolve",
    "variants_of",
]

MAX_CATALOG_BYTES = 256 * 1024 * 1024

_ENCODER = msgspec.json.Encoder(order="sorted")
_DECODER = msgspec.json.Decoder(Catalog)


class _Head(msgspec.Struct):
    """Read first, so that a newer format is named as such and not as a broken old one."""

    format: str = ""
    major: int = 0


_HEAD_DECODER = msgspec.json.Decoder(_Head)


def encode_catalog(catalog: Catalog) -> bytes:
    """Write the canonical form: keys sorted, no blanks, UTF-8, defaults left out, lists in their ruled order.

    Raises:
        FormatError: caller's mistake; the value breaks a rule that a reader would refuse it for.
    """
    ordered = msgspec.structs.replace(
        catalog,
        minor=max(catalog.minor, _minor_of(catalog)),
        columns=tuple(sorted(catalog.columns, key=lambda column: (column.order, column.id))),
        courseware=tuple(_parted(item) for item in sorted(catalog.courseware, key=lambda item: item.id)),
        recalls=tuple(sorted(catalog.recalls, key=lambda recall: recall.id)),
    )
    try:
        data = _ENCODER.encode(ordered)
    except (TypeError, ValueError, RecursionError) as error:
        raise FormatError(f"catalog cannot be written as JSON: {error}") from error
    decode_catalog(data)  # the reader's own judgement: types and limits too, which a Struct does not check when made
    return data


def decode_catalog(data: bytes) -> Catalog:
    """Read a catalog whose digest and signature were already proved.

    Raises:
        FormatError: bad data; not JSON, another format, a newer major version, a broken rule or limit.
    """
    if len(data) > MAX_CATALOG_BYTES:
        raise FormatError(f"catalog of {len(data)} bytes passes the limit of {MAX_CATALOG_BYTES}")
    try:
        head = _HEAD_DECODER.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise FormatError(f"catalog is not readable JSON: {error}") from error
    if head.format != FORMAT:
        raise FormatError(f"document says format {head.format[:40]!r}, not {FORMAT!r}")
    if head.major != MAJOR:
        raise FormatError(
            f"catalog has major version {head.major}, this program reads {MAJOR}",
            hint="install the newer yuanjiao on this edge; what is here keeps playing",
            hint_zh="请在本边缘服务器安装新版 yuanjiao；现有课件照常播放",
        )
    try:
        catalog = _DECODER.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise FormatError(f"catalog breaks a rule: {error}") from error
    catalog = join_streams(catalog)
    check_catalog(catalog)
    return catalog


def _minor_of(catalog: Catalog) -> int:
    if any(item.pilot is not None or item.credit for item in catalog.courseware):
        return PILOT_MINOR
    has_streams = any(file.role in STREAM_ROLES for item in catalog.courseware for file in item.files)
    return STREAMS_MINOR if has_streams else 0


def _parted(item: Courseware) -> Courseware:
    """A courseware as the wire has it; see `STREAM_ROLES`."""
    if item.pilot is not None:
        pilot = msgspec.structs.replace(item.pilot, next=_parted(item.pilot.next))
        item = msgspec.structs.replace(item, pilot=pilot)
    streams = tuple(file for file in item.files if file.role in STREAM_ROLES)
    if not streams:
        return item
    files = tuple(file for file in item.files if file.role not in STREAM_ROLES)
    return msgspec.structs.replace(item, files=files, streams=streams)


def join_streams(catalog: Catalog) -> Catalog:
    """A catalog as it came, with the streams of each courseware behind its files; for whoever decodes it in parts.

    Raises:
        FormatError: bad data; a file stands where it must not.
    """
    if not any(item.streams or item.pilot for item in catalog.courseware):
        for item in catalog.courseware:
            _check_roles(item)
        return catalog
    return msgspec.structs.replace(catalog, courseware=tuple(map(_joined, catalog.courseware)))


def _joined(item: Courseware) -> Courseware:
    _check_roles(item)
    if item.streams:
        item = msgspec.structs.replace(item, files=(*item.files, *item.streams), streams=())
    if item.pilot is None:
        return item
    if item.pilot.next.pilot is not None:
        raise FormatError(f"courseware {item.id!r} has a pilot within its pilot")
    return msgspec.structs.replace(item, pilot=Pilot(item.pilot.audience, _joined(item.pilot.next)))


def _check_roles(item: Courseware) -> None:
    if any(file.role in STREAM_ROLES for file in item.files):
        raise FormatError(f"courseware {item.id!r} lists a rendition or playlist among its files, not its streams")
    if any(file.role not in STREAM_ROLES for file in item.streams):
        raise FormatError(f"courseware {item.id!r} lists something else than renditions and playlists as streams")


def parse_target(custom: Any, size: int | None = None) -> CatalogTarget:
    """Read the `custom` object of the catalog's target.

    Args:
        custom: the object as TUF's metadata has it.
        size: length of the target in bytes; when given, the catalog's own piece table is checked against it.

    Raises:
        FormatError: bad data.
    """
    try:
        target = msgspec.convert(custom, CatalogTarget)
    except (msgspec.ValidationError, RecursionError) as error:
        raise FormatError(f"target of the catalog breaks a rule: {error}") from error
    check_piece_size(target.piece_size)
    if size is not None:
        check_table(size, target.piece_size, target.table, "catalog")
    for patch in target.patches:
        check_digests([patch.source, patch.blob, *([patch.table] if patch.table else [])])
        check_table(patch.size, PIECE_SIZE, patch.table, "a patch of the catalog")
    return target


@dataclass(frozen=True, slots=True)
class CatalogDiff:
    """What changed between two catalogs, each list sorted by id.

    Attributes:
        recalled: recalls that the older catalog did not have.
    """

    added: tuple[Courseware, ...]
    updated: tuple[Courseware, ...]
    removed: tuple[Courseware, ...]
    recalled: tuple[Recall, ...]


def diff_catalogs(old: Catalog | None, new: Catalog) -> CatalogDiff:
    """Compare two catalogs of one publisher.

    Raises:
        RollbackError: bad data; `new` is older than `old`, or equal in version but not in content.
        FormatError: bad data; they have different publishers.
    """
    if old is None:
        return CatalogDiff(new.courseware, (), (), new.recalls)
    if old.publisher != new.publisher:
        raise FormatError(f"catalog of publisher {new.publisher} offered where {old.publisher} is expected")
    if new.version < old.version or (new.version == old.version and new != old):
        raise RollbackError(f"catalog version {new.version} offered after {old.version}")
    before = {item.id: item for item in old.courseware}
    after = {item.id for item in new.courseware}
    known = {(recall.id, recall.version) for recall in old.recalls}
    return CatalogDiff(
        added=tuple(item for item in new.courseware if item.id not in before),
        updated=tuple(item for item in new.courseware if item.id in before and item != before[item.id]),
        removed=tuple(item for item in old.courseware if item.id not in after),
        recalled=tuple(recall for recall in new.recalls if (recall.id, recall.version) not in known),
    )


def resolve(catalog: Catalog, region: Region) -> Catalog:
    """The catalog as it is for an edge of `region`: of each lesson on trial one version, and no pilots any more."""
    if not any(item.pilot for item in catalog.courseware):
        return catalog
    items = tuple(item_for(item, region) for item in catalog.courseware)
    return msgspec.structs.replace(catalog, courseware=items)


def item_for(item: Courseware, region: Region) -> Courseware:
    """A courseware as it is for an edge of `region`: the next version where its pilot goes on, else the entry itself.

    Whether the edge is meant at all is for `is_for` to say, of what this gives.
    """
    if item.pilot is None:
        return item
    if any(is_within(region, Region(area)) for area in item.pilot.audience):
        return item.pilot.next
    return msgspec.structs.replace(item, pilot=None)


def variants_of(item: Courseware) -> tuple[Courseware, ...]:
    """The entry itself without its pilot, and the pilot's version when there is one."""
    if item.pilot is None:
        return (item,)
    return msgspec.structs.replace(item, pilot=None), item.pilot.next


def items_of(catalog: Catalog) -> Iterator[Courseware]:
    """Every version that a catalog offers to somebody, pilots too; for whoever asks for blobs, not for lessons."""
    for item in catalog.courseware:
        yield from variants_of(item)


def is_for(item: Courseware, region: Region) -> bool:
    """Tell whether a courseware is meant for an edge of `region`."""
    return any(is_within(region, Region(area)) for area in item.audience)


def blobs_of(items: Iterable[Courseware]) -> set[str]:
    """Names of all blobs that the files of `items` are (not their tables or patches)."""
    return {file.blob for item in items for file in item.files}
