"""Thousands of silent connections, heads and bodies that drip: each costs little, for a bounded time, and no viewer."""

from __future__ import annotations

import asyncio
import os
import resource
import socket
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from support.edge_store import make_blob
from support.portal import Shop, file_of, get, lesson, served
from support.raw_http import Connection

VIDEO = make_blob(400_000, "v")
MEDIA = "/media/kj-1/a.mp4"
IDLE = 10_000
# Measured: 5.4 kB; the rest is for another allocator and another Python.
MOST_BYTES_EACH = 24_000
CODE = """
import asyncio, os, sys
from pathlib import Path
from edge.clock import system_clock
from edge.serve.server import serve
tell = lambda address: print(address, flush=True)
asyncio.run(serve(Path(sys.argv[1]), "127.0.0.1", 0, 2, os.environ, system_clock, tell))
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    shop = Shop(tmp_path)
    shop.put(VIDEO)
    shop.install(lesson("kj-1", file_of(VIDEO, "a.mp4")))
    shop.close()
    return tmp_path


@pytest.fixture
def idle_count() -> Iterator[int]:
    """As many connections as this process may have, up to what is wanted."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield min(IDLE, hard - 1000)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@asynccontextmanager
async def two_workers(root: Path) -> AsyncIterator[tuple[int, list[int]]]:
    """Serve by processes of their own; gives the port and the workers' ids."""
    env = {**os.environ, "YUANJIAO_SERVE_CONNECTIONS": "100000", "YUANJIAO_SERVE_OPEN_FILES": "16"}
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        CODE,
        str(root),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        env=env,
    )
    assert process.stdout is not None
    try:
        async with asyncio.timeout(60):
            while not (line := await process.stdout.readline()).startswith(b"http://"):
                assert line
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        yield int(line.decode().rpartition(":")[2]), [int(pid) for pid in children]
    finally:
        process.terminate()
        await process.wait()


def resident(pids: list[int]) -> int:
    pages = sum(int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in pids)
    return pages * resource.getpagesize()


async def connect(port: int, count: int) -> list[socket.socket]:
    """One after the other: more at once than the backlog holds would wait a second each."""
    loop, made = asyncio.get_running_loop(), []
    for _ in range(count):
        sock = socket.socket()
        sock.setblocking(False)
        await loop.sock_connect(sock, ("127.0.0.1", port))
        made.append(sock)
    return made


async def gauge(port: int, name: str) -> float:
    text = (await get(port, "/metrics")).body.decode()
    return next(float(line.split()[1]) for line in text.splitlines() if line.startswith(f"{name} "))


async def test_ten_thousand_idle_connections(root: Path, idle_count: int) -> None:
    async with two_workers(root) as (port, pids):
        viewers = [await Connection.open(port) for _ in range(4)]
        for viewer in viewers:
            assert (await viewer.request(MEDIA, Range="bytes=0-9")).status == 206
        before = resident(pids)
        idle = await connect(port, idle_count)
        async with asyncio.timeout(60):
            while await gauge(port, "yuanjiao_edge_connections") < idle_count:
                await asyncio.sleep(0.1)
        each = (resident(pids) - before) / idle_count
        assert each < MOST_BYTES_EACH, f"{each:.0f} bytes for an idle connection"
        for viewer in viewers:
            assert (await viewer.request(MEDIA, Range="bytes=5-300004")).body == VIDEO.data[5:300005]
        assert (await get(port, "/")).status == 200
        for sock in idle:
            sock.close()
        async with asyncio.timeout(60):
            while await gauge(port, "yuanjiao_edge_connections") > 100:
                await asyncio.sleep(0.1)
        for viewer in viewers:
            assert (await viewer.request(MEDIA, Range="bytes=7-8")).body == VIDEO.data[7:9]
            await viewer.close()


async def drip(connection: Connection, data: bytes) -> None:
    """Send byte by byte until the other side has had enough."""
    closed = asyncio.create_task(connection.reader.read())
    for at in range(len(data)):
        connection.writer.write(data[at : at + 1])
        if (await asyncio.wait({closed}, timeout=0.05))[0]:
            break
    async with asyncio.timeout(30):
        await asyncio.wait({closed})
    closed.exception()
    await connection.close()


async def test_heads_and_bodies_that_drip_are_ended_and_disturb_nobody(root: Path) -> None:
    """Slow heads end with the time for idleness, slow bodies with the time to linger; both keep their place warm."""
    heads = [f"GET {MEDIA} HTTP/1.1\r\nHost: {'x' * 2000}".encode()] * 40
    bodies = []
    for body in ("Content-Length: 1000000\r\n\r\n", "Transfer-Encoding: chunked\r\n\r\nfffff\r\n"):
        asked = f"GET {MEDIA} HTTP/1.1\r\nHost: x\r\nRange: bytes=0-9\r\n{body}".encode()
        bodies += [(asked, b"b" * 2000)] * 20
    async with served(root, env={"YUANJIAO_SERVE_KEEPALIVE_S": "1"}) as port:
        viewer = await Connection.open(port)
        slow = [asyncio.create_task(drip(await Connection.open(port), head)) for head in heads]
        for asked, body in bodies:
            connection = await Connection.open(port)
            await connection.send(asked)
            assert (await connection.reply()).body == VIDEO.data[:10], "a body that nobody wants is not waited for"
            slow += [asyncio.create_task(drip(connection, body))]
        while not all(task.done() for task in slow):
            assert (await viewer.request(MEDIA, Range="bytes=3-200002")).body == VIDEO.data[3:200003]
            await asyncio.sleep(0.02)
        await asyncio.gather(*slow)
        await viewer.close()
        text = (await get(port, "/metrics")).body.decode()
    assert 'yuanjiao_edge_connections_closed_total{cause="idle"} 40.0' in text
    assert 'yuanjiao_edge_answers_total{result="error"} 0.0' in text


async def test_chunk_extensions_without_end_are_ended(root: Path) -> None:
    """They are not content, so no flow control counts them; the time to linger does."""
    async with served(root) as port:
        connection = await Connection.open(port)
        await connection.send(
            f"GET {MEDIA} HTTP/1.1\r\nHost: x\r\nRange: bytes=0-9\r\nTransfer-Encoding: chunked\r\n\r\n3;"
        )
        assert (await connection.reply()).body == VIDEO.data[:10]
        closed = asyncio.create_task(connection.is_closed())
        while not closed.done():
            connection.writer.write(b"a" * 65536)
            await asyncio.wait({closed}, timeout=0.02)
        assert closed.result()
        await connection.close()
