"""Pilots carried out: looked at each minute, and widened, finished or stopped by one new release.

Every step is decided twice: once without the publish lock, to find out whether there is anything to do, and once under
it, by what is then in the database. So of several origin processes one acts, and what somebody did meanwhile stands.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

import msgspec
import structlog
from sqlalchemy.ext.asyncio import AsyncConnection

from manifests.errors import InputError, NotFoundError, YuanjiaoError
from manifests.instants import Instant
from manifests.model import Courseware
from manifests.names import Region, parse_courseware_id
from origin.chores import keep_doing
from origin.database import library, offerings
from origin.database.audit import Change, note_change
from origin.database.engine import reading, writing
from origin.database.offerings import DONE, RUNNING, STOPPED, NewOffering
from origin.database.offerings import Step as Mark
from origin.database.releases import NewVersion
from origin.metrics import Metrics
from origin.publish import pilot_store
from origin.publish.pilot_plan import (
    EdgeReport,
    PilotWish,
    RunningPilot,
    Step,
    WavePlan,
    areas_until,
    check_waves,
    plan_wave,
    wave_of,
)
from origin.publish.planner import check_document, substance
from origin.publish.press import Job, Press
from origin.publish.release import Released, Releases
from origin.publish.restoring import Patches, gone_blobs, make_patches, pairs_between, with_patches

log = structlog.get_logger(__name__)

_KINDS: Final = {Step.GO_ON: "pilot", Step.FINISH: "pilot_done", Step.STOP: "pilot_stop"}


@dataclass(frozen=True, slots=True)
class Looked:
    """A pilot that runs, and the verdict on it."""

    pilot: RunningPilot
    plan: WavePlan


@dataclass(frozen=True, slots=True)
class Stepped:
    """What was done about a pilot; `catalog_version` is 0 when that was nothing."""

    looked: Looked
    catalog_version: int


@dataclass(frozen=True, slots=True)
class Foreseen:
    """What starting a pilot would come to.

    Attributes:
        source: the version whose content would be tried.
        version: its new number.
        base: what all others keep; None when the lesson is not offered now.
        waves: edges that each wave would reach, as they report now.
    """

    source: Courseware
    version: int
    base: Courseware | None
    waves: tuple[tuple[EdgeReport, ...], ...]


class Pilots:
    """Starts pilots, looks at them and carries out what the plan says."""

    def __init__(self, releases: Releases) -> None:
        self._releases = releases
        self._shop = releases.shop

    async def start(self, courseware_id: str, version: int, wish: PilotWish) -> Released:
        """Try the content of an earlier version of a lesson in some regions, under a new number.

        Raises:
            NotFoundError: bad data; no such version was published.
            InputError: bad data; it is offered already, was recalled, or a pilot of this lesson runs.
            StorageError: environment; the old release is whole.
        """
        id_ = parse_courseware_id(courseware_id)
        await self._releases.check_ready(await self._releases.owner(id_) or "")
        async with reading(self._shop.engine) as connection:
            tried, current = await _to_try(connection, id_, version)
        held = [current.files] if current is not None else []
        patches = await make_patches(self._shop, pairs_between(held, tried.files))
        return await self._releases.act(lambda press: _start(press, id_, version, wish, patches))

    async def foresee(self, courseware_id: str, version: int, wish: PilotWish) -> Foreseen:
        """What `start` would do. Changes nothing.

        Raises:
            NotFoundError, InputError: as `start`.
        """
        id_ = parse_courseware_id(courseware_id)
        async with reading(self._shop.engine) as connection:
            tried, current = await _to_try(connection, id_, version)
            check_waves(wish.waves, tried.audience)
            highest = (await offerings.highest_versions(connection, [id_]))[id_]
            reports = await pilot_store.edge_reports(connection, tried, Instant(0))
        last = len(wish.waves) - 1
        reached = tuple(
            tuple(one for one in reports if wave_of(wish.waves, last, one.region) == wave) for wave in range(last + 1)
        )
        return Foreseen(tried, highest + 1, current, reached)

    async def look(self, number: int) -> Looked:
        """One pilot and the verdict on it, at its end as it was; see `plan_wave`.

        Raises:
            NotFoundError: bad data; there is no such pilot.
        """
        async with reading(self._shop.engine) as connection:
            row = await pilot_store.pilot_row(connection, number)
            if row is None or row.state in pilot_store.NEVER_RAN:
                raise NotFoundError(f"there is no pilot {number}", zh=f"没有编号为 {number} 的试点")
            return await _looked(connection, pilot_store.read_pilot(row), self._shop.clock())

    async def look_at_all(self) -> tuple[Looked, ...]:
        """All that run, each with its verdict: what `step_all` would do."""
        async with reading(self._shop.engine) as connection:
            running = await pilot_store.running_pilots(connection)
            now = self._shop.clock()
            return tuple([await _looked(connection, pilot, now) for pilot in running])

    async def step_all(self) -> tuple[Stepped, ...]:
        """Do what is due for each pilot that runs; one that fails holds no other up, and is told of at the end.

        Raises:
            ConfigurationError: environment; the key that signs a release is absent. Nothing was changed.
            StorageError: environment; the old release is whole.
        """
        done: list[Stepped] = []
        fault: YuanjiaoError | None = None
        for looked in await self.look_at_all():
            try:
                acts = looked.plan.step is not Step.WAIT and await self._can_sign(looked)
                done.append(await self._step(looked, lambda one: one.plan) if acts else Stepped(looked, 0))
            except YuanjiaoError as error:
                fault = fault or error
        if fault is not None:
            raise fault
        return tuple(done)

    async def go_on(self, number: int, wave: int, by: str) -> Stepped:
        """Go on from a wave to the next, or to all after the last, whatever the receipts say.

        It does nothing when the pilot has gone on from that wave already: who presses a button twice means it once.

        Raises:
            NotFoundError: bad data; there is no such pilot.
            InputError: bad data; it has ended.
        """
        reason, reason_zh = f"sent on by {by}", f"由 {by} 决定继续"

        def forced(one: Looked) -> WavePlan:
            if one.pilot.wave != wave:
                return replace(one.plan, step=Step.WAIT)
            is_last = one.pilot.wave + 1 >= len(one.pilot.waves)
            step, following = (Step.FINISH, wave) if is_last else (Step.GO_ON, wave + 1)
            return replace(one.plan, step=step, reason=reason, reason_zh=reason_zh, next_wave=following)

        return await self._step(await self._running(number), forced, by)

    async def stop(self, number: int, by: str, reason: str) -> Stepped:
        """Stop it: the regions that took part go back.

        Raises:
            NotFoundError: bad data; there is no such pilot.
            InputError: bad data; it has ended.
        """

        def stopped(one: Looked) -> WavePlan:
            return replace(one.plan, step=Step.STOP, reason=f"{by}: {reason}", reason_zh=f"{by}：{reason}")

        return await self._step(await self._running(number), stopped, by)

    async def _running(self, number: int) -> Looked:
        looked = await self.look(number)
        async with reading(self._shop.engine) as connection:
            row = await pilot_store.pilot_row(connection, number)
        if row is None or row.state != RUNNING:
            raise InputError(f"pilot {number} has ended", zh="该试点已经结束")
        return looked

    async def _can_sign(self, looked: Looked) -> bool:
        """A city whose key is away waits for it; the pilots of others go on meanwhile."""
        owner = await self._releases.owner(looked.pilot.courseware)
        return not owner or await self._releases.can_sign(owner)

    async def _step(self, looked: Looked, decide: Callable[[Looked], WavePlan], by: str = "") -> Stepped:
        stops, owner = decide(looked).step is Step.STOP, await self._releases.owner(looked.pilot.courseware) or ""
        if not stops or not await self._releases.can_sign(owner):
            await self._releases.check_ready(owner)
        patches: Patches = {}
        if stops and looked.pilot.base is not None:
            async with reading(self._shop.engine) as connection:
                base, tried = await _versions(connection, looked.pilot)
            patches = await make_patches(self._shop, pairs_between([tried.files], base.files))
        # What proved bad must go back on a full disk too.
        work = partial(_carry_out, number=looked.pilot.id, decide=decide, patches=patches, by=by)
        return await self._releases.act(work, at_all_costs=stops)


async def keep_pilots(pilots: Pilots, metrics: Metrics, every_s: float) -> None:
    """Look at all pilots now and then every `every_s`, until cancelled."""

    async def look() -> None:
        for one in await pilots.step_all():
            metrics.count("pilot_looks", outcome=str(one.looked.plan.step))

    await keep_doing("pilots", look, every_s, failed=lambda: metrics.count("pilot_looks", outcome="failed"))


async def _looked(connection: AsyncConnection, pilot: RunningPilot, now: Instant) -> Looked:
    documents = await offerings.documents_of(connection, [(pilot.courseware, pilot.version)])
    item = documents[pilot.courseware, pilot.version]
    reports = await pilot_store.edge_reports(connection, item, pilot.wave_at)
    return Looked(pilot, plan_wave(pilot, reports, now))


async def _versions(connection: AsyncConnection, pilot: RunningPilot) -> tuple[Courseware, Courseware]:
    """What all others have, and what is on trial; the same when the lesson is new."""
    keys = [(pilot.courseware, pilot.version), (pilot.courseware, pilot.base or pilot.version)]
    found = await offerings.documents_of(connection, keys)
    return found[keys[1]], found[keys[0]]


async def _carry_out(
    press: Press, number: int, decide: Callable[[Looked], WavePlan], patches: Patches, by: str
) -> Stepped:
    """One step, by what the database says now. The caller holds the publish lock and has repaired."""
    async with reading(press.shop.engine) as connection:
        row = await pilot_store.pilot_row(connection, number)
        if row is None:
            raise NotFoundError(f"there is no pilot {number}", zh=f"没有编号为 {number} 的试点")
        looked = await _looked(connection, pilot_store.read_pilot(row), press.shop.clock())
        plan = decide(looked)
        if row.state != RUNNING or plan.step is Step.WAIT:
            return Stepped(looked, 0)  # another process, or a person, was before us
        base, tried = await _versions(connection, looked.pilot)
        highest = (await offerings.highest_versions(connection, [base.id]))[base.id]
        kept = await library.originals_of(connection, {base.id: base.version})
        publisher = await library.publisher_of(connection, base.id) or ""
    now = await press.signing_time()
    job = replace(_job(looked.pilot, plan, base, tried, by), publisher=publisher)
    if plan.step is Step.STOP and looked.pilot.base is not None:
        back = with_patches(msgspec.structs.replace(base, version=highest + 1), patches)
        (mark,) = job.offerings
        job = replace(
            job,
            versions=[NewVersion(back, kept.get(base.id, ()))],
            offerings=[replace(mark, offered=back)],
        )
    catalog_version = await press.run(job, now)
    await _note(press, looked.pilot, plan, by)
    log.info("pilot_stepped", pilot=number, step=str(plan.step), reason=plan.reason, catalog_version=catalog_version)
    return Stepped(Looked(looked.pilot, plan), catalog_version)


def _job(pilot: RunningPilot, plan: WavePlan, base: Courseware, tried: Courseware, by: str) -> Job:
    """What a step releases; the version that a stop goes back to is for the caller to put in."""
    is_new = pilot.base is None
    ends = {Step.FINISH: DONE, Step.STOP: STOPPED}.get(plan.step, "")
    mark = Mark(pilot.id, plan.next_wave, ends, not by, plan.reason, plan.reason_zh)
    note = f"{pilot.courseware} version {pilot.version}"
    if plan.step is Step.GO_ON:
        areas = areas_until(pilot.waves, plan.next_wave)
        offering = NewOffering(base.id, base, areas, None if is_new else tried, step=mark)
        note = f"{note}: wave {plan.next_wave + 1} of {len(pilot.waves)}"
    elif plan.step is Step.FINISH:
        offering = NewOffering(base.id, tried, step=mark)
        note = f"{note}: to all"
    else:
        offering = NewOffering(base.id, None if is_new else base, step=mark)
        note = f"{note}: stopped, {plan.reason}"
    return Job(_KINDS[plan.step], note, offerings=[offering])


async def _note(press: Press, pilot: RunningPilot, plan: WavePlan, by: str) -> None:
    """The audit row of a step that nobody asked for; what somebody asked for is noted where they did."""
    if by:
        return
    counts = {"meant": plan.meant, "proved": plan.proved, "failed": plan.failed}
    after = {"pilot": pilot.id, "version": pilot.version, "reason": plan.reason_zh, **counts}
    async with reading(press.shop.engine) as connection:
        region = Region(await library.publisher_of(connection, pilot.courseware) or press.shop.publisher)
    change = Change(f"pilot.{plan.step}", "", region, pilot.courseware, before={"wave": pilot.wave + 1}, after=after)
    async with writing(press.shop.engine) as connection:
        await note_change(connection, press.shop.clock(), change)


async def _to_try(connection: AsyncConnection, id_: str, version: int) -> tuple[Courseware, Courseware | None]:
    """The version that shall be tried, and what is offered now.

    Raises:
        NotFoundError: bad data; no such version was published.
        InputError: bad data; it may not be tried.
    """
    past = {item.version: item for item in await library.previous_documents(connection, id_, 10_000)}
    known = (await library.known(connection, [id_])).get(id_)
    if known is None or version not in past:
        raise NotFoundError(f"there is no version {version} of lesson {id_}", zh=f"没有课件 {id_} 第 {version} 版")
    if known.is_on_trial:
        raise InputError(f"a pilot of lesson {id_} runs already", zh=f"课件 {id_} 已有试点正在进行")
    recall = (await library.published_recalls(connection, known.publisher)).get(id_)
    if recall is not None and recall.version >= version:
        raise InputError(
            f"version {version} was recalled: {recall.reason}",
            zh=f"第 {version} 版已撤回：{recall.reason}",
            hint="publish the lesson anew",
            hint_zh="请重新发布该课件",
        )
    if known.current is not None and substance(known.current) == substance(past[version]):
        raise InputError(f"version {version} is what all have already", zh=f"第 {version} 版的内容已面向全部地区提供")
    return past[version], known.current


async def _start(press: Press, id_: str, version: int, wish: PilotWish, patches: Patches) -> Released:
    """Begin a pilot of an earlier version. The caller holds the publish lock and has repaired."""
    async with reading(press.shop.engine) as connection:
        past, current = await _to_try(connection, id_, version)
        check_waves(wish.waves, past.audience)
        highest = (await offerings.highest_versions(connection, [id_]))[id_]
        kept = await library.originals_of(connection, {id_: version})
        columns = await library.all_columns(connection)
        faults = await pilot_store.known_faults(connection)
        publisher = await library.publisher_of(connection, id_) or ""
    lost = await gone_blobs(press.shop, [file.blob for file in past.files])
    if lost:
        names = ", ".join(file.name for file in past.files if file.blob in lost)
        raise InputError(f"gone from the storage: {names}", zh=f"文件已不在存储中：{names}")
    now = await press.signing_time()
    tried = with_patches(msgspec.structs.replace(past, version=highest + 1), patches)
    await asyncio.to_thread(check_document, tried, columns)
    areas = tuple(sorted({Region(area) for area in wish.waves[0]}))
    new = pilot_store.begun(wish, faults)
    offering = (
        NewOffering(id_, current, areas, tried, new)
        if current is not None
        else NewOffering(id_, tried, areas, None, new)
    )
    note = f"{id_} version {tried.version}: wave 1 of {len(wish.waves)}"
    versions = [NewVersion(tried, kept.get(id_, ()))]
    job = Job("pilot", note, versions=versions, offerings=[offering], publisher=publisher)
    catalog_version = await press.run(job, now)
    return Released(parse_courseware_id(id_), tried.version, catalog_version, tried.files)
