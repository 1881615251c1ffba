"""Fill on demand over real processes: workers, a filler, a province over sockets."""

from __future__ import annotations

import asyncio
import json
import os
import random
import re
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from support.edges import edge_at, run
from support.fills import Running, digest_of_body, filling, follow, new_province
from support.province import ManualClock, Province, Site
from support.raw_http import Connection

from edge.fill.link import name_of
from edge.fill.messages import Lookup, frame
from manifests.instants import Instant, dump_instant
from manifests.pieces import PIECE_SIZE

FILM = random.Random(5).randbytes(6_000_000)
NOTE = b"%PDF-1.4 a page"
MEDIA = "/media/film/film.mp4"
# Another user's program: calls the filler, asks, and says whether it is answered or left.
STRANGER = """
import os, socket, sys
os.setuid(int(sys.argv[3]))
made = socket.socket(socket.AF_UNIX)
made.settimeout(30)
try:
    made.connect("\\0" + sys.argv[1])
    made.sendall(bytes.fromhex(sys.argv[2]))
    print("answered" if made.recv(1) else "left")
except ConnectionError:
    print("left")
"""


@pytest.fixture
def province() -> Province:
    made = new_province()
    made.lesson("film", {"film.mp4": FILM, "note.pdf": NOTE})
    made.lesson("here", {"here.pdf": b"here"}, columns=("zl-two",))
    made.release()
    return made


@pytest.fixture
async def site(province: Province) -> AsyncIterator[Site]:
    async with province.site().running() as running:
        yield running


@pytest.fixture
async def edge(tmp_path: Path, province: Province, site: Site) -> AsyncIterator[Running]:
    await follow(tmp_path, province, site.url)
    site.forget()
    async with filling(tmp_path, site.url) as running:
        yield running


async def raw_head(port: int, text: str) -> bytes:
    """The head of an answer as it stands on the wire, but for its date."""
    connection = await Connection.open(port)
    await connection.send(text)
    head = await connection.reader.readuntil(b"\r\n\r\n")
    await connection.close()
    return re.sub(rb"Date: [^\r]*", b"Date:", head)


async def test_a_miss_and_a_hit_have_one_head_and_one_body(edge: Running, province: Province, site: Site) -> None:
    digest = province.blob(FILM).digest
    asked = [
        f"{method} {path} HTTP/1.1\r\nHost: x\r\n{field}\r\n"
        for path in (MEDIA, f"/blobs/{digest}")
        for method in ("GET", "HEAD")
        for field in (
            "",
            "Range: bytes=5000000-5000099\r\n",
            "Range: bytes=0-9,5999990-\r\n",
            f'If-Range: "{digest}"\r\nRange: bytes=-5\r\n',
            'If-Range: "other"\r\nRange: bytes=-5\r\n',
            f'If-None-Match: "{digest}"\r\n',
            "Range: bytes=6000000-\r\n",
            "Connection: close\r\n",
        )
    ]
    before = [await raw_head(edge.port, text) for text in asked]
    assert (await edge.get(MEDIA)).body == FILM
    await edge.until_whole(digest)
    assert [await raw_head(edge.port, text) for text in asked] == before
    async with edge_at(edge.root, province, ManualClock(int(time.time())), site.url) as opened:
        assert (await run(opened)).added == ("film",)
    assert [await raw_head(edge.port, text) for text in asked] == before


async def test_what_is_filled_is_logged_and_counted_like_any_other(edge: Running, province: Province) -> None:
    assert (await edge.get(MEDIA, Range="bytes=5000000-5000099")).status == 206
    assert (await edge.get(f"/blobs/{province.blob(FILM).digest}", Range="bytes=5000000-5000009")).status == 206
    figures = await edge.figures()
    assert figures["answers_total:fill"] == 2
    assert (figures["sent_bytes_total:media"], figures["sent_bytes_total:blob"]) == (100, 10)
    assert figures["answer_begin_seconds_sum"] > 0
    async with asyncio.timeout(40):
        while f'"GET {MEDIA} HTTP/1.1" 206 100 ' not in (edge.root / "log" / "access.log").read_text("ascii"):
            await asyncio.sleep(0.05)


async def test_parts_of_a_miss_are_filled_and_no_more(edge: Running, province: Province, site: Site) -> None:
    got = await edge.get(MEDIA, "HEAD")
    assert (got.status, got.headers["content-length"]) == (200, str(len(FILM)))
    assert (await edge.get(MEDIA, Range=f"bytes={len(FILM)}-")).status == 416
    assert site.bytes_sent == 0
    got = await edge.get(MEDIA, Range="bytes=3000000-3000099,0-9")
    assert got.status == 206
    assert FILM[3_000_000:3_000_100] in got.body
    assert FILM[:10] in got.body
    assert site.bytes_sent <= 2 * PIECE_SIZE + 32 * 24
    assert not edge.is_whole(province.blob(FILM).digest)
    figures = await edge.figures()
    assert figures["answers_total:fill"] == 3
    answers = sum(value for name, value in figures.items() if name.startswith("answers_total:"))
    assert figures["requests_total"] == answers + 1, "the one that asks for the figures is not answered yet"
    assert (await edge.get("/media/film/note.pdf")).body == NOTE
    page = (await edge.get("/lessons/film")).body.decode()
    assert MEDIA in page
    told = json.loads((await edge.get("/api/courseware/film")).body)
    assert (told["id"], told["here"]) == ("film", False)
    assert json.loads((await edge.get("/api/courseware/here")).body)["here"] is True
    assert [one["id"] for one in json.loads((await edge.get("/api/courseware")).body)] == ["here"]


