"""What edges tell of what was watched, kept by hour and added up by area and day; and the questions boards ask of it.

An hour that is told again only grows, so whatever order reports come in, and however often, each figure is its highest.
The sums move by the difference, in the same transaction. Rows of single lessons go after `KEPT_S`; the sums stay.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime, timedelta
from typing import Any, Final, NamedTuple
from zoneinfo import ZoneInfo

from sqlalchemy import Table, delete, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from manifests.instants import Instant, parse_instant
from manifests.names import Region
from manifests.reports import Watched
from origin.database.library import chunks
from origin.database.tables_boards import watching, watching_days, watching_hours

ZONE: Final = ZoneInfo("Asia/Shanghai")
KEPT_S: Final = 45 * 86400
SUMS_KEPT_DAYS: Final = 1100
_EPOCH: Final = date(1970, 1, 1)


class Figures(NamedTuple):
    """Times begun, terminals (of one hour) or hours of terminals (of more), bytes."""

    plays: int
    terminals: int
    bytes: int


_NONE: Final = Figures(0, 0, 0)


def day_of(at: Instant) -> int:
    """The province's day of an instant, counted from 1970-01-01."""
    return (datetime.fromtimestamp(at, ZONE).date() - _EPOCH).days


def day_text(day: int) -> str:
    """A day as `2026-11-27`."""
    return (_EPOCH + timedelta(days=day)).isoformat()


def parse_day(text: str) -> int:
    """Read a day.

    Raises:
        ValueError: bad data; there is no such day.
    """
    return (date.fromisoformat(text) - _EPOCH).days


def areas_of(region: Region) -> tuple[str, ...]:
    """The areas that a county's figures count in: itself, its city, its province."""
    return tuple(dict.fromkeys((region, f"{region[:4]}00", f"{region[:2]}0000")))


async def take_watching(
    connection: AsyncConnection, edge: str, region: Region, told: Sequence[Watched], now: Instant
) -> None:
    """Write down hours as an edge told them, and move the sums along; within the caller's transaction."""
    grown: dict[tuple[int, str], Figures] = {}
    for one in told:
        hour = parse_instant(one.hour)
        if hour > now:  # its clock runs ahead: an hour that has not begun here cannot have been watched
            continue
        for id_, more in (await _take_hour(connection, edge, hour, one)).items():
            grown[hour, id_] = _added(grown.get((hour, id_), _NONE), more)
    if grown:
        for area in areas_of(region):
            await _grow_hours(connection, area, _by_hour(grown))
            await _grow_days(connection, area, _by_day(grown))
    await connection.execute(delete(watching).where(watching.c.edge == edge, watching.c.hour < now - KEPT_S))
    if grown:
        first = day_of(now) - SUMS_KEPT_DAYS
        for area in areas_of(region):
            await connection.execute(
                delete(watching_days).where(watching_days.c.area == area, watching_days.c.day < first)
            )
            oldest = now - SUMS_KEPT_DAYS * 86400
            await connection.execute(
                delete(watching_hours).where(watching_hours.c.area == area, watching_hours.c.hour < oldest)
            )


async def _take_hour(connection: AsyncConnection, edge: str, hour: int, one: Watched) -> dict[str, Figures]:
    """Write one hour; gives by how much each lesson's figures grew, under the empty id those of the hour."""
    is_here = (watching.c.edge == edge) & (watching.c.hour == hour)
    rows = await connection.execute(select(watching).where(is_here))
    before = {row.courseware: Figures(row.plays, row.terminals, row.bytes) for row in rows}
    told = {id_: Figures(*figures) for id_, figures in one.lessons.items()}
    told[""] = Figures(sum(x.plays for x in told.values()), one.terminals, sum(x.bytes for x in told.values()))
    grown: dict[str, Figures] = {}
    new: list[dict[str, Any]] = []
    for id_, figures in told.items():
        old = before.get(id_)
        most = Figures(*(max(pair) for pair in zip(figures, old or _NONE, strict=True)))
        if old is None:
            new.append({"edge": edge, "hour": hour, "courseware": id_, **most._asdict()})
        elif most != old:
            await connection.execute(
                update(watching).where(is_here, watching.c.courseware == id_).values(**most._asdict())
            )
        grown[id_] = Figures(*(a - b for a, b in zip(most, old or _NONE, strict=True)))
    if new:
        await connection.execute(insert(watching), new)
    return {id_: more for id_, more in grown.items() if any(more)}


def _by_hour(grown: Mapping[tuple[int, str], Figures]) -> dict[int, Figures]:
    return {hour: more for (hour, id_), more in grown.items() if not id_}


