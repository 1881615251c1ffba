"""What edges tell of watching: each hour its highest, the sums in step; from a real edge's log to a province's day."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator
from datetime import UTC, timedelta, timezone
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncEngine
from support.origins import found_origin
from support.receipts import COUNTY, article, make_edge, open_edge, origin_at, sync

from edge import app as edge_app
from edge.paths import Paths
from edge.report.watcher import Watcher
from edge.serve.accessline import Visit, dump_combined, stamp_of
from edge.serve.logfile import LogBounds, LogFile
from manifests.instants import Instant, dump_instant, parse_instant
from manifests.names import Region
from manifests.reports import HOUR_S, LessonWatched, Watched
from origin.app import Origin
from origin.clock import system_clock
from origin.database.engine import open_database, reading, sqlite_url, writing
from origin.database.tables import edges
from origin.database.tables_boards import watching, watching_days, watching_hours
from origin.stations import watched
from origin.stations.watched import KEPT_S, Figures, day_of, take_watching

EVENING = parse_instant("2026-11-24T12:00:00Z")
OTHER = Region("410183")


def hour(at: int, terminals: int = 1, **lessons: tuple[int, int, int]) -> Watched:
    return Watched(dump_instant(Instant(at)), terminals, {id_: LessonWatched(*one) for id_, one in lessons.items()})


async def _told(engine: AsyncEngine, edge: str, region: str, now: int, *told: Watched) -> None:
    async with writing(engine) as connection:
        await take_watching(connection, edge, Region(region), told, Instant(now))


@pytest.fixture
async def engine(tmp_path: Path) -> AsyncIterator[AsyncEngine]:
    async with open_database(sqlite_url(tmp_path / "o.sqlite")) as engine:
        await _enrol(engine)
        yield engine


async def _enrol(engine: AsyncEngine) -> None:
    async with writing(engine) as connection:
        for code in ("410122-1", "410183-1"):
            values = {"code": code, "region": code[:6], "serial": 1, "name": code, "enrolled_at": 1}
            await connection.execute(edges.insert().values(values))


async def _sums(engine: AsyncEngine, area: str) -> tuple[dict[int, Figures], dict[tuple[int, str], Figures]]:
    async with reading(engine) as connection:
        hours = (await connection.execute(select(watching_hours).where(watching_hours.c.area == area))).all()
        days = (await connection.execute(select(watching_days).where(watching_days.c.area == area))).all()
    return (
        {row.hour: Figures(row.plays, row.terminals, row.bytes) for row in hours},
        {(row.day, row.courseware): Figures(row.plays, row.terminals, row.bytes) for row in days},
    )


async def test_an_hour_counts_in_its_county_its_city_and_the_province(engine: AsyncEngine) -> None:
    await _told(engine, "410122-1", COUNTY, EVENING, hour(EVENING - HOUR_S, 7, wheat=(3, 5, 100), maize=(1, 2, 10)))
    await _told(engine, "410183-1", OTHER, EVENING, hour(EVENING - HOUR_S, 1, wheat=(1, 1, 1)))
    day = day_of(Instant(EVENING - HOUR_S))
    assert await _sums(engine, COUNTY) == (
        {EVENING - HOUR_S: Figures(4, 7, 110)},
        {(day, ""): Figures(4, 7, 110), (day, "wheat"): Figures(3, 5, 100), (day, "maize"): Figures(1, 2, 10)},
    )
    for area in ("410100", "410000"):
        assert (await _sums(engine, area))[0] == {EVENING - HOUR_S: Figures(5, 8, 111)}
        assert (await _sums(engine, area))[1][day, "wheat"] == Figures(4, 6, 101)
    assert (await _sums(engine, "410200"))[0] == {}


figures = st.tuples(st.integers(0, 9), st.integers(0, 9), st.integers(0, 99))
reports = st.lists(
    st.tuples(
        st.sampled_from(["410122-1", "410183-1"]),
        st.integers(0, 30),
        st.integers(0, 9),
        st.dictionaries(st.sampled_from(["wheat", "maize"]), figures, max_size=2),
    ),
    max_size=12,
)


@settings(max_examples=15, deadline=None)
@given(reports, st.randoms(use_true_random=False))
async def test_sums_are_those_of_the_highest_of_each_hour_in_whatever_order(found: list[Any], random: Random) -> None:
    with tempfile.TemporaryDirectory() as folder:
        async with open_database(sqlite_url(Path(folder) / "o.sqlite")) as engine:
            await _enrol(engine)
            twice = [*found, *found]
            random.shuffle(twice)
            for edge, back, terminals, lessons in twice:
                told = hour(EVENING - back * HOUR_S, terminals, **lessons)
                await _told(engine, edge, edge[:6], EVENING, told)
            highest: dict[tuple[str, int, str], Figures] = {}
            for edge, back, terminals, lessons in found:
                plays, size = sum(x[0] for x in lessons.values()), sum(x[2] for x in lessons.values())
                for id_, one in {**lessons, "": (plays, terminals, size)}.items():
                    key = (edge, EVENING - back * HOUR_S, id_)
                    highest[key] = Figures(*map(max, zip(highest.get(key, Figures(0, 0, 0)), one, strict=True)))
            hours, days = await _sums(engine, "410000")
            for name, got in (("plays", 0), ("terminals", 1), ("bytes", 2)):
                total = sum(one[got] for (_, _, id_), one in highest.items() if not id_)
                assert sum(one[got] for one in hours.values()) == total, name
                assert sum(one[got] for (_, id_), one in days.items() if not id_) == total, name
                wheat = sum(one[got] for (_, _, id_), one in highest.items() if id_ == "wheat")
                assert sum(one[got] for (_, id_), one in days.items() if id_ == "wheat") == wheat, name


async def test_hours_ahead_do_not_count_and_old_rows_go_while_their_sums_stay(engine: AsyncEngine) -> None:
    await _told(engine, "410122-1", COUNTY, EVENING, hour(EVENING + HOUR_S, 9, wheat=(9, 9, 9)))
    assert await _sums(engine, COUNTY) == ({}, {})
    await _told(engine, "410122-1", COUNTY, EVENING, hour(EVENING, 1, wheat=(1, 1, 1)))
    later = EVENING + KEPT_S + HOUR_S
    await _told(engine, "410122-1", COUNTY, later, hour(later, 1, maize=(1, 1, 1)))
    async with reading(engine) as connection:
        left = {row.hour for row in await connection.execute(select(watching))}
    assert left == {later}
    assert (await _sums(engine, COUNTY))[0] == {EVENING: Figures(1, 1, 1), later: Figures(1, 1, 1)}


async def test_questions_of_a_board(engine: AsyncEngine) -> None:
    midnight = parse_instant("2026-11-24T16:00:00Z")  # Wednesday begins in Shanghai
    for at, more in ((midnight - HOUR_S, 1), (midnight, 10), (midnight + HOUR_S, 100)):
        await _told(engine, "410122-1", COUNTY, midnight + HOUR_S, hour(at, more, wheat=(more, more, more)))
    await _told(engine, "410183-1", OTHER, midnight, hour(midnight, 1, maize=(5, 1, 1)))
    tuesday, wednesday = day_of(Instant(midnight - 1)), day_of(midnight)
    assert (tuesday + 1, watched.day_text(wednesday)) == (wednesday, "2026-11-25")
    assert watched.parse_day("2026-11-25") == wednesday
    async with reading(engine) as connection:
        assert await watched.by_lesson(connection, "410000", wednesday, wednesday) == {
            "wheat": Figures(110, 110, 110),
            "maize": Figures(5, 1, 1),
        }
        assert (await watched.by_day(connection, "410100", tuesday, wednesday))[tuesday].plays == 1
        assert (await watched.by_day(connection, "410100", tuesday, wednesday, ["maize"])) == {
            wednesday: Figures(5, 1, 1)
        }
        assert (await watched.by_area(connection, [COUNTY, OTHER], tuesday, wednesday))[OTHER].plays == 5
        hours = await watched.by_hour_of_week(connection, "410000", tuesday, wednesday)
    assert {key: one.plays for key, one in hours.items()} == {47: 1, 48: 15, 49: 100}


async def test_from_the_lines_of_a_real_edge_to_the_day_of_the_province(tmp_path: Path) -> None:
    root = tmp_path / "edge"
    async with origin_at(await asyncio.to_thread(found_origin, tmp_path / "origin")) as (origin, url):
        await article(origin, tmp_path, "wheat")
        await make_edge(origin, url, root)
        await sync(root)
        at = Instant(system_clock() - 2 * HOUR_S)
        zone = timezone(timedelta(hours=8))
        visits = [
            Visit(address, "GET", target, "HTTP/1.1", 200, 500, 0.1, "", "stb")
            for address in ("10.1.0.1", "10.1.0.2")
            for target in ("/lessons/wheat", "/media/wheat/poster.jpg", "/lessons/none", "/media/maize/v.mp4")
        ]
        log = LogFile(root / "log", LogBounds(1 << 20, 30), zone)
        log.write("".join(dump_combined(one, stamp_of(at, zone)) for one in visits).encode(), at)
        log.close()
        assert Watcher(Paths(root), root / "log").look() == len(visits)
        await sync(root)
        day, expected = day_of(at), {"wheat": Figures(2, 2, 1000), "maize": Figures(2, 2, 1000)}
        async with reading(origin.engine) as connection:
            assert await watched.by_lesson(connection, "410000", day, day) == expected
            assert (await watched.by_day(connection, COUNTY, day, day)) == {day: Figures(4, 2, 2000)}
        async with open_edge(root) as edge:
            assert (await edge_app.send_reports(edge)).waiting == 0


async def test_an_origin_that_does_not_take_the_kind_never_sees_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from origin.web import reports as inbox

    root = tmp_path / "edge"
    monkeypatch.setattr(inbox, "_KINDS", ())
    async with origin_at(await asyncio.to_thread(found_origin, tmp_path / "origin")) as (origin, url):
        await make_edge(origin, url, root)
        await sync(root)
        (root / "log").mkdir()
        (root / "log" / "access.log").write_text(
            f"10.1.0.1 - - [{stamp_of(system_clock() - 2 * HOUR_S, UTC)}] "
            '"GET /media/maize/v.mp4 HTTP/1.1" 206 9 "-" "-"\n'
        )
        Watcher(Paths(root), root / "log").look()
        await sync(root)
        assert await _count(origin) == 0
        monkeypatch.setattr(inbox, "_KINDS", ("watching",))
        await article(origin, tmp_path, "wheat")
        await sync(root)  # the answer to its reports names the kind; the next run tells
        await sync(root)
        assert await _count(origin) == 2


async def _count(origin: Origin) -> int:
    async with reading(origin.engine) as connection:
        return len((await connection.execute(select(watching))).all())
