"""The express way: it answers what aiohttp's parser would, byte for byte, or leaves it to that; nothing is mixed up."""

from __future__ import annotations

import asyncio
import inspect
import re
import socket
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.http import RawRequestMessage
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.edge_store import make_blob
from support.hot_path import BIG, GET, Bench, ask, open_bench, small_window
from support.portal import Shop, file_of, lesson, served
from support.raw_http import Connection

from edge.metrics import Cell, Result
from edge.serve import protocol
from edge.serve.express import SEAMS, Express, ExpressProtocol
from edge.serve.protocol import Limits
from edge.serve.shapes import LONGEST_HEAD, MOST_SHAPES, Shape, Shapes, Span
from edge.serve.site import Site

VIDEO = make_blob(700_000, "express")
MEDIA = b"/media/kj-1/a.mp4"
BLOB = f"/blobs/{VIDEO.ref.digest}".encode()
TAG = f'"{VIDEO.ref.digest}"'.encode()
LAST = b"GET " + MEDIA + b" HTTP/1.1\r\nHost: x\r\nRange: bytes=0-3\r\nConnection: close\r\n\r\n"
DATE = re.compile(rb"\r\nDate: [^\r]*")


def test_aiohttp_has_the_seams_that_are_used() -> None:
    """Fails loudly when an upgrade moves one: `express` and `protocol` must then be read against the new handler."""
    have = {*web.RequestHandler.__slots__, *dir(web.RequestHandler)}
    assert [name for name in SEAMS if name not in have] == []
    used = set(re.findall(r"self\.(_[a-z_]+)", inspect.getsource(ExpressProtocol)))
    own = set(re.findall(r"self\.(_[a-z_]+)(?::| =)", inspect.getsource(ExpressProtocol.__init__)))
    own |= {name for name in vars(ExpressProtocol) if not name.startswith("__")}
    assert used - own - {"_loop"} <= set(SEAMS)
    for name in ("data_received", "close", "shutdown", "_process_keepalive", "finish_response", "handle_error"):
        assert name in vars(web.RequestHandler)
    handler = inspect.getsource(web.RequestHandler)
    assert "await self._waiter" in handler
    assert "self._messages.popleft()" in handler
    assert "self._parser.message_consumed()" in handler
    for name in ("method", "path", "version", "headers", "should_close", "_replace"):
        assert hasattr(RawRequestMessage, name)
    assert list(inspect.signature(web.Server._make_request).parameters)[1:] == [
        *("message", "payload", "protocol", "writer", "task")
    ]


@dataclass
class Pair:
    """The same edge served twice: with the express way and without."""

    ports: tuple[int, int] = (0, 0)
    taken: list[Shape | Span] = field(default_factory=list)


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    shop = Shop(tmp_path_factory.mktemp("express"))
    shop.put(VIDEO)
    shop.install(lesson("kj-1", file_of(VIDEO, "a.mp4")))
    shop.paths.trust.mkdir(exist_ok=True)
    (shop.paths.trust / "timestamp.json").write_bytes(b'{"signed": {"version": 1}}')
    shop.close()
    made, patch = Pair(), pytest.MonkeyPatch()
    ready, stop = threading.Event(), asyncio.Event()
    real = Site.begin

    def noted(site: Site, asked: Shape | Span, address: str) -> object:
        sending = real(site, asked, address)
        if sending is not None:
            made.taken.append(asked)
        return sending

    async def serve() -> None:
        async with AsyncExitStack() as stack:
            first = await stack.enter_async_context(served(shop.paths.root))
            off = property(lambda site: Express(lambda asked, address: None, site.lane.tell_begun, site.lane.end))
            patch.setattr(Site, "express", off)
            made.ports = (first, await stack.enter_async_context(served(shop.paths.root)))
            ready.set()
            await stop.wait()

    patch.setattr(Site, "begin", noted)
    patch.setattr(protocol, "LINGER_S", 0.05)
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    assert ready.wait(60)
    yield made
    loop.call_soon_threadsafe(stop.set)
    thread.join(60)
    loop.close()
    patch.undo()


def talk(port: int, requests: list[bytes]) -> bytes:
    """All that comes back on one connection, dates left out; each request is sent when the one before was answered."""
    got = b""
    with closing(socket.create_connection(("127.0.0.1", port), 20)) as sock:
        sock.settimeout(20)
        try:
            for request in (*requests, LAST):
                sock.sendall(request)
                part = sock.recv(1 << 20)
                if not part:
                    break
                got += part
                while len(part) and not is_whole(got, requests):
                    part = sock.recv(1 << 20)
                    got += part
            while part := sock.recv(1 << 20):
                got += part
        except ConnectionError:
            pass
    return DATE.sub(b"", got)


def is_whole(got: bytes, requests: list[bytes]) -> bool:
    """Whether what came ends with an answer; of HEAD there is no body, so a pause in the bytes is taken for the end."""
    head, end, body = got[got.rfind(b"HTTP/1.1 ") :].partition(b"\r\n\r\n")
    length = re.search(rb"\r\nContent-Length: (\d+)", head)
    if not end or length is None or any(request.startswith(b"HEAD") for request in requests):
        return True
    return len(body) >= int(length[1])


