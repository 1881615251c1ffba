"""Lines: windows, hours, caps, learning; completions against a model that walks through every minute."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from itertools import islice, pairwise
from zoneinfo import ZoneInfo

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from manifests.errors import FormatError
from manifests.instants import Instant, parse_instant
from manifests.line import (
    HORIZON_DAYS,
    HOURS_OF_DAY,
    HOURS_OF_WEEK,
    Line,
    Window,
    cap_at,
    completions,
    courses,
    hour_of_week,
    learn,
    parse_window,
    rate_at,
    window_at,
    windows_from,
)

SHANGHAI = ZoneInfo("Asia/Shanghai")
NIGHT = parse_instant("2026-11-24T14:00:00Z")  # Tuesday, 22:00 local
HOUR = 3600


def at(text: str, zone: tzinfo = SHANGHAI) -> Instant:
    """An instant of the week of 23 November 2026 (a Monday) by local day and hour, such as `24 22:30`."""
    return Instant(int(datetime.strptime(f"2026-11-{text}", "%Y-%m-%d %H:%M").replace(tzinfo=zone).timestamp()))


@pytest.mark.parametrize(
    ("text", "window"),
    [
        ("22:00-06:00", (1320, 360)),
        ("00:00-24:00", (0, 0)),
        ("22:30-24:00", (1350, 0)),
        ("00:00-00:00", (0, 0)),
        ("09:05-17:59", (545, 1079)),
    ],
)
def test_windows_are_read(text: str, window: tuple[int, int]) -> None:
    assert parse_window(text) == Window(*window)
    assert msgspec.convert({"window": text}, Line).window == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "22:00",
        "22-06",
        "24:00-06:00",
        "22:00-24:01",
        "22:00-25:00",
        "2:00-06:00",
        "22:60-06:00",
        "22:00-06:00\n",
        "２２:00-06:00",
        " 22:00-06:00",
        "22:00–06:00",
        "22:00-06:000",
    ],
)
def test_what_is_no_window_is_refused(text: str) -> None:
    with pytest.raises(FormatError):
        parse_window(text)
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"window": text}, Line)


@pytest.mark.parametrize(("name", "count"), [("rates", 167), ("rates", 1), ("caps", 23), ("caps", 1)])
def test_a_table_of_another_length_is_refused(name: str, count: int) -> None:
    with pytest.raises(msgspec.ValidationError, match=name):
        msgspec.json.decode(msgspec.json.encode({name: [1] * count}), type=Line)
    with pytest.raises(ValueError, match=name):
        Line(**{name: (1,) * count})


def test_a_window_that_crosses_midnight_is_one_night() -> None:
    window = Window(1320, 360)
    night = (at("24 22:00"), at("25 06:00"))
    for now in ("24 22:00", "24 23:59", "25 00:00", "25 05:59"):
        assert window_at(window, at(now), SHANGHAI) == night
    for now in ("24 21:59", "25 06:00", "25 12:00"):
        assert window_at(window, at(now), SHANGHAI) is None
    spans = list(windows_from(window, at("25 01:00"), SHANGHAI))
    assert spans[:2] == [night, (at("25 22:00"), at("26 06:00"))]
    assert len(spans) >= HORIZON_DAYS


def test_a_window_within_a_day_and_one_that_is_all_day() -> None:
    lunch = list(islice(windows_from(Window(720, 780), at("24 13:00"), SHANGHAI), 2))
    assert lunch == [(at("25 12:00"), at("25 13:00")), (at("26 12:00"), at("26 13:00"))]
    days = list(islice(windows_from(Window(0, 0), at("24 13:00"), SHANGHAI), 3))
    assert days[0] == (at("24 00:00"), at("25 00:00"))
    assert all(one.stop == other.start for one, other in pairwise(days))


def test_the_hour_of_the_week_is_the_counties_own() -> None:
    assert hour_of_week(at("23 00:00"), SHANGHAI) == 0
    assert hour_of_week(Instant(at("23 00:00") - 1), SHANGHAI) == HOURS_OF_WEEK - 1
    assert hour_of_week(at("25 13:59"), SHANGHAI) == 2 * HOURS_OF_DAY + 13
    assert hour_of_week(at("23 00:00"), ZoneInfo("Asia/Urumqi")) == HOURS_OF_WEEK - 2  # two hours behind: Sunday 22:00


def test_the_rate_is_measured_or_near_or_the_default_and_never_above_the_cap() -> None:
    assert rate_at(Line(default_rate=7), NIGHT, SHANGHAI) == 7
    rates = [0] * HOURS_OF_WEEK
    rates[3] = 900
    line = Line(rates=tuple(rates), default_rate=7)
    assert rate_at(line, NIGHT, SHANGHAI) == 900, "the only hour that was measured"
    rates[22] = 100  # Monday's 22:00
    rates[5 * HOURS_OF_DAY + 22] = 205
    line = Line(rates=tuple(rates), default_rate=7)
    assert rate_at(line, NIGHT, SHANGHAI) == 152, "the same hour of other days, rounded down"
    rates[HOURS_OF_DAY + 22] = 40
    line = Line(rates=tuple(rates), caps=(0,) * 22 + (33, 0))
    assert rate_at(line, NIGHT, SHANGHAI) == cap_at(line, NIGHT, SHANGHAI) == 33
    assert rate_at(Line(rates=tuple(rates), caps=(0,) * 24), NIGHT, SHANGHAI) == 40
    assert rate_at(Line(rates=tuple(rates), caps=(0,) * 22 + (50, 0)), NIGHT, SHANGHAI) == 40


def test_learning_moves_one_hour_a_part_of_the_way() -> None:
    hour = hour_of_week(NIGHT, SHANGHAI)
    first = learn((), NIGHT, SHANGHAI, 1000)
    assert (len(first), first[hour], sum(first)) == (HOURS_OF_WEEK, 1000, 1000)
    assert learn(first, NIGHT, SHANGHAI, 2000)[hour] == 1300
    assert learn(first, NIGHT, SHANGHAI, 0)[hour] == 700
    other = learn(first, Instant(NIGHT + HOUR), SHANGHAI, 5)
    assert (other[hour], other[hour + 1]) == (1000, 5)


@given(st.lists(st.integers(1, 1 << 40), min_size=1, max_size=30))
def test_a_learnt_rate_stays_within_what_was_measured(measured: list[int]) -> None:
    rates: Sequence[int] = ()
    for one in measured:
        rates = learn(rates, NIGHT, SHANGHAI, one)
    assert min(measured) <= rates[hour_of_week(NIGHT, SHANGHAI)] <= max(measured)


def test_courses_are_cut_at_each_local_hour() -> None:
    for zone, cut in ((SHANGHAI, "24 23:00"), (ZoneInfo("Asia/Kolkata"), "24 23:00")):
        got = [one.span for one in islice(courses(Line(), at("24 22:30", zone), zone), 2)]
        assert got == [(at("24 22:30", zone), at(cut, zone)), (at(cut, zone), at("25 00:00", zone))]


def test_bulk_waits_for_its_window_unless_told_not_to() -> None:
    line, noon = Line(default_rate=1000), at("24 12:00")
    assert completions(line, noon, SHANGHAI, [5000]) == (at("24 22:00") + 5,)
    assert completions(line, noon, SHANGHAI, [5000], ignore_window=True) == (noon + 5,)
    assert completions(line, at("25 05:59"), SHANGHAI, [61_000]) == (at("25 22:00") + 1,)


def test_what_ends_with_the_window_is_still_of_this_night() -> None:
    line = Line(default_rate=1000)
    whole = 8 * HOUR * 1000
    assert completions(line, NIGHT, SHANGHAI, [whole, 1]) == (at("25 06:00"), at("25 22:00") + 1)


def test_beyond_the_horizon_nothing_is_promised() -> None:
    line = Line(default_rate=1)
    assert completions(line, NIGHT, SHANGHAI, [10, 1 << 40, 10, 0]) == (NIGHT + 10, None, None, NIGHT)
    assert completions(Line(default_rate=0), NIGHT, SHANGHAI, [1]) == (None,)


def test_a_day_of_23_hours_has_one_hour_less_of_line() -> None:
    berlin = ZoneInfo("Europe/Berlin")
    line = Line(zone="Europe/Berlin", window="00:00-06:00")
    spring = datetime(2027, 3, 28, tzinfo=berlin)
    start = Instant(int(spring.timestamp()))
    span = window_at(Window(0, 360), start, berlin)
    assert span is not None
    assert span.stop - span.start == 5 * HOUR
    assert [one.span.start for one in islice(courses(line, start, berlin), 5)] == [start + HOUR * n for n in range(5)]


windows = st.tuples(st.integers(0, 1439), st.integers(0, 1440)).map(
    lambda pair: f"{pair[0] // 60:02}:{pair[0] % 60:02}-{pair[1] // 60:02}:{pair[1] % 60:02}"
)
rates_tables = st.just(()) | st.lists(
    st.sampled_from([0, 1, 7, 60, 1000]), min_size=HOURS_OF_WEEK, max_size=HOURS_OF_WEEK
).map(tuple)
caps_tables = st.just(()) | st.lists(st.sampled_from([0, 3, 50]), min_size=HOURS_OF_DAY, max_size=HOURS_OF_DAY).map(
    tuple
)
lines = st.builds(Line, window=windows, rates=rates_tables, caps=caps_tables, default_rate=st.sampled_from([1, 40]))
offsets = st.sampled_from([480, 0, 330, -210]).map(lambda minutes: timezone(timedelta(minutes=minutes)))
DAYS = 3


def model(line: Line, now: int, zone: timezone, sizes: Sequence[int], *, ignore_window: bool) -> list[int | None]:
    """Carry the bytes minute by minute: a minute has one rate, and is in the window or not."""
    opens, closes = (int(part[:2]) * 60 + int(part[3:]) for part in line.window.split("-"))
    ends = [sum(sizes[: n + 1]) for n in range(len(sizes))]
    found: list[int | None] = [None if size else now for size in sizes]
    carried, second = 0, now
    while second < now + DAYS * 86400:
        local = datetime.fromtimestamp(second, UTC) + zone.utcoffset(None)
        minute = local.hour * 60 + local.minute
        stop = second + 60 - local.second
        within = opens <= minute < closes if opens < closes else minute >= opens or minute < closes
        if within or ignore_window or opens == closes % 1440:
            rate = rate_at(line, Instant(second), zone)
            for n, end in enumerate(ends):
                if found[n] is None and end <= carried + rate * (stop - second):
                    found[n] = second + -((carried - end) // rate)
            carried += rate * (stop - second)
        second = stop
    return found


@settings(max_examples=40)
@given(
    lines,
    st.integers(NIGHT, NIGHT + 7 * 86400),
    offsets,
    st.lists(st.sampled_from([0, 1, 59, 5000, 200_000, 3_000_000]), max_size=5),
    st.booleans(),
)
def test_completions_are_those_of_the_model(
    line: Line, now: int, zone: timezone, sizes: list[int], ignore_window: bool
) -> None:
    found = completions(line, Instant(now), zone, sizes, ignore_window=ignore_window)
    end = now + DAYS * 86400
    expected = model(line, now, zone, sizes, ignore_window=ignore_window)
    assert [one if one is not None and one <= end else None for one in found] == expected


@given(lines, st.integers(NIGHT, NIGHT + 7 * 86400), st.lists(st.integers(0, 10**9), max_size=6), st.integers(1, 10**8))
def test_more_bytes_are_never_earlier(line: Line, now: int, sizes: list[int], more: int) -> None:
    def moments(amounts: list[int]) -> list[float]:
        found = completions(line, Instant(now), SHANGHAI, amounts)
        return [float("inf") if one is None else one for one in found]

    before = moments(sizes)
    busy = [one for one, size in zip(before, sizes, strict=True) if size]
    assert busy == sorted(busy)
    after = moments([size + more for size in sizes])
    assert all(one <= other for one, other in zip(before, after, strict=True))
