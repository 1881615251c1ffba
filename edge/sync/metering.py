"""How fast the line is: bytes and seconds while bulk was under way, sorted by the hour they belong to.

Pure: whoever measures hands in marks of the clocks and of the bytes received so far. A stretch with nothing to fetch,
or one in which bulk was held back on purpose, says nothing of the line and is left out; so is a long silence, which is
an outage and not a slow line. Short silences stay in: a line that drops every minute is slower by them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import tzinfo
from typing import NamedTuple

from manifests.instants import Instant
from manifests.line import Line, cap_at, hour_of_week, learn

# A silence longer than this is an outage.
OUTAGE_S = 60.0
# Less of an hour than this is too little to judge it by: connections take their time to come up to speed.
LEAST_S = 10.0
# Whoever comes so near to the cap has measured the cap.
NEAR_CAP = 0.9
# Local hours begin at a multiple of it in every zone there is.
_BUCKET_S = 900


class Measured(NamedTuple):
    """What was seen of one hour; `at` lies in it."""

    at: Instant
    bytes: int
    seconds: float


class _Mark(NamedTuple):
    at: Instant
    monotonic_s: float
    received: int
    is_counted: bool


class Meter:
    """Adds up stretches between marks; in memory only a few numbers per hour of one run."""

    def __init__(self) -> None:
        self._last: _Mark | None = None
        self._silent_s = 0.0
        self._buckets: dict[int, tuple[int, float]] = {}

    def mark(self, at: Instant, monotonic_s: float, received: int, *, is_counted: bool) -> None:
        """End a stretch and begin the next.

        Args:
            at: now.
            monotonic_s: for the length of stretches, which a clock that is set must not bend.
            received: bytes of body received so far, in all.
            is_counted: whether bulk is under way from now on and nothing but the line holds it back.
        """
        last, self._last = self._last, _Mark(at, monotonic_s, received, is_counted)
        if last is None or not last.is_counted:
            self._silent_s = 0.0
            return
        seconds, got = monotonic_s - last.monotonic_s, received - last.received
        if got <= 0:
            self._silent_s += seconds
            return
        if self._silent_s <= OUTAGE_S:
            seconds += self._silent_s
        self._silent_s = 0.0
        bucket = last.at // _BUCKET_S
        before = self._buckets.get(bucket, (0, 0.0))
        self._buckets[bucket] = (before[0] + got, before[1] + seconds)

    def take(self, zone: tzinfo, now: Instant | None = None) -> tuple[Measured, ...]:
        """What was measured, hour by hour; it is forgotten here.

        Args:
            zone: hours are those of this zone.
            now: leave its hour, which is still going on; None: take all.
        """
        hours: dict[int, Measured] = {}
        for bucket in sorted(self._buckets):
            at = Instant(bucket * _BUCKET_S)
            hour = hour_of_week(at, zone)
            if now is not None and hour == hour_of_week(now, zone):
                continue
            got, seconds = self._buckets.pop(bucket)
            before = hours.get(hour, Measured(at, 0, 0.0))
            hours[hour] = Measured(before.at, before.bytes + got, before.seconds + seconds)
        return tuple(hours.values())


def learn_all(rates: Sequence[int], line: Line, zone: tzinfo, measured: Iterable[Measured]) -> tuple[int, ...]:
    """The profile after these measurements; those that are too short, or of a cap, change nothing."""
    for one in measured:
        if one.seconds < LEAST_S:
            continue
        rate, cap = round(one.bytes / one.seconds), cap_at(line, one.at, zone)
        if not cap or rate < NEAR_CAP * cap:
            rates = learn(rates, one.at, zone, rate)
    return tuple(rates)
