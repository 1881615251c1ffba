"""What a sync will do, as a value: which lessons, how each file is built, in what order, what must wait and why.

Pure: state in, plan out. The executor runs exactly this plan, `--dry-run` prints it, and nothing here knows whether a
byte can be fetched. Order: recalls and removals first, for they cost nothing and must not wait behind bulk; then what
is about to expire, then by priority, then small before large, so that a short night brings many lessons.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from msgspec import Struct

from manifests.digests import Digest
from manifests.instants import Instant, dump_instant
from manifests.model import Catalog, Courseware, File, Patch
from manifests.names import Region
from manifests.pieces import BlobRef, table_bytes

# A lesson that expires within a week is of use now or never.
DEADLINE_S = 7 * 86400


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
    """

    versions: Mapping[str, int]
    blobs: Collection[str]
    partial: Mapping[Digest, int]
    room: int
    altered: Collection[str] = ()
    damaged: Collection[str] = ()


@dataclass(frozen=True, slots=True)
class Wanted:
    """What this edge wants: its county, and the columns it subscribes to (none: all)."""

    region: Region
    columns: frozenset[str] = frozenset()

    @property
    def areas(self) -> frozenset[str]:
        """Audience codes that mean this edge: its province, its city, itself (see `manifests.catalog.is_for`)."""
        return frozenset({f"{self.region[:2]}0000", f"{self.region[:4]}00", self.region})


def plan_sync(here: Here, catalog: Catalog, wanted: Wanted, now: Instant) -> SyncPlan:
    """Make the plan.

    Args:
        here: what is installed and stored.
        catalog: the verified catalog to reach.
        wanted: what of it is for this edge.
        now: trusted time.
    """
    now_text = dump_instant(now)
    areas = wanted.areas
    recalls = _plan_recalls(here, catalog)
    gone = {one.id for one in recalls}
    versions = {id_: version for id_, version in here.versions.items() if id_ not in gone}
    not_wanted: dict[str, int] = {}
    reasons: dict[str, tuple[str, str]] = {}
    due: list[Courseware] = []
    waiting: list[ItemPlan] = []
    offered: set[str] = set()
    for item in catalog.courseware:
        offered.add(item.id)
        reason = reason_against(item, wanted, areas, now_text)
        if reason is not None:
            not_wanted[reason[0]] = not_wanted.get(reason[0], 0) + 1
            reasons[item.id] = reason[1:]
        elif versions.get(item.id) != item.version or item.id in here.altered or item.id in here.damaged:
            if item.published > now_text:
                waiting.append(_not_yet(item))
            else:
                due.append(item)
    for id_ in versions:
        if id_ not in offered:
            reasons[id_] = ("the province no longer offers it", "省级源站已不再提供")
    removals = [
        ItemPlan(id_, Action.REMOVE, version, *reasons[id_]) for id_, version in versions.items() if id_ in reasons
    ]
    fills = _plan_fills(due, here, versions, now)
    items = (*recalls, *sorted(removals, key=lambda one: one.id), *fills, *waiting)
    return _total(catalog, items, not_wanted, _next_change(catalog, now_text))


def plan_blob(
    name: str,
    ref: BlobRef,
    patches: Iterable[Patch],
    here: Here,
    coming: Collection[str] = (),
    beside: Collection[str] = (),
) -> FilePlan:
    """Choose the cheapest way to one blob. Ties go to pieces: they resume, and need no old blob.

    Args:
        name: of the file.
        ref: the blob.
        patches: those that are listed for it.
        here: what this edge has.
        coming: blobs that come with earlier lessons.
        beside: blobs of the same lesson that are built before this one, and may be patched from as those that are here.
    """
    table_bytes = _table_bytes(ref, here)
    if ref.digest in here.blobs:
        return FilePlan(name, How.HAVE, ref.size, table_bytes, ref.size)
    if ref.digest in coming:
        return FilePlan(name, How.COPY, ref.size, 0, ref.size)
    partial = _partial_bytes(ref, here)
    direct = ref.size - partial + table_bytes
    best: tuple[int, Patch] | None = None
    for patch in patches:
        if patch.source in here.blobs or patch.source in beside:
            held = patch.size if patch.blob in here.blobs else _partial_bytes(patch.ref, here)
            cost = patch.size - held + (0 if patch.blob in here.blobs else _table_bytes(patch.ref, here)) + table_bytes
            if cost < (best[0] if best else direct):
                best = cost, patch
    if best is not None:
        return FilePlan(name, How.PATCH, ref.size, best[0], partial, best[1].source, best[1].blob)
    return FilePlan(name, How.WHOLE if ref.table is None else How.PIECES, ref.size, direct, partial)


