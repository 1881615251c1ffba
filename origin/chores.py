"""What an origin does now and then beside answering: tried again for as long as it serves, whatever goes wrong."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

import structlog

from manifests.errors import BusyError, YuanjiaoError

log = structlog.get_logger(__name__)


async def keep_doing(
    what: str,
    act: Callable[[], Awaitable[object]],
    every_s: float,
    *,
    woken: asyncio.Event | None = None,
    failed: Callable[[], None] | None = None,
) -> None:
    """Do something now and then every `every_s`, until cancelled; a fault is logged when it is new, and when it ends.

    Args:
        what: for the log, in one or two words.
        act: does it once.
        every_s: how long to wait after it was done.
        woken: does it at once when set.
        failed: told of each fault, for the figures.
    """
    last_fault = ""
    while True:
        if woken is not None:
            woken.clear()  # before it is done: what comes meanwhile is not overlooked
        fault = ""
        try:
            await act()
        except BusyError:
            pass  # another process is at it
        except YuanjiaoError as error:
            fault = error.message
        except Exception as error:  # noqa: BLE001 - a bug in a chore must not end it: what it failed in, it tries again
            fault = repr(error)
        if fault and failed is not None:
            failed()
        if fault and fault != last_fault:
            log.error("chore_failed", what=what, reason=fault)
        elif last_fault and not fault:
            log.info("chore_works_again", what=what)
        last_fault = fault
        await _pause(every_s, woken)


async def _pause(every_s: float, woken: asyncio.Event | None) -> None:
    if woken is None:
        await asyncio.sleep(every_s)
    else:
        with suppress(TimeoutError):
            await asyncio.wait_for(woken.wait(), every_s)