def _by_day(grown: Mapping[tuple[int, str], Figures]) -> dict[tuple[int, str], Figures]:
    found: dict[tuple[int, str], Figures] = {}
    for (hour, id_), more in grown.items():
        key = (day_of(Instant(hour)), id_)
        found[key] = _added(found.get(key, _NONE), more)
    return found


def _added(one: Figures, other: Figures) -> Figures:
    return Figures(*(a + b for a, b in zip(one, other, strict=True)))


async def _grow_hours(connection: AsyncConnection, area: str, grown: Mapping[int, Figures]) -> None:
    """Add to sums by hour; a row that is not there yet is made."""
    table, key = watching_hours, watching_hours.c.hour
    rows = await connection.execute(select(table).where(table.c.area == area, key.in_(list(grown))))
    before = {row.hour: Figures(row.plays, row.terminals, row.bytes) for row in rows}
    for at, more in grown.items():
        if at in before:
            values = _added(before[at], more)._asdict()
            await connection.execute(update(table).where(table.c.area == area, key == at).values(**values))
    new = [{"area": area, "hour": at, **more._asdict()} for at, more in grown.items() if at not in before]
    if new:
        await connection.execute(insert(table), new)


async def _grow_days(connection: AsyncConnection, area: str, grown: Mapping[tuple[int, str], Figures]) -> None:
    table = watching_days
    for day in sorted({day for day, _ in grown}):
        more = {id_: figures for (at, id_), figures in grown.items() if at == day}
        before: dict[str, Figures] = {}
        for chunk in chunks(more):
            query = select(table).where(table.c.area == area, table.c.day == day, table.c.courseware.in_(chunk))
            for row in await connection.execute(query):
                before[row.courseware] = Figures(row.plays, row.terminals, row.bytes)
        for id_, figures in more.items():
            if id_ in before:
                where = (table.c.area == area) & (table.c.day == day) & (table.c.courseware == id_)
                values = _added(before[id_], figures)._asdict()
                await connection.execute(update(table).where(where).values(**values))
        new = [
            {"area": area, "day": day, "courseware": id_, **figures._asdict()}
            for id_, figures in more.items()
            if id_ not in before
        ]
        if new:
            await connection.execute(insert(table), new)


async def by_lesson(connection: AsyncConnection, area: str, first: int, last: int) -> dict[str, Figures]:
    """Figures of each lesson in an area, over days."""
    table = watching_days
    query = (
        select(table.c.courseware, *_sums(table))
        .where(table.c.area == area, table.c.day.between(first, last), table.c.courseware != "")
        .group_by(table.c.courseware)
    )
    return {row[0]: Figures(*map(int, row[1:])) for row in await connection.execute(query)}


async def by_day(
    connection: AsyncConnection, area: str, first: int, last: int, ids: Iterable[str] | None = None
) -> dict[int, Figures]:
    """Figures of each day in an area: of everything, or of some lessons."""
    return await _by(connection, watching_days.c.day, [area], first, last, ids)


async def by_area(
    connection: AsyncConnection, areas: Sequence[str], first: int, last: int, ids: Iterable[str] | None = None
) -> dict[str, Figures]:
    """Figures of each of these areas, over days."""
    return await _by(connection, watching_days.c.area, areas, first, last, ids)


async def by_hour_of_week(connection: AsyncConnection, area: str, first: int, last: int) -> dict[int, Figures]:
    """Figures of each hour of the week in an area, 0 for Monday 00:00 by the province's clock."""
    table = watching_hours
    begin, end = (_midnight(day) for day in (first, last + 1))
    rows = await connection.execute(
        select(table).where(table.c.area == area, table.c.hour >= begin, table.c.hour < end)
    )
    found: dict[int, Figures] = {}
    for row in rows:
        local = datetime.fromtimestamp(row.hour, ZONE)
        key = local.weekday() * 24 + local.hour
        found[key] = _added(found.get(key, _NONE), Figures(row.plays, row.terminals, row.bytes))
    return found


async def _by(
    connection: AsyncConnection, key: Any, areas: Sequence[str], first: int, last: int, ids: Iterable[str] | None
) -> dict[Any, Figures]:
    table = watching_days
    found: dict[Any, Figures] = {}
    for chunk in [("",)] if ids is None else list(chunks(ids)):
        query = (
            select(key, *_sums(table))
            .where(table.c.area.in_(areas), table.c.day.between(first, last), table.c.courseware.in_(chunk))
            .group_by(key)
        )
        for row in await connection.execute(query):
            found[row[0]] = _added(found.get(row[0], _NONE), Figures(*map(int, row[1:])))
    return found


def _sums(table: Table) -> list[Any]:
    return [func.sum(table.c[name]) for name in ("plays", "terminals", "bytes")]


def _midnight(day: int) -> int:
    at = _EPOCH + timedelta(days=day)
    return int(datetime(at.year, at.month, at.day, tzinfo=ZONE).timestamp())
