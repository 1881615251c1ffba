"""What a sync works with, put together once in app.py and handed down."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import tzinfo

from edge.clock import Clock
from edge.store.blobs import BlobStore
from edge.store.eviction import EvictionLimits
from edge.store.library import Library
from edge.store.usage import Usage
from edge.sync.bulk import Bulk
from edge.sync.carried import Carried
from edge.sync.city import City
from edge.sync.gauge import Gauge
from edge.sync.transfer import TransferLimits
from edge.sync.trust import Trust
from edge.sync.wanting import Wanted
from edge.upstream.sources import Sources
from manifests.line import Line

# Stage, bytes done, bytes in all; called from the event loop.
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class Parts:
    """The parts of one run.

    Attributes:
        publisher: region code of the province whose catalog is followed.
        room: how much may be here, and what gives way.
        stale_after_s, expired_after_s: see `freshness_of`.
        poll_s: a run that is at work asks for a newer release so often.
        line, zone: what is known of the line, to promise by.
        ignore_window: this run does not wait for the night, nor end with it.
        lock_wait_s: how long another sync is waited for.
        gauge: measures the line meanwhile.
        monotonic: seconds for durations.
        bulk: whether lessons may be fetched, and how fast.
        city: the edges that this one shares its work with; None: none.
        carried: what a courier disk brings, when it is the source; None for a line.
    """

    store: BlobStore
    library: Library
    usage: Usage
    trust: Trust
    sources: Sources
    city: City | None
    wanted: Wanted
    publisher: str
    limits: TransferLimits
    room: EvictionLimits
    stale_after_s: int
    expired_after_s: int
    poll_s: float
    line: Line
    zone: tzinfo
    ignore_window: bool
    lock_wait_s: float
    gauge: Gauge
    clock: Clock
    monotonic: Callable[[], float]
    bulk: Bulk = field(default_factory=Bulk)
    carried: Carried | None = None
