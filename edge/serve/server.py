"""Serving an edge: settings, port, one worker here or several under a supervisor, and the keeper and filler beside."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import structlog

from edge.clock import Clock
from edge.metrics import Cell, Counters, shared_rows
from edge.paths import Paths
from edge.serve.supervisor import WORKER, Post, Supervisor
from edge.serve.worker import Order, Signals, allowance_of, listen, raise_file_limit, run_worker, stop_on_signals
from edge.settings import Settings
from edge.store.blobs import BlobStore
from edge.store.configuration import read_bundle, read_settings
from edge.sync.lines import schedule_of, zone_of
from manifests.errors import ConfigurationError

Ready = Callable[[str], None]

_log = structlog.get_logger(__name__)


async def serve(
    root: Path,
    host: str | None,
    port: int | None,
    workers: int | None,
    env: Mapping[str, str],
    clock: Clock,
    ready: Ready | None = None,
    *,
    stop: asyncio.Event | None = None,
    worker_command: Sequence[str] = WORKER,
    keeper_command: Sequence[str] = (),
    filler_command: Sequence[str] = (),
) -> None:
    """Serve an edge until SIGTERM, SIGINT or `stop`; running answers end within `serve.shutdown_s`.

    Args:
        root: the edge's directory.
        host: address to listen on; None for the setting.
        port: TCP port, 0 to have one chosen; None for the setting.
        workers: processes; None for the setting, 0 for one per core, 1 serves in this process.
        env: environment, for settings.
        clock: wall clock of a worker in this process; processes of their own read the system's.
        ready: told the address once it is served.
        stop: ends serving; without it the two signals do.
        worker_command: starts a worker process; one that sets its log up and then calls `edge.serve.worker.main`.
        keeper_command: starts the keeper's process, which syncs; without it this edge is only served.
        filler_command: starts the filler's process, which fetches what terminals ask for and is not here.

    Raises:
        ConfigurationError: no edge here, a bad setting, or the port is taken; told before any worker starts.
        StorageError: environment; the index can be neither opened nor rebuilt.
    """
    settings = read_settings(Paths(root), env)
    # Told here, and not by each worker as it dies of them.
    allowance_of(settings.serve)
    zone_of(settings.sync)
    count = settings.serve.workers if workers is None else workers
    count = count or os.cpu_count() or 1
    if (keeper_command or filler_command) and not _can_keep(Paths(root), settings):
        keeper_command = filler_command = ()
    host = host or settings.serve.host
    holder = hold_port(host, settings.serve.port if port is None else port, shared=count > 1)
    address = _address(holder)
    if stop is None:
        stop = asyncio.Event()
        stop_on_signals(stop)
    raise_file_limit()

    def tell() -> None:
        _log.info("serving", address=address, workers=count)
        if ready is not None:
            ready(address)

    rows = count + 3  # the workers, the keeper, the filler, and this process
    rows_file = shared_rows(rows)
    counters = Counters(rows_file, rows - 1, rows)
    counters.set(Cell.WORKERS, count)
    order = Order(str(root.resolve()), host, holder.getsockname()[1], rows_file, 0, rows, settings)
    posts = [Post(count, tuple(keeper_command), "keeper")] if keeper_command else []
    if filler_command and settings.fill.enabled:
        posts.append(Post(count + 1, tuple(filler_command), "filler"))
    signals = Signals(stop, tell)
    try:
        if count == 1:
            async with _beside(Supervisor(order, counters, signals, posts)):
                await run_worker(root, settings, holder, counters, clock, signals)
        else:
            # A lost index is rebuilt once, here, and not by every worker at once.
            await asyncio.to_thread(lambda: BlobStore.open(Paths(root), read_only=True).close())
            posts += [Post(row, tuple(worker_command)) for row in range(count)]
            await Supervisor(order, counters, signals, posts).run()
    finally:
        holder.close()
        counters.close()
        os.close(rows_file)


def _can_keep(paths: Paths, settings: Settings) -> bool:
    """Whether there can be nights. Without its bundle an edge can fetch nothing, but serves what it has all the same.

    Raises:
        ConfigurationError: bad data; a setting of the night, told now and not in the night.
    """
    schedule_of(settings.sync, "")
    try:
        read_bundle(paths)
    except ConfigurationError as error:
        _log.error("no_nights", reason=error.message, hint=error.hint)
        return False
    return True


@asynccontextmanager
async def _beside(supervisor: Supervisor) -> AsyncIterator[None]:
    """Keep processes alive during the block; told to stop they end in order, otherwise at once."""
    running = asyncio.create_task(supervisor.run())
    is_told = False
    try:
        yield
        is_told = True
    finally:
        if not is_told:
            running.cancel()
        with suppress(asyncio.CancelledError):
            await running


def hold_port(host: str, port: int, *, shared: bool) -> socket.socket:
    """Make sure that the port is nobody else's, then bind it.

    A shared port would be taken silently beside another server of this user, so one that does not share is tried first.

    Raises:
        ConfigurationError: the port is taken, or the address is not this machine's.
    """
    if shared and port:
        listen(host, port, shared=False).close()
    return listen(host, port, shared=shared)


def _address(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