def wanted_of(catalog: Catalog, wanted: Wanted, now: Instant) -> list[Courseware]:
    """The lessons of a catalog that belong on this edge at trusted time `now`."""
    areas, now_text = wanted.areas, dump_instant(now)
    return [item for item in catalog.courseware if reason_against(item, wanted, areas, now_text) is None]


def reason_against(
    item: Courseware, wanted: Wanted, areas: frozenset[str], now_text: str
) -> tuple[str, str, str] | None:
    """Say why a lesson is not for this edge: a short key, and the reason in both languages; None when it is.

    Args:
        item: the lesson.
        wanted: what is for this edge.
        areas: those of `wanted`, worked out once by whoever asks for many lessons.
        now_text: trusted time as the wire has it.
    """
    if areas.isdisjoint(item.audience):
        return "audience", f"it is not for region {wanted.region}", f"不面向本地区（{wanted.region}）"
    if wanted.columns and wanted.columns.isdisjoint(item.columns):
        return "columns", "none of its columns is subscribed to here", "所属专栏未在本地订阅"
    if item.expires is not None and item.expires <= now_text:
        return "expired", f"it expired at {item.expires}", f"已于 {item.expires} 到期"
    return None


def _partial_bytes(ref: BlobRef, here: Here) -> int:
    """Bytes of a blob that are proved here already; only a blob with a piece table can be here in part."""
    return 0 if ref.table is None else min(here.partial.get(ref.digest, 0), ref.size)


def _table_bytes(ref: BlobRef, here: Here) -> int:
    return 0 if ref.table is None or ref.table in here.blobs else table_bytes(ref.size, ref.piece_size)


def _plan_recalls(here: Here, catalog: Catalog) -> list[ItemPlan]:
    return [
        ItemPlan(recall.id, Action.RECALL, version, f"recalled: {recall.reason}", f"已撤回：{recall.reason}")
        for recall in catalog.recalls
        if (version := here.versions.get(recall.id)) is not None and version <= recall.version
    ]


def _not_yet(item: Courseware) -> ItemPlan:
    reason, reason_zh = f"not to be shown before {item.published}", f"{item.published} 之前不开放"
    return ItemPlan(item.id, Action.DEFER, item.version, reason, reason_zh, title=item.title)


def _plan_fills(due: list[Courseware], here: Here, versions: Mapping[str, int], now: Instant) -> list[ItemPlan]:
    soon_text = dump_instant(Instant(now + DEADLINE_S))
    never = "9999"

    def order(pair: tuple[Courseware, tuple[FilePlan, ...]]) -> tuple[str, int, int, str]:
        item, files = pair
        deadline = item.expires if item.expires is not None and item.expires <= soon_text else never
        return deadline, -item.priority, sum(file.bytes_expected for file in files), item.id

    coming: set[str] = set()
    room = here.room
    plans: list[ItemPlan] = []
    for item, alone in sorted(((item, _plan_files(item.files, here)) for item in due), key=order):
        files = _plan_copies(item.files, alone, coming)
        need = sum(_need(file, plan, here) for file, plan in zip(item.files, files, strict=True))
        if need and need > room:
            plans.append(_no_room(item, need, room))
            continue
        room -= need
        coming.update(file.blob for file in item.files)
        plans.append(_fill(item, versions.get(item.id), files, is_damaged=item.id in here.damaged))
    return plans


