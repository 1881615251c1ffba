"""A sync that evicts, killed in the midst of it; and one beside a keeper that evicts at the same time."""

from __future__ import annotations

import asyncio
import os
import random
import sys
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from support.edge_lives import PYTHONPATH
from support.edges import edge_at, run, stored
from support.province import ManualClock, Province, Site

from edge.paths import Paths
from edge.store.blobs import BlobStore
from edge.store.evicting import limits_of, make_room
from edge.store.eviction import BIG_BYTES
from edge.store.failpoints import VARIABLE
from edge.store.library import Library
from edge.store.usage import Usage

SIZE = BIG_BYTES + 4096
NAMES = [f"old-{n}" for n in range(3)] + [f"new-{n}" for n in range(3)]
FILMS = {name: random.Random(name).randbytes(SIZE) for name in NAMES}
QUOTA = {"store_quota_bytes": str(3 * SIZE + 200_000)}


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def province(clock: ManualClock) -> Province:
    made = Province(clock)
    for name in NAMES[:3]:
        made.lesson(name, {"video.mp4": FILMS[name]}, priority=2)
    made.release()
    return made


@pytest.fixture
async def site(province: Province) -> AsyncIterator[Site]:
    async with province.site().running() as running:
        yield running


@pytest.fixture
async def root(tmp_path: Path, province: Province, clock: ManualClock, site: Site) -> Path:
    """An edge that is full, and a release of three lessons that displace what it has."""
    async with edge_at(tmp_path, province, clock, site.url, **QUOTA) as edge:
        await run(edge)
    for name in NAMES[3:]:
        province.lesson(name, {"video.mp4": FILMS[name]})
    province.release()
    return tmp_path


@pytest.mark.parametrize("point", ["evict:noted", "delete:unindexed"])
async def test_killed_it_goes_on_and_leaves_nothing_behind(
    root: Path, province: Province, clock: ManualClock, site: Site, point: str
) -> None:
    own = {f"YUANJIAO_{name.upper()}": value for name, value in QUOTA.items()}
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "support.edge_process", str(root), site.url, str(clock())),
        env=os.environ | own | {"PYTHONPATH": PYTHONPATH, VARIABLE: point},
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    assert await asyncio.wait_for(process.wait(), 60) == -9, "the point was not reached"
    async with edge_at(root, province, clock, site.url, **QUOTA) as edge:
        assert set(edge.library.versions()) >= set(NAMES[:3])
        report = await run(edge)
        assert (report.complete, report.added) == (True, tuple(NAMES[3:]))
        assert all(stored(edge, name, "video.mp4") == FILMS[name] for name in NAMES[3:])
        assert set(edge.library.versions()) == set(NAMES), "the displaced ones stay listed"
        left = [path for path in edge.paths.blobs.rglob("*") if path.is_file() and path.stat().st_size >= SIZE]
        assert len(left) == 3


async def test_a_keeper_that_evicts_meanwhile_disturbs_nothing(
    root: Path, province: Province, clock: ManualClock, site: Site
) -> None:
    """As another process would: with a store, an index connection and a record of its own."""
    stop = threading.Event()
    async with edge_at(root, province, clock, site.url, **QUOTA) as edge:
        limits, now = limits_of(edge.settings.store), clock()

        def keep() -> None:
            with BlobStore.open(Paths(root)) as store, Usage.open(Paths(root).usage) as usage:
                while not stop.wait(0.01):
                    make_room(store, Library(store), usage, limits, 0, now)

        keeping = asyncio.create_task(asyncio.to_thread(keep))
        try:
            report = await run(edge)
        finally:
            stop.set()
            await asyncio.wait_for(keeping, 60)
        assert (report.complete, report.added) == (True, tuple(NAMES[3:]))
        assert all(stored(edge, name, "video.mp4") == FILMS[name] for name in NAMES[3:])
        assert edge.usage.evictions()["planned"].blobs == 3
