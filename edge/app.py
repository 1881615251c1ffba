"""The edge put together: settings, store, trust and upstreams, once, here. Commands and tests start from this file."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from datetime import tzinfo
from functools import partial
from pathlib import Path

from edge.clock import Clock, system_clock
from edge.opening import Edge, open_edge
from edge.paths import Paths
from edge.report.sender import Sent
from edge.report.watcher import Watcher
from edge.settings import Settings
from edge.store.configuration import read_bundle
from edge.store.evicting import limits_of as room_limits
from edge.store.evicting import make_room
from edge.store.scrub import ScrubReport, candidates
from edge.store.scrub_plan import ScrubPlan, plan_scrub
from edge.sync.bans import keep_bans, read_bans
from edge.sync.bulk import Bulk
from edge.sync.city import open_city
from edge.sync.explain import explain
from edge.sync.gauge import Gauge
from edge.sync.governor import Governor
from edge.sync.imports import preview_import, run_import, sources_of
from edge.sync.lines import command_schedule, keep_rates, line_of, read_rates, schedule_of, zone_of
from edge.sync.nights import Nights
from edge.sync.parts import Parts, Progress
from edge.sync.planner import SyncPlan
from edge.sync.report import REPORT_NOTE, SyncReport
from edge.sync.runner import preview_sync, run_sync
from edge.sync.scrubbing import plan_tonight, scrub_with
from edge.sync.sealing import seal_state, seal_waiting
from edge.sync.setup import init_edge
from edge.sync.telling import Teller, noted_report
from edge.sync.transfer import TransferLimits
from edge.sync.upward import tell_province
from edge.sync.wanting import Wanted
from edge.sync.whynot import WhyNot
from edge.sync.window import Schedule
from edge.threads import run_to_end
from edge.upstream.body import Count
from edge.upstream.disk import Disk
from edge.upstream.opening import limits_of, open_sources
from edge.upstream.sources import Sources
from manifests.bundle import Bundle
from manifests.errors import BusyError, YuanjiaoError
from manifests.line import Line
from manifests.names import Region
from manifests.pieces import PIECE_SIZE
from manifests.reports import Envelope

__all__ = [
    "Edge",
    "import_disk",
    "init_edge",
    "last_report",
    "line",
    "nights",
    "open_edge",
    "scrub",
    "scrub_tonight",
    "seal_reports",
    "send_reports",
    "sync",
    "sync_in_window",
    "why_not",
    "write_report",
    "zone",
]

# Polls and small work of another process end within it.
LOCK_WAIT_S = 4.0


async def sync(
    edge: Edge,
    *,
    dry_run: bool = False,
    now: bool = False,
    progress: Progress | None = None,
    rng: random.Random | None = None,
    bulk: Bulk | None = None,
    count: Count | None = None,
    wait_s: float = LOCK_WAIT_S,
) -> SyncReport | SyncPlan:
    """Bring the edge to the newest release, or with `dry_run` say what that would take.

    Args:
        edge: the edge.
        dry_run: plan only.
        now: the plan does not reckon with the window.
        progress: told how far it has come.
        rng: spreads retries in time.
        bulk: whether lessons may be fetched, and how fast; without it they may, whatever the hour.
        count: told of every byte from upstreams.
        wait_s: how long to wait for another sync to end.

    Raises:
        UntrustedError: bad data; the province could not be followed.
        TransferError: environment; no upstream could be reached, or another sync is running.
        StorageError: environment.
    """
    chance = rng or random.Random()  # noqa: S311 - spreads retries and polls in time, guards nothing
    async with _sources(edge, chance, count) as sources:
        ignore_window = now or (bulk is None and not dry_run)
        parts = _parts(edge, sources, bulk or Bulk(), chance, ignore_window=ignore_window, lock_wait_s=wait_s)
        if dry_run:
            return await preview_sync(parts)
        try:
            report = await run_sync(parts, progress)
        except BusyError:
            raise
        except YuanjiaoError:
            await send_reports(edge, noted_report(edge.library))
            raise
        finally:
            keep_bans(edge.library, edge.clock(), sources)
    await send_reports(edge, report)
    return report


async def send_reports(edge: Edge, report: SyncReport | None = None) -> Sent:
    """Tell the province what is new after a run, and send what waits; failures are told and logged, never raised.

    Args:
        edge: this one.
        report: of the run that has ended; None to send what waits already.
    """
    urls = (edge.settings.report.url.rstrip("/"),) if edge.settings.report.url else _urls(edge)
    return await tell_province(_teller(edge), edge.paths, edge.bundle, urls, limits_of(edge.settings.upstream), report)


async def import_disk(
    edge: Edge, disk: Disk, *, dry_run: bool = False, progress: Progress | None = None
) -> SyncReport | SyncPlan:
    """Bring this edge what a courier disk carries; see `edge.sync.imports`."""
    rng = random.Random()  # noqa: S311 - spreads retries in time, guards nothing
    parts = _parts(edge, sources_of(disk), Bulk(), rng, ignore_window=True)
    return await (preview_import(parts, disk) if dry_run else run_import(parts, disk, progress))


def last_report(edge: Edge) -> object:
    """The report of the last run as it was noted; None before the first. A run that failed notes one as well."""
    return edge.library.get_meta(REPORT_NOTE)


async def sync_in_window(
    edge: Edge, *, ignore_window: bool, progress: Progress | None = None, wait_s: float = LOCK_WAIT_S
) -> SyncReport:
    """Sync as a person's command does: bulk within the window and its caps, or with `ignore_window` at any hour.

    Raises:
        ConfigurationError: bad data; window, zone or caps.
        UntrustedError, TransferError, StorageError: see `sync`.
    """
    bulk = Bulk()
    schedule = command_schedule(_schedule(edge.settings, edge.paths, edge.bundle), ignore_window=ignore_window)
    governor = Governor(schedule, bulk, edge.clock)
    governor.look()
    ruling = asyncio.create_task(governor.run())
    try:
        count = governor.count
        report = await sync(edge, now=ignore_window, progress=progress, bulk=bulk, count=count, wait_s=wait_s)
    finally:
        ruling.cancel()
        await asyncio.wait({ruling})
    assert isinstance(report, SyncReport)  # noqa: S101 - not a dry run
    return report


def nights(root: Path, settings: Settings, clock: Clock = system_clock) -> Nights:
    """What the keeper of the edge in `root` works with.

    The edge is opened for each run and not for the whole night: a damaged index can only be rebuilt while nobody has
    it open.
    """
    paths = Paths(root)
    schedule = partial(_schedule, settings, paths, read_bundle(paths))

    async def run(bulk: Bulk, count: Count) -> SyncReport:
        async with open_edge(root, {}, clock, settings) as edge:
            report = await sync(edge, bulk=bulk, count=count)
        assert isinstance(report, SyncReport)  # noqa: S101 - not a dry run
        return report

    async def scrub_share() -> ScrubReport:
        async with open_edge(root, {}, clock, settings) as edge:
            return await scrub_tonight(edge)

    async def evict() -> int:
        async with open_edge(root, {}, clock, settings) as edge:
            limits = room_limits(settings.store)
            return await run_to_end(make_room, edge.store, edge.library, edge.usage, limits, 0, clock())

    return Nights(schedule, run, scrub_share, evict, _watch(paths, settings))


def _watch(paths: Paths, settings: Settings) -> Callable[[], Awaitable[int]] | None:
    """What counts from the access log; nothing can be without one."""
    if settings.log.access == "off" or not settings.report.watching:
        return None
    folder = paths.root / settings.log.dir if settings.log.dir else paths.log
    watcher = Watcher(paths, folder)

    async def look() -> int:
        return await run_to_end(watcher.look)

    return look


def _schedule(settings: Settings, paths: Paths, bundle: Bundle) -> Schedule:
    return schedule_of(settings.sync, bundle.region, read_rates(paths))


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
    plan = await asyncio.to_thread(plan_tonight, edge.store, edge.settings.scrub, edge.clock())
    return await _run_scrub(edge, plan, True, progress)


async def _run_scrub(edge: Edge, plan: ScrubPlan, repair: bool, progress: Progress | None) -> ScrubReport:
    async with _sources(edge, random.Random()) as sources:  # noqa: S311 - spreads retries in time, guards nothing
        return await scrub_with(sources, edge.store, edge.library, plan, edge.clock, repair, progress)


def write_report(edge: Edge) -> Envelope:
    """This edge's state with all that it holds and has begun, signed: for a courier to pack by. See `seal_state`."""
    return seal_state(_teller(edge), edge.paths, edge.bundle)


