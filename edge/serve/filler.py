"""The filler's process: told like a worker, kept alive by the supervisor, works through `edge.fill.filler`."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec
import structlog

from edge.fill.filler import Filler
from edge.fill.link import listen
from edge.fill.parts import FillParts
from edge.metrics import Counters
from edge.serve.order import Order, ignore_hangup, stop_on_signals, wait_for_parent
from edge.settings import Settings
from edge.store.faults import storage_error

# A filler that is being replaced gives its name back when it is done.
_LISTEN_AGAIN_S = 0.2

_log = structlog.get_logger(__name__)


async def _main(order: Order, parts: FillParts) -> None:
    stop = asyncio.Event()
    stop_on_signals(stop)
    parent = asyncio.create_task(wait_for_parent(stop))
    filler = Filler(parts, Counters(order.rows_file, order.row, order.rows))
    filling = asyncio.create_task(_fill(filler, Path(order.root)))
    stopping = asyncio.create_task(stop.wait())
    print("ready", flush=True)  # noqa: T201 - the word that the supervisor waits for
    try:
        await asyncio.wait({filling, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if filling.done():
            filling.result()
    finally:
        for task in (filling, stopping, parent):
            task.cancel()
        await asyncio.wait({filling, stopping, parent})


async def _fill(filler: Filler, root: Path) -> None:
    """Listen as soon as the filler before this one has ended."""
    told = ""
    while True:
        try:
            listener = listen(root)
            break
        except OSError as error:
            fault = storage_error(error, "listening for workers", "等待工作进程连接")
            if fault.message != told:
                told = fault.message
                _log.warning("filler_not_listening", reason=fault.message, hint=fault.hint)
            await asyncio.sleep(_LISTEN_AGAIN_S)
    await filler.run(listener)


def main(put_together: Callable[[Path, Settings], FillParts]) -> None:
    """Entry of the filler's process.

    Args:
        put_together: makes what the filler works with; `edge.sync.foreground` has it.
    """
    order = msgspec.json.decode(sys.stdin.buffer.readline(), type=Order)
    if not structlog.is_configured():
        structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    structlog.contextvars.bind_contextvars(filler=True)
    ignore_hangup()
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_main(order, put_together(Path(order.root), order.settings)))
