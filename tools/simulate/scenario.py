"""What the model assumes of a province: its edges, their lines and disks, when they are off. All from one seed.

The figures are those of county lines as they are ordered: 4 to 100 Mbit/s, slower in the evening, with drops of
minutes now and then and a few lines that drop all night.
"""

from __future__ import annotations

import bisect
import itertools
import math
import random
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import NamedTuple

from manifests.errors import ConfigurationError
from manifests.instants import Instant
from manifests.names import Region
from origin.stations.regions import RegionRow, load_regions

HOUR_S = 3600
DAY_S = 24 * HOUR_S
ZONE_NAME = "Asia/Shanghai"
ZONE = timezone(timedelta(hours=8), ZONE_NAME)  # China has had no other time since 1991
START = Instant(int(datetime(2026, 3, 2, tzinfo=ZONE).timestamp()))  # a Monday, 00:00
PROVINCE = Region("410000")
WINDOW = "22:00-06:00"

_MBIT = 125_000  # bytes per second
_LINES = ((4, 10), (8, 15), (10, 20), (20, 27), (50, 18), (100, 10))  # Mbit/s, weight
_DISKS_GIB = ((64, 6), (120, 24), (250, 40), (500, 30))
_NIGHT, _DAY, _EVENING = 0.92, 0.6, 0.45  # share of the line that is left for courseware
_NOISE = 0.15
_OUTAGES_PER_DAY, _OUTAGE_S = 0.5, 900.0
_BAD_SHARE, _BAD_FACTOR = 0.06, 24.0
_OFF_NIGHT, _OFF_DAYS = 0.03, 0.004
_GIB = 1 << 30


@dataclass(frozen=True, slots=True)
class Scenario:
    """What was asked for.

    Attributes:
        uplink_bytes_per_s: what the origin's own line carries, for all edges together.
        has_swarm: edges of a city divide the pieces among themselves.
        jitter_s: edges begin spread over so long after the window opens.
        patience_s: a piece that no sibling has is asked of the origin after so long.
    """

    edges: int = 158
    nights: int = 7
    seed: int = 1
    uplink_bytes_per_s: float = 500 * _MBIT
    has_swarm: bool = True
    jitter_s: int = 1800
    patience_s: float = 2.0
    poll_s: float = 60.0


class Stretch(NamedTuple):
    """A time at one rate; 0 while the line is down or the edge is off."""

    start: float
    stop: float
    bytes_per_s: float


