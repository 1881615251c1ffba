"""A city of twelve edges behind one line: bytes from the origin, and when the last edge is done.

Each edge is two processes over loopback, one that serves and one that syncs. The line is shared by the city and shaped
to a rate at which this machine, which plays all twelve at once, is not what is measured.
"""

from __future__ import annotations

import asyncio
import re
import shutil
import socket
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from manifests.pieces import PIECE_SIZE, dump_bits, piece_count
from origin.app import Origin, publish
from origin.publish.request import PublishRequest
from tools.bench.clips import write_big_mp4
from tools.bench.line import Shape, open_line
from tools.bench.measure import Bench, run_measured
from tools.bench.sync import new_edge, serve_new_origin
from tools.bench.table import Row
from tools.output import show_bytes
from tools.processes import PROGRAM, serving

EDGES = 12
DEAD = 3
SIZE_BYTES = 200 * 1024 * 1024
BLOBS = 4
_RANGE = re.compile(r"(?i)range: bytes=(\d+)-(\d+)")
SHAPE = Shape(20_000_000 // 8, 0.02)


@dataclass(frozen=True, slots=True)
class _Told:
    """One city's night: seconds until the last edge was done, bytes over the line, edges that banned the liar."""

    seconds: float
    bytes_down: int
    banned: int


def run(bench: Bench) -> list[Row]:
    """Measure."""
    return asyncio.run(_run(bench))


async def _run(bench: Bench) -> list[Row]:
    size = min(bench.size_bytes, SIZE_BYTES)
    sizes: dict[str, int] = {}
    async with serve_new_origin(bench, "origin-city") as (origin, url):
        for number in range(BLOBS):
            file = bench.fresh(f"city-{number}.mp4")
            write_big_mp4(file, size // BLOBS)
            request = PublishRequest(files=(file,), title=f"city {number}", id=f"city-{number}", hls=False)
            sizes |= {one.blob: one.size for one in (await publish(origin, request)).files}
            file.unlink()
        alone = await _night(bench, origin, url, 1)
        city = await _night(bench, origin, url, EDGES)
        hurt = await _night(bench, origin, url, EDGES - DEAD - 1, dead=DEAD, liar=sizes)
    return [
        _bytes_row(f"bytes from the origin for a city of {EDGES} edges, {show_bytes(size)} new", city, size),
        _time_row("the last of them is done", city, alone),
        _bytes_row(f"the same with {DEAD} of {EDGES} dead and one lying", hurt, size),
        _time_row("the last of them is done", hurt, alone, f"{hurt.banned} of {EDGES - DEAD - 1} banned the liar"),
    ]


def _bytes_row(what: str, told: _Told, size: int) -> Row:
    ours = f"{show_bytes(told.bytes_down)}, {told.bytes_down / size:.2f} ×"
    return Row(what, ours, "", None, "≤ 1.15 ×", "all bytes down the line, metadata and heads included")


def _time_row(what: str, told: _Told, alone: _Told, note: str = "") -> Row:
    peer = f"a single edge alone {alone.seconds:.1f} s"
    rate = f"line of {SHAPE.bytes_per_s * 8 // 1_000_000} Mbit/s, 20 ms, shared by the city"
    return Row(
        what, f"{told.seconds:.1f} s", peer, told.seconds / alone.seconds, "≤ 1.5 ×", f"{rate}; {note}".rstrip("; ")
    )


async def _night(
    bench: Bench, origin: Origin, url: str, edges: int, dead: int = 0, liar: Mapping[str, int] | None = None
) -> _Told:
    async with AsyncExitStack() as stack:
        line = await stack.enter_async_context(open_line("127.0.0.1", urlsplit(url).port or 80, SHAPE))
        roots = [await new_edge(bench, origin, url, f"city-edge-{number}") for number in range(edges)]
        for root in roots:
            stack.callback(shutil.rmtree, root, ignore_errors=True)
        urls = [
            await stack.enter_async_context(
                serving(
                    ("edge", "serve", str(root), "--host", "127.0.0.1", "--port", "0", "--workers", "1"),
                    bench.directory / f"{root.name}.log",
                )
            )
            for root in roots
        ]
        strangers = [f"http://127.0.0.1:{_free_port()}" for _ in range(dead)]
        if liar:
            strangers.append(await stack.enter_async_context(_lying(liar)))
        began_s = time.monotonic()
        told = await asyncio.gather(
            *(_sync(root, line.url, own, urls, strangers) for root, own in zip(roots, urls, strict=True))
        )
        seconds = time.monotonic() - began_s
        banned = sum(bool(set(strangers) & set(banned)) for banned in told)
        return _Told(seconds, line.bytes_down, banned)


async def _sync(root: Path, above: str, own: str, urls: Sequence[str], strangers: Sequence[str]) -> dict[str, float]:
    """Sync one edge; gives whom it banned."""
    siblings = [one for one in urls if one != own] + list(strangers)
    env = {
        "YUANJIAO_UPSTREAM_URLS": above,
        "YUANJIAO_UPSTREAM_OWN_URL": own.rstrip("/"),
        "YUANJIAO_UPSTREAM_SIBLINGS": ",".join(siblings),
        "YUANJIAO_STORE_RESERVE_BYTES": "0",
    }
    command = (*PROGRAM, "edge", "sync", str(root), "--now", "--json")
    measured = await asyncio.to_thread(run_measured, command, env=env)
    banned: dict[str, float] = msgspec.json.decode(measured.out)["banned"]
    return banned


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as held:
        port: int = held.getsockname()[1]
        return port


@asynccontextmanager
async def _lying(sizes: Mapping[str, int]) -> AsyncIterator[str]:
    """A sibling that says it has everything and sends zeros."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, asyncio.IncompleteReadError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            writer.write(_lie(head, sizes))
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()


def _lie(head: str, sizes: Mapping[str, int]) -> bytes:
    _, kind, name = head.split(" ", 2)[1].split("/", 2)
    size, asked = sizes.get(name, 0), _RANGE.search(head)
    if kind == "pieces" and size:
        count = piece_count(size, PIECE_SIZE)
        return _answer("200 OK", dump_bits(range(count), count))
    if kind == "blobs" and size and asked:
        first, last = int(asked[1]), int(asked[2])
        return _answer(
            "206 Partial Content", bytes(last - first + 1), f"Content-Range: bytes {first}-{last}/{size}\r\n"
        )
    return _answer("404 Not Found", b"")


def _answer(status: str, body: bytes, fields: str = "") -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n{fields}Connection: close\r\n\r\n".encode() + body
