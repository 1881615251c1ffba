"""Requests that are wrong or meant badly: answered as the table says, and nobody else notices."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from support.edge_store import make_blob
from support.portal import Shop, file_of, get, lesson, served
from support.raw_http import Connection
from support.shapes import GROUPS, MEDIA, Shape

VIDEO = make_blob(50_000, "v")
NEXT = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
LINE = re.compile(r'127\.0\.0\.1 - - \[[^]]+\] "[ !#-~]*" \d{3} \d+ "[ !#-~]*" "[ !#-~]*"')


@pytest.fixture
def root(tmp_path: Path) -> Path:
    shop = Shop(tmp_path)
    shop.put(VIDEO)
    shop.install(lesson("kj-1", file_of(VIDEO, "a.mp4")))
    shop.close()
    return tmp_path


@pytest.fixture
async def port(root: Path) -> AsyncIterator[int]:
    async with served(root) as found:
        yield found


async def fault_of(port: int, shape: Shape) -> str:
    """What is not as the table says; empty when all is."""
    connection = await Connection.open(port)
    try:
        await connection.send(shape.data + NEXT)
        reply = await connection.reply()
        if reply.status != shape.status:
            return f"{reply.status} instead of {shape.status}"
        if b"PRIVATE KEY" in reply.body or b"evil" in reply.body:
            return "says what it must not"
        if shape.is_end:
            return "" if await connection.is_closed() else "goes on after what cannot be read"
        after = await connection.reply()
        if "status" not in json.loads(after.body):
            return "the next request got another's answer"
        # Nothing more was answered than was asked: this is the answer to this one.
        last = await connection.request(MEDIA, Range="bytes=7-8")
        return "" if last.body == VIDEO.data[7:9] else "one answer too many"
    except (TimeoutError, ConnectionError, asyncio.IncompleteReadError) as error:
        return repr(error)
    finally:
        await connection.close()


@pytest.mark.parametrize("group", GROUPS)
async def test_each_is_answered_as_the_table_says(port: int, root: Path, group: str) -> None:
    viewer = await Connection.open(port)
    faults = {}
    for _ in range(2):  # through the search, then with the file open
        for name, shape in GROUPS[group].items():
            fault = await fault_of(port, shape)
            if fault:
                faults[name] = fault
            assert (await viewer.request(MEDIA, Range="bytes=3-9")).body == VIDEO.data[3:10]
    assert faults == {}
    assert (await get(port, "/healthz")).status == 200
    await viewer.close()
    await log_is_clean(root)


async def log_is_clean(root: Path) -> None:
    """Each request is one line of printable text, whatever was in it."""
    log, lines = root / "log" / "access.log", [""]
    async with asyncio.timeout(30):
        while "healthz" not in lines[-1]:
            await asyncio.sleep(0.05)
            lines = log.read_text("ascii").splitlines() if log.exists() else lines
    assert [line for line in lines if not LINE.fullmatch(line)] == []


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (f"GET {MEDIA} HTTP/1.0\r\nRange: bytes=0-3\r\n\r\n", 206),
        (f"GET {MEDIA} HTTP/1.0\r\n\r\n", 200),
        (f"GET {MEDIA}\r\n\r\n", 200),
        (f"GET {MEDIA} HTTP/2.0\r\nHost: x\r\nRange: bytes=0-3\r\n\r\n", 206),
        (f"GET {MEDIA} HTTP/1.2\r\nHost: x\r\nRange: bytes=0-3\r\n\r\n", 400),
        (f"GET {MEDIA} HTTP/1.1\r\nHost: x\r\nRange: bytes=0-3\r\nConnection: close, keep-alive\r\n\r\n", 206),
    ],
    ids=["1.0 range", "1.0", "0.9", "2.0", "1.2", "close"],
)
async def test_old_and_ending_requests_are_answered_and_ended(port: int, head: str, status: int) -> None:
    connection = await Connection.open(port)
    await connection.send(head)
    reply = await connection.reply()
    assert (reply.status, reply.headers["connection"]) == (status, "close")
    assert await connection.is_closed()
    await connection.close()


async def test_upgrade_that_is_not_known_is_passed_over(port: int) -> None:
    connection = await Connection.open(port)
    fields = {"Connection": "Upgrade, HTTP2-Settings", "Upgrade": "h2c", "HTTP2_Settings": "AAMAAABkAAQAAP__"}
    for _ in range(3):
        assert (await connection.request(MEDIA, Range="bytes=0-3", **fields)).body == VIDEO.data[:4]
    await connection.close()
