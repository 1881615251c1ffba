"""Invitations: a link that lets somebody in once, with a role; or lets somebody set a new password.

The link's secret is shown once, to whoever made it. Looking at the link uses nothing up; setting the password does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import delete, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from manifests.errors import InputError, NotFoundError, SignInError
from manifests.instants import Instant
from manifests.names import Region, is_within
from origin.accounts.credentials import Passwords, check_password, new_secret, secret_digest
from origin.accounts.people import (
    Account,
    Actor,
    account_of,
    check_grant,
    check_may_manage,
    end_everything,
    find_account,
    fold_login,
    parse_login,
    parse_person,
)
from origin.accounts.permissions import Grant, Role
from origin.clock import Clock
from origin.database.audit import Change, note_change
from origin.database.engine import reading, writing
from origin.database.tables import accounts, invitations, recovery_codes

PATH: Final = "/console/invitation"


@dataclass(frozen=True, slots=True)
class Invitation:
    """An invitation without its secret; `login` is given for a new password only."""

    id: int
    login: str | None
    name: str
    grant: Grant
    by: str
    created_at: Instant
    expires_at: Instant


@dataclass(frozen=True, slots=True)
class Link:
    """A new invitation's secret, shown once."""

    id: int
    secret: str
    expires_at: Instant

    @property
    def path(self) -> str:
        """Where it is used, below the origin's address."""
        return f"{PATH}?code={self.secret}"


async def invite(engine: AsyncEngine, actor: Actor | None, name: str, grant: Grant, clock: Clock, days: int) -> Link:
    """Invite somebody.

    Args:
        engine: the origin's database.
        actor: who invites; None for the command line on the origin's machine.
        name: the person's name.
        grant: what they may do where.
        clock: where now comes from.
        days: how long the link is valid.

    Raises:
        InputError: bad data.
        DeniedError: caller's mistake; the role is not the actor's to give.
    """
    person = parse_person(name)
    check_grant(grant)
    if actor is not None:
        check_may_manage(actor, grant)
    async with writing(engine) as connection:
        now = clock()
        link = await _write(connection, actor, now, days, name=person, grant=grant)
        after = {"role": grant.role, "region": grant.region}
        await note_change(connection, now, _change(actor, "invitation.create", grant.region, person, after=after))
    return link


async def invite_back(engine: AsyncEngine, actor: Actor | None, account: int | str, clock: Clock, days: int) -> Link:
    """Make a link by which an account gets a new password; what it has goes on until the link is used.

    Args:
        engine: the origin's database.
        actor: who asks; None for the command line on the origin's machine.
        account: its number, or its login for the command line.
        clock: where now comes from.
        days: how long the link is valid.

    Raises:
        NotFoundError: bad data; no such account in the actor's region.
        DeniedError: caller's mistake; the account is not the actor's to manage.
    """
    async with writing(engine) as connection:
        if actor is None:
            row = await connection.execute(select(accounts).where(accounts.c.login == fold_login(str(account))))
            found = row.one_or_none()
            if found is None:
                raise NotFoundError(f"there is no account {str(account)[:40]!r}", zh=f"没有账号 {str(account)[:40]!r}")
            whose = account_of(found)
        else:
            whose = await find_account(connection, actor, int(account))
            check_may_manage(actor, whose.grant)
        now = clock()
        link = await _write(connection, actor, now, days, name=whose.name, grant=whose.grant, whose=whose)
        await note_change(connection, now, _change(actor, "account.reset", whose.region, whose.login))
    return link


async def list_invitations(engine: AsyncEngine, actor: Actor, clock: Clock) -> tuple[Invitation, ...]:
    """Open invitations in the actor's region, newest first."""
    query = select(invitations).where(invitations.c.ended_at.is_(None), invitations.c.expires_at > clock())
    async with reading(engine) as connection:
        rows = (await connection.execute(query.order_by(invitations.c.id.desc()))).all()
    return tuple(_value(row) for row in rows if is_within(Region(row.region), actor.account.region))


async def revoke_invitation(engine: AsyncEngine, actor: Actor, number: int, clock: Clock) -> None:
    """Make a link worthless.

    Raises:
        NotFoundError: bad data; no such open invitation in the actor's region.
        DeniedError: caller's mistake; it is not the actor's to take back.
    """
    async with writing(engine) as connection:
        now = clock()
        row = (await connection.execute(select(invitations).where(invitations.c.id == number))).one_or_none()
        if row is None or row.ended_at is not None or not is_within(Region(row.region), actor.account.region):
            raise NotFoundError(f"there is no invitation {number}", zh="没有这个邀请，或已失效")
        found = _value(row)
        check_may_manage(actor, found.grant)
        await connection.execute(update(invitations).where(invitations.c.id == number).values(ended_at=now))
        await note_change(connection, now, _change(actor, "invitation.revoke", found.grant.region, found.name))


