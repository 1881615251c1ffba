"""The keeper of the night: a process beside the workers that asks for news, and fetches bulk when the window is open.

Hashing and writing must not disturb serving, so it is a process of its own; the supervisor keeps it alive. It sees what
terminals take in the counters' shared memory. Everything it does can be cut off at any moment: what was proved stays,
and the next run goes on from there.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from pathlib import Path

import structlog

from edge.clock import Clock, system_clock
from edge.metrics import Cell, Counters, cell_of
from edge.reasons import UpstreamReason
from edge.serve.order import read_order, work_beside
from edge.settings import Settings
from edge.sync.bulk import Bulk
from edge.sync.governor import TICK_S, Governor
from edge.sync.nights import Nights
from edge.sync.report import SyncReport
from edge.sync.window import Doing, Last, NightPlan, plan_next
from manifests.errors import BusyError, YuanjiaoError
from manifests.instants import Instant

_ROOM_EVERY_S = 600.0
WATCH_EVERY_S = 10.0

_log = structlog.get_logger(__name__)


class Keeper:
    """Runs what is due until it is cancelled.

    Args:
        nights: what it works with.
        counters: its own row of the shared figures.
        clock: wall clock; may jump.
        monotonic: seconds for durations.

    Attributes:
        last: the last run.
    """

    def __init__(
        self, nights: Nights, counters: Counters, clock: Clock, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._nights = nights
        self._counters = counters
        self._clock = clock
        self._monotonic = monotonic
        self._bulk = Bulk()
        self.governor = Governor(
            nights.schedule(),
            self._bulk,
            clock,
            lambda: counters.total(Cell.SENT_BYTES),
            monotonic,
            lambda: counters.total(Cell.FILLS_IN_FLIGHT),
        )
        # As if a run had just ended: a machine that comes up serves first, and asks one poll later.
        self.last = Last(was_bulk=True)
        self._ended_s = monotonic()
        self._scrubbing: asyncio.Task[None] | None = None
        self._room_due_s = monotonic() + _ROOM_EVERY_S
        self._scrubbed: Instant | None = None  # the end of the night whose share was begun

    async def run(self) -> None:
        """Keep the night."""
        self._counters.set(Cell.KEEPERS, 1)
        self.governor.look()
        governing = asyncio.create_task(self.governor.run())
        working = asyncio.create_task(self._work())
        watching = asyncio.create_task(self._watch())
        try:
            done, _ = await asyncio.wait({governing, working, watching}, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()  # neither ends by itself: this is a bug, and the supervisor starts us anew
        finally:
            tasks = {governing, working, watching} | ({self._scrubbing} if self._scrubbing is not None else set())
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)

    async def _work(self) -> None:
        told = ""
        while True:
            since_s = self._monotonic() - self._ended_s
            plan = plan_next(self.governor.schedule, self._clock(), _aged(self.last, since_s))
            if plan.reason != told:
                told = plan.reason
                _log.info("night", doing=str(plan.doing), reason=plan.reason)
            if self._scrubbing is not None and self._bulk.refusal is not None:
                self._scrubbing.cancel()  # the window has closed; what it read and found is kept
            await self._keep_room()
            if plan.doing is Doing.WAIT:
                await asyncio.sleep(min(plan.wait_s, TICK_S))
                continue
            self.governor.look()
            self.last = await self._run(plan)
            self._ended_s = self._monotonic()

    async def _run(self, plan: NightPlan) -> Last:
        was_bulk = self._bulk.refusal is None
        failures = self.last.failures + 1
        try:
            self.governor.schedule = self._nights.schedule()
            report = await self._nights.sync(self._bulk, self._count)
        except BusyError as error:
            _log.info("sync_busy", reason=error.message)
            return Last(was_bulk=was_bulk, failures=self.last.failures, was_busy=True)
        except YuanjiaoError as error:
            _log.warning("sync_failed", doing=str(plan.doing), failures=failures, reason=error.message, hint=error.hint)
            return Last(was_bulk=was_bulk, failures=failures)
        except Exception as error:  # noqa: BLE001 - a bug in one run must not end the nights that follow
            _log.exception("bug", error=str(error))
            return Last(was_bulk=was_bulk, failures=failures)
        _tell(plan, report)
        if was_bulk and report.complete:
            self._begin_scrub(plan)
        is_well = report.complete or report.waits
        return Last(was_bulk=was_bulk, failures=0 if is_well else failures)

    async def _keep_room(self) -> None:
        """Every few minutes: what terminals pull through by day must not fill the disk until the night."""
        if self._monotonic() < self._room_due_s:
            return
        self._room_due_s = self._monotonic() + _ROOM_EVERY_S
        try:
            freed = await self._nights.evict()
            if freed:
                _log.info("evicted_to_watermark", bytes=freed)
        except YuanjiaoError as error:
            _log.warning("eviction_failed", reason=error.message, hint=error.hint)
        except Exception as error:  # noqa: BLE001 - a bug in it must not end the nights that follow
            _log.exception("bug", error=str(error))

    async def _watch(self) -> None:
        """Count what terminals watch, from the log and so behind it, whatever else is done."""
        while True:
            try:
                if self._nights.watch is not None:
                    await self._nights.watch()
            except YuanjiaoError as error:
                _log.warning("watching_not_counted", reason=error.message, hint=error.hint)
            except Exception as error:  # noqa: BLE001 - a bug in it must not end the nights
                _log.exception("bug", error=str(error))
            await asyncio.sleep(WATCH_EVERY_S)

    def _begin_scrub(self, plan: NightPlan) -> None:
        """Once a night, when its lessons are here; beside the polls, which a recall must not wait for."""
        is_night = plan.night.start <= self._clock() < plan.night.stop
        if is_night and self._scrubbed != plan.night.stop:
            self._scrubbed = plan.night.stop
            self._scrubbing = asyncio.create_task(self._scrub())

    async def _scrub(self) -> None:
        try:
            report = await self._nights.scrub()
            _log.info("scrubbed", pieces=report.pieces_checked, bad=len(report.bad), repaired=report.repaired)
        except YuanjiaoError as error:
            _log.warning("scrub_failed", reason=error.message, hint=error.hint)
        except Exception as error:  # noqa: BLE001 - a bug in the scrub must not end the nights that follow
            _log.exception("bug", error=str(error))

    def _count(self, reason: UpstreamReason, count: int) -> None:
        self.governor.count(reason, count)
        self._counters.add(cell_of(reason), count)


def _aged(last: Last, since_s: float) -> Last:
    return Last(since_s, last.was_bulk, last.failures, last.was_busy)


def _tell(plan: NightPlan, report: SyncReport) -> None:
    """Log a run that did something; a poll without news, every minute, is no news."""
    if report.added or report.updated or report.removed or not (report.complete or report.waits):
        _log.info(
            "synced",
            doing=str(plan.doing),
            catalog_version=report.catalog_version,
            added=len(report.added),
            updated=len(report.updated),
            removed=len(report.removed),
            deferred=len(report.deferred),
            bytes_fetched=report.bytes_fetched,
            error=report.error,
        )


def main(put_together: Callable[[Path, Settings], Nights]) -> None:
    """Entry of the keeper's process; it is told like a worker (see `edge.serve.order`).

    Args:
        put_together: makes what the keeper works with; app.py has it.
    """
    order = read_order(keeper=True)
    nights = put_together(Path(order.root), order.settings)

    async def keep() -> None:
        await Keeper(nights, Counters(order.rows_file, order.row, order.rows), system_clock).run()

    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(work_beside(keep()))
