"""One upstream over real sockets: exact bytes or a clear error, within a deadline."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from support.province import Content, Site
from support.relay import Fault, Liar, Relay, raw

from edge.upstream.body import Body
from edge.upstream.client import MissingError, Upstream, open_upstreams
from edge.upstream.progress import Limits, Pace
from manifests.errors import StalledError, TransferError

DATA = random.Random(5).randbytes(300_000)
LIMITS = Limits(connect_s=1, answer_s=0.5, window_s=0.3, floor_bytes=1024, total_s=5)


@asynccontextmanager
async def client(url: str, limits: Limits = LIMITS) -> AsyncIterator[Upstream]:
    async with open_upstreams((url,), limits) as (upstream,):
        yield upstream


@asynccontextmanager
async def lying(answer: bytes) -> AsyncIterator[Upstream]:
    async with Liar(lambda _path, _range: answer).running() as liar, client(liar.url) as upstream:
        yield upstream


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    async with Site(Content({"x.json": b"{}"}, {"aa": DATA})).running() as running:
        yield running


async def test_whole_and_ranges(site: Site) -> None:
    async with client(site.url) as upstream:
        assert await upstream.get_bytes("/metadata/x.json", 100) == b"{}"
        assert await upstream.get_bytes("/blobs/aa", len(DATA), len(DATA)) == DATA
        assert await upstream.get_range("/blobs/aa", 1000, 200_001, len(DATA)) == DATA[1000:200_001]
        assert await upstream.get_range("/blobs/aa", 0, len(DATA), len(DATA)) == DATA
        assert upstream.traffic.requests == 4
        assert upstream.traffic.bytes_received == 2 + len(DATA) + 199_001 + len(DATA)
    assert site.requests[2][1] == "bytes=1000-200000"
    assert site.requests[3][1] == "", "a range that is the whole needs no Range"


async def test_a_partly_filled_body_asks_only_for_its_rest(site: Site) -> None:
    async with client(site.url) as upstream:
        body = Body(0, len(DATA), len(DATA))
        body.buffer[:1000] = DATA[:1000]
        body.filled = 1000
        portions = []

        async def arrived(one: Body) -> None:
            portions.append(one.filled)

        await upstream.fill("/blobs/aa", body, arrived)
    assert bytes(body.buffer) == DATA
    assert site.requests == [("/blobs/aa", "bytes=1000-299999")]
    assert portions[-1] == len(DATA)


async def test_request_heads_are_small_and_the_connection_is_kept(site: Site) -> None:
    async with Relay(site.url).running() as relay, client(relay.url) as upstream:
        for _ in range(3):
            with pytest.raises(MissingError):
                await upstream.get_bytes("/metadata/9.root.json", 1000)
            await upstream.get_bytes("/metadata/x.json", 100)
        assert relay.connections == 1
        assert relay.bytes_up < 6 * 100
    async with Liar(lambda _path, _range: raw(200, b"{}")).running() as liar, client(liar.url) as upstream:
        await upstream.get_bytes("/metadata/x.json", 100)
    names = {line.split(b":")[0] for line in liar.heads[0].split(b"\r\n")[1:-2]}
    assert names == {b"Host", b"User-Agent"}


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (raw(500, b"oops"), "status 500"),
        (raw(403), "status 403"),
        (raw(302, b"", "Location: http://127.0.0.1:1/elsewhere"), "redirect refused"),
        (raw(200, b"<html>login</html>", "Content-Type: text/html"), "web page"),
        (raw(200, b"x" * 99), "99 bytes where 100 were expected"),
        (raw(200, b"x" * 101), "101 bytes where 100 were expected"),
        (raw(200, b"x" * 50, length=100), "ended|not enough|payload|Response"),
        (raw(200, b"x" * 100, "Content-Encoding: gzip"), "content coding"),
        (b"HTTP/1.1 200 x\r\nTransfer-Encoding: chunked\r\n\r\n65\r\n" + b"x" * 101 + b"\r\n0\r\n\r\n", "longer"),
        (b"HTTP/1.1 200 x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nxxxxx\r\n0\r\n\r\n", "5 bytes where 100"),
        (b"this is no HTTP at all\r\n\r\n", "Bad|bad|Expected|Invalid"),
        (b"", "disconnected|reset"),
    ],
)
async def test_wrong_answers_to_a_whole_request(answer: bytes, says: str) -> None:
    async with lying(answer) as upstream:
        with pytest.raises(TransferError, match=says) as caught:
            await upstream.get_bytes("/blobs/aa", 100, 100)
    assert upstream.url in caught.value.message
    assert caught.value.exit_code == 4


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (raw(200, b"x" * 1000), "where a range was asked for"),
        (raw(206, b"x" * 10, "Content-Range: bytes 0-9/1000"), "Content-Range"),
        (raw(206, b"x" * 10, "Content-Range: bytes 10-19/999"), "Content-Range"),
        (raw(206, b"x" * 10, "Content-Range: bytes 10-19/*"), "Content-Range"),
        (raw(206, b"x" * 10), "Content-Range"),
        (raw(206, b"x" * 9, "Content-Range: bytes 10-19/1000"), "9 bytes where 10"),
        (raw(416, b""), "status 416"),
    ],
)
async def test_wrong_answers_to_a_range_request(answer: bytes, says: str) -> None:
    async with lying(answer) as upstream:
        with pytest.raises(TransferError, match=says):
            await upstream.get_range("/blobs/aa", 10, 20, 1000)


async def test_a_limit_without_a_known_size() -> None:
    async with lying(raw(200, b"x" * 101)) as upstream:
        with pytest.raises(TransferError, match="at most 100"):
            await upstream.get_bytes("/metadata/timestamp.json", 100)
    endless = b"HTTP/1.1 200 x\r\nConnection: close\r\n\r\n" + b"x" * 101
    async with lying(endless) as upstream:
        with pytest.raises(TransferError, match="longer"):
            await upstream.get_bytes("/metadata/timestamp.json", 100)


async def test_missing_is_told_apart() -> None:
    for status in (404, 410):
        async with lying(raw(status, b"x" * 5000)) as upstream:
            with pytest.raises(MissingError):
                await upstream.get_bytes("/blobs/aa", 100)


async def test_nobody_listens() -> None:
    for url, says in (("http://127.0.0.1:9", "拒绝连接"), ("http://no-such-host.invalid", "域名无法解析")):
        async with client(url) as upstream:
            with pytest.raises(TransferError) as caught:
                await upstream.get_bytes("/metadata/timestamp.json", 100)
            assert says in caught.value.zh


async def test_a_cut_line_tells_how_far_it_came(site: Site) -> None:
    async with Relay(site.url, lambda _: Fault(cut_after=100_000)).running() as relay, client(relay.url) as upstream:
        body = Body(0, len(DATA), len(DATA))
        with pytest.raises(TransferError):
            await upstream.fill("/blobs/aa", body)
        assert bytes(body.buffer[: body.filled]) == DATA[: body.filled]
        assert body.filled < 100_000


@pytest.mark.parametrize("fault", [Fault(stall_after=50_000), Fault(drip_s=0.02), Fault(stall_after=0)])
async def test_no_progress_is_left_within_a_window(site: Site, fault: Fault) -> None:
    loop = asyncio.get_running_loop()
    async with Relay(site.url, lambda _: fault).running() as relay, client(relay.url) as upstream:
        began = loop.time()
        with pytest.raises(StalledError):
            await upstream.get_range("/blobs/aa", 0, len(DATA), len(DATA))
        assert loop.time() - began < 30


async def test_one_byte_at_a_time_is_fine_while_it_is_fast_enough(site: Site) -> None:
    limits = Limits(connect_s=1, answer_s=2, window_s=2, floor_bytes=64, total_s=20)
    async with Relay(site.url, lambda _: Fault(drip_s=0)).running() as relay, client(relay.url, limits) as upstream:
        assert await upstream.get_range("/blobs/aa", 500, 3500, len(DATA)) == DATA[500:3500]


async def test_a_cancelled_request_gives_its_connection_up(site: Site) -> None:
    async with Relay(site.url, lambda _: Fault(stall_after=1000)).running() as relay, client(relay.url) as upstream:
        task = asyncio.create_task(upstream.get_range("/blobs/aa", 0, 200_000, len(DATA)))
        while relay.bytes_down < 1000:
            await asyncio.sleep(0.005)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        relay.faults = lambda _: Fault()
        assert await upstream.get_range("/blobs/aa", 0, 10, len(DATA)) == DATA[:10]
        assert relay.connections == 2


def test_pace() -> None:
    pace = Pace(Limits(window_s=2, floor_bytes=100, total_s=10), 0.0)
    assert pace.due_s == 2
    pace.arrive(99, 1.0)
    assert pace.due_s == 2, "too little does not open the next window"
    pace.arrive(1, 1.5)
    assert pace.due_s == 3.5
    pace.pause(4.0)
    assert pace.due_s == 7.5, "our own work does not count"
    pace.arrive(100, 13.0)
    assert pace.due_s == 14.0, "the total does, moved by the pause"