def seal_reports(edge: Edge, report: SyncReport | None) -> list[Envelope]:
    """Everything that this edge has to tell after a run, signed: for a courier to carry. See `seal_waiting`."""
    return seal_waiting(_teller(edge), edge.paths, edge.bundle, report)


def _teller(edge: Edge) -> Teller:
    return Teller(edge.bundle.region, edge.settings, edge.store, edge.library, edge.clock, read_rates(edge.paths))


def _sources(edge: Edge, rng: random.Random, count: Count | None = None) -> AbstractAsyncContextManager[Sources]:
    settings = edge.settings.upstream
    banned = read_bans(edge.library, edge.clock(), settings.ban_s)
    return open_sources(settings, _urls(edge), banned, rng, time.monotonic, count)


def _urls(edge: Edge) -> tuple[str, ...]:
    return tuple(url.rstrip("/") for url in edge.settings.upstream.urls or edge.bundle.upstreams)


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
            edge.usage,
            _wanted(edge),
            line(edge),
            zone(edge),
            edge.trust.now(),
            room=room_limits(settings.store),
            at_once=settings.upstream.requests_in_flight,
        )

    return await run_to_end(work)


def _wanted(edge: Edge) -> Wanted:
    return Wanted(Region(edge.bundle.region), frozenset(edge.settings.sync.columns))


def _parts(
    edge: Edge,
    sources: Sources,
    bulk: Bulk,
    rng: random.Random,
    *,
    ignore_window: bool,
    lock_wait_s: float = LOCK_WAIT_S,
) -> Parts:
    settings = edge.settings
    known, local = line(edge), zone(edge)
    keep = partial(keep_rates, edge.paths)
    gauge = Gauge(lambda: sources.bytes_from_above, known, local, edge.clock, time.monotonic, keep)
    bulk.tell_held(gauge.hold)
    return Parts(
        store=edge.store,
        library=edge.library,
        usage=edge.usage,
        trust=edge.trust,
        sources=sources,
        city=open_city(settings.upstream, sources, rng, time.monotonic),
        wanted=_wanted(edge),
        publisher=edge.bundle.publisher,
        limits=TransferLimits(
            requests_in_flight=settings.upstream.requests_in_flight,
            span_bytes=settings.upstream.span_pieces * PIECE_SIZE,
        ),
        room=room_limits(settings.store),
        stale_after_s=settings.trust.stale_after_hours * 3600,
        expired_after_s=settings.trust.expired_after_days * 86400,
        poll_s=settings.sync.poll_s,
        clock=edge.clock,
        monotonic=time.monotonic,
        line=known,
        zone=local,
        ignore_window=ignore_window,
        lock_wait_s=lock_wait_s,
        gauge=gauge,
        bulk=bulk,
    )
