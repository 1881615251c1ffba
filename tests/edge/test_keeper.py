"""The keeper of the night: polls by day, bulk in the window, the window's edges, viewers, other syncs, no line."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from support.edges import edge_at, run
from support.nights import TO_SIX, TO_TEN, keeping, until
from support.province import DAY, ManualClock, Province, Site
from support.relay import Fault, Relay

from edge import app
from edge.metrics import Cell, cell_of
from edge.paths import Paths
from edge.reasons import UpstreamReason
from edge.store.locks import FileLock
from edge.store.scrub_log import read_scrubs
from edge.sync import governor
from edge.sync import report as report_module
from edge.sync.report import SyncReport
from manifests.pieces import PIECE_SIZE

RNG = random.Random(31)
BULK_PIECES = 40


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def province(clock: ManualClock) -> Province:
    made = Province(clock, hours=24 * 30)
    made.lesson("one", {"one.pdf": b"one"})
    made.lesson("bad", {"bad.pdf": b"bad"})
    made.release()
    return made


@pytest.fixture
async def site(province: Province) -> AsyncIterator[Site]:
    async with province.site().running() as running:
        yield running


@pytest.fixture
async def root(tmp_path: Path, province: Province, clock: ManualClock, site: Site) -> Path:
    """An edge that has synced once."""
    async with edge_at(tmp_path, province, clock, site.url) as edge:
        await run(edge)
    site.forget()
    return tmp_path


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(governor, "TICK_S", 0.01)


def publish_bulk(province: Province, id_: str = "bulk") -> str:
    blob = province.lesson(id_, {"video.mp4": RNG.randbytes(BULK_PIECES * PIECE_SIZE)}).files[0].blob
    province.release()
    return blob


async def test_by_day_recalls_act_and_bulk_waits_for_the_window(
    root: Path, province: Province, clock: ManualClock, site: Site
) -> None:
    async with keeping(root, clock, site.url) as kept:
        blob = publish_bulk(province)
        province.recall("bad")
        province.release()
        await kept.until(lambda: kept.versions() == {"one": 1})
        report = await kept.polled(clock)
        assert report["deferred"] == [
            {"id": "bulk", "reason": "waits for the window 22:00", "reason_zh": "等待 22:00 的同步时段"}
        ]
        assert (report["complete"], report["waits"], report["exit_code"]) == (False, True, 4)
        assert report["error"] == "1 lessons: waits for the window 22:00"
        site.forget()
        await kept.polled(clock)
        assert site.asked(".json") <= 6, "a poll with nothing new is small"
        assert site.asked(blob) == 0
        clock.at = type(clock.at)(clock.at + TO_TEN)
        await kept.until(lambda: "bulk" in kept.versions())
        report = await kept.polled(clock)
        assert (report["complete"], report["deferred"]) == (True, [])
        assert kept.note("last_work")["added"] == ["bulk"], "polls without news do not write over it"
    assert site.asked(blob) == BULK_PIECES


@pytest.mark.parametrize("jump", [TO_SIX - TO_TEN, -3600])
async def test_bulk_stops_at_the_windows_edge_and_goes_on_the_next_night(
    root: Path, province: Province, clock: ManualClock, site: Site, jump: int
) -> None:
    """The window ends in the middle of a lesson; or the clock, put right, finds that it has not begun."""
    async with Relay(site.url, lambda _: Fault(latency_s=0.03)).running() as line:
        clock.move(TO_TEN)
        blob = publish_bulk(province)

        def end(path: str) -> None:
            if path.endswith(blob) and site.asked(blob) == 8:
                clock.move(jump)

        site.before = end
        async with keeping(root, clock, line.url) as kept:
            await kept.until(lambda: bool(kept.note("last_sync").get("waits")))
            assert 8 <= site.asked(blob) < BULK_PIECES
            report = await kept.polled(clock)
            assert [one["id"] for one in report["deferred"]] == ["bulk"]  # type: ignore[union-attr, index]
            asked = site.asked(blob)
            await kept.polled(clock)
            assert site.asked(blob) == asked, "not one byte outside"
            site.before = None
            clock.move(86400 - jump)
            await kept.until(lambda: "bulk" in kept.versions())
        # What was proved stayed: only the requests in flight, eight at most, may have been asked for twice.
        assert site.asked(blob) <= BULK_PIECES + 8


async def test_a_note_of_a_run_is_bounded(
    root: Path, province: Province, clock: ManualClock, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report_module, "KEPT_DEFERRED", 2)
    for number in range(5):
        province.lesson(f"new-{number}", {"a.pdf": b"%d" % number})
    province.release()
    async with keeping(root, clock, site.url) as kept:
        await kept.until(lambda: bool(kept.note("last_sync").get("waits")))
        report = await kept.polled(clock)
        assert (len(report["deferred"]), report["more_deferred"]) == (2, 3)  # type: ignore[arg-type]
        assert report["error"] == "5 lessons: waits for the window 22:00"


async def test_another_sync_at_work_is_waited_for(
    root: Path, province: Province, clock: ManualClock, site: Site
) -> None:
    with FileLock(Paths(root).sync_lock) as other:
        async with keeping(root, clock, site.url) as kept:
            province.recall("bad")
            province.release()
            # It waits for the lock itself for some seconds, and then for its next turn.
            await until(lambda: kept.keeper.last.was_busy)
            assert "bad" in kept.versions()
            assert kept.keeper.last.failures == 0
            other.release()
            await kept.until(lambda: "bad" not in kept.versions())


async def test_two_syncs_at_once_both_end_well_or_say_busy(
    root: Path, province: Province, clock: ManualClock, site: Site
) -> None:
    clock.move(TO_TEN)
    publish_bulk(province)
    async with keeping(root, clock, site.url) as kept, edge_at(root, province, clock, site.url) as edge:
        report = await app.sync(edge)
        assert isinstance(report, SyncReport)
        assert report.complete
        await kept.until(lambda: "bulk" in kept.versions())
        assert (await kept.polled(clock))["complete"] is True


async def test_no_line_is_outlasted(root: Path, province: Province, clock: ManualClock, site: Site) -> None:
    refused = True
    async with (
        Relay(site.url, lambda _: Fault(refuse=refused)).running() as line,
        keeping(root, clock, line.url) as kept,
    ):
        province.recall("bad")
        province.release()
        await until(lambda: kept.keeper.last.failures >= 2)
        assert kept.note("last_sync")["error"]
        refused = False
        await kept.until(lambda: kept.versions() == {"one": 1})
        await until(lambda: kept.keeper.last.failures == 0)


async def test_viewers_come_first(
    root: Path, province: Province, clock: ManualClock, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(governor, "HOLD_S", 0.5)
    clock.move(TO_TEN)
    blob = publish_bulk(province)
    async with (
        Relay(site.url, lambda _: Fault(latency_s=0.02)).running() as line,
        keeping(root, clock, line.url, sync_viewer_share="0") as kept,
    ):
        await until(lambda: site.asked(blob) > 2)
        kept.counters.add(Cell.SENT_BYTES, 1000)
        await until(lambda: kept.keeper.governor.is_playing)
        assert kept.keeper.governor.bulk.gate.rate == 0
        held: list[bool] = []
        kept.keeper.governor.bulk.tell_held(held.append)
        assert held == [True], "a line that is held back is not measured as slow"
        passed = sum(kept.counters.total(cell_of(reason)) for reason in UpstreamReason)
        for _ in range(20):
            kept.counters.add(Cell.SENT_BYTES, 1)
            await until(lambda: kept.keeper.governor.is_playing)
        after = sum(kept.counters.total(cell_of(reason)) for reason in UpstreamReason)
        assert after - passed <= 4 * PIECE_SIZE, "at most what had arrived in memory"
        assert "bulk" not in kept.versions()
        await kept.until(lambda: "bulk" in kept.versions())


async def test_what_is_filled_for_viewers_comes_first_too(
    root: Path, province: Province, clock: ManualClock, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(governor, "HOLD_S", 0.5)
    clock.move(TO_TEN)
    blob = publish_bulk(province)
    async with (
        Relay(site.url, lambda _: Fault(latency_s=0.02)).running() as line,
        keeping(root, clock, line.url, sync_viewer_share="0") as kept,
    ):
        await until(lambda: site.asked(blob) > 2)
        kept.counters.set(Cell.FILLS_IN_FLIGHT, 2)  # as the filler does, in a row of its own
        await until(lambda: kept.keeper.governor.is_playing)
        assert kept.keeper.governor.bulk.gate.rate == 0
        kept.counters.set(Cell.FILLS_IN_FLIGHT, 0)
        await kept.until(lambda: "bulk" in kept.versions())


async def test_every_byte_stands_under_one_reason_after_a_storm(
    root: Path, province: Province, clock: ManualClock, site: Site
) -> None:
    clock.move(TO_TEN)

    def fault(number: int) -> Fault:
        return Fault(cut_after=300_000) if number % 3 else Fault(latency_s=0.001)

    async with Relay(site.url, fault).running() as line:
        async with keeping(root, clock, line.url, upstream_retries="20") as kept:
            publish_bulk(province, "bulk-0")
            await kept.until(lambda: "bulk-0" in kept.versions())
            province.lesson("bulk-0", {"video.mp4": RNG.randbytes(4 * PIECE_SIZE)}, patches=False)
            province.release()
            await kept.until(lambda: kept.versions().get("bulk-0") == 2)
            report = await kept.polled(clock)
            found = {reason: kept.counters.total(cell_of(reason)) for reason in UpstreamReason}
        assert sum(found.values()) <= line.bytes_down
        async with edge_at(root, province, clock, line.url) as edge:
            path = edge.store.path(province.lessons["bulk-0"].files[0].ref.digest)
            path.write_bytes(bytes(4 * PIECE_SIZE))
            await app.scrub(edge, False)
        async with keeping(root, clock, line.url, upstream_retries="20") as kept:
            await kept.until(lambda: "damaged" in kept.note("last_work")["bytes_by_reason"])  # type: ignore[operator]
            found[UpstreamReason.DAMAGED] += kept.counters.total(cell_of(UpstreamReason.DAMAGED))
    assert found[UpstreamReason.PLANNED] >= BULK_PIECES * PIECE_SIZE
    assert found[UpstreamReason.NEW_VERSION] >= 4 * PIECE_SIZE
    assert found[UpstreamReason.DAMAGED] >= 4 * PIECE_SIZE
    assert not any(found[one] for one in (UpstreamReason.EVICTED, UpstreamReason.LIVE, UpstreamReason.BYPASS))
    assert sum(report["bytes_by_reason"].values()) == report["bytes_fetched"]  # type: ignore[attr-defined]
    work = kept.note("last_work")
    assert sum(work["bytes_by_reason"].values()) == work["bytes_fetched"] > 4 * PIECE_SIZE  # type: ignore[attr-defined]
    assert work["bytes_by_reason"]["damaged"] >= 4 * PIECE_SIZE  # type: ignore[index]


async def test_a_share_of_the_disk_is_read_again_once_a_night(
    root: Path, province: Province, clock: ManualClock, site: Site
) -> None:
    paths = Paths(root)
    path = paths.blob(province.lessons["one"].files[0].ref.digest)
    path.write_bytes(b"0ne")
    clock.move(2 * DAY)
    async with keeping(root, clock, site.url, scrub_cycle_days="1") as kept:
        await kept.polled(clock)
        assert path.read_bytes() == b"0ne", "not by day"
        clock.move(TO_TEN)
        await kept.until(lambda: path.read_bytes() == b"one")
        await kept.until(lambda: len(read_scrubs(paths.scrubs)) == 1)
        await kept.polled(clock)
        await kept.polled(clock)
        assert len(read_scrubs(paths.scrubs)) == 1, "once"
        clock.move(DAY)
        await kept.until(lambda: len(read_scrubs(paths.scrubs)) == 2)
