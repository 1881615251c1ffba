"""Work that is not left behind: side by side until all have ended, or to its end though the caller is cancelled."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Final, TypeVar

import structlog

T = TypeVar("T")

_log: Final = structlog.get_logger(__name__)


async def run_together(*works: Coroutine[Any, Any, T]) -> list[T]:
    """Run works side by side; their results, in the order given.

    The first of them (in that order) that fails ends the others; when this returns or raises, none is left running.
    Not a task group: what is raised is the fault itself, as if the works had run one after another.
    """
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        return [await task for task in tasks]
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def outlast(work: asyncio.Future[T], stop: Callable[[], object] | None = None) -> T:
    """Wait until work has ended, however often the caller is cancelled meanwhile; he hears of it afterwards.

    Args:
        work: a task that must run to its end; or a thread (`run_in_executor`, whose future a closing loop does not
            cancel as it cancels the task of `to_thread`), which cannot be called back once it runs.
        stop: asks the work to end early; called when the caller is cancelled.
    """
    cancelled: asyncio.CancelledError | None = None
    while not work.done():
        try:
            await asyncio.wait({work})
        except asyncio.CancelledError as error:
            cancelled = error
            if stop is not None:
                stop()
    if cancelled is None:
        return work.result()
    if not work.cancelled() and (fault := work.exception()) is not None:
        _log.warning("failed_after_its_caller_was_cancelled", reason=str(fault))
    raise cancelled
