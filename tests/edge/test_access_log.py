"""The access log: every request once, off the hot path, in bounds, and never in the way of serving."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import timedelta, timezone
from pathlib import Path

import pytest
from aiohttp import HttpVersion11
from support.edge_store import make_blob
from support.portal import Shop, file_of, get, lesson, served
from support.raw_http import Connection
from support.small_disk import fill, small_disk

from edge.clock import system_clock
from edge.metrics import Cell, Counters, shared_rows
from edge.serve import accesslog, logfile
from edge.serve.accessline import question_of
from edge.serve.accesslog import AccessLog
from edge.serve.logfile import LogBounds, LogFile

VIDEO = make_blob(2_000_000, "v")
MEDIA = "/media/kj-1/a.mp4"
CHINA = timezone(timedelta(hours=8))
DAY = 86400


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    made = Shop(tmp_path)
    made.put(VIDEO)
    made.install(lesson("kj-1", file_of(VIDEO, "a.mp4")))
    made.close()
    return made


@pytest.fixture
def counters() -> Counters:
    rows = shared_rows(1)
    made = Counters(rows, 0, 1)
    os.close(rows)
    return made


async def until(is_so: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not is_so():
            await asyncio.sleep(0.02)


def lines_of(folder: Path) -> list[str]:
    return [line for path in sorted(folder.glob("*.log")) for line in path.read_text("ascii").splitlines()]


def test_every_request_has_its_line(shop: Shop) -> None:
    """From the open file at once, by a task, pages, refusals, what cannot be read: all are there at the stop."""

    async def visit() -> None:
        async with served(shop.paths.root) as port:
            connection = await Connection.open(port)
            for n in range(3):
                await connection.request(MEDIA, Range=f"bytes={n}-9", User_Agent='Box "1"\\', Referer="/?token=abc")
            await connection.request("/", User_Agent="Box")
            await connection.request("/nothing?password=abc")
            await connection.request("/", "POST")
            await connection.request(MEDIA, "HEAD")
            await connection.send("GET / HTTP/1.1\r\nHost: x\r\nX : y\r\n\r\n")
            assert (await connection.reply()).status == 400
            await connection.close()
            gone = await Connection.open(port)
            await gone.send(f"GET {MEDIA} HTTP/1.1\r\nHost: x\r\nRange: bytes=5-6\r\nConnection: close\r\n\r\n")
            assert (await gone.reply()).status == 206
            await gone.close()

    asyncio.run(visit())
    lines = [re.sub(r"\[.*?\]", "[]", line, count=1) for line in lines_of(shop.paths.log)]
    agent = r'"/?token=[redacted]" "Box \x221\x22\x5C"'
    page = lines.pop(3)
    assert re.fullmatch(r'127.0.0.1 - - \[\] "GET / HTTP/1.1" 200 [1-9]\d+ "-" "Box"', page)
    found = [re.sub(r"(404|405|400) [1-9]\d*", r"\1 N", line) for line in lines]
    assert found == [
        *(f'127.0.0.1 - - [] "GET {MEDIA} HTTP/1.1" 206 {10 - n} {agent}' for n in range(3)),
        '127.0.0.1 - - [] "GET /nothing?password=[redacted] HTTP/1.1" 404 N "-" "-"',
        '127.0.0.1 - - [] "POST / HTTP/1.1" 405 N "-" "-"',
        f'127.0.0.1 - - [] "HEAD {MEDIA} HTTP/1.1" 200 0 "-" "-"',
        '127.0.0.1 - - [] "-" 400 N "-" "-"',
        f'127.0.0.1 - - [] "GET {MEDIA} HTTP/1.1" 206 2 "-" "-"',
    ]


async def test_a_signed_list_from_memory_counts_as_a_page(shop: Shop) -> None:
    """The first answer comes by a task, the next from memory; log and figures have the bytes of both."""
    document, path = b'{"signed": {"version": 1}}', "/metadata/timestamp.json"
    shop.paths.trust.mkdir(exist_ok=True)
    (shop.paths.trust / "timestamp.json").write_bytes(document)
    async with served(shop.paths.root) as port:
        connection = await Connection.open(port)
        for _ in range(3):
            assert (await connection.request(path)).body == document
        await connection.request(path, Range="bytes=0-9")
        await connection.request(path, "HEAD")
        await connection.close()
        metrics = (await get(port, "/metrics")).body.decode()
    for kind, count in (("page", 3 * 26 + 10), ("media", 0), ("blob", 0)):
        assert f'yuanjiao_edge_sent_bytes_total{{kind="{kind}"}} {count}.0' in metrics
    found = [line.partition('"GET ')[2] or line.partition('"HEAD ')[2] for line in lines_of(shop.paths.log)]
    sizes = [line.split()[2:4] for line in found if line.startswith(path)]
    assert sizes == [*[["200", "26"]] * 3, ["206", "10"], ["200", "0"]]


async def test_two_workers_write_one_file_and_a_renamed_one_is_left(shop: Shop, tmp_path: Path) -> None:
    """JSON in another folder; logrotate moves the file away in the middle and nobody tells the workers."""
    folder = tmp_path / "else" / "where"
    env = {"YUANJIAO_LOG_ACCESS": "json", "YUANJIAO_LOG_DIR": "else/where"}
    async with served(shop.paths.root, workers=2, env=env) as port:
        await asyncio.gather(*(get(port, f"{MEDIA}?first={n}", Range="bytes=1-2") for n in range(40)))
        await until(lambda: len(lines_of(folder)) == 40)
        (folder / "access.log").rename(folder / "moved.log")
        await asyncio.gather(*(get(port, f"{MEDIA}?second={n}", Range="bytes=1-2") for n in range(40)))
        await until(lambda: len(lines_of(folder)) == 80)
    moved = [json.loads(line) for line in (folder / "moved.log").read_text().splitlines()]
    assert {one["target"].partition("?")[2].partition("=")[0] for one in moved} == {"first"}
    assert {(one["status"], one["bytes"], one["address"]) for one in moved} == {(206, 2, "127.0.0.1")}
    assert not shop.paths.log.exists()


async def test_it_can_be_switched_off(shop: Shop) -> None:
    async with served(shop.paths.root, env={"YUANJIAO_LOG_ACCESS": "off"}) as port:
        assert (await get(port, MEDIA)).status == 200
    assert not shop.paths.log.exists()


async def test_full_disk_stops_the_log_and_not_the_lessons(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logfile, "LEAST_FREE_BYTES", 0)
    with small_disk(tmp_path / "disk", "24m") as root:
        shop = Shop(root)
        shop.put(VIDEO)
        shop.install(lesson("kj-1", file_of(VIDEO, "a.mp4")))
        shop.close()
        async with served(root) as port:
            assert (await get(port, MEDIA)).body == VIDEO.data
            await until(lambda: len(lines_of(shop.paths.log)) == 1)
            fill(root / "neighbour")
            for n in range(80):  # more than the rest of the log's last page
                assert (await get(port, f"{MEDIA}?{'x' * 200}{n}")).body == VIDEO.data
            async with asyncio.timeout(30):
                while b"yuanjiao_edge_log_dropped_total 0.0" in (await get(port, "/metrics")).body:
                    await asyncio.sleep(0.05)
            (root / "neighbour").unlink()
            before = len(lines_of(shop.paths.log))
            await get(port, f"{MEDIA}?last")
            await until(lambda: len(lines_of(shop.paths.log)) > before)
        lines = lines_of(shop.paths.log)
    assert all(re.fullmatch(r'127\.0\.0\.1 .* "GET /\S+ HTTP/1\.1" 200 \d+ "-" "-"', line) for line in lines)
    assert "?last " in lines[-1]


ASKED = ("10.0.0.1", question_of("GET", "/", HttpVersion11, {}), 0.0)


def test_what_waits_is_bounded_and_what_is_dropped_is_counted(tmp_path: Path, counters: Counters) -> None:
    log = AccessLog(
        LogFile(tmp_path / "log", LogBounds(1 << 20, 3), CHINA), "combined", CHINA, counters, system_clock, 100
    )
    for _ in range(250):
        log.note(ASKED, 200, 1, time.monotonic())
    log.start()
    log.close()
    assert len(lines_of(tmp_path / "log")) == 100
    assert counters.total(Cell.LOG_DROPPED) == 150


def test_folder_that_cannot_be_written_costs_lines_only(
    tmp_path: Path, counters: Counters, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(accesslog, "PERIOD_S", 0.01)
    monkeypatch.setattr(accesslog, "WRITE_S", 0.01)
    (tmp_path / "log").write_text("no folder")
    log = AccessLog(LogFile(tmp_path / "log", LogBounds(1 << 20, 3), CHINA), "combined", CHINA, counters, system_clock)
    log.start()
    log.note(ASKED, 200, 1, time.monotonic())
    ends = time.monotonic() + 30
    while not counters.total(Cell.LOG_DROPPED) and time.monotonic() < ends:
        time.sleep(0.01)
    (tmp_path / "log").unlink()
    log.note(ASKED, 200, 1, time.monotonic())
    log.close()
    assert (len(lines_of(tmp_path / "log")), counters.total(Cell.LOG_DROPPED)) == (1, 1)


def test_files_are_new_by_size_and_day_and_bounded(tmp_path: Path) -> None:
    now = int(time.time())
    noon = timezone(timedelta(hours=12 - now // 3600 % 24))  # no midnight while this runs
    file = LogFile(tmp_path, LogBounds(8000, 3), noon)
    for n in range(100):
        file.write(b"%0499d\n" % n, now)
    sizes = {path.name: path.stat().st_size for path in tmp_path.glob("*.log")}
    assert sum(sizes.values()) <= 8000
    assert max(sizes.values()) <= 1000
    assert len(sizes) == 8
    kept = [int(line) for path in sorted(tmp_path.glob("access-*.log")) for line in path.read_text().splitlines()]
    kept += [int(line) for line in (tmp_path / "access.log").read_text().splitlines()]
    assert kept == list(range(100 - len(kept), 100)), "the newest are kept, in their order"
    file.write(b"next day\n", now + DAY)
    assert (tmp_path / "access.log").read_text() == "next day\n"
    (tmp_path / "access-notes.log").write_text("not ours")
    file.write(b"later\n", now + 4 * DAY)
    assert sorted(path.read_text() for path in tmp_path.iterdir()) == ["later\n", "next day\n", "not ours"]
    file.close()
    os.utime(tmp_path / "access.log", (now + 4 * DAY, now + 4 * DAY))  # what the next process has to go by
    again = LogFile(tmp_path, LogBounds(8000, 3), noon)
    again.write(b"a process later\n", now + 5 * DAY)
    again.close()
    assert (tmp_path / "access.log").read_text() == "a process later\n"
    assert [path.read_text() for path in tmp_path.glob("access-*-000001.log")] == ["later\n"]


CODE = """
import sys, time
from datetime import UTC
from pathlib import Path
from edge.serve.logfile import LogBounds, LogFile
file = LogFile(Path(sys.argv[1]), LogBounds(1 << 20, 3), UTC)
for n in range(300):
    lines = [f"{sys.argv[2]}-{n:03}-{m} {'x' * 150}\\n" for m in range(5)]
    file.write("".join(lines).encode(), int(time.time()))
