"""What people change about themselves: password, second factor, recovery codes, tokens for scripts."""

from __future__ import annotations

import base64
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import delete, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from manifests.errors import DeniedError, InputError, NotFoundError
from manifests.instants import Instant
from manifests.names import parse_label
from origin.accounts.credentials import Passwords, check_password, new_recovery_code, new_secret, secret_digest
from origin.accounts.guesses import Guess, count_guess, forget_guess
from origin.accounts.people import Actor, account_of, end_everything
from origin.accounts.permissions import RIGHTS, Action, needs_second_factor
from origin.accounts.signing_in import take_code
from origin.accounts.throttling import DEVICE
from origin.accounts.totp import SECRET_BYTES, enrolment_uri, matching_step
from origin.clock import Clock
from origin.database.audit import note_change
from origin.database.engine import reading, writing
from origin.database.tables import accounts, recovery_codes, tokens

RECOVERY_CODES: Final = 10
MOST_TOKENS: Final = 50
TOKEN_PREFIX: Final = "yj_"  # noqa: S105 - how a token begins, so that one in a file is known for what it is
_USED_EVERY_S: Final = 300
_ISSUER: Final = "Yuanjiao"


@dataclass(frozen=True, slots=True)
class Token:
    """A token without its secret."""

    id: int
    name: str
    scopes: tuple[str, ...]
    created_at: Instant
    expires_at: Instant
    used_at: Instant | None


async def change_password(
    engine: AsyncEngine, passwords: Passwords, actor: Actor, old: str, new: str, clock: Clock
) -> None:
    """Set a new password; the actor's other sessions and all tokens end.

    Raises:
        DeniedError: caller's mistake; the present password is not right.
        ThrottledError: caller's mistake; too many guesses.
        InputError: bad data; the new one is refused.
    """
    account = actor.account
    async with passwords.turn():
        guess = await _guess(engine, actor, "password", clock)
        async with reading(engine) as connection:
            kept = select(accounts.c.password).where(accounts.c.id == account.id)
            present = (await connection.execute(kept)).scalar_one()
        if not await passwords.is_right(present, old):
            raise DeniedError("the present password is not right", zh="当前密码不正确", hint_zh="请核对后重试")
        async with writing(engine) as connection:
            await forget_guess(connection, guess)
        clean = check_password(new, account.login, account.name)
        if await passwords.is_right(present, clean):
            raise InputError("the new password is the present one", zh="新密码不能与当前密码相同")
        hashed = await passwords.hash(clean)
    async with writing(engine) as connection:
        now = clock()
        values = {"password": hashed, "password_at": now}
        await connection.execute(update(accounts).where(accounts.c.id == account.id).values(**values))
        await end_everything(connection, account.id, now, but=actor.session)
        await note_change(connection, now, actor.did("account.password", account.region, account.login))


async def begin_second_factor(engine: AsyncEngine, actor: Actor, code: str, clock: Clock) -> tuple[str, str]:
    """Make a secret for the app; nothing changes until a code proves that the app has it.

    Args:
        engine: the origin's database.
        actor: whose it will be.
        code: of the present second factor, if there is one: a session that was left open must not replace it.
        clock: where now comes from.

    Returns:
        The secret in base32, and what the QR code says.

    Raises:
        DeniedError: caller's mistake; the code is not right.
        ThrottledError: caller's mistake; too many guesses.
    """
    if actor.account.has_second_factor:
        await _prove_code(engine, actor, code, clock)
    secret = base64.b32encode(secrets.token_bytes(SECRET_BYTES)).decode().rstrip("=")
    async with writing(engine) as connection:
        pending = update(accounts).where(accounts.c.id == actor.account.id).values(totp_pending=secret)
        await connection.execute(pending)
    return secret, enrolment_uri(secret, actor.account.login, _ISSUER)


