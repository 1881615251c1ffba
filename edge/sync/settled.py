"""Whether a poll can find nothing to do: what a run that completed notes, and the next one compares."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from edge.store.evicting import lost
from edge.store.eviction import spare_bytes
from edge.sync.follow import Followed
from edge.sync.parts import Parts
from edge.sync.planner import SyncPlan
from edge.sync.report import Deferred
from manifests.digests import Digest
from manifests.instants import dump_instant

SETTLED_NOTE = "settled"
# So many evicted lessons are told again by each poll; `yuanjiao edge why` has all.
_MOST_TOLD = 200


@dataclass(frozen=True, slots=True)
class Settled:
    """The last run left nothing to do but this.

    Attributes:
        waits: lessons that wait for the window.
        evicted: lessons whose big files are not here for want of room.
    """

    waits: tuple[str, ...] = ()
    evicted: Mapping[str, Deferred] = field(default_factory=dict)


def settled_note(parts: Parts, followed: Followed, plan: SyncPlan, waits: Mapping[str, Deferred]) -> dict[str, object]:
    """What to keep after a run that completed."""
    evicted = [item for item in plan.items if item.is_evicted]
    return {
        **_same(parts, followed),
        "until": plan.next_change,
        "waits": sorted(waits),
        "evicted": [[item.id, item.reason, item.reason_zh] for item in evicted[:_MOST_TOLD]],
        # Room may come without a release: others give it back on the same disk, or a person does.
        "back_at": min((item.need for item in evicted), default=0),
    }


def read_settled(parts: Parts, followed: Followed) -> Settled | None:
    """What the last run left when all is still as it was then; None when there may be something to do.

    Raises:
        StorageError: environment.
    """
    note = parts.library.get_meta(SETTLED_NOTE)
    if not isinstance(note, dict):
        return None
    until, waits, evicted = note.pop("until", None), note.pop("waits", []), note.pop("evicted", [])
    back_at = note.pop("back_at", 0)
    is_same = note == _same(parts, followed) and (until is None or dump_instant(followed.now) < until)
    installed = [followed.state.digest, *(one.digest for one in parts.library.city_catalogs().values())]
    if not is_same or not all(parts.store.has(Digest(one)) for one in installed):
        return None
    if waits and parts.bulk.refusal is None:
        return None
    if (evicted and spare_of(parts) >= back_at) or (not waits and lost(parts.library, parts.usage)):
        return None
    return Settled(tuple(waits), {id_: Deferred(id_, reason, reason_zh, True) for id_, reason, reason_zh in evicted})


def spare_of(parts: Parts) -> int:
    """Room below the low watermark."""
    stats = parts.store.stats()
    return spare_bytes(stats.blob_bytes + stats.partial_bytes, stats.free_bytes, parts.room)


def _same(parts: Parts, followed: Followed) -> dict[str, object]:
    wanted = parts.wanted
    return {
        "catalog": followed.state.digest,
        "cities": [*followed.state.catalogs[1:], *sorted(parts.library.city_catalogs())],
        "region": wanted.region,
        "columns": sorted(wanted.columns),
        "quota_bytes": parts.room.quota_bytes,
        "pins": sorted(parts.usage.pins()),
    }
