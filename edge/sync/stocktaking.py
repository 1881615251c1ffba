"""What is here of a catalog. Apart from `follow`, so that whoever only looks needs no cryptography in memory."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from edge.store.blobs import BlobStore
from edge.store.evicting import state_of
from edge.store.eviction import EvictionLimits, Holding, in_order, spare_bytes
from edge.store.library import Library, fingerprint_of
from edge.store.usage import Usage
from edge.sync.planner import Here
from manifests.digests import Digest
from manifests.instants import Instant
from manifests.model import Catalog


def take_stock(
    store: BlobStore, library: Library, usage: Usage, catalog: Catalog, limits: EvictionLimits, now: Instant
) -> Here:
    """What is here of a catalog, read from index, record and disk.

    Raises:
        StorageError: environment.
    """
    stats = store.stats()
    taken = stats.blob_bytes + stats.partial_bytes
    room = stats.free_bytes - limits.reserve_bytes
    if limits.quota_bytes:
        room = min(room, limits.quota_bytes - taken)
    versions, prints, lacking = library.versions(), library.fingerprints(), library.lacking()
    blobs, pinned = store.digests(), usage.pins()
    # What was only pulled through and is planned now was never given up by a plan: it is new.
    evicted = (usage.evicted().keys() - blobs) - (usage.pulled().keys() - lacking.keys())
    left = _users(lacking, evicted)
    same = [item for item in catalog.courseware if versions.get(item.id) == item.version]
    # What is not for this edge counts too: too high an estimate costs a look more.
    here = {item.id for item in same} - (left & pinned)
    due = sum(item.size for item in catalog.courseware if item.id not in here)
    return Here(
        versions=versions,
        blobs=blobs,
        partial=store.partials() | store.rotten(),
        room=room,
        altered=frozenset(item.id for item in same if prints.get(item.id) != fingerprint_of(item)),
        damaged=_users(lacking, lacking.keys() - evicted),
        spare=spare_bytes(taken, stats.free_bytes, limits),
        evicted=evicted,
        left=left,
        pinned=pinned,
        holdings=_giving_way(store, library, usage, catalog, limits, now) if due > room else (),
    )


def _users(lacking: Mapping[Digest, tuple[str, ...]], digests: Collection[Digest]) -> frozenset[str]:
    return frozenset(id_ for digest, ids in lacking.items() if digest in digests for id_ in ids)


def _giving_way(
    store: BlobStore, library: Library, usage: Usage, catalog: Catalog, limits: EvictionLimits, now: Instant
) -> list[Holding]:
    """What may be evicted; read only when there may be need, for it reads all that is known of every blob."""
    lessons = {item.id: item for item in catalog.courseware}
    return in_order(state_of(store, library, usage, lessons).holdings, limits, now)
