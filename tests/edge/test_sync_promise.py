"""Promise and fact of real runs over real sockets; the line measured by them; why what is not here is not."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
from support.edges import edge_at, preview, run
from support.province import NOON, ManualClock, Province, Site

from edge import app
from edge.sync import metering
from edge.sync.lines import keep_rates, read_rates
from edge.sync.promise import PromisedPlan
from edge.sync.report import KEPT_PROMISES
from edge.sync.whynot import Cause
from manifests.errors import ConfigurationError
from manifests.instants import Instant, dump_instant, parse_instant
from manifests.line import HOURS_OF_WEEK, hour_of_week
from manifests.pieces import PIECE_SIZE

RNG = random.Random(5)
FILM = RNG.randbytes(9 * PIECE_SIZE + 5)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def province(clock: ManualClock) -> Province:
    made = Province(clock)
    made.lesson("film", {"video.mp4": FILM, "note.pdf": b"notes"})
    made.lesson("paper", {"paper.pdf": b"p" * 70_000})
    made.release()
    return made


@pytest.fixture
async def site(province: Province) -> AsyncIterator[Site]:
    async with province.site().running() as running:
        yield running


async def test_a_plan_promises_by_the_line_that_was_measured(
    tmp_path: Path, province: Province, clock: ManualClock, site: Site
) -> None:
    async with edge_at(tmp_path, province, clock, site.url, sync_line_bytes_per_s="1000") as edge:
        plan = await preview(edge)
        assert isinstance(plan, PromisedPlan)
        opening = parse_instant("2026-11-18T14:00:00Z")  # that evening at 22:00 in the county
        assert [(one.id, one.expected) for one in plan.items] == [
            ("paper", dump_instant(Instant(opening + 140))),
            ("film", dump_instant(Instant(opening + -(-plan.bytes_expected // 1000)))),
        ]
        assert all(one.fits for one in plan.items)
        keep_rates(edge.paths, (10,) * HOURS_OF_WEEK)
        slow = await preview(edge)
        assert [one.fits for one in slow.items] == [True, False]
        assert isinstance(slow, PromisedPlan)
        assert "fits tonight; film" in slow.promise.summary
        at_once = await app.sync(edge, dry_run=True, now=True)
        assert isinstance(at_once, PromisedPlan)
        assert at_once.items[0].expected == dump_instant(Instant(NOON + 14_000))


async def test_after_a_run_fact_stands_beside_promise(
    tmp_path: Path, province: Province, clock: ManualClock, site: Site
) -> None:
    province.lesson("gone", {"video.mp4": RNG.randbytes(PIECE_SIZE * 2)})
    province.release()
    del province.content.blobs[province.lessons["gone"].files[0].blob]
    async with edge_at(tmp_path, province, clock, site.url) as edge:
        site.before = lambda path: clock.move(1)
        report = await run(edge)
        assert list(report.promised) == ["paper", "gone", "film"], "in the plan's order"
        assert report.fact.keys() == {"paper", "film"}
        for id_, fact in report.fact.items():
            assert report.promised[id_].bytes == fact.bytes
            assert NOON < parse_instant(fact.done) <= clock()
        assert report.promised["film"].bytes == len(FILM) + 10 * 32 + len(b"notes")
        note = edge.library.get_meta("last_sync")
        assert isinstance(note, dict)
        assert note["fact"]["film"] == msgspec.to_builtins(report.fact["film"])
        absent = await app.why_not(edge)
        assert [(one.id, one.cause) for one in absent] == [("gone", Cause.FAILED)]
        assert "404" in absent[0].text


async def test_a_patch_counts_for_the_lesson_it_builds(
    tmp_path: Path, province: Province, clock: ManualClock, site: Site
) -> None:
    async with edge_at(tmp_path, province, clock, site.url) as edge:
        await run(edge)
        province.lesson("film", {"video.mp4": FILM[99_999:], "note.pdf": b"notes"})
        province.release()
        report = await run(edge)
        assert 0 < report.fact["film"].bytes == report.promised["film"].bytes < 6000


async def test_the_kept_report_stays_small(tmp_path: Path, province: Province, clock: ManualClock, site: Site) -> None:
    for n in range(KEPT_PROMISES + 20):
        province.lesson(f"l{n:04}", {"x.pdf": b"same"})
    province.release()
    async with edge_at(tmp_path, province, clock, site.url) as edge:
        report = await run(edge)
        assert len(report.promised) == len(report.fact) == KEPT_PROMISES + 22
        note = edge.library.get_meta("last_sync")
        assert isinstance(note, dict)
        assert len(note["promised"]) == len(note["fact"]) == KEPT_PROMISES


async def test_a_run_measures_the_line_and_a_lost_index_does_not_lose_it(
    tmp_path: Path, province: Province, clock: ManualClock, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with edge_at(tmp_path, province, clock, site.url) as edge:
        await run(edge)
        assert read_rates(edge.paths) == (), "a moment of bulk is too little to judge a line by"
    monkeypatch.setattr(metering, "LEAST_S", 0.0)
    province.lesson("next", {"video.mp4": RNG.randbytes(12 * PIECE_SIZE)})
    province.release()
    async with edge_at(tmp_path, province, clock, site.url) as edge:
        await run(edge)
        rates = read_rates(edge.paths)
        hour = hour_of_week(NOON, app.zone(edge))
        assert {n for n, rate in enumerate(rates) if rate} == {hour}
        assert rates[hour] > 100_000
    (tmp_path / "index.sqlite").unlink()
    async with edge_at(tmp_path, province, clock, site.url) as edge:
        assert app.line(edge).rates == rates
        assert (await run(edge)).complete


async def test_before_the_first_sync_nothing_is_known(tmp_path: Path, province: Province, clock: ManualClock) -> None:
    async with edge_at(tmp_path, province, clock) as edge:
        assert await app.why_not(edge) == ()


@pytest.mark.parametrize("setting", [{"sync_zone": "Mars/Olympus"}, {"sync_caps_bytes_per_s": "1,2,3"}])
async def test_a_line_that_is_set_wrongly_is_a_mistake_of_configuration(
    tmp_path: Path, province: Province, clock: ManualClock, site: Site, setting: dict[str, str]
) -> None:
    async with edge_at(tmp_path, province, clock, site.url, **setting) as edge:
        with pytest.raises(ConfigurationError, match=next(iter(setting)).replace("sync_", "sync.")):
            await preview(edge)
