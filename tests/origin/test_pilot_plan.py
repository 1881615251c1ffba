"""The verdict on a pilot's wave: worked examples, and what must hold for any reports."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from manifests.errors import InputError
from manifests.instants import Instant
from manifests.names import Region, is_within
from origin.publish.pilot_plan import (
    EdgeReport,
    RunningPilot,
    Standing,
    Step,
    Terms,
    areas_until,
    check_waves,
    plan_wave,
    wave_of,
)

AT = Instant(1_795_000_000)
HOUR = 3600
COUNTIES = ("410122", "410181", "410225", "410305", "410306")


def pilot(wave: int = 0, **terms: int) -> RunningPilot:
    waves = ((Region("410122"),), (Region("410181"), Region("410200")), (Region("410300"),))
    return RunningPilot(7, "kj-1", "课件", 2, 1, waves, wave, AT, Terms(**terms), {"410122-1": ("老故障",)})


def edge(county: str, held: int = 1, **more: object) -> EdgeReport:
    made = EdgeReport(f"{county}-1", f"县{county}", Region(county), held, Instant(AT + HOUR))
    return replace(made, **more)


def test_worked_examples() -> None:
    good, waits = edge("410122", 2), edge("410122")
    for given_, reports, hours, expected in (
        (pilot(), [good], 1, ("go_on", "1 of 1 edges hold it, proved")),
        (pilot(), [good, edge("410305")], 1, ("go_on", "1 of 1 edges hold it, proved")),
        (pilot(), [waits], 1, ("wait", "0 of 1 edges hold it, 1 are needed")),
        (pilot(), [waits], 48, ("stop", "after 48 hours 0 of 1 edges hold it, 1 are needed")),
        (pilot(), [], 1, ("wait", "no enrolled edge is in its regions")),
        (pilot(), [], 48, ("stop", "after 48 hours no enrolled edge is in its regions")),
        (pilot(), [good], 48, ("go_on", "1 of 1 edges hold it, proved")),
        (pilot(2), [edge(one, 2) for one in COUNTIES], 1, ("finish", "5 of 5 edges hold it, proved")),
        (
            pilot(1, enough_percent=50),
            [good, edge("410225"), edge("410181")],
            1,
            ("wait", "1 of 3 edges hold it, 2 are needed"),
        ),
        (pilot(), [replace(good, faults=("老故障",))], 1, ("go_on", "1 of 1 edges hold it, proved")),
        (pilot(), [replace(good, faults=("新",))], 1, ("stop", "1 edges are in trouble: 410122-1, fault: 新")),
        (
            pilot(),
            [replace(waits, failed_since=AT, error="坏")],
            1,
            ("stop", "1 edges are in trouble: 410122-1, its runs fail: 坏"),
        ),
        (
            pilot(),
            [replace(waits, failed_since=Instant(AT + 60), error="坏")],
            1,
            ("wait", "0 of 1 edges hold it, 1 are needed"),
        ),
        (
            pilot(1, most_failed=1, enough_percent=60),
            [good, edge("410225", 2), edge("410181", faults=("新",))],
            1,
            ("go_on", "2 of 3 edges hold it, proved"),
        ),
    ):
        made = plan_wave(given_, reports, Instant(AT + hours * HOUR))
        assert (str(made.step), made.reason) == expected


def test_each_edge_has_its_wave_and_its_reason() -> None:
    reports = [
        edge("410122", 2),
        edge("410225", heard_at=None),
        edge("410181", deferred="等待传输"),
        edge("410305", 2),
    ]
    made = plan_wave(pilot(1), reports, AT)
    assert [(one.edge.code, one.wave, str(one.standing), one.reason) for one in made.edges] == [
        ("410122-1", 0, "proved", "holds it, proved"),
        ("410225-1", 1, "waits", "never heard from"),
        ("410181-1", 1, "waits", "not yet: 等待传输"),
    ]


@pytest.mark.parametrize(
    "waves",
    [[], [[]], [["410122"], []], [["420000"]], [["410122"]] * 21],
    ids=["none", "empty", "one empty", "out", "many"],
)
def test_waves_that_mean_nobody_are_refused(waves: list[list[Region]]) -> None:
    check_waves([[Region("410122")]], ("410000",))
    check_waves([[Region("410000")]], ("410122",))
    with pytest.raises(InputError):
        check_waves(waves, ("410000",))


EDGES = st.lists(
    st.builds(
        edge,
        st.sampled_from(COUNTIES),
        st.integers(0, 3),
        faults=st.sampled_from([(), (), ("老故障",), ("新",)]),
        failed_since=st.none() | st.integers(AT, AT + 2 * HOUR).map(Instant),
        heard_at=st.none() | st.integers(AT - HOUR, AT + 3 * HOUR).map(Instant),
    ),
    max_size=8,
)
PILOTS = st.builds(
    pilot,
    st.integers(0, 2),
    enough_percent=st.integers(1, 100),
    most_failed=st.integers(0, 3),
    failed_minutes=st.integers(0, 120),
    deadline_hours=st.integers(1, 72),
)
LATER = st.integers(0, 100 * HOUR).map(lambda s: Instant(AT + s))


@given(PILOTS, EDGES, LATER)
def test_it_goes_on_only_on_receipts_and_never_with_too_many_in_trouble(
    running: RunningPilot, reports: list[EdgeReport], now: Instant
) -> None:
    made = plan_wave(running, reports, now)
    proved = [one for one in made.edges if one.standing is Standing.PROVED]
    assert all(one.edge.held >= running.version for one in proved)
    assert all(any(is_within(one.edge.region, area) for area in running.areas) for one in made.edges)
    if made.step in {Step.GO_ON, Step.FINISH}:
        assert made.meant > 0
        assert len(proved) * 100 >= made.meant * running.terms.enough_percent
        assert made.failed <= running.terms.most_failed
    if made.failed > running.terms.most_failed:
        assert made.step is Step.STOP
    if made.step is Step.WAIT:
        assert now < running.deadline
    assert (made.next_wave > running.wave) == (made.step is Step.GO_ON)
    assert made.next_wave < len(running.waves)


@given(PILOTS, EDGES, LATER)
def test_edges_elsewhere_change_nothing(running: RunningPilot, reports: list[EdgeReport], now: Instant) -> None:
    mine = [one for one in reports if wave_of(running.waves, running.wave, one.region) >= 0]
    assert plan_wave(running, reports, now) == plan_wave(running, mine, now)


@given(PILOTS, EDGES, LATER)
def test_one_more_good_edge_never_stops_it(running: RunningPilot, reports: list[EdgeReport], now: Instant) -> None:
    before = plan_wave(running, reports, now).step
    after = plan_wave(running, [*reports, edge("410122", 9, code="410122-9")], now).step
    assert before is Step.STOP or after is not Step.STOP


@given(st.lists(st.lists(st.sampled_from(COUNTIES).map(Region), min_size=1, max_size=3), min_size=1, max_size=5))
def test_waves_only_widen(waves: list[list[Region]]) -> None:
    every = [set(areas_until(waves, wave)) for wave in range(len(waves))]
    assert all(one <= two for one, two in pairwise(every))
    assert every[-1] == {area for wave in waves for area in wave}
