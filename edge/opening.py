"""One edge opened for writing: its directory, settings, store and trust."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from edge.clock import Clock
from edge.paths import Paths
from edge.settings import Settings
from edge.store.blobs import BlobStore
from edge.store.configuration import read_bundle, read_settings
from edge.store.evicting import limits_of as room_limits
from edge.store.library import Library
from edge.store.usage import Usage
from edge.sync.trust import Trust
from manifests.bundle import Bundle, check_upstream


@dataclass(frozen=True, slots=True)
class Edge:
    """One opened edge."""

    paths: Paths
    settings: Settings
    bundle: Bundle
    store: BlobStore
    library: Library
    usage: Usage
    trust: Trust
    clock: Clock


@asynccontextmanager
async def open_edge(
    root: Path, env: Mapping[str, str], clock: Clock, settings: Settings | None = None
) -> AsyncIterator[Edge]:
    """Open the edge in `root` for writing; its index is rebuilt from the disk first when it is lost or damaged.

    Args:
        root: the edge's directory.
        env: environment, for settings.
        clock: wall clock.
        settings: those that were read already, if any.

    Raises:
        ConfigurationError: there is no edge, or it is configured wrongly.
        StorageError: environment.
    """
    paths = Paths(root)
    settings = settings or read_settings(paths, env)
    bundle = read_bundle(paths)
    own = filter(None, [settings.upstream.own_url, settings.report.url])
    for url in (*settings.upstream.urls, *settings.upstream.siblings, *own):
        check_upstream(url)
    room_limits(settings.store)
    with BlobStore.open(paths, reserve_bytes=settings.store.reserve_bytes) as store, Usage.open(paths.usage) as usage:
        trust = Trust(paths.trust, bundle, clock, store.ballast)
        yield Edge(paths, settings, bundle, store, Library(store), usage, trust, clock)
