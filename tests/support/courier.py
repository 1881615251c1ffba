"""A courier disk written from a province in memory, to be bent by tests."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import msgspec
from support.edges import edge_at
from support.province import Content, ManualClock, Province

from edge import app
from edge.sync.planner import SyncPlan
from edge.sync.report import SyncReport
from edge.upstream.disk import open_disk
from manifests.courier import FOLDER, PART_BYTES, Courier, encode_courier, part_files
from manifests.digests import Digest
from manifests.instants import dump_instant


def write_disk(
    province: Province,
    place: Path,
    ids: Collection[str] | None = None,
    *,
    content: Content | None = None,
    part_bytes: int = PART_BYTES,
    patches: bool = False,
    **fields: object,
) -> Path:
    """Write the release and the lessons `ids` (None: all); returns the folder. `patches`: instead of the files."""
    source = content or province.content
    folder = place / FOLDER
    ref = province.catalogs[-1]
    wanted = [ref.digest, ref.table]
    for item in province.lessons.values():
        if ids is None or item.id in ids:
            for file in item.files:
                short = patches and file.patches
                wanted += [one.blob for one in file.patches] if short else [file.blob]
                wanted += [file.table, *(one.table for one in file.patches if short)]
    blobs = {digest: len(source.blobs[digest]) for digest in wanted if digest}
    for name, data in source.metadata.items():
        _write(folder / "metadata" / name, data)
    for digest, size in blobs.items():
        for part in part_files(Digest(digest), size, part_bytes):
            _write(folder / part.path, source.blobs[digest][part.start : part.stop])
    courier = Courier(
        format="yuanjiao-courier",
        major=1,
        publisher=province.region,
        made=dump_instant(province.clock()),
        catalog_version=province.catalog_version,
        target="all",
        series="0" * 16,
        part_bytes=part_bytes,
        complete=True,
        blobs=blobs,
    )
    _write(folder / "courier.json", encode_courier(msgspec.structs.replace(courier, **fields)))
    return folder


def blob_file(folder: Path, digest: str) -> Path:
    """Where a blob that is not in parts lies."""
    return folder / "blobs" / digest[:2] / digest


async def import_at(root: Path, province: Province, clock: ManualClock, place: Path) -> SyncReport:
    """Import a disk into the edge at `root`, which is made when it is not there and has no line."""
    async with edge_at(root, province, clock) as edge:
        report = await app.import_disk(edge, open_disk(place))
    assert isinstance(report, SyncReport)
    return report


async def preview_at(root: Path, province: Province, clock: ManualClock, place: Path) -> SyncPlan:
    """The plan of an import."""
    async with edge_at(root, province, clock) as edge:
        plan = await app.import_disk(edge, open_disk(place), dry_run=True)
    assert isinstance(plan, SyncPlan)
    return plan


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