def _fill(item: Courseware, old_version: int | None, files: tuple[FilePlan, ...], *, is_damaged: bool) -> ItemPlan:
    if old_version is None:
        return ItemPlan(item.id, Action.ADD, item.version, "new", "新课件", files, item.title)
    is_repair = is_damaged and item.version == old_version
    reason, reason_zh = f"version {item.version} replaces {old_version}", f"第 {item.version} 版替换第 {old_version} 版"
    if item.version == old_version:
        reason, reason_zh = "its description changed", "课件信息有变"
        if is_repair:
            reason, reason_zh = "a file of it is lost or damaged here", "本地文件缺失或损坏"
    return ItemPlan(item.id, Action.UPDATE, item.version, reason, reason_zh, files, item.title, is_damaged=is_repair)


def _plan_files(files: tuple[File, ...], here: Here) -> tuple[FilePlan, ...]:
    """The files of a lesson as if it came alone."""
    plans: list[FilePlan] = []
    before: list[str] = []  # files that stand before it, and no others, so that no two wait for each other
    for file in files:
        plans.append(plan_blob(file.name, file.ref, file.patches, here, beside=before))
        before.append(file.blob)
    return tuple(plans) if len(files) == 1 else _plan_copies(files, plans, ())


def _plan_copies(files: tuple[File, ...], plans: Sequence[FilePlan], coming: Collection[str]) -> tuple[FilePlan, ...]:
    """The same, where a blob that comes with an earlier lesson or file need not come again."""
    found = []
    mine: set[str] = set()
    for file, plan in zip(files, plans, strict=True):
        is_coming = file.blob in coming or file.blob in mine
        mine.add(file.blob)
        found.append(_copied(plan) if is_coming and plan.how is not How.HAVE else plan)
    return tuple(found)


def _copied(plan: FilePlan) -> FilePlan:
    return FilePlan(plan.name, How.COPY, plan.size, 0, plan.size)


def _need(file: File, plan: FilePlan, here: Here) -> int:
    """Bytes of disk that a file still takes, with its table and patch; a blob that is begun has its space already."""
    if plan.how in {How.HAVE, How.COPY}:
        return plan.bytes_expected
    is_begun = file.table is not None and file.blob in here.partial
    # Without a patch, what crosses the line is the table and what is not proved of the file.
    beside = plan.bytes_expected if plan.how is How.PATCH else plan.bytes_expected - (plan.size - plan.bytes_here)
    return beside + (0 if is_begun else file.size)


def _no_room(item: Courseware, need: int, room: int) -> ItemPlan:
    reason = f"it needs {need} bytes of disk, {max(room, 0)} may be used"
    reason_zh = f"需要磁盘空间 {need} 字节，可用 {max(room, 0)} 字节"
    return ItemPlan(
        item.id, Action.DEFER, item.version, reason, reason_zh, title=item.title, for_room=True, need=need, room=room
    )


def _next_change(catalog: Catalog, now_text: str) -> str | None:
    moments = [item.expires for item in catalog.courseware if item.expires is not None]
    moments += [item.published for item in catalog.courseware if item.published > now_text]
    return min((moment for moment in moments if moment > now_text), default=None)


def _total(
    catalog: Catalog, items: tuple[ItemPlan, ...], not_wanted: dict[str, int], next_change: str | None
) -> SyncPlan:
    files = [file for item in items for file in item.files]
    return SyncPlan(
        catalog_version=catalog.version,
        items=items,
        bytes_expected=sum(file.bytes_expected for file in files),
        bytes_from_patches=sum(file.size - file.bytes_here for file in files if file.how is How.PATCH),
        bytes_reused=sum(file.bytes_here for file in files),
        not_wanted=dict(sorted(not_wanted.items())),
        next_change=next_change,
    )
