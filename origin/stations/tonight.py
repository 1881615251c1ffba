"""How far tonight's lessons have come: pairs of a lesson and an edge that it is meant for, proved or not.

A night begins at 18:00 by the province's clock and is shown until the next one begins. It is about what was published
since a day before its beginning; of more than `MOST` lessons the newest count.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, tzinfo
from typing import Final

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from manifests.instants import Instant
from origin.database.engine import reading
from origin.database.library import chunks
from origin.database.tables import holdings
from origin.stations.offered import Offered, lately_offered
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
        every = await lately_offered(connection, Instant(since - 86400), now, MOST + 1)
        shown = every[:MOST]
        held = await _held(connection, {one.item.id for one in shown})
    found = await asyncio.to_thread(_pairs, shown, held, edges)
    return Night(since, len(shown), len(every) > MOST, found)


async def _held(connection: AsyncConnection, ids: Iterable[str]) -> dict[tuple[str, str], tuple[int, Instant]]:
    found: dict[tuple[str, str], tuple[int, Instant]] = {}
    for chunk in chunks(ids):
        for row in await connection.execute(select(holdings).where(holdings.c.courseware.in_(chunk))):
            found[row.courseware, row.edge] = (row.version, Instant(row.since))
    return found


def _pairs(
    lessons: Sequence[Offered], held: Mapping[tuple[str, str], tuple[int, Instant]], edges: Sequence[Standing]
) -> dict[str, Pairs]:
    # Lessons of one night share few audiences: each is compared with an edge once.
    groups: dict[object, list[Offered]] = {}
    for one in lessons:
        groups.setdefault(one.group, []).append(one)
    found = {}
    for edge in edges:
        columns = frozenset(edge.state.columns) if edge.state else frozenset()
        proved: list[Instant] = []
        lacking: list[str] = []
        for same in groups.values():
            for one in same if same[0].is_for(edge.region, columns) else ():
                version, at = held.get((one.item.id, edge.code), (0, Instant(0)))
                if version >= one.item.version:
                    proved.append(at)
                else:
                    lacking.append(one.item.id)
        found[edge.code] = Pairs(len(proved) + len(lacking), tuple(sorted(proved)), tuple(lacking))
    return found
