"""What each edge is to fetch already, as far as the origin can name it: published lately, for it, not proved there.

Older lessons that an edge lacks stand in its own word about its backlog; they are many at a new edge, and nobody waits
for one of them by tomorrow.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence
from typing import Final

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from manifests.instants import Instant, parse_instant
from manifests.model import Courseware
from manifests.names import Region
from manifests.pieces import table_bytes
from origin.database.engine import reading
from origin.database.library import chunks
from origin.database.tables import holdings
from origin.publish.turns import EdgeState, Offer
from origin.stations.offered import Offered, lately_offered

LATELY_S: Final = 30 * 86400
MOST: Final = 300

_Pending = dict[str, tuple[Offer, ...]]


async def pending_of(
    engine: AsyncEngine, edges: Sequence[EdgeState], now: Instant, but: Collection[str] = ()
) -> Mapping[str, Sequence[Offer]]:
    """Look up, for each edge by its code, the lessons that it lacks.

    Args:
        engine: the origin's database.
        edges: those that are asked about.
        now: lessons that are not shown yet, or have had their time, are left out.
        but: ids that do not count.

    Raises:
        StorageError: environment.
    """
    async with reading(engine) as connection:
        lessons = await lately_offered(connection, Instant(now - LATELY_S), now, MOST)
        held = await _held(connection, {one.item.id for one in lessons})
    return await asyncio.to_thread(_pending, lessons, held, edges, now, frozenset(but))


def offer_of(item: Courseware) -> Offer:
    """A published lesson as the planner reckons with it: whole, with its piece tables."""
    size = sum(file.size + (table_bytes(file.size, file.piece_size) if file.table else 0) for file in item.files)
    return Offer(
        bytes=size,
        audience=tuple(Region(code) for code in item.audience),
        columns=frozenset(item.columns),
        id=item.id,
        title=item.title,
        priority=item.priority,
        expires=parse_instant(item.expires) if item.expires else None,
    )


async def _held(connection: AsyncConnection, ids: Collection[str]) -> dict[tuple[str, str], int]:
    found: dict[tuple[str, str], int] = {}
    for chunk in chunks(ids):
        query = select(holdings.c.courseware, holdings.c.edge, holdings.c.version)
        for row in await connection.execute(query.where(holdings.c.courseware.in_(chunk))):
            found[row.courseware, row.edge] = row.version
    return found


def _pending(
    lessons: Sequence[Offered],
    held: Mapping[tuple[str, str], int],
    edges: Sequence[EdgeState],
    now: Instant,
    but: frozenset[str],
) -> _Pending:
    waits = [(one, offer_of(one.item)) for one in lessons if one.item.id not in but]
    waits = [(one, offer) for one, offer in waits if offer.expires is None or offer.expires > now]
    # A school year's lessons share few audiences: each is compared with an edge once.
    meant: dict[object, bool] = {}
    found: _Pending = {}
    for edge in edges:
        lacking = []
        for one, offer in waits:
            key = (edge.code, one.group)
            if key not in meant:
                meant[key] = one.is_for(Region(edge.region), edge.state.columns if edge.state else ())
            if meant[key] and held.get((offer.id, edge.code), 0) < one.item.version:
                lacking.append(offer)
        found[edge.code] = tuple(lacking)
    return found
