"""Many requests from one address: a classroom behind one NAT is never limited, a flooder is, others do not suffer."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from support.edge_store import make_blob
from support.portal import Shop, file_of, get, lesson, served
from support.raw_http import Connection

VIDEO = make_blob(3_000_000, "v")
POSTERS = [make_blob(5000 + n, "p") for n in range(8)]
MEDIA = "/media/kj-1/a.mp4"
# In the tests all clients are on this machine, and it has no special rights here.
NOBODY_FREE = {"YUANJIAO_SERVE_UNLIMITED": ""}
STRICT = {**NOBODY_FREE, "YUANJIAO_SERVE_REQUESTS_PER_S": "0.1", "YUANJIAO_SERVE_REQUESTS_BURST": "40"}
# Another address of this machine.
OTHER = ("127.0.0.2", 0)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    shop = Shop(tmp_path)
    shop.put(VIDEO, *POSTERS)
    posters = [file_of(blob, f"{n}.jpg", "picture", "image/jpeg") for n, blob in enumerate(POSTERS)]
    shop.install(lesson("kj-1", file_of(VIDEO, "a.mp4"), *posters))
    shop.close()
    return tmp_path


async def from_elsewhere(port: int) -> Connection:
    return Connection(*await asyncio.open_connection("127.0.0.1", port, local_addr=OTHER, limit=1 << 22))


@pytest.fixture
async def strict(root: Path) -> AsyncIterator[int]:
    async with served(root, env=STRICT) as port:
        yield port


async def test_a_classroom_behind_one_address_is_never_limited(root: Path) -> None:
    """60 terminals at once, 6 connections each: pages, pictures, and the start of the same lesson; on one process."""
    statuses: set[int] = set()

    async def terminal() -> None:
        connections = await asyncio.gather(*(Connection.open(port) for _ in range(6)))

        async def ask(connection: Connection, paths: list[str]) -> None:
            for path in paths:
                statuses.add(
                    (await connection.request(path, **({"Range": "bytes=0-99"} if path == MEDIA else {}))).status
                )

        pictures = [f"/media/kj-1/{n}.jpg" for n in range(8)]
        plans = [["/", "/lessons/kj-1", MEDIA, MEDIA], ["/static/portal.css"], ["/static/portal.js"]]
        plans += [pictures[0:3], pictures[3:6], [*pictures[6:8], "/api/courseware/kj-1"]]
        await asyncio.gather(*(ask(one, plan) for one, plan in zip(connections, plans, strict=True)))
        for connection in connections:
            await connection.close()

    async with served(root, env=NOBODY_FREE) as port:
        await asyncio.gather(*(terminal() for _ in range(60)))
    assert statuses == {200, 206}


async def test_flooder_is_limited_and_others_are_not(strict: int) -> None:
    flooder = await Connection.open(strict)
    found = [(await flooder.request("/api/courseware")).status for _ in range(10)]
    assert found == [200] * 10  # 40, at 4 for a page
    began = time.monotonic()
    refused = await flooder.request("/api/courseware", Accept="text/html")
    assert refused.status == 429
    assert refused.body.decode() == "来自同一地址的请求过于频繁，请稍后再试。\n"
    assert 1 <= int(refused.headers["retry-after"]) <= 40
    assert time.monotonic() - began >= 0.9, "refused at once, it would ask on as fast"
    other = await from_elsewhere(strict)
    assert (await other.request("/api/courseware")).status == 200
    await flooder.close()
    again = await Connection.open(strict)
    assert (await again.request("/api/courseware")).status == 429, "a new connection is the same client"
    text = (await other.request("/metrics")).body.decode()
    assert 'yuanjiao_edge_answers_total{result="limited"} 2.0' in text
    await again.close()
    await other.close()


async def test_lesson_that_plays_goes_on_for_a_client_that_is_limited(strict: int) -> None:
    """Its ranges come from a file that is open: they cost less than refusing them."""
    connection = await Connection.open(strict)
    assert (await connection.request(MEDIA, Range="bytes=0-0")).status == 206
    while (await connection.request("/api/courseware")).status == 200:
        pass
    for n in range(60):
        reply = await connection.request(MEDIA, Range=f"bytes={n}-{n + 9}")
        assert (reply.status, reply.body) == (206, VIDEO.data[n : n + 10])
    await connection.close()


async def test_one_address_cannot_take_all_connections(root: Path) -> None:
    env = {**NOBODY_FREE, "YUANJIAO_SERVE_CONNECTIONS": "32", "YUANJIAO_SERVE_CONNECTIONS_PER_CLIENT": "16"}
    async with served(root, env=env) as port:
        viewer = await from_elsewhere(port)
        assert (await viewer.request(MEDIA, Range="bytes=0-9")).status == 206
        flood = [await Connection.open(port) for _ in range(60)]
        for connection in flood[:44]:
            assert await connection.is_closed()  # the oldest idle one of its own made room
        assert (await flood[-1].request(MEDIA, Range="bytes=0-9")).status == 206
        assert (await viewer.request(MEDIA, Range="bytes=5-9")).body == VIDEO.data[5:10]
        text = (await viewer.request("/metrics")).body.decode()
        assert 'yuanjiao_edge_connections_closed_total{cause="full"} 44.0' in text
        for connection in [*flood, viewer]:
            await connection.close()


async def test_a_held_refusal_does_not_hold_up_the_stop(root: Path) -> None:
    async with served(root, env=STRICT) as port:
        connection = await Connection.open(port)
        while (await connection.request("/api/courseware")).status == 200:
            pass
        await connection.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (await get(port, MEDIA, Range="bytes=0-0")).status == 429
    await connection.close()