async def confirm_second_factor(engine: AsyncEngine, actor: Actor, code: str, clock: Clock) -> tuple[str, ...]:
    """Turn the second factor on; other sessions end.

    Returns:
        Recovery codes, shown once.

    Raises:
        InputError: bad data; the code does not fit, or nothing was begun.
    """
    account = actor.account
    async with writing(engine) as connection:
        now = clock()
        row = (await connection.execute(select(accounts).where(accounts.c.id == account.id))).one()
        clean = "".join(code.split())[:40]
        step = matching_step(row.totp_pending, clean, now, 0) if row.totp_pending else None
        if step is None:
            raise InputError("the code does not fit", zh="验证码不正确", hint_zh="请输入验证器当前显示的 6 位数字")
        values = {"totp": row.totp_pending, "totp_pending": None, "totp_step": step}
        await connection.execute(update(accounts).where(accounts.c.id == account.id).values(**values))
        await end_everything(connection, account.id, now, but=actor.session, with_tokens=False)
        codes = await _new_codes(connection, account.id)
        change = actor.did("account.totp", account.region, account.login, after={"second_factor": True})
        await note_change(connection, now, change)
    return codes


async def renew_recovery_codes(engine: AsyncEngine, actor: Actor, code: str, clock: Clock) -> tuple[str, ...]:
    """Make new recovery codes; the old ones open nothing any more.

    Raises:
        DeniedError: caller's mistake; the code is not right.
    """
    await _prove_code(engine, actor, code, clock)
    async with writing(engine) as connection:
        codes = await _new_codes(connection, actor.account.id)
        change = actor.did("account.codes", actor.account.region, actor.account.login)
        await note_change(connection, clock(), change)
    return codes


async def end_second_factor(engine: AsyncEngine, actor: Actor, code: str, clock: Clock) -> None:
    """Turn the second factor off.

    Raises:
        DeniedError: caller's mistake; the code is not right, or the role cannot be without.
    """
    account = actor.account
    if needs_second_factor(account.grant.role):
        raise DeniedError("this role cannot be without a second factor", zh="该角色必须使用双重验证")
    await _prove_code(engine, actor, code, clock)
    async with writing(engine) as connection:
        values = {"totp": None, "totp_pending": None}
        await connection.execute(update(accounts).where(accounts.c.id == account.id).values(**values))
        await connection.execute(delete(recovery_codes).where(recovery_codes.c.account == account.id))
        change = actor.did("account.totp", account.region, account.login, after={"second_factor": False})
        await note_change(connection, clock(), change)


async def count_recovery_codes(engine: AsyncEngine, actor: Actor) -> int:
    """How many recovery codes are left."""
    query = select(func.count()).where(recovery_codes.c.account == actor.account.id)
    async with reading(engine) as connection:
        return int((await connection.execute(query)).scalar_one())


async def make_token(
    engine: AsyncEngine, actor: Actor, name: str, scopes: Iterable[Action], days: int, clock: Clock
) -> tuple[Token, str]:
    """Make a token for a script; it may do what its scopes and its owner's role both allow.

    Returns:
        The token, and its secret, shown once.

    Raises:
        InputError: bad data; no scope, one that the role lacks, a bad name, or too many tokens.
    """
    label = parse_label(name, "token name", "令牌名称")
    wanted = sorted(set(scopes))
    if not wanted or not set(wanted) <= RIGHTS[actor.account.grant.role]:
        raise InputError("scopes are empty, or beyond the role", zh="权限范围不能为空，也不能超出自己的角色")
    secret = TOKEN_PREFIX + new_secret()
    async with writing(engine) as connection:
        now = clock()
        mine = (tokens.c.account == actor.account.id, tokens.c.ended_at.is_(None), tokens.c.expires_at > now)
        if (await connection.execute(select(func.count()).where(*mine))).scalar_one() >= MOST_TOKENS:
            raise InputError(f"{MOST_TOKENS} tokens are enough", zh=f"令牌数量已达上限（{MOST_TOKENS} 个）")
        values = {
            "digest": secret_digest(secret),
            "account": actor.account.id,
            "name": label,
            "scopes": " ".join(wanted),
            "created_at": now,
            "expires_at": now + days * 86400,
        }
        made = await connection.execute(insert(tokens).values(**values))
        number = int((made.inserted_primary_key or (0,))[0])
        after = {"name": label, "scopes": wanted}
        await note_change(
            connection, now, actor.did("token.create", actor.account.region, actor.account.login, after=after)
        )
        row = (await connection.execute(select(tokens).where(tokens.c.id == number))).one()
    return _token(row), secret


