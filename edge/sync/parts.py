"""What a sync works with, put together once in app.py and handed down."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from edge.clock import Clock
from edge.store.blobs import BlobStore
from edge.store.library import Library
from edge.sync.planner import Wanted
from edge.sync.transfer import TransferLimits
from edge.sync.trust import Trust
from edge.upstream.sources import Sources

# Stage, bytes done, bytes in all; called from the event loop.
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class Parts:
    """The parts of one run.

    Attributes:
        publisher: region code of the province whose catalog is followed.
        quota_bytes: most that blobs may take on the disk; 0: only the reserve bounds them.
        reserve_bytes: free space that is never used up.
        stale_after_s, expired_after_s: see `freshness_of`.
        poll_s: a run that is at work asks for a newer release so often.
        monotonic: seconds for durations.
    """

    store: BlobStore
    library: Library
    trust: Trust
    sources: Sources
    wanted: Wanted
    publisher: str
    limits: TransferLimits
    quota_bytes: int
    reserve_bytes: int
    stale_after_s: int
    expired_after_s: int
    poll_s: float
    clock: Clock
    monotonic: Callable[[], float]
