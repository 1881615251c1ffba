"""Nights in which much goes wrong: killed again and again, a line that drops, a disk that fills while viewers play."""

from __future__ import annotations

import asyncio
import hashlib
import os
import random
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from support.bad_network import lossy_network
from support.edge_lives import PYTHONPATH, lives
from support.edges import edge_at, run, stored
from support.nights import TO_TEN, closed_window, keeping, until
from support.portal import get, served
from support.program import Done, serving, spawn
from support.province import HOUR, ManualClock, Province, Site
from support.relay import Fault, Relay
from support.small_disk import fill, small_disk

from edge.clock import system_clock
from manifests.pieces import PIECE_SIZE

# Read here: when tests run, no setting of the machine is left.
KILLS = int(os.environ.get("YUANJIAO_TEST_KILLS", "30"))
SEED = int(os.environ.get("YUANJIAO_TEST_SEED", "41"))
RNG = random.Random(SEED)
OLD = RNG.randbytes(8 * PIECE_SIZE + 7)
MEDIA = "/media/film/video.mp4"
IN_FLIGHT = 2
# What a life costs beside pieces: signed metadata and, in the first, catalog and table.
SMALL = 20_000


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def province(clock: ManualClock) -> Province:
    made = Province(clock, hours=24 * 30)
    made.lesson("film", {"video.mp4": OLD})
    made.lesson("bad", {"bad.pdf": b"bad"})
    made.release()
    return made


@pytest.fixture
async def site(province: Province) -> AsyncIterator[Site]:
    async with province.site().running() as running:
        yield running


@pytest.fixture
async def root(tmp_path: Path, province: Province, clock: ManualClock, site: Site) -> Path:
    """An edge that has synced once."""
    async with edge_at(tmp_path / "edge", province, clock, site.url) as edge:
        assert (await run(edge)).complete
    site.forget()
    return tmp_path / "edge"


@dataclass
class Viewer:
    """Plays one lesson for as long as a block lasts; `wholes` are what it may see of it."""

    port: int
    wholes: tuple[bytes, ...]
    answers: int = 0

    async def play(self) -> None:
        rng = random.Random(SEED)
        while True:
            first = rng.randrange(len(self.wholes[0]))
            reply = await get(self.port, MEDIA, Range=f"bytes={first}-{first + 70_000}")
            assert reply.status == 206
            assert any(reply.body == whole[first : first + 70_001] for whole in self.wholes), f"wrong from {first} on"
            self.answers += 1
            await asyncio.sleep(0.005)


@asynccontextmanager
async def watching(port: int, *wholes: bytes) -> AsyncIterator[Viewer]:
    """Play until the block ends; a wrong answer fails the test."""
    viewer = Viewer(port, wholes)
    task = asyncio.create_task(viewer.play())
    try:
        yield viewer
        seen = viewer.answers
        await until(lambda: task.done() or viewer.answers > seen)
    finally:
        task.cancel()
        await asyncio.wait({task})
        if not task.cancelled():
            task.result()


def assert_only_whole_blobs(root: Path) -> None:
    for path in (root / "blobs").rglob("*"):
        if path.is_file():
            assert hashlib.sha256(path.read_bytes()).hexdigest() == path.name


async def test_killed_at_random_many_times_in_one_sync(
    root: Path, province: Province, clock: ManualClock, site: Site
) -> None:
    """Each kill comes a random number of bytes or a random time after the start, so it may hit any step."""
    new = RNG.randbytes(8 * KILLS * PIECE_SIZE + 5)
    blob = province.lesson("film", {"video.mp4": new}, patches=False).files[0].ref
    province.release()
    settings = {"upstream_requests_in_flight": str(IN_FLIGHT), "upstream_span_pieces": "1"}
    rng, killed = random.Random(SEED), 0
    line = Relay(site.url, lambda _: Fault(latency_s=0.01))
    async with line.running() as relay, served(root) as port, watching(port, OLD, new) as viewer:
        async with lives(root, relay.url, clock(), **settings) as edge:
            while killed < KILLS:
                pid = await edge.begin()
                await _die_at_random(relay, rng)
                os.kill(pid, signal.SIGKILL)
                assert await edge.number() == -signal.SIGKILL, "it was still at work"
                killed += 1
                assert_only_whole_blobs(root)
            relay.faults = lambda _: Fault()
            await edge.begin()
            assert await edge.number() == 0
        sent = relay.bytes_down
        assert viewer.answers > KILLS
    assert site.asked(blob.digest) > KILLS / 3, "they died at their work"
    assert sent <= blob.size + killed * (IN_FLIGHT * PIECE_SIZE + SMALL) + SMALL
    assert_only_whole_blobs(root)
    async with edge_at(root, province, clock, site.url) as done:
        assert stored(done, "film", "video.mp4") == new
        assert done.store.partials() == {}
        assert (await run(done)).complete


async def _die_at_random(relay: Relay, rng: random.Random) -> None:
    if rng.random() < 0.3:
        await asyncio.sleep(rng.uniform(0, 0.2))
        return
    goal = relay.bytes_down + rng.randrange(9 * PIECE_SIZE)
    async with asyncio.timeout(60):
        while relay.bytes_down < goal:
            await asyncio.sleep(0)


