"""One worker: a loop, a socket of its own on the shared port, and the site.

Run as a process by the supervisor (`python -m edge.serve.worker`): its order comes as one JSON line on standard input,
which then stays open as the sign that the supervisor lives; "ready" goes to standard output. SIGTERM ends it. SIGUSR1
tells it that its successor listens on the same socket: it accepts nobody more, and ends when its clients have left.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import resource
import signal
import socket
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from aiohttp import web

from edge.clock import Clock, system_clock
from edge.fill.client import FillClient
from edge.metrics import Cell, Counters
from edge.paths import Paths
from edge.serve.accesslog import logging_access
from edge.serve.allowance import Clients, allowance_of
from edge.serve.fills import Fills
from edge.serve.nearness import choose_congestion
from edge.serve.order import Order, Signals, raise_file_limit, read_order, stop_on_signals, wait_for_parent
from edge.serve.pages import Pages
from edge.serve.protocol import EdgeServer, Limits
from edge.serve.response import Lane
from edge.serve.site import Site
from edge.serve.stock import LOOK_S, Stock
from edge.settings import Serve, Settings
from edge.store.blobs import BlobStore
from edge.store.library import Library
from edge.sync.lines import zone_of

BACKLOG = 1024
# Threads that wait for the disk when a range is not in memory: enough to keep a disk busy, few enough to stay fair.
COLD_READERS = 8
# Descriptors beside those of clients and blobs: index, logs, pipes, and files that are being opened.
SPARE_FILES = 128
RETIRE_LOOK_S = 0.05
# Objects made and not freed until the collector looks at the youngest.
GARBAGE = 50_000


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
        async with logging_access(settings.log, paths.log, zone_of(settings.sync), counters, clock) as log:
            lane = Lane(clock, counters, log)
            client = FillClient(paths, settings.fill, counters)
            fills = Fills(client, stock, lane) if settings.fill.enabled else None
            _open_lane(lane, Site(stock, lane, Pages(), fills), settings.serve, readers)
            lane.server.congestion = choose_congestion(listener, settings.serve.near_congestion)
            chores = (stock.watch, stock.mend, partial(_gauge, stock, lane), client.run, partial(_tell_used, fills))
            try:
                await _serve(lane, listener, signals, chores)
            finally:
                stock.close()
    finally:
        listener.close()
        readers.shutdown(wait=False, cancel_futures=True)
        store.close()


def _open_lane(lane: Lane, site: Site, serve: Serve, readers: Executor) -> None:
    clients = Clients(allowance_of(serve))
    server = lane.server = EdgeServer(site.handle, _limits(serve), readers, site.express, clients)
    server.counters, server.told = lane.counters, lane.tell_answered
    server.drain_s = serve.shutdown_s


async def _serve(
    lane: Lane, listener: socket.socket, signals: Signals, chores: Sequence[Callable[[], Coroutine[Any, Any, None]]]
) -> None:
    """Serve beside the worker's chores, which end with it."""
    runner = web.ServerRunner(lane.server)
    await runner.setup()
    door = web.SockSite(runner, listener, backlog=BACKLOG)
    await door.start()
    try:
        async with asyncio.TaskGroup() as tasks:
            running = [tasks.create_task(chore()) for chore in chores]
            signals.ready()
            await _until_told(signals)
            if not signals.stop.is_set():
                await door.stop()
                await _retire(lane.server, signals.stop)
            for one in running:
                one.cancel()
    finally:
        await runner.cleanup()
        lane.counters.set(Cell.CONNECTIONS, 0)


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


async def _tell_used(fills: Fills | None) -> None:
    while fills is not None:
        fills.tell_used()
        await asyncio.sleep(LOOK_S)


def _ready() -> None:
    """All that is there now stays: the collector need not walk over it, nor after every 700 answers.

    A thousand connections and the lines that wait for the log are no garbage (measured: 9 % of a small answer).
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(GARBAGE, 20, 20)
    print("ready", flush=True)  # noqa: T201 - the supervisor waits for it


async def _main(order: Order) -> None:
    signals = Signals(asyncio.Event(), _ready)
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
    """Entry of a worker process."""
    order = read_order()
    raise_file_limit()
    asyncio.run(_main(order))


if __name__ == "__main__":
    main()
