"""One worker: a loop, a listening socket of its own on the shared port, and the site.

Run as a process by the supervisor (`python -m edge.serve.worker`): its order comes as one JSON line on standard input,
which then stays open as the sign that the supervisor lives; "ready" goes to standard output.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import resource
import signal
import socket
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import msgspec
import structlog
from aiohttp import web

from edge.clock import Clock, system_clock
from edge.fill.client import FillClient
from edge.metrics import Cell, Counters
from edge.paths import Paths
from edge.serve.accesslog import logging_access
from edge.serve.allowance import Allowance, Clients, parse_networks
from edge.serve.fills import Fills
from edge.serve.pages import Pages
from edge.serve.protocol import EdgeServer, Limits
from edge.serve.response import Lane
from edge.serve.site import Site
from edge.serve.stock import LOOK_S, Stock
from edge.settings import Serve, Settings
from edge.store.blobs import BlobStore
from edge.store.library import Library
from edge.sync.lines import zone_of
from manifests.errors import ConfigurationError

BACKLOG = 1024
# Threads that wait for the disk when a range is not in memory: enough to keep a disk busy, few enough to stay fair.
COLD_READERS = 8
# Descriptors beside those of clients and blobs: index, logs, pipes, and files that are being opened.
SPARE_FILES = 128
_REASONS = {
    errno.EADDRINUSE: "端口已被其他程序占用",
    errno.EADDRNOTAVAIL: "不是本机的地址",
    errno.EACCES: "没有权限（1024 以下的端口需要管理员权限）",
}


class Order(msgspec.Struct, frozen=True):
    """What a worker process is told, and the keeper's.

    Attributes:
        rows_file: descriptor of the shared counters; `row` of `rows` is this process's own.
    """

    root: str
    host: str
    port: int
    rows_file: int
    row: int
    rows: int
    settings: Settings


def listen(host: str, port: int, *, shared: bool) -> socket.socket:
    """Bind a TCP socket; the caller listens.

    Args:
        host: an address or a name of this machine.
        port: 0 chooses one.
        shared: let other sockets of this user bind the same port, for one per worker.

    Raises:
        ConfigurationError: the port is taken, or the address is not this machine's.
    """
    try:
        family, kind, proto, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        made = socket.socket(family, kind, proto)
        try:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if shared:
                made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            made.bind(address)
        except OSError:
            made.close()
            raise
    except OSError as error:
        reason = error.strerror or str(error)
        reason_zh = _REASONS.get(error.errno or 0, "地址无法识别" if isinstance(error, socket.gaierror) else reason)
        raise ConfigurationError(
            f"cannot listen on {host} port {port}: {reason}",
            zh=f"无法监听 {host} 端口 {port}：{reason_zh}",
            hint="stop the program that uses this port, or choose another (--port, serve.port)",
            hint_zh="请停止占用该端口的程序，或用 --port（或设置 serve.port）换一个端口",
        ) from error
    made.setblocking(False)
    return made


@dataclass(frozen=True, slots=True)
class Signals:
    """How a worker and its owner speak: `ready` is called once it listens, `stop` ends it."""

    stop: asyncio.Event
    ready: Callable[[], None]


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
            lane = Lane(clock, counters, readers, log)
            client = FillClient(paths, settings.fill, counters)
            fills = Fills(client, stock, lane) if settings.fill.enabled else None
            _open_lane(lane, Site(stock, lane, Pages(), fills), settings.serve)
            try:
                await _serve(stock, lane, listener, signals, client, fills)
            finally:
                stock.close()
    finally:
        listener.close()
        readers.shutdown(wait=False, cancel_futures=True)
        store.close()


def _open_lane(lane: Lane, site: Site, serve: Serve) -> None:
    server = lane.server = EdgeServer(site.handle, _limits(serve), site.express, Clients(allowance_of(serve)))
    server.counters, server.told = lane.counters, lane.tell_answered


async def _serve(
    stock: Stock, lane: Lane, listener: socket.socket, signals: Signals, client: FillClient, fills: Fills | None
) -> None:
    # aiohttp waits this long twice: for the answer, then for what its cancelling takes.
    runner = web.ServerRunner(lane.server, shutdown_timeout=stock.settings.serve.shutdown_s / 2)
    await runner.setup()
    await web.SockSite(runner, listener, backlog=BACKLOG).start()
    try:
        async with asyncio.TaskGroup() as tasks:
            chores = [
                tasks.create_task(stock.watch()),
                tasks.create_task(stock.mend()),
                tasks.create_task(_gauge(stock, lane)),
                tasks.create_task(client.run()),
                tasks.create_task(_tell_used(fills)),
            ]
            signals.ready()
            await signals.stop.wait()
            for chore in chores:
                chore.cancel()
    finally:
        await runner.cleanup()
        lane.counters.set(Cell.CONNECTIONS, 0)


def allowance_of(serve: Serve) -> Allowance:
    """What one client address may do.

    Raises:
        ConfigurationError: bad data; a network that is none.
    """
    free = parse_networks(serve.unlimited)
    return Allowance(serve.requests_per_s, serve.requests_burst, serve.connections_per_client, free)


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


def raise_file_limit() -> None:
    """A socket, its duplicate and a file per viewer: take all the descriptors that the system allows."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def stop_on_signals(stop: asyncio.Event) -> None:
    """Set `stop` on SIGTERM and SIGINT."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)


async def _main(order: Order) -> None:
    stop = asyncio.Event()
    stop_on_signals(stop)
    counters = Counters(order.rows_file, order.row, order.rows)
    listener = listen(order.host, order.port, shared=True)
    parent = asyncio.create_task(wait_for_parent(stop))
    signals = Signals(stop, lambda: print("ready", flush=True))  # noqa: T201 - the word that the supervisor waits for
    try:
        await run_worker(Path(order.root), order.settings, listener, counters, system_clock, signals)
    finally:
        parent.cancel()


async def wait_for_parent(stop: asyncio.Event) -> None:
    """End with the supervisor, also when that was killed: its end of the pipe closes then."""
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while await reader.read(1024):
        pass
    stop.set()


def main() -> None:
    """Entry of a worker process; whoever wants its log in another form sets structlog up before."""
    order = msgspec.json.decode(sys.stdin.buffer.readline(), type=Order)
    if not structlog.is_configured():
        structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    structlog.contextvars.bind_contextvars(worker=order.row)
    raise_file_limit()
    asyncio.run(_main(order))


if __name__ == "__main__":
    main()
