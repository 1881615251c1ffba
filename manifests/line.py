"""A county's line as the planner sees it: when bulk may cross it, how fast it was at each hour of the week.

Both sides compute with this: the edge to plan its night, the origin to promise for all of them. Time comes in as
instants and a `tzinfo`; the local day is that of the county's zone. Rates are bytes of body per second.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta, tzinfo
from typing import Annotated, NamedTuple

from msgspec import Meta, Struct

from manifests.errors import FormatError
from manifests.instants import Instant
from manifests.model import MAX_INT

HOURS_OF_DAY = 24
HOURS_OF_WEEK = 168
MINUTES_OF_DAY = 1440
# A new measurement of an hour counts for this share: four of them make most of the figure, one bad night does not.
NEWEST_SHARE = 0.3
# Beyond this many days a promise is "not in sight".
HORIZON_DAYS = 60

_CLOCK = r"([01][0-9]|2[0-3]):([0-5][0-9])"
_WINDOW_TEXT = rf"^{_CLOCK}-(?:{_CLOCK}|(24):(00))\Z"
_WINDOW = re.compile(_WINDOW_TEXT)
Rate = Annotated[int, Meta(ge=0, le=MAX_INT)]


class Window(NamedTuple):
    """Local minutes of the day at which bulk may begin and must end; equal ones mean all day."""

    opens: int
    closes: int


class Span(NamedTuple):
    """A half-open time."""

    start: Instant
    stop: Instant


class Line(Struct, frozen=True, omit_defaults=True):
    """What is known of one edge's line; sent with its reports.

    Attributes:
        zone: IANA name of the county's time zone.
        window: hours for bulk, as `22:00-06:00`.
        rates: measured rate of each hour of the week, Monday 00:00 local first; 0 where never measured.
        caps: most that bulk may take in each hour of the day; empty or 0 for no cap.
        default_rate: rate to reckon with where nothing was measured.
    """

    zone: Annotated[str, Meta(min_length=1, max_length=64)] = "Asia/Shanghai"
    window: Annotated[str, Meta(pattern=_WINDOW_TEXT)] = "22:00-06:00"
    rates: Annotated[tuple[Rate, ...], Meta(max_length=HOURS_OF_WEEK)] = ()
    caps: Annotated[tuple[Rate, ...], Meta(max_length=HOURS_OF_DAY)] = ()
    default_rate: Rate = 500_000

    def __post_init__(self) -> None:
        """Refuse a table of another length: which hour would its first value be?

        Raises:
            ValueError: bad data; a decoder makes it an error of its own.
        """
        for name, table, count in (("rates", self.rates, HOURS_OF_WEEK), ("caps", self.caps, HOURS_OF_DAY)):
            if table and len(table) != count:
                raise ValueError(f"{name} has {len(table)} values; {count} belong there, or none")


def parse_window(text: str) -> Window:
    """Read `22:00-06:00`; it may cross midnight, and `00:00-24:00` is all day.

    Raises:
        FormatError: bad data.
    """
    match = _WINDOW.match(text)
    if match is None:
        raise FormatError(
            f"window {text[:40]!r} is not of the form 22:00-06:00", zh=f"时间窗口 {text[:40]!r} 应形如 22:00-06:00"
        )
    hours, minutes, *close = (int(part) for part in match.groups() if part is not None)
    return Window(hours * 60 + minutes, (close[0] * 60 + close[1]) % MINUTES_OF_DAY)


def windows_from(window: Window, now: Instant, zone: tzinfo) -> Iterator[Span]:
    """The window that `now` lies in, if any, with its own start; then those that follow, for `HORIZON_DAYS`."""
    first = datetime.fromtimestamp(now, zone).date() - timedelta(days=1)
    for day in range(HORIZON_DAYS + 2):
        date = first + timedelta(days=day)
        midnight = datetime(date.year, date.month, date.day, tzinfo=zone)
        start = Instant(int((midnight + timedelta(minutes=window.opens)).timestamp()))
        length = (window.closes - window.opens) % MINUTES_OF_DAY or MINUTES_OF_DAY
        stop = Instant(int((midnight + timedelta(minutes=window.opens + length)).timestamp()))
        if stop > now:
            yield Span(start, stop)


def window_at(window: Window, now: Instant, zone: tzinfo) -> Span | None:
    """The window that `now` lies in."""
    span = next(windows_from(window, now, zone))
    return span if span.start <= now else None


def hour_of_week(at: Instant, zone: tzinfo) -> int:
    """0 for Monday 00:00–01:00 local, 167 for the last hour of Sunday."""
    local = datetime.fromtimestamp(at, zone)
    return local.weekday() * HOURS_OF_DAY + local.hour


def rate_at(line: Line, at: Instant, zone: tzinfo) -> int:
    """Bytes per second to reckon with at an instant: as measured, else as near hours were; never above the cap."""
    hour = hour_of_week(at, zone)
    rate = _measured(line.rates, hour) or line.default_rate
    cap = cap_at(line, at, zone)
    return min(rate, cap) if cap else rate


def cap_at(line: Line, at: Instant, zone: tzinfo) -> int:
    """Most that bulk may take in the hour of an instant; 0 for no cap."""
    return line.caps[hour_of_week(at, zone) % HOURS_OF_DAY] if line.caps else 0


def _measured(rates: Sequence[int], hour: int) -> int:
    """The hour itself, else the mean of the same hour on other days, else the mean of all that was measured."""
    if len(rates) != HOURS_OF_WEEK:
        return 0
    same = [rate for rate in rates[hour % HOURS_OF_DAY :: HOURS_OF_DAY] if rate]
    known = [rates[hour]] if rates[hour] else same or [rate for rate in rates if rate]
    return sum(known) // len(known) if known else 0


def learn(rates: Sequence[int], at: Instant, zone: tzinfo, bytes_per_s: int) -> tuple[int, ...]:
    """The profile with one more measurement of the hour of `at`."""
    table = list(rates) if len(rates) == HOURS_OF_WEEK else [0] * HOURS_OF_WEEK
    hour = hour_of_week(at, zone)
    before = table[hour]
    table[hour] = round(before + NEWEST_SHARE * (bytes_per_s - before)) if before else bytes_per_s
    return tuple(table)


class Course(NamedTuple):
    """A stretch of time at one rate in which bulk may cross the line."""

    span: Span
    bytes_per_s: int


def courses(line: Line, now: Instant, zone: tzinfo, *, ignore_window: bool = False) -> Iterator[Course]:
    """The time for bulk from `now` on, cut where the rate may change: at each local hour, inside the windows."""
    window = Window(0, 0) if ignore_window else parse_window(line.window)
    for span in windows_from(window, now, zone):
        at = max(span.start, now)
        while at < span.stop:
            local = datetime.fromtimestamp(at, zone)
            stop = Instant(min(span.stop, at + 3600 - local.minute * 60 - local.second))
            yield Course(Span(at, stop), rate_at(line, at, zone))
            at = stop


def completions(
    line: Line, now: Instant, zone: tzinfo, sizes: Sequence[int], *, ignore_window: bool = False
) -> tuple[Instant | None, ...]:
    """When each of these will be here if they cross the line one after another; None: not within the horizon.

    Args:
        line: the line.
        now: when they begin; outside the window they wait for it.
        zone: that of `line.zone`.
        sizes: bytes, in order. Nothing to fetch is here at once.
        ignore_window: as `--now`.
    """
    found: list[Instant | None] = []
    stretches = courses(line, now, zone, ignore_window=ignore_window)
    stretch = next(stretches, None)
    moved = 0.0  # bytes already moved in this stretch
    for size in sizes:
        left = float(size)
        while left > 0 and stretch is not None:
            room = (stretch.span.stop - stretch.span.start) * stretch.bytes_per_s - moved
            if left <= room:
                moved += left
                left = 0.0
            else:
                left -= room
                stretch, moved = next(stretches, None), 0.0
        if size <= 0:
            found.append(now)
        elif stretch is None:
            found.append(None)
        else:
            found.append(Instant(stretch.span.start + -int(-moved // max(stretch.bytes_per_s, 1))))
    return tuple(found)
