"""What the filler needs of a sync's knowledge: the newest verified release, the sources and their bans."""

from __future__ import annotations

import random
import time
from contextlib import AbstractAsyncContextManager
from pathlib import Path

from edge.clock import Clock, system_clock
from edge.fill.offers import Release
from edge.fill.parts import FillParts
from edge.paths import Paths
from edge.settings import Settings
from edge.store.configuration import read_bundle
from edge.store.library import Library
from edge.sync.bans import keep_bans, read_bans
from edge.sync.freshness import trusted_now
from edge.sync.state_file import load_state
from edge.upstream.body import Count
from edge.upstream.opening import open_sources
from edge.upstream.sources import Sources
from manifests.names import Region

# With somebody waiting, a source that failed is tried again sooner than at night.
_COOL_DOWN_MOST_S = 5.0


def fill_parts(root: Path, settings: Settings, clock: Clock = system_clock) -> FillParts:
    """What the filler of the edge in `root` works with; it opens the edge only while there is something to fill.

    Raises:
        ConfigurationError: the bundle is missing or damaged.
    """
    paths = Paths(root)
    bundle = read_bundle(paths)
    urls = tuple(url.rstrip("/") for url in settings.upstream.urls or bundle.upstreams)

    def newest() -> Release | None:
        state = load_state(paths.trust)
        if state is None:
            return None
        cities = {one.city: one.catalog for one in state.cities}
        return Release(state.catalog, trusted_now(clock(), state.floor), cities)

    def sources(library: Library, count: Count) -> AbstractAsyncContextManager[Sources]:
        rng = random.Random()  # noqa: S311 - spreads retries in time, guards nothing
        banned = read_bans(library, clock(), settings.upstream.ban_s)
        return open_sources(settings.upstream, urls, banned, rng, time.monotonic, count, _COOL_DOWN_MOST_S)

    def keep(library: Library, opened: Sources) -> None:
        keep_bans(library, clock(), opened)

    return FillParts(paths, settings, Region(bundle.region), clock, newest, sources, keep)
