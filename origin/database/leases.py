"""A right that one process at a time has, over however many machines: a row with a holder, a deadline and a number.

The deadline is told by the database's clock, so the machines' own do not matter. The number goes up at every taking:
who was held up for so long that another took over carries an old one, and `check_lease` refuses what he still writes.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Float, cast, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from manifests.errors import BusyError
from origin.database.tables import leases


@dataclass(frozen=True, slots=True)
class Lease:
    """The right, as one taking of it; `fence` is its number."""

    name: str
    fence: int


@dataclass(frozen=True, slots=True)
class Holder:
    """Who asks for a right.

    Attributes:
        name: for people to read.
        place: where only one process at a time asks; a right that this place has is one that its last process left.
    """

    name: str
    place: str


async def take_lease(connection: AsyncConnection, name: str, holder: Holder, term_s: float) -> Lease | None:
    """Take a right that nobody has, or whose holder let its deadline pass; None while another has it.

    Args:
        connection: within a writing transaction of a server.
        name: of the right.
        holder: who takes it.
        term_s: how long it lasts without being renewed.
    """
    now = await _now_ms(connection)
    row = (await connection.execute(select(leases).where(leases.c.name == name))).one_or_none()
    values = {"holder": holder.name, "place": holder.place, "until_ms": now + int(term_s * 1000)}
    if row is None:
        await connection.execute(insert(leases).values(name=name, fence=1, **values))
        return Lease(name, 1)
    if row.until_ms > now and row.place != holder.place:
        return None
    # As it was read: the holder renews without waiting for its turn to write.
    unchanged = (leases.c.name == name) & (leases.c.fence == row.fence) & (leases.c.until_ms == row.until_ms)
    done = await connection.execute(update(leases).where(unchanged).values(fence=row.fence + 1, **values))
    return Lease(name, row.fence + 1) if done.rowcount == 1 else None


async def renew_lease(connection: AsyncConnection, lease: Lease, term_s: float) -> bool:
    """Move the deadline; False when another has taken the right meanwhile. Need not wait for its turn to write."""
    until_ms = await _now_ms(connection) + int(term_s * 1000)
    return await _set_deadline(connection, lease, until_ms)


async def give_back_lease(connection: AsyncConnection, lease: Lease) -> bool:
    """Let the next one have it at once; False when another has it already."""
    return await _set_deadline(connection, lease, 0)


async def check_lease(connection: AsyncConnection, lease: Lease) -> None:
    """Refuse what is written in this transaction unless the right is still ours.

    Raises:
        BusyError: environment; another has taken it. Nothing of the transaction stays.
    """
    row = (await connection.execute(select(leases.c.fence, leases.c.holder).where(leases.c.name == lease.name))).one()
    if row.fence != lease.fence:
        raise BusyError(
            f"this process was held up for so long that {row.holder} took over; nothing more was written",
            zh=f"本进程停顿过久，已由 {row.holder} 接替，未再写入任何内容",
        )


async def holder_of(connection: AsyncConnection, name: str) -> str:
    """Who has the right now or had it last; empty when nobody ever did."""
    return (await connection.execute(select(leases.c.holder).where(leases.c.name == name))).scalar_one_or_none() or ""


async def _set_deadline(connection: AsyncConnection, lease: Lease, until_ms: int) -> bool:
    mine = (leases.c.name == lease.name) & (leases.c.fence == lease.fence)
    done = await connection.execute(update(leases).where(mine).values(until_ms=until_ms))
    return done.rowcount == 1


async def _now_ms(connection: AsyncConnection) -> int:
    seconds = cast(func.extract("epoch", func.clock_timestamp()), Float)
    return int((await connection.execute(select(seconds * 1000))).scalar_one())
