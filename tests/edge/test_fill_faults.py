"""What goes wrong while something is filled: sources that lie, lines that break, full disks, dead processes."""

from __future__ import annotations

import asyncio
import hashlib
import os
import random
import signal
import time
from contextlib import suppress
from pathlib import Path

import pytest
from support.edges import edge_at, run
from support.fills import Running, digest_of_body, fillers, filling, follow, new_province
from support.province import ManualClock, Province
from support.raw_http import Connection
from support.relay import Fault, Relay

from edge.paths import Paths
from edge.store.blobs import BlobStore
from manifests.digests import Digest
from manifests.pieces import PIECE_SIZE

FILM = random.Random(7).randbytes(5_000_000)
AGAIN = random.Random(8).randbytes(1_500_000)
MEDIA = "/media/film/film.mp4"


@pytest.fixture
def province() -> Province:
    made = new_province()
    made.lesson("film", {"film.mp4": FILM})
    made.lesson("again", {"film.mp4": AGAIN})
    made.lesson("here", {"here.pdf": b"here"}, columns=("zl-two",))
    made.release()
    return made


async def test_a_lying_source_is_banned_and_no_byte_of_it_is_seen(tmp_path: Path, province: Province) -> None:
    digest, again = province.blob(FILM).digest, province.blob(AGAIN).digest
    async with province.mirror().running() as liar, province.mirror().running() as honest:
        await follow(tmp_path, province, honest.url)
        for n in (0, 3, 9):
            liar.content.flip(digest, n * PIECE_SIZE + 77)
        for one in (liar, honest):
            one.content.flip(again, 5)
        async with filling(tmp_path, liar.url, honest.url) as edge:
            assert (await edge.get(MEDIA)).body == FILM
            await edge.until_whole(digest)
            got = await edge.get("/media/again/film.mp4")
            assert got.status == 503, "all lie about its first piece"
            assert "无法从上级取得" in got.body.decode()
            got = await edge.get("/media/again/film.mp4", Range=f"bytes={PIECE_SIZE}-{PIECE_SIZE + 9}")
            assert got.body == AGAIN[PIECE_SIZE : PIECE_SIZE + 10]
    async with edge_at(tmp_path, province, ManualClock(int(time.time())), honest.url) as opened:
        assert liar.url in opened.library.get_meta("bans")


async def test_a_line_that_is_down_breaks_and_comes_back(tmp_path: Path, province: Province) -> None:
    is_down = True
    passed = iter([900_000, 700_000, 1_500_000])
    async with province.site().running() as site:
        await follow(tmp_path, province, site.url)
        faults = lambda _: Fault(refuse=is_down, cut_after=None if is_down else next(passed, None))  # noqa: E731 - short
        async with Relay(site.url, faults).running() as relay, filling(tmp_path, relay.url) as edge:
            found = await asyncio.gather(*(edge.get(MEDIA) for _ in range(8)))
            assert {one.status for one in found} == {503}
            assert all(1 <= int(one.headers["retry-after"]) <= 60 for one in found)
            assert relay.connections < 8, "failures are shared"
            page = await edge.get(MEDIA, Accept="text/html")
            assert page.status == 503
            assert "暂时无法取得" in page.body.decode()
            assert (await edge.get("/lessons/film")).status == 200
            is_down = False
            async with asyncio.timeout(40):
                while (await edge.get(MEDIA, Range="bytes=0-9")).status != 206:
                    await asyncio.sleep(0.1)
            before = relay.bytes_down
            viewer = asyncio.create_task(digest_of_body(edge.port, MEDIA))
            async with asyncio.timeout(40):
                while relay.bytes_down < before + 300_000:
                    await asyncio.sleep(0.005)
            is_down = True
            relay.drop()
            count = relay.connections
            async with asyncio.timeout(40):
                while relay.connections < count + 3:
                    await asyncio.sleep(0.01)
            is_down = False
            assert (await viewer)[1] == province.blob(FILM).digest


async def test_without_room_it_passes_through_and_nothing_is_kept(tmp_path: Path, province: Province) -> None:
    async with province.site().running() as site:
        await follow(tmp_path, province, site.url)
        async with filling(tmp_path, site.url, store_reserve_bytes=str(1 << 60)) as edge:
            found = await asyncio.gather(*(digest_of_body(edge.port, MEDIA) for _ in range(5)))
            assert {one[1] for one in found} == {province.blob(FILM).digest}
            got = await edge.get(MEDIA, Range="bytes=1000000-1000009,4000000-4000009")
            assert got.status == 206
            assert FILM[4_000_000:4_000_010] in got.body
            figures = await edge.figures()
            assert figures["fill_bypass_total"] > 0
            assert figures["upstream_bytes_total:bypass"] >= len(FILM)
            assert figures["upstream_bytes_total:not_planned"] == 32 * 20, "the piece table"
        assert not list((tmp_path / "partial").iterdir())
        assert not edge.is_whole(province.blob(FILM).digest)


