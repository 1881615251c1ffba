"""One sync from end to end: follow the province, plan, remove, fetch, install, tidy up, report.

    lock → trust → catalog → plan → recalls and removals → lessons, each installed when proved → collect → report

Every step leaves the edge able to serve what it served before and is found again by the next run. Exceptions mean
that the province could not be followed; what happened to single lessons stands in the report.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field

import structlog

from edge.store.failpoints import reach
from edge.store.locks import FileLock
from edge.sync.build import Builder
from edge.sync.carried import plan_carried
from edge.sync.collect import collect, pulled_of
from edge.sync.follow import Followed, follow, follow_on, look
from edge.sync.freshness import freshness_of
from edge.sync.items import ItemRunner
from edge.sync.offered import city_versions, faults_at_end, known_faults
from edge.sync.offering import Offering, load_offering
from edge.sync.parts import Parts, Progress
from edge.sync.planner import Action, Here, ItemPlan, SyncPlan, plan_sync
from edge.sync.promise import Fact, Promised, PromisedPlan, promise_plan, promises_of
from edge.sync.report import REPORT_NOTE, WORK_NOTE, Deferred, SyncReport, WaitsError, brief, worst_of
from edge.sync.settled import SETTLED_NOTE, read_settled, settled_note
from edge.sync.transfer import Transfer, make_slots
from edge.sync.wanting import wanted_of
from edge.sync.window import Refusal
from edge.threads import run_to_end
from manifests.digests import Digest
from manifests.errors import BusyError, StorageFullError, YuanjiaoError
from manifests.instants import Instant, dump_instant
from manifests.model import Catalog

# Collecting may make room for lessons that were deferred for it; each round must free something.
_MOST_ROUNDS = 4
_TICK_S = 0.2
# A scrub lets others have the lock every second or two (see `Turns`); another sync may take all night.
_ROOM = (
    "free space, add a disk, or change store.quota_bytes and store.reserve_bytes; then run again",
    "请清理空间、增加磁盘，或调整 store.quota_bytes 与 store.reserve_bytes 后重新运行",
)

_log = structlog.get_logger(__name__)


async def run_sync(parts: Parts, progress: Progress | None = None) -> SyncReport:
    """Bring this edge to the newest release.

    Raises:
        UntrustedError: bad data; the province could not be followed. What was verified before was still completed.
        TransferError: environment; no upstream could be reached (BusyError: another sync is running).
        StorageError: environment; nothing could be begun.
    """
    with await _take_lock(parts), _builders(parts) as builders:
        return await _Run(parts, *builders, progress or _silent).run()


async def preview_sync(parts: Parts) -> PromisedPlan:
    """Make the plan that `run_sync` would carry out; changes nothing on the disk but `trust/`.

    Raises:
        UntrustedError: bad data; the province could not be followed.
        TransferError: environment.
        StorageError: environment.
    """
    with await _take_lock(parts), _builders(parts) as (_, catalog_builder):
        followed = await follow(parts)
        if followed.lag is not None:
            raise followed.lag
        offering = await load_offering(parts, catalog_builder, followed.state, keep=False)
        return await _plan(parts, offering.catalog, followed)


async def _take_lock(parts: Parts) -> FileLock:
    lock = FileLock(parts.store.paths.sync_lock)
    try:
        return await lock.wait(parts.lock_wait_s)
    except BusyError as error:
        pid = lock.holder()
        raise BusyError(
            f"another sync, import or scrub is at work here{f' (process {pid})' if pid else ''}",
            zh=f"另一个同步、导入或巡检正在运行{f'（进程 {pid}）' if pid else ''}",
            hint="a sync at work brings the same lessons; to wait for its end add --wait 600, in seconds",
            hint_zh="正在进行的同步会取回同样的课件；如需等它结束，请加 --wait 600（秒）",
        ) from error


@dataclass(slots=True)
class _Outcome:
    """What a run has come to so far."""

    done: list[ItemPlan] = field(default_factory=list)
    deferred: dict[str, Deferred] = field(default_factory=dict)
    errors: list[YuanjiaoError] = field(default_factory=list)
    of_cities: list[YuanjiaoError] = field(default_factory=list)
    promised: dict[str, Promised] = field(default_factory=dict)
    facts: dict[str, Fact] = field(default_factory=dict)
    waits: dict[str, Deferred] = field(default_factory=dict)

    def wait(self, ids: Iterable[str], refusal: Refusal) -> None:
        """Note lessons that wait for the window."""
        found = {id_: Deferred(id_, refusal.reason, refusal.reason_zh) for id_ in ids}
        self.waits |= found
        self.deferred |= found

    def end(self) -> None:
        """Tell of lessons that wait, after all that is really wrong."""
        if self.waits:
            count, one = len(self.waits), next(iter(self.waits.values()))
            self.errors.append(WaitsError(f"{count} lessons: {one.reason}", zh=f"{count} 个课件{one.reason_zh}"))

    def ids(self, *actions: Action) -> tuple[str, ...]:
        return tuple(sorted({item.id for item in self.done if item.action in actions}))


class _Run:
    def __init__(self, parts: Parts, builder: Builder, catalog_builder: Builder, progress: Progress) -> None:
        self._parts = parts
        self._builder = builder
        self._catalog_builder = catalog_builder
        self._progress = progress
        self._outcome = _Outcome()
        self._began_s = parts.monotonic()
        self._started = dump_instant(parts.clock())

    async def run(self) -> SyncReport:
        try:
            self._progress("trust", 0, 0)
            followed = await follow(self._parts)
            reach("sync:verified")
            while newer := await self._carry_out(followed):
                followed = newer
            self._outcome.errors += self._outcome.of_cities
            self._outcome.end()
            if followed.lag is not None:
                raise followed.lag
        except YuanjiaoError as error:
            self._outcome.errors.append(error)
            await self._tell()
            raise
        return await self._tell()

    async def _tell(self) -> SyncReport:
        report = await self._report()
        await self._note(REPORT_NOTE, brief(report))
        if self._outcome.done or self._builder.bytes_proved:
            await self._note(WORK_NOTE, brief(report))
        return report

    async def _carry_out(self, followed: Followed) -> Followed | None:
        """Bring this edge to one release; returns a newer one when that came out meanwhile, with its rest undone."""
        if followed.lag is None and await asyncio.to_thread(self._is_settled, followed):
            return None
        self._progress("catalog", 0, 0)
        offering = await load_offering(self._parts, self._catalog_builder, followed.state, keep=True)
        self._outcome.of_cities = faults_at_end(offering.faults, followed.state)
        reach("sync:cataloged")
        for _ in range(_MOST_ROUNDS):
            plan = await _plan(self._parts, offering.catalog, followed)
            self._outcome.promised = promises_of(plan) | self._outcome.promised  # the first word counts
            freed, newer = await self._round(plan, offering, followed)
            if newer is not None:
                return newer
            no_room = [item for item in plan.items if item.for_room]
            if self._outcome.errors or not freed or not no_room:
                break
        self._outcome.errors += [
            StorageFullError(f"{one.id}: {one.reason}", zh=f"{one.id} {one.reason_zh}", hint=_ROOM[0], hint_zh=_ROOM[1])
            for one in no_room[:1]
        ]
        # After a disk there may be more to fetch over the line: it settles nothing.
        if not self._outcome.errors and offering.is_final and self._parts.carried is None:
            note = await asyncio.to_thread(settled_note, self._parts, followed, plan, self._outcome.waits)
            await self._note(SETTLED_NOTE, note)
        return None

    async def _round(self, plan: SyncPlan, offering: Offering, followed: Followed) -> tuple[int, Followed | None]:
        """Carry out one plan; returns the bytes freed, and a newer release when one cut the work short."""
        outcome = self._outcome
        outcome.waits = {}
        later = plan.of(Action.DEFER)
        outcome.deferred = {one.id: Deferred(one.id, one.reason, one.reason_zh, one.is_evicted) for one in later}
        drops = plan.of(Action.RECALL, Action.REMOVE)
        fills = plan.of(Action.ADD, Action.UPDATE)
        freed = 0
        if drops or not self._is_installed(offering):
            await run_to_end(self._drop, drops, offering)
            reach("sync:removed")
            outcome.done += drops
            if drops:
                freed += await self._collect(offering, followed, fills)
        refusal = self._parts.bulk.refusal
        if refusal is not None:
            outcome.wait((item.id for item in fills if item.bytes_expected), refusal)
            fills = tuple(item for item in fills if not item.bytes_expected)
        if fills:
            newer = await self._fill(fills, offering, followed)
            if newer is not None:
                return freed, newer
        reach("sync:filled")
        return freed + await self._collect(offering, followed), None

    def _is_installed(self, offering: Offering) -> bool:
        library = self._parts.library
        return (library.catalog_version(), library.city_catalogs()) == (offering.catalog.version, offering.cities)

    async def _fill(self, fills: tuple[ItemPlan, ...], offering: Offering, followed: Followed) -> Followed | None:
        """Fetch and install; broken off when a newer release comes out, which may recall what is being fetched.

        The window's end breaks it off too: what is not installed by then waits, with all that was proved.
        """
        items = ItemRunner(self._parts, self._builder, offering)
        work = asyncio.create_task(items.run(fills))
        watch = asyncio.create_task(follow_on(self._parts, followed.state))
        close = asyncio.create_task(self._parts.bulk.refused())
        total = sum(item.bytes_expected for item in fills)
        async with self._parts.gauge.measuring(), self._ticking(total):
            try:
                # What costs no byte of the line needs no window.
                ends = {work, watch, close} if total else {work, watch}
                await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            finally:
                is_newer = watch.done() and not work.done()
                is_over = bool(total) and close.done() and not work.done()
                for task in (work, watch, close):
                    task.cancel()
                await asyncio.wait({work, watch, close})
                self._outcome.done += items.installed
                self._outcome.facts |= items.facts
        if is_newer:
            return watch.result()
        if is_over:
            ended = {item.id for item in items.installed} | {one.id for one in items.deferred}
            self._outcome.wait({item.id for item in fills}.difference(ended), close.result())
        else:
            work.result()
        self._outcome.deferred |= {one.id: one for one in items.deferred}
        self._outcome.errors += items.errors
        return None

    def _drop(self, drops: tuple[ItemPlan, ...], offering: Offering) -> None:
        """Recalls and removals in one transaction, with the new columns; before any bulk byte."""
        removed, catalog = [item.id for item in drops], offering.catalog
        self._parts.library.install(
            (), removed, catalog.recalls, catalog.columns, catalog.version, offering.ref, cities=offering.cities
        )
        for item in drops:
            _log.info("removed", id=item.id, version=item.version, action=str(item.action), reason=item.reason)

    async def _collect(self, offering: Offering, followed: Followed, fills: Sequence[ItemPlan] = ()) -> int:
        """Give space back, but for what the patches of `fills` start from; returns the bytes freed."""
        parts, catalog = self._parts, offering.catalog

        def work() -> int:
            wanted = [*wanted_of(catalog, parts.wanted, followed.now), *pulled_of(parts, catalog, followed.now)]
            sources = {Digest(file.source) for item in fills for file in item.files if file.source}
            now = parts.clock()
            return collect(parts.store, parts.library, parts.usage, wanted, offering.patches, sources, now=now)

        return await run_to_end(work)

    @asynccontextmanager
    async def _ticking(self, total: int) -> AsyncIterator[None]:
        """Tell the progress every few moments, by bytes that proved."""
        before = self._builder.bytes_proved

        async def tick() -> None:
            while True:
                self._progress("fetch", min(self._builder.bytes_proved - before, total), total)
                await asyncio.sleep(_TICK_S)

        ticker = asyncio.create_task(tick())
        try:
            yield
        finally:
            ticker.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await ticker
        self._progress("fetch", total, total)

    def _is_settled(self, followed: Followed) -> bool:
        """Tell whether there can be nothing to do since a run that completed: the poll then ends here."""
        settled = read_settled(self._parts, followed)
        if settled is None:
            return False
        if settled.waits and self._parts.bulk.refusal is not None:
            self._outcome.wait(settled.waits, self._parts.bulk.refusal)
        self._outcome.deferred |= settled.evicted
        self._outcome.of_cities = known_faults(self._parts.library, followed.state)
        return True

    async def _report(self) -> SyncReport:
        parts, outcome = self._parts, self._outcome
        worst = worst_of(outcome.errors)
        now = parts.clock()
        state = await asyncio.to_thread(parts.trust.load)
        return SyncReport(
            catalog_version=parts.library.catalog_version(),
            cities=city_versions(parts.library),
            added=outcome.ids(Action.ADD),
            updated=outcome.ids(Action.UPDATE),
            removed=outcome.ids(Action.REMOVE, Action.RECALL),
            recalled=outcome.ids(Action.RECALL),
            bytes_fetched=parts.sources.bytes_received,
            bytes_by_reason=parts.sources.bytes_by_reason(),
            bytes_from_patches=self._builder.bytes_from_patches,
            bytes_reused=sum(file.bytes_here for item in outcome.done for file in item.files),
            requests=parts.sources.requests,
            seconds=round(parts.monotonic() - self._began_s, 3),
            complete=worst is None,
            waits=isinstance(worst, WaitsError),
            deferred=tuple(outcome.deferred[id_] for id_ in sorted(outcome.deferred)),
            sources=parts.sources.bytes_by_source(),
            banned={url: round(seconds) for url, seconds in parts.sources.bans().items()},
            freshness=str(freshness_of(state, now, parts.stale_after_s, parts.expired_after_s)),
            started=self._started,
            finished=dump_instant(now),
            exit_code=worst.exit_code if worst else 0,
            error=worst.message if worst else "",
            error_zh=worst.zh if worst else "",
            hint=worst.hint if worst else "",
            hint_zh=worst.hint_zh if worst else "",
            promised=outcome.promised,
            fact=outcome.facts,
        )

    async def _note(self, key: str, value: object) -> None:
        """Keep a note, such as the report for /healthz; a disk that takes none must not hide what was done."""
        try:
            await asyncio.to_thread(self._parts.library.set_meta, key, value)
        except YuanjiaoError as error:
            _log.warning("note not kept", key=key, reason=error.message)


async def _plan(parts: Parts, catalog: Catalog, followed: Followed) -> PromisedPlan:
    here = await look(parts, catalog)

    def work() -> PromisedPlan:
        plan = _sync_plan(parts, here, catalog, followed.now)
        # By the wall clock: it is this hour's line that the bytes cross, whatever the province's time is.
        return promise_plan(
            plan,
            parts.line,
            parts.zone,
            parts.clock(),
            ignore_window=parts.ignore_window,
            at_once=parts.limits.requests_in_flight,
        )

    return await run_to_end(work)


def _sync_plan(parts: Parts, here: Here, catalog: Catalog, now: Instant) -> SyncPlan:
    if parts.carried is not None:
        return plan_carried(here, catalog, parts.wanted, now, parts.carried)
    return plan_sync(here, catalog, parts.wanted, now)


@contextmanager
def _builders(parts: Parts) -> Iterator[tuple[Builder, Builder]]:
    """One for lessons, and one for catalogs: that one may use the reserve, for a recall must act on a full disk."""
    # Two threads hash and write beside the loop, which reads sockets; more would only queue for the same two cores.
    with ThreadPoolExecutor(2, "yuanjiao-store") as executor:
        slots = make_slots(parts.sources, parts.limits)

        def make(*, urgent: bool) -> Builder:
            # A catalog waits for no sibling and no viewer: a recall may be in it.
            city, gate = (None, None) if urgent else (parts.city, parts.bulk.gate)
            transfer = Transfer(
                parts.store,
                parts.sources,
                parts.limits,
                executor,
                urgent=urgent,
                bulk=parts.gauge.bulk,
                gate=gate,
                slots=slots,
                city=city,
            )
            return Builder(parts.store, transfer)

        yield make(urgent=False), make(urgent=True)


def _silent(_stage: str, _done: int, _total: int) -> None:
    return
