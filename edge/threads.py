"""Blocking work in threads that outlives no one: cancelled or not, the thread has ended when the await returns.

`asyncio.to_thread` lets go of a thread on cancellation; one that still writes to a descriptor which its owner then
closes would write into whatever gets that number next.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

T = TypeVar("T")


async def run_to_end(work: Callable[..., T], *args: Any, undo: Callable[[T], object] | None = None) -> T:
    """Run `work(*args)` in a thread; when cancelled, wait for it, undo its result, and only then be cancelled."""
    running = asyncio.get_running_loop().run_in_executor(None, partial(work, *args))
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        await asyncio.wait([running])
        if undo is not None and running.exception() is None:
            undo(running.result())
        raise


async def run_stoppable(work: Callable[[threading.Event], T]) -> T:
    """Run `work(stop)` in a thread; when cancelled, set `stop`, by which long work ends early, and wait for it."""
    stop = threading.Event()
    running = asyncio.get_running_loop().run_in_executor(None, work, stop)
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        stop.set()
        await asyncio.wait([running])
        raise
