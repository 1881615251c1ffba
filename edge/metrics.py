"""The edge's figures: what each means, and counters that all worker processes share.

Identity: once no request is in flight, `yuanjiao_edge_requests_total` equals the sum of
`yuanjiao_edge_answers_total` over its results, but for requests that a killed worker took with it. A test checks it
after a storm. Bytes from upstreams stand under exactly one reason each (see `edge.reasons`).
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Literal

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from edge.reasons import UpstreamReason


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric as `/metrics` and the README show it; a counter's exposed name ends in `_total`."""

    name: str
    kind: Literal["counter", "gauge"]
    help_en: str
    help_zh: str
    label: str = ""


METRICS: tuple[Metric, ...] = (
    Metric("yuanjiao_edge_requests_total", "counter", "Readable HTTP requests begun", "收到的可解析 HTTP 请求数"),
    Metric(
        "yuanjiao_edge_answers_total",
        "counter",
        "Requests ended, by result: hit (answered from here, also 304 and 416), fill (answered while its bytes were "
        "fetched), not_here (known, not on this edge yet), not_found (unknown or recalled), refused (method or form), "
        "error (our fault, or the disk's)",
        "已结束的请求数，按结果分：命中、边取边播、暂未到达本机、不存在或已撤回、被拒绝、本机故障",
        "result",
    ),
    Metric("yuanjiao_edge_sent_bytes_total", "counter", "Body bytes of content sent", "已发送的内容字节数"),
    Metric("yuanjiao_edge_ranges_total", "counter", "Answers with status 206", "区间应答（206）次数"),
    Metric("yuanjiao_edge_unchanged_total", "counter", "Answers with status 304", "未变化应答（304）次数"),
    Metric(
        "yuanjiao_edge_aborted_total",
        "counter",
        "Answers broken off: the client left or took no bytes in time, the lesson was recalled meanwhile, or what was "
        "to be fetched for it did not come in time",
        "中途断开的应答数：终端离开、长时间不接收、课件同时被撤回，或边取边播未能及时取得内容",
    ),
    Metric("yuanjiao_edge_connections", "gauge", "Client connections open now", "当前终端连接数"),
    Metric("yuanjiao_edge_descriptors", "gauge", "Blob files held open for sending", "保持打开的数据块文件数"),
    Metric("yuanjiao_edge_workers", "gauge", "Worker processes meant to run", "工作进程数"),
    Metric("yuanjiao_edge_worker_restarts_total", "counter", "Workers restarted after they died", "工作进程重启次数"),
    Metric(
        "yuanjiao_edge_keepers",
        "gauge",
        "Keepers of the night at work: 1, or 0 while it is down",
        "夜间同步守护进程数：正常为 1",
    ),
    Metric(
        "yuanjiao_edge_keeper_restarts_total",
        "counter",
        "Keepers restarted after they died",
        "夜间同步守护进程重启次数",
    ),
    Metric("yuanjiao_edge_fillers", "gauge", "Fillers at work: 1, or 0 while it is down", "点播填充进程数：正常为 1"),
    Metric(
        "yuanjiao_edge_filler_restarts_total", "counter", "Fillers restarted after they died", "点播填充进程重启次数"
    ),
    Metric(
        "yuanjiao_edge_fills_in_flight", "gauge", "Range requests under way for viewers", "正在为终端点播的上游请求数"
    ),
    Metric(
        "yuanjiao_edge_fill_flights_total", "counter", "Range requests begun for viewers", "为终端点播发出的上游请求数"
    ),
    Metric(
        "yuanjiao_edge_fill_joined_total",
        "counter",
        "Waits for a piece that somebody else already waited for: what was not fetched twice",
        "等待他人已在取用的分片的次数（即未重复取用的次数）",
    ),
    Metric(
        "yuanjiao_edge_fill_dropped_total",
        "counter",
        "Pieces wished for as read-ahead and given up before they came: the viewer jumped or left",
        "终端跳转或离开后放弃的预取分片数",
    ),
    Metric(
        "yuanjiao_edge_fill_bypass_total",
        "counter",
        "Pieces passed through to terminals and not kept, for want of room",
        "因空间不足直通终端而未保存的分片数",
    ),
    Metric(
        "yuanjiao_edge_upstream_bytes_total",
        "counter",
        "Body bytes that this server fetched from upstreams, by reason: planned (signed lists, catalogs, new lessons), "
        "not_planned (asked for by a terminal), evicted, damaged, new_version, live, bypass (passed through to a "
        "terminal, not kept); a command reports its own",
        "本服务从上游取得的字节数，按原因分：计划内、终端点播未计划、曾被淘汰、损坏、新版本、直播、直通终端",
        "reason",
    ),
    Metric(
        "yuanjiao_edge_freshness",
        "gauge",
        "1 for the state the edge is in: fresh, stale (proved lessons play, province unheard of), expired (nothing "
        "new is accepted)",
        "新鲜度状态：fresh 正常、stale 久未更新、expired 已过期",
        "state",
    ),
    Metric("yuanjiao_edge_catalog_version", "gauge", "Version of the installed catalog", "已安装目录的版本号"),
    Metric(
        "yuanjiao_edge_evicted_blobs_total",
        "counter",
        "Big blobs evicted for want of room, by standing of their lesson: planned, or pulled through for a terminal; "
        "commands' included, since the record of use was begun",
        "因空间不足淘汰的大文件数，按课件来历分：计划内、终端点播时取得",
        "standing",
    ),
    Metric(
        "yuanjiao_edge_evicted_bytes_total",
        "counter",
        "Bytes of these blobs",
        "因空间不足淘汰的字节数",
        "standing",
    ),
    Metric("yuanjiao_edge_courseware", "gauge", "Courseware installed", "已安装课件数"),
    Metric("yuanjiao_edge_blobs", "gauge", "Blobs stored", "已存数据块数"),
    Metric("yuanjiao_edge_disk_free_bytes", "gauge", "Free bytes where blobs are stored", "存储盘剩余字节数"),
    Metric(
        "yuanjiao_edge_checked_timestamp_seconds",
        "gauge",
        "When the edge last heard from the province, in epoch seconds; 0 for never",
        "最近一次与省级源站核对的时间（纪元秒），0 表示从未",
    ),
    Metric(
        "yuanjiao_edge_source_ban_seconds",
        "gauge",
        "How long a source that sent wrong bytes, upstream or sibling, is still left alone",
        "发送错误内容的来源（上游或同市站）剩余禁用秒数",
        "source",
    ),
)


