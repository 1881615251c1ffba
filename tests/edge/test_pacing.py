"""Pacing: never above rate × time + burst, within 3 % of the cap, large portions live, and over a real socket."""

from __future__ import annotations

import asyncio
import math
import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.province import Content, Site
from support.servers import sending_zeros

from edge.reasons import UpstreamReason, because
from edge.upstream.body import Body
from edge.upstream.client import Upstream, open_upstreams
from edge.upstream.gate import Gate
from edge.upstream.pacing import BURST_S, LEAST_PORTION_BYTES, MOST_PORTION_BYTES, Bucket
from edge.upstream.progress import Limits

DATA = random.Random(9).randbytes(600_000)


class Hand:
    """A monotonic clock that stands until it is moved."""

    def __init__(self) -> None:
        self.s = 100.0

    def __call__(self) -> float:
        return self.s


def move(bucket: Bucket, clock: Hand, portion: int, until_s: float) -> list[tuple[float, int]]:
    """One greedy reader: when each portion was passed on, and how many bytes were by then."""
    passed: list[tuple[float, int]] = []
    total = 0
    while True:
        bucket.charge(portion, clock.s)
        clock.s += bucket.wait_s(clock.s)
        if clock.s > until_s:
            return passed
        total += portion
        passed.append((clock.s, total))


@settings(deadline=None)
@given(st.integers(1_000, 20_000_000), st.integers(1, 4_000_000), st.floats(0, 10))
def test_never_above_rate_times_time_plus_burst(rate: int, portion: int, idle_s: float) -> None:
    clock = Hand()
    bucket = Bucket(clock.s, rate)
    clock.s += idle_s
    began_s = clock.s
    portion = max(portion, rate // 1000)  # bounds the number of steps
    for at_s, total in move(bucket, clock, portion, began_s + 2):
        assert total <= rate * (at_s - began_s) + rate * BURST_S + 1


@settings(deadline=None)
@given(st.integers(1, MOST_PORTION_BYTES))
def test_within_three_percent_of_eight_megabits_over_thirty_seconds(portion: int) -> None:
    rate = 1_000_000
    clock = Hand()
    bucket = Bucket(clock.s, rate)
    portion = max(portion, 500)
    passed = move(bucket, clock, portion, clock.s + 30)
    assert 0.97 * rate * 30 <= passed[-1][1] <= 1.03 * rate * 30


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 5_000_000), st.floats(0.01, 3)), min_size=1, max_size=20))
def test_the_rate_may_change_at_any_time(changes: list[tuple[int, float]]) -> None:
    clock = Hand()
    bucket = Bucket(clock.s, 0)
    allowed, passed = 0.0, 0
    for rate, span_s in changes:
        bucket.set_rate(rate, clock.s)
        end_s = clock.s + span_s
        while clock.s < end_s:
            wait_s = bucket.wait_s(clock.s)
            if wait_s > 0:
                clock.s = min(end_s, clock.s + wait_s)
                continue
            portion = max(bucket.portion_bytes, 1)
            bucket.charge(portion, clock.s)
            passed += portion
        allowed += rate * span_s
        most = max(rate for rate, _ in changes)
        # What was charged last may still be in debt: one portion.
        assert passed <= allowed + most * BURST_S + MOST_PORTION_BYTES + 1


def test_paused_unlimited_and_portions() -> None:
    bucket = Bucket(0.0)
    bucket.charge(10**9, 0.0)
    assert (bucket.wait_s(0.0), bucket.portion_bytes) == (0.0, MOST_PORTION_BYTES)
    bucket.set_rate(0, 1.0)
    assert bucket.wait_s(5.0) == math.inf, "nothing saved up passes while paused"
    assert bucket.portion_bytes == LEAST_PORTION_BYTES
    bucket.set_rate(100_000, 5.0)
    assert bucket.portion_bytes == 10_000
    bucket.charge(5_000_000, 5.0)
    assert bucket.wait_s(5.0) == pytest.approx(50.0), "larger than the bucket: it waits, and lives"
    bucket.set_rate(1_000_000, 5.0)
    assert bucket.wait_s(5.0) == pytest.approx(5.0)
    bucket.set_rate(None, 5.0)
    assert bucket.wait_s(5.0) == 0


