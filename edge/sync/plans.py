"""The values that a plan is made of, and the state that it is made from. Pure; see `edge.sync.planner`."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from msgspec import Struct

from edge.store.eviction import Holding, Victim
from manifests.digests import Digest
from manifests.model import Courseware


class Action(StrEnum):
    """What happens to one courseware."""

    RECALL = "recall"
    REMOVE = "remove"
    ADD = "add"
    UPDATE = "update"
    DEFER = "defer"


class How(StrEnum):
    """How one blob comes to be here."""

    HAVE = "have"
    COPY = "copy"  # an earlier file of this plan is the same blob
    PATCH = "patch"
    PIECES = "pieces"
    WHOLE = "whole"
    EVICTED = "evicted"  # left out: it, or its earlier version, went for want of room


class FilePlan(Struct, frozen=True, omit_defaults=True, gc=False):
    """One file.

    Attributes:
        size: length of the file.
        bytes_expected: bytes of body that should cross the line, tables included.
        bytes_here: bytes of the result that are here already, proved.
        source: with PATCH, the older blob, or that of an earlier file; `patch` is the patch's own digest.
    """

    name: str
    how: How
    size: int
    bytes_expected: int
    bytes_here: int
    source: str = ""
    patch: str = ""


class ItemPlan(Struct, frozen=True, omit_defaults=True, gc=False):
    """One courseware; `version` is the one aimed at, or for a recall or removal the one that goes.

    Attributes:
        for_room: deferred because the disk has no room: it takes `need` bytes where `room` may be used.
        expected: when it will be here, once promised (see `promise_plan`); None: not in sight.
        fits: whether that is before tonight's window ends; None: nothing was promised.
        late, late_zh: why it does not fit.
        evicts: lessons whose big files go first, to make room for it.
        is_evicted: its big files are not here for want of room, and stay so for now.
        is_back: it was evicted, and comes again.
    """

    id: str
    action: Action
    version: int
    reason: str
    reason_zh: str
    files: tuple[FilePlan, ...] = ()
    title: str = ""
    for_room: bool = False
    expected: str | None = None
    fits: bool | None = None
    late: str = ""
    late_zh: str = ""
    need: int = 0
    room: int = 0
    is_damaged: bool = False
    evicts: tuple[Victim, ...] = ()
    is_evicted: bool = False
    is_back: bool = False

    @property
    def bytes_expected(self) -> int:
        """Bytes of body that should cross the line."""
        return sum(file.bytes_expected for file in self.files)


class SyncPlan(Struct, frozen=True):
    """The whole plan, in order of execution.

    Attributes:
        bytes_expected: bytes of body that should cross the line.
        bytes_from_patches: bytes of result that patches build.
        bytes_reused: bytes of result that are here already.
        not_wanted: lessons of the catalog that are not for this edge, counted by reason.
        next_change: earliest instant at which the same catalog gives another plan (a lesson begins or expires).
    """

    catalog_version: int
    items: tuple[ItemPlan, ...]
    bytes_expected: int
    bytes_from_patches: int
    bytes_reused: int
    not_wanted: dict[str, int]
    next_change: str | None = None

    def of(self, *actions: Action) -> tuple[ItemPlan, ...]:
        """The items with one of these actions, in order."""
        return tuple(item for item in self.items if item.action in actions)


@dataclass(frozen=True, slots=True)
class Here:
    """What this edge has.

    Attributes:
        versions: installed courseware: id → version.
        altered: ids installed at the catalog's version, of which the catalog says something else all the same (a
            column, an audience).
        damaged: installed ids of which a file or its piece table is lost or rotten.
        blobs: digests of whole blobs.
        partial: bytes proved so far of blobs that are begun, or rotten in places, by their digest.
        room: bytes that may still be taken on the disk (free space less the reserve, quota less what is used).
        spare: bytes of it below the low watermark.
        evicted: blobs that went for want of room and are not here.
        left: installed ids that lack such a blob.
        pinned: ids that a person wants to stay: such a one comes back like any that is new.
        holdings: what may give way when the room is too little, the first to go first.
    """

    versions: Mapping[str, int]
    blobs: Collection[str]
    partial: Mapping[Digest, int]
    room: int
    altered: Collection[str] = ()
    damaged: Collection[str] = ()
    spare: int = 0
    evicted: Collection[str] = ()
    left: Collection[str] = ()
    pinned: Collection[str] = ()
    holdings: Sequence[Holding] = ()

    def lacks(self, item: Courseware) -> bool:
        """Whether this lesson, or the version of it that is shown, was evicted."""
        return item.id in self.left or any(file.blob in self.evicted for file in item.files)
