"""Pilots and what edges report of them, as the database has both. Reads, within the caller's transaction."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import msgspec
from sqlalchemy import Row, select
from sqlalchemy.ext.asyncio import AsyncConnection

from manifests.instants import Instant
from manifests.model import Courseware
from manifests.names import Region, is_within
from manifests.reports import Run, State
from origin.database.library import chunks
from origin.database.offerings import ABANDONED, BEGUN, RUNNING, STOPPED, NewOffering, NewPilot
from origin.database.tables import edges, holdings, reporting, runs, states
from origin.database.tables_pilots import pilots
from origin.publish.pilot_plan import EdgeReport, PilotWish, RunningPilot, Terms
from origin.publish.planner import ItemPlan

# Newest runs of an edge that are looked at; who failed more often has failed since the oldest of these at least.
_RUNS_READ: Final = 20

# A pilot whose first release has not landed, and one whose first release never did.
NEVER_RAN: Final = (BEGUN, ABANDONED)

_STATES: Final = msgspec.json.Decoder(State)
_RUNS: Final = msgspec.json.Decoder(Run)
_WAVES: Final = msgspec.json.Decoder(tuple[tuple[str, ...], ...])
_TERMS: Final = msgspec.json.Decoder(Terms)
_FAULTS: Final = msgspec.json.Decoder(dict[str, tuple[str, ...]])


def first_wave(item: ItemPlan, wish: PilotWish, faults: Mapping[str, tuple[str, ...]]) -> NewOffering:
    """What a release says of a lesson whose pilot begins with it."""
    offered, tried = (item.base, item.document) if item.base is not None else (item.document, None)
    pilot = begun(wish, faults)
    return NewOffering(item.document.id, offered, tuple(sorted(set(wish.waves[0]))), tried, pilot)


def begun(wish: PilotWish, faults: Mapping[str, tuple[str, ...]]) -> NewPilot:
    """A pilot as it is written down."""
    return NewPilot(
        waves=msgspec.json.encode(wish.waves).decode(),
        terms=msgspec.json.encode(wish.terms).decode(),
        known_faults=msgspec.json.encode(faults).decode(),
        started_by=wish.by,
    )


async def known_faults(connection: AsyncConnection) -> dict[str, tuple[str, ...]]:
    """What edges complain of now, by code."""
    rows = await connection.execute(select(states.c.edge, states.c.document))
    return {row.edge: faults for row in rows if (faults := _STATES.decode(row.document).faults)}


async def running_pilots(connection: AsyncConnection) -> list[RunningPilot]:
    """All that run, oldest first."""
    rows = await connection.execute(select(pilots).where(pilots.c.state == RUNNING).order_by(pilots.c.id))
    return [read_pilot(row) for row in rows]


async def pilot_row(connection: AsyncConnection, number: int) -> Row[Any] | None:
    """One pilot, whatever its state."""
    return (await connection.execute(select(pilots).where(pilots.c.id == number))).one_or_none()


async def pilot_rows(
    connection: AsyncConnection, before: int | None, courseware_id: str, most: int
) -> Sequence[Row[Any]]:
    """Pilots that ever ran, of one lesson or of all, newest first."""
    query = select(pilots).where(pilots.c.state.not_in(NEVER_RAN)).order_by(pilots.c.id.desc()).limit(most)
    if before is not None:
        query = query.where(pilots.c.id < before)
    if courseware_id:
        query = query.where(pilots.c.courseware == courseware_id)
    return (await connection.execute(query)).all()


async def stopped_since(connection: AsyncConnection, since: Instant) -> Sequence[Row[Any]]:
    """Pilots that stopped by themselves, newest first."""
    query = select(pilots).where(pilots.c.state == STOPPED, pilots.c.by_itself, pilots.c.ended_at >= since)
    return (await connection.execute(query.order_by(pilots.c.id.desc()))).all()


def read_pilot(row: Row[Any]) -> RunningPilot:
    """A row as a value."""
    return RunningPilot(
        id=row.id,
        courseware=row.courseware,
        title=row.title,
        version=row.version,
        base=row.base,
        waves=tuple(tuple(Region(area) for area in wave) for wave in _WAVES.decode(row.waves)),
        wave=row.wave,
        wave_at=Instant(row.wave_at),
        terms=_TERMS.decode(row.terms),
        known_faults=_FAULTS.decode(row.known_faults),
    )


async def edge_reports(connection: AsyncConnection, item: Courseware, since: Instant) -> list[EdgeReport]:
    """What all edges say that a lesson is meant for.

    Args:
        connection: reads.
        item: the version on trial.
        since: what they said before counts as nothing.
    """
    query = (
        select(edges.c.code, edges.c.name, edges.c.region, reporting.c.heard_at, states.c.document, states.c.at)
        .join_from(edges, reporting, edges.c.code == reporting.c.edge, isouter=True)
        .join(states, edges.c.code == states.c.edge, isouter=True)
        .order_by(edges.c.region, edges.c.serial)
    )
    rows = [(row, _STATES.decode(row.document) if row.document else None) for row in await connection.execute(query)]
    meant = [(row, state) for row, state in rows if _is_meant(item, Region(row.region), state)]
    codes = [row.code for row, _ in meant]
    held = await connection.execute(select(holdings.c.edge, holdings.c.version).where(holdings.c.courseware == item.id))
    versions = {row.edge: int(row.version) for row in held}
    told = await _runs(connection, codes, since)
    return [
        EdgeReport(
            code=row.code,
            name=row.name,
            region=Region(row.region),
            held=versions.get(row.code, 0),
            heard_at=row.heard_at,
            faults=state.faults if state is not None and row.at >= since else (),
            **_outcome(told.get(row.code, ()), item.id),
        )
        for row, state in meant
    ]


def _is_meant(item: Courseware, region: Region, state: State | None) -> bool:
    """As the edge itself decides: by region, and by the columns that it keeps."""
    if not any(is_within(region, Region(area)) for area in item.audience):
        return False
    columns = state.columns if state is not None else ()
    return not columns or not set(columns).isdisjoint(item.columns)


async def _runs(connection: AsyncConnection, codes: Iterable[str], since: Instant) -> dict[str, list[tuple[int, Run]]]:
    """The newest runs of edges since an instant, newest first, each with its instant."""
    found: dict[str, list[tuple[int, Run]]] = {}
    for chunk in chunks(codes):
        query = select(runs.c.edge, runs.c.at, runs.c.document).where(runs.c.edge.in_(chunk), runs.c.at >= since)
        for row in await connection.execute(query.order_by(runs.c.number.desc())):
            mine = found.setdefault(row.edge, [])
            if len(mine) < _RUNS_READ:
                mine.append((row.at, _RUNS.decode(row.document)))
    return found


def _outcome(told: Sequence[tuple[int, Run]], courseware_id: str) -> dict[str, Any]:
    """What runs, newest first, say of an edge and of one lesson."""
    if not told:
        return {}
    newest = told[0][1]
    since: int | None = None
    for at, run in told:
        if not run.error or run.waits:
            break
        since = at
    return {
        "failed_since": since,
        "error": newest.error if since is not None else "",
        "deferred": newest.deferred.get(courseware_id, ""),
    }
