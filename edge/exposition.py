"""The edge's figures as Prometheus reads them. Apart from `metrics`, so that whoever only counts loads no client."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import accumulate

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector

from edge.metric_table import METRICS
from edge.metrics import BEGIN_BOUNDS, REASONS, Cell, Closed, Counters, Result

MetricFamily = CounterMetricFamily | GaugeMetricFamily | HistogramMetricFamily


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
    bounds, (counts, micros) = [*map(str, BEGIN_BOUNDS), "+Inf"], counters.begins()
    return list(zip(bounds, map(float, accumulate(counts)), strict=True)), micros / 1e6


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
        yield from ((str(reason), counters.total(cell)) for reason, cell in REASONS.items())
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
