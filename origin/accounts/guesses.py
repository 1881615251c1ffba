"""Counting guesses at passwords and codes, so that `throttling` can say who must wait.

An attempt is counted as a failure before it is looked at, and forgotten when it was none: a hundred attempts at once
cannot all pass before the first has failed.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass

import structlog
from sqlalchemy import delete, func, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from manifests.errors import ThrottledError
from manifests.instants import Instant
from origin.accounts.throttling import WINDOW_S, Failures, Limit, plan_wait
from origin.clock import Clock
from origin.database.audit import Change, note_change
from origin.database.engine import writing
from origin.database.tables import attempts

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Guess:
    """One attempt that was counted."""

    rows: tuple[int, ...]
    limits: Mapping[str, Limit]


async def count_guess(
    engine: AsyncEngine, clock: Clock, limits: Mapping[str, Limit], throttled: Change | None
) -> Guess:
    """Count an attempt as a failure.

    Args:
        engine: the origin's database.
        clock: where now comes from.
        limits: by bucket, as `throttling.buckets_of` gives them.
        throttled: what to write into the audit when this attempt makes the next one wait; None for nothing.

    Raises:
        ThrottledError: caller's mistake; it must wait, is not counted, and does not lengthen the wait.
    """
    now = clock()
    rows: list[int] = []
    async with writing(engine) as connection:
        failures = await _failures(connection, limits, now)
        wait_s = plan_wait(failures, limits, now)
        if not wait_s:
            await connection.execute(delete(attempts).where(attempts.c.at <= now - WINDOW_S))
            for bucket in limits:
                made = await connection.execute(insert(attempts).values(bucket=bucket, at=now))
                rows.append(int((made.inserted_primary_key or (0,))[0]))
            begins = any(name in failures and failures[name].count + 1 == one.free for name, one in limits.items())
            if begins and throttled is not None:
                await note_change(connection, now, throttled)
    if wait_s:
        log.warning("guesses_throttled", wait_s=wait_s, account=throttled.subject if throttled else "")
        raise ThrottledError(wait_s)
    return Guess(tuple(rows), limits)


async def forget_guess(connection: AsyncConnection, guess: Guess) -> None:
    """It was right; and those before it from the same place were the owner's own."""
    own = [name for name in guess.limits if ":address:" not in name and ":account:" not in name]
    await connection.execute(delete(attempts).where(attempts.c.id.in_(guess.rows) | attempts.c.bucket.in_(own)))


def address_group(address: str) -> str:
    """What one customer of a network has: an IPv4 address, or the first half of an IPv6 one."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address[:64]
    if parsed.version == 6:
        return str(ipaddress.ip_network((parsed, 64), strict=False).network_address)
    return str(parsed)


async def _failures(connection: AsyncConnection, limits: Mapping[str, Limit], now: Instant) -> dict[str, Failures]:
    query = (
        select(attempts.c.bucket, func.count().label("count"), func.max(attempts.c.at).label("last"))
        .where(attempts.c.bucket.in_(list(limits)), attempts.c.at > now - WINDOW_S)
        .group_by(attempts.c.bucket)
    )
    rows = await connection.execute(query)
    return {row.bucket: Failures(row[1], Instant(row.last)) for row in rows}
