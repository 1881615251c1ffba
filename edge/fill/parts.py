"""What the filler works with, put together once in `edge.sync.foreground` and handed down."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass

from edge.clock import Clock
from edge.fill.offers import Newest
from edge.paths import Paths
from edge.settings import Settings
from edge.store.library import Library
from edge.upstream.body import Count
from edge.upstream.sources import Sources
from manifests.names import Region


@dataclass(frozen=True, slots=True)
class FillParts:
    """The parts of one filler.

    Attributes:
        newest: the newest verified release as it stands on the disk; blocking.
        sources: opens the sources, with the bans of earlier runs, and tells of every byte.
        keep_bans: notes the bans of this run for the next; blocking.
    """

    paths: Paths
    settings: Settings
    region: Region
    clock: Clock
    newest: Newest
    sources: Callable[[Library, Count], AbstractAsyncContextManager[Sources]]
    keep_bans: Callable[[Library, Sources], None]
