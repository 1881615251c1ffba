"""Several upstreams as one: order, cool-down, bans, bounded attempts. No clock runs here but the test's own."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable

import pytest

from edge.upstream.body import Traffic
from edge.upstream.client import MissingError, Upstream
from edge.upstream.sources import Patience, Sources
from manifests.errors import DigestError, RollbackError, StorageFullError, TransferError


class FakeUpstream(Upstream):
    """An address without a socket: `Sources` never uses more of an upstream than this."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.traffic = Traffic()


class World:
    """Sources over fakes, with a hand-moved monotonic clock on which sleeping moves time."""

    def __init__(self, count: int, patience: Patience | None = None, **arguments: object) -> None:
        self.now_s = 100.0
        self.slept: list[float] = []
        self.asked: list[str] = []
        self.upstreams = [FakeUpstream(f"http://s{i}") for i in range(count)]
        self.sources = Sources(
            self.upstreams,
            patience or Patience(attempts=3, cool_down_s=1.0, cool_down_most_s=8.0, ban_s=600.0, per_source=2),
            monotonic=lambda: self.now_s,
            rng=random.Random(7),
            sleep=self.sleep,
            **arguments,  # type: ignore[arg-type]
        )

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now_s += seconds

    def act(self, **faults: Exception | list[Exception | None]) -> Callable[[Upstream], Awaitable[str]]:
        """An act that fails at source `s0` with `faults["s0"]`, always or in turn, and else gives the address."""

        async def run(upstream: Upstream) -> str:
            name = upstream.url.removeprefix("http://")
            self.asked.append(name)
            fault = faults.get(name)
            if isinstance(fault, list):
                fault = fault.pop(0) if fault else None
            if fault is not None:
                raise fault
            return name

        return run


async def test_the_first_is_preferred() -> None:
    world = World(3)
    assert await world.sources.fetch("x", world.act()) == "s0"
    assert world.asked == ["s0"]


async def test_a_transfer_fault_moves_on_at_once_and_cools_down() -> None:
    world = World(2)
    assert await world.sources.fetch("x", world.act(s0=TransferError("cut"))) == "s1"
    assert await world.sources.fetch("y", world.act()) == "s1", "s0 cools down"
    assert world.slept == []
    world.now_s += 10
    assert await world.sources.fetch("z", world.act()) == "s0"


async def test_a_lone_source_is_retried_with_growing_delays_and_then_given_up() -> None:
    world = World(1)
    with pytest.raises(TransferError, match="cut"):
        await world.sources.fetch("x", world.act(s0=TransferError("cut")))
    assert world.asked == ["s0"] * 3
    assert len(world.slept) == 2
    assert 0.5 <= world.slept[0] <= 1.0
    assert 1.0 <= world.slept[1] <= 2.0


async def test_delays_are_bounded() -> None:
    world = World(1, Patience(attempts=12, cool_down_s=1.0, cool_down_most_s=8.0))
    with pytest.raises(TransferError):
        await world.sources.fetch("x", world.act(s0=TransferError("cut")))
    assert len(world.slept) == 11
    assert max(world.slept) <= 8.0


async def test_success_forgets_faults() -> None:
    world = World(1)
    await world.sources.fetch("x", world.act(s0=[TransferError("cut"), TransferError("cut"), None]))
    world.now_s += 60
    world.slept.clear()
    await world.sources.fetch("y", world.act(s0=[TransferError("cut"), None]))
    assert world.slept[0] <= 1.0, "the delay begins small again"


async def test_missing_is_no_fault_of_the_source() -> None:
    world = World(2)
    assert await world.sources.fetch("x", world.act(s0=MissingError("no"))) == "s1"
    assert await world.sources.fetch("y", world.act()) == "s0"
    with pytest.raises(MissingError):
        await world.sources.fetch("z", world.act(s0=MissingError("no"), s1=MissingError("no")))
    assert world.slept == []