async def test_the_first_viewer_hangs_up_and_the_flight_goes_on(edge: Running, site: Site) -> None:
    held = asyncio.Event()
    site.hold = held
    first = await Connection.open(edge.port)
    await first.send(f"GET {MEDIA} HTTP/1.1\r\nHost: x\r\nRange: bytes=0-99\r\n\r\n")
    async with asyncio.timeout(30):
        while not site.asked("/blobs/") > 1:
            await asyncio.sleep(0.01)
    second = asyncio.create_task(edge.get(MEDIA, Range="bytes=50-149"))
    async with asyncio.timeout(30):
        while (await edge.figures())["fill_joined_total"] < 1:
            await asyncio.sleep(0.01)
    await first.close()
    async with asyncio.timeout(30):
        while (await edge.figures())["connections"] > 2:  # the second's and our own
            await asyncio.sleep(0.01)
    held.set()
    assert (await second).body == FILM[50:150]
    assert (await edge.figures())["fill_flights_total"] == 1


async def test_the_newest_catalog_says_what_is_filled_and_a_recall_breaks_it_off(
    edge: Running, province: Province
) -> None:
    long = random.Random(6).randbytes(24_000_000)
    province.lesson("long", {"long.mp4": long})
    province.lesson("other", {"a.mp4": FILM[:300_000]}, audience=("410300",))
    province.lesson("past", {"a.mp4": FILM[:310_000]}, expires=dump_instant(Instant(int(time.time()) - 5)))
    province.release()
    await follow(edge.root, province, *edge.urls)
    viewer = await Connection.open(edge.port, limit=1 << 16)
    async with asyncio.timeout(20):
        while (await edge.get("/media/long/long.mp4", "HEAD")).status != 200:
            await asyncio.sleep(0.05)
    for one, size in (("other", 300_000), ("past", 310_000)):
        assert (await edge.get(f"/media/{one}/a.mp4")).status == 404
        assert (await edge.get(f"/lessons/{one}")).status == 404
        assert (await edge.get(f"/blobs/{province.blob(FILM[:size]).digest}")).status in {404, 503}
    await viewer.send("GET /media/long/long.mp4 HTTP/1.1\r\nHost: x\r\n\r\n")
    await viewer.reader.readuntil(b"\r\n\r\n")
    seen = await viewer.reader.readexactly(1000)
    province.recall("long")
    province.release()
    await follow(edge.root, province, *edge.urls)
    async with asyncio.timeout(30):
        while (await edge.get("/media/long/long.mp4", Range="bytes=0-9")).status != 404:
            await asyncio.sleep(0.05)
    with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
        await viewer.reader.readexactly(len(long) - len(seen))
    await viewer.close()


async def test_two_hundred_readers_over_two_workers_cost_one_lesson(
    tmp_path: Path, province: Province, site: Site
) -> None:
    short = FILM[:1_500_000]  # the clients, and not the edge, would take most of the time
    province.lesson("short", {"short.mp4": short})
    province.release()
    await follow(tmp_path, province, site.url)
    site.forget()
    ref = province.blob(short)
    async with filling(tmp_path, site.url, workers=2) as edge:
        found = await asyncio.gather(*(digest_of_body(edge.port, "/media/short/short.mp4") for _ in range(200)))
        assert {one[:2] for one in found} == {(len(short), ref.digest)}
        assert site.bytes_sent == len(short) + len(province.content.blobs[str(ref.table)])
        figures = await edge.figures()
        assert figures["fill_joined_total"] > 0
        assert figures["upstream_bytes_total:not_planned"] == site.bytes_sent


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another user for a moment")
async def test_another_user_gets_nothing_from_the_filler(edge: Running) -> None:
    assert (await edge.get(MEDIA, Range="bytes=0-9")).status == 206  # it listens
    question = frame(Lookup(1, "kj-none", "")).hex()
    for user, wanted in (("0", "answered"), ("65534", "left")):
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-I", "-c", STRANGER, name_of(edge.root)[1:], question, user),
            stdout=asyncio.subprocess.PIPE,
        )
        out, _ = await asyncio.wait_for(process.communicate(), 60)
        assert out.decode().strip() == wanted
