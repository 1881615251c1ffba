"""Serving an edge: settings, port, one worker here or several under a supervisor, and the keeper and filler beside."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path

import structlog

from edge.clock import Clock
from edge.metrics import Cell, Counters, shared_rows
from edge.paths import Paths
from edge.serve.allowance import allowance_of
from edge.serve.order import Order, Signals, listen, raise_file_limit, stop_on_signals
from edge.serve.processes import Launcher, Post
from edge.serve.supervisor import WORKER, Plan, Supervisor
from edge.serve.vendor import hls_version
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
    worker_command: Sequence[str] = (),
    keeper_command: Sequence[str] = (),
    filler_command: Sequence[str] = (),
) -> None:
    """Serve an edge until SIGTERM, SIGINT or `stop`; running answers end within `serve.shutdown_s`.

    SIGHUP has the settings read again and all processes replaced, one after the other: with a worker that serves in
    this process only the keeper and the filler are.

    Args:
        root: the edge's directory.
        host: address to listen on; None for the setting.
        port: TCP port, 0 to have one chosen; None for the setting.
        workers: processes; None for the setting, 0 for one per core.
        env: environment, for settings.
        clock: wall clock of a worker in this process; processes of their own read the system's.
        ready: told the address once it is served.
        stop: ends serving; without it the two signals do.
        worker_command: starts a worker process; one that sets its log up and then calls `edge.serve.worker.main`.
            Without it a single worker serves in this process.
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
    is_here = count == 1 and not worker_command
    holder = hold_port(host or settings.serve.host, settings.serve.port if port is None else port, shared=not is_here)
    address = _address(holder)
    renew = asyncio.Event()
    if stop is None:
        stop = asyncio.Event()
        stop_on_signals(stop)
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, renew.set)
    raise_file_limit()

    def tell() -> None:
        _log.info("serving", address=address, workers=count, hls_js=hls_version() or "absent")
        if ready is not None:
            ready(address)

    rows = count + 4  # the workers, the keeper, the filler, a successor, and this process
    rows_file = shared_rows(rows)
    counters = Counters(rows_file, rows - 1, rows)
    counters.set(Cell.WORKERS, count)
    posts = [] if is_here else [Post(row, tuple(worker_command or WORKER)) for row in range(count)]
    posts += [Post(count, tuple(keeper_command), "keeper")] if keeper_command else []
    if filler_command and settings.fill.enabled:
        posts.append(Post(count + 1, tuple(filler_command), "filler"))
    plan = Plan(
        posts,
        lambda: listen(*holder.getsockname()[:2], shared=True),
        partial(read_settings, Paths(root), env),
        count + 2,
    )
    launcher = Launcher(Order(str(root.resolve()), -1, rows_file, 0, rows, settings))
    supervisor = Supervisor(launcher, counters, Signals(stop, tell, renew), plan)
    try:
        if is_here:
            from edge.serve.worker import run_worker

            async with _beside(supervisor):
                await run_worker(root, settings, holder, counters, clock, Signals(stop, tell))
        else:
            # A lost index is rebuilt once, here, and not by every worker at once.
            await asyncio.to_thread(lambda: BlobStore.open(Paths(root), read_only=True).close())
            await supervisor.run()
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
