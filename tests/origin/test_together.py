"""Work that is not left behind: what ends with what, and who waits for whom."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import pytest
from support.releases import draft, open_releases

from manifests.errors import BusyError
from origin.publish.lock import publish_lock
from origin.publish.signing import Signatory
from origin.publish.together import outlast, run_together


async def test_results_come_in_the_order_given() -> None:
    later = asyncio.Event()

    async def first() -> int:
        await later.wait()
        return 1

    async def second() -> int:
        later.set()
        return 2

    assert await run_together(first(), second()) == [1, 2]


async def test_a_fault_ends_the_others_before_it_is_raised() -> None:
    ended: list[str] = []

    async def endless() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            ended.append("endless")

    async def faulty() -> None:
        raise ValueError("the fault itself, in no group")

    with pytest.raises(ValueError, match="the fault itself"):
        await run_together(faulty(), endless())
    assert ended == ["endless"]


async def test_a_thread_is_outlasted_however_often_its_caller_is_cancelled() -> None:
    go, stops = threading.Event(), []
    work = asyncio.get_running_loop().run_in_executor(None, go.wait)
    task = asyncio.create_task(outlast(work, lambda: stops.append(1)))
    for n in range(3):
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait({task}, timeout=0.02)
        assert not task.done(), n
    go.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert work.done()
    assert len(stops) == 3


async def test_the_lock_is_held_while_role_files_are_written_though_everything_is_cancelled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a second Ctrl-C does: every task of the loop is cancelled, those within the release too."""
    writing, go = threading.Event(), threading.Event()
    issue = Signatory.issue

    def slow_issue(*args: object, **kwargs: object) -> None:
        writing.set()
        assert go.wait(20)
        issue(*args, **kwargs)  # type: ignore[arg-type]

    async with open_releases(tmp_path / "origin") as releases:
        await releases.establish()
        monkeypatch.setattr(Signatory, "issue", slow_issue)
        task = asyncio.create_task(releases.publish(draft()))
        await asyncio.to_thread(writing.wait, 20)
        for _ in range(2):
            for one in asyncio.all_tasks() - {asyncio.current_task()}:
                one.cancel()
            await asyncio.sleep(0.02)
        with pytest.raises(BusyError):
            async with publish_lock(tmp_path / "origin" / "publish.lock", 0):
                pass
        go.set()
        with pytest.raises(asyncio.CancelledError):
            await task
        async with publish_lock(tmp_path / "origin" / "publish.lock", 1):
            pass
        monkeypatch.undo()
        await releases.publish(draft("kj-2"))
