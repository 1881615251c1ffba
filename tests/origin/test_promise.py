"""The province's promise: who holds it in time, the tail by name with the reason, and that more is never sooner."""

from __future__ import annotations

from datetime import tzinfo
from pathlib import Path
from typing import NamedTuple
from zoneinfo import ZoneInfo

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.media import make_pdf
from support.origins import found_origin
from support.program import run, succeed

from manifests.errors import InputError
from manifests.instants import Instant, parse_instant
from manifests.line import Line
from manifests.names import Region
from manifests.reports import State
from origin.publish.promise import SILENT_S, Cause, Offer, parse_by, plan_promise
from origin.publish.zones import zone_named

EVENING = parse_instant("2026-11-24T12:00:00Z")  # Tuesday, 20:00 in Shanghai
GIB = 1 << 30
ALL = (Region("410000"),)
# 1 GiB an hour: 8 GiB in a night.
LINE = Line(default_rate=GIB // 3600 + 1)
GOLDEN = Path(__file__).parent / "golden_promise.json"


class EdgeState(NamedTuple):
    """An edge as the database tells of it."""

    code: str
    name: str
    region: str
    state: State | None
    at: Instant | None


def zone_of(name: str) -> tzinfo:
    return ZoneInfo(name)


def edge(
    code: str, *, heard: int | None = EVENING - 600, region: str = "", line: Line = LINE, **told: object
) -> EdgeState:
    state = State(**{"region": region or code[:6], "catalog_version": 1, "line": line, "room_bytes": 100 * GIB, **told})
    return EdgeState(code, f"县{code}", region or code[:6], state if heard else None, Instant(heard) if heard else None)


def ask(*states: EdgeState, size: int = 3 * GIB, by: str = "06:00", **offer: object) -> dict[str, Cause | None]:
    made = plan_promise(states, [Offer(**{"bytes": size, "audience": ALL, **offer})], EVENING, by, zone_of)
    assert made.edges == len(made.promises) + len(made.tail)
    assert made.in_time == len(made.promises)
    return {one.code: one.cause for one in (*made.promises, *made.tail)}


def test_golden_promise() -> None:
    """What is told to officials; to change it on purpose, delete the file and run once."""
    states = [
        edge("410122-1"),
        edge("410123-1", waiting_bytes=6 * GIB),
        edge("410124-1", heard=None),
        edge("410125-1", heard=EVENING - SILENT_S - 1),
        edge("410126-1", room_bytes=2 * GIB),
        edge("410127-1", columns=("zl-other",)),
        edge("410128-1", line=Line(default_rate=1)),
        edge("410129-1", line=Line(window="00:00-24:00", default_rate=10 * LINE.default_rate)),
        edge("420111-1"),
    ]
    made = plan_promise(states, [Offer(3 * GIB, ALL, frozenset({"zl-one"}))], EVENING, "06:00", zone_of)
    text = msgspec.json.format(msgspec.json.encode(made), indent=2).decode() + "\n"
    if not GOLDEN.exists():
        GOLDEN.write_text(text, "utf-8")
    assert text == GOLDEN.read_text("utf-8")
    assert [one.code for one in made.promises] == ["410129-1", "410122-1"], "soonest first"
    assert {one.code: one.cause for one in made.tail} == {
        "410123-1": Cause.LATE,
        "410124-1": Cause.NEVER_REPORTED,
        "410125-1": Cause.SILENT,
        "410126-1": Cause.NO_ROOM,
        "410127-1": Cause.NOT_SUBSCRIBED,
        "410128-1": Cause.NOT_IN_SIGHT,
    }
    assert made.summary.startswith(
        "2 of 8 edges hold it by 06:00; tail: 县410123-1 (window too thin: Wednesday 23:00, after 6.0 GiB of its own)"
    )


def test_only_edges_that_are_meant_count() -> None:
    states = [edge("410122-1"), edge("410183-1"), edge("410202-1")]
    assert ask(*states, audience=(Region("410100"),)).keys() == {"410122-1", "410183-1"}
    assert ask(*states, audience=(Region("410202"),)).keys() == {"410202-1"}
    assert ask(audience=ALL) == {}


def test_subscriptions() -> None:
    assert ask(edge("410122-1", columns=("zl-a", "zl-b")), columns=frozenset({"zl-b"})) == {"410122-1": None}
    assert ask(edge("410122-1", columns=("zl-a",))) == {"410122-1": Cause.NOT_SUBSCRIBED}
    assert ask(edge("410122-1"), columns=frozenset({"zl-b"})) == {"410122-1": None}


def test_its_own_backlog_takes_line_and_disk_first() -> None:
    assert ask(edge("410122-1", waiting_bytes=5 * GIB)) == {"410122-1": None}
    assert ask(edge("410122-1", waiting_bytes=5 * GIB + (1 << 20))) == {"410122-1": Cause.LATE}
    assert ask(edge("410122-1", waiting_bytes=GIB, room_bytes=4 * GIB - 1)) == {"410122-1": Cause.NO_ROOM}
    assert ask(edge("410122-1", waiting_bytes=GIB, room_bytes=4 * GIB)) == {"410122-1": None}


def test_by_is_the_next_such_hour_of_the_countys_own_day() -> None:
    night = edge("410122-1")
    assert ask(night, by="01:00") == {"410122-1": None}
    assert ask(night, by="00:59") == {"410122-1": Cause.LATE}
    assert ask(night, by="21:00") == {"410122-1": Cause.LATE}
    assert ask(night, by="19:59") == {"410122-1": None}, "tomorrow's"
    west = edge("410122-1", line=msgspec.structs.replace(LINE, zone="Asia/Urumqi"))
    assert ask(west, by="01:00") == {"410122-1": None}
    made = plan_promise([west], [Offer(GIB, ALL)], EVENING, "06:00", zone_of)
    assert made.promises[0].expected == "2026-11-24T17:00:00Z", "22:00 there is 16:00 UTC"


@pytest.mark.parametrize("text", ["", "6:00", "24:00", "06:60", "06:00 ", "０6:00"])
def test_what_is_no_time_of_day_is_refused(text: str) -> None:
    with pytest.raises(InputError):
        parse_by(text)


def test_a_zone_that_is_none_here_is_taken_for_the_provinces() -> None:
    for name in ("Mars/Olympus", "../../etc/passwd", "", "a" * 64):
        assert zone_named(name) == ZoneInfo("Asia/Shanghai")
    assert zone_named("Asia/Urumqi") == ZoneInfo("Asia/Urumqi")


fleets = st.lists(
    st.builds(
        lambda code, room, waiting, rate, window: edge(
            f"{410100 + code}-1",
            room_bytes=room,
            waiting_bytes=waiting,
            line=Line(default_rate=rate, window=window),
        ),
        st.integers(1, 80),
        st.integers(0, 1 << 36),
        st.integers(0, 1 << 34),
        st.sampled_from([1, 50_000, 5_000_000]),
        st.sampled_from(["22:00-06:00", "00:00-24:00", "01:00-02:00"]),
    ),
    max_size=6,
    unique_by=lambda one: one.code,
)


@settings(max_examples=50)
@given(fleets, st.integers(0, 1 << 35), st.integers(1, 1 << 34))
def test_more_bytes_are_never_sooner_and_nobody_is_lost(fleet: list[EdgeState], size: int, more: int) -> None:
    def moments(count: int, states: list[EdgeState]) -> dict[str, str]:
        made = plan_promise(states, [Offer(count, ALL)], EVENING, "06:00", zone_of)
        assert made.edges == len(states)
        assert all(bool(one.reason) and bool(one.reason_zh) for one in made.tail)
        assert all(one.expected for one in made.promises)
        return {one.code: one.expected or "9999" for one in (*made.promises, *made.tail)}

    before = moments(size, fleet)
    assert before.keys() == {one.code for one in fleet}
    after = moments(size + more, fleet)
    assert all(before[code] <= after[code] for code in before)
    behind = [EdgeState(one.code, one.name, one.region, _busier(one.state, more), one.at) for one in fleet]
    assert all(before[code] <= at for code, at in moments(size, behind).items())


def _busier(state: State | None, more: int) -> State:
    assert state is not None
    return msgspec.structs.replace(state, waiting_bytes=state.waiting_bytes + more)


def test_the_command_asks_for_files_as_they_would_be_published(tmp_path: Path) -> None:
    root = found_origin(tmp_path / "origin")
    for county in ("410122", "410183"):
        succeed("origin", "enroll", root, county, "--upstream", "http://10.1.2.3:8080", "--out", tmp_path / county)
    pdf = make_pdf(tmp_path / "明白纸.pdf")
    told = succeed("promise", pdf, "--origin", root, "--column", "农业技术")
    assert (told["edges"], told["in_time"], told["bytes"]) == (2, 0, pdf.stat().st_size)
    assert [(one["name"], one["cause"]) for one in told["tail"]] == [
        ("中牟县", "never-reported"),
        ("新密市", "never-reported"),
    ]
    done = run("promise", pdf, "--origin", root, "--audience", "410122", "--by", "07:30")
    assert done.code == 0
    assert done.out.splitlines()[-1].endswith("1 台边缘服务器中 0 台将在 07:30 前具备；其余：中牟县（从未上报）")
    assert run("promise", pdf, "--origin", root, "--by", "25:00").code == 2
    assert run("promise", tmp_path / "none.pdf", "--origin", root).code == 2
    assert not [path for path in (root / "blobs").rglob("*") if path.name == "明白纸.pdf"]
