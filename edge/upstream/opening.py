"""Upstreams opened by an edge's settings: those above, and the siblings of its city."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace

from edge.settings import Upstream
from edge.upstream.body import Count
from edge.upstream.client import open_upstreams
from edge.upstream.progress import Limits
from edge.upstream.sources import Patience, Sources

# First cool-down after a fault; the setting bounds its doubling.
_FIRST_COOL_DOWN_S = 0.5
# Requests to the preferred source before the next one carries beside it: below the window that every run begins with.
_PER_SOURCE = 3


def limits_of(settings: Upstream) -> Limits:
    """Deadlines of requests."""
    return Limits(
        connect_s=settings.connect_timeout_s,
        answer_s=settings.progress_timeout_s,
        window_s=settings.progress_timeout_s,
        floor_bytes=int(settings.floor_bytes_per_s * settings.progress_timeout_s),
        total_s=settings.total_timeout_s,
    )


@asynccontextmanager
async def open_sources(
    settings: Upstream,
    urls: tuple[str, ...],
    banned: Mapping[str, float],
    rng: random.Random,
    monotonic: Callable[[], float],
    count: Count | None = None,
    cool_down_most_s: float | None = None,
) -> AsyncIterator[Sources]:
    """Open what an edge may fetch from, for one run.

    Args:
        settings: of the upstreams.
        urls: addresses above, most preferred first.
        banned: seconds that bans of earlier runs still have to go, by address.
        rng: spreads retries in time.
        monotonic: seconds for durations.
        count: told of every byte of body.
        cool_down_most_s: longest cool-down, where a shorter one than the setting's is wanted.

    Raises:
        ConfigurationError: the file of certificate authorities cannot be used.
    """
    patience = Patience(
        attempts=settings.retries + 1,
        cool_down_s=min(_FIRST_COOL_DOWN_S, settings.cooldown_s),
        cool_down_most_s=min(settings.cooldown_s, cool_down_most_s or settings.cooldown_s),
        ban_s=settings.ban_s,
        per_source=max(1, min(_PER_SOURCE, settings.requests_in_flight - 1)),
    )
    limits, own = limits_of(settings), settings.own_url.rstrip("/")
    near = [url.rstrip("/") for url in settings.siblings] if own else []
    siblings = tuple(url for url in near if url not in {own, *urls})
    near_limits = replace(limits, connect_s=min(limits.connect_s, limits.answer_s))
    async with (
        open_upstreams(urls, limits, settings.ca_file, count, places=settings.redirects) as above,
        open_upstreams(siblings, near_limits, settings.ca_file, count, are_siblings=True) as beside,
    ):
        yield Sources(above, patience, monotonic=monotonic, rng=rng, banned=banned, siblings=beside)
