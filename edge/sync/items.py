"""Carry out the lessons of a plan: build their files, install each as soon as all of it is proved.

Several lessons are under way at once; they share the requests in flight. A lesson that fails does not hold up the
others. Two things end the work early: a disk that takes no more, and a line on which nothing moves.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Mapping, Sequence

import structlog

from edge.reasons import UpstreamReason, because
from edge.store.evicting import run_eviction
from edge.store.eviction import BIG_BYTES
from edge.store.failpoints import reach
from edge.sync.build import Builder
from edge.sync.offering import Offering
from edge.sync.parts import Parts
from edge.sync.planner import Action, FilePlan, How, ItemPlan
from edge.sync.promise import Fact
from edge.sync.report import Deferred
from edge.threads import run_to_end
from edge.upstream.client import MissingError
from manifests.digests import Digest
from manifests.errors import (
    BusyError,
    StorageDamagedError,
    StorageError,
    TransferError,
    UntrustedError,
    YuanjiaoError,
)
from manifests.instants import dump_instant
from manifests.model import Courseware, File

# So many lessons that fail one after the other without a proved byte between them say: the line is down.
_DEAD_LINE_AFTER = 3

_log = structlog.get_logger(__name__)


class ItemRunner:
    """One pass over the additions and updates of a plan.

    Attributes:
        installed: plans whose lessons are installed now.
        deferred: lessons that are not, and why.
        errors: faults met, in order.
        facts: of what is installed, when that was and what it took.
    """

    def __init__(self, parts: Parts, builder: Builder, offering: Offering) -> None:
        self.installed: list[ItemPlan] = []
        self.deferred: list[Deferred] = []
        self.errors: list[YuanjiaoError] = []
        self.facts: dict[str, Fact] = {}
        self._parts = parts
        self._builder = builder
        self._offering = offering
        self._ready: list[tuple[ItemPlan, Courseware]] = []
        self._installing = asyncio.Lock()
        self._stop: YuanjiaoError | None = None
        self._dry_failures = 0
        self._proved_at_failure = -1

    async def run(self, items: Sequence[ItemPlan]) -> None:
        """Carry out the items; returns when each is installed or deferred. Cancelled, it tells what was installed."""
        wanted = {item.id for item in items}
        offered = {item.id: item for item in self._offering.catalog.courseware if item.id in wanted}
        queue = iter(items)
        async with asyncio.TaskGroup() as group:
            for _ in range(min(len(items), self._parts.limits.requests_in_flight)):
                group.create_task(self._work(queue, offered))

    async def _work(self, queue: Iterator[ItemPlan], offered: Mapping[str, Courseware]) -> None:
        for item in queue:
            if self._stop is not None:
                self._defer(item, f"not begun: {self._stop.message}", f"未开始：{self._stop.zh}")
                continue
            try:
                await self._one(item, offered[item.id])
            except (UntrustedError, TransferError, StorageError) as error:
                self._fail(item, error)

    async def _one(self, item: ItemPlan, courseware: Courseware) -> None:
        if item.evicts:
            await run_to_end(self._make_room, item)
        with because(_reason_of(item)):
            for file, plan in _in_order(courseware, item):
                if plan.how is How.EVICTED:
                    continue
                await self._builder.build(file.ref, plan, file.patches)
        reach("sync:proved")
        self._ready.append((item, courseware))
        async with self._installing:
            await self._install_ready()

    def _make_room(self, item: ItemPlan) -> None:
        parts = self._parts
        run_eviction(parts.store, parts.usage, item.evicts, parts.room, parts.clock())
        if any(parts.store.has(blob) for victim in item.evicts for blob in victim.blobs):
            raise BusyError(
                f"what was to make room for {item.id} is being watched",
                zh=f"为 {item.id} 腾出空间的课件正在播放",
            )

    async def _install_ready(self) -> None:
        """Install all lessons that became ready while an earlier install was under way, in one transaction."""
        group, self._ready = self._ready, []
        if not group:
            return
        try:
            await run_to_end(self._install, group)
        except (UntrustedError, TransferError, StorageError) as error:
            for item, _ in group:
                self._fail(item, error)

    def _install(self, group: Sequence[tuple[ItemPlan, Courseware]]) -> None:
        offering, catalog = self._offering, self._offering.catalog
        items = [courseware for _, courseware in group]
        now, usage = self._parts.clock(), self._parts.usage
        left, here = _big_blobs(group, left=True), _big_blobs(group, left=False)
        if left:
            usage.note_evicted(dict.fromkeys(left, 0), now)  # before they are missed
        self._parts.library.install(
            items, (), catalog.recalls, catalog.columns, catalog.version, offering.ref, left, offering.cities
        )
        usage.note_planned(here.values(), now)
        # Here, since the thread also comes to its end when the run is cancelled.
        self.installed += [item for item, _ in group]
        done = dump_instant(self._parts.clock())
        for item, courseware in group:
            self.facts[item.id] = Fact(done, self._builder.take_bytes(courseware.files))
        for item, _ in group:
            _log.info("installed", id=item.id, version=item.version, action=str(item.action))

    def _fail(self, item: ItemPlan, error: YuanjiaoError) -> None:
        _log.warning("lesson deferred", id=item.id, reason=error.message)
        self.errors.append(error)
        self._defer(item, error.message, error.zh)
        # A blob that rotted concerns its lesson only; a disk that takes no more, or a damaged index, concerns all.
        is_lone = isinstance(error, StorageDamagedError) and not self._parts.store.paths.index_suspect.exists()
        if isinstance(error, StorageError) and not is_lone:
            self._stop = self._stop or error
        elif isinstance(error, TransferError) and not isinstance(error, MissingError):
            proved = self._builder.bytes_proved
            self._dry_failures = self._dry_failures + 1 if proved == self._proved_at_failure else 1
            self._proved_at_failure = proved
            if self._dry_failures >= _DEAD_LINE_AFTER:
                self._stop = self._stop or error

    def _defer(self, item: ItemPlan, reason: str, reason_zh: str) -> None:
        self.deferred.append(Deferred(item.id, reason, reason_zh))


def _big_blobs(group: Iterable[tuple[ItemPlan, Courseware]], *, left: bool) -> dict[Digest, tuple[Digest, str, int]]:
    """Blobs worth evicting of some lessons, with id and size: those that are left out, or those that are here."""
    return {
        file.ref.digest: (file.ref.digest, item.id, file.size)
        for item, courseware in group
        for file, plan in zip(courseware.files, item.files, strict=True)
        if file.size >= BIG_BYTES and (plan.how is How.EVICTED) == left
    }


def _in_order(courseware: Courseware, item: ItemPlan) -> list[tuple[File, FilePlan]]:
    """Small before large; what can be patched from a file of the lesson, after those that cannot."""
    pairs = list(zip(courseware.files, item.files, strict=True))
    own = {file.blob for file in courseware.files}
    later = [any(patch.source in own for patch in file.patches) for file, _ in pairs]
    first = [pair for pair, is_later in zip(pairs, later, strict=True) if not is_later]
    first.sort(key=lambda pair: pair[1].bytes_expected)
    return first + [pair for pair, is_later in zip(pairs, later, strict=True) if is_later]


def _reason_of(item: ItemPlan) -> UpstreamReason:
    if item.is_damaged:
        return UpstreamReason.DAMAGED
    if item.is_back:
        return UpstreamReason.EVICTED
    return UpstreamReason.NEW_VERSION if item.action is Action.UPDATE else UpstreamReason.PLANNED
