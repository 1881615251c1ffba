"""The night as a value: when to ask for news, when bulk may move and how fast, each with its reason.

Pure: wall time and seconds since the last run are arguments, so a clock that jumps at the window's edge is only
another `now`. Each edge begins at its own minute after the window opens, always the same one, so that a province does
not begin at once; the window's end is hard for all.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, tzinfo
from enum import StrEnum

import xxhash

from manifests.instants import Instant
from manifests.line import HOURS_OF_DAY, MINUTES_OF_DAY, Line, Span, Window, hour_of_week, rate_at, windows_from

# A run that found another one at work looks again so soon.
BUSY_S = 5.0
# Failing polls are spread out up to here, and no further: a recall must be heard within minutes of the line's return.
LONGEST_PAUSE_S = 300.0


class Doing(StrEnum):
    """What is due now."""

    BULK = "bulk"  # ask, and fetch what is planned
    POLL = "poll"  # ask; carry out what needs no bulk
    WAIT = "wait"


@dataclass(frozen=True, slots=True)
class Schedule:
    """What an edge's settings say of its nights.

    Attributes:
        jitter_s: this edge begins so long after the window opens.
        poll_s: newer releases are asked for so often, bulk or not.
        day_share: share of the line's rate for bulk outside the window while no terminal plays; 0: none.
        viewer_share: share of the line's rate that bulk keeps while terminals play.
        line: measured rates and caps.
    """

    window: Window
    zone: tzinfo
    line: Line
    jitter_s: int = 0
    poll_s: float = 60.0
    day_share: float = 0.0
    viewer_share: float = 1.0


@dataclass(frozen=True, slots=True)
class Last:
    """The last run, or the start of the program.

    Attributes:
        since_s: seconds since it ended, by a monotonic clock.
        was_bulk: bulk was allowed in it.
        failures: failed runs in a row, it included.
        was_busy: another process had the lock.
    """

    since_s: float = 0.0
    was_bulk: bool = False
    failures: int = 0
    was_busy: bool = False


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why bulk waits, and for when."""

    reason: str
    reason_zh: str
    until: Instant


@dataclass(frozen=True, slots=True)
class NightPlan:
    """What is due.

    Attributes:
        wait_s: nothing is due before so many seconds have passed, unless the clock jumps; 0 when something is.
        night: the time for bulk that runs, or else the next one, from this edge's own minute to the hard end.
    """

    doing: Doing
    reason: str
    reason_zh: str
    wait_s: float
    night: Span


def jitter_of(key: str, minutes: int, window: Window) -> int:
    """Seconds after the window's opening at which this edge begins: fixed by its key, within half the window.

    Args:
        key: what is this edge's own and never changes, such as its region code.
        minutes: the spread; a window that is open all day needs none.
        window: the hours for bulk.
    """
    length_s = (window.closes - window.opens) % MINUTES_OF_DAY * 60
    spread_s = min(minutes * 60, length_s // 2)
    return xxhash.xxh3_64_intdigest(key.encode()) % spread_s if spread_s else 0


def nights_from(schedule: Schedule, now: Instant) -> Iterator[Span]:
    """The night that runs, if any, then those that follow."""
    for span in windows_from(schedule.window, now, schedule.zone):
        yield Span(Instant(span.start + schedule.jitter_s), span.stop)


def refusal_at(schedule: Schedule, now: Instant) -> Refusal | None:
    """Why bulk may not move at `now`; None when it may."""
    night = next(nights_from(schedule, now))
    if night.start <= now or schedule.day_share > 0:
        return None
    at = clock_text(night.start, schedule.zone)
    return Refusal(f"waits for the window {at}", f"等待 {at} 的同步时段", night.start)


def plan_next(schedule: Schedule, now: Instant, last: Last) -> NightPlan:
    """Say what is due.

    Args:
        schedule: of this edge.
        now: wall time.
        last: the last run; whoever just started says that it was with bulk, and so waits one poll.
    """
    refusal = refusal_at(schedule, now)
    night = next(nights_from(schedule, now))
    opens_now = refusal is None and not last.was_bulk and not last.was_busy
    wait_s = 0.0 if opens_now else max(_pause_s(schedule, last) - last.since_s, 0.0)
    if refusal is not None:
        doing = Doing.WAIT if wait_s else Doing.POLL
        return NightPlan(doing, f"bulk {refusal.reason}", f"课件传输{refusal.reason_zh}", wait_s, night)
    doing = Doing.WAIT if wait_s else Doing.BULK
    if night.start <= now:
        at = clock_text(night.stop, schedule.zone)
        return NightPlan(doing, f"the window is open until {at}", f"同步时段开放至 {at}", wait_s, night)
    return NightPlan(doing, "the daytime share is used", "使用白天的空闲带宽", wait_s, night)


def rate_now(schedule: Schedule, now: Instant, *, is_playing: bool, seen_bytes_per_s: int = 0) -> int | None:
    """Bytes per second that bulk may take at `now` if it may move at all; 0: none just now, None: no limit.

    Args:
        schedule: of this edge.
        now: wall time.
        is_playing: terminals are being served.
        seen_bytes_per_s: best rate seen in this run, where it beats what is known of the line.
    """
    cap = cap_at(schedule, now)
    rate = max(rate_at(schedule.line, now, schedule.zone), seen_bytes_per_s)
    limits = [cap] if cap is not None else []
    if schedule.day_share > 0 and next(nights_from(schedule, now)).start > now:
        limits.append(0 if is_playing else int(schedule.day_share * rate))
    if is_playing and schedule.viewer_share < 1:
        limits.append(int(schedule.viewer_share * rate))
    return min(limits, default=None)


def cap_at(schedule: Schedule, now: Instant) -> int | None:
    """The hour's cap in bytes per second; None without one."""
    caps = schedule.line.caps
    cap = caps[hour_of_week(now, schedule.zone) % HOURS_OF_DAY] if len(caps) == HOURS_OF_DAY else 0
    return cap or None


def clock_text(at: Instant, zone: tzinfo) -> str:
    """The local time of day, as people say it."""
    return datetime.fromtimestamp(at, zone).strftime("%H:%M")


def _pause_s(schedule: Schedule, last: Last) -> float:
    if last.was_busy:
        return min(BUSY_S, schedule.poll_s)
    longest = max(schedule.poll_s, LONGEST_PAUSE_S)
    return min(schedule.poll_s * 2.0 ** max(min(last.failures, 20) - 1, 0), longest)
