"""What the boards show: how far tonight's lessons have come, and what was watched."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from itertools import accumulate, groupby
from typing import Any, Final

from sqlalchemy import select

from manifests.errors import InputError, NotFoundError
from manifests.instants import Instant, dump_instant
from manifests.names import Region, is_within, region_level
from origin.accounts.people import Actor
from origin.accounts.permissions import Action
from origin.database import listings
from origin.database.engine import reading
from origin.database.library import chunks
from origin.database.tables import courseware, placements, versions
from origin.stations import watched
from origin.stations.regions import load_regions
from origin.stations.standing import standings
from origin.stations.tiles import place_tiles
from origin.stations.tonight import Pairs, read_night
from origin.stations.watched import ZONE, Figures, day_of, day_text, parse_day
from origin.web.api.edges import edge_rows
from origin.web.api.models import EdgeRow
from origin.web.api.models_boards import (
    BoardWhere,
    CityTonight,
    EdgeTonight,
    HourWatched,
    Tonight,
    TonightPoint,
    Watched,
    Watching,
    WatchingWhere,
)
from origin.web.api.operations import Desk, Nothing, Operation
from origin.web.api.texts import RegionNames

MOST_LESSONS: Final = 200
MOST_POINTS: Final = 200
MOST_DAYS: Final = 400
_USUAL_DAYS: Final = 30


async def _tonight(desk: Desk, actor: Actor, where: BoardWhere, _body: Nothing) -> Tonight:
    area = narrowed(actor.account.region, where.region)
    now, regions = desk.clock(), load_regions()
    standing = await standings(desk.engine, area)
    rows = await edge_rows(desk, standing)
    night = await read_night(desk.engine, standing, now, ZONE)
    reasons = {one.code: one.run.deferred if one.run else {} for one in standing}
    edges = [_edge(row, night.edges[row.code], reasons[row.code]) for row in rows]
    pairs = night.edges.values()
    return Tonight(
        region=area,
        region_name=RegionNames(regions).path(area),
        since=dump_instant(night.since),
        now=dump_instant(now),
        catalog_version=max((row.catalog_version for row in rows), default=0),
        lessons=night.lessons,
        more=night.more,
        pairs=sum(one.meant for one in pairs),
        proved=sum(len(one.proved) for one in pairs),
        cities=_cities(edges, regions.within(area, "city"), RegionNames(regions)),
        edges=tuple(sorted(edges, key=_slowest_first)),
        curve=_curve([at for one in pairs for at in one.proved], night.since, now),
    )


def narrowed(own: Region, asked: str | None) -> Region:
    """The region that is told of: one's own, or the part of it that was asked for.

    Raises:
        NotFoundError: bad data; it lies outside.
    """
    if asked is None:
        return own
    if not is_within(Region(asked), own):
        raise NotFoundError(f"there is no region {asked} here", zh=f"管理范围内没有地区 {asked}")
    return Region(asked)


def _edge(row: EdgeRow, pairs: Pairs, deferred: Mapping[str, str]) -> EdgeTonight:
    is_done = row.state == "heard" and not pairs.lacking
    why = next((deferred[id_] for id_ in pairs.lacking if deferred.get(id_)), "") or (row.run.error if row.run else "")
    return EdgeTonight(
        edge=row,
        pairs=pairs.meant,
        proved=len(pairs.proved),
        outcome="done" if is_done else "going" if row.state == "heard" else row.state,
        last=dump_instant(pairs.proved[-1]) if pairs.proved else None,
        why="" if is_done else why,
    )


def _slowest_first(one: EdgeTonight) -> tuple[bool, float, str]:
    return one.outcome == "done", one.proved / one.pairs if one.pairs else 1.0, one.edge.code


def _cities(edges: Iterable[EdgeTonight], known: Sequence[Any], names: RegionNames) -> tuple[CityTonight, ...]:
    by_city = {
        city: list(rows)
        for city, rows in groupby(sorted(edges, key=lambda one: one.edge.city), lambda one: one.edge.city)
    }
    codes = sorted({row.code for row in known} | by_city.keys())
    places = place_tiles([code for code in codes if region_level(Region(code)) == "city"])
    return tuple(_city(code, names.name(code), places.get(code, (0, 0)), by_city.get(code, ())) for code in codes)


def _city(code: str, name: str, place: tuple[int, int], edges: Sequence[EdgeTonight]) -> CityTonight:
    outcomes = [one.outcome for one in edges]
    counties = {one.edge.region_name for one in edges}
    return CityTonight(
        code=code,
        # What the province administers directly is no city: where it is one county, people call it by that name.
        name=next(iter(counties)) if code[2:4] == "90" and len(counties) == 1 else name,
        column=place[0],
        row=place[1],
        edges=len(edges),
        done=outcomes.count("done"),
        silent=outcomes.count("silent") + outcomes.count("never"),
        faults=sum(bool(one.edge.faults) for one in edges),
        pairs=sum(one.pairs for one in edges),
        proved=sum(one.proved for one in edges),
    )


def _curve(proved: list[Instant], since: Instant, now: Instant) -> tuple[TonightPoint, ...]:
    """Steps from the night's beginning to now; many are thinned out evenly."""
    counts: dict[int, int] = {since: 0}
    for at in proved:
        key = min(max(at, since), now)
        counts[key] = counts.get(key, 0) + 1
    counts.setdefault(now, 0)
    moments = sorted(counts)
    totals = list(accumulate(counts[at] for at in moments))
    step = max(1, -(-len(moments) // MOST_POINTS))
    shown = sorted({*range(0, len(moments), step), len(moments) - 1})
    return tuple(TonightPoint(dump_instant(Instant(moments[n])), totals[n]) for n in shown)


async def _watching(desk: Desk, actor: Actor, where: WatchingWhere, _body: Nothing) -> Watching:
    area = narrowed(actor.account.region, where.region)
    first, last = days_of(where, day_of(desk.clock()))
    names, regions = RegionNames(load_regions()), load_regions()
    parts = [row.code for row in regions.within(area, "city" if region_level(area) == "province" else "county")]
    async with reading(desk.engine) as connection:
        titles = await listings.column_titles(connection)
        ids = await _lessons_of(connection, where.column) if where.column else None
        lessons = await watched.by_lesson(connection, area, first, last)
        lessons = lessons if ids is None else {id_: one for id_, one in lessons.items() if id_ in ids}
        days = await watched.by_day(connection, area, first, last, ids)
        areas = await watched.by_area(connection, parts, first, last, ids) if parts else {}
        hours = await watched.by_hour_of_week(connection, area, first, last) if ids is None else {}
        columns = _by_column(lessons, await _columns_of(connection, lessons))
        most = _most(lessons)[:MOST_LESSONS]
        shown = await _titles(connection, [id_ for id_, _ in most])
    nothing: dict[str, Figures] = dict.fromkeys(map(str, parts), Figures(0, 0, 0))
    total = Figures(*(sum(one[n] for one in days.values()) for n in range(3)))
    return Watching(
        region=area,
        region_name=names.path(area),
        first=day_text(first),
        last=day_text(last),
        total=_row("", "", total),
        lessons=tuple(_row(id_, shown.get(id_, id_), one) for id_, one in most),
        columns=tuple(_row(id_, titles.get(id_, id_), one) for id_, one in _most(columns)),
        areas=tuple(_row(code, names.name(code), one) for code, one in _most({**nothing, **areas})),
        days=tuple(_row(day_text(day), "", days.get(day, Figures(0, 0, 0))) for day in range(first, last + 1)),
        hours=tuple(HourWatched(hour, one.plays, one.terminals) for hour, one in sorted(hours.items())),
    )


def days_of(where: WatchingWhere, today: int) -> tuple[int, int]:
    """The first and last day that are asked about.

    Raises:
        InputError: bad data; a day that is none, or too many of them.
    """
    try:
        last = parse_day(where.last) if where.last else today
        first = parse_day(where.first) if where.first else last - _USUAL_DAYS + 1
    except ValueError as error:
        raise InputError(f"no such day: {error}", zh="日期不存在") from error
    if not 0 <= last - first < MOST_DAYS:
        raise InputError(
            f"the first day must not be after the last, and at most {timedelta(days=MOST_DAYS).days} days are told",
            zh=f"起始日期不能晚于结束日期，且最多统计 {MOST_DAYS} 天",
        )
    return first, last


def _most(found: Mapping[str, Figures]) -> list[tuple[str, Figures]]:
    return sorted(found.items(), key=lambda pair: (-pair[1].plays, -pair[1].terminals, pair[0]))


def _row(key: str, name: str, one: Figures) -> Watched:
    return Watched(key, name, one.plays, one.terminals, one.bytes)


def _by_column(lessons: Mapping[str, Figures], columns: Mapping[str, Sequence[str]]) -> dict[str, Figures]:
    found: dict[str, Figures] = {}
    for id_, one in lessons.items():
        for column in columns.get(id_, ()):
            before = found.get(column, Figures(0, 0, 0))
            found[column] = Figures(*(a + b for a, b in zip(before, one, strict=True)))
    return found


async def _lessons_of(connection: Any, column: str) -> set[str]:
    query = select(placements.c.courseware).where(placements.c.column == column).distinct()
    return set((await connection.execute(query)).scalars())


async def _columns_of(connection: Any, ids: Iterable[str]) -> dict[str, list[str]]:
    """Columns of each lesson, as its newest version has them: one that is recalled was watched all the same."""
    found: dict[str, tuple[int, list[str]]] = {}
    for chunk in chunks(ids):
        query = select(placements.c.courseware, placements.c.version, placements.c.column)
        for row in await connection.execute(query.where(placements.c.courseware.in_(chunk))):
            version, columns = found.get(row.courseware, (0, []))
            if row.version > version:
                found[row.courseware] = (row.version, [row.column])
            elif row.version == version:
                columns.append(row.column)
    return {id_: columns for id_, (_, columns) in found.items()}


async def _titles(connection: Any, ids: Iterable[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for chunk in chunks(ids):
        query = (
            select(versions.c.courseware, versions.c.title)
            .join(courseware, courseware.c.id == versions.c.courseware)
            .where(versions.c.courseware.in_(chunk))
            .order_by(versions.c.number)
        )
        found.update((row.courseware, row.title) for row in await connection.execute(query))
    return found


OPERATIONS = (
    Operation(
        "boards.tonight",
        "GET",
        "/boards/tonight",
        "How far tonight's lessons have come, by city and edge",
        "今晚同步进展，按市和边缘服务器",
        _tonight,
        where=BoardWhere,
        answer=Tonight,
        action=Action.EDGES_READ,
    ),
    Operation(
        "boards.watching",
        "GET",
        "/boards/watching",
        "What was watched, by lesson, column, area, day and hour of the week",
        "观看统计：按课件、专栏、地区、日期和时段",
        _watching,
        where=WatchingWhere,
        answer=Watching,
        action=Action.EDGES_READ,
    ),
)
