"""The edge's figures (see `metric_table`): counters that all worker processes share, and how they are told.

Identities, which a test checks after a storm of good, bad, aborted and pipelined requests and killed workers:

    requests = answers, summed over results                     once no request is in flight
    connections accepted = open now + closed, over causes       at any moment, but for the delay of the gauge

A request or a connection that a killed process took with it is put down as lost when its row is settled, so both hold
after a kill too. What a kill may lose for good is the bytes of answers that were under way since they were last told
(a quarter of a second) and the access log's lines that were not written yet. Bytes from upstreams stand under exactly
one reason each (see `edge.reasons`), so their sum is what crossed the line for this server.
"""

from __future__ import annotations

import mmap
import os
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from itertools import accumulate

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector

from edge.metric_table import METRICS
from edge.reasons import UpstreamReason

MetricFamily = CounterMetricFamily | GaugeMetricFamily | HistogramMetricFamily


class Result(IntEnum):
    """How a request ended; the value is its cell in a worker's row."""

    HIT = 1
    NOT_HERE = 2
    NOT_FOUND = 3
    REFUSED = 4
    ERROR = 5
    FILL = 32
    LIMITED = 40
    LOST = 41


class Closed(IntEnum):
    """Why a client connection ended; the value is its cell."""

    CLIENT = 44
    IDLE = 45
    FULL = 46
    STALLED = 47
    SERVER = 48
    LOST = 49


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
    UNREADABLE = 42
    ACCEPTED = 43
    SENT_BLOBS = 50  # of SENT_BYTES
    SENT_PAGES = 51  # beside SENT_BYTES
    LOG_DROPPED = 52


# Upper bounds of the histogram's buckets in seconds; a cell each, one for what is above, and one for the sum in
# microseconds.
BEGIN_BOUNDS = (0.001, 0.005, 0.02, 0.1, 0.5, 2.0)
_BEGIN = 64
_BEGIN_SUM = _BEGIN + len(BEGIN_BOUNDS) + 1

_UPSTREAM = 16
_CELLS = 128
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

    def add_begin(self, seconds: float) -> None:
        """Count an answer that was begun so long after its request had come."""
        self._mine[_BEGIN + bisect_left(BEGIN_BOUNDS, seconds)] += 1
        self._mine[_BEGIN_SUM] += int(seconds * 1e6)

    def set(self, cell: Cell, value: int) -> None:
        """Set one of the gauges."""
        self._mine[cell] = value

    def forget(self, row: int) -> None:
        """Settle the row of a process that died: zero what it had open, put down as lost what it took with it."""
        cells = self._all[row * _CELLS : (row + 1) * _CELLS]
        for gauge in _GAUGES:
            cells[gauge] = 0
        cells[Result.LOST] += max(cells[Cell.REQUESTS] - sum(cells[one] for one in Result), 0)
        cells[Closed.LOST] += max(cells[Cell.ACCEPTED] - sum(cells[one] for one in Closed), 0)
        cells.release()

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
    reports_waiting: int = 0
    reports_oldest_at: int = 0


def dump_metrics(counters: Counters, state: State) -> bytes:
    """Prometheus text (format 0.0.4) of all `METRICS`."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Rows(counters, state))
    return generate_latest(registry)


class _Rows(Collector):
    def __init__(self, counters: Counters, state: State) -> None:
        self._counters = counters
        self._state = state

    def collect(self) -> Iterable[MetricFamily]:
        for metric in METRICS:
            if metric.kind == "histogram":
                made = HistogramMetricFamily(metric.name, metric.help_en)
                made.add_metric([], *_begins(self._counters))
                yield made
                continue
            family = CounterMetricFamily if metric.kind == "counter" else GaugeMetricFamily
            labels = (metric.label,) if metric.label else ()
            plain = family(metric.name, metric.help_en, labels=labels)
            for label, value in _values(metric.name, self._counters, self._state):
                plain.add_metric([label] if metric.label else [], value)
            yield plain


def _begins(counters: Counters) -> tuple[list[tuple[str, float]], float]:
    """Cumulated buckets and the sum in seconds, as the histogram wants them."""
    bounds = [*map(str, BEGIN_BOUNDS), "+Inf"]
    counts = accumulate(counters.total(_BEGIN + number) for number in range(len(bounds)))
    return list(zip(bounds, map(float, counts), strict=True)), counters.total(_BEGIN_SUM) / 1e6


def _sent(counters: Counters) -> Iterator[tuple[str, float]]:
    blobs = counters.total(Cell.SENT_BLOBS)
    yield "media", max(counters.total(Cell.SENT_BYTES) - blobs, 0)
    yield "blob", blobs
    yield "page", counters.total(Cell.SENT_PAGES)


def _values(name: str, counters: Counters, state: State) -> Iterator[tuple[str, float]]:
    short = name.removeprefix("yuanjiao_edge_")
    if short == "answers_total":
        yield from ((result.name.lower(), counters.total(result)) for result in Result)
    elif short == "sent_bytes_total":
        yield from _sent(counters)
    elif short == "connections_closed_total":
        yield from ((cause.name.lower(), counters.total(cause)) for cause in Closed)
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
            "unreadable_total": counters.total(Cell.UNREADABLE),
            "connections_accepted_total": counters.total(Cell.ACCEPTED),
            "log_dropped_total": counters.total(Cell.LOG_DROPPED),
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
            "reports_waiting": state.reports_waiting,
            "reports_oldest_timestamp_seconds": state.reports_oldest_at,
        }
        yield "", plain[short]
