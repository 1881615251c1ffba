"""Serving an edge: settings, port, one worker here or several under a supervisor."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import structlog

from edge.clock import Clock
from edge.metrics import Cell, Counters, shared_rows
from edge.paths import Paths
from edge.serve.supervisor import WORKER, Supervisor
from edge.serve.worker import Order, Signals, listen, raise_file_limit, run_worker, stop_on_signals
from edge.store.blobs import BlobStore
from edge.store.configuration import read_settings

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

    Raises:
        ConfigurationError: no edge here, a bad setting, or the port is taken; told before any worker starts.
        StorageError: environment; the index can be neither opened nor rebuilt.
    """
    settings = read_settings(Paths(root), env)
    count = settings.serve.workers if workers is None else workers
    count = count or os.cpu_count() or 1
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

    rows_file = shared_rows(count + 1)
    counters = Counters(rows_file, count, count + 1)
    try:
        if count == 1:
            counters.set(Cell.WORKERS, 1)
            await run_worker(root, settings, holder, counters, clock, Signals(stop, tell))
        else:
            # A lost index is rebuilt once, here, and not by every worker at once.
            await asyncio.to_thread(lambda: BlobStore.open(Paths(root), read_only=True).close())
            order = Order(str(root.resolve()), host, holder.getsockname()[1], rows_file, 0, count + 1, settings)
            await Supervisor(order, counters, Signals(stop, tell), worker_command).run()
    finally:
        holder.close()
        counters.close()
        os.close(rows_file)


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
