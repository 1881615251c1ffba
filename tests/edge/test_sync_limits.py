"""Sync at its limits: a full disk, a quota, a province that fell silent, a wrong clock, an old or false release."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import pytest
from support.edges import edge_at, run, stored
from support.province import DAY, HOUR, ManualClock, Province, Site
from support.small_disk import small_disk

from manifests.errors import ExpiredError, RollbackError, SignatureError
from manifests.instants import Instant, dump_instant
from manifests.pieces import PIECE_SIZE

RNG = random.Random(14)
FILM, LARGE = RNG.randbytes(3 * PIECE_SIZE), RNG.randbytes(20 * PIECE_SIZE)
YEARS = 3 * 365 * DAY


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def province(clock: ManualClock) -> Province:
    made = Province(clock)
    made.lesson("film", {"video.mp4": FILM})
    made.lesson("large", {"video.mp4": LARGE})
    made.release()
    return made


@pytest.fixture
async def site(province: Province) -> AsyncIterator[Site]:
    async with province.site().running() as running:
        yield running


async def test_a_quota_defers_what_does_not_fit(
    tmp_path: Path, province: Province, clock: ManualClock, site: Site
) -> None:
    async with edge_at(tmp_path, province, clock, site.url, store_quota_bytes=str(8 * PIECE_SIZE)) as edge:
        report = await run(edge)
        assert (report.complete, report.exit_code) == (False, 5)
        assert report.added == ("film",)
        assert [one.id for one in report.deferred] == ["large"]
        assert "bytes of disk" in report.deferred[0].reason
    async with edge_at(tmp_path, province, clock, site.url) as edge:
        assert (await run(edge)).added == ("large",)


async def test_room_that_a_recall_gives_back_is_used_at_once(
    tmp_path: Path, province: Province, clock: ManualClock, site: Site
) -> None:
    async with edge_at(tmp_path, province, clock, site.url, store_quota_bytes=str(25 * PIECE_SIZE)) as edge:
        await run(edge)
        province.recall("large")
        province.lesson("other", {"video.mp4": RNG.randbytes(20 * PIECE_SIZE)})
        province.release()
        report = await run(edge)
        assert report.complete
        assert report.added == ("other",)


async def test_room_that_an_old_version_gives_back_is_used_in_the_same_run(
    tmp_path: Path, province: Province, clock: ManualClock, site: Site
) -> None:
    async with edge_at(tmp_path, province, clock, site.url, store_quota_bytes=str(26 * PIECE_SIZE)) as edge:
        await run(edge)
        province.lesson("large", {"video.mp4": b"short now"}, patches=False)
        province.lesson("other", {"video.mp4": RNG.randbytes(19 * PIECE_SIZE)})
        province.release()
        report = await run(edge)
        assert report.complete
        assert (report.added, report.updated) == (("other",), ("large",))


async def test_a_disk_that_fills_up_in_the_middle(
    tmp_path: Path, province: Province, clock: ManualClock, site: Site
) -> None:
    province.lessons["film"] = province.lesson("film", {"video.mp4": FILM}, priority=9)
    province.release()
    large = province.lessons["large"].files[0].blob
    with small_disk(tmp_path / "disk", "12m") as disk:
        hog = disk / "hog"

        def fill(path: str) -> None:
            if large in path and not hog.exists():
                with suppress(OSError), hog.open("wb", buffering=0) as file:
                    while file.write(b"x" * 4096):
                        pass

        async with edge_at(disk / "edge", province, clock, site.url, upstream_requests_in_flight="1") as edge:
            site.before = fill
            report = await run(edge)
            assert (report.complete, report.exit_code) == (False, 5)
            assert [one.id for one in report.deferred] == ["large"]
            assert stored(edge, "film", "video.mp4") == FILM, "what was proved keeps playing"
        site.before = None
        hog.unlink()
        async with edge_at(disk / "edge", province, clock, site.url) as edge:
            report = await run(edge)
            assert report.complete
            assert stored(edge, "large", "video.mp4") == LARGE


async def test_a_disk_too_small_from_the_start(
    tmp_path: Path, province: Province, clock: ManualClock, site: Site
) -> None:
    with small_disk(tmp_path / "disk", "3m") as disk:
        async with edge_at(disk / "edge", province, clock, site.url) as edge:
            report = await run(edge)
            assert report.exit_code == 5
            assert report.added == ("film",)
            assert [one.id for one in report.deferred] == ["large"]


async def test_a_silent_province(tmp_path: Path, province: Province, clock: ManualClock, site: Site) -> None:
    """Fresh → stale: what was verified is completed. Expired: nothing new is accepted. Then it speaks again."""
    large = province.lessons["large"].files[0].blob
    kept = province.content.blobs.pop(large)
    async with edge_at(tmp_path, province, clock, site.url) as edge:
        assert (await run(edge)).added == ("film",)
        clock.move(40 * DAY)
        province.content.blobs[large] = kept
        with pytest.raises(ExpiredError):
            await run(edge)
        assert edge.library.versions() == {"film": 1}, "expired: nothing new is accepted"
        note = edge.library.get_meta("last_sync")
        assert isinstance(note, dict)
        assert note["freshness"] == "expired"
        clock.move(-35 * DAY)
        with pytest.raises(ExpiredError):
            await run(edge)
        assert set(edge.library.versions()) == {"film", "large"}, "stale: the verified catalog is completed"
        note = edge.library.get_meta("last_sync")
        assert isinstance(note, dict)
        assert (note["freshness"], note["exit_code"], note["complete"]) == ("stale", 3, False)
        province.renew()
        report = await run(edge)
        assert report.complete
        assert report.freshness == "fresh"


async def test_a_clock_years_ahead_expires_no_lesson(
    tmp_path: Path, province: Province, clock: ManualClock, site: Site
) -> None:
    province.lesson("term", {"a.pdf": b"a"}, expires=dump_instant(Instant(clock() + 90 * DAY)))
    province.release()
    edge_clock = ManualClock()
    async with edge_at(tmp_path, province, edge_clock, site.url) as edge:
        await run(edge)
        edge_clock.move(YEARS)
        clock.move(HOUR)
        province.renew()
        with pytest.raises(ExpiredError) as caught:
            await run(edge)
        assert caught.value.exit_code == 3
        assert "clock" in caught.value.hint
        assert set(edge.library.versions()) == {"film", "large", "term"}
        edge_clock.at = clock.at
        assert (await run(edge)).complete


async def test_a_clock_years_behind_works(tmp_path: Path, province: Province, clock: ManualClock, site: Site) -> None:
    edge_clock = ManualClock(clock() - YEARS)
    async with edge_at(tmp_path, province, edge_clock, site.url) as edge:
        report = await run(edge)
        assert report.complete
        assert report.freshness == "fresh"
        province.lesson("term", {"a.pdf": b"a"}, expires=dump_instant(Instant(clock() + DAY)))
        province.release()
        assert (await run(edge)).added == ("term",)
        clock.move(DAY)
        province.renew()
        assert (await run(edge)).removed == ("term",), "by the signed time, not by the dead clock"


async def test_an_old_release_changes_nothing_and_a_sibling_helps(
    tmp_path: Path, province: Province, clock: ManualClock, site: Site
) -> None:
    async with province.mirror().running() as old, edge_at(tmp_path, province, clock, site.url) as edge:
        province.recall("film")
        province.release()
        await run(edge)
        async with edge_at(tmp_path, province, clock, old.url) as same:
            with pytest.raises(RollbackError):
                await run(same)
        assert edge.library.versions() == {"large": 1}, "a recalled lesson does not come back"
        province.lesson("new", {"a.pdf": b"a"})
        province.release()
        async with edge_at(tmp_path, province, clock, old.url, site.url) as same:
            assert (await run(same)).added == ("new",)


async def test_a_revoked_key_changes_nothing(
    tmp_path: Path, province: Province, clock: ManualClock, site: Site
) -> None:
    async with edge_at(tmp_path, province, clock, site.url) as edge:
        await run(edge)
        revoked = province.rotate("timestamp")
        await run(edge)
        province.recall("film")
        province.release()
        province.renew(by=revoked)
        with pytest.raises(SignatureError):
            await run(edge)
        assert set(edge.library.versions()) == {"film", "large"}
        province.renew()
        assert (await run(edge)).removed == ("film",)


async def test_rotated_keys_are_followed_without_a_visit(
    tmp_path: Path, province: Province, clock: ManualClock, site: Site
) -> None:
    async with edge_at(tmp_path, province, clock, site.url) as edge:
        await run(edge)
        for role in ("timestamp", "snapshot", "targets", "root", "root"):
            province.rotate(role)
        province.lesson("new", {"a.pdf": b"a"})
        province.release()
        assert (await run(edge)).added == ("new",)
