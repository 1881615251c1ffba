"""Accounts as values and rows: reading them, naming them, changing them. Secrets of accounts stay inside this room."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import func, select, update
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from manifests.errors import DeniedError, InputError, NotFoundError
from manifests.instants import Instant
from manifests.names import Region, is_within, parse_label
from origin.accounts.permissions import Action, Grant, Role, is_allowed, is_fitting, may_grant
from origin.clock import Clock
from origin.database.audit import Change, note_change
from origin.database.engine import reading, writing
from origin.database.tables import accounts, invitations, sessions, tokens

_LOGIN: Final = re.compile(r"[a-z0-9\u4e00-\u9fa5][a-z0-9\u4e00-\u9fa5._-]{1,31}")


@dataclass(frozen=True, slots=True)
class Account:
    """One account, without its secrets.

    Attributes:
        login: what is typed to sign in; never changes, the audit names people by it.
        has_second_factor: a code from an app is asked for beside the password.
    """

    id: int
    login: str
    name: str
    grant: Grant
    has_second_factor: bool
    created_at: Instant
    disabled_at: Instant | None

    @property
    def region(self) -> Region:
        """Where the account's word counts."""
        return self.grant.region


@dataclass(frozen=True, slots=True)
class Actor:
    """Whoever asks for something, and how they came in.

    Attributes:
        scopes: what the API token in use is limited to; None for a session.
        session: number of the session in use; None for a token.
        address: where the request comes from, for the audit.
    """

    account: Account
    scopes: frozenset[Action] | None
    session: int | None
    address: str

    def may(self, action: Action, region: Region) -> bool:
        """Tell whether this may be done to what belongs to `region`."""
        return (self.scopes is None or action in self.scopes) and is_allowed(self.account.grant, action, region)

    def did(self, action: str, region: Region, subject: str, **values: Any) -> Change:
        """An audit row of something that this actor does; `before` and `after` go through."""
        return Change(action, self.account.login, region, subject, address=self.address, **values)


@dataclass(frozen=True, slots=True)
class Changes:
    """What is to be changed about an account; None leaves it."""

    name: str | None = None
    role: Role | None = None
    region: Region | None = None
    is_disabled: bool | None = None


def parse_login(text: str) -> str:
    """Check a login: 2–32 letters (a–z, Chinese), digits, dot, hyphen, underscore; capitals are folded.

    Raises:
        InputError: bad data.
    """
    login = fold_login(text)
    if not _LOGIN.fullmatch(login):
        raise InputError(
            f"login {text[:40]!a} is refused: 2-32 letters, digits, . _ -, a letter or digit first",
            zh="登录名不合规：2–32 位汉字、字母、数字、点、横线或下划线，首位须为汉字、字母或数字",
        )
    return login


def fold_login(text: str) -> str:
    """One spelling for one login."""
    return unicodedata.normalize("NFKC", text).strip().casefold()[:64]


def parse_person(text: str) -> str:
    """Check a person's name."""
    return parse_label(text, "name", "姓名")


def check_grant(grant: Grant) -> None:
    """Refuse a role at a level where it does not exist.

    Raises:
        InputError: bad data.
    """
    if not is_fitting(grant):
        raise InputError(
            f"role {grant.role} does not exist for region {grant.region}",
            zh="该角色与所选地区的级别不符",
            hint="a province admin belongs to a province, a city admin to a city, a county operator to a county",
            hint_zh="省级管理员对应省，市级管理员对应市，县级运维对应县（市、区）",
        )


def account_of(row: Any) -> Account:
    """A row of `accounts` as a value."""
    return Account(
        id=row.id,
        login=row.login,
        name=row.name,
        grant=Grant(Role(row.role), Region(row.region)),
        has_second_factor=row.totp is not None,
        created_at=Instant(row.created_at),
        disabled_at=None if row.disabled_at is None else Instant(row.disabled_at),
    )


async def list_accounts(engine: AsyncEngine, actor: Actor) -> tuple[Account, ...]:
    """All accounts in the actor's region, by region and login.

    Raises:
        StorageError: environment.
    """
    async with reading(engine) as connection:
        rows = await connection.execute(select(accounts).order_by(accounts.c.region, accounts.c.login))
        every = [account_of(row) for row in rows]
    return tuple(one for one in every if is_within(one.region, actor.account.region))


