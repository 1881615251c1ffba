"""Pilots: those that run and ran, starting one, sending it on, stopping it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import structlog
from sqlalchemy import Row

from manifests.errors import InputError
from manifests.instants import Instant, dump_instant
from manifests.names import Region, is_within, parse_courseware_id, parse_reason
from origin.accounts.people import Actor
from origin.accounts.permissions import Action
from origin.database.audit import Change, note_change
from origin.database.engine import reading, writing
from origin.database.offerings import RUNNING
from origin.publish import pilot_store
from origin.publish.pilot_plan import EdgeReport, PilotWish, Terms
from origin.publish.piloting import Looked, Pilots, Stepped
from origin.stations.regions import load_regions
from origin.web.api.lessons import owner_of_lesson
from origin.web.api.models import PAGE, ByLesson, ByNumber
from origin.web.api.models_pilots import (
    GoOnBody,
    Pilot,
    PilotBody,
    PilotEdge,
    PilotList,
    PilotPlan,
    PilotPlanWhere,
    PilotRow,
    PilotStarted,
    PilotStepped,
    PilotsWhere,
    PlannedEdge,
    StopBody,
)
from origin.web.api.operations import Desk, Nothing, Operation
from origin.web.api.releases import check_keys, check_may_release, name_of
from origin.web.api.texts import instant_text

log = structlog.get_logger(__name__)

_COMMAND = "yuanjiao origin pilots DIR"


async def _list(desk: Desk, _actor: Actor, where: PilotsWhere, _body: Nothing) -> PilotList:
    async with reading(desk.engine) as connection:
        rows = await pilot_store.pilot_rows(connection, where.before, where.courseware or "", PAGE + 1)
    shown = tuple(map(_row, rows[:PAGE]))
    return PilotList(shown, shown[-1].number if len(rows) > PAGE else None)


def _row(row: Row[Any]) -> PilotRow:
    pilot = pilot_store.read_pilot(row)
    return PilotRow(
        number=pilot.id,
        courseware=pilot.courseware,
        title=pilot.title,
        version=pilot.version,
        base=pilot.base,
        state=row.state,
        wave=pilot.wave + 1,
        waves=pilot.waves,
        started=dump_instant(Instant(row.started_at)),
        started_by=row.started_by,
        wave_at=dump_instant(pilot.wave_at),
        ended=instant_text(row.ended_at),
        by_itself=row.by_itself,
        reason=row.reason,
        reason_zh=row.reason_zh,
    )


async def _get(desk: Desk, actor: Actor, where: ByNumber, _body: Nothing) -> Pilot:
    looked = await Pilots(desk.releases).look(where.number)
    async with reading(desk.engine) as connection:
        row = await pilot_store.pilot_row(connection, where.number)
    assert row is not None  # noqa: S101 - it was there a moment ago, and rows are never deleted
    owner = await owner_of_lesson(desk, looked.pilot.courseware)
    may = actor.may(Action.RELEASES_MANAGE, owner) and row.state == RUNNING
    plan = looked.plan
    return Pilot(
        pilot=_row(row),
        terms=looked.pilot.terms,
        deadline=dump_instant(looked.pilot.deadline),
        step=str(plan.step),
        reason=plan.reason,
        reason_zh=plan.reason_zh,
        meant=plan.meant,
        proved=plan.proved,
        failed=plan.failed,
        edges=_edges(looked, actor),
        may_manage=may,
        keys_are_away=may and not await desk.releases.can_sign(name_of(desk, owner)),
    )


def _edges(looked: Looked, actor: Actor) -> tuple[PilotEdge, ...]:
    return tuple(
        PilotEdge(
            edge=one.edge.code,
            name=one.edge.name,
            region=one.edge.region,
            wave=one.wave + 1,
            standing=str(one.standing),
            held=one.edge.held,
            heard=instant_text(one.edge.heard_at),
            reason=one.reason,
            reason_zh=one.reason_zh,
        )
        for one in looked.plan.edges
        if actor.may(Action.EDGES_READ, one.edge.region)
    )


async def _plan(desk: Desk, actor: Actor, where: PilotPlanWhere, _body: Nothing) -> PilotPlan:
    waves = read_waves(desk, [wave.split() for wave in where.waves.split(";") if wave.strip()])
    wish = PilotWish(waves, desk.pilot_terms)
    found = await Pilots(desk.releases).foresee(where.id, where.version, wish)
    return PilotPlan(
        id=found.source.id,
        title=found.source.title,
        source=found.source.version,
        version=found.version,
        base=found.base.version if found.base is not None else None,
        waves=waves,
        edges=tuple(
            tuple(_planned(one) for one in wave if actor.may(Action.EDGES_READ, one.region)) for wave in found.waves
        ),
        terms=desk.pilot_terms,
    )


def _planned(one: EdgeReport) -> PlannedEdge:
    return PlannedEdge(one.code, one.name, one.region, one.held, instant_text(one.heard_at), one.faults)


def read_waves(desk: Desk, waves: Sequence[Sequence[str]]) -> tuple[tuple[Region, ...], ...]:
    """Regions by code or name, within what this origin publishes for.

    Raises:
        InputError: bad data.
    """
    regions = load_regions()
    found = tuple(tuple(dict.fromkeys(regions.find(one).code for one in wave)) for wave in waves)
    for area in {area for wave in found for area in wave}:
        if not is_within(area, desk.publisher):
            raise InputError(f"region {area} lies outside {desk.publisher}", zh=f"地区 {area} 不在本省范围内")
    return found


async def _start(desk: Desk, actor: Actor, where: ByLesson, body: PilotBody) -> PilotStarted:
    id_ = parse_courseware_id(where.id)
    owner = await owner_of_lesson(desk, id_)
    check_may_release(actor, owner)
    await check_keys(desk, owner, "yuanjiao publish FILE… --origin DIR --pilot REGIONS")
    own = desk.pilot_terms
    terms = Terms(
        enough_percent=own.enough_percent if body.enough_percent is None else body.enough_percent,
        most_failed=own.most_failed if body.most_failed is None else body.most_failed,
        failed_minutes=own.failed_minutes if body.failed_minutes is None else body.failed_minutes,
        deadline_hours=own.deadline_hours if body.deadline_hours is None else body.deadline_hours,
    )
    wish = PilotWish(read_waves(desk, body.waves), terms, actor.account.login)
    done = await Pilots(desk.releases).start(id_, body.version, wish)
    after = {"version": done.version, "catalog_version": done.catalog_version, "waves": [list(w) for w in wish.waves]}
    await _note(desk, actor.did("pilot.start", owner, id_, before={"version": body.version}, after=after))
    return PilotStarted(done.id, done.version, done.catalog_version)


async def _check_may_step(desk: Desk, actor: Actor, number: int) -> None:
    looked = await Pilots(desk.releases).look(number)
    owner = await owner_of_lesson(desk, looked.pilot.courseware)
    check_may_release(actor, owner)
    await check_keys(desk, owner, _COMMAND)


async def _go_on(desk: Desk, actor: Actor, where: ByNumber, body: GoOnBody) -> PilotStepped:
    await _check_may_step(desk, actor, where.number)
    done = await Pilots(desk.releases).go_on(where.number, body.wave - 1, actor.account.login)
    await _note_step(desk, actor, done, {})
    return PilotStepped(str(done.looked.plan.step), done.catalog_version)


async def _stop(desk: Desk, actor: Actor, where: ByNumber, body: StopBody) -> PilotStepped:
    reason = parse_reason(body.reason)
    await _check_may_step(desk, actor, where.number)
    done = await Pilots(desk.releases).stop(where.number, actor.account.login, reason)
    await _note_step(desk, actor, done, {"reason": reason})
    return PilotStepped(str(done.looked.plan.step), done.catalog_version)


async def _note_step(desk: Desk, actor: Actor, done: Stepped, more: dict[str, Any]) -> None:
    if not done.catalog_version:
        return
    pilot, plan = done.looked.pilot, done.looked.plan
    counts = {"meant": plan.meant, "proved": plan.proved, "failed": plan.failed}
    after = {"pilot": pilot.id, "version": pilot.version, "catalog_version": done.catalog_version, **counts, **more}
    before = {"wave": pilot.wave + 1}
    owner = await owner_of_lesson(desk, pilot.courseware)
    await _note(desk, actor.did(f"pilot.{plan.step}", owner, pilot.courseware, before=before, after=after))


async def _note(desk: Desk, change: Change) -> None:
    async with writing(desk.engine) as connection:
        await note_change(connection, desk.clock(), change)
    log.info("pilot_changed", action=change.action, by=change.actor, subject=change.subject)


OPERATIONS = (
    Operation(
        "pilots.list",
        "GET",
        "/pilots",
        "Pilots that run and ran, newest first",
        "试点列表，新的在前",
        _list,
        where=PilotsWhere,
        answer=PilotList,
        action=Action.RELEASES_READ,
    ),
    Operation(
        "pilots.get",
        "GET",
        "/pilots/{number}",
        "One pilot: its waves, each edge with its standing and reason, and what happens next",
        "单个试点：各批、各边缘服务器的状态和原因，以及下一步",
        _get,
        where=ByNumber,
        answer=Pilot,
        action=Action.RELEASES_READ,
    ),
    Operation(
        "pilots.plan",
        "GET",
        "/lessons/{id}/pilot",
        "What a pilot would come to: the new version and the edges of each wave; changes nothing",
        "试点方案：新版本号和各批涉及的边缘服务器，不作任何更改",
        _plan,
        where=PilotPlanWhere,
        answer=PilotPlan,
        action=Action.RELEASES_MANAGE,
    ),
    Operation(
        "pilots.start",
        "POST",
        "/lessons/{id}/pilot",
        "Offer the content of a version to some regions first; it goes on, or stops, by their receipts",
        "开始试点：某一版本的内容先面向部分地区，按回执推进或停止",
        _start,
        where=ByLesson,
        body=PilotBody,
        answer=PilotStarted,
        action=Action.RELEASES_MANAGE,
    ),
    Operation(
        "pilots.go_on",
        "POST",
        "/pilots/{number}/go-on",
        "Go on to the next wave, or to all after the last, whatever the receipts say",
        "不等回执，直接进入下一批；最后一批之后面向全部地区",
        _go_on,
        where=ByNumber,
        body=GoOnBody,
        answer=PilotStepped,
        action=Action.RELEASES_MANAGE,
    ),
    Operation(
        "pilots.stop",
        "POST",
        "/pilots/{number}/stop",
        "Stop a pilot: its regions go back to what all others have",
        "停止试点：试点地区退回其他地区正在使用的内容",
        _stop,
        where=ByNumber,
        body=StopBody,
        answer=PilotStepped,
        action=Action.RELEASES_MANAGE,
    ),
)
