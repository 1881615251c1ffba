"""The scrub as an edge runs it: which share is tonight's, and where a rotten piece comes from."""

from __future__ import annotations

from functools import partial

from edge.clock import Clock
from edge.reasons import UpstreamReason, because
from edge.settings import Scrub
from edge.store.blobs import BlobStore
from edge.store.library import Library
from edge.store.scrub import ScrubReport, candidates, run_scrub, seasoned
from edge.store.scrub_log import read_scrubs
from edge.store.scrub_plan import ScrubPlan, plan_share
from edge.sync.parts import Progress
from edge.upstream.client import Upstream, blob_path
from edge.upstream.sources import Sources
from manifests.digests import check_bytes
from manifests.instants import Instant
from manifests.pieces import BlobRef, PieceTable

_DAY_S = 86400.0
_MOST_NIGHTS_AT_ONCE = 7.0


def plan_tonight(store: BlobStore, limits: Scrub, now: Instant) -> ScrubPlan:
    """This night's share of the disk; nights that were missed are made up for, a week of them at most. Blocking.

    Raises:
        StorageError: environment.
    """
    last = read_scrubs(store.paths.scrubs)
    missed_days = (now - last[-1].at) / _DAY_S if last else 1.0
    nights = min(max(1.0, missed_days), _MOST_NIGHTS_AT_ONCE)
    return plan_share(seasoned(store, candidates(store), now), limits.cycle_days / nights, limits.budget_bytes)


async def scrub_with(
    sources: Sources,
    store: BlobStore,
    library: Library,
    plan: ScrubPlan,
    clock: Clock,
    repair: bool,
    progress: Progress | None,
) -> ScrubReport:
    """Carry out a scrub plan; with `repair` rotten pieces are fetched again.

    Raises:
        BusyError: environment; a sync is running.
        StorageError: environment.
    """

    async def fetch(ref: BlobRef, table: PieceTable | None, n: int) -> bytes:
        with because(UpstreamReason.DAMAGED):
            return await sources.fetch(f"blob {ref.digest[:16]}", partial(_fetch_piece, ref, table, n))

    return await run_scrub(store, library, plan, clock(), fetch if repair else None, progress)


async def _fetch_piece(ref: BlobRef, table: PieceTable | None, n: int, upstream: Upstream) -> bytes:
    """One piece from one source; it is proved here too, so that a bad one is asked of the next source."""
    start, stop = table.bounds(n) if table is not None else (0, ref.size)
    data = await upstream.get_range(blob_path(ref.digest), start, stop, ref.size)
    if table is not None:
        table.check_piece(n, data)
    else:
        check_bytes(data, ref.digest, ref.size, f"blob {ref.digest[:16]} from {upstream.url}")
    return data
