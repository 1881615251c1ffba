"""How far tonight's lessons have come: pairs of a lesson and an edge that it is meant for, proved or not.

A night begins at 18:00 by the province's clock and is shown until the next one begins. It is about what was published
since a day before its beginning; of more than `MOST` lessons the newest count.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, tzinfo
from typing import Any, Final

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from manifests.instants import Instant
from manifests.names import Region, is_within
from origin.database.engine import reading
from origin.database.library import chunks, read_document
from origin.database.tables import courseware, holdings, versions
from origin.stations.standing import Standing

BEGINS_HOUR: Final = 18
MOST: Final = 300


@dataclass(frozen=True, slots=True)
class Pairs:
    """One edge tonight.

    Attributes:
        meant: lessons of tonight that are for it.
        proved: when each of those that it has was proved.
        lacking: ids of the others, the newest first.
    """

    meant: int
    proved: tuple[Instant, ...]
    lacking: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Night:
    """A night: when it began, how many lessons it is about, and how each edge stands by its code."""

    since: Instant
    lessons: int
    more: bool
    edges: Mapping[str, Pairs]


def night_of(now: Instant, zone: tzinfo) -> Instant:
    """When the night began that is shown at `now`."""
    local = datetime.fromtimestamp(now, zone)
    date = local.date() if local.hour >= BEGINS_HOUR else local.date() - timedelta(days=1)
    return Instant(int(datetime(date.year, date.month, date.day, BEGINS_HOUR, tzinfo=zone).timestamp()))


async def read_night(engine: AsyncEngine, edges: Sequence[Standing], now: Instant, zone: tzinfo) -> Night:
    """Look up how these edges stand tonight.

    Raises:
        StorageError: environment.
    """
    since = night_of(now, zone)
    async with reading(engine) as connection:
        rows = await _published(connection, Instant(since - 86400), now)
        shown = rows[:MOST]
        held = await _held(connection, [row.courseware for row in shown])
    found = await asyncio.to_thread(_pairs, shown, held, edges)
    return Night(since, len(shown), len(rows) > MOST, found)


async def _published(connection: AsyncConnection, since: Instant, now: Instant) -> list[Any]:
    query = (
        select(versions.c.courseware, versions.c.number, versions.c.document)
        .join(courseware, (courseware.c.id == versions.c.courseware) & (courseware.c.current == versions.c.number))
        .where(versions.c.published_at >= since, versions.c.published_at <= now)
        .order_by(versions.c.published_at.desc(), versions.c.courseware)
        .limit(MOST + 1)
    )
    return list((await connection.execute(query)).all())


async def _held(connection: AsyncConnection, ids: Sequence[str]) -> dict[tuple[str, str], tuple[int, Instant]]:
    found: dict[tuple[str, str], tuple[int, Instant]] = {}
    for chunk in chunks(ids):
        for row in await connection.execute(select(holdings).where(holdings.c.courseware.in_(chunk))):
            found[row.courseware, row.edge] = (row.version, Instant(row.since))
    return found


def _pairs(
    rows: Sequence[Any], held: Mapping[tuple[str, str], tuple[int, Instant]], edges: Sequence[Standing]
) -> dict[str, Pairs]:
    lessons = [(row.courseware, row.number, read_document(row.document)) for row in rows]
    # Lessons of one night share few audiences: each is compared with an edge once.
    groups: dict[tuple[tuple[str, ...], tuple[str, ...]], list[tuple[str, int]]] = {}
    for id_, number, item in lessons:
        groups.setdefault((tuple(item.audience), tuple(item.columns)), []).append((id_, number))
    found = {}
    for edge in edges:
        wanted = frozenset(edge.state.columns) if edge.state else frozenset()
        proved: list[Instant] = []
        lacking: list[str] = []
        for (audience, columns), ids in groups.items():
            if not any(is_within(edge.region, Region(area)) for area in audience):
                continue
            if wanted and wanted.isdisjoint(columns):
                continue
            for id_, number in ids:
                version, at = held.get((id_, edge.code), (0, Instant(0)))
                if version >= number:
                    proved.append(at)
                else:
                    lacking.append(id_)
        found[edge.code] = Pairs(len(proved) + len(lacking), tuple(sorted(proved)), tuple(lacking))
    return found
