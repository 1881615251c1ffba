"""The origin's figures: every metric is a row with its definition, and the identities that let a reader check them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest
from prometheus_client.metrics_core import Metric

PREFIX = "yuanjiao_origin_"


@dataclass(frozen=True, slots=True)
class MetricRow:
    """One metric as documents show it, under its name on the wire."""

    name: str
    kind: Literal["counter", "gauge"]
    help: str
    labels: tuple[str, ...] = ()


METRICS = (
    MetricRow(
        "yuanjiao_origin_answers_total", "counter", "Answers begun, by resource and HTTP status", ("resource", "status")
    ),
    MetricRow(
        "yuanjiao_origin_answers_completed_total",
        "counter",
        "Answers handed to the socket to their last byte",
        ("resource",),
    ),
    MetricRow(
        "yuanjiao_origin_answers_broken_total",
        "counter",
        "Answers cut off: the client left or stalled, or the storage failed",
        ("resource", "reason"),
    ),
    MetricRow(
        "yuanjiao_origin_answers_in_flight", "gauge", "Answers begun and neither completed nor broken", ("resource",)
    ),
    MetricRow(
        "yuanjiao_origin_sent_bytes_total",
        "counter",
        "Body bytes handed to the socket, headers not counted",
        ("resource",),
    ),
    MetricRow(
        "yuanjiao_origin_redirects_total",
        "counter",
        "Requests for a blob that were sent to the bucket, among the answers of status 307; their bytes pass elsewhere",
    ),
    MetricRow("yuanjiao_origin_idle_closed_total", "counter", "Connections closed because no request came"),
    MetricRow("yuanjiao_origin_release", "gauge", "Version of the catalog in the current release"),
    MetricRow("yuanjiao_origin_courseware", "gauge", "Courseware in the current release"),
    MetricRow("yuanjiao_origin_edges", "gauge", "Edges enrolled"),
    MetricRow(
        "yuanjiao_origin_expires_seconds", "gauge", "Unix time at which signed metadata expires, by role", ("role",)
    ),
    MetricRow(
        "yuanjiao_origin_renewals_total",
        "counter",
        "Looks for signatures to renew, by outcome: renewed, kept, failed",
        ("outcome",),
    ),
    MetricRow(
        "yuanjiao_origin_draft_releases_total",
        "counter",
        "Releases of drafts, by outcome: released, failed (approved again, the reason is noted), waits",
        ("outcome",),
    ),
    MetricRow(
        "yuanjiao_origin_pilot_looks_total",
        "counter",
        "Looks at pilots that run, by outcome: wait, go_on, finish, stop, failed (each pilot once per look)",
        ("outcome",),
    ),
    MetricRow(
        "yuanjiao_origin_report_batches_total",
        "counter",
        "Batches of reports that edges posted, by outcome: taken, unknown_key, bad_signature, malformed, late, busy, "
        "failed (nothing of a batch that was not taken is kept)",
        ("outcome",),
    ),
    MetricRow(
        "yuanjiao_origin_reports_total",
        "counter",
        "Reports in batches taken, by outcome: applied, repeated (had already), left (one before it is missing)",
        ("outcome",),
    ),
    MetricRow("yuanjiao_origin_edges_heard", "gauge", "Enrolled edges whose reports came within the last 24 hours"),
    MetricRow("yuanjiao_origin_disk_free_bytes", "gauge", "Free bytes where blobs are kept"),
)

IDENTITIES = (
    "answers = answers_completed + answers_broken + answers_in_flight, for each resource (answers summed over status)",
)


class Metrics:
    """The figures of one origin, in a registry of their own; names are given without prefix and suffix."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry(auto_describe=True)
        self._counters: dict[str, Counter] = {}
        self._gauges: dict[str, Gauge] = {}
        for row in METRICS:
            key = row.name.removeprefix(PREFIX).removesuffix("_total")
            if row.kind == "counter":
                self._counters[key] = Counter(row.name, row.help, row.labels, registry=self.registry)
            else:
                self._gauges[key] = Gauge(row.name, row.help, row.labels, registry=self.registry)

    def count(self, name: str, amount: float = 1, **labels: str) -> None:
        """Raise a counter."""
        counter = self._counters[name]
        (counter.labels(**labels) if labels else counter).inc(amount)

    def set(self, name: str, value: float, **labels: str) -> None:
        """Set a gauge."""
        gauge = self._gauges[name]
        (gauge.labels(**labels) if labels else gauge).set(value)

    def add(self, name: str, amount: float, **labels: str) -> None:
        """Move a gauge."""
        gauge = self._gauges[name]
        (gauge.labels(**labels) if labels else gauge).inc(amount)

    def value(self, name: str, **labels: str) -> float:
        """Read one figure back (0 when it was never touched)."""
        sample = PREFIX + name + ("_total" if name in self._counters else "")
        return self.registry.get_sample_value(sample, labels) or 0.0

    def text(self) -> bytes:
        """All figures in Prometheus' text format."""
        return generate_latest(_Shown(self.registry))


class _Shown(CollectorRegistry):
    """A view without the `_created` series, which double the text and are not among the definitions."""

    def __init__(self, registry: CollectorRegistry) -> None:
        super().__init__()
        self._inner = registry

    def collect(self) -> Iterator[Metric]:
        for family in self._inner.collect():
            family.samples = [sample for sample in family.samples if not sample.name.endswith("_created")]
            yield family
