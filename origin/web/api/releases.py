"""Restoring an old release: the plan, and carrying it out."""

from __future__ import annotations

from collections import Counter
from typing import Final

import structlog

from manifests.errors import DeniedError, InputError, YuanjiaoError
from manifests.names import Region
from origin.accounts.people import Actor
from origin.accounts.permissions import Action
from origin.database.audit import note_change
from origin.database.engine import writing
from origin.publish import restore_plan
from origin.publish.release import RestoreWish
from origin.web.api.models import ByNumber
from origin.web.api.models_releases import MOST_SHOWN, RestoreBody, Restored, RestoreItem, RestorePlan, RestoreWhere
from origin.web.api.operations import Desk, Nothing, Operation

log = structlog.get_logger(__name__)

FATES: Final = tuple(str(fate) for fate in restore_plan.Fate)


class KeysAwayError(InputError):
    """The keys that a release takes are in a drawer, as they should be; somebody must bring them."""

    http_status = 409


def check_may_release(actor: Actor, owner: Region) -> None:
    """What all of the province get is for those to change who answer for all of it; a city's own, for the city's.

    Raises:
        DeniedError: caller's mistake.
    """
    if not actor.may(Action.RELEASES_MANAGE, owner):
        raise DeniedError(
            "releases are managed by whoever published them, or by the province",
            zh="发布只能由发布它的一级或省级人员管理",
        )


async def owner_of(desk: Desk, number: int) -> Region:
    """To whom a release belongs: the province, or the city that released; of one that there is not, the province."""
    return Region(await desk.releases.released_by(number) or desk.publisher)


def name_of(desk: Desk, owner: Region) -> str:
    """How the catalog of an owner is named among releases: the city's code, empty for the province."""
    return "" if owner == desk.publisher else owner


async def check_keys(desk: Desk, owner: Region, command: str) -> None:
    """Refuse early what could not be signed.

    Raises:
        KeysAwayError: environment; says which command to run instead.
    """
    if not await desk.releases.can_sign(name_of(desk, owner)):
        raise KeysAwayError(
            "the key that signs the catalog is not on this machine, or is under a passphrase",
            zh="目录签名密钥不在本机，或设有口令，控制台无法直接发布",
            hint=f"on the origin's machine, with the keys: {command} --keys DIR",
            hint_zh=f"请携带密钥，在源站服务器上运行 {command} --keys 介质目录",
        )


async def _plan(desk: Desk, actor: Actor, where: RestoreWhere, _body: Nothing) -> RestorePlan:
    back = [one for one in where.recalled.split(",") if one]
    plan = await desk.releases.foresee_restore(where.number, back)
    owner = await owner_of(desk, where.number)
    may = actor.may(Action.RELEASES_MANAGE, owner)
    return RestorePlan(
        number=plan.number,
        newest=plan.newest,
        unchanged=plan.unchanged,
        counts=_counts(plan),
        items=tuple(map(_item, plan.items[:MOST_SHOWN])),
        may_restore=may,
        keys_are_away=may and not await desk.releases.can_sign(name_of(desk, owner)),
    )


def _item(one: restore_plan.ItemFate) -> RestoreItem:
    new = one.document.version if one.document is not None else 0
    return RestoreItem(one.id, one.title, str(one.fate), one.reason, one.reason_zh, one.version, one.then, new)


def _counts(plan: restore_plan.RestorePlan) -> dict[str, int]:
    found = Counter(str(one.fate) for one in plan.items)
    return {fate: found[fate] for fate in FATES}


async def _restore(desk: Desk, actor: Actor, where: ByNumber, body: RestoreBody) -> Restored:
    """The wish is written down before it is carried out: a restore that fails half-way still says who wanted it."""
    owner = await owner_of(desk, where.number)
    check_may_release(actor, owner)
    await check_keys(desk, owner, f"yuanjiao origin restore-release DIR {where.number}")
    subject = f"release {where.number}"
    wish = RestoreWish(where.number, body.recalled, body.newest, body.partly)
    plan = await desk.releases.foresee_restore(where.number, body.recalled)
    asked = {"newest": plan.newest, "recalled": list(body.recalled), "partly": body.partly, **_counts(plan)}
    async with writing(desk.engine) as connection:
        await note_change(connection, desk.clock(), actor.did("restore.ask", owner, subject, after=asked))
    try:
        done = await desk.releases.restore(wish)
    except YuanjiaoError as error:
        failed = actor.did("restore.fail", owner, subject, after={"why": error.family})
        async with writing(desk.engine) as connection:
            await note_change(connection, desk.clock(), failed)
        raise
    after = {"catalog_version": done.catalog_version, **_counts(done.plan)}
    async with writing(desk.engine) as connection:
        change = actor.did("restore.done", owner, subject, before={"newest": done.plan.newest}, after=after)
        await note_change(connection, desk.clock(), change)
    log.info("restored", release=where.number, by=actor.account.login, catalog_version=done.catalog_version)
    return Restored(where.number, done.catalog_version, done.changed, _counts(done.plan))


OPERATIONS = (
    Operation(
        "releases.plan_restore",
        "GET",
        "/releases/{number}/restore",
        "What restoring a release would change, lesson by lesson with the reason; changes nothing",
        "恢复某次发布的方案：逐个课件说明去向和原因，不作任何更改",
        _plan,
        where=RestoreWhere,
        answer=RestorePlan,
        action=Action.RELEASES_MANAGE,
    ),
    Operation(
        "releases.restore",
        "POST",
        "/releases/{number}/restore",
        "Offer anew what a release offered, in one new release; recalled lessons stay recalled unless named",
        "恢复某次发布：以新版本号一次性重新提供当时的课件；已撤回的保持撤回，除非逐个指明",
        _restore,
        where=ByNumber,
        body=RestoreBody,
        answer=Restored,
        action=Action.RELEASES_MANAGE,
    ),
)
