"""Accounts, invitations and the audit, within one's own region."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from zoneinfo import ZoneInfo

from sqlalchemy.engine import Row

from manifests.errors import InputError
from manifests.instants import Instant, dump_instant
from origin.accounts import invitations, people
from origin.accounts.people import Account, Actor, Changes
from origin.accounts.permissions import Action, Grant, may_grant
from origin.database.audit import AuditFilter, list_changes
from origin.database.engine import reading
from origin.stations.regions import load_regions
from origin.web.api.models import PAGE, ByNumber
from origin.web.api.models_people import (
    AccountBody,
    AccountList,
    AccountRow,
    AuditList,
    AuditRow,
    AuditWhere,
    InvitationBody,
    InvitationLink,
    InvitationList,
    InvitationRow,
)
from origin.web.api.operations import Desk, Nothing, Operation
from origin.web.api.texts import RegionNames, instant_text

# The province lives by one clock: the days of a filter are its days.
ZONE: Final = ZoneInfo("Asia/Shanghai")
_EXPORT_AT_ONCE: Final = 500
MOST_EXPORTED: Final = 200_000


async def _accounts(desk: Desk, actor: Actor, _where: Nothing, _body: Nothing) -> AccountList:
    names = RegionNames(load_regions())
    return AccountList(tuple(_row(one, actor, names) for one in await people.list_accounts(desk.engine, actor)))


def _row(one: Account, actor: Actor, names: RegionNames) -> AccountRow:
    return AccountRow(
        number=one.id,
        login=one.login,
        name=one.name,
        role=one.grant.role,
        region=one.region,
        region_name=names.path(one.region),
        has_second_factor=one.has_second_factor,
        created=dump_instant(one.created_at),
        disabled=instant_text(one.disabled_at),
        may_manage=may_grant(actor.account.grant, one.grant) and one.id != actor.account.id,
    )


async def _change(desk: Desk, actor: Actor, where: ByNumber, body: AccountBody) -> AccountRow:
    region = load_regions().find(body.region).code if body.region else None
    wanted = Changes(body.name, body.role, region, body.disabled)
    changed = await people.change_account(desk.engine, actor, where.number, wanted, desk.clock)
    return _row(changed, actor, RegionNames(load_regions()))


async def _reset(desk: Desk, actor: Actor, where: ByNumber, _body: Nothing) -> InvitationLink:
    return _link(await invitations.invite_back(desk.engine, actor, where.number, desk.clock, desk.invitation_days))


async def _invitations(desk: Desk, actor: Actor, _where: Nothing, _body: Nothing) -> InvitationList:
    names = RegionNames(load_regions())
    found = await invitations.list_invitations(desk.engine, actor, desk.clock)
    return InvitationList(
        tuple(
            InvitationRow(
                number=one.id,
                login=one.login,
                name=one.name,
                role=one.grant.role,
                region=one.grant.region,
                region_name=names.path(one.grant.region),
                by=one.by,
                created=dump_instant(one.created_at),
                expires=dump_instant(one.expires_at),
                may_manage=may_grant(actor.account.grant, one.grant),
            )
            for one in found
        )
    )


async def _invite(desk: Desk, actor: Actor, _where: Nothing, body: InvitationBody) -> InvitationLink:
    grant = Grant(body.role, load_regions().find(body.region).code)
    return _link(await invitations.invite(desk.engine, actor, body.name, grant, desk.clock, desk.invitation_days))


async def _revoke(desk: Desk, actor: Actor, where: ByNumber, _body: Nothing) -> None:
    await invitations.revoke_invitation(desk.engine, actor, where.number, desk.clock)


def _link(link: invitations.Link) -> InvitationLink:
    return InvitationLink(link.id, link.path, dump_instant(link.expires_at))


async def _audit(desk: Desk, actor: Actor, where: AuditWhere, _body: Nothing) -> AuditList:
    async with reading(desk.engine) as connection:
        rows = await list_changes(connection, _filter(actor, where), PAGE + 1)
    shown = tuple(_audit_row(row) for row in rows[:PAGE])
    return AuditList(shown, shown[-1].number if len(rows) > PAGE else None)


async def exported(desk: Desk, actor: Actor, where: AuditWhere) -> AsyncIterator[AuditRow]:
    """All changes that match, newest first, read in portions: an export must not hold the database while it is sent."""
    before = where.before
    for _ in range(0, MOST_EXPORTED, _EXPORT_AT_ONCE):
        async with reading(desk.engine) as connection:
            rows = await list_changes(connection, _filter(actor, where, before), _EXPORT_AT_ONCE)
        for row in rows:
            yield _audit_row(row)
        if len(rows) < _EXPORT_AT_ONCE:
            return
        before = rows[-1].id


def _filter(actor: Actor, where: AuditWhere, before: int | None = None) -> AuditFilter:
    return AuditFilter(
        area=actor.account.region,
        actor=people.fold_login(where.actor),
        action=where.action.strip(),
        subject=where.subject.strip(),
        since=_day(where.since, 0),
        until=_day(where.until, 1),
        before=before or where.before,
    )


def _day(text: str, later: int) -> Instant | None:
    if not text:
        return None
    try:
        local = datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=ZONE) + timedelta(days=later)
        return Instant(int(local.astimezone(UTC).timestamp()))
    except (ValueError, OverflowError) as error:
        raise InputError(f"there is no day {text!r}", zh=f"没有 {text} 这一天") from error


def _audit_row(row: Row[Any]) -> AuditRow:
    return AuditRow(
        number=row.id,
        at=dump_instant(Instant(row.at)),
        actor=row.actor or "",
        action=row.action,
        region=row.region or "",
        subject=row.subject or "",
        detail=row.detail,
        before=row.before or "",
        after=row.after or "",
        address=row.address or "",
    )


def _managing(name: str, method: Any, path: str, summary: str, summary_zh: str, run: Any, **more: Any) -> Operation:
    return Operation(name, method, path, summary, summary_zh, run, action=Action.ACCOUNTS_MANAGE, **more)


OPERATIONS = (
    Operation(
        "accounts.list",
        "GET",
        "/accounts",
        "Accounts of one's region",
        "本地区的账号",
        _accounts,
        answer=AccountList,
        action=Action.ACCOUNTS_READ,
    ),
    _managing(
        "accounts.change",
        "PATCH",
        "/accounts/{number}",
        "Change name, role or region of an account, or disable it",
        "变更账号的姓名、角色、地区，或停用",
        _change,
        where=ByNumber,
        body=AccountBody,
        answer=AccountRow,
    ),
    _managing(
        "accounts.reset",
        "POST",
        "/accounts/{number}/reset",
        "Make a link by which the account gets a new password",
        "生成重设密码的链接",
        _reset,
        where=ByNumber,
        answer=InvitationLink,
        own_session=True,
    ),
    Operation(
        "invitations.list",
        "GET",
        "/invitations",
        "Open invitations of one's region",
        "本地区尚未使用的邀请",
        _invitations,
        answer=InvitationList,
        action=Action.ACCOUNTS_READ,
    ),
    _managing(
        "invitations.create",
        "POST",
        "/invitations",
        "Invite somebody; the link is shown once",
        "邀请人员；链接只显示一次",
        _invite,
        body=InvitationBody,
        answer=InvitationLink,
        own_session=True,
    ),
    _managing(
        "invitations.revoke",
        "DELETE",
        "/invitations/{number}",
        "Make an invitation's link worthless",
        "作废邀请链接",
        _revoke,
        where=ByNumber,
    ),
    Operation(
        "audit.list",
        "GET",
        "/audit",
        "A page of the audit: who changed what, when, from what to what",
        "审计日志：何人、何时、变更了什么、变更前后",
        _audit,
        where=AuditWhere,
        answer=AuditList,
        action=Action.AUDIT_READ,
    ),
)
