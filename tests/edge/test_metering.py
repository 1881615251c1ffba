"""Measuring the line: which stretches count, to which hour, and what is learnt of them."""

from __future__ import annotations

from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.paths import Paths
from edge.sync.lines import keep_rates, read_rates
from edge.sync.metering import LEAST_S, OUTAGE_S, Measured, Meter, learn_all
from manifests.instants import Instant, parse_instant
from manifests.line import HOURS_OF_DAY, HOURS_OF_WEEK, Line, hour_of_week

SHANGHAI = ZoneInfo("Asia/Shanghai")
NIGHT = parse_instant("2026-11-24T14:00:00Z")  # Tuesday, 22:00 local
HOUR = hour_of_week(NIGHT, SHANGHAI)


class Run:
    """A meter with clocks that a test moves."""

    def __init__(self, at: int = NIGHT) -> None:
        self.at, self.monotonic_s, self.received, self.meter = at, 5.0, 70, Meter()

    def mark(self, is_counted: bool = True) -> None:
        self.meter.mark(Instant(self.at), self.monotonic_s, self.received, is_counted=is_counted)

    def pass_by(self, seconds: int, count: int, is_counted: bool = True) -> None:
        self.at += seconds
        self.monotonic_s += seconds
        self.received += count
        self.mark(is_counted)


def test_only_stretches_with_bulk_count() -> None:
    run = Run()
    run.mark(False)
    run.pass_by(100, 5)  # the catalog, before bulk began
    run.pass_by(10, 1000)
    run.pass_by(20, 2000, is_counted=False)
    run.pass_by(500, 9)  # nothing to fetch, or held back for a viewer
    run.pass_by(10, 1000)
    assert run.meter.take(SHANGHAI) == (Measured(Instant(NIGHT // 900 * 900), 4000, 40.0),)
    assert run.meter.take(SHANGHAI) == ()


def test_short_silences_are_part_of_the_line_and_long_ones_are_outages() -> None:
    run = Run()
    run.mark()
    run.pass_by(10, 1000)
    run.pass_by(20, 0)
    run.pass_by(10, 1000)
    assert run.meter.take(SHANGHAI)[0][1:] == (2000, 40.0)
    run.pass_by(10, 1000)
    for _ in range(40):
        run.pass_by(int(OUTAGE_S) // 20, 0)
    run.pass_by(10, 1000)
    assert run.meter.take(SHANGHAI)[0][1:] == (2000, 20.0)
    run.pass_by(30, 0, is_counted=False)
    run.pass_by(30, 0)
    run.pass_by(10, 1000)
    assert run.meter.take(SHANGHAI)[0][1:] == (1000, 10.0)


def test_a_clock_that_is_set_does_not_bend_a_stretch() -> None:
    run = Run()
    run.mark()
    run.at += 86400 * 365
    run.pass_by(10, 1000)
    assert run.meter.take(SHANGHAI)[0][1:] == (1000, 10.0)


def test_bytes_go_to_the_hour_in_which_they_came() -> None:
    run = Run(NIGHT + 3500)
    run.mark()
    run.pass_by(100, 100)
    run.pass_by(100, 900)
    first = run.meter.take(SHANGHAI, Instant(run.at))
    assert [(hour_of_week(one.at, SHANGHAI) - HOUR, *one[1:]) for one in first] == [(0, 100, 100.0)]
    rest = run.meter.take(SHANGHAI)
    assert [(hour_of_week(one.at, SHANGHAI) - HOUR, *one[1:]) for one in rest] == [(1, 900, 100.0)]


def test_what_is_learnt_and_what_is_too_little_or_the_cap() -> None:
    at = Instant(NIGHT)
    line = Line(caps=(0,) * 22 + (1000, 0))
    assert learn_all((), line, SHANGHAI, [Measured(at, 5000, 10.0)])[HOUR] == 500
    assert learn_all((), line, SHANGHAI, [Measured(at, 500_000, LEAST_S / 2)]) == ()
    assert learn_all((), line, SHANGHAI, [Measured(at, 9900, 10.0)]) == (), "that was the cap"
    assert learn_all((), Line(), SHANGHAI, [Measured(at, 9900, 10.0)])[HOUR] == 990
    rates = learn_all((1000,) * HOURS_OF_WEEK, Line(), SHANGHAI, [Measured(at, 20_000, 10.0)] * 2)
    assert rates[HOUR] == 1510
    assert sum(rates) == 1000 * HOURS_OF_WEEK + 510


@given(st.lists(st.tuples(st.integers(1, 50), st.integers(0, 10**6), st.booleans()), max_size=60))
def test_no_byte_and_no_second_counts_twice(steps: list[tuple[int, int, bool]]) -> None:
    run = Run()
    run.mark()
    is_on, got, seconds = True, 0, 0
    for step in steps:
        run.pass_by(*step)
        got, seconds, is_on = got + step[1] * is_on, seconds + step[0] * is_on, step[2]
    measured = run.meter.take(SHANGHAI)
    assert sum(one.bytes for one in measured) == got
    assert sum(one.seconds for one in measured) <= seconds
    assert len(measured) <= 1 + len(steps) * 50 // 3600 + 1


def test_the_profile_outlives_the_index_and_a_damaged_one_is_learnt_anew(tmp_path: Path) -> None:
    paths = Paths(tmp_path)
    assert read_rates(paths) == ()
    rates = tuple(range(HOURS_OF_WEEK))
    keep_rates(paths, rates)
    assert read_rates(paths) == rates
    for text in ("", "{", "[]", '{"format":"other","major":1,"rates":' + f"{list(rates)}}}", "\xff"):
        paths.line.write_text(text, encoding="latin-1")
        assert read_rates(paths) == ()
    with pytest.raises(ValueError, match="rates"):
        Line(rates=(1,) * HOURS_OF_DAY)
