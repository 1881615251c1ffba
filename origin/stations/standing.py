"""Where each enrolled edge stands, by its own reports: last word, catalog, room, plan, outcome of its runs.

Reads only. A list asks two questions for the whole province; what costs a look into the holdings is asked edge by edge.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import msgspec
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from manifests.errors import NotFoundError
from manifests.instants import Instant
from manifests.names import Region, is_within
from manifests.reports import Run, State
from origin.database.engine import reading
from origin.database.library import chunks
from origin.database.tables import edges, holdings, reporting, runs, states

_STATES = msgspec.json.Decoder(State)
_RUNS = msgspec.json.Decoder(Run)


@dataclass(frozen=True, slots=True)
class Standing:
    """One edge.

    Attributes:
        has_key: its reports can be checked; without a key none is taken.
        heard_at: of its newest report; None: never.
        catalog_version: of its newest inventory.
        want_full: the next inventory must be a full one.
        state: its newest state, told at `state_at`.
        run: its newest run.
    """

    code: str
    name: str
    region: Region
    enrolled_at: Instant
    has_key: bool
    heard_at: Instant | None
    inventory_at: Instant | None
    catalog_version: int
    want_full: bool
    state: State | None
    state_at: Instant | None
    run: Run | None


@dataclass(frozen=True, slots=True)
class PastRun:
    """One sync run as it was reported."""

    number: int
    at: Instant
    run: Run


@dataclass(frozen=True, slots=True)
class EdgeDetail:
    """One edge at length: how many courseware it has proved, and its last runs, newest first."""

    standing: Standing
    held: int
    runs: tuple[PastRun, ...]


async def standings(engine: AsyncEngine, area: Region) -> tuple[Standing, ...]:
    """All enrolled edges in an area, by region.

    Raises:
        StorageError: environment.
    """
    async with reading(engine) as connection:
        rows = [row for row in (await connection.execute(_query())).all() if is_within(Region(row.region), area)]
        newest = await _newest_runs(connection, (row.code for row in rows))

    def decode() -> tuple[Standing, ...]:
        return tuple(_standing(row, _RUNS.decode(newest[row.code]) if row.code in newest else None) for row in rows)

    # Off the event loop: an edge that begins defers every lesson there is, each with its reason.
    return await asyncio.to_thread(decode)


async def edge_detail(engine: AsyncEngine, area: Region, code: str, most_runs: int) -> EdgeDetail:
    """One edge.

    Raises:
        NotFoundError: bad data; no such edge in this area.
        StorageError: environment.
    """
    async with reading(engine) as connection:
        row = (await connection.execute(_query().where(edges.c.code == code))).one_or_none()
        if row is None or not is_within(Region(row.region), area):
            raise NotFoundError(f"there is no edge {code[:40]!r}", zh=f"没有边缘服务器 {code[:40]!r}")
        counted = select(func.count()).select_from(holdings).where(holdings.c.edge == code)
        held = int((await connection.execute(counted)).scalar_one())
        query = select(runs).where(runs.c.edge == code).order_by(runs.c.number.desc()).limit(most_runs)
        found = (await connection.execute(query)).all()

    def decode() -> EdgeDetail:
        past = tuple(PastRun(one.number, Instant(one.at), _RUNS.decode(one.document)) for one in found)
        return EdgeDetail(_standing(row, past[0].run if past else None), held, past)

    return await asyncio.to_thread(decode)


def _query() -> Any:
    return (
        select(edges, reporting, states.c.document, states.c.at.label("state_at"))
        .join_from(edges, reporting, edges.c.code == reporting.c.edge, isouter=True)
        .join(states, edges.c.code == states.c.edge, isouter=True)
        .order_by(edges.c.region, edges.c.serial)
    )


async def _newest_runs(connection: AsyncConnection, codes: Iterable[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for chunk in chunks(codes):
        last = select(runs.c.edge, func.max(runs.c.number).label("number")).where(runs.c.edge.in_(chunk))
        newest = last.group_by(runs.c.edge).subquery()
        query = select(runs.c.edge, runs.c.document).join(
            newest, (runs.c.edge == newest.c.edge) & (runs.c.number == newest.c.number)
        )
        for row in await connection.execute(query):
            found[row.edge] = row.document
    return found


def _standing(row: Any, run: Run | None) -> Standing:
    return Standing(
        code=row.code,
        name=row.name,
        region=Region(row.region),
        enrolled_at=Instant(row.enrolled_at),
        has_key=row.key_id is not None,
        heard_at=row.heard_at,
        inventory_at=row.inventory_at,
        catalog_version=row.catalog_version or 0,
        want_full=bool(row.want_full),
        state=_STATES.decode(row.document) if row.document else None,
        state_at=row.state_at,
        run=run,
    )
