"""What whoever keeps the nights works with, put together in app.py and handed up."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from edge.store.scrub import ScrubReport
from edge.sync.bulk import Bulk
from edge.sync.report import SyncReport
from edge.sync.window import Schedule
from edge.upstream.body import Count


@dataclass(frozen=True, slots=True)
class Nights:
    """The nights of one edge.

    Attributes:
        schedule: gives the schedule of now; what was measured of the line may have changed since the last run.
        sync: one run.
        scrub: reads this night's share of the disk again; gives way to a run that wants the disk.
        evict: keeps to the watermarks; tells the bytes freed.
        watch: counts a portion of what terminals took; tells the lines read. None: nothing is counted.
    """

    schedule: Callable[[], Schedule]
    sync: Callable[[Bulk, Count], Awaitable[SyncReport]]
    scrub: Callable[[], Awaitable[ScrubReport]]
    evict: Callable[[], Awaitable[int]]
    watch: Callable[[], Awaitable[int]] | None = None
