"""The direct way from page cache to socket: order, keep-alive, clients that leave or stall, files that lie."""

from __future__ import annotations

import asyncio
import os
import random
import socket
import struct
import threading
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import pytest
from support.edge_store import no_leaks
from support.hot_path import BIG, DIGEST, STALL_S, Bench, ask, open_bench, small_window, take_all
from support.raw_http import Connection

from edge.metrics import Cell, Result
from edge.serve import sending as sending_module
from edge.serve.entries import EntryCache, open_entry
from manifests.errors import StorageDamagedError
from manifests.ranges import Representation


@pytest.fixture(params=["express", "task"])
async def bench(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Bench]:
    async with open_bench(tmp_path, express=request.param == "express") as made:
        yield made


async def test_pipelined_requests_are_answered_in_order_and_to_the_byte(bench: Bench) -> None:
    """Pins the seams with aiohttp: prepare, write_eof and keep_alive of a response, one request at a time."""
    rng = random.Random(7)
    spans = [(a, a + rng.choice([1, 10, 70_000, 2_000_000])) for a in (rng.randrange(9_000_000) for _ in range(24))]
    connection = await Connection.open(bench.port)
    await connection.send(
        "".join(
            f"{'HEAD' if n % 5 == 4 else 'GET'} {'/page' if n % 7 == 3 else '/blob'} HTTP/1.1\r\nHost: x\r\n"
            f"Range: bytes={a}-{b - 1}\r\n\r\n"
            for n, (a, b) in enumerate(spans)
        )
    )
    for n, (a, b) in enumerate(spans):
        reply = await connection.reply(has_body=n % 5 != 4)
        if n % 7 == 3:
            assert reply.status == 200
        elif n % 5 == 4:
            assert (reply.status, reply.headers["content-length"]) == (200, str(len(BIG)))
        else:
            assert (reply.status, reply.body) == (206, BIG[a:b])
    await connection.close()


async def test_aiohttp_tells_the_server_of_every_lost_connection(bench: Bench) -> None:
    """Pins the seam that closes our duplicate: without it no client would ever see the end of its connection."""
    connection = await Connection.open(bench.port)
    await connection.request("/blob", Range="bytes=0-9")
    assert bench.server.direct_count == 1
    await connection.close()
    await bench.until_left()


async def test_connection_header_and_http_1_0(bench: Bench) -> None:
    connection = await Connection.open(bench.port)
    assert "connection" not in (await connection.request("/blob", Range="bytes=0-9")).headers
    reply = await connection.request("/blob", Range="bytes=0-9", Connection="close")
    assert reply.headers["connection"] == "close"
    assert await connection.is_closed()
    old = await Connection.open(bench.port)
    await old.send("GET /blob HTTP/1.0\r\nConnection: keep-alive\r\nRange: bytes=5-6\r\n\r\n")
    reply = await old.reply()
    assert (reply.headers["connection"], reply.body) == ("keep-alive", BIG[5:7])
    await old.send("GET /blob HTTP/1.0\r\nRange: bytes=5-6\r\n\r\n")
    assert (await old.reply()).headers["connection"] == "close"
    assert await old.is_closed()


async def test_slow_client_gets_all_while_others_are_served(bench: Bench) -> None:
    slow = await small_window(bench.port)
    await ask(slow)
    loop = asyncio.get_running_loop()
    got = bytearray()
    for _ in range(40):
        got += await loop.sock_recv(slow, 65536)
        quick = await Connection.open(bench.port)
        assert (await quick.request("/blob", Range="bytes=1-3")).body == BIG[1:4]
        await quick.close()
    take_all(slow)
    async with asyncio.timeout(90):
        while len(got.partition(b"\r\n\r\n")[2]) < len(BIG) and (part := await loop.sock_recv(slow, 1 << 20)):
            got += part
    assert got.partition(b"\r\n\r\n")[2] == BIG
    slow.close()


async def test_stalled_client_is_cut_off_at_the_deadline(bench: Bench) -> None:
    slow = await small_window(bench.port)
    await ask(slow)
    loop = asyncio.get_running_loop()
    began = loop.time()
    await bench.until(Cell.ABORTED, 1)
    assert loop.time() - began >= STALL_S * 0.9
    await bench.until_left()
    slow.close()


async def test_stalled_client_behind_a_page_is_cut_off_too(bench: Bench) -> None:
    """The page is still in aiohttp's buffer when the blob's turn comes; nothing may overtake it, nothing may hang."""
    slow = await small_window(bench.port)
    await ask(slow, "GET /page HTTP/1.1\r\nHost: x\r\n\r\nGET /blob HTTP/1.1\r\nHost: x\r\n\r\n")
    first = await asyncio.get_running_loop().sock_recv(slow, 100)
    assert first.startswith(b"HTTP/1.1 200 OK")
    slow.close()
    quick = await Connection.open(bench.port)
    assert (await quick.request("/blob", Range="bytes=1-3")).status == 206
    await quick.close()


async def test_clients_that_leave_in_the_middle_cost_nothing(bench: Bench) -> None:
    """Each number of a closed duplicate is soon a new connection's: the loop must not go on watching it."""
    rng = random.Random(3)
    warm = await Connection.open(bench.port)
    await warm.request("/blob", Range="bytes=0-0")
    await warm.close()
    await asyncio.sleep(0.05)
    with no_leaks():
        for n in range(60):
            sock = await small_window(bench.port)
            await ask(sock)
            with suppress(BlockingIOError):
                await asyncio.get_running_loop().sock_recv(sock, rng.randrange(1, 9000))
            if n % 3 == 0:  # a reset instead of a polite end
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            sock.close()
        await bench.until(Cell.ABORTED, 55)
        await bench.until_left()
    check = await Connection.open(bench.port)
    assert (await check.request("/blob", Range="bytes=7-9")).body == BIG[7:10]
    await check.close()