NUMBERS = st.one_of(
    st.integers(0, 700_100).map(str), st.sampled_from(["", "0", "699999", "700000", "00012", "9" * 18, "9" * 30, "-1"])
)
SPANS = st.builds(lambda a, b: f"bytes={a}-{b}".encode(), NUMBERS, NUMBERS)
RANGES = st.one_of(
    SPANS,
    SPANS,
    st.sampled_from([b"bytes=0-9,20-29", b"bytes = 0-9", b"Bytes=0-9", b"bytes=5-9 ", b"items=0-9", b"bytes=-7", b"x"]),
)
PLAIN = st.one_of(
    st.builds(lambda name, asked: name + asked, st.sampled_from([b"Range: ", b"range: ", b"Range:"]), RANGES),
    st.sampled_from([b"If-Range: " + TAG, b"If-Range: W/" + TAG, b'If-Range: "x"', b"If-Range: " + TAG + b" "]),
    st.sampled_from([b"If-None-Match: " + TAG, b"If-None-Match: *", b'If-Match: "x"', b"if-match: " + TAG]),
    st.sampled_from([b"If-Modified-Since: Tue, 24 Nov 2026 04:00:00 GMT", b"Accept: */*", b"X: \xe4\xb8\xad", b"Y:"]),
)
HOSTILE = st.one_of(
    st.sampled_from([b"Connection: close", b"Connection: keep-alive", b"Connection: upgrade", b"Upgrade: h2c"]),
    st.sampled_from([b"Content-Length: 0", b"Transfer-Encoding: chunked", b"Expect: 100-continue", b"TE: trailers"]),
    st.sampled_from([b"X : y", b" folded", b"X:\x00y", b"Bad\x01: y", b"no colon", b"X: a\rb", b"X\nRange: bytes=0-1"]),
)
TARGETS = st.sampled_from(
    [
        MEDIA,
        MEDIA,
        MEDIA,
        BLOB,
        MEDIA + b"?Range: bytes=1-2",
        b"/metadata/timestamp.json",
        b"/media/kj-1/b.mp4",
        b"/%zz",
    ]
)


@st.composite
def requests(draw: st.DrawFn) -> list[bytes]:
    """One head with ranges put where its numbers are; half of them nothing but plain, others with what is doubtful."""
    is_plain = draw(st.booleans())
    method = draw(st.sampled_from([b"GET"] if is_plain else [b"GET", b"HEAD", b"POST", b"get"]))
    version = draw(st.sampled_from([b"HTTP/1.1"] if is_plain else [b"HTTP/1.1", b"HTTP/1.1", b"HTTP/1.0", b"HTTP/1.2"]))
    fields = draw(st.lists(PLAIN if is_plain else st.one_of(PLAIN, HOSTILE), max_size=2))
    place = draw(st.integers(0, len(fields)))
    first = method + b" " + draw(TARGETS) + b" " + version
    after = b"" if is_plain else draw(st.sampled_from([b"", b"", b"0\r\n\r\n", b"GET / HTTP/1.1\r\n", b"\r\n"]))
    return [
        b"\r\n".join([first, b"Host: x", *fields[:place], *([b"Range: " + span] if span else []), *fields[place:]])
        + b"\r\n\r\n"
        + after
        for span in draw(st.lists(st.one_of(SPANS, SPANS, st.none()), min_size=2, max_size=3))
    ]


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(asked=requests())
def test_with_and_without_it_answers_are_the_same_bytes(pair: Pair, asked: list[bytes]) -> None:
    """Also a second and third time, when the head is known by its bytes and not parsed any more."""
    assert talk(pair.ports[0], asked) == talk(pair.ports[1], asked)


def test_a_known_head_is_not_parsed_again(pair: Pair) -> None:
    asked = [b"GET " + MEDIA + b" HTTP/1.1\r\nHost: plain\r\nRange: bytes=%d-%d\r\n\r\n" % (n, n + 5) for n in range(4)]
    whole = b"GET " + MEDIA + b" HTTP/1.1\r\nHost: plain\r\nIf-None-Match: " + TAG + b"\r\n\r\n"
    head = b"HEAD " + BLOB + b" HTTP/1.1\r\nHost: plain\r\n\r\n"
    document = b"GET /metadata/timestamp.json HTTP/1.1\r\nHost: plain\r\n\r\n"
    before = len(pair.taken)
    for one in (*([request] for request in (*asked, *asked)), *([one] for one in (whole, head, document) * 3)):
        assert talk(pair.ports[0], one) == talk(pair.ports[1], one)
    taken = pair.taken[before:]
    assert sum(isinstance(one, Span) for one in taken) >= 6
    for start in (b"GET /media", b"HEAD", b"GET /metadata"):
        shapes = [one for one in taken if isinstance(one, Shape) and one.planned is not None]
        assert any(f"{one.method} {one.key}".encode().startswith(start) for one in shapes)


