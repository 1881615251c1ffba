"""What was promised of each release when it was published, kept so that it can be held against what came.

Nothing here may spoil a publish: what is released stands, whether or not its promise could be written down.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

import msgspec
import structlog
from sqlalchemy import delete, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from manifests.instants import Instant
from manifests.model import Courseware
from manifests.names import Region, is_within
from origin.database.engine import reading, writing
from origin.database.library import newest_release
from origin.database.offerings import Trial, trials
from origin.database.tables_boards import promises
from origin.publish.pending import offer_of, pending_of
from origin.publish.promise import ProvincePromise, plan_promise
from origin.publish.turns import Offer
from origin.publish.zones import zone_named
from origin.stations.states import latest_states

BY: Final = "06:00"
KEPT_S: Final = 400 * 86400

_DECODER: Final = msgspec.json.Decoder(ProvincePromise)
_log: Final = structlog.get_logger(__name__)


class Pledge(NamedTuple):
    """A promise as it was made."""

    release: int
    made_at: Instant
    promise: ProvincePromise


async def foretell(
    engine: AsyncEngine, offers: Sequence[Offer], now: Instant, by: str, but: Sequence[str] = ()
) -> ProvincePromise:
    """Say who would hold these by a time of day, were they published now, and what they would delay.

    Args:
        engine: the origin's database, which has what the edges told last.
        offers: what would be published.
        now: when.
        by: local time of day.
        but: ids of lessons that these replace: nobody waits for them any more.

    Raises:
        InputError: bad data; `by` is no time of day.
        StorageError: environment.
    """
    states = await latest_states(engine)
    pending = await pending_of(engine, states, now, but)
    return plan_promise(states, offers, now, by, zone_named, pending)


async def keep_pledge(engine: AsyncEngine, items: Sequence[Courseware], now: Instant) -> None:
    """Write down what the release that has just been published promises. Failures are logged, never raised."""
    try:
        async with reading(engine) as connection:
            tried = await trials(connection, [item.id for item in items])
        offers = [offer_of(_narrowed(item, tried.get(item.id))) for item in items]
        made = await foretell(engine, together(offers), now, BY, [item.id for item in items])
        async with writing(engine) as connection:
            newest = await newest_release(connection)
            if newest is not None:
                await _write(connection, newest.number, now, made)
    except Exception as error:  # noqa: BLE001 - what is published is published
        _log.warning("promise_not_kept", reason=str(error), exc_info=True)


async def read_pledge(connection: AsyncConnection, release: int) -> Pledge | None:
    """The promise of a release; None when none was written down."""
    row = (await connection.execute(select(promises).where(promises.c.release == release))).one_or_none()
    return None if row is None else Pledge(row.release, Instant(row.made_at), _DECODER.decode(row.document))


async def pledge_of(engine: AsyncEngine, release: int) -> Pledge | None:
    """As `read_pledge`, for whoever has no connection open.

    Raises:
        StorageError: environment.
    """
    async with reading(engine) as connection:
        return await read_pledge(connection, release)


def _narrowed(item: Courseware, trial: Trial | None) -> Courseware:
    """What goes to some regions first is promised to them alone."""
    if trial is None:
        return item
    areas = [area for area in trial.areas if any(is_within(area, Region(one)) for one in item.audience)]
    inside = [one for one in item.audience if any(is_within(Region(one), area) for area in trial.areas)]
    return msgspec.structs.replace(item, audience=tuple(sorted({*areas, *inside})) or item.audience)


def together(offers: Sequence[Offer]) -> list[Offer]:
    """Lessons for the same edges, with the same turn, as one: a bulk import promises as fast as a single lesson."""
    found: dict[tuple[object, ...], list[Offer]] = {}
    for one in offers:
        found.setdefault((one.audience, one.columns, one.priority, one.expires), []).append(one)
    return [
        same[0]
        if len(same) == 1
        else Offer(
            bytes=sum(one.bytes for one in same),
            audience=same[0].audience,
            columns=same[0].columns,
            priority=same[0].priority,
            expires=same[0].expires,
        )
        for same in found.values()
    ]


async def _write(connection: AsyncConnection, release: int, now: Instant, made: ProvincePromise) -> None:
    await connection.execute(delete(promises).where(promises.c.made_at < now - KEPT_S))
    await connection.execute(delete(promises).where(promises.c.release == release))
    document = msgspec.json.encode(made).decode()
    await connection.execute(insert(promises).values(release=release, made_at=now, document=document))
