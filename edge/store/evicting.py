"""Evict: make room by removing big blobs of the least valuable lessons, item by item; the lessons stay listed.

    noted as evicted → out of the index → off the disk

Killed between two steps, a lesson is found again by the next eviction, which carries on with it: what is noted and
still lies on the disk is nobody's.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import structlog

from edge.settings import Store as StoreSettings
from edge.store.blobs import BlobStore
from edge.store.disk import remove_file
from edge.store.eviction import (
    BIG_BYTES,
    EvictionLimits,
    EvictionPlan,
    EvictionState,
    Holding,
    Standing,
    Victim,
    Wish,
    is_easy,
    is_held_row,
    most_bytes,
    plan_eviction,
)
from edge.store.failpoints import reach
from edge.store.faults import storage_faults
from edge.store.library import Library
from edge.store.locks import FileLock
from edge.store.usage import Usage, Used
from manifests.digests import Digest
from manifests.errors import BusyError, ConfigurationError
from manifests.instants import Instant, parse_instant
from manifests.model import Courseware

# Another process may be at it; what it frees serves both.
_LOCK_WAIT_S = 10.0

log = structlog.get_logger(__name__)


def make_room(
    store: BlobStore,
    library: Library,
    usage: Usage,
    limits: EvictionLimits,
    need_bytes: int,
    now: Instant,
    *,
    standing: Standing = Standing.PULLED,
    priority: int = 5,
) -> int:
    """Evict until so many more bytes fit, or below the low watermark; nothing when they would not fit all the same.

    Blocking; several processes may call it at once. It does not need `sync.lock`.

    Args:
        store: open for writing.
        library: says what is planned.
        usage: says what is used, pulled, leased and pinned.
        limits: see `limits_of`.
        need_bytes: 0 keeps to the limits only.
        now: wall clock.
        standing: of the lesson that needs the room; lessons of a higher standing do not go for it.
        priority: of a planned lesson that needs the room.

    Returns:
        Bytes freed; 0 also where another process was at it for too long. Whether they are enough is for
        `BlobStore.begin` to say.

    Raises:
        StorageError: environment.
    """
    wish = Wish(standing, priority)
    try:
        with FileLock(store.paths.evict_lock).acquire(wait_s=_LOCK_WAIT_S):
            plan = preview_eviction(store, library, usage, limits, need_bytes, now, wish=wish)
            return _finish(store, usage) + sum(_evict(store, usage, one, limits, now) for one in plan.victims)
    except BusyError as error:
        log.info("eviction_busy", reason=error.message)
        return 0


def preview_eviction(
    store: BlobStore,
    library: Library,
    usage: Usage,
    limits: EvictionLimits,
    need_bytes: int,
    now: Instant,
    *,
    wish: Wish | None = None,
) -> EvictionPlan:
    """The plan that `make_room` would carry out; changes nothing.

    Raises:
        StorageError: environment.
    """
    stats = store.stats()
    bare = EvictionState((), stats.blob_bytes + stats.partial_bytes, stats.free_bytes)
    if is_easy(bare, limits, need_bytes):
        return plan_eviction(bare, limits, need_bytes, now, wish)
    # Reading fifty thousand lessons takes a second; for a lesson to pull through nobody asks what planned ones are.
    is_for_pulled = (wish or Wish()).standing is Standing.PULLED and bare.taken_bytes <= most_bytes(bare, limits)
    state = state_of(store, library, usage, {} if is_for_pulled else None)
    return plan_eviction(state, limits, need_bytes, now, wish)


def run_eviction(
    store: BlobStore, usage: Usage, victims: Iterable[Victim], limits: EvictionLimits, now: Instant
) -> int:
    """Carry out what a plan says, but for what came to be used meanwhile; returns the bytes freed.

    Raises:
        BusyError: environment; another process was at it for too long.
        StorageError: environment; what was done stays done.
    """
    with FileLock(store.paths.evict_lock).acquire(wait_s=_LOCK_WAIT_S):
        return _finish(store, usage) + sum(_evict(store, usage, one, limits, now) for one in victims)


def limits_of(settings: StoreSettings) -> EvictionLimits:
    """The settings as the planner has them.

    Raises:
        ConfigurationError: bad data; the low watermark is not below the high one.
    """
    high, low = settings.high_watermark, settings.low_watermark
    if low >= high:
        raise ConfigurationError(
            f"store.low_watermark ({low}) is not below store.high_watermark ({high})",
            zh=f"store.low_watermark（{low}）应小于 store.high_watermark（{high}）",
            hint="correct edge.toml",
            hint_zh="请修改 edge.toml",
        )
    return EvictionLimits(settings.quota_bytes, settings.reserve_bytes, high, low, settings.keep_used_s)


def state_of(
    store: BlobStore, library: Library, usage: Usage, lessons: Mapping[str, Courseware] | None = None
) -> EvictionState:
    """What is here, as the planner has it.

    Args:
        store: of the blobs.
        library: of the installed lessons.
        usage: what is known of both.
        lessons: the installed ones, when they were read already.

    Raises:
        StorageError: environment.
    """
    stats = store.stats()
    sizes, users = _big(store)
    rows, pins = usage.rows(), usage.pins()
    lessons = library.installed() if lessons is None else lessons
    groups: dict[tuple[str, ...], list[Digest]] = {}
    for digest in sizes:
        row = rows.get(digest)
        ids = users.get(digest) or ((row.courseware,) if row is not None and row.pulled_at and row.courseware else ())
        if ids:  # what nobody needs is for collecting
            groups.setdefault(ids, []).append(digest)
    holdings = tuple(
        _holding(
            ids, {digest: sizes[digest] for digest in digests}, rows, pins, lessons, is_planned=digests[0] in users
        )
        for ids, digests in sorted(groups.items())
    )
    return EvictionState(holdings, stats.blob_bytes + stats.partial_bytes, stats.free_bytes)


def lost(library: Library, usage: Usage) -> dict[Digest, tuple[str, ...]]:
    """Blobs that installed lessons need and that are not here although nobody evicted them; see `Library.lacking`.

    Raises:
        StorageError: environment.
    """
    lacking = library.lacking()
    evicted = usage.evicted() if lacking else {}
    return {digest: ids for digest, ids in lacking.items() if digest not in evicted}


def count_evicted(library: Library, usage: Usage) -> int:
    """How many installed lessons lack big blobs for want of room.

    Raises:
        StorageError: environment.
    """
    lacking = library.lacking()
    evicted = usage.evicted() if lacking else {}
    return len({id_ for digest, ids in lacking.items() if digest in evicted for id_ in ids})


def _big(store: BlobStore) -> tuple[dict[Digest, int], dict[Digest, tuple[str, ...]]]:
    """Sizes of the big blobs, whole or begun, and which installed lessons need each."""
    with store.index.snapshot() as db:
        sql = "SELECT digest, size FROM blobs WHERE size >= ? UNION SELECT digest, size FROM partials WHERE size >= ?"
        sizes = {Digest(digest): int(size) for digest, size in db.execute(sql, (BIG_BYTES, BIG_BYTES))}
        found: dict[Digest, list[str]] = {}
        for digest, one in db.execute("SELECT digest, id FROM refs ORDER BY digest, id"):
            if digest in sizes:
                found.setdefault(Digest(digest), []).append(one)
    return sizes, {digest: tuple(ids) for digest, ids in found.items()}


def _holding(
    ids: tuple[str, ...],
    sizes: Mapping[Digest, int],
    rows: Mapping[Digest, Used],
    pins: frozenset[str],
    lessons: Mapping[str, Courseware],
    *,
    is_planned: bool,
) -> Holding:
    standing = Standing.PLANNED if is_planned else Standing.PULLED
    known = [rows[digest] for digest in sizes if digest in rows]
    items = [lessons[one] for one in ids if one in lessons]
    arrived = max((row.arrived_at for row in known), default=0)
    return Holding(
        ids,
        Standing.PINNED if not pins.isdisjoint(ids) else standing,
        tuple(sorted(sizes)),
        sum(sizes.values()),
        max((item.priority for item in items), default=0),
        Instant(max(arrived, *(parse_instant(item.published) for item in items), 0)),
        Instant(max((row.used_at for row in known), default=0)),
        sum(row.heat for row in known),
        max((row.floor for row in known), default=0.0),
        Instant(max((row.leased_until for row in known), default=0)),
    )


def _evict(store: BlobStore, usage: Usage, victim: Victim, limits: EvictionLimits, now: Instant) -> int:
    """One lesson's big blobs; nothing when somebody came for them since the plan was made."""
    if any(is_held_row(row.leased_until, row.used_at, limits, now) for row in map(usage.row, victim.blobs)):
        return 0
    partials = store.partials()
    sizes = {digest: store.size(digest) or 0 for digest in victim.blobs}
    # On a disk filled to its last byte, what is to make room must not fail for want of it.
    store.ballast.spend(lambda: usage.note_evicted(sizes, now, victim.standing, victim.worth))
    reach("evict:noted")
    freed = sum(store.drop_partial(digest) for digest in victim.blobs if digest in partials)
    freed += store.delete(digest for digest in victim.blobs if digest not in partials)
    log.info("evicted", ids=victim.ids, standing=victim.standing, bytes=freed, reason=victim.reason)
    return freed


def _finish(store: BlobStore, usage: Usage) -> int:
    """Remove what a killed eviction left: files that are out of the index, and noted as evicted."""
    freed = 0
    for digest in _stray(store, usage.evicted()):
        with storage_faults(f"removing blob {digest[:16]}", f"删除数据块 {digest[:16]}"):
            freed += remove_file(store.path(digest))
    return freed


def _stray(store: BlobStore, evicted: Iterable[Digest]) -> Iterator[Digest]:
    """A file that a fill has just given its name has a row of its partial still, so it is not taken for one."""
    for digest in evicted:
        if store.path(digest).exists():
            known = "SELECT 1 FROM blobs WHERE digest = ? UNION ALL SELECT 1 FROM partials WHERE digest = ?"
            if not store.index.read(known, (digest, digest)):
                yield digest
