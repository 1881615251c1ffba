"""Killed with -9 at named points of a sync, then run again: nothing proved is lost, nothing is shown half."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from support.edges import edge_at, run, stored
from support.province import ManualClock, Province, Site
from support.relay import Fault, Relay

from edge.store.failpoints import VARIABLE
from manifests.errors import TransferError
from manifests.pieces import PIECE_SIZE

ROOT = Path(__file__).parents[2]
RNG = random.Random(13)
OLD, NEW = RNG.randbytes(6 * PIECE_SIZE), RNG.randbytes(10 * PIECE_SIZE + 5)
IN_FLIGHT, SPAN = 2, 2
ENV = {"upstream_requests_in_flight": str(IN_FLIGHT), "upstream_span_pieces": str(SPAN)}


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def province(clock: ManualClock) -> Province:
    made = Province(clock)
    made.lesson("film", {"video.mp4": OLD})
    made.lesson("bad", {"bad.pdf": b"bad"})
    made.release()
    return made


@pytest.fixture
async def site(province: Province) -> AsyncIterator[Site]:
    async with province.site().running() as running:
        yield running


async def start(root: Path, url: str, clock: ManualClock, **env: str) -> asyncio.subprocess.Process:
    own = {f"YUANJIAO_{name.upper()}": value for name, value in ENV.items()}
    path = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    return await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "support.edge_process", str(root), url, str(clock())),
        env=os.environ | own | {"PYTHONPATH": path} | env,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )


@pytest.mark.parametrize(
    "point",
    [
        "sync:verified",
        "put:written",
        "put:renamed",
        "sync:cataloged",
        "install:breadcrumb",
        "install:written",
        "install:committed",
        "sync:removed",
        "delete:unindexed",
        "partial:allocated",
        "partial:written",
        "partial:marked",
        "finish:synced",
        "finish:renamed",
        "finish:indexed",
        "sync:proved",
        "sync:filled",
    ],
)
async def test_killed_and_resumed(
    tmp_path: Path, province: Province, clock: ManualClock, site: Site, point: str
) -> None:
    async with edge_at(tmp_path, province, clock, site.url) as edge:
        await run(edge)
    new = province.lesson("film", {"video.mp4": NEW}, patches=False).files[0].ref
    province.recall("bad")
    province.release()
    site.forget()
    process = await start(tmp_path, site.url, clock, **{VARIABLE: point})
    assert await process.wait() == -signal.SIGKILL
    async with edge_at(tmp_path, province, clock, site.url, **ENV) as edge:
        # Whatever the moment, what is shown is whole: the old version or the new one.
        assert stored(edge, "film", "video.mp4") in {OLD, NEW}
        report = await run(edge)
        assert report.complete
        assert edge.library.versions() == {"film": 2}
        assert stored(edge, "film", "video.mp4") == NEW
        assert edge.store.partials() == {}
        assert {path.name for path in edge.paths.blobs.rglob("*") if path.is_file()} == edge.store.digests()
        assert list(edge.paths.tmp.iterdir()) == []
    sent = sum(_sent(field, new.size) for path, field in site.requests if path.endswith(new.digest))
    assert sent <= new.size + IN_FLIGHT * SPAN * PIECE_SIZE, "at most the pieces in flight came twice"


@pytest.mark.parametrize("point", ["sync:verified", "install:breadcrumb", "install:committed", "sync:filled"])
@pytest.mark.parametrize("lost", ["index.sqlite", "catalogs.json", "trust/state.json"])
async def test_killed_and_a_file_lost(
    tmp_path: Path, province: Province, clock: ManualClock, site: Site, point: str, lost: str
) -> None:
    """What is left of index, breadcrumb and trust state after a kill may disagree; none of them may be missed."""
    async with edge_at(tmp_path, province, clock, site.url) as edge:
        await run(edge)
    new = province.lesson("film", {"video.mp4": NEW}, patches=False).files[0].ref
    province.recall("bad")
    province.release()
    process = await start(tmp_path, site.url, clock, **{VARIABLE: point})
    assert await process.wait() == -signal.SIGKILL
    (tmp_path / lost).unlink()
    site.forget()
    async with edge_at(tmp_path, province, clock, site.url, **ENV) as edge:
        assert (await run(edge)).complete
        assert edge.library.versions() == {"film": 2}
        assert stored(edge, "film", "video.mp4") == NEW
        assert {path.name for path in edge.paths.blobs.rglob("*") if path.is_file()} == edge.store.digests()
        if point == "sync:filled":
            assert site.asked(new.digest) == 0


def _sent(field: str, size: int) -> int:
    if not field:
        return size
    first, last = field.removeprefix("bytes=").split("-")
    return int(last) - int(first) + 1


async def test_killed_on_a_slow_line(tmp_path: Path, province: Province, clock: ManualClock, site: Site) -> None:
    """No named point: killed from outside in the middle of spans, on a line that trickles."""
    async with edge_at(tmp_path, province, clock, site.url):
        pass
    blob = province.lessons["film"].files[0].ref
    async with Relay(site.url, lambda _: Fault(latency_s=0.02)).running() as relay:
        process = await start(tmp_path, relay.url, clock)
        while relay.bytes_down < 4 * PIECE_SIZE:
            await asyncio.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        await process.wait()
        first = relay.bytes_down
        relay.faults = lambda _: Fault()
        relay.forget()
        async with edge_at(tmp_path, province, clock, relay.url, **ENV) as edge:
            assert (await run(edge)).complete
            assert stored(edge, "film", "video.mp4") == OLD
        assert first + relay.bytes_down <= blob.size + IN_FLIGHT * SPAN * PIECE_SIZE + 20_000


async def test_an_interrupted_run_leaves_a_report_of_its_line(
    tmp_path: Path, province: Province, clock: ManualClock, site: Site
) -> None:
    async with edge_at(tmp_path, province, clock, site.url) as edge:
        await run(edge)
    async with edge_at(tmp_path, province, clock, "http://127.0.0.1:9") as edge:
        with pytest.raises(TransferError):
            await run(edge)
        note = edge.library.get_meta("last_sync")
        assert isinstance(note, dict)
        assert (note["complete"], note["exit_code"], note["catalog_version"]) == (False, 4, 1)
        assert edge.library.versions() == {"film": 1, "bad": 1}
