"""What goes on beside answering goes on, whatever it meets."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress

import pytest
from structlog.testing import capture_logs

from manifests.errors import BusyError, StorageError
from origin.chores import keep_doing


class Scripted:
    """Does what it is told, one outcome after the other, and is awaited for ever after the last."""

    def __init__(self, *outcomes: Exception | None) -> None:
        self.outcomes = list(outcomes)
        self.count = 0
        self.is_done = asyncio.Event()

    async def __call__(self) -> None:
        if not self.outcomes:
            self.is_done.set()
            await asyncio.Event().wait()
        self.count += 1
        outcome = self.outcomes.pop(0)
        if outcome is not None:
            raise outcome


async def _run(act: Scripted, failed: Callable[[], None] | None = None) -> list[tuple[str, str]]:
    """Let it come to its end; what stands in the log: event and reason."""
    with capture_logs() as told:
        task = asyncio.create_task(keep_doing("work", act, 0, failed=failed))
        await asyncio.wait_for(act.is_done.wait(), 30)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    return [(one["event"], one.get("reason", "")) for one in told]


async def test_neither_an_error_nor_a_bug_ends_it_and_each_is_told_once() -> None:
    act = Scripted(
        None, StorageError("disk"), StorageError("disk"), OSError(28, "full"), ValueError("a bug"), None, None
    )
    faults: list[int] = []
    told = await _run(act, lambda: faults.append(1))
    assert (act.count, len(faults)) == (7, 4)
    assert told == [
        ("chore_failed", "disk"),
        ("chore_failed", "OSError(28, 'full')"),
        ("chore_failed", "ValueError('a bug')"),
        ("chore_works_again", ""),
    ]


async def test_that_another_process_is_at_it_is_no_fault() -> None:
    faults: list[int] = []
    assert await _run(Scripted(BusyError("busy"), None), lambda: faults.append(1)) == []
    assert faults == []


async def test_it_is_woken_before_its_time_also_while_it_works() -> None:
    woken, begun, go_on = asyncio.Event(), asyncio.Semaphore(0), asyncio.Semaphore(0)

    async def act() -> None:
        begun.release()
        await go_on.acquire()

    task = asyncio.create_task(keep_doing("work", act, 3600, woken=woken))
    async with asyncio.timeout(30):
        await begun.acquire()
        woken.set()  # while it works: it is done once more
        go_on.release()
        await begun.acquire()
        go_on.release()
        woken.set()
        await begun.acquire()
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
