"""The plan of an import: what a courier disk brings, as a value. Pure; the sync's own planner does the planning.

A disk carries some lessons of the catalog and not others. What it lacks is neither added nor removed by an import: it
comes on another disk or over the line, and takes no room from what is here in the hand.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace

import msgspec

from edge.sync.planner import Action, FilePlan, Here, How, ItemPlan, SyncPlan, plan_sync
from edge.sync.wanting import Wanted, wanted_of
from manifests.instants import Instant
from manifests.model import Catalog, Courseware, File, Patch

_ELSEWHERE = ("it comes on another disk, or over the line", "不在本盘上，将随其他递送盘或经网络送达")


@dataclass(frozen=True, slots=True)
class Carried:
    """What a courier disk has.

    Attributes:
        blobs: digests that can be read from it.
        timestamp_version: version that its timestamp claims, unproved.
    """

    blobs: frozenset[str]
    timestamp_version: int = 0


def plan_carried(here: Here, catalog: Catalog, wanted: Wanted, now: Instant, carried: Carried) -> SyncPlan:
    """Make the plan of what can be built from the disk and from what is here.

    Args:
        here: what is installed and stored.
        catalog: the verified catalog.
        wanted: what of it is for this edge.
        now: trusted time.
        carried: what the disk has.
    """
    at_hand = carried.blobs | frozenset(here.blobs)
    absent = [item for item in wanted_of(catalog, wanted, now) if not _is_at_hand(item, at_hand, here)]
    recalled = {one.id for one in catalog.recalls if here.versions.get(one.id, one.version + 1) <= one.version}
    kept = {item.id: item.version for item in absent if item.id in here.versions and item.id not in recalled}
    hidden = {item.id for item in absent}.difference(kept)
    plan = plan_sync(
        # A lesson that stays as it is for now counts as up to date.
        replace(
            here,
            versions={**here.versions, **kept},
            altered=frozenset(here.altered).difference(kept),
            damaged=frozenset(here.damaged).difference(kept),
            left=frozenset(here.left).difference(kept),
        ),
        msgspec.structs.replace(
            catalog, courseware=tuple(item for item in catalog.courseware if item.id not in hidden)
        ),
        wanted,
        now,
    )
    offered = {item.id: item for item in catalog.courseware}
    items = [_fitted(item, offered, at_hand, here.blobs) for item in plan.items]
    due = [item for item in absent if here.versions.get(item.id) != item.version or item.id in here.damaged]
    items += [ItemPlan(item.id, Action.DEFER, item.version, *_ELSEWHERE, title=item.title) for item in due]
    return msgspec.structs.replace(plan, items=tuple(items), bytes_expected=sum(one.bytes_expected for one in items))


def _is_at_hand(item: Courseware, at_hand: Collection[str], here: Here) -> bool:
    """Tell whether all of a lesson can be built without another source."""
    return all(
        (file.table is None or file.table in at_hand)
        and (file.blob in at_hand or any(_is_patch_at_hand(one, at_hand, here.blobs, beside) for one in file.patches))
        for file, beside in _with_earlier(item)
    )


def _with_earlier(item: Courseware) -> list[tuple[File, frozenset[str]]]:
    """The files of a lesson, each with the blobs of those before it, from which it may be patched."""
    blobs = [file.blob for file in item.files]
    return [(file, frozenset(blobs[:n] if file.patches else ())) for n, file in enumerate(item.files)]


def _is_patch_at_hand(patch: Patch, at_hand: Collection[str], blobs: Collection[str], beside: Collection[str]) -> bool:
    has_source = patch.source in blobs or patch.source in beside
    return has_source and patch.blob in at_hand and (patch.table is None or patch.table in at_hand)


def _fitted(
    item: ItemPlan, offered: dict[str, Courseware], at_hand: Collection[str], blobs: Collection[str]
) -> ItemPlan:
    """Replace ways that this disk does not offer by one that it does."""
    if item.action not in {Action.ADD, Action.UPDATE}:
        return item
    pairs = zip(_with_earlier(offered[item.id]), item.files, strict=True)
    ways = (_way(file, plan, at_hand, blobs, beside) for (file, beside), plan in pairs)
    return msgspec.structs.replace(item, files=tuple(ways))


def _way(
    file: File, plan: FilePlan, at_hand: Collection[str], blobs: Collection[str], beside: Collection[str]
) -> FilePlan:
    if plan.how in {How.HAVE, How.COPY, How.EVICTED}:
        return plan
    patches = [one for one in file.patches if _is_patch_at_hand(one, at_hand, blobs, beside)]
    if plan.how is How.PATCH and any(one.blob == plan.patch for one in patches):
        return plan
    if file.blob in at_hand:
        if plan.how is not How.PATCH:
            return plan
        how = How.WHOLE if file.table is None else How.PIECES
        return FilePlan(plan.name, how, plan.size, plan.size - plan.bytes_here, plan.bytes_here)
    best = min(patches, key=lambda one: one.size)
    return FilePlan(plan.name, How.PATCH, plan.size, best.size, plan.bytes_here, best.source, best.blob)