def test_heads_that_are_kept_are_bounded() -> None:
    parsed = _parse(GET.encode())
    shapes = Shapes()
    for n in range(3 * MOST_SHAPES):
        shapes.learn(b"GET /%d HTTP/1.1\r\nHost: x\r\n\r\n" % n, parsed)
        assert len(shapes) <= MOST_SHAPES
    before = len(shapes)
    shapes.learn(b"GET /%s HTTP/1.1\r\n\r\n" % (b"x" * LONGEST_HEAD), parsed)
    shapes.learn(GET.encode() * 2, parsed)
    shapes.learn(GET.encode()[:-1], parsed)
    assert len(shapes) == before


def _parse(data: bytes) -> Shape:
    from aiohttp import HttpVersion11
    from multidict import CIMultiDict, CIMultiDictProxy
    from yarl import URL

    headers = CIMultiDictProxy(CIMultiDict({"Host": "x"}))
    return Shape(RawRequestMessage("GET", "/blob", HttpVersion11, headers, (), False, None, False, False, URL("/blob")))


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    async with open_bench(tmp_path, Limits(stall_s=20, keepalive_s=30)) as made:
        warm = await Connection.open(made.port)
        assert (await warm.request("/blob", Range="bytes=0-0")).status == 206
        await warm.close()
        yield made


async def test_requests_that_come_while_an_answer_is_under_way_wait_their_turn(bench: Bench) -> None:
    loop = asyncio.get_running_loop()
    sock = await small_window(bench.port)
    await ask(sock)
    await until_sending(bench)
    for n in range(6):
        await ask(sock, f"GET /blob HTTP/1.1\r\nHost: x\r\nRange: bytes={n}-{n + 9}\r\n\r\n")
    await ask(sock, "GET /page HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    got = bytearray()
    async with asyncio.timeout(60):
        while part := await loop.sock_recv(sock, 1 << 20):
            got += part
    rest = bytes(got)
    for body in (BIG, *(BIG[n : n + 10] for n in range(6)), b"page " * 1_000_000):
        rest = rest.partition(b"\r\n\r\n")[2]
        assert rest.startswith(body)
        rest = rest[len(body) :]
    assert rest == b""
    sock.close()


async def test_answer_under_way_is_not_idle_for_keepalive_or_for_room(tmp_path: Path) -> None:
    async with open_bench(tmp_path, Limits(stall_s=20, keepalive_s=0.3, connections=1)) as bench:
        loop = asyncio.get_running_loop()
        warm = await Connection.open(bench.port)
        await warm.request("/blob", Range="bytes=0-0")
        await warm.close()
        await bench.until_left()
        sock = await small_window(bench.port)
        await ask(sock)
        await until_sending(bench)
        newest = await Connection.open(bench.port)
        assert await newest.is_closed()
        await newest.close()
        await asyncio.sleep(0.7)  # more than twice what an idle connection has
        got = bytearray()
        async with asyncio.timeout(60):
            while len(got.partition(b"\r\n\r\n")[2]) < len(BIG) and (part := await loop.sock_recv(sock, 1 << 20)):
                got += part
        assert got.partition(b"\r\n\r\n")[2] == BIG
        assert await loop.sock_recv(sock, 1) == b""  # now it was idle
        sock.close()


async def test_retiring_server_gives_each_connection_one_last_answer(bench: Bench) -> None:
    kept = await Connection.open(bench.port)
    assert "connection" not in (await kept.request("/blob", Range="bytes=1-2")).headers
    bench.server.retire()
    reply = await kept.request("/blob", Range="bytes=1-2")
    assert (reply.body, reply.headers["connection"]) == (BIG[1:3], "close")
    assert await kept.is_closed()
    await kept.close()


async def test_stop_waits_for_an_answer_under_way_and_no_longer_than_it_may(tmp_path: Path) -> None:
    async with open_bench(tmp_path, Limits(stall_s=20, keepalive_s=30)) as bench:
        warm = await Connection.open(bench.port)
        await warm.request("/blob", Range="bytes=0-0")
        await warm.close()
        loop = asyncio.get_running_loop()
        taken, left = await small_window(bench.port), await small_window(bench.port)
        for sock in (taken, left):
            await ask(sock)
        await until_sending(bench, 2)
        bench.server.drain_s = 4.0
        bench.server.pre_shutdown()
        ending = asyncio.create_task(bench.server.shutdown())
        got = bytearray()
        async with asyncio.timeout(60):
            while part := await loop.sock_recv(taken, 1 << 20):
                got += part
        assert got.partition(b"\r\n\r\n")[2] == BIG
        await asyncio.wait_for(ending, 60)
        await bench.until_left()
        assert bench.total(Cell.ABORTED) == 1
        assert bench.total(Result.HIT) == 3
        for sock in (taken, left):
            sock.close()


async def until_sending(bench: Bench, count: int = 1) -> None:
    async with asyncio.timeout(20):
        while sum(one.is_sending for one in bench.server._direct.values()) < count:
            await asyncio.sleep(0.005)
