"""One worker: a loop, a socket of its own on the shared port, and the site.

Run as a process by the supervisor (`python -m edge.serve.worker`): its order comes as one JSON line on standard input,
which then stays open as the sign that the supervisor lives; "ready" goes to standard output. SIGTERM ends it. SIGUSR1
tells it that its successor listens on the same socket: it accepts nobody more, and ends when its clients have left.
"""

from __future__ import annotations

import asyncio
import contextlib
import resource
import signal
import socket
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import structlog
from aiohttp import web

from edge.clock import Clock, system_clock
from edge.metrics import Cell, Counters
from edge.paths import Paths
from edge.serve.order import Order, Signals, ignore_hangup, raise_file_limit, stop_on_signals, wait_for_parent
from edge.serve.pages import Pages
from edge.serve.protocol import EdgeServer, Limits
from edge.serve.response import Lane
from edge.serve.site import Site
from edge.serve.stock import LOOK_S, Stock
from edge.settings import Serve, Settings
from edge.store.blobs import BlobStore
from edge.store.library import Library

BACKLOG = 1024
# Threads that wait for the disk when a range is not in memory: enough to keep a disk busy, few enough to stay fair.
COLD_READERS = 8
# Descriptors beside those of clients and blobs: index, logs, pipes, and files that are being opened.
SPARE_FILES = 128
RETIRE_LOOK_S = 0.05


async def run_worker(
    root: Path, settings: Settings, listener: socket.socket, counters: Counters, clock: Clock, signals: Signals
) -> None:
    """Serve until told to stop, then let running answers end within the deadline.

    Args:
        root: the edge's directory.
        settings: of this edge.
        listener: bound, not listening yet; closed at the end.
        counters: this worker's.
        clock: wall clock.
        signals: see there.

    Raises:
        StorageError: environment; the index can be neither opened nor rebuilt.
    """
    paths = Paths(root)
    store = await asyncio.to_thread(BlobStore.open, paths, read_only=True)
    readers = ThreadPoolExecutor(COLD_READERS, "cold-read")
    try:
        stock = Stock(paths, settings, store, Library(store), clock)
        await stock.look()
        lane = Lane(clock, counters)
        site = Site(stock, lane, Pages())
        lane.server = EdgeServer(site.handle, _limits(settings.serve), readers, site.express)
        lane.server.drain_s = settings.serve.shutdown_s
        runner = web.ServerRunner(lane.server)
        await runner.setup()
        door = web.SockSite(runner, listener, backlog=BACKLOG)
        await door.start()
        try:
            async with asyncio.TaskGroup() as tasks:
                chores = [
                    tasks.create_task(stock.watch()),
                    tasks.create_task(stock.mend()),
                    tasks.create_task(_gauge(stock, lane)),
                ]
                signals.ready()
                await _until_told(signals)
                if not signals.stop.is_set():
                    await door.stop()
                    await _retire(lane.server, signals.stop)
                for chore in chores:
                    chore.cancel()
        finally:
            await runner.cleanup()
            stock.close()
    finally:
        listener.close()
        readers.shutdown(wait=False, cancel_futures=True)
        store.close()


async def _until_told(signals: Signals) -> None:
    waiting = [asyncio.create_task(event.wait()) for event in (signals.stop, signals.renew)]
    try:
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for one in waiting:
            one.cancel()


async def _retire(server: EdgeServer, stop: asyncio.Event) -> None:
    """Let clients go one by one: who asks again is told that this was the last answer here, and finds the successor."""
    server.retire()
    loop = asyncio.get_running_loop()
    ends = loop.time() + server.drain_s
    while server.connections and not stop.is_set() and loop.time() < ends:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), RETIRE_LOOK_S)
    server.drain_s = max(0.0, ends - loop.time())


def _limits(serve: Serve) -> Limits:
    """What clients may cost: a connection takes two descriptors, and some must be left for files and the index."""
    room = (resource.getrlimit(resource.RLIMIT_NOFILE)[0] - serve.open_files - SPARE_FILES) // 2
    return Limits(serve.stall_s, serve.keepalive_s, serve.max_header_bytes, max(min(serve.connections, room), 16))


async def _gauge(stock: Stock, lane: Lane) -> None:
    while True:
        lane.tell_sent()
        lane.counters.set(Cell.CONNECTIONS, len(lane.server.connections))
        lane.counters.set(Cell.DESCRIPTORS, len(stock.entries))
        await asyncio.sleep(LOOK_S)


async def _main(order: Order) -> None:
    signals = Signals(asyncio.Event(), lambda: print("ready", flush=True))  # noqa: T201 - the supervisor waits for it
    stop_on_signals(signals.stop)
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, signals.renew.set)
    counters = Counters(order.rows_file, order.row, order.rows)
    listener = socket.socket(fileno=order.listener)
    listener.setblocking(False)
    parent = asyncio.create_task(wait_for_parent(signals.stop))
    try:
        await run_worker(Path(order.root), order.settings, listener, counters, system_clock, signals)
    finally:
        parent.cancel()


def main() -> None:
    """Entry of a worker process; whoever wants its log in another form sets structlog up before."""
    order = msgspec.json.decode(sys.stdin.buffer.readline(), type=Order)
    if not structlog.is_configured():
        structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    structlog.contextvars.bind_contextvars(worker=order.row)
    raise_file_limit()
    ignore_hangup()
    asyncio.run(_main(order))


if __name__ == "__main__":
    main()
