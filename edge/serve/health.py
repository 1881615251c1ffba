"""The edge's own state for machines: /healthz in JSON, /metrics in Prometheus text."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from dataclasses import dataclass

import msgspec
from aiohttp import web

from edge.exposition import State, dump_metrics
from edge.metrics import Counters
from edge.report.backlog import Backlog, read_backlog
from edge.serve.night import Notes, night_body, read_notes
from edge.serve.stock import Stock
from edge.store.blobs import StoreStats
from edge.store.decay import Fault
from edge.store.evicting import count_evicted
from edge.store.eviction import STANDINGS
from edge.store.scrub_log import faults_of
from edge.store.usage import NOTHING, Evictions
from edge.sync.freshness import Freshness
from edge.sync.offered import city_versions, known_faults
from edge.sync.report import BANS_NOTE
from manifests.errors import StorageError, UntrustedError, YuanjiaoError
from manifests.instants import dump_instant

# Clocks of origin and edge may differ by so much before an operator is told.
CLOCK_TOLERANCE_S = 300

_TEXT = "text/plain; version=0.0.4; charset=utf-8"


class Reason(msgspec.Struct, frozen=True):
    """Why the state is not simply ok."""

    code: str
    zh: str
    en: str


@dataclass(frozen=True, slots=True)
class _Measured:
    stats: StoreStats | None
    free_bytes: int
    is_writable: bool
    notes: Notes
    bans: dict[str, float]
    fault: StorageError | None
    decay: tuple[Fault, ...]
    evicted: int
    evictions: dict[str, Evictions]
    backlog: Backlog | None
    cities: dict[str, int]
    city_faults: tuple[YuanjiaoError, ...]


async def healthz(stock: Stock, counters: Counters) -> web.Response:
    """200 while serving; `status` says whether somebody should look, `reasons` at what."""
    measured = await asyncio.to_thread(_measure, stock)
    reasons = _reasons(stock, measured)
    trust = stock.trust
    body = {
        "status": "degraded" if reasons else "ok",
        "reasons": reasons,
        "freshness": stock.freshness().value,
        "catalog_version": stock.shelf.catalog_version,
        "cities": measured.cities,
        "offered_catalog_version": trust.catalog_version if trust else 0,
        "checked_at": dump_instant(trust.checked_at) if trust else None,
        "courseware": len(stock.shelf.lessons),
        "blobs": measured.stats.blobs if measured.stats else 0,
        "evicted": measured.evicted,
        "disk_free_bytes": measured.free_bytes,
        "night": night_body(stock, counters),
        "last_sync": measured.notes.last_sync,
        "last_work": measured.notes.last_work,
        "reports": _reports_body(measured.backlog),
        "now": dump_instant(stock.clock()),
    }
    headers = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
    return web.Response(body=msgspec.json.encode(body), content_type="application/json", headers=headers)


async def metrics(stock: Stock, counters: Counters) -> web.Response:
    """All metrics over all workers, whichever of them is asked."""
    measured = await asyncio.to_thread(_measure, stock)
    state = State(
        freshness=stock.freshness().value,
        catalog_version=stock.shelf.catalog_version,
        courseware=len(stock.shelf.lessons),
        blobs=measured.stats.blobs if measured.stats else 0,
        disk_free_bytes=measured.free_bytes,
        checked_at=stock.trust.checked_at if stock.trust else 0,
        bans=measured.bans,
        evicted_blobs={str(word): measured.evictions.get(word, NOTHING).blobs for word in STANDINGS},
        evicted_bytes={str(word): measured.evictions.get(word, NOTHING).bytes for word in STANDINGS},
        reports_waiting=measured.backlog.waiting if measured.backlog else 0,
        reports_oldest_at=(measured.backlog.oldest_at or 0) if measured.backlog else 0,
    )
    headers = {"Content-Type": _TEXT, "Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
    return web.Response(body=dump_metrics(counters, state), headers=headers)


def _measure(stock: Stock) -> _Measured:
    stats, notes, bans, fault, free, evicted = None, Notes(), None, None, 0, 0
    cities: dict[str, int] = {}
    wrong: list[YuanjiaoError] = []
    try:
        free = stock.store.free_bytes()
        stats = stock.store.stats()
        notes = read_notes(stock)
        evicted = count_evicted(stock.library, stock.usage)
        bans = stock.library.get_meta(BANS_NOTE)
        cities = city_versions(stock.library)
        wrong = known_faults(stock.library, stock.trust) if stock.trust is not None else []
    except StorageError as error:
        fault = error
    now, is_writable = stock.clock(), os.access(stock.paths.root, os.W_OK)
    left = {url: float(until - now) for url, until in bans.items() if until > now} if isinstance(bans, dict) else {}
    backlog, evictions = read_backlog(stock.paths.outbox), stock.usage.evictions()
    decay = faults_of(stock.paths)
    # What could not be had may come with the next poll; what is wrong needs somebody.
    untrusted = tuple(error for error in wrong if isinstance(error, UntrustedError))
    return _Measured(
        stats, free, is_writable, notes, left, fault, decay, evicted, evictions, backlog, cities, untrusted
    )


def _reports_body(backlog: Backlog | None) -> dict[str, object] | None:
    if backlog is None:
        return None
    return {
        "waiting": backlog.waiting,
        "oldest_at": dump_instant(backlog.oldest_at) if backlog.oldest_at is not None else None,
    }


def _reasons(stock: Stock, measured: _Measured) -> list[Reason]:
    found: list[Reason] = []
    fault = measured.fault or stock.fault
    if fault is not None:
        found.append(Reason("storage", fault.zh, fault.message))
    if not measured.is_writable:
        found.append(
            Reason("read_only", "存储盘只读，无法接收新课件", "the disk is read-only; nothing new is accepted")
        )
    reserve = stock.settings.store.reserve_bytes
    if not fault and measured.free_bytes < reserve:
        found.append(
            Reason(
                "disk_full",
                f"存储盘剩余 {measured.free_bytes} 字节，少于保留空间 {reserve} 字节",
                f"{measured.free_bytes} bytes are free, fewer than the reserve of {reserve}",
            )
        )
    if measured.stats and measured.stats.rotten:
        found.append(
            Reason(
                "rot",
                f"有 {measured.stats.rotten} 个数据块损坏，请运行 yuanjiao edge scrub --repair",
                f"{measured.stats.rotten} blobs are damaged; run `yuanjiao edge scrub DIR --repair`",
            )
        )
    found += [Reason(one.code, one.zh, one.en) for one in measured.decay]
    if measured.backlog is None or measured.backlog.is_late(stock.clock()):
        found.append(
            Reason(
                "reports",
                "上报长期未被省级源站接收，或无法读取上报队列，请运行 yuanjiao doctor",
                "reports have waited for days, or their queue cannot be read; run `yuanjiao doctor DIR`",
            )
        )
    found += [Reason("city", error.zh, error.message) for error in measured.city_faults]
    return [*found, *_trust_reasons(stock)]


def _trust_reasons(stock: Stock) -> Iterator[Reason]:
    trust, now = stock.trust, stock.clock()
    if trust is None:
        yield Reason("never_synced", "尚未与省级源站核对过内容", "never checked against the province")
        return
    if now < trust.floor - CLOCK_TOLERANCE_S:
        says, signed = dump_instant(now), dump_instant(trust.floor)
        yield Reason(
            "clock",
            f"本机时钟为 {says}，早于省级源站已签发的时间 {signed}，请校准时钟",
            f"the clock says {says}, behind the time {signed} that the province signed",
        )
    if stock.freshness() is Freshness.STALE:
        yield Reason("stale", "久未与省级源站核对", "not checked against the province for long")
    elif stock.freshness() is Freshness.EXPIRED:
        yield Reason("expired", "目录已过期，暂不接收新课件", "expired; nothing new is accepted")
