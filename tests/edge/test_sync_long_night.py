"""Work that takes hours must not hold up a recall: a night's bulk, a scrub, a lesson replaced after its recall."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
from support.edges import edge_at, run, stored
from support.province import ManualClock, Province, Site
from support.relay import Fault, Relay

from edge import app
from edge.store import locks
from edge.store.locks import FileLock, Turns
from manifests.errors import BusyError
from manifests.pieces import PIECE_SIZE

RNG = random.Random(23)
FILM = RNG.randbytes(8 * PIECE_SIZE)
POLL = {"sync_poll_s": "0.1", "upstream_span_pieces": "2"}


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def province(clock: ManualClock) -> Province:
    made = Province(clock)
    made.lesson("bad", {"video.mp4": FILM})
    made.lesson("paper", {"paper.pdf": b"paper"})
    made.release()
    return made


@pytest.fixture
async def site(province: Province) -> AsyncIterator[Site]:
    async with province.site().running() as running:
        yield running


@pytest.fixture
async def slow(site: Site) -> AsyncIterator[Relay]:
    async with Relay(site.url, lambda _: Fault(latency_s=0.01)).running() as relay:
        yield relay


async def test_a_recall_acts_in_the_middle_of_a_nights_bulk(
    tmp_path: Path, province: Province, clock: ManualClock, site: Site, slow: Relay
) -> None:
    async with edge_at(tmp_path, province, clock, site.url) as edge:
        await run(edge)
    bulk = province.lesson("bulk", {"video.mp4": RNG.randbytes(60 * PIECE_SIZE)}).files[0].blob
    province.release()
    async with edge_at(tmp_path, province, clock, slow.url, **POLL) as edge:
        halves: list[bool] = []

        def watch(path: str) -> None:
            if site.asked(bulk) == 3:
                province.recall("bad")
                province.lesson("late", {"late.pdf": b"late"})
                province.release()
            if bulk in path:
                halves.append("bad" in edge.library.versions())

        site.before = watch
        report = await run(edge)
        assert (report.complete, report.catalog_version) == (True, 3)
        assert (report.added, report.recalled) == (("bulk", "late"), ("bad",))
        assert not halves[-1], "gone while the bulk was still on its way"
        sent = sum(_length(field) for path, field in site.requests if path.endswith(bulk))
        assert sent <= (60 + 4 * 2) * PIECE_SIZE, "only the pieces in flight came twice"


def _length(field: str) -> int:
    first, last = field.removeprefix("bytes=").split("-")
    return int(last) - int(first) + 1


async def test_what_is_being_fetched_may_be_recalled(
    tmp_path: Path, province: Province, clock: ManualClock, site: Site, slow: Relay
) -> None:
    bulk = province.lesson("bulk", {"video.mp4": RNG.randbytes(40 * PIECE_SIZE)}, priority=0).files[0].blob
    province.release()
    async with edge_at(tmp_path, province, clock, slow.url, **POLL) as edge:

        def recall(path: str) -> None:
            if site.asked(bulk) == 3 and "bulk" in province.lessons:
                province.recall("bulk")
                province.release()

        site.before = recall
        report = await run(edge)
        assert (report.complete, report.added, report.deferred) == (True, ("bad", "paper"), ())
        assert edge.store.partials() == {}, "its space is given back"


async def test_a_dead_line_during_the_poll_does_not_end_the_bulk(
    tmp_path: Path, province: Province, clock: ManualClock, site: Site, slow: Relay
) -> None:
    bulk = province.lesson("bulk", {"video.mp4": RNG.randbytes(40 * PIECE_SIZE)}).files[0].blob
    province.release()
    async with edge_at(tmp_path, province, clock, slow.url, **POLL) as edge:
        kept = dict(province.content.metadata)
        site.before = lambda path: province.content.metadata.clear() if bulk in path else None
        report = await run(edge)
        assert report.complete
        assert site.asked("timestamp.json") > 1
        province.content.metadata.update(kept)


async def test_a_recalled_lesson_that_came_back_is_built_from_its_old_blob(
    tmp_path: Path, province: Province, clock: ManualClock, site: Site
) -> None:
    async with edge_at(tmp_path, province, clock, site.url) as edge:
        await run(edge)
        old = province.lessons["bad"].files[0]
        cut = FILM[5000:]
        patch = province.patch(old.blob, cut)
        province.recall("bad")
        province.lesson("bad", {"video.mp4": cut})
        item = province.lessons["bad"]
        file = msgspec.structs.replace(item.files[0], patches=(patch,))
        province.lessons["bad"] = msgspec.structs.replace(item, files=(file,))
        province.release()
        report = await run(edge)
        assert (report.recalled, report.added, report.complete) == (("bad",), ("bad",), True)
        assert report.bytes_from_patches == len(cut)
        assert stored(edge, "bad", "video.mp4") == cut
        assert not edge.store.path(old.ref.digest).exists(), "the recalled bytes are gone at the end"


async def test_a_scrub_gives_way_to_a_sync(
    tmp_path: Path, province: Province, clock: ManualClock, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locks, "_TURN_S", 0.0)
    async with (
        edge_at(tmp_path, province, clock, site.url) as edge,
        edge_at(tmp_path, province, clock, site.url) as other,
    ):
        await run(edge)
        province.recall("bad")
        province.release()
        syncs: list[asyncio.Task[object]] = []

        def begin(_stage: str, _done: int, _total: int) -> None:
            if not syncs:
                syncs.append(asyncio.create_task(run(other)))

        report = await app.scrub(edge, True, begin)
        assert report.bad == (), "what a sync removed meanwhile is no rot"
        await syncs[0]
        assert edge.library.versions() == {"paper": 1}


async def test_turns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "_TURN_S", 0.0)
    with FileLock(tmp_path / "lock") as lock:
        waiting = asyncio.create_task(FileLock(tmp_path / "lock").wait(5))
        await asyncio.sleep(0)
        turns = Turns(lock)
        giving = asyncio.create_task(turns.give_way())
        taken = await waiting
        assert not giving.done()
        with pytest.raises(BusyError, match="held by another process"):
            await FileLock(tmp_path / "lock").wait(0.01)
        taken.release()
        assert await giving
        monkeypatch.setattr(locks, "_TURN_S", 60.0)
        assert not await turns.give_way()
