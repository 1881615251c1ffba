"""One edge of the model: what it holds, what it knows of its line, and the plan it makes, by the real planner."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from edge.sync.planner import Action, FilePlan, Here, How, ItemPlan, SyncPlan, plan_sync
from edge.sync.promise import PromisedPlan, promise_plan
from edge.sync.wanting import Wanted
from manifests.digests import Digest
from manifests.instants import Instant
from manifests.line import Line, learn
from manifests.model import Catalog, Courseware
from tools.simulate.scenario import START, WINDOW, ZONE, ZONE_NAME, EdgeSpec

_RESERVE_BYTES = 1 << 30


@dataclass(slots=True)
class Unit:
    """One blob to fetch, divided into as many parts as the city has edges.

    Attributes:
        left: bytes missing of each part.
        file: digest of the file that it is, or builds.
    """

    digest: str
    size: int
    left: list[float]
    item: str
    file: str

    @property
    def missing(self) -> float:
        """Bytes that are not here yet."""
        return sum(self.left)


@dataclass
class SimEdge:
    """An edge and its disk.

    Attributes:
        begun: units that are here in part, by digest.
        used: bytes taken on the disk, space of begun blobs included.
    """

    spec: EdgeSpec
    parts: int = 1
    items: dict[str, Courseware] = field(default_factory=dict)
    blobs: set[str] = field(default_factory=set)
    begun: dict[str, Unit] = field(default_factory=dict)
    used: int = 0
    line: Line = field(default_factory=lambda: Line(zone=ZONE_NAME, window=WINDOW))

    @property
    def room(self) -> int:
        """Bytes that may still be taken."""
        return self.spec.disk_bytes - _RESERVE_BYTES - self.used

    @property
    def wanted(self) -> Wanted:
        """All columns, for this county."""
        return Wanted(self.spec.region)

    def here(self) -> Here:
        """What the planner is told."""
        partial = {Digest(one.digest): max(0, int(one.size - one.missing)) for one in self.begun.values()}
        versions = {id_: item.version for id_, item in self.items.items()}
        return Here(versions, self.blobs, partial, self.room)

    def plan(self, catalog: Catalog, at: float) -> PromisedPlan:
        """Drop what the catalog takes back, then plan the night and say what is expected of it."""
        now = Instant(START + int(at))
        first = plan_sync(self.here(), catalog, self.wanted, now)
        drops = first.of(Action.RECALL, Action.REMOVE)
        for item in drops:
            self.drop(item.id)
        is_trimmed = self._trim(catalog)
        plan = plan_sync(self.here(), catalog, self.wanted, now) if drops or is_trimmed else first
        return promise_plan(plan, self.line, ZONE, now)

    def units(self, plan: SyncPlan, catalog: Catalog) -> list[Unit]:
        """What must cross the line, in the plan's order; units that are begun go on where they were."""
        offered = {item.id: item for item in catalog.courseware}
        found: dict[str, Unit] = {}
        for item in plan.of(Action.ADD, Action.UPDATE):
            for file, how in zip(offered[item.id].files, item.files, strict=True):
                if how.bytes_expected and how.how not in {How.HAVE, How.COPY}:
                    unit = self._unit(item, how, file.blob)
                    found.setdefault(unit.digest, unit)
        return list(found.values())

    def _unit(self, item: ItemPlan, how: FilePlan, blob: str) -> Unit:
        digest = how.patch if how.how is How.PATCH else blob
        known = self.begun.get(digest)
        if known is not None:
            return known
        is_small = how.how is How.WHOLE
        parts = 1 if is_small else self.parts
        size = how.bytes_expected
        return Unit(digest, size, [size / parts] * parts, item.id, blob)

    def install(self, item: Courseware) -> None:
        """A lesson is whole: the version before it goes."""
        self.drop(item.id)
        self.items[item.id] = item
        for file in item.files:
            if file.blob not in self.blobs:
                begun = self.begun.pop(file.blob, None)
                self.used += file.size if begun is None else 0
            self.blobs.add(file.blob)
            if file.table:
                self.blobs.add(file.table)
            for patch in file.patches:
                self._forget(patch.blob)

    def drop(self, id_: str) -> None:
        """A lesson goes, with the blobs that no other needs."""
        item = self.items.pop(id_, None)
        if item is None:
            return
        for file in item.files:
            if file.blob in self.blobs:
                self.blobs.discard(file.blob)
                self.blobs.discard(file.table or "")
                self.used -= file.size

    def keep_begun(self, units: Iterable[Unit]) -> None:
        """The night is over: what came of unfinished units stays, with the space that they reserved."""
        for unit in units:
            if unit.missing > 0 and unit.missing < unit.size and unit.digest not in self.begun:
                self.begun[unit.digest] = unit
                self.used += unit.size

    def learn(self, at: float, bytes_per_s: float) -> None:
        """Remember how fast the line was in the hour of `at`."""
        rates = learn(self.line.rates, Instant(START + int(at)), ZONE, int(bytes_per_s))
        self.line = Line(self.line.zone, self.line.window, rates, self.line.caps, self.line.default_rate)

    def _trim(self, catalog: Catalog) -> bool:
        """Give back what was begun for lessons that are no longer offered in that form."""
        if not self.begun:
            return False
        offered = {file.blob for item in catalog.courseware for file in item.files}
        stale = [one.digest for one in self.begun.values() if one.file not in offered]
        for digest in stale:
            self._forget(digest)
        return bool(stale)

    def _forget(self, digest: str) -> None:
        unit = self.begun.pop(digest, None)
        if unit is not None:
            self.used -= unit.size
