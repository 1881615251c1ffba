"""What each edge is to fetch already, as far as the origin can name it: published lately, for it, not proved there.

Older lessons that an edge lacks stand in its own word about its backlog; they are many at a new edge, and nobody waits
for one of them by tomorrow.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from manifests.instants import Instant, parse_instant
from manifests.model import Courseware
from manifests.names import Region
from manifests.pieces import table_bytes
from origin.database.engine import reading
from origin.database.library import chunks, read_document
from origin.database.tables import courseware, holdings, versions
from origin.publish.delays import is_meant
from origin.publish.turns import EdgeState, Offer

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
        rows = await _lately(connection, now)
        held = await _held(connection, [row.courseware for row in rows])
    return await asyncio.to_thread(_pending, rows, held, edges, now, frozenset(but))


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


async def _lately(connection: AsyncConnection, now: Instant) -> list[Any]:
    query = (
        select(versions.c.courseware, versions.c.number, versions.c.document)
        .join(courseware, (courseware.c.id == versions.c.courseware) & (courseware.c.current == versions.c.number))
        .where(versions.c.published_at > now - LATELY_S, versions.c.published_at <= now)
        .order_by(versions.c.published_at.desc())
        .limit(MOST)
    )
    return list((await connection.execute(query)).all())


async def _held(connection: AsyncConnection, ids: Sequence[str]) -> dict[tuple[str, str], int]:
    found: dict[tuple[str, str], int] = {}
    for chunk in chunks(ids):
        query = select(holdings.c.courseware, holdings.c.edge, holdings.c.version)
        for row in await connection.execute(query.where(holdings.c.courseware.in_(chunk))):
            found[row.courseware, row.edge] = row.version
    return found


def _pending(
    rows: Sequence[Any],
    held: Mapping[tuple[str, str], int],
    edges: Sequence[EdgeState],
    now: Instant,
    but: frozenset[str],
) -> _Pending:
    offers = [(offer_of(read_document(row.document)), row.number) for row in rows if row.courseware not in but]
    offers = [one for one in offers if one[0].expires is None or one[0].expires > now]
    # A school year's lessons share few audiences: each is compared with an edge once.
    meant: dict[tuple[object, ...], bool] = {}
    found: _Pending = {}
    for edge in edges:
        lacking = []
        for offer, number in offers:
            key = (edge.code, offer.audience, offer.columns)
            if key not in meant:
                meant[key] = is_meant(offer, edge.region, edge.state.columns if edge.state else ())
            if meant[key] and held.get((offer.id, edge.code), 0) < number:
                lacking.append(offer)
        found[edge.code] = tuple(lacking)
    return found
