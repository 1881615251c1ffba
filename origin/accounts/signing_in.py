"""Signing in: password, then the second factor where there is one; failures are counted before they happen.

Whether a login exists cannot be told from outside: same answer, same work, same waits.
"""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import delete, select, update
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from manifests.errors import SignInError
from manifests.instants import Instant
from manifests.names import Region
from origin.accounts.credentials import Passwords, clean_password, secret_digest
from origin.accounts.guesses import Guess, address_group, count_guess, forget_guess
from origin.accounts.people import Account, account_of, fold_login
from origin.accounts.sessions import FULL, SECOND, Opened, Session, Terms, Visitor, end_session_of, open_session
from origin.accounts.throttling import buckets_of
from origin.accounts.totp import matching_step
from origin.clock import Clock
from origin.database.audit import Change, note_change
from origin.database.engine import reading, writing
from origin.database.tables import accounts, recovery_codes, sessions

_MOST_PASSWORD_BYTES: Final = 1024


class SignIns:
    """The door.

    Args:
        engine: the origin's database.
        clock: where now comes from.
        passwords: hashes and checks them.
        terms: how long sessions live.
    """

    def __init__(self, engine: AsyncEngine, clock: Clock, passwords: Passwords, terms: Terms) -> None:
        self._engine = engine
        self._clock = clock
        self._passwords = passwords
        self._terms = terms

    async def sign_in(self, login: str, password: str, visitor: Visitor, old: str = "") -> Opened:
        """Check login and password; the session is not full when a second factor is due.

        Args:
            login: as typed.
            password: as typed.
            visitor: where from.
            old: secret of a session that the browser came with; it ends.

        Raises:
            SignInError: caller's mistake; which of the two is wrong is not told.
            ThrottledError: caller's mistake; too many failures.
            BusyError: environment; too many at once.
        """
        name = fold_login(login)
        async with self._passwords.turn():
            row, device = await self._look_up(name, visitor)
            guess = await self._guess("password", name, row, device, visitor)
            is_short = len(password) <= _MOST_PASSWORD_BYTES
            kept = row.password if row is not None and row.disabled_at is None else None
            if not (await self._passwords.is_right(kept, clean_password(password)) and is_short) or row is None:
                raise SignInError("name or password is not right", zh="登录名或密码不正确", hint_zh="请核对后重试")
        async with writing(self._engine) as connection:
            now = self._clock()
            await forget_guess(connection, guess)
            if old:
                await end_session_of(connection, old, now)
            stage = FULL if row.totp is None else SECOND
            opened = await open_session(connection, row.id, stage, visitor, now, self._terms)
            if opened.is_full:
                await _note_sign_in(connection, account_of(row), now, visitor, "password")
        return opened

    async def second(self, session: Session, secret: str, code: str, visitor: Visitor) -> Opened:
        """Check the code from the app, or a recovery code; gives a new, full session in place of the first.

        Raises:
            SignInError: caller's mistake; the code is wrong or was used.
            ThrottledError: caller's mistake; too many failures.
        """
        account = session.account
        async with self._passwords.turn():
            row, device = await self._look_up(account.login, visitor)
            guess = await self._guess("second", account.login, row, device, visitor)
            async with writing(self._engine) as connection:
                now = self._clock()
                how = await take_code(connection, account.id, code, now)
                if how:
                    await forget_guess(connection, guess)
                    await end_session_of(connection, secret, now)
                    opened = await open_session(connection, account.id, FULL, visitor, now, self._terms)
                    await _note_sign_in(connection, account, now, visitor, how)
                    return opened
        raise SignInError("the code is not right", zh="验证码不正确", hint_zh="请输入验证器当前显示的 6 位数字")

    async def sign_out(self, secret: str) -> None:
        """End the session of a secret."""
        async with writing(self._engine) as connection:
            await end_session_of(connection, secret, self._clock())

    async def _look_up(self, login: str, visitor: Visitor) -> tuple[Any, str]:
        """The account's row, if there is one, and the digest of the device, if the account knows it."""
        async with reading(self._engine) as connection:
            row = (await connection.execute(select(accounts).where(accounts.c.login == login))).one_or_none()
            device = secret_digest(visitor.device) if visitor.device else ""
            known = select(sessions.c.id).where(
                sessions.c.account == (row.id if row is not None else 0),
                sessions.c.device == device,
                sessions.c.stage == FULL,
            )
            is_known = bool(device) and (await connection.execute(known.limit(1))).first() is not None
        return row, device if is_known else ""

    async def _guess(self, purpose: str, login: str, row: Any, device: str, visitor: Visitor) -> Guess:
        limits = buckets_of(purpose, secret_digest(login), address_group(visitor.address), device)
        throttled = None
        if row is not None:
            account = account_of(row)
            change = Change("signin.throttled", account.login, account.region, account.login)
            throttled = _from(change, visitor)
        return await count_guess(self._engine, self._clock, limits, throttled)


async def take_code(connection: AsyncConnection, account: int, code: str, now: Instant) -> str:
    """Take a code of the app, or a recovery code, once; returns which it was, empty when it is neither."""
    row = (await connection.execute(select(accounts).where(accounts.c.id == account))).one()
    clean = "".join(code.split()).lower()[:40]
    step = matching_step(row.totp, clean, now, row.totp_step) if row.totp else None
    if step is not None:
        # The condition again: of two requests with one code, one finds it used.
        newer = update(accounts).where(accounts.c.id == account, accounts.c.totp_step < step)
        return "totp" if (await connection.execute(newer.values(totp_step=step))).rowcount else ""
    used = delete(recovery_codes).where(
        recovery_codes.c.account == account, recovery_codes.c.digest == secret_digest(clean)
    )
    return "recovery" if row.totp and (await connection.execute(used)).rowcount else ""


async def _note_sign_in(
    connection: AsyncConnection, account: Account, now: Instant, visitor: Visitor, how: str
) -> None:
    change = Change("signin", account.login, Region(account.region), account.login, after={"how": how})
    await note_change(connection, now, _from(change, visitor))


def _from(change: Change, visitor: Visitor) -> Change:
    return Change(
        change.action, change.actor, change.region, change.subject, change.before, change.after, visitor.address
    )
