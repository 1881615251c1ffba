"""The latest state of each enrolled edge: what a plan for the whole province starts from."""

from __future__ import annotations

import asyncio
from typing import NamedTuple

import msgspec
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncEngine

from manifests.instants import Instant
from manifests.reports import State
from origin.database.engine import reading
from origin.database.tables import edges, holdings, states

_DECODER = msgspec.json.Decoder(State)


class EdgeState(NamedTuple):
    """One enrolled edge; `state` and `at` are None while it has told nothing."""

    code: str
    name: str
    region: str
    state: State | None
    at: Instant | None


async def latest_states(engine: AsyncEngine) -> tuple[EdgeState, ...]:
    """All enrolled edges, by code.

    Raises:
        StorageError: environment.
    """
    query = (
        select(edges.c.code, edges.c.name, edges.c.region, states.c.document, states.c.at)
        .join_from(edges, states, edges.c.code == states.c.edge, isouter=True)
        .order_by(edges.c.region, edges.c.serial)
    )
    async with reading(engine) as connection:
        rows = (await connection.execute(query)).all()

    def decode() -> tuple[EdgeState, ...]:
        return tuple(
            EdgeState(code, name, region, _DECODER.decode(text) if text else None, at)
            for code, name, region, text, at in rows
        )

    return await asyncio.to_thread(decode)


async def held_by(engine: AsyncEngine, edge: str) -> dict[str, int]:
    """Id → version of all that one edge has proved.

    Raises:
        StorageError: environment.
    """
    query = select(holdings.c.courseware, holdings.c.version).where(holdings.c.edge == edge)
    async with reading(engine) as connection:
        return {row.courseware: row.version for row in await connection.execute(query)}