async def list_tokens(engine: AsyncEngine, actor: Actor, clock: Clock) -> tuple[Token, ...]:
    """The actor's own tokens that still open something, newest first."""
    query = select(tokens).where(
        tokens.c.account == actor.account.id, tokens.c.ended_at.is_(None), tokens.c.expires_at > clock()
    )
    async with reading(engine) as connection:
        return tuple(_token(row) for row in await connection.execute(query.order_by(tokens.c.id.desc())))


async def end_token(engine: AsyncEngine, actor: Actor, number: int, clock: Clock) -> None:
    """Make one of the actor's tokens worthless.

    Raises:
        NotFoundError: bad data; the actor has no such token.
    """
    async with writing(engine) as connection:
        own = (tokens.c.id == number, tokens.c.account == actor.account.id, tokens.c.ended_at.is_(None))
        row = (await connection.execute(select(tokens).where(*own))).one_or_none()
        if row is None:
            raise NotFoundError(f"there is no token {number}", zh="没有这个令牌")
        now = clock()
        await connection.execute(update(tokens).where(*own).values(ended_at=now))
        change = actor.did("token.end", actor.account.region, actor.account.login, before={"name": row.name})
        await note_change(connection, now, change)


async def find_token(engine: AsyncEngine, secret: str, address: str, clock: Clock) -> Actor | None:
    """Whoever a token stands for; None when it opens nothing."""
    now = clock()
    query = (
        select(tokens.c.id.label("token"), tokens.c.scopes, tokens.c.used_at, accounts)
        .join_from(tokens, accounts, tokens.c.account == accounts.c.id)
        .where(
            tokens.c.digest == secret_digest(secret),
            tokens.c.ended_at.is_(None),
            tokens.c.expires_at > now,
            accounts.c.disabled_at.is_(None),
        )
    )
    async with reading(engine) as connection:
        row = (await connection.execute(query)).one_or_none()
    if row is None:
        return None
    if now - (row.used_at or 0) >= _USED_EVERY_S:
        async with writing(engine) as connection:
            await connection.execute(update(tokens).where(tokens.c.id == row.token).values(used_at=now))
    return Actor(account_of(row), frozenset(Action(one) for one in row.scopes.split()), None, address)


async def _new_codes(connection: AsyncConnection, account: int) -> tuple[str, ...]:
    codes = tuple(new_recovery_code() for _ in range(RECOVERY_CODES))
    await connection.execute(delete(recovery_codes).where(recovery_codes.c.account == account))
    rows = [{"account": account, "digest": secret_digest(code)} for code in codes]
    await connection.execute(insert(recovery_codes), rows)
    return codes


async def _prove_code(engine: AsyncEngine, actor: Actor, code: str, clock: Clock) -> None:
    guess = await _guess(engine, actor, "code", clock)
    async with writing(engine) as connection:
        is_right = await take_code(connection, actor.account.id, code, clock())
        if is_right:
            await forget_guess(connection, guess)
    if not is_right:
        raise DeniedError("the code is not right", zh="验证码不正确", hint_zh="请输入验证器当前显示的 6 位数字")


async def _guess(engine: AsyncEngine, actor: Actor, what: str, clock: Clock) -> Guess:
    """Guesses from within a session count for the account, however many sessions somebody stole."""
    limits = {f"own-{what}:{secret_digest(actor.account.login)}": DEVICE}
    throttled = actor.did("signin.throttled", actor.account.region, actor.account.login)
    return await count_guess(engine, clock, limits, throttled)


def _token(row: Any) -> Token:
    used = None if row.used_at is None else Instant(row.used_at)
    scopes = tuple(row.scopes.split())
    return Token(row.id, row.name, scopes, Instant(row.created_at), Instant(row.expires_at), used)
