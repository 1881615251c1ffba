"""One edge of the measured city, a process of its own: it serves what it has, and syncs once when it is told to.

Arguments: its directory and the number of a bound socket that it was given. "ready" goes to standard output once it
serves; a line on standard input begins the sync, whose report follows as one line of JSON. It serves on until its
standard input is closed, for siblings may lack what it has.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec

from edge import app as edge_app
from edge.app import Edge
from edge.metrics import Counters, shared_rows
from edge.serve.order import Signals
from edge.serve.worker import run_worker
from manifests.errors import YuanjiaoError
from origin.clock import system_clock
from tools.logs import configure_logs

_STOP_S = 20.0


def main() -> None:
    """Entry of the process."""
    configure_logs(level=logging.WARNING)
    try:
        asyncio.run(_run(Path(sys.argv[1]), socket.socket(fileno=int(sys.argv[2]))))
    except YuanjiaoError as error:
        sys.exit(error.message)


async def _run(root: Path, listener: socket.socket) -> None:
    async with edge_app.open_edge(root, os.environ, system_clock) as edge, _serving(edge, listener):
        _say(b"ready")
        if await asyncio.to_thread(sys.stdin.readline):
            _say(msgspec.json.encode(await edge_app.sync(edge)))
            await asyncio.to_thread(sys.stdin.read)


def _say(line: bytes) -> None:
    sys.stdout.buffer.write(line + b"\n")
    sys.stdout.buffer.flush()


@asynccontextmanager
async def _serving(edge: Edge, listener: socket.socket) -> AsyncIterator[None]:
    file = shared_rows(1)
    counters = Counters(file, 0, 1)
    os.close(file)
    stop, ready = asyncio.Event(), asyncio.Event()
    signals = Signals(stop, ready.set)
    listener.setblocking(False)
    task = asyncio.create_task(run_worker(edge.paths.root, edge.settings, listener, counters, system_clock, signals))
    listening = asyncio.create_task(ready.wait())
    await asyncio.wait({task, listening}, return_when=asyncio.FIRST_COMPLETED)
    listening.cancel()
    if task.done():
        task.result()
    try:
        yield
    finally:
        stop.set()
        await asyncio.wait_for(task, _STOP_S)
        counters.close()


if __name__ == "__main__":
    main()
