"""Reading, writing and comparing catalogs. Strict: what breaks a rule is refused whole, never half read."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import msgspec

from manifests.errors import FormatError, InputError, RollbackError
from manifests.instants import parse_instant
from manifests.model import FORMAT, MAJOR, Catalog, CatalogTarget, Courseware, Recall
from manifests.names import Region, is_within, parse_courseware_id, parse_file_name
from manifests.pieces import MAX_TABLE_BYTES, PIECE_SIZE, check_piece_size, table_bytes

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
        columns=tuple(sorted(catalog.columns, key=lambda column: (column.order, column.id))),
        courseware=tuple(sorted(catalog.courseware, key=lambda item: item.id)),
        recalls=tuple(sorted(catalog.recalls, key=lambda recall: recall.id)),
    )
    check_catalog(ordered)
    return _ENCODER.encode(ordered)


def decode_catalog(data: bytes) -> Catalog:
    """Read a catalog whose digest and signature were already proved.

    Raises:
        FormatError: bad data; not JSON, another format, a newer major version, a broken rule or limit.
    """
    if len(data) > MAX_CATALOG_BYTES:
        raise FormatError(f"catalog of {len(data)} bytes passes the limit of {MAX_CATALOG_BYTES}")
    try:
        head = _HEAD_DECODER.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise FormatError(f"catalog is not readable JSON: {error}") from error
    if head.format != FORMAT:
        raise FormatError(f"document says format {head.format[:40]!r}, not {FORMAT!r}")
    if head.major != MAJOR:
        raise FormatError(
            f"catalog has major version {head.major}, this program reads {MAJOR}",
            hint="install the newer yuanjiao on this edge; what is here keeps playing",
            hint_zh="请在本边缘服务器安装新版 yuanjiao;现有课件照常播放",
        )
    try:
        catalog = _DECODER.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise FormatError(f"catalog breaks a rule: {error}") from error
    check_catalog(catalog)
    return catalog


def check_catalog(catalog: Catalog) -> None:
    """Check the rules that a type cannot say: order, uniqueness, names, references, tables.

    Raises:
        FormatError: bad data; names the item.
    """
    columns = [column.id for column in catalog.columns]
    _check_unique(columns, "column")
    known = frozenset(columns)
    previous = ""
    for item in catalog.courseware:
        if item.id <= previous:
            raise FormatError(f"courseware {item.id!r} is repeated or out of order")
        previous = item.id
        _check_courseware(item, known)
    _check_unique([recall.id for recall in catalog.recalls], "recall")
    recalled = {recall.id: recall.version for recall in catalog.recalls}
    for item in catalog.courseware:
        if recalled.get(item.id, 0) >= item.version:
            raise FormatError(f"courseware {item.id!r} version {item.version} is both offered and recalled")


def _check_unique(ids: list[str], what: str) -> None:
    if len(set(ids)) != len(ids):
        raise FormatError(f"a {what} id is repeated")
    for text in ids:
        _check_name(parse_courseware_id, text)


def _check_name(parse: Any, text: str) -> None:
    try:
        clean = parse(text)
    except InputError as error:
        raise FormatError(str(error)) from error
    if clean != text:
        raise FormatError(f"name {text!a} is not in Unicode NFC")


def _check_courseware(item: Courseware, columns: frozenset[str]) -> None:
    _check_name(parse_courseware_id, item.id)
    for column in item.columns:
        if column not in columns:
            raise FormatError(f"courseware {item.id!r} names column {column!r}, which the catalog does not have")
    if item.expires is not None and parse_instant(item.expires) <= parse_instant(item.published):
        raise FormatError(f"courseware {item.id!r} expires before it is published")
    names: set[str] = set()
    for file in item.files:
        _check_name(parse_file_name, file.name)
        key = file.name.casefold()
        if key in names:
            raise FormatError(f"courseware {item.id!r} has two files named {file.name!r}")
        names.add(key)
        check_piece_size(file.piece_size)
        _check_table(file.size, file.piece_size, file.table, f"{item.id}/{file.name}")
        for patch in file.patches:
            if patch.source == file.blob:
                raise FormatError(f"{item.id}/{file.name}: a patch is from the blob itself")
            _check_table(patch.size, PIECE_SIZE, patch.table, f"patch {patch.blob[:16]}")


def _check_table(size: int, piece_size: int, table: str | None, what: str) -> None:
    if (table is not None) != (size > piece_size):
        raise FormatError(f"{what}: a blob over one piece has a piece table, a smaller one has none")
    if table_bytes(size, piece_size) > MAX_TABLE_BYTES:
        raise FormatError(f"{what}: its piece table would pass {MAX_TABLE_BYTES} bytes; use larger pieces")


def parse_target(custom: Any) -> CatalogTarget:
    """Read the `custom` object of the catalog's target.

    Raises:
        FormatError: bad data.
    """
    try:
        target = msgspec.convert(custom, CatalogTarget)
    except msgspec.ValidationError as error:
        raise FormatError(f"target of the catalog breaks a rule: {error}") from error
    check_piece_size(target.piece_size)
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


def is_for(item: Courseware, region: Region) -> bool:
    """Tell whether a courseware is meant for an edge of `region`."""
    return any(is_within(region, Region(area)) for area in item.audience)


def blobs_of(items: Iterable[Courseware]) -> set[str]:
    """Names of all blobs that the files of `items` are (not their tables or patches)."""
    return {file.blob for item in items for file in item.files}