@dataclass(frozen=True, slots=True)
class EdgeSpec:
    """One county and its luck. Times are seconds since `START`.

    Attributes:
        hourly: rate of the line in each hour since `START`, noise included.
        outages: times without a line.
        off: times without power.
    """

    region: Region
    name: str
    city: str
    hourly: tuple[float, ...]
    outages: tuple[tuple[float, float], ...]
    off: tuple[tuple[float, float], ...]
    disk_bytes: int
    is_small_line: bool = False

    def stretches(self, start: float, stop: float) -> Iterator[Stretch]:
        """The line from `start` to `stop`, cut wherever its rate changes."""
        down = [*self.outages, *self.off]
        marks = {start, stop}
        marks.update(float(hour) for hour in range(_ceil_hour(start), math.ceil(stop), HOUR_S))
        for span in down:
            marks.update(mark for mark in span if start < mark < stop)
        ordered = sorted(mark for mark in marks if start <= mark <= stop)
        for first, last in itertools.pairwise(ordered):
            is_down = any(span[0] <= first < span[1] for span in down)
            yield Stretch(first, last, 0.0 if is_down else self.hourly[int(first // HOUR_S)])

    def is_off(self, at: float) -> bool:
        """Without power."""
        return any(start <= at < stop for start, stop in self.off)

    def rate(self, at: float) -> float:
        """Bytes per second that the line gives now."""
        is_down = self.is_off(at) or any(start <= at < stop for start, stop in self.outages)
        return 0.0 if is_down else self.hourly[int(at // HOUR_S)]

    def next_up(self, at: float) -> float:
        """The first instant from `at` on with power and a line."""
        spans = sorted([*self.outages, *self.off])
        for start, stop in spans:
            if start <= at < stop:
                at = stop
        return at

    def down_s(self, start: float, stop: float) -> float:
        """Seconds without a line while the edge had power."""
        return sum(max(0.0, min(stop, last) - max(start, first)) for first, last in self.outages)


def rng_of(*names: object) -> random.Random:
    """Chance of its own for each thing, so that one more edge does not change the luck of the others."""
    return random.Random("/".join(map(str, names)))  # noqa: S311 - a model's luck, guards nothing


def edges_of(scenario: Scenario) -> tuple[EdgeSpec, ...]:
    """The edges, by region code: counties first, then the cities' own.

    Raises:
        ConfigurationError: caller's mistake; more edges than the table has regions.
    """
    regions = load_regions()
    rows = [*regions.within(PROVINCE, "county"), *regions.within(PROVINCE, "city")]
    if not 1 <= scenario.edges <= len(rows):
        raise ConfigurationError(
            f"{scenario.edges} edges; the table has {len(rows)} regions",
            zh=f"边缘服务器数量 {scenario.edges} 超出范围，区划表共有 {len(rows)} 个地区",
            hint=f"choose 1 to {len(rows)}",
            hint_zh=f"请选择 1 至 {len(rows)}",
        )
    return tuple(_edge(scenario, row) for row in rows[: scenario.edges])


def draw(rng: random.Random, table: tuple[tuple[int, int], ...]) -> int:
    """One of the values, by weight."""
    sums = [sum(weight for _, weight in table[: n + 1]) for n in range(len(table))]
    return table[bisect.bisect(sums, rng.random() * sums[-1])][0]


def _edge(scenario: Scenario, row: RegionRow) -> EdgeSpec:
    rng = rng_of(scenario.seed, row.code)
    nominal = draw(rng, _LINES) * _MBIT
    disk_bytes = draw(rng, _DISKS_GIB) * _GIB
    days = scenario.nights + 1
    hourly = tuple(
        nominal * min(1.0, share_of(hour % 24) * rng.lognormvariate(0.0, _NOISE)) for hour in range(24 * days)
    )
    per_day = _OUTAGES_PER_DAY * (_BAD_FACTOR if rng.random() < _BAD_SHARE else 1.0)
    return EdgeSpec(
        region=row.code,
        name=row.name,
        city=row.code[:4],
        hourly=hourly,
        outages=tuple(_outages(rng, per_day, days * DAY_S)),
        off=tuple(_off(rng, days)),
        disk_bytes=disk_bytes,
        is_small_line=nominal <= 8 * _MBIT,
    )


def share_of(hour: int) -> float:
    """Share of a county's line that courseware finds free at an hour of the day."""
    if hour >= 22 or hour < 7:
        return _NIGHT
    return _EVENING if hour >= 18 else _DAY


def _outages(rng: random.Random, per_day: float, until: float) -> Iterator[tuple[float, float]]:
    at = rng.expovariate(per_day / DAY_S)
    while at < until:
        length = 20.0 + rng.expovariate(1 / _OUTAGE_S)
        yield at, at + length
        at += length + rng.expovariate(per_day / DAY_S)


def _off(rng: random.Random, days: int) -> Iterator[tuple[float, float]]:
    """Switched off for a night, or away for two days."""
    for day in range(days):
        evening = day * DAY_S + 21.5 * HOUR_S
        luck = rng.random()
        if luck < _OFF_NIGHT:
            yield evening, evening + 10 * HOUR_S
        elif luck > 1 - _OFF_DAYS:
            yield evening, evening + 2 * DAY_S


def _ceil_hour(at: float) -> int:
    return math.ceil(at / HOUR_S) * HOUR_S