async def test_duplicate_that_is_closed_leaves_nothing_watched(bench: Bench) -> None:
    """Its number is soon a new connection's, which the loop must not take for the old one."""
    client = await small_window(bench.port)
    await ask(client)
    async with asyncio.timeout(90):
        while not any(one._is_watched for one in bench.server._direct.values()):
            await asyncio.sleep(0.005)
    (found,) = bench.server._direct.values()
    number = found.socket.fileno()
    found.close()
    with pytest.raises(KeyError):
        asyncio.get_running_loop()._selector.get_key(number)  # type: ignore[attr-defined]
    client.close()
    await bench.until(Cell.ABORTED, 1)


async def read_out(sock: socket.socket) -> bytes:
    """All that still comes until the connection ends, however it ends."""
    got = b""
    with suppress(ConnectionError):
        async with asyncio.timeout(60):
            while part := await asyncio.get_running_loop().sock_recv(sock, 1 << 20):
                got += part
    sock.close()
    return got


@pytest.mark.parametrize("is_refilled", [False, True])
async def test_file_cut_while_it_is_sent_breaks_off_and_is_never_padded(bench: Bench, is_refilled: bool) -> None:
    """A repair sets the space aside again before it brings the bytes: until then there are zeros that nobody proved."""
    slow = await small_window(bench.port)
    await ask(slow)
    got = await asyncio.get_running_loop().sock_recv(slow, 1000)
    os.truncate(bench.file, 6_000_000)
    if is_refilled:
        with bench.file.open("r+b") as file:
            os.posix_fallocate(file.fileno(), 0, len(BIG))
    body = (got + await read_out(slow)).partition(b"\r\n\r\n")[2]
    assert 0 < len(body) <= 6_000_000
    assert body == BIG[: len(body)]
    assert bench.total(Result.ERROR) == 1


async def test_file_written_to_is_looked_for_again(bench: Bench) -> None:
    connection = await Connection.open(bench.port)
    await connection.request("/blob", Range="bytes=0-0")
    before = bench.entry()
    bench.file.write_bytes(BIG)
    with no_leaks():
        assert (await connection.request("/blob", Range="bytes=5-9")).body == BIG[5:10]
    assert bench.entry() is not before
    await connection.close()


async def test_revoked_entry_breaks_off_in_the_middle(bench: Bench) -> None:
    slow = await small_window(bench.port)
    await ask(slow)
    loop = asyncio.get_running_loop()
    got = await loop.sock_recv(slow, 1000)
    bench.entries.clear()
    bench.entries.revoke(lambda entry: entry.courseware == "kj-1")
    with suppress(ConnectionError):
        async with asyncio.timeout(60):
            while part := await loop.sock_recv(slow, 1 << 20):
                got += part
    assert len(got) < len(BIG)
    assert bench.total(Cell.ABORTED) == 1
    slow.close()


async def test_entry_dropped_while_it_is_sent_closes_after_the_last_byte(bench: Bench) -> None:
    connection = await Connection.open(bench.port)
    await connection.request("/blob", Range="bytes=0-0")
    entry = bench.entry()
    slow = await small_window(bench.port)
    await ask(slow)
    loop = asyncio.get_running_loop()
    got = bytearray(await loop.sock_recv(slow, 1000))
    bench.entries.clear()
    os.fstat(entry.file)  # still open: somebody is sending from it
    take_all(slow)
    async with asyncio.timeout(90):
        while len(got.partition(b"\r\n\r\n")[2]) < len(BIG) and (part := await loop.sock_recv(slow, 1 << 20)):
            got += part
    assert got.partition(b"\r\n\r\n")[2] == BIG
    await bench.until(Result.HIT, 2)
    with pytest.raises(OSError, match="descriptor"):
        os.fstat(entry.file)
    slow.close()
    await connection.close()


async def test_cold_pages_are_read_in_a_thread(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the answer "not in memory" never changes: what was just read is sent without asking again."""
    read: list[int] = []
    real = sending_module.Sending.read_cold

    def note(sending: sending_module.Sending) -> None:
        read.append(threading.get_ident())
        real(sending)

    monkeypatch.setattr(sending_module, "_is_page_cached", lambda file, at: False)
    monkeypatch.setattr(sending_module.Sending, "read_cold", note)
    connection = await Connection.open(bench.port)
    assert (await connection.request("/blob", Range="bytes=0-2999999")).body == BIG[:3_000_000]
    assert (await connection.request("/blob", Range="bytes=5-9")).body == BIG[5:10]
    assert len(read) >= 4
    assert threading.get_ident() not in read
    await connection.close()


def test_cache_is_bounded_and_drops_the_least_asked(tmp_path: Path) -> None:
    file = tmp_path / "blob"
    file.write_bytes(b"x" * 10)
    what = Representation(10, '"x"', "a/b")
    with no_leaks():
        cache = EntryCache(3)
        for name in "abc":
            cache.put(name, open_entry(file, what, DIGEST))
        assert cache.get("a")
        cache.put("d", open_entry(file, what, DIGEST))
        cache.put("d", open_entry(file, what, DIGEST))
        assert [name for name in "abcd" if cache.get(name)] == ["a", "c", "d"]
        assert len(cache) == 3
        with pytest.raises(StorageDamagedError):
            open_entry(file, Representation(11, '"x"', "a/b"), DIGEST)
        with pytest.raises(FileNotFoundError):
            open_entry(tmp_path / "none", what, DIGEST)
        cache.clear()
