"""Pilots carried out: from the reports of edges to a verdict, from a verdict to the next release."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from manifests.reports import State
from origin.database.offerings import NewOffering, NewPilot
from origin.database.tables import states
from origin.publish.pilot_plan import PilotWish
from origin.publish.planner import ItemPlan

_STATES: Final = msgspec.json.Decoder(State)


def first_wave(item: ItemPlan, wish: PilotWish, faults: Mapping[str, tuple[str, ...]]) -> NewOffering:
    """What a release says of a lesson whose pilot begins with it."""
    pilot = NewPilot(
        waves=msgspec.json.encode(wish.waves).decode(),
        terms=msgspec.json.encode(wish.terms).decode(),
        known_faults=msgspec.json.encode(faults).decode(),
        started_by=wish.by,
    )
    offered, tried = (item.base, item.document) if item.base is not None else (item.document, None)
    return NewOffering(item.document.id, offered, tuple(sorted(wish.waves[0])), tried, pilot)


async def known_faults(connection: AsyncConnection) -> dict[str, tuple[str, ...]]:
    """What edges complain of now, by code."""
    rows = await connection.execute(select(states.c.edge, states.c.document))
    return {row.edge: faults for row in rows if (faults := _STATES.decode(row.document).faults)}
