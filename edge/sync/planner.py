"""What a sync will do, as a value: which lessons, how each file is built, in what order, what must wait and why.

Pure: state in, plan out. The executor runs exactly this plan, `--dry-run` prints it, and nothing here knows whether a
byte can be fetched. Order: recalls and removals first, for they cost nothing and must not wait behind bulk; then what
is about to expire, then by priority, then small before large, so that a short night brings many lessons.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import replace as replaced

from msgspec.structs import replace

from edge.store.eviction import BIG_BYTES
from edge.sync.plans import Action, FilePlan, Here, How, ItemPlan, SyncPlan
from edge.sync.room import Room
from edge.sync.wanting import Wanted, reason_against
from manifests.instants import Instant, dump_instant
from manifests.model import Catalog, Courseware, File, Patch
from manifests.pieces import BlobRef, table_bytes

__all__ = ["Action", "FilePlan", "Here", "How", "ItemPlan", "SyncPlan", "plan_blob", "plan_sync"]

# A lesson that expires within a week is of use now or never.
DEADLINE_S = 7 * 86400
_EVICTED = (
    "evicted: no room; it is fetched when somebody opens it",
    "因空间不足已淘汰，点播时再取回",
)


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
        elif versions.get(item.id) != item.version or _is_amiss(item.id, here):
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
    going = gone.union(one.id for one in removals)
    # What is recalled or removed gives its room back without giving way.
    here = replaced(here, holdings=[one for one in here.holdings if going.isdisjoint(one.ids)])
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
    ordered = sorted(((item, _plan_files(item.files, here)) for item in due), key=order)
    room = Room(here.room, here.spare, here.holdings, _built_from(ordered) if here.holdings else (), now)
    plans: list[ItemPlan] = []
    # What was evicted comes last: it is planned again only in room that nobody else wants.
    for item, alone in sorted(ordered, key=lambda pair: here.lacks(pair[0])) if here.evicted else ordered:
        files = _plan_copies(item.files, alone, coming)
        need = _need_all(item, files, here)
        is_back = False
        if here.lacks(item):
            is_back = item.id in here.pinned or room.take_spare(need)
            if not is_back and versions.get(item.id) == item.version and not _is_amiss(item.id, here, but_left=True):
                plans.append(_stays_evicted(item, need))
                continue
            files = files if is_back else tuple(_without(file) for file in files)
            need = _need_all(item, files, here) if not is_back or item.id in here.pinned else 0
        left, victims = room.left, room.take(need, item.priority)
        if victims is None:
            plans.append(_no_room(item, need, left))
            continue
        coming.update(file.blob for file, plan in zip(item.files, files, strict=True) if plan.how is not How.EVICTED)
        plan = _fill(item, versions.get(item.id), files, is_damaged=item.id in here.damaged)
        plan = _comes_back(plan) if is_back else plan
        plans.append(replace(plan, evicts=victims) if victims else plan)
    return plans


def _is_amiss(id_: str, here: Here, *, but_left: bool = False) -> bool:
    """Whether an installed lesson is not as the catalog has it, at the same version."""
    return id_ in here.altered or id_ in here.damaged or (id_ in here.left and not but_left)


def _built_from(due: Iterable[tuple[Courseware, tuple[FilePlan, ...]]]) -> set[str]:
    """Blobs that the lessons to come are or start from."""
    return {name for item, files in due for file in item.files for name in (file.blob, *(one.source for one in files))}


def _need_all(item: Courseware, files: tuple[FilePlan, ...], here: Here) -> int:
    return sum(_need(file, plan, here) for file, plan in zip(item.files, files, strict=True))


def _without(plan: FilePlan) -> FilePlan:
    """A big file that is left out; the small ones of an evicted lesson are kept as new as any."""
    if plan.how is How.HAVE or plan.size < BIG_BYTES:
        return plan
    return FilePlan(plan.name, How.EVICTED, plan.size, 0, 0)


def _comes_back(plan: ItemPlan) -> ItemPlan:
    reason, reason_zh = "evicted before; there is room again", "曾因空间不足淘汰，现空间已够"
    return replace(plan, reason=reason, reason_zh=reason_zh, is_back=True)


def _stays_evicted(item: Courseware, need: int) -> ItemPlan:
    return ItemPlan(item.id, Action.DEFER, item.version, *_EVICTED, title=item.title, need=need, is_evicted=True)


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
    return tuple(plans) if len(files) == 1 else _plan_copies(files, plans, frozenset())


def _plan_copies(files: tuple[File, ...], plans: Sequence[FilePlan], coming: AbstractSet[str]) -> tuple[FilePlan, ...]:
    """The same, where a blob that comes with an earlier lesson or file need not come again."""
    names = {file.blob for file in files}
    if len(names) == len(files) and coming.isdisjoint(names):  # nearly always
        return tuple(plans)
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
    if plan.how in {How.HAVE, How.COPY, How.EVICTED}:
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
