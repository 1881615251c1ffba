"""From what a run did, and what is here after it, to what is told to the province.

    SyncReport → Run · store and settings → State · library → Inventory

Blocking; callers use a thread. What is put into the outbox here leaves later, see `edge.report.sender`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from edge.clock import Clock
from edge.report.inventory import plan_inventory
from edge.report.outbox import Outbox
from edge.settings import Settings
from edge.store.blobs import BlobStore
from edge.store.library import Library
from edge.store.scrub_log import faults_of
from edge.sync.lines import line_of
from edge.sync.offered import city_versions, installed_offering
from edge.sync.report import REPORT_NOTE, SyncReport
from manifests.digests import Digest
from manifests.names import Region
from manifests.reports import Run, State

# Who was not heard from for longer than this is asked after; so an edge with nothing new says so before.
STATE_EVERY_S = 3600
# A run that fetched no more than this only asked.
_POLL_BYTES = 65536
_MOST_DEFERRED = 2000
_REASON_CHARS = 200
_ERROR_CHARS = 1000


@dataclass(frozen=True, slots=True)
class Teller:
    """What can tell of this edge.

    Attributes:
        region: code of its county.
        rates: measured rate of each hour of the week, see `manifests.line.Line`; empty while nothing was measured.
    """

    region: str
    settings: Settings
    store: BlobStore
    library: Library
    clock: Clock
    rates: Sequence[int] = ()

    def held(self) -> dict[str, int]:
        """Id → version of all courseware whose every blob is here and proved."""
        lacking = {id_ for ids in self.library.lacking().values() for id_ in ids}
        return {id_: version for id_, version in self.library.versions().items() if id_ not in lacking}

    def state(self, report: SyncReport | None, *, whole: bool = False) -> State:
        """The planner's inputs.

        Args:
            report: of the last run, if there was one.
            whole: with all that is held and begun, for a file; reports on the line have inventories for that.

        Raises:
            ConfigurationError: bad data; a setting of the line is wrong.
            StorageError: environment.
        """
        stats = self.store.stats()
        room = stats.free_bytes - self.settings.store.reserve_bytes
        if self.settings.store.quota_bytes:
            room = min(room, self.settings.store.quota_bytes - stats.blob_bytes - stats.partial_bytes)
        partial = {str(digest): size for digest, size in sorted(self.store.partials().items()) if size}
        deferred = {one.id for one in report.deferred if not one.is_evicted} if report is not None else set()
        return State(
            region=self.region,
            catalog_version=self.library.catalog_version(),
            line=line_of(self.settings.sync, self.rates),
            room_bytes=max(0, room),
            waiting_bytes=self._waiting(deferred, partial) if deferred else 0,
            columns=tuple(sorted(self.settings.sync.columns)),
            held=self.held() if whole else {},
            partial=partial if whole else {},
            faults=(*(one.zh for one in faults_of(self.store.paths)), *_faults(stats.rotten, report)),
        )

    def tell(self, outbox: Outbox, report: SyncReport) -> None:
        """Put into the outbox what is new after a run: its outcome, the inventory, the state.

        Raises:
            ConfigurationError: bad data; a setting of the line is wrong.
            StorageError: environment.
        """
        now = self.clock()
        self.tell_inventory(outbox)
        run = run_of(report)
        told = outbox.note("run")
        outcome = [run.catalog_version, run.complete, run.error, sorted(run.deferred), sorted(run.banned)]
        did_something = report.added or report.updated or report.removed or report.bytes_fetched > _POLL_BYTES
        if did_something or outcome != told:
            outbox.append("run", msgspec.json.encode(run), now, {"run": outcome})
        state = self.state(report)
        # Room and rates move a little with every run; an hourly word is enough for them.
        line = msgspec.structs.replace(state.line, rates=())
        fixed = msgspec.to_builtins(msgspec.structs.replace(state, room_bytes=0, line=line))
        last = outbox.note("state")
        is_due = not isinstance(last, dict) or not 0 <= now - last["at"] < STATE_EVERY_S
        if did_something or is_due or (isinstance(last, dict) and last["fixed"] != fixed):
            outbox.append("state", msgspec.json.encode(state), now, {"state": {"at": now, "fixed": fixed}})

    def tell_inventory(self, outbox: Outbox) -> None:
        """Put an inventory into the outbox, if there is anything to tell.

        Raises:
            StorageError: environment.
        """
        version = self.library.catalog_version()
        cities = city_versions(self.library)
        base, told = outbox.told()
        # Reading all that is here costs what a poll with nothing new must not cost.
        seen = [str(self.library.change_token()), version]
        if base and outbox.note("seen") == seen:
            return
        held = self.held()
        recalls = {one.id: one.version for one in self.library.recalls()}
        before, theirs = outbox.note("told_catalog"), outbox.note("told_cities")
        before = before if isinstance(before, int) else 0
        theirs = theirs if isinstance(theirs, dict) else {}
        plan = plan_inventory(base, told, held, recalls, version, before, cities, theirs)
        if plan is None:
            outbox.set_note("seen", seen)
            return
        notes = {"seen": seen, "told_catalog": version, "told_cities": cities}
        outbox.append_inventory(msgspec.json.encode(plan), self.clock(), held, notes)

    def refill(self, outbox: Outbox) -> None:
        """Put a full inventory into the outbox, whatever was told before."""
        outbox.want_full()
        self.tell_inventory(outbox)

    def _waiting(self, deferred: set[str], partial: dict[str, int]) -> int:
        """Bytes of the lessons that are planned and not here, without those that are begun."""
        kept = next(iter(self.library.catalogs()), None)
        if kept is None or not self.store.has(Digest(kept.digest)):
            return 0
        catalog = installed_offering(self.store, self.library, Region(self.region))
        items = catalog.courseware if catalog is not None else ()
        files = {file.blob: file.size for item in items if item.id in deferred for file in item.files}
        here = self.store.digests()
        return sum(size - partial.get(blob, 0) for blob, size in files.items() if blob not in here)


def run_of(report: SyncReport) -> Run:
    """A run as the province is told of it; long lists and texts are cut."""
    return Run(
        catalog_version=report.catalog_version,
        complete=report.complete,
        started=report.started or report.finished,
        finished=report.finished or report.started,
        bytes_fetched=report.bytes_fetched,
        bytes_by_reason=report.bytes_by_reason,
        sources=report.sources,
        banned=tuple(sorted(report.banned)),
        deferred={one.id: (one.reason_zh or one.reason)[:_REASON_CHARS] for one in report.deferred[:_MOST_DEFERRED]},
        error=(report.error_zh or report.error)[:_ERROR_CHARS],
        waits=report.waits,
    )


def noted_report(library: Library) -> SyncReport | None:
    """What the last run left as its note; None before the first, or when another version of this program left it."""
    try:
        return msgspec.convert(library.get_meta(REPORT_NOTE), SyncReport)
    except msgspec.ValidationError:
        return None


def _faults(rotten: int, report: SyncReport | None) -> tuple[str, ...]:
    faults = [f"磁盘上有 {rotten} 个数据块损坏"] if rotten else []
    faults += [f"上游 {url} 发送过错误内容" for url in sorted(report.banned)] if report is not None else []
    return tuple(faults)
