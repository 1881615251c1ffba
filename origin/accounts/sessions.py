"""Sessions: rows that say which browser is whose, so that each can be listed and ended.

A browser holds a random secret, the row its digest. A session is made anew at every step that gives more rights
(password, second factor, new password), so a secret that somebody planted beforehand never comes to mean anything.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import delete, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from manifests.errors import NotFoundError
from manifests.instants import Instant
from origin.accounts.credentials import new_secret, secret_digest
from origin.accounts.people import Account, Actor, account_of
from origin.clock import Clock
from origin.database.audit import note_change
from origin.database.engine import reading, writing
from origin.database.tables import accounts, sessions

SECOND, FULL = "second", "full"
SECOND_S: Final = 600
_SEEN_EVERY_S: Final = 300
# Ended ones are kept for the list of devices, and because they say which devices an account knows.
_KEPT_S: Final = 90 * 86400


@dataclass(frozen=True, slots=True)
class Visitor:
    """Where a request comes from.

    Attributes:
        device: the secret that marks this browser, from its cookie; empty when it has none.
    """

    address: str
    agent: str
    device: str = ""


@dataclass(frozen=True, slots=True)
class Terms:
    """How long a session lives: since it was last used, and at most."""

    idle_s: int
    most_s: int


@dataclass(frozen=True, slots=True)
class Opened:
    """A new session: its secret and that of the device, for cookies.

    Attributes:
        is_full: False while the second factor is still asked for.
    """

    secret: str
    device: str
    is_full: bool


@dataclass(frozen=True, slots=True)
class Session:
    """A session that is open."""

    id: int
    account: Account
    is_full: bool
    device: str


@dataclass(frozen=True, slots=True)
class Device:
    """A session as its owner sees it in the list."""

    id: int
    created_at: Instant
    seen_at: Instant
    address: str
    agent: str
    is_this: bool


async def open_session(
    connection: AsyncConnection, account: int, stage: str, visitor: Visitor, now: Instant, terms: Terms
) -> Opened:
    """Make a session; within the caller's transaction."""
    secret, device = new_secret(), visitor.device or new_secret()
    values = {
        "digest": secret_digest(secret),
        "account": account,
        "stage": stage,
        "device": secret_digest(device),
        "created_at": now,
        "seen_at": now,
        "expires_at": now + (terms.most_s if stage == FULL else SECOND_S),
        "address": visitor.address[:64],
        "agent": visitor.agent[:200],
    }
    await connection.execute(insert(sessions).values(**values))
    await connection.execute(delete(sessions).where(sessions.c.expires_at < now - _KEPT_S))
    return Opened(secret, device, stage == FULL)


async def find_session(engine: AsyncEngine, secret: str, clock: Clock, terms: Terms) -> Session | None:
    """The open session of a secret; None when there is none, it ran out, or its account is disabled.

    Raises:
        StorageError: environment.
    """
    now = clock()
    query = (
        select(sessions.c.id.label("session"), sessions.c.stage, sessions.c.seen_at, sessions.c.device, accounts)
        .join_from(sessions, accounts, sessions.c.account == accounts.c.id)
        .where(
            sessions.c.digest == secret_digest(secret),
            sessions.c.ended_at.is_(None),
            sessions.c.expires_at > now,
            sessions.c.seen_at > now - terms.idle_s,
            accounts.c.disabled_at.is_(None),
        )
    )
    async with reading(engine) as connection:
        row = (await connection.execute(query)).one_or_none()
    if row is None:
        return None
    if now - row.seen_at >= _SEEN_EVERY_S:
        async with writing(engine) as connection:
            await connection.execute(update(sessions).where(sessions.c.id == row.session).values(seen_at=now))
    return Session(row.session, account_of(row), row.stage == FULL, row.device)


async def list_devices(engine: AsyncEngine, actor: Actor, clock: Clock, terms: Terms) -> tuple[Device, ...]:
    """The actor's own open sessions, newest use first."""
    now = clock()
    query = (
        select(sessions)
        .where(
            sessions.c.account == actor.account.id,
            sessions.c.stage == FULL,
            sessions.c.ended_at.is_(None),
            sessions.c.expires_at > now,
            sessions.c.seen_at > now - terms.idle_s,
        )
        .order_by(sessions.c.seen_at.desc(), sessions.c.id.desc())
    )
    async with reading(engine) as connection:
        rows = (await connection.execute(query)).all()
    return tuple(_device(row, actor.session) for row in rows)


async def end_session(engine: AsyncEngine, actor: Actor, number: int, clock: Clock) -> None:
    """End one of the actor's own sessions; the device is unknown again, should somebody have taken it.

    Raises:
        NotFoundError: bad data; the actor has no such session.
    """
    async with writing(engine) as connection:
        now = clock()
        own = (sessions.c.id == number, sessions.c.account == actor.account.id, sessions.c.ended_at.is_(None))
        row = (await connection.execute(select(sessions).where(*own))).one_or_none()
        if row is None:
            raise NotFoundError(f"there is no session {number}", zh="没有这个登录设备")
        values: dict[str, Any] = {"ended_at": now}
        if number != actor.session:
            same = (sessions.c.account == row.account, sessions.c.device == row.device)
            await connection.execute(update(sessions).where(*same).values(device=""))
        await connection.execute(update(sessions).where(*own).values(**values))
        before = {"agent": row.agent, "address": row.address}
        change = actor.did("session.end", actor.account.region, actor.account.login, before=before)
        await note_change(connection, now, change)


async def end_session_of(connection: AsyncConnection, secret: str, now: Instant) -> None:
    """End the session of a secret, whatever its stage; nothing happens when there is none."""
    query = update(sessions).where(sessions.c.digest == secret_digest(secret), sessions.c.ended_at.is_(None))
    await connection.execute(query.values(ended_at=now))


def _device(row: Any, current: int | None) -> Device:
    return Device(row.id, Instant(row.created_at), Instant(row.seen_at), row.address, row.agent, row.id == current)