async def test_a_killed_filler_comes_back_and_viewers_go_on(tmp_path: Path, province: Province) -> None:
    async with province.site().running() as site:
        await follow(tmp_path, province, site.url)
        async with (
            Relay(site.url, lambda _: Fault(latency_s=0.004)).running() as relay,
            filling(tmp_path, relay.url, workers=2) as edge,
        ):
            viewers = [asyncio.create_task(digest_of_body(edge.port, MEDIA)) for _ in range(6)]
            async with asyncio.timeout(40):
                while relay.bytes_down < 1_000_000:
                    await asyncio.sleep(0.005)
            (pid,) = fillers()
            os.kill(pid, signal.SIGKILL)
            found = await asyncio.gather(*viewers)
            assert {one[1] for one in found} == {province.blob(FILM).digest}
            await edge.until_whole(province.blob(FILM).digest)
            assert (await edge.figures())["filler_restarts_total"] == 1


async def test_others_at_the_same_disk(tmp_path: Path, province: Province) -> None:
    """A process throws away what is being filled, a sync brings it at once, files of installed lessons vanish."""
    digest = province.blob(FILM).digest
    async with province.site().running() as site:
        await follow(tmp_path, province, site.url)
        async with (
            Relay(site.url, lambda _: Fault(latency_s=0.005)).running() as relay,
            filling(tmp_path, relay.url) as edge,
        ):
            await _dropped_while_it_is_filled(edge, digest)
            viewers = [asyncio.create_task(digest_of_body(edge.port, MEDIA)) for _ in range(3)]
            async with edge_at(tmp_path, province, ManualClock(int(time.time())), site.url) as opened:
                assert "film" in (await run(opened)).added
                assert {one[1] for one in await asyncio.gather(*viewers)} == {digest}
                assert (await edge.get(MEDIA)).body == FILM
                assert (await edge.figures())["answers_total:error"] == 0
                async with asyncio.timeout(40):
                    while b'"here":true' not in (await edge.get("/api/courseware/film")).body:
                        await asyncio.sleep(0.05)
                opened.store.delete([digest])
            await _until_fetched_again(edge, 1)
            edge.file(digest).unlink()  # gone, and the index does not know
            await _until_fetched_again(edge, 2)


async def _dropped_while_it_is_filled(edge: Running, digest: Digest) -> None:
    """Nobody ever sees a byte of the hole that it leaves."""
    viewer = await Connection.open(edge.port)
    await viewer.send(f"GET {MEDIA} HTTP/1.1\r\nHost: x\r\n\r\n")
    await viewer.reader.readuntil(b"\r\n\r\n")
    seen = await viewer.reader.readexactly(300_000)
    with BlobStore.open(Paths(edge.root)) as store:
        store.drop_partial(digest)
    while data := await _read(viewer):
        seen += data
    assert FILM.startswith(seen)
    await viewer.close()
    async with asyncio.timeout(40):
        while (await edge.get(MEDIA, Range="bytes=0-9")).status != 206:
            await asyncio.sleep(0.05)


async def _until_fetched_again(edge: Running, times: int) -> None:
    """Ask until the bytes of the installed lesson have come so often as damaged ones."""
    async with asyncio.timeout(40):
        while (await edge.figures())["upstream_bytes_total:damaged"] < times * len(FILM):
            with suppress(ConnectionError, asyncio.IncompleteReadError):  # what is sent from a lost file is broken off
                got = await edge.get(MEDIA)
                assert got.status == 503 or got.body == FILM
        while not edge.is_whole(hashlib.sha256(FILM).hexdigest()):
            await asyncio.sleep(0.02)
        while True:
            with suppress(ConnectionError, asyncio.IncompleteReadError):
                got = await edge.get(MEDIA)
                if got.status == 200:
                    break
    assert got.body == FILM


async def _read(viewer: Connection) -> bytes:
    try:
        return await asyncio.wait_for(viewer.reader.read(1 << 16), 40)
    except ConnectionError:
        return b""
