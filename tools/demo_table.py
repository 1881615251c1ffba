"""The demo's table: what crossed each county's line in each sync, sorted by what it was for. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from rich.table import Table

from manifests.model import Catalog, Courseware
from manifests.pieces import BlobRef
from tools.output import Output, show_bytes
from tools.relay import Exchange


class Purpose(StrEnum):
    """Why bytes crossed the line."""

    METADATA = "metadata"
    CATALOG = "catalog"
    TABLE = "table"
    PATCH = "patch"
    PIECE = "piece"


_TITLES = {
    Purpose.METADATA: ("签名元数据", "metadata"),
    Purpose.CATALOG: ("目录及其补丁", "catalog and its patches"),
    Purpose.TABLE: ("分片表", "piece tables"),
    Purpose.PATCH: ("课件补丁", "patches"),
    Purpose.PIECE: ("课件分片", "pieces"),
}


@dataclass(frozen=True, slots=True)
class SyncRow:
    """One sync of one county.

    Attributes:
        crossed: bytes on the line by purpose, both directions, HTTP heads included.
        naive_bytes: what fetching the catalog and every changed file whole would have taken.
    """

    county: str
    reason: str
    crossed: dict[Purpose, int]
    naive_bytes: int
    requests: int
    seconds: float

    @property
    def total_bytes(self) -> int:
        """All that crossed the line."""
        return sum(self.crossed.values())


@dataclass(frozen=True, slots=True)
class Digests:
    """What each blob of a release is for, by name."""

    tables: frozenset[str]
    patches: frozenset[str]
    files: frozenset[str]


def digests_of(catalogs: Iterable[Catalog], catalog_refs: Iterable[BlobRef]) -> Digests:
    """Sort the blobs of some releases; what is in none of the sets belongs to the catalogs."""
    files = [file for catalog in catalogs for item in catalog.courseware for file in item.files]
    patches = [patch for file in files for patch in file.patches]
    tables = {file.table for file in files} | {patch.table for patch in patches} | {ref.table for ref in catalog_refs}
    return Digests(
        tables=frozenset(table for table in tables if table),
        patches=frozenset(patch.blob for patch in patches),
        files=frozenset(file.blob for file in files),
    )


def sort_traffic(exchanges: Iterable[Exchange], digests: Digests) -> dict[Purpose, int]:
    """Bytes on the line by purpose."""
    crossed = dict.fromkeys(Purpose, 0)
    for exchange in exchanges:
        crossed[purpose_of(exchange.path, digests)] += exchange.bytes
    return crossed


def purpose_of(path: str, digests: Digests) -> Purpose:
    """Why a path was asked for."""
    if path.startswith("/metadata/"):
        return Purpose.METADATA
    digest = path.rpartition("/")[2]
    if digest in digests.tables:
        return Purpose.TABLE
    if digest in digests.patches:
        return Purpose.PATCH
    return Purpose.PIECE if digest in digests.files else Purpose.CATALOG


def naive_bytes(catalog_bytes: int, changed: Sequence[Courseware]) -> int:
    """What a plain mirror would fetch: the whole catalog, and every file of every changed courseware whole."""
    return catalog_bytes + sum(item.size for item in changed)


def traffic_table(rows: Sequence[SyncRow], output: Output) -> Table:
    """The table for people."""
    pick = output.pick
    table = Table(title=pick("线路上传输了什么，为什么", "What crossed the line, and why"))
    table.add_column(pick("县", "county"))
    table.add_column(pick("原因", "why"))
    for zh, en in _TITLES.values():
        table.add_column(pick(zh, en), justify="right")
    for zh, en in (("合计", "total"), ("整份传输", "naive"), ("节省", "saved"), ("请求", "requests"), ("秒", "s")):
        table.add_column(pick(zh, en), justify="right")
    for row in rows:
        saved = 1 - row.total_bytes / row.naive_bytes if row.naive_bytes else 0.0
        table.add_row(
            row.county,
            row.reason,
            *(show_bytes(row.crossed[purpose]) if row.crossed[purpose] else "–" for purpose in Purpose),
            show_bytes(row.total_bytes),
            show_bytes(row.naive_bytes),
            f"{saved:.1%}" if saved > 0 else "–",
            str(row.requests),
            f"{row.seconds:.1f}",
        )
    return table