async def test_a_line_that_drops_every_twenty_seconds_for_an_hour(
    root: Path, province: Province, clock: ManualClock, site: Site
) -> None:
    """The line carries a piece in twenty seconds of the manual clock, and then breaks, with whatever was under way."""
    film = RNG.randbytes(180 * PIECE_SIZE)
    province.lesson("film", {"video.mp4": film}, patches=False)
    province.release()
    clock.at = type(clock.at)(clock.at + TO_TEN)
    opened = clock.at
    dropped = 0
    settings = {"upstream_requests_in_flight": str(IN_FLIGHT), "upstream_retries": "20"}

    async def weather(relay: Relay) -> None:
        nonlocal dropped
        while True:
            passed = relay.bytes_down * HOUR // len(film)
            clock.at = type(clock.at)(opened + passed)
            if passed // 20 > dropped:
                dropped = passed // 20
                relay.drop()
            await asyncio.sleep(0)

    async with Relay(site.url).running() as relay:
        changing = asyncio.create_task(weather(relay))
        try:
            async with keeping(root, clock, relay.url, **settings) as kept:
                await kept.until(lambda: kept.versions()["film"] == 2)
        finally:
            changing.cancel()
            await asyncio.wait({changing})
        assert dropped >= 180
        # Pieces that begin anew at each drop would make it twice the film; so would pieces proved and fetched again.
        assert relay.bytes_down <= 1.5 * len(film)
    async with edge_at(root, province, clock, site.url) as edge:
        assert stored(edge, "film", "video.mp4") == film


async def test_a_disk_that_fills_while_viewers_play(tmp_path: Path) -> None:
    """Served and synced by processes of their own: viewers see right bytes, the sync says 5, a recall acts."""
    province = Province(ManualClock(system_clock() - 60))
    province.lesson("film", {"video.mp4": OLD})
    province.lesson("bad", {"bad.pdf": b"bad"})
    province.release()
    with small_disk(tmp_path / "disk", "32m") as disk:
        hog, root = disk / "hog", disk / "edge"
        async with province.site().running() as site, AsyncExitStack() as stack:
            async with edge_at(root, province, province.clock, site.url) as edge:
                assert (await run(edge)).complete
            env = {"YUANJIAO_UPSTREAM_URLS": site.url, "YUANJIAO_STORE_RESERVE_BYTES": "0"}
            quiet = env | {"YUANJIAO_SYNC_WINDOW": closed_window(), "YUANJIAO_SYNC_POLL_S": "3600"}
            process = serving("edge", "serve", root, "--host", "127.0.0.1", "--port", "0", **quiet)
            address = await asyncio.to_thread(process.__enter__)
            stack.push_async_callback(asyncio.to_thread, process.__exit__, None, None, None)
            port = int(address.rpartition(":")[2])

            async def sync() -> Done:
                return await asyncio.to_thread(lambda: spawn("edge", "sync", root, "--now", "--json", **env))

            large = province.lesson("large", {"large.mp4": RNG.randbytes(40 * PIECE_SIZE)}).files[0].blob
            province.release()
            site.before = lambda path: fill(hog) if large in path and site.asked(large) == 3 else None
            async with watching(port, OLD) as viewer:
                done = await sync()
                assert (done.code, done.json["complete"]) == (5, False), done.err
                assert [one["id"] for one in done.json["deferred"]] == ["large"]
                fill(hog)
                before = viewer.answers
                assert (await get(port, "/media/bad/bad.pdf")).body == b"bad"
                province.recall("bad")
                province.lesson("more", {"more.mp4": RNG.randbytes(40 * PIECE_SIZE)})
                province.release()
                done = await sync()
                assert (done.code, done.json["recalled"]) == (5, ["bad"]), done.err
                assert "more" in [one["id"] for one in done.json["deferred"]]
                assert (await get(port, "/media/bad/bad.pdf")).status in {404, 503}
                async with asyncio.timeout(60):  # a worker reads what is offered once a second
                    while (await get(port, "/media/bad/bad.pdf")).status != 404:
                        await asyncio.sleep(0.05)
                assert viewer.answers > before
                hog.unlink()
                assert (await sync()).code == 0
            assert_only_whole_blobs(root)


async def test_five_percent_loss_and_300_ms(tmp_path: Path, province: Province, clock: ManualClock, site: Site) -> None:
    """Packets of a line of 16 Mbit/s are lost by the kernel, in a network of its own; the relay delays both ways."""
    with lossy_network(0.05, "16mbit") as network:
        line = Relay(site.url, lambda _: Fault(delay_s=0.15))
        settings = {"YUANJIAO_UPSTREAM_FLOOR_BYTES_PER_S": "4096"}
        async with edge_at(tmp_path / "edge", province, clock, site.url):
            pass
        async with line.running(network.listen()) as relay:
            command = network.inside(sys.executable, "-m", "support.edge_process")
            process = await asyncio.create_subprocess_exec(
                *(*command, str(tmp_path / "edge"), relay.url, str(clock())),
                env=os.environ | settings | {"PYTHONPATH": PYTHONPATH},
                stdout=asyncio.subprocess.DEVNULL,
            )
            try:
                assert await asyncio.wait_for(process.wait(), 60) == 0
            finally:
                if process.returncode is None:
                    process.kill()
                    await process.wait()
            assert network.lost() > 5
            assert relay.bytes_down <= len(OLD) + 2 * PIECE_SIZE + 2 * SMALL, "TCP brings back what is lost, not we"
    async with edge_at(tmp_path / "edge", province, clock, site.url) as edge:
        assert stored(edge, "film", "video.mp4") == OLD
