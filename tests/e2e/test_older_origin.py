"""An origin rebuilt from an old backup: edges refuse its release, go on serving, and follow it once it is past it."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

import pytest
from support.origins import found_origin
from support.portal import get, served
from support.program import spawn
from support.receipts import article, make_edge, open_edge, origin_at, sync

from edge.clock import system_clock
from manifests.errors import RollbackError

# Releases that the lost ones and the renewals between them can amount to.
MOST = 8


def _copy(root: Path, to: Path) -> Path:
    """A backup of a closed origin, or the way back from one."""
    shutil.rmtree(to, ignore_errors=True)
    shutil.copytree(root, to)
    return to


async def _versions(root: Path) -> dict[str, int]:
    async with open_edge(root) as edge:
        return edge.library.versions()


async def _follows(root: Path) -> bool:
    try:
        return bool((await sync(root)).added)
    except RollbackError:
        return False


async def test_an_older_release_is_refused_until_the_origin_is_past_it(tmp_path: Path) -> None:
    root, one = tmp_path / "origin", tmp_path / "one"
    await asyncio.to_thread(found_origin, root)
    async with origin_at(root) as (origin, url):
        await article(origin, tmp_path, "wheat")
        await make_edge(origin, url, one)
        await sync(one)
    old = _copy(root, tmp_path / "backup")
    async with origin_at(root, int(url.rpartition(":")[2])) as (origin, url):
        await article(origin, tmp_path, "maize")
        await article(origin, tmp_path, "wheat", "第二版")
        await sync(one)
    maize = (tmp_path / "maize.md").read_bytes()
    newest = {"wheat": 2, "maize": 1}
    assert await _versions(one) == newest
    _copy(old, root)
    async with (
        origin_at(root, int(url.rpartition(":")[2])) as (origin, url),
        served(one, system_clock) as port,
    ):
        with pytest.raises(RollbackError):
            await sync(one)
        done = await asyncio.to_thread(spawn, "edge", "sync", one, YUANJIAO_STORE_RESERVE_BYTES="0")
        assert done.code == 3, done.err
        for number in range(1, MOST + 1):
            assert await _versions(one) == newest
            answer = await get(port, "/media/maize/maize.md")
            assert (answer.status, answer.body) == (200, maize), "what was proved is served all the while"
            await article(origin, tmp_path, f"rye-{number}")
            if await _follows(one):
                break
        # A release of the same number as the edge's own is not news; one below it is refused.
        assert number > 1
        rye = {f"rye-{one}": 1 for one in range(1, number + 1)}
        assert await _versions(one) == {"wheat": 1, **rye}, "what the rebuilt origin says now"