class Result(IntEnum):
    """How a request ended; the value is its cell in a worker's row."""

    HIT = 1
    NOT_HERE = 2
    NOT_FOUND = 3
    REFUSED = 4
    ERROR = 5
    FILL = 32


class Cell(IntEnum):
    """Cells of a worker's row beside the results."""

    REQUESTS = 0
    SENT_BYTES = 6
    RANGES = 7
    UNCHANGED = 8
    ABORTED = 9
    CONNECTIONS = 10
    DESCRIPTORS = 11
    RESTARTS = 12
    WORKERS = 13
    KEEPERS = 14
    KEEPER_RESTARTS = 15
    FILLERS = 33
    FILLER_RESTARTS = 34
    FILLS_IN_FLIGHT = 35
    FILL_FLIGHTS = 36
    FILL_JOINED = 37
    FILL_DROPPED = 38
    FILL_BYPASS = 39


_UPSTREAM = 16
_CELLS = 64
_GAUGES = (Cell.CONNECTIONS, Cell.DESCRIPTORS, Cell.WORKERS, Cell.KEEPERS, Cell.FILLERS, Cell.FILLS_IN_FLIGHT)
_REASONS = {reason: _UPSTREAM + number for number, reason in enumerate(UpstreamReason)}


def cell_of(reason: UpstreamReason) -> int:
    """The cell of bytes from upstreams for one reason."""
    return _REASONS[reason]


class Counters:
    """A row of 64-bit cells per process in memory that all of them map: workers, keeper, and last their supervisor.

    Each living process writes its own row only, so there is nothing to lock; a reader may be one count behind. Memory,
    not a file: a full or read-only disk must not stop serving.
    """

    def __init__(self, file: int, row: int, rows: int) -> None:
        """Map the rows behind `file` (see `shared_rows`) as the owner of `row`."""
        self._map = mmap.mmap(file, rows * _CELLS * 8)
        self._all = memoryview(self._map).cast("Q")
        self._mine = self._all[row * _CELLS : (row + 1) * _CELLS]
        self.forget(row)

    def add(self, cell: int, count: int = 1) -> None:
        """Count; the hot path's only cost for figures."""
        self._mine[cell] += count

    def set(self, cell: Cell, value: int) -> None:
        """Set one of the gauges."""
        self._mine[cell] = value

    def forget(self, row: int) -> None:
        """Zero what a process that died had open; what it counted stays."""
        for gauge in _GAUGES:
            self._all[row * _CELLS + gauge] = 0

    def total(self, cell: int) -> int:
        """Sum over all processes."""
        return sum(self._all[cell::_CELLS])

    def close(self) -> None:
        """Unmap."""
        self._mine.release()
        self._all.release()
        self._map.close()