"""


def test_processes_that_rotate_at_once_lose_and_tear_nothing(tmp_path: Path) -> None:
    runs = [subprocess.Popen([sys.executable, "-c", CODE, str(tmp_path), str(n)]) for n in range(3)]
    assert [run.wait(60) for run in runs] == [0, 0, 0]
    lines = lines_of(tmp_path)
    assert len(list(tmp_path.glob("access-*.log"))) >= 5
    assert {line[:-151] for line in lines} == {
        f"{p}-{n:03}-{m}" for p in range(3) for n in range(300) for m in range(5)
    }
    assert {line[-151:] for line in lines} == {" " + "x" * 150}
    assert len(lines) == 4500


def test_what_recalls_need_is_left_to_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, now = LogFile(tmp_path, LogBounds(1 << 20, 3), CHINA), int(time.time())
    room = [logfile.LEAST_FREE_BYTES - 1]
    monkeypatch.setattr(logfile, "free_bytes", lambda _: room[0])
    with pytest.raises(OSError, match="space"):
        file.write(b"too much\n", now)
    room[0] += 1
    file.write(b"again\n", now)
    file.close()
    assert lines_of(tmp_path) == ["again"]


def test_link_in_the_place_of_the_log_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "access.log").symlink_to(tmp_path / "victim")
    file = LogFile(tmp_path, LogBounds(1 << 20, 3), CHINA)
    with pytest.raises(OSError, match="symbolic"):
        file.write(b"line\n", int(time.time()))
    assert not (tmp_path / "victim").exists()