async def look_at_invitation(engine: AsyncEngine, secret: str, clock: Clock) -> Invitation:
    """What a link offers; uses nothing up.

    Raises:
        SignInError: caller's mistake; unknown, used, taken back or run out.
    """
    async with reading(engine) as connection:
        return _value(await _open_row(connection, secret, clock()))


async def accept(
    engine: AsyncEngine, passwords: Passwords, secret: str, login: str, password: str, clock: Clock, address: str
) -> Account:
    """Use a link up: a new account with this login, or a new password for the account that it names.

    A new password ends all sessions and tokens of the account, takes its second factor away and enables it.

    Raises:
        SignInError: caller's mistake; the link is not good, or not any more.
        InputError: bad data; the login is refused or taken, or the password too weak. The link stays good.
    """
    offered = await look_at_invitation(engine, secret, clock)
    name = offered.login or parse_login(login)
    clean = check_password(password, name, offered.name)
    async with passwords.turn():
        hashed = await passwords.hash(clean)
    async with writing(engine) as connection:
        now = clock()
        row = await _open_row(connection, secret, now)
        used = update(invitations).where(invitations.c.id == row.id, invitations.c.ended_at.is_(None))
        if (await connection.execute(used.values(ended_at=now))).rowcount != 1:
            raise _not_good()
        values: dict[str, Any] = {"password": hashed, "password_at": now, "totp": None, "totp_pending": None}
        if row.account is not None:
            await connection.execute(
                update(accounts).where(accounts.c.id == row.account).values(**values, disabled_at=None)
            )
            await connection.execute(delete(recovery_codes).where(recovery_codes.c.account == row.account))
            await end_everything(connection, row.account, now)
        else:
            await _insert_account(connection, name, offered, values, now)
        found = await connection.execute(select(accounts).where(accounts.c.login == name))
        account = account_of(found.one())
        action = "account.password" if row.account is not None else "account.create"
        after = {} if row.account is not None else {"role": account.grant.role, "name": account.name}
        change = Change(action, account.login, account.region, account.login, after=after, address=address)
        await note_change(connection, now, change)
    return account


async def _insert_account(
    connection: AsyncConnection, login: str, offered: Invitation, values: dict[str, Any], now: Instant
) -> None:
    taken = await connection.execute(select(accounts.c.id).where(accounts.c.login == login))
    if taken.first() is not None:
        raise InputError(f"the login {login} is taken", zh=f"登录名 {login} 已被使用")
    grant = offered.grant
    await connection.execute(
        insert(accounts).values(
            login=login, name=offered.name, role=grant.role, region=grant.region, totp_step=0, created_at=now, **values
        )
    )


async def _write(
    connection: AsyncConnection,
    actor: Actor | None,
    now: Instant,
    days: int,
    *,
    name: str,
    grant: Grant,
    whose: Account | None = None,
) -> Link:
    secret, expires_at = new_secret(), Instant(now + days * 86400)
    values = {
        "digest": secret_digest(secret),
        "account": whose.id if whose else None,
        "login": whose.login if whose else None,
        "name": name,
        "role": grant.role,
        "region": grant.region,
        "by": actor.account.login if actor else None,
        "created_at": now,
        "expires_at": expires_at,
    }
    made = await connection.execute(insert(invitations).values(**values))
    return Link(int((made.inserted_primary_key or (0,))[0]), secret, expires_at)


async def _open_row(connection: AsyncConnection, secret: str, now: Instant) -> Any:
    row = (
        await connection.execute(select(invitations).where(invitations.c.digest == secret_digest(secret)))
    ).one_or_none()
    if row is None or row.ended_at is not None or row.expires_at <= now:
        raise _not_good()
    return row


def _not_good() -> SignInError:
    return SignInError(
        "this link is not good, or not any more",
        zh="链接无效、已使用或已过期",
        hint="ask whoever sent it for a new one",
        hint_zh="请联系发送者重新发送",
    )


def _change(actor: Actor | None, action: str, region: Region, subject: str, **values: Any) -> Change:
    return actor.did(action, region, subject, **values) if actor else Change(action, "", region, subject, **values)


def _value(row: Any) -> Invitation:
    return Invitation(
        id=row.id,
        login=row.login,
        name=row.name,
        grant=Grant(Role(row.role), Region(row.region)),
        by=row.by or "",
        created_at=Instant(row.created_at),
        expires_at=Instant(row.expires_at),
    )
