"""A server of nothing but the way from open files to sockets, and a page made by aiohttp's own writer."""

from __future__ import annotations

import asyncio
import hashlib
import os
import socket
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from aiohttp import web
from support.edge_store import make_blob

from edge.clock import system_clock
from edge.metrics import Cell, Counters, Result, shared_rows
from edge.serve.entries import Entry, EntryCache, open_entry
from edge.serve.express import Express
from edge.serve.protocol import EdgeServer, Limits
from edge.serve.response import BlobResponse, Lane
from edge.serve.sending import Sending
from edge.serve.shapes import Shape, Span
from manifests.digests import Digest, dump_etag
from manifests.ranges import Representation

BIG = make_blob(12_000_000, "big").data
DIGEST = Digest(hashlib.sha256(BIG).hexdigest())
WHAT = Representation(len(BIG), dump_etag(DIGEST), "video/mp4")
STALL_S = 0.4
LIMITS = Limits(stall_s=STALL_S, keepalive_s=30)
GET = "GET /blob HTTP/1.1\r\nHost: x\r\n\r\n"


@dataclass
class Bench:
    """The server, its file, and what it counted."""

    port: int
    file: Path
    entries: EntryCache
    counters: Counters
    server: EdgeServer

    def entry(self) -> Entry:
        found = self.entries.get("/blob")
        assert found is not None
        return found

    def total(self, cell: Cell | Result) -> int:
        return self.counters.total(cell)

    async def until(self, cell: Cell | Result, count: int) -> None:
        async with asyncio.timeout(60):
            while self.total(cell) < count:
                await asyncio.sleep(0.005)

    async def until_left(self, connections: int = 0) -> None:
        async with asyncio.timeout(60):
            while self.server.direct_count > connections or len(self.server.connections) > connections:
                await asyncio.sleep(0.005)


@asynccontextmanager
async def open_bench(folder: Path, limits: Limits = LIMITS, *, express: bool = True) -> AsyncIterator[Bench]:
    """Serve until the block ends; `express` off sends every answer by a task."""
    file = folder / "blob"
    file.write_bytes(BIG)
    rows = shared_rows(1)
    counters = Counters(rows, 0, 1)
    os.close(rows)
    readers = ThreadPoolExecutor(2)
    lane = Lane(system_clock, counters)
    entries = EntryCache(4)

    def begin(asked: Shape | Span, address: str) -> Sending | None:
        entry = entries.get((asked if isinstance(asked, Shape) else asked.shape).key)
        return lane.begin_known(entry, asked, address) if entry is not None else None

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        if request.path == "/page":
            return web.Response(text="page " * 1_000_000)
        entry = entries.get("/blob")
        if entry is None:
            entry = open_entry(file, WHAT, DIGEST, "kj-1")
            entries.put("/blob", entry)
        keeps, is_old = request.keep_alive, request.version < (1, 1)
        sending = lane.begin(entry, request.method, request.headers, keep_alive=keeps, is_old=is_old)
        return BlobResponse(lane, sending, request)

    lane.server = EdgeServer(handle, limits, readers, Express(begin, lane.tell_begun, lane.end) if express else None)
    runner = web.ServerRunner(lane.server, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield Bench(runner.addresses[0][1], file, entries, counters, lane.server)
    await runner.cleanup()
    entries.clear()
    readers.shutdown()
    counters.close()


async def small_window(port: int) -> socket.socket:
    """A client that takes little at a time."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.setblocking(False)
    await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port))
    return sock


def take_all(sock: socket.socket) -> None:
    """From now on this client takes what comes: megabytes in windows of 4 kB would be a matter of minutes."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)


async def ask(sock: socket.socket, text: str = GET) -> None:
    await asyncio.get_running_loop().sock_sendall(sock, text.encode())