async def find_account(connection: AsyncConnection, actor: Actor, number: int) -> Account:
    """One account in the actor's region.

    Raises:
        NotFoundError: bad data; there is none, or it is another region's, which is not told.
    """
    row = (await connection.execute(select(accounts).where(accounts.c.id == number))).one_or_none()
    if row is None or not is_within(Region(row.region), actor.account.region):
        raise NotFoundError(f"there is no account {number}", zh=f"没有编号为 {number} 的账号")
    return account_of(row)


def check_may_manage(actor: Actor, *grants: Grant) -> None:
    """Refuse to give or take away roles that are not the actor's to give.

    Raises:
        DeniedError: caller's mistake.
    """
    is_in_scope = actor.scopes is None or Action.ACCOUNTS_MANAGE in actor.scopes
    if not is_in_scope or not all(may_grant(actor.account.grant, one) for one in grants):
        raise DeniedError("this role in this region is not yours to give or take", zh="无权授予或变更该地区的这一角色")


async def change_account(engine: AsyncEngine, actor: Actor, number: int, wanted: Changes, clock: Clock) -> Account:
    """Change name, role, region, or whether the account may be used at all. Works at once on open sessions.

    Raises:
        NotFoundError: bad data; no such account in the actor's region.
        DeniedError: caller's mistake; the old or the new role is not the actor's to give, or it is their own account.
        InputError: bad data; the role does not fit, or nobody would be left to manage the province.
    """
    async with writing(engine) as connection:
        old = await find_account(connection, actor, number)
        grant = Grant(wanted.role or old.grant.role, wanted.region or old.region)
        check_grant(grant)
        check_may_manage(actor, old.grant, grant)
        is_own = old.id == actor.account.id
        if is_own and (grant != old.grant or wanted.is_disabled):
            raise DeniedError("nobody changes their own role or disables themselves", zh="不能变更自己的角色或停用自己")
        now = clock()
        disabled_at = old.disabled_at
        if wanted.is_disabled is not None:
            disabled_at = (old.disabled_at or now) if wanted.is_disabled else None
        name = parse_person(wanted.name) if wanted.name is not None else old.name
        new = {"name": name, "role": grant.role, "region": grant.region, "disabled_at": disabled_at}
        was = {"name": old.name, "role": old.grant.role, "region": old.region, "disabled_at": old.disabled_at}
        changed = [key for key, value in new.items() if value != was[key]]
        if changed:
            await _keep_a_province_admin(connection, old, grant, disabled_at)
            await connection.execute(update(accounts).where(accounts.c.id == number).values(**new))
            if disabled_at is not None:
                await end_everything(connection, number, now)
                # Whom they invited and who has not come yet stays outside, until somebody else invites them.
                sent = update(invitations).where(invitations.c.by == old.login, invitations.c.ended_at.is_(None))
                await connection.execute(sent.values(ended_at=now))
            before, after = ({key: one[key] for key in changed} for one in (was, new))
            change = actor.did("account.change", grant.region, old.login, before=before, after=after)
            await note_change(connection, now, change)
        return await find_account_by_number(connection, number)


async def find_account_by_number(connection: AsyncConnection, number: int) -> Account:
    """One account, whoever asks."""
    return account_of((await connection.execute(select(accounts).where(accounts.c.id == number))).one())


async def end_everything(
    connection: AsyncConnection, account: int, now: Instant, *, but: int | None = None, with_tokens: bool = True
) -> None:
    """End an account's sessions, all but one; and what else would let somebody in: tokens, links to a new password."""
    query = update(sessions).where(sessions.c.account == account, sessions.c.ended_at.is_(None))
    if but is not None:
        query = query.where(sessions.c.id != but)
    await connection.execute(query.values(ended_at=now))
    if with_tokens:
        for table in (tokens, invitations):
            open_ones = update(table).where(table.c.account == account, table.c.ended_at.is_(None))
            await connection.execute(open_ones.values(ended_at=now))


async def _keep_a_province_admin(
    connection: AsyncConnection, old: Account, grant: Grant, disabled_at: Instant | None
) -> None:
    stays = grant.role is Role.PROVINCE_ADMIN and disabled_at is None
    if old.grant.role is not Role.PROVINCE_ADMIN or stays:
        return
    others = select(func.count()).where(
        accounts.c.role == Role.PROVINCE_ADMIN, accounts.c.disabled_at.is_(None), accounts.c.id != old.id
    )
    if (await connection.execute(others)).scalar_one() == 0:
        raise InputError("the last province admin stays", zh="至少须保留一名可用的省级管理员")
