"""The filler's process: told like a worker, kept alive by the supervisor, works through `edge.fill.filler`."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from pathlib import Path

import structlog

from edge.fill.filler import Filler
from edge.fill.link import listen
from edge.fill.parts import FillParts
from edge.metrics import Counters
from edge.serve.order import read_order, work_beside
from edge.settings import Settings

# A filler that is being replaced gives its name back when it is done.
_LISTEN_AGAIN_S = 0.2

_log = structlog.get_logger(__name__)


async def _fill(filler: Filler, root: Path) -> None:
    """Listen as soon as the filler before this one has ended, and fill."""
    is_told = False
    while True:
        try:
            listener = listen(root)
            break
        except OSError as error:
            if not is_told:
                is_told = True
                _log.warning("filler_waits", reason=error.strerror or str(error))
            await asyncio.sleep(_LISTEN_AGAIN_S)
    await filler.run(listener)


def main(put_together: Callable[[Path, Settings], FillParts]) -> None:
    """Entry of the filler's process; it is told like a worker (see `edge.serve.order`).

    Args:
        put_together: makes what the filler works with; `edge.sync.foreground` has it.
    """
    order = read_order(filler=True)
    parts = put_together(Path(order.root), order.settings)

    async def fill() -> None:
        await _fill(Filler(parts, Counters(order.rows_file, order.row, order.rows)), Path(order.root))

    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(work_beside(fill()))