async def test_wrong_content_bans_and_is_not_asked_again_for_the_same_thing() -> None:
    world = World(2)
    assert await world.sources.fetch("x", world.act(s0=DigestError("bad"))) == "s1"
    assert await world.sources.fetch("y", world.act()) == "s1"
    assert world.sources.bans() == {"http://s0": 600.0}
    world.now_s += 601
    assert world.sources.bans() == {}
    assert await world.sources.fetch("z", world.act()) == "s0"


async def test_a_banned_source_is_the_last_resort_for_other_things() -> None:
    world = World(1)
    with pytest.raises(DigestError):
        await world.sources.fetch("x", world.act(s0=DigestError("bad")))
    assert world.asked == ["s0"]
    assert await world.sources.fetch("y", world.act()) == "s0"


async def test_a_source_that_is_always_wrong_is_not_asked_any_more() -> None:
    world = World(1, Patience(most_wrong=3))
    for _ in range(3):
        with pytest.raises(DigestError):
            await world.sources.fetch("x", world.act(s0=DigestError("bad")))
    with pytest.raises(TransferError, match="no upstream is left"):
        await world.sources.fetch("x", world.act())
    assert world.asked == ["s0"] * 3


async def test_wrong_content_weighs_more_than_a_broken_line() -> None:
    world = World(2)
    with pytest.raises(DigestError):
        await world.sources.fetch("x", world.act(s0=DigestError("bad"), s1=TransferError("cut")))


async def test_a_lagging_sibling_is_not_banned() -> None:
    world = World(2)
    assert await world.sources.fetch("x", world.act(s0=RollbackError("old"))) == "s1"
    assert world.sources.bans() == {}
    with pytest.raises(RollbackError):
        await world.sources.fetch("x", world.act(s0=RollbackError("old"), s1=RollbackError("old")))


async def test_other_errors_end_the_search() -> None:
    world = World(2)
    with pytest.raises(StorageFullError):
        await world.sources.fetch("x", world.act(s0=StorageFullError("full")))
    assert world.asked == ["s0"]


async def test_bans_of_earlier_runs_go_on_but_never_longer_than_the_setting() -> None:
    world = World(2, banned={"http://s0": 50.0, "http://s1": 1e9, "http://gone": 5.0})
    assert world.sources.bans() == {"http://s0": 50.0, "http://s1": 600.0}


async def test_a_busy_source_shares_with_the_next() -> None:
    world = World(2)
    gate = asyncio.Event()
    asked: list[str] = []

    async def act(upstream: Upstream) -> None:
        asked.append(upstream.url)
        await gate.wait()

    async with asyncio.TaskGroup() as group:
        for _ in range(5):
            group.create_task(world.sources.fetch("x", act))
        while len(asked) < 5:
            await asyncio.sleep(0)
        gate.set()
    assert asked.count("http://s0") == 3
    assert asked.count("http://s1") == 2


async def test_faults_of_one_moment_count_once() -> None:
    world = World(1, Patience(attempts=2, cool_down_s=1.0, cool_down_most_s=100.0, per_source=9))
    gate = asyncio.Event()
    waiting = 0

    async def act(_: Upstream) -> None:
        nonlocal waiting
        waiting += 1
        await gate.wait()
        raise TransferError("cut")

    tasks = [asyncio.create_task(world.sources.fetch("x", act, attempts=1)) for _ in range(6)]
    while waiting < 6:
        await asyncio.sleep(0)
    gate.set()
    await asyncio.gather(*tasks, return_exceptions=True)
    with pytest.raises(TransferError):
        await world.sources.fetch("x", world.act(s0=TransferError("cut")), attempts=1)
    assert world.slept[0] <= 1.0, "six broken requests are one broken line"


async def test_cancellation_gives_the_place_back() -> None:
    world = World(1, Patience(per_source=1))

    async def act(_: Upstream) -> None:
        await asyncio.Event().wait()

    task = asyncio.create_task(world.sources.fetch("x", act))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert [standing.active for standing in world.sources._all] == [0]
