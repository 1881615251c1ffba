"""The edge put together: settings, store, trust and upstreams, once, here. Commands and tests start from this file."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from datetime import tzinfo
from functools import partial
from pathlib import Path

from edge.clock import Clock
from edge.paths import Paths
from edge.settings import Settings
from edge.settings import Upstream as UpstreamSettings
from edge.store.blobs import BlobStore
from edge.store.configuration import read_bundle, read_settings
from edge.store.library import Library
from edge.store.scrub import ScrubReport, candidates, run_scrub, seasoned
from edge.store.scrub_log import read_scrubs
from edge.store.scrub_plan import ScrubPlan, plan_scrub, plan_share
from edge.sync.city import City
from edge.sync.explain import explain
from edge.sync.gauge import Gauge
from edge.sync.lines import keep_rates, line_of, read_rates, zone_of
from edge.sync.parts import Parts, Progress
from edge.sync.planner import SyncPlan, Wanted
from edge.sync.report import BANS_NOTE, REPORT_NOTE, SyncReport
from edge.sync.runner import preview_sync, run_sync
from edge.sync.setup import init_edge
from edge.sync.transfer import TransferLimits
from edge.sync.trust import Trust
from edge.sync.whynot import WhyNot
from edge.threads import run_to_end
from edge.upstream.client import Upstream, blob_path, open_upstreams
from edge.upstream.progress import Limits
from edge.upstream.sources import Patience, Sources
from manifests.bundle import Bundle, check_upstream
from manifests.digests import check_bytes
from manifests.errors import BusyError, StorageError
from manifests.line import Line
from manifests.names import Region
from manifests.pieces import PIECE_SIZE, BlobRef, PieceTable

__all__ = ["Edge", "init_edge", "last_report", "line", "open_edge", "scrub", "scrub_tonight", "sync", "why_not", "zone"]

# First cool-down after a fault; the setting bounds its doubling.
_FIRST_COOL_DOWN_S = 0.5
_DAY_S = 86400.0
_MOST_NIGHTS_AT_ONCE = 7.0
# Requests to the preferred source before the next one carries beside it: below the window that every run begins with.
_PER_SOURCE = 3


@dataclass(frozen=True, slots=True)
class Edge:
    """One opened edge."""

    paths: Paths
    settings: Settings
    bundle: Bundle
    store: BlobStore
    library: Library
    trust: Trust
    clock: Clock


@asynccontextmanager
async def open_edge(root: Path, env: Mapping[str, str], clock: Clock) -> AsyncIterator[Edge]:
    """Open the edge in `root` for writing; its index is rebuilt from the disk first when it is lost or damaged.

    Raises:
        ConfigurationError: there is no edge, or it is configured wrongly.
        StorageError: environment.
    """
    paths = Paths(root)
    settings = read_settings(paths, env)
    bundle = read_bundle(paths)
    own = (settings.upstream.own_url,) if settings.upstream.own_url else ()
    for url in (*settings.upstream.urls, *settings.upstream.siblings, *own):
        check_upstream(url)
    with BlobStore.open(paths, reserve_bytes=settings.store.reserve_bytes) as store:
        trust = Trust(paths.trust, bundle, clock, store.ballast)
        yield Edge(paths, settings, bundle, store, Library(store), trust, clock)


async def sync(
    edge: Edge,
    *,
    dry_run: bool = False,
    now: bool = False,
    progress: Progress | None = None,
    rng: random.Random | None = None,
) -> SyncReport | SyncPlan:
    """Bring the edge to the newest release, or with `dry_run` say what that would take.

    Args:
        edge: the edge.
        dry_run: plan only.
        now: the plan does not reckon with the window; a run begins at once in any case.
        progress: told how far it has come.
        rng: spreads retries in time.

    Raises:
        UntrustedError: bad data; the province could not be followed.
        TransferError: environment; no upstream could be reached, or another sync is running.
        StorageError: environment.
    """
    chance = rng or random.Random()  # noqa: S311 - spreads retries and polls in time, guards nothing
    async with _sources(edge, chance) as sources:
        parts = _parts(edge, sources, chance, ignore_window=now or not dry_run)
        if dry_run:
            return await preview_sync(parts)
        try:
            return await run_sync(parts, progress)
        finally:
            _keep_bans(edge, sources)


def last_report(edge: Edge) -> object:
    """The report of the last run as it was noted; None before the first. A run that failed notes one as well."""
    return edge.library.get_meta(REPORT_NOTE)


async def scrub(edge: Edge, repair: bool, progress: Progress | None = None) -> ScrubReport:
    """Read what is stored again, and with `repair` fetch what has rotted.

    Raises:
        BusyError: environment; a sync is running.
        StorageError: environment.
    """
    plan = plan_scrub(candidates(edge.store), edge.settings.scrub.budget_bytes)
    return await _run_scrub(edge, plan, repair, progress)


async def scrub_tonight(edge: Edge, progress: Progress | None = None) -> ScrubReport:
    """Read this night's share of the disk again and repair what has rotted; for after the night's sync.

    A share a night reads all of the disk every `scrub.cycle_days`; nights that were missed are made up for, a week of
    them at most. Cancelled at the window's end, it keeps what it read and found.

    Raises:
        BusyError: environment; a sync is running.
        StorageError: environment.
    """
    plan = await asyncio.to_thread(_plan_tonight, edge)
    return await _run_scrub(edge, plan, True, progress)


def _plan_tonight(edge: Edge) -> ScrubPlan:
    now, limits = edge.clock(), edge.settings.scrub
    last = read_scrubs(edge.paths.scrubs)
    missed_days = (now - last[-1].at) / _DAY_S if last else 1.0
    nights = min(max(1.0, missed_days), _MOST_NIGHTS_AT_ONCE)
    found = seasoned(edge.store, candidates(edge.store), now)
    return plan_share(found, limits.cycle_days / nights, limits.budget_bytes)


async def _run_scrub(edge: Edge, plan: ScrubPlan, repair: bool, progress: Progress | None) -> ScrubReport:
    async with _sources(edge, random.Random()) as sources:  # noqa: S311 - spreads retries in time, guards nothing

        async def fetch(ref: BlobRef, table: PieceTable | None, n: int) -> bytes:
            return await sources.fetch(f"blob {ref.digest[:16]}", partial(_fetch_piece, ref, table, n))

        return await run_scrub(edge.store, edge.library, plan, edge.clock(), fetch if repair else None, progress)


async def _fetch_piece(ref: BlobRef, table: PieceTable | None, n: int, upstream: Upstream) -> bytes:
    """One piece from one source; it is proved here too, so that a bad one is asked of the next source."""
    start, stop = table.bounds(n) if table is not None else (0, ref.size)
    data = await upstream.get_range(blob_path(ref.digest), start, stop, ref.size)
    if table is not None:
        table.check_piece(n, data)
    else:
        check_bytes(data, ref.digest, ref.size, f"blob {ref.digest[:16]} from {upstream.url}")
    return data


@asynccontextmanager
async def _sources(edge: Edge, rng: random.Random) -> AsyncIterator[Sources]:
    upstream = edge.settings.upstream
    limits = Limits(
        connect_s=upstream.connect_timeout_s,
        answer_s=upstream.progress_timeout_s,
        window_s=upstream.progress_timeout_s,
        floor_bytes=int(upstream.floor_bytes_per_s * upstream.progress_timeout_s),
        total_s=upstream.total_timeout_s,
    )
    patience = Patience(
        attempts=upstream.retries + 1,
        cool_down_s=min(_FIRST_COOL_DOWN_S, upstream.cooldown_s),
        cool_down_most_s=upstream.cooldown_s,
        ban_s=upstream.ban_s,
        per_source=max(1, min(_PER_SOURCE, upstream.requests_in_flight - 1)),
    )
    urls = tuple(url.rstrip("/") for url in upstream.urls or edge.bundle.upstreams)
    own = upstream.own_url.rstrip("/")
    near = [url.rstrip("/") for url in upstream.siblings] if own else []
    siblings = tuple(url for url in near if url not in {own, *urls})
    near_limits = replace(limits, connect_s=min(limits.connect_s, limits.answer_s))
    async with (
        open_upstreams(urls, limits, upstream.ca_file) as upstreams,
        open_upstreams(siblings, near_limits, upstream.ca_file) as others,
    ):
        yield Sources(
            upstreams,
            patience,
            monotonic=time.monotonic,
            rng=rng,
            banned=_bans(edge),
            siblings=others,
        )


def line(edge: Edge) -> Line:
    """What is known of the edge's line: its settings, and the rates measured so far.

    Raises:
        ConfigurationError: bad data; a setting of the window or the caps is wrong.
    """
    return line_of(edge.settings.sync, read_rates(edge.paths))


def zone(edge: Edge) -> tzinfo:
    """The county's time zone.

    Raises:
        ConfigurationError: bad data; the setting names none.
    """
    return zone_of(edge.settings.sync)


async def why_not(edge: Edge) -> tuple[WhyNot, ...]:
    """Why each lesson of the newest installed catalog that is not here is not; from the disk alone.

    Raises:
        ConfigurationError: bad data; a setting of the line is wrong.
        StorageError: environment.
    """
    settings = edge.settings

    def work() -> tuple[WhyNot, ...]:
        return explain(
            edge.store,
            edge.library,
            _wanted(edge),
            line(edge),
            zone(edge),
            edge.trust.now(),
            reserve_bytes=settings.store.reserve_bytes,
            quota_bytes=settings.store.quota_bytes,
            at_once=settings.upstream.requests_in_flight,
        )

    return await run_to_end(work)


def _wanted(edge: Edge) -> Wanted:
    return Wanted(Region(edge.bundle.region), frozenset(edge.settings.sync.columns))


def _parts(edge: Edge, sources: Sources, rng: random.Random, *, ignore_window: bool) -> Parts:
    settings = edge.settings
    known, local = line(edge), zone(edge)
    keep = partial(keep_rates, edge.paths)
    return Parts(
        store=edge.store,
        library=edge.library,
        trust=edge.trust,
        sources=sources,
        city=_city(settings.upstream, sources, rng),
        wanted=_wanted(edge),
        publisher=edge.bundle.publisher,
        limits=TransferLimits(
            requests_in_flight=settings.upstream.requests_in_flight,
            span_bytes=settings.upstream.span_pieces * PIECE_SIZE,
        ),
        quota_bytes=settings.store.quota_bytes,
        reserve_bytes=settings.store.reserve_bytes,
        stale_after_s=settings.trust.stale_after_hours * 3600,
        expired_after_s=settings.trust.expired_after_days * 86400,
        poll_s=settings.sync.poll_s,
        clock=edge.clock,
        monotonic=time.monotonic,
        line=known,
        zone=local,
        ignore_window=ignore_window,
        gauge=Gauge(lambda: sources.bytes_from_above, known, local, edge.clock, time.monotonic, keep),
    )


def _city(upstream: UpstreamSettings, sources: Sources, rng: random.Random) -> City | None:
    if not sources.siblings:
        return None
    return City(upstream.own_url.rstrip("/"), sources, rng, time.monotonic, upstream.progress_timeout_s)


def _bans(edge: Edge) -> dict[str, float]:
    """Seconds that bans of earlier runs still have to go; a clock that jumped can only shorten or drop them."""
    note = edge.library.get_meta(BANS_NOTE)
    if not isinstance(note, dict):
        return {}
    now, most_s = edge.clock(), edge.settings.upstream.ban_s
    return {url: float(until - now) for url, until in note.items() if 0 < until - now <= most_s}


def _keep_bans(edge: Edge, sources: Sources) -> None:
    bans = {url: edge.clock() + round(seconds) for url, seconds in sources.bans().items()}
    if bans != (edge.library.get_meta(BANS_NOTE) or {}):
        with suppress(StorageError, BusyError):  # a full disk must not hide what ended the sync
            edge.library.set_meta(BANS_NOTE, bans)
