"""The window of requests in flight, on a manual clock."""

from __future__ import annotations

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from edge.sync.inflight import InFlight
from edge.sync.slots import Slots

RATE = 1_000_000


def _drive(window: InFlight, seconds: int, per_request: float, line: float, now_s: float = 0.0) -> float:
    """A line on which each request brings `per_request`, all together at most `line` bytes per second."""
    received = 0.0
    for _ in range(seconds * 10):
        window.observe(now_s, int(received), window.size)
        received += min(window.size * per_request, line) / 10
        now_s += 0.1
    return now_s


def test_climbs_while_more_requests_bring_more() -> None:
    window = InFlight(64)
    assert window.size == 4
    _drive(window, 12, RATE, 40 * RATE)
    assert 32 <= window.size <= 64


def test_stays_low_where_more_bring_nothing_and_tries_again_seldom() -> None:
    window = InFlight(64)
    now_s = _drive(window, 200, RATE, 2 * RATE)
    assert window.size <= 5
    _drive(window, 200, RATE, 40 * RATE, now_s)  # the line got better
    assert window.size > 5


def test_shrinks_at_once_for_a_fault_and_once_for_those_that_fall_together() -> None:
    window = InFlight(16)
    now_s = _drive(window, 10, RATE, 100 * RATE)
    assert window.size == 16
    for _ in range(5):
        window.hurt(now_s)
    assert window.size == 8
    now_s = _drive(window, 5, RATE, 100 * RATE, now_s)
    assert window.size == 16


def test_too_little_to_ask_for_says_nothing_of_the_line() -> None:
    window = InFlight(16)
    for second in range(30):
        window.observe(float(second), second * second * RATE, 1)
    assert window.size == 4


@given(
    st.integers(1, 64),
    st.lists(st.tuples(st.floats(0, 5), st.integers(0, 10**8), st.integers(0, 64), st.booleans()), max_size=200),
)
def test_never_out_of_bounds(most: int, steps: list[tuple[float, int, int, bool]]) -> None:
    window, now_s, received = InFlight(most), 0.0, 0
    for wait_s, more, active, is_hurt in steps:
        now_s, received = now_s + wait_s, received + more
        if is_hurt:
            window.hurt(now_s)
        window.observe(now_s, received, active)
        assert 1 <= window.size <= most


async def _queue(slots: Slots, count: int) -> list[asyncio.Task[None]]:
    tasks = [asyncio.create_task(slots.acquire()) for _ in range(count)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    return tasks


async def test_places_follow_the_window_and_are_given_in_turn() -> None:
    window = InFlight(8)
    slots = Slots(window, lambda: 0)
    tasks = await _queue(slots, 7)
    assert [task.done() for task in tasks] == [True] * 4 + [False] * 3
    slots.release()
    await asyncio.wait(tasks[4:5], timeout=60)
    assert [task.done() for task in tasks[4:]] == [True, False, False]
    window.size = 2  # four are out: two must come back before the next goes
    slots.release()
    slots.release()
    await asyncio.sleep(0)
    assert not tasks[5].done()
    slots.release()
    await asyncio.wait(tasks[5:6], timeout=60)
    assert [task.done() for task in tasks[5:]] == [True, False]
    tasks[6].cancel()
    await asyncio.wait(tasks[6:])


async def test_a_cancelled_waiter_gives_its_place_to_the_next() -> None:
    slots = Slots(InFlight(1), lambda: 0)
    first, second, third = await _queue(slots, 3)
    assert first.done()
    slots.release()  # the place is the second's now, and it is cancelled before it could run
    second.cancel()
    await asyncio.wait([second, third], timeout=60)
    assert second.cancelled()
    assert third.done()
    await asyncio.wait([first])
