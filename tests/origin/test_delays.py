"""Promise and proof: whose turn it is, what a publish delays, what is kept with a release, promise against fact."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import NamedTuple
from zoneinfo import ZoneInfo

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import select
from support.origins import found_origin
from support.receipts import COUNTY, article, make_edge, open_edge, origin_at, sync

from manifests.errors import NotFoundError
from manifests.instants import Instant, parse_instant
from manifests.line import Line
from manifests.names import Region
from manifests.reports import State
from origin.app import Origin
from origin.database.engine import reading
from origin.database.tables_boards import promises
from origin.publish import pledges
from origin.publish.delays import plan_delays
from origin.publish.pending import pending_of
from origin.publish.pledges import foretell, pledge_of, together
from origin.publish.promise import Cause, Offer, plan_promise
from origin.publish.turns import queue_up
from origin.stations.coverage import coverage_of
from origin.stations.states import latest_states
from origin.web.api.proof import make_proof

EVENING = parse_instant("2026-11-24T12:00:00Z")  # Tuesday, 20:00 in Shanghai
GIB = 1 << 30
PROVINCE = (Region("410000"),)
# 1 GiB an hour: 8 GiB in a night.
LINE = Line(default_rate=GIB // 3600 + 1)
GOLDEN = Path(__file__).parent / "golden_delays.json"


class EdgeState(NamedTuple):
    """An edge as the database tells of it."""

    code: str
    name: str
    region: str
    state: State | None
    at: Instant | None


def edge(code: str, waiting: int = 0, **told: object) -> EdgeState:
    state = State(code[:6], 1, LINE, 100 * GIB, waiting, **told)  # type: ignore[arg-type]
    return EdgeState(code, f"县{code}", code[:6], state, EVENING)


def offer(id_: str, gib: float, **more: object) -> Offer:
    return Offer(int(gib * GIB), PROVINCE, id=id_, title=f"课件{id_}", **more)  # type: ignore[arg-type]


def test_an_edge_fetches_what_expires_soon_then_by_priority_then_the_small() -> None:
    every = [
        offer("big", 2),
        offer("small", 1),
        offer("urgent", 3, priority=9),
        offer("last-chance", 4, priority=0, expires=Instant(EVENING + 86400)),
        offer("later", 1, expires=Instant(EVENING + 30 * 86400)),
    ]
    queue = queue_up(11 * GIB + 5, every, [offer("", 1)], EVENING)
    assert [one.id for one in queue.offers] == ["last-chance", "urgent", "later", "small", "", "big"]
    assert queue.first_bytes == 5, "what the edge waits for beside what is known goes first"
    assert queue_up(0, every, [], EVENING).first_bytes == 0


def test_golden_delays() -> None:
    """What is told to officials; to change it on purpose, delete the file and run once."""
    states = [edge("410122-1", 7 * GIB), edge("410123-1", 7 * GIB), edge("410123-2", 7 * GIB), edge("410202-1", GIB)]
    waits = [offer("wheat", 3), offer("maize", 4)]
    pending = {"410122-1": waits, "410123-1": waits, "410123-2": waits, "410202-1": [offer("rice", 1)]}
    new = Offer(2 * GIB, PROVINCE, title="新课", priority=8)
    made = plan_promise(states, [new], EVENING, "06:00", lambda _: ZoneInfo("Asia/Shanghai"), pending)
    text = msgspec.json.format(msgspec.json.encode(made), indent=2).decode() + "\n"
    if not GOLDEN.exists():
        GOLDEN.write_text(text, "utf-8")
    assert text == GOLDEN.read_text("utf-8")
    assert [(one.id, one.counties, len(one.edges)) for one in made.delays] == [("maize", 2, 3)]
    assert made.summary.endswith("; delays 课件maize in 2 counties")
    assert made.summary_zh.endswith("；将推迟《课件maize》在 2 个县")
    assert (made.in_time, made.counties, made.counties_in_time) == (4, 3, 3)
    late = plan_promise(states, [msgspec.structs.replace(new) if False else new], EVENING, "06:00", _shanghai)
    assert late.in_time == 1, "without knowing what waits, all of it goes first"


def _shanghai(_: str) -> ZoneInfo:
    return ZoneInfo("Asia/Shanghai")


lessons = st.builds(
    lambda number, gib, priority, soon: offer(
        f"l{number}", gib, priority=priority, expires=Instant(EVENING + 86400) if soon else None
    ),
    st.integers(0, 999),
    st.floats(0.1, 6),
    st.integers(0, 9),
    st.booleans(),
)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(lessons, max_size=6, unique_by=lambda one: one.id),
    lessons,
    st.integers(0, 10),
    st.floats(0, 3),
)
def test_only_what_was_in_time_is_delayed_and_only_behind_the_new_one(
    waits: list[Offer], new: Offer, more_gib: int, unknown: float
) -> None:
    waiting = sum(one.bytes for one in waits) + int(unknown * GIB)
    states = [edge("410122-1", waiting)]

    def delays(size: int, pending: list[Offer]) -> set[str]:
        added = Offer(size, PROVINCE, title="新", priority=new.priority, expires=new.expires)
        found = plan_delays(states, {"410122-1": pending}, [added], EVENING, 360, _shanghai)
        return {one.id for one in found}

    pushed = delays(new.bytes, waits)
    assert pushed <= {one.id for one in waits}
    added = Offer(new.bytes, PROVINCE, priority=new.priority, expires=new.expires)
    queue = [one.id for one in queue_up(waiting, waits, [added], EVENING).offers]
    assert all(queue.index(id_) > queue.index("") for id_ in pushed)
    # What nobody is to fetch delays nobody; more of it never delays fewer of those behind it.
    assert delays(0, waits) == set()
    assert not plan_delays(states, {}, [added], EVENING, 360, _shanghai)
    ahead = Offer(new.bytes + more_gib * GIB, PROVINCE, priority=new.priority, expires=new.expires)
    grown = [one.id for one in queue_up(waiting, waits, [ahead], EVENING).offers]
    still = {id_ for id_ in pushed if grown.index(id_) > grown.index("")}
    assert still <= delays(ahead.bytes, waits)


def test_only_edges_that_take_it_are_delayed() -> None:
    states = [edge("410122-1", 8 * GIB), edge("420111-1", 8 * GIB), edge("410123-1", 8 * GIB, columns=("zl-a",))]
    pending = {one.code: [offer("wheat", 8)] for one in states}
    new = Offer(GIB, PROVINCE, frozenset({"zl-b"}), priority=9)
    (found,) = plan_delays(states, pending, [new], EVENING, 360, _shanghai)
    assert found.edges == ("县410122-1",)


def test_lessons_for_the_same_edges_are_promised_together() -> None:
    many = together([offer("a", 1), offer("b", 2), offer("c", 1, priority=1)])
    assert sorted((one.id, one.bytes // GIB) for one in many) == [("", 3), ("c", 1)]


@pytest.fixture
async def origin(tmp_path: Path) -> AsyncIterator[tuple[Origin, str]]:
    async with origin_at(await asyncio.to_thread(found_origin, tmp_path / "origin")) as opened:
        yield opened


async def test_a_release_keeps_its_promise_and_is_held_to_it(origin: tuple[Origin, str], tmp_path: Path) -> None:
    opened, url = origin
    root = tmp_path / "edge"
    await make_edge(opened, url, root)
    await article(opened, tmp_path, "first")
    await sync(root)
    await article(opened, tmp_path, "wheat")
    pledge = await pledge_of(opened.engine, 3)
    assert pledge is not None
    assert (pledge.promise.edges, pledge.promise.counties) == (1, 1)
    assert [one.code for one in (*pledge.promise.promises, *pledge.promise.tail)] == [f"{COUNTY}-1"]
    states = await latest_states(opened.engine)
    now = opened.clock()
    assert [one.id for one in (await pending_of(opened.engine, states, now))[f"{COUNTY}-1"]] == ["wheat"]
    assert (await pending_of(opened.engine, states, now, ["wheat"]))[f"{COUNTY}-1"] == ()
    told = await coverage_of(opened.engine, "wheat", None, Region("410000"))
    proof = make_proof(told, 1, now, pledge, Region("410000"), now)
    assert [(one.verdict, bool(one.promised)) for one in proof.edges] == [("waiting", True)]
    assert (proof.meant, proof.proved, proof.by_due, proof.curve[0].proved) == (1, 0, None, 0)
    await sync(root)
    told = await coverage_of(opened.engine, "wheat", None, Region("410000"))
    later = Instant(parse_instant(pledge.promise.due) + 3600)
    proof = make_proof(told, 1, now, pledge, Region("410000"), later)
    assert [(one.verdict, one.edge) for one in proof.edges] == [("kept", f"{COUNTY}-1")]
    assert (proof.proved, proof.by_due, proof.curve[-1].proved, proof.curve[-1].promised) == (1, 1, 1, 1)
    assert make_proof(told, 1, now, pledge, Region("410200"), later).pledge.edges == 0  # type: ignore[union-attr]
    assert make_proof(told, 1, now, None, Region("410000"), later).edges[0].verdict == "unpromised"
    assert await pledge_of(opened.engine, 99) is None
    with pytest.raises(NotFoundError):
        await coverage_of(opened.engine, "none", None, Region("410000"))


async def test_verdicts_of_those_that_are_late_or_lacking(origin: tuple[Origin, str], tmp_path: Path) -> None:
    opened, url = origin
    root = tmp_path / "edge"
    await make_edge(opened, url, root)
    await sync(root)
    await article(opened, tmp_path, "wheat")
    pledge = await pledge_of(opened.engine, 2)
    assert pledge is not None
    assert pledge.promise.promises
    told = await coverage_of(opened.engine, "wheat")
    much = Instant(opened.clock() + 9 * 86400)
    proof = make_proof(told, 1, opened.clock(), pledge, Region("410000"), much)
    assert [(one.verdict, one.proved) for one in proof.edges] == [("broken", None)]
    assert proof.by_due == 0
    early = Instant(1)
    due = msgspec.structs.replace(pledge.promise, due="1970-01-01T00:00:02Z")
    due = msgspec.structs.replace(
        due, promises=tuple(msgspec.structs.replace(one, expected="1970-01-01T00:00:01Z") for one in due.promises)
    )
    await sync(root)
    told = await coverage_of(opened.engine, "wheat")
    proof = make_proof(told, 1, early, pledge._replace(promise=due), Region("410000"), much)
    assert [one.verdict for one in proof.edges] == ["late"]


async def test_a_recall_is_proved_with_its_slowest(origin: tuple[Origin, str], tmp_path: Path) -> None:
    opened, url = origin
    root = tmp_path / "edge"
    await make_edge(opened, url, root)
    await article(opened, tmp_path, "wheat")
    await sync(root)
    await opened.releases.recall("wheat", "有误")
    now = opened.clock()
    told = await coverage_of(opened.engine, "wheat")
    before = make_proof(told, 1, now, None, Region("410000"), now).recall
    assert before is not None
    assert (before.meant, before.proved, [one.edge for one in before.tail]) == (1, 0, [f"{COUNTY}-1"])
    await sync(root)
    after = make_proof(await coverage_of(opened.engine, "wheat"), 1, now, None, Region("410000"), now).recall
    assert after is not None
    assert (after.proved, [one.edge for one in after.slowest], after.tail) == (1, [f"{COUNTY}-1"], ())
    async with open_edge(root) as closed:
        assert closed.library.versions() == {}


async def test_a_promise_that_cannot_be_kept_spoils_no_release(
    origin: tuple[Origin, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened, _ = origin

    async def fails(*_: object) -> None:
        raise RuntimeError("no")

    monkeypatch.setattr(pledges, "_write", fails)
    await article(opened, tmp_path, "wheat")
    async with reading(opened.engine) as connection:
        assert (await connection.execute(select(promises))).all() == []
    assert (await opened.releases.current("wheat")) is not None  # type: ignore[arg-type]


async def test_foretelling_names_what_it_delays(origin: tuple[Origin, str], tmp_path: Path) -> None:
    opened, url = origin
    await make_edge(opened, url, tmp_path / "edge")
    await sync(tmp_path / "edge")
    await article(opened, tmp_path, "wheat")
    new = Offer(1 << 44, PROVINCE, priority=9)
    made = await foretell(opened.engine, [new], opened.clock(), "06:00")
    assert [one.cause for one in made.tail] in ([Cause.NO_ROOM], [Cause.NOT_IN_SIGHT])
    assert [one.id for one in made.delays] == ["wheat"]
    assert not (await foretell(opened.engine, [new], opened.clock(), "06:00", ["wheat"])).delays
