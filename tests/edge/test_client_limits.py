"""What a client can cost: heads without end, bodies nobody asked for, answers not taken, too many connections."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

import pytest
from support.edge_store import no_leaks
from support.hot_path import BIG, GET, STALL_S, ask, open_bench, small_window, take_all
from support.raw_http import Connection

from edge.metrics import Cell, Result
from edge.serve.protocol import HEAD_FIELDS, MOST_FIELDS, Limits

BRIEF = Limits(stall_s=STALL_S, keepalive_s=0.6, header_bytes=1024, connections=16)
RANGE = "GET /blob HTTP/1.1\r\nHost: x\r\nRange: bytes=3-4\r\n\r\n"

BROKEN = {
    "bare LF": "GET /blob HTTP/1.1\nHost: x\n\n",
    "length and chunks": (
        "GET /blob HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    ),
    "two lengths": "GET /blob HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\nabcd",
    "length with a sign": "GET /blob HTTP/1.1\r\nHost: x\r\nContent-Length: +4\r\n\r\nabcd",
    "unknown coding": "GET /blob HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: xchunked\r\n\r\n",
    "folded line": "GET /blob HTTP/1.1\r\nHost: x\r\nX: a\r\n b\r\n\r\n",
    "blank before the colon": "GET /blob HTTP/1.1\r\nHost: x\r\nRange : bytes=0-9\r\n\r\n",
    "NUL": "GET /blob HTTP/1.1\r\nHost: x\r\nX: a\0b\r\n\r\n",
    "bare CR": "GET /blob HTTP/1.1\r\nHost: x\r\nX: a\rb\r\n\r\n",
    "no host": "GET /blob HTTP/1.1\r\n\r\n",
    "two hosts": "GET /blob HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n",
    "no slash": "GET blob HTTP/1.1\r\nHost: x\r\n\r\n",
    "no such port": "GET http://x:99999/blob HTTP/1.1\r\nHost: x\r\n\r\n",
    "TLS": "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    "long line": "GET /" + "secret" * 2000 + " HTTP/1.1\r\nHost: x\r\n\r\n",
    "long field": "GET /blob HTTP/1.1\r\nHost: x\r\nX: " + "a" * 20_000 + "\r\n\r\n",
    "many fields": "GET /blob HTTP/1.1\r\nHost: x\r\n" + "X: 1\r\n" * (MOST_FIELDS + 1) + "\r\n",
    "no chunk": "GET /blob HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nsecret\r\n",
}


@pytest.mark.parametrize("text", BROKEN.values(), ids=BROKEN.keys())
async def test_request_that_cannot_be_read_ends_in_a_sentence(
    tmp_path: Path, text: str, caplog: pytest.LogCaptureFixture
) -> None:
    """No second request is read from it, nothing of it comes back, and it leaves no traceback in the log."""
    async with open_bench(tmp_path) as bench:
        connection = await Connection.open(bench.port)
        await connection.request("/blob", Range="bytes=0-0")
        await connection.send(text + RANGE)
        reply = await connection.reply()
        assert (reply.status, reply.body.decode()) == (400, "请求格式有误，无法处理。\n")
        assert reply.headers["x-content-type-options"] == "nosniff"
        assert "aiohttp" not in reply.headers["server"]
        assert await connection.is_closed()
        await connection.close()
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


async def test_body_that_breaks_later_is_no_event_either(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with open_bench(tmp_path) as bench:
        connection = await Connection.open(bench.port)
        await connection.send(RANGE[:-2] + "Transfer-Encoding: chunked\r\n\r\n")
        assert (await connection.reply()).body == BIG[3:5]
        await connection.send("no chunk\r\n")
        assert await connection.is_closed()
        await connection.close()
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


@pytest.mark.parametrize(
    "body", ["Content-Length: 4\r\n\r\nabcd", "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"]
)
@pytest.mark.parametrize("more", ["", "Content-Encoding: gzip\r\n", "Expect: 100-continue\r\n"])
async def test_body_of_a_get_is_passed_over(tmp_path: Path, more: str, body: str) -> None:
    async with open_bench(tmp_path) as bench:
        connection = await Connection.open(bench.port)
        await connection.send((RANGE[:-2] + more + body) * 2 + RANGE)
        for _ in range(3):
            assert (await connection.reply()).body == BIG[3:5]
        await connection.close()


@pytest.mark.parametrize("line", ["GET /blob HTTP/2.0\r\nHost: x", "GET /blob"])
async def test_other_protocols_are_answered_in_the_oldest_and_ended(tmp_path: Path, line: str) -> None:
    async with open_bench(tmp_path) as bench:
        connection = await Connection.open(bench.port)
        await connection.send(f"{line}\r\n\r\n")
        reply = await connection.reply()
        assert (reply.status, reply.headers["connection"]) == (200, "close")
        assert await connection.is_closed()
        await connection.close()


async def test_chunks_from_before_there_were_any_end_the_connection(tmp_path: Path) -> None:
    async with open_bench(tmp_path) as bench:
        connection = await Connection.open(bench.port)
        head = "GET /blob HTTP/1.0\r\nConnection: keep-alive\r\nRange: bytes=3-4\r\nTransfer-Encoding: chunked\r\n\r\n"
        await connection.send(f"{head}0\r\n\r\n")
        reply = await connection.reply()
        assert (reply.body, reply.headers["connection"]) == (BIG[3:5], "close")
        assert await connection.is_closed()
        await connection.close()


async def test_head_that_comes_byte_by_byte_has_a_deadline(tmp_path: Path) -> None:
    async with open_bench(tmp_path, BRIEF) as bench:
        loop = asyncio.get_running_loop()
        connection = await Connection.open(bench.port)
        await connection.request("/blob", Range="bytes=0-0")
        began = loop.time()
        closed = asyncio.create_task(connection.is_closed())
        for letter in "GET /blob HTTP/1.1\r\nHost: " + "x" * 100:
            connection.writer.write(letter.encode())
            if (await asyncio.wait({closed}, timeout=0.05))[0]:
                break
        assert closed.result()
        assert BRIEF.keepalive_s * 0.9 < loop.time() - began
        await connection.close()


async def test_head_without_end_is_bounded(tmp_path: Path) -> None:
    async with open_bench(tmp_path, Limits(STALL_S, keepalive_s=30, header_bytes=1024)) as bench:
        connection = await Connection.open(bench.port)
        await connection.send("GET /blob HTTP/1.1\r\nHost: x\r\n")
        for n in range(HEAD_FIELDS):
            await connection.send(f"X{n}: {'a' * 1000}\r\n")
            await asyncio.sleep(0.02)  # a segment of its own
        await connection.send(f"X: {'a' * 1000}\r\n")
        assert await connection.is_closed()
        assert bench.total(Result.HIT) == 0
        await connection.close()


async def test_idle_connection_is_closed_and_a_busy_one_is_not(tmp_path: Path) -> None:
    async with open_bench(tmp_path, BRIEF) as bench:
        loop = asyncio.get_running_loop()
        connection = await Connection.open(bench.port)
        began = loop.time()
        while loop.time() - began < 2 * BRIEF.keepalive_s:
            assert (await connection.request("/blob", Range="bytes=3-4")).body == BIG[3:5]
            await asyncio.sleep(0.1)
        assert await connection.is_closed()
        await connection.close()


async def test_page_that_nobody_takes_is_cut_off(tmp_path: Path) -> None:
    """Also when it fits the buffers but for its end, and the handler thinks that it is done."""
    async with open_bench(tmp_path) as bench:
        slow = await small_window(bench.port)
        await ask(slow, "GET /page HTTP/1.1\r\nHost: x\r\n\r\n" * 3)
        async with asyncio.timeout(60):
            while not bench.server.connections:
                await asyncio.sleep(0.005)
        await bench.until_left()
        slow.close()


@pytest.mark.parametrize(("path", "size"), [("/page", 5_000_000), ("/blob", len(BIG))])
async def test_answer_that_is_taken_slowly_comes_whole(tmp_path: Path, path: str, size: int) -> None:
    """The system's own buffers hold megabytes: for long it looks from here as if nothing were taken."""
    async with open_bench(tmp_path) as bench:
        slow = await small_window(bench.port)
        await ask(slow, f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        got, loop = 0, asyncio.get_running_loop()
        began = loop.time()
        while part := await loop.sock_recv(slow, 200_000):
            got += len(part)
            if loop.time() - began < 4 * STALL_S:
                await asyncio.sleep(STALL_S / 8)
        assert got > size
        slow.close()


async def test_above_the_limit_the_oldest_idle_connection_makes_room(tmp_path: Path) -> None:
    async with open_bench(tmp_path, Limits(stall_s=20, keepalive_s=30, connections=8)) as bench:
        busy = await small_window(bench.port)
        await ask(busy)
        idle = [await Connection.open(bench.port) for _ in range(12)]
        for connection in idle[:5]:
            assert await connection.is_closed()
        for connection in idle[5:]:
            assert (await connection.request("/blob", Range="bytes=3-4")).body == BIG[3:5]
        assert len(bench.server.connections) == 8
        got, loop = b"", asyncio.get_running_loop()
        take_all(busy)
        while len(got.partition(b"\r\n\r\n")[2]) < len(BIG):
            got += await loop.sock_recv(busy, 1 << 20)
        assert got.partition(b"\r\n\r\n")[2] == BIG
        for connection in idle:
            await connection.close()
        busy.close()


async def test_with_nobody_idle_the_newest_is_refused(tmp_path: Path) -> None:
    async with open_bench(tmp_path, Limits(stall_s=20, keepalive_s=30, connections=3)) as bench:
        busy = [await small_window(bench.port) for _ in range(3)]
        for sock in busy:
            await ask(sock)
            await asyncio.get_running_loop().sock_recv(sock, 100)
        newest = await Connection.open(bench.port)
        assert await newest.is_closed()
        for sock in busy:
            sock.close()
        await bench.until_left()
        assert bench.total(Cell.ABORTED) == 3


async def test_answer_that_was_begun_at_once_is_given_up_with_its_client(tmp_path: Path) -> None:
    """Begun where the request arrived, left to a task, and the client gone before that runs: nothing is held."""
    async with open_bench(tmp_path) as bench:
        warm = await Connection.open(bench.port)
        await warm.request("/blob", Range="bytes=0-0")
        with no_leaks():
            for _ in range(30):
                sock = await small_window(bench.port)
                await ask(sock, GET + RANGE)
                sock.close()
            await bench.until_left(1)
        entry = bench.entry()
        bench.entries.clear()
        assert entry._users == 0
        await warm.close()
