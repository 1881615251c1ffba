"""Recalls on a disk without room: below its reserve, beyond its quota, or full to the last byte."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from support.edges import edge_at, run, stored
from support.province import ManualClock, Province, Site
from support.small_disk import small_disk

from edge.store.ballast import BALLAST_BYTES
from manifests.pieces import PIECE_SIZE

RNG = random.Random(21)
FILM = RNG.randbytes(5 * PIECE_SIZE)
# A disk of any size is below such a reserve.
BELOW = {"store_reserve_bytes": str(1 << 60)}


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def province(clock: ManualClock) -> Province:
    """Its catalog is longer than a piece, so it has a table, and its patch from the one before is a blob of its own."""
    made = Province(clock)
    made.lesson("film", {"video.mp4": FILM})
    made.lesson("bad", {"video.mp4": RNG.randbytes(2 * PIECE_SIZE)})
    for i in range(300):
        made.lesson(f"l{i:03d}", {"x.pdf": b"same for all"}, summary=RNG.randbytes(500).hex())
    made.release()
    assert made.catalogs[-1].size > PIECE_SIZE
    return made


@pytest.fixture
async def site(province: Province) -> AsyncIterator[Site]:
    async with province.site().running() as running:
        yield running


@pytest.mark.parametrize("by_patch", [True, False])
async def test_a_recall_acts_below_the_reserve(
    tmp_path: Path, province: Province, clock: ManualClock, site: Site, by_patch: bool
) -> None:
    async with edge_at(tmp_path, province, clock, site.url) as edge:
        await run(edge)
    province.recall("bad")
    province.catalog_patches = by_patch
    province.release()
    async with edge_at(tmp_path, province, clock, site.url, **BELOW) as edge:
        report = await run(edge)
        assert (report.recalled, report.complete, report.exit_code) == (("bad",), True, 0)
        assert "bad" not in edge.library.versions()
        assert report.catalog_version == 2
        again = await run(edge)
        assert (again.complete, again.requests) == (True, 2)


async def test_below_the_reserve_only_what_needs_room_is_a_fault(
    tmp_path: Path, province: Province, clock: ManualClock, site: Site
) -> None:
    import msgspec

    async with edge_at(tmp_path, province, clock, site.url) as edge:
        await run(edge)
    province.recall("bad")
    province.lessons["film"] = msgspec.structs.replace(province.lessons["film"], title="新标题")
    province.lesson("new", {"a.pdf": b"new"})
    province.release()
    async with edge_at(tmp_path, province, clock, site.url, **BELOW) as edge:
        report = await run(edge)
        assert (report.removed, report.updated, report.added) == (("bad",), ("film",), ())
        assert [one.id for one in report.deferred] == ["new"]
        assert (report.complete, report.exit_code) == (False, 5)
        assert report.error_zh.startswith("new ")
        assert "store.reserve_bytes" in report.hint


@pytest.mark.parametrize("fills", ["before", "metadata", "blobs"])
async def test_a_recall_acts_on_a_disk_that_is_full(
    tmp_path: Path, province: Province, clock: ManualClock, site: Site, fills: str
) -> None:
    """Full before the sync begins, or filled by a neighbour while signed metadata or the catalog are on their way."""
    with small_disk(tmp_path / "disk", "64m") as disk:
        async with edge_at(disk / "edge", province, clock, site.url) as edge:
            await run(edge)
        async with edge_at(disk / "edge", province, clock, site.url) as edge:
            assert edge.paths.ballast.stat().st_size > min(BALLAST_BYTES, (64 << 20) // 20)
        if fills == "before":
            _fill(disk)
        site.before = lambda path: _fill(disk) if fills in path else None
        province.recall("bad")
        province.release()
        async with edge_at(disk / "edge", province, clock, site.url) as edge:
            report = await run(edge)
            assert (report.recalled, report.complete, report.exit_code) == (("bad",), True, 0)
            assert stored(edge, "film", "video.mp4") == FILM
        async with edge_at(disk / "edge", province, clock, site.url) as edge:
            assert "bad" not in edge.library.versions()
            assert edge.paths.ballast.exists(), "it is set aside again as soon as there is room"


async def test_the_ballast_grows_with_the_disk_and_the_catalog(
    tmp_path: Path, province: Province, clock: ManualClock, site: Site
) -> None:
    with small_disk(tmp_path / "disk", "64m") as disk:
        hog = disk / "hog"
        hog.write_bytes(bytes(60 << 20))
        async with edge_at(disk / "edge", province, clock, site.url) as edge:
            small = edge.paths.ballast.stat().st_size
            assert 0 < small < 512 * 1024
        hog.unlink()
        async with edge_at(disk / "edge", province, clock, site.url) as edge:
            assert edge.paths.ballast.stat().st_size > 4 * small
    async with edge_at(tmp_path / "edge", province, clock, site.url) as edge:
        await run(edge)
    async with edge_at(tmp_path / "edge", province, clock, site.url) as edge:
        assert edge.paths.ballast.stat().st_size == BALLAST_BYTES + 2 * province.catalogs[-1].size


async def test_the_space_of_an_abandoned_blob_is_used_in_the_same_run(
    tmp_path: Path, province: Province, clock: ManualClock, site: Site
) -> None:
    quota = str(32 * PIECE_SIZE)
    begun = province.lesson("begun", {"video.mp4": RNG.randbytes(20 * PIECE_SIZE)}).files[0].blob
    province.release()
    kept = province.content.blobs.pop(begun)
    async with edge_at(tmp_path, province, clock, site.url, store_quota_bytes=quota) as edge:
        assert [one.id for one in (await run(edge)).deferred] == ["begun"]
        assert begun in edge.store.partials()
        province.content.blobs[begun] = kept
        province.remove("begun")
        province.lesson("other", {"video.mp4": RNG.randbytes(20 * PIECE_SIZE)})
        province.release()
        report = await run(edge)
        assert (report.added, report.complete) == (("other",), True)
        assert edge.store.partials() == {}


def _fill(disk: Path) -> None:
    if (disk / "a-neighbour.log").exists():
        return
    with (disk / "a-neighbour.log").open("wb", buffering=0) as file:
        for size in (1 << 20, 4096):
            try:
                while file.write(bytes(size)) == size:
                    pass
            except OSError:
                continue