def shared_rows(rows: int) -> int:
    """Make the shared memory for so many rows; returns a descriptor to hand down and to close."""
    file = os.memfd_create("yuanjiao-metrics")
    os.ftruncate(file, rows * _CELLS * 8)
    return file


@dataclass(frozen=True, slots=True)
class State:
    """What the edge is like now, read once per look at `/metrics`."""

    freshness: str
    catalog_version: int
    courseware: int
    blobs: int
    disk_free_bytes: int
    checked_at: int
    bans: Mapping[str, float]
    evicted_blobs: Mapping[str, int] = field(default_factory=dict)
    evicted_bytes: Mapping[str, int] = field(default_factory=dict)


def dump_metrics(counters: Counters, state: State) -> bytes:
    """Prometheus text (format 0.0.4) of all `METRICS`."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Rows(counters, state))
    return generate_latest(registry)


class _Rows(Collector):
    def __init__(self, counters: Counters, state: State) -> None:
        self._counters = counters
        self._state = state

    def collect(self) -> Iterable[CounterMetricFamily | GaugeMetricFamily]:
        for metric in METRICS:
            family = CounterMetricFamily if metric.kind == "counter" else GaugeMetricFamily
            labels = (metric.label,) if metric.label else ()
            made = family(metric.name, metric.help_en, labels=labels)
            for label, value in _values(metric.name, self._counters, self._state):
                made.add_metric([label] if metric.label else [], value)
            yield made


def _values(name: str, counters: Counters, state: State) -> Iterator[tuple[str, float]]:
    short = name.removeprefix("yuanjiao_edge_")
    if short == "answers_total":
        yield from ((result.name.lower(), counters.total(result)) for result in Result)
    elif short == "upstream_bytes_total":
        yield from ((str(reason), counters.total(cell)) for reason, cell in _REASONS.items())
    elif short == "freshness":
        yield from ((word, float(word == state.freshness)) for word in ("fresh", "stale", "expired"))
    elif short == "evicted_blobs_total":
        yield from state.evicted_blobs.items()
    elif short == "evicted_bytes_total":
        yield from state.evicted_bytes.items()
    elif short == "source_ban_seconds":
        yield from state.bans.items()
    else:
        plain = {
            "requests_total": counters.total(Cell.REQUESTS),
            "sent_bytes_total": counters.total(Cell.SENT_BYTES),
            "ranges_total": counters.total(Cell.RANGES),
            "unchanged_total": counters.total(Cell.UNCHANGED),
            "aborted_total": counters.total(Cell.ABORTED),
            "connections": counters.total(Cell.CONNECTIONS),
            "descriptors": counters.total(Cell.DESCRIPTORS),
            "workers": counters.total(Cell.WORKERS),
            "worker_restarts_total": counters.total(Cell.RESTARTS),
            "keepers": counters.total(Cell.KEEPERS),
            "keeper_restarts_total": counters.total(Cell.KEEPER_RESTARTS),
            "fillers": counters.total(Cell.FILLERS),
            "filler_restarts_total": counters.total(Cell.FILLER_RESTARTS),
            "fills_in_flight": counters.total(Cell.FILLS_IN_FLIGHT),
            "fill_flights_total": counters.total(Cell.FILL_FLIGHTS),
            "fill_joined_total": counters.total(Cell.FILL_JOINED),
            "fill_dropped_total": counters.total(Cell.FILL_DROPPED),
            "fill_bypass_total": counters.total(Cell.FILL_BYPASS),
            "catalog_version": state.catalog_version,
            "courseware": state.courseware,
            "blobs": state.blobs,
            "disk_free_bytes": state.disk_free_bytes,
            "checked_timestamp_seconds": state.checked_at,
        }
        yield "", plain[short]
