"""One's own account: who am I, password, second factor, devices, tokens."""

from __future__ import annotations

from typing import Any

from manifests.instants import dump_instant
from origin.accounts import profile, sessions
from origin.accounts.people import Actor
from origin.accounts.permissions import RIGHTS, needs_second_factor
from origin.web.api.models import ByNumber
from origin.web.api.models_people import (
    CodeBody,
    DeviceList,
    DeviceRow,
    Enrolment,
    Me,
    NewToken,
    PasswordBody,
    RecoveryCodes,
    TokenBody,
    TokenList,
    TokenRow,
)
from origin.web.api.operations import Desk, Nothing, Operation
from origin.web.api.texts import instant_text


async def _me(_desk: Desk, actor: Actor, _where: Nothing, _body: Nothing) -> Me:
    account = actor.account
    rights = RIGHTS[account.grant.role]
    return Me(
        login=account.login,
        name=account.name,
        role=account.grant.role,
        region=account.region,
        has_second_factor=account.has_second_factor,
        needs_second_factor=needs_second_factor(account.grant.role),
        scopes=tuple(sorted(rights if actor.scopes is None else rights & actor.scopes)),
    )


async def _password(desk: Desk, actor: Actor, _where: Nothing, body: PasswordBody) -> None:
    await profile.change_password(desk.engine, desk.passwords, actor, body.present, body.new, desk.clock)


async def _begin(desk: Desk, actor: Actor, _where: Nothing, body: CodeBody) -> Enrolment:
    return Enrolment(*await profile.begin_second_factor(desk.engine, actor, body.code, desk.clock))


async def _confirm(desk: Desk, actor: Actor, _where: Nothing, body: CodeBody) -> RecoveryCodes:
    return RecoveryCodes(await profile.confirm_second_factor(desk.engine, actor, body.code, desk.clock))


async def _codes(desk: Desk, actor: Actor, _where: Nothing, body: CodeBody) -> RecoveryCodes:
    return RecoveryCodes(await profile.renew_recovery_codes(desk.engine, actor, body.code, desk.clock))


async def _off(desk: Desk, actor: Actor, _where: Nothing, body: CodeBody) -> None:
    await profile.end_second_factor(desk.engine, actor, body.code, desk.clock)


async def _devices(desk: Desk, actor: Actor, _where: Nothing, _body: Nothing) -> DeviceList:
    found = await sessions.list_devices(desk.engine, actor, desk.clock, desk.terms)
    return DeviceList(
        tuple(
            DeviceRow(
                one.id, dump_instant(one.created_at), dump_instant(one.seen_at), one.address, one.agent, one.is_this
            )
            for one in found
        )
    )


async def _end_device(desk: Desk, actor: Actor, where: ByNumber, _body: Nothing) -> None:
    await sessions.end_session(desk.engine, actor, where.number, desk.clock)


async def _tokens(desk: Desk, actor: Actor, _where: Nothing, _body: Nothing) -> TokenList:
    return TokenList(tuple(_row(one) for one in await profile.list_tokens(desk.engine, actor, desk.clock)))


async def _make_token(desk: Desk, actor: Actor, _where: Nothing, body: TokenBody) -> NewToken:
    made, secret = await profile.make_token(desk.engine, actor, body.name, body.scopes, body.days, desk.clock)
    return NewToken(_row(made), secret)


async def _end_token(desk: Desk, actor: Actor, where: ByNumber, _body: Nothing) -> None:
    await profile.end_token(desk.engine, actor, where.number, desk.clock)


def _row(one: profile.Token) -> TokenRow:
    created, expires = dump_instant(one.created_at), dump_instant(one.expires_at)
    return TokenRow(one.id, one.name, one.scopes, created, expires, instant_text(one.used_at))


def _own(name: str, method: Any, path: str, summary: str, summary_zh: str, run: Any, **more: Any) -> Operation:
    """Of one's own account, for a person who is signed in; also before the second factor is set up."""
    return Operation(
        f"me.{name}",
        method,
        f"/me{path}",
        summary,
        summary_zh,
        run,
        own_session=True,
        without_second_factor=True,
        **more,
    )


OPERATIONS = (
    Operation(
        "me",
        "GET",
        "/me",
        "Who is asking, and what they may do",
        "当前账号及权限",
        _me,
        answer=Me,
        without_second_factor=True,
    ),
    _own("password", "POST", "/password", "Set a new password", "修改密码", _password, body=PasswordBody),
    _own(
        "totp.begin",
        "POST",
        "/second-factor",
        "Begin to set up the second factor",
        "开始设置双重验证",
        _begin,
        body=CodeBody,
        answer=Enrolment,
    ),
    _own(
        "totp.confirm",
        "POST",
        "/second-factor/confirm",
        "Prove that the app has the secret; gives recovery codes",
        "确认验证器并取得恢复码",
        _confirm,
        body=CodeBody,
        answer=RecoveryCodes,
    ),
    _own(
        "totp.codes",
        "POST",
        "/second-factor/codes",
        "Make new recovery codes",
        "重新生成恢复码",
        _codes,
        body=CodeBody,
        answer=RecoveryCodes,
    ),
    _own("totp.off", "POST", "/second-factor/off", "Turn the second factor off", "关闭双重验证", _off, body=CodeBody),
    _own("devices", "GET", "/devices", "One's own sessions", "已登录的设备", _devices, answer=DeviceList),
    _own("devices.end", "DELETE", "/devices/{number}", "End one of them", "退出某个设备", _end_device, where=ByNumber),
    _own("tokens", "GET", "/tokens", "One's own tokens for scripts", "接口令牌", _tokens, answer=TokenList),
    Operation(
        "me.tokens.create",
        "POST",
        "/me/tokens",
        "Make a token; its secret is shown once",
        "新建接口令牌；只显示一次",
        _make_token,
        body=TokenBody,
        answer=NewToken,
        own_session=True,
    ),
    _own("tokens.end", "DELETE", "/tokens/{number}", "Make a token worthless", "作废令牌", _end_token, where=ByNumber),
)
