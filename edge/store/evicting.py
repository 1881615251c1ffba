"""Evict: make room by removing big blobs of the least valuable lessons, item by item; the lessons stay listed."""

from __future__ import annotations

from edge.settings import Store as StoreSettings
from edge.store.blobs import BlobStore
from edge.store.eviction import EvictionLimits, Standing
from edge.store.library import Library
from edge.store.usage import Usage
from manifests.instants import Instant


def make_room(
    store: BlobStore,
    library: Library,
    usage: Usage,
    limits: EvictionLimits,
    need_bytes: int,
    now: Instant,
    *,
    standing: Standing = Standing.PULLED,
) -> int:
    """Evict until so many more bytes fit, or below the low watermark; nothing when they would not fit all the same.

    Blocking; several processes may call it at once. It does not need `sync.lock`.

    Args:
        store: open for writing.
        library: says what is planned.
        usage: says what is used, pulled, leased and pinned.
        limits: see `limits_of`.
        need_bytes: 0 keeps to the watermarks only.
        now: wall clock.
        standing: of the lesson that needs the room; lessons of a higher standing do not go for it.

    Returns:
        Bytes freed. Whether they are enough is for `BlobStore.begin` to say.

    Raises:
        StorageError: environment.
    """
    del store, library, usage, limits, need_bytes, now, standing
    return 0  # nothing goes yet: the planner comes with the next commits


def limits_of(settings: StoreSettings) -> EvictionLimits:
    """The settings as the planner has them."""
    return EvictionLimits(settings.quota_bytes, settings.reserve_bytes, 0.95, 0.90, 1800.0)