async def test_over_a_socket_at_the_rate_and_a_pause_is_no_stall() -> None:
    limits = Limits(connect_s=1, answer_s=0.5, window_s=0.3, floor_bytes=1024, total_s=5)
    async with (
        Site(Content({}, {"aa": DATA})).running() as site,
        open_upstreams((site.url,), limits) as (upstream,),
    ):
        loop = asyncio.get_running_loop()
        gate = Gate()
        gate.set_rate(500_000)
        bodies = [Body(0, len(DATA) // 2, len(DATA)), Body(len(DATA) // 2, len(DATA), len(DATA))]
        began_s = loop.time()
        async with asyncio.TaskGroup() as group:
            for body in bodies:
                group.create_task(upstream.fill("/blobs/aa", body, gate=gate))
            while not all(body.filled for body in bodies):
                await asyncio.sleep(0.01)
            gate.set_rate(0)
            before = upstream.traffic.bytes_received
            await asyncio.sleep(1)  # three windows of the progress floor, and two read timeouts
            assert upstream.traffic.bytes_received - before <= 2 * gate.portion_bytes + 2 * MOST_PORTION_BYTES
            assert upstream.traffic.bytes_received < len(DATA)
            gate.set_rate(500_000)
        took_s = loop.time() - began_s
        assert bytes(bodies[0].buffer + bodies[1].buffer) == DATA
        assert took_s >= 1 + len(DATA) / 500_000 - BURST_S
        assert upstream.traffic.requests == 2, "neither was cut off and begun anew"


async def test_who_waits_goes_on_when_the_limit_is_lifted_or_ends_when_cancelled() -> None:
    async with (
        Site(Content({}, {"aa": DATA})).running() as site,
        open_upstreams((site.url,), Limits()) as (upstream,),
    ):
        gate = Gate()
        gate.set_rate(0)
        filling = asyncio.create_task(upstream.get_range("/blobs/aa", 0, len(DATA), len(DATA)))
        assert await filling == DATA, "what is no bulk passes no gate"
        body = Body(0, len(DATA), len(DATA))
        task = asyncio.create_task(upstream.fill("/blobs/aa", body, gate=gate))
        await _until_some(upstream, len(DATA))
        task.cancel()
        await asyncio.wait({task})
        assert task.cancelled()
        task = asyncio.create_task(upstream.fill("/blobs/aa", body := Body(0, len(DATA), len(DATA)), gate=gate))
        await _until_some(upstream, upstream.traffic.bytes_received)
        gate.set_rate(None)
        await asyncio.wait_for(task, 60)
        assert bytes(body.buffer) == DATA


async def _until_some(upstream: Upstream, before: int) -> None:
    async with asyncio.timeout(60):
        while upstream.traffic.bytes_received <= before:
            await asyncio.sleep(0.01)


async def test_bytes_are_counted_under_the_reason_of_the_task_that_asked() -> None:
    told: list[tuple[UpstreamReason, int]] = []
    async with (
        Site(Content({"x.json": b"{}"}, {"aa": DATA})).running() as site,
        open_upstreams((site.url,), Limits(), count=lambda *one: told.append(one)) as (upstream,),
    ):
        with because(UpstreamReason.DAMAGED):
            async with asyncio.TaskGroup() as group:
                group.create_task(upstream.get_range("/blobs/aa", 0, 1000, len(DATA)))
            with because(UpstreamReason.NEW_VERSION):
                await upstream.get_range("/blobs/aa", 0, 10, len(DATA))
        await upstream.get_bytes("/metadata/x.json", 100)
        expected = {UpstreamReason.DAMAGED: 1000, UpstreamReason.NEW_VERSION: 10, UpstreamReason.PLANNED: 2}
        assert upstream.traffic.by_reason == expected
        assert sum(count for _, count in told) == upstream.traffic.bytes_received == 1012


async def test_a_held_back_body_does_not_fill_the_kernels_buffers_instead() -> None:
    data = bytes(20_000_000)
    async with (
        Site(Content({}, {"aa": data})).running() as site,
        open_upstreams((site.url,), Limits()) as (upstream,),
    ):
        gate = Gate()
        gate.set_rate(400_000)
        body = Body(0, len(data), len(data))
        task = asyncio.create_task(upstream.fill("/blobs/aa", body, gate=gate))
        await _until_some(upstream, 400_000)
        port = int(site.url.rpartition(":")[2])
        waiting = _unread(port)
        assert waiting, "the connection is there"
        assert sum(waiting) <= 256 * 1024
        gate.set_rate(None)
        await asyncio.wait_for(task, 60)
        assert body.filled == len(data)


async def test_a_connection_that_was_made_small_serves_the_next_request_too() -> None:
    """One whose window had to be changed afterwards would be closed behind its first answer."""
    size, made = 200_000, list[asyncio.StreamWriter]()  # more than the window, so that it is looked at on the way
    async with sending_zeros(size, made) as place, open_upstreams((f"http://{place}",), Limits()) as (upstream,):
        gate = Gate()
        gate.set_rate(1_000_000)
        for _ in range(3):
            await upstream.fill("/blobs/aa", Body(0, size, size), gate=gate)
    assert len(made) == 1


async def test_what_is_held_back_meets_a_small_window_from_its_first_byte_on() -> None:
    """Not only once its head has come: by then megabytes may be under way, for each of several connections."""
    size, senders = 8_000_000, list[asyncio.StreamWriter]()
    async with (
        sending_zeros(size, senders, 16 * 1024) as place,
        open_upstreams((f"http://{place}",), Limits()) as (upstream,),
    ):
        gate = Gate()
        await upstream.fill("/blobs/aa", Body(0, size, size), gate=gate)
        gate.set_rate(0)
        body = Body(0, size, size)
        task = asyncio.create_task(upstream.fill("/blobs/aa", body, gate=gate))
        await _until_some(upstream, size)
        left, before = size, 0
        while left != before:  # until the sender stands still: nobody takes more from it
            before = left
            await asyncio.sleep(0.2)
            left = senders[-1].transport.get_write_buffer_size()
        assert size - left <= 176 * 1024, "the kernel's 32 KiB, as much in the reader twice, the sender's own buffer"
        gate.set_rate(None)
        await asyncio.wait_for(task, 60)
        await upstream.fill("/blobs/aa", Body(0, size, size), gate=gate)
        assert len(senders) == 2, "who is held back by nobody gets no connection that was"


def _unread(port: int) -> list[int]:
    """Bytes that the kernel holds for connections of this machine to a port."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return [int(row[4].partition(":")[2], 16) for row in rows if row[2].endswith(f":{port:04X}")]
