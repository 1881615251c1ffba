"""The night as a value: midnight, zones, each edge's own minute, never bulk outside, and how fast."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.settings import Sync
from edge.sync.lines import command_schedule, schedule_of
from edge.sync.window import (
    BUSY_S,
    LONGEST_PAUSE_S,
    Doing,
    Last,
    Schedule,
    jitter_of,
    nights_from,
    plan_next,
    rate_now,
    refusal_at,
)
from manifests.errors import ConfigurationError
from manifests.instants import Instant
from manifests.line import HOURS_OF_WEEK, MINUTES_OF_DAY, Line, Window

ZONE = ZoneInfo("Asia/Shanghai")
ZONES = st.sampled_from([ZONE, ZoneInfo("UTC"), ZoneInfo("Asia/Kathmandu")])
MINUTE = st.integers(0, MINUTES_OF_DAY - 1)
# 2001 to 2100: those zones keep no daylight time in it.
NOW = st.integers(1_000_000_000, 4_100_000_000).map(Instant)
LINE = Line(default_rate=1_000_000)
STARTED = Last(was_bulk=True)


def at(text: str) -> Instant:
    return Instant(int(datetime.fromisoformat(text).replace(tzinfo=ZONE).timestamp()))


@st.composite
def schedules(draw: st.DrawFn) -> Schedule:
    window = Window(draw(MINUTE), draw(MINUTE))
    jitter = jitter_of(draw(st.text(max_size=8)), draw(st.integers(0, 720)), window)
    return Schedule(window, draw(ZONES), LINE, jitter, poll_s=draw(st.floats(0.1, 3600)))


def is_inside(schedule: Schedule, now: Instant) -> bool:
    """By the local clock alone: an independent reading of what the setting says."""
    local = datetime.fromtimestamp(now, schedule.zone)
    second = (local.hour * 60 + local.minute) * 60 + local.second
    opens, closes = schedule.window.opens * 60, schedule.window.closes * 60
    length = (closes - opens) % 86400 or 86400
    return schedule.jitter_s <= (second - opens) % 86400 < length


@settings(deadline=None)
@given(schedules(), NOW)
def test_bulk_moves_inside_its_own_window_and_never_outside(schedule: Schedule, now: Instant) -> None:
    inside = is_inside(schedule, now)
    assert (refusal_at(schedule, now) is None) is inside
    plan = plan_next(schedule, now, Last(since_s=1e6, was_bulk=True))
    assert plan.doing is (Doing.BULK if inside else Doing.POLL)
    assert (plan.night.start <= now < plan.night.stop) is inside


@settings(deadline=None)
@given(schedules(), NOW)
def test_nights_follow_each_other_and_end_at_the_windows_end(schedule: Schedule, now: Instant) -> None:
    nights = nights_from(schedule, now)
    first, second = next(nights), next(nights)
    assert now < first.stop <= second.start < second.stop
    assert second.start - first.start == 86400
    stop = datetime.fromtimestamp(first.stop, schedule.zone)
    assert stop.hour * 60 + stop.minute == schedule.window.closes
    assert first.start - now <= 86400


@settings(deadline=None)
@given(st.text(max_size=20), st.integers(0, 720), MINUTE, MINUTE)
def test_an_edges_minute_is_fixed_and_lies_in_the_windows_first_half(key: str, minutes: int, a: int, b: int) -> None:
    window = Window(a, b)
    jitter = jitter_of(key, minutes, window)
    assert jitter == jitter_of(key, minutes, window)
    assert 0 <= jitter <= minutes * 60
    assert jitter * 2 <= (b - a) % MINUTES_OF_DAY * 60


def test_edges_are_spread_over_the_half_hour() -> None:
    minutes = {jitter_of(str(410100 + number), 30, Window(1320, 360)) // 60 for number in range(160)}
    assert len(minutes) == 30


def test_a_window_over_midnight_said_by_the_hour() -> None:
    schedule = Schedule(Window(22 * 60, 6 * 60), ZONE, LINE, jitter_s=17 * 60)
    for text, inside in (
        ("2026-11-27T21:59:59", False),
        ("2026-11-27T22:16:59", False),
        ("2026-11-27T22:17:00", True),
        ("2026-11-28T00:00:00", True),
        ("2026-11-28T05:59:59", True),
        ("2026-11-28T06:00:00", False),
    ):
        refusal = refusal_at(schedule, at(text))
        assert (refusal is None) is inside, text
        if refusal is not None:
            assert (refusal.reason, refusal.reason_zh) == ("waits for the window 22:17", "等待 22:17 的同步时段")
    plan = plan_next(schedule, at("2026-11-28T01:00:00"), STARTED)
    assert (plan.night.start, plan.night.stop) == (at("2026-11-27T22:17:00"), at("2026-11-28T06:00:00"))
    assert plan.reason == "the window is open until 06:00"


def test_polls_by_day_and_the_windows_opening_is_not_waited_for() -> None:
    schedule = Schedule(Window(22 * 60, 6 * 60), ZONE, LINE, poll_s=60)
    noon, night = at("2026-11-27T12:00:00"), at("2026-11-27T22:00:00")
    assert plan_next(schedule, noon, STARTED).doing is Doing.WAIT
    assert plan_next(schedule, noon, Last(since_s=59)).wait_s == pytest.approx(1)
    assert plan_next(schedule, noon, Last(since_s=60)).doing is Doing.POLL
    assert plan_next(schedule, night, Last(since_s=1)).doing is Doing.BULK
    assert plan_next(schedule, night, Last(since_s=1, was_bulk=True)).doing is Doing.WAIT
    assert plan_next(schedule, night, Last(since_s=1, was_busy=True)).wait_s == pytest.approx(BUSY_S - 1)


@settings(deadline=None)
@given(schedules(), NOW, st.integers(0, 100))
def test_failures_are_spread_out_but_not_for_ever(schedule: Schedule, now: Instant, failures: int) -> None:
    wait_s = plan_next(schedule, now, Last(was_bulk=True, failures=failures)).wait_s
    assert schedule.poll_s <= wait_s <= max(schedule.poll_s, LONGEST_PAUSE_S)
    assert plan_next(schedule, now, Last(was_bulk=True, failures=failures + 1)).wait_s >= wait_s


@settings(deadline=None)
@given(schedules(), NOW, st.integers(-90_000, 90_000))
def test_a_clock_that_jumps_is_only_another_now(schedule: Schedule, now: Instant, jump: int) -> None:
    later = Instant(now + jump)
    plan = plan_next(schedule, later, Last(since_s=schedule.poll_s, was_bulk=is_inside(schedule, now)))
    assert plan.doing is (Doing.BULK if is_inside(schedule, later) else Doing.POLL)


def test_rates_by_cap_viewers_and_day() -> None:
    caps = tuple(hour * 1000 for hour in range(24))
    night = Schedule(Window(22 * 60, 6 * 60), ZONE, replace_caps(caps), viewer_share=0.25, day_share=0.1)
    ten, noon = at("2026-11-27T22:30:00"), at("2026-11-27T12:00:00")
    assert rate_now(night, ten, is_playing=False) == 22_000
    assert rate_now(night, ten, is_playing=True) == 5_500
    assert rate_now(night, at("2026-11-28T00:30:00"), is_playing=False) is None
    assert rate_now(night, noon, is_playing=False) == 1_200
    assert rate_now(night, noon, is_playing=True) == 0, "no capacity is idle"
    assert refusal_at(night, noon) is None
    free = replace(night, line=LINE)
    assert rate_now(free, ten, is_playing=False) is None
    assert rate_now(free, ten, is_playing=True) == 250_000
    assert rate_now(free, ten, is_playing=True, seen_bytes_per_s=4_000_000) == 1_000_000
    assert rate_now(replace(free, viewer_share=1.0), ten, is_playing=True) is None
    assert rate_now(replace(free, viewer_share=0.0), ten, is_playing=True) == 0


def replace_caps(caps: tuple[int, ...]) -> Line:
    return Line(default_rate=1_000_000, caps=caps, rates=(0,) * HOURS_OF_WEEK)


def test_schedule_from_settings() -> None:
    settings = Sync(window="23:00-05:30", jitter_minutes=10, poll_s=5, day_share=0.2)
    schedule = schedule_of(settings, "410122")
    assert schedule.window == Window(1380, 330)
    assert schedule.jitter_s == jitter_of("410122", 10, schedule.window) < 600
    assert (schedule.poll_s, schedule.day_share, schedule.viewer_share) == (5, 0.2, 0.25)
    command = command_schedule(schedule, ignore_window=False)
    assert (command.jitter_s, command.window) == (0, schedule.window)
    noon = at("2026-11-27T12:00:00")
    assert refusal_at(replace(command_schedule(schedule, ignore_window=True), day_share=0), noon) is None
    assert refusal_at(replace(command, day_share=0), noon + timedelta(hours=1).seconds) is not None  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match=r"sync\.zone"):
        schedule_of(Sync(zone="Asia/Nowhere"), "410122")
