"""The keeper as `edge serve` runs it: a process beside the workers, watched over; and the command beside it."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families
from support.edges import FAST, edge_at, run
from support.nights import closed_window, until
from support.portal import get
from support.program import Done, spawn
from support.province import ManualClock, Province, Site
from support.raw_http import Connection

from edge.clock import system_clock
from edge.serve.server import serve
from manifests.errors import ConfigurationError

KEEPER = (sys.executable, "-P", "-m", "tools.edge_keeper", "20")
FILM = random.Random(3).randbytes(24_000_000)
MEDIA = "/media/film/film.mp4"


@pytest.fixture
def province() -> Province:
    made = Province(ManualClock(int(time.time()) - 60))
    made.lesson("film", {"film.mp4": FILM})
    made.lesson("one", {"one.pdf": b"one"})
    made.release()
    return made


@pytest.fixture
async def site(province: Province) -> AsyncIterator[Site]:
    async with province.site().running() as running:
        yield running


@pytest.fixture
async def root(tmp_path: Path, province: Province, site: Site) -> Path:
    async with edge_at(tmp_path, province, ManualClock(int(time.time())), site.url) as edge:
        assert (await run(edge)).complete
    return tmp_path


@asynccontextmanager
async def served(root: Path, url: str, workers: int, **env: str) -> AsyncIterator[int]:
    """Serve with a keeper of its own process until the block ends; gives the port."""
    stop = asyncio.Event()
    ready: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    own = {f"YUANJIAO_{name.upper()}": value for name, value in env.items()}
    own |= FAST | {"YUANJIAO_UPSTREAM_URLS": url, "YUANJIAO_SYNC_POLL_S": "0.3", "YUANJIAO_SERVE_SHUTDOWN_S": "2"}
    task = asyncio.create_task(
        serve(
            root,
            "127.0.0.1",
            0,
            workers,
            own,
            system_clock,
            ready.set_result,
            stop=stop,
            keeper_command=KEEPER,
        )
    )
    await asyncio.wait({task, ready}, timeout=60, return_when=asyncio.FIRST_COMPLETED)
    if task.done():
        task.result()
    try:
        yield int(ready.result().rpartition(":")[2])
    finally:
        stop.set()
        await asyncio.wait_for(task, 60)
        assert keepers() == []


def keepers() -> list[int]:
    """Keeper processes of this one."""
    found = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split()
    return [pid for pid in map(int, found) if b"edge_keeper" in Path(f"/proc/{pid}/cmdline").read_bytes()]


async def figures(port: int) -> dict[str, float]:
    """All samples without labels, those of bytes under their reason or kind."""
    text = (await get(port, "/metrics")).body.decode()
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    return {sample.labels.get("reason", sample.labels.get("kind", sample.name)): sample.value for sample in samples}


async def lessons(port: int) -> set[str]:
    found = json.loads((await get(port, "/api/courseware")).body)
    return {one["id"] for one in found}


async def wait_for_lessons(port: int, wanted: set[str]) -> None:
    async with asyncio.timeout(60):
        while await lessons(port) != wanted:
            await asyncio.sleep(0.05)


async def test_a_lesson_that_is_being_watched_disappears_at_the_next_poll(
    root: Path, province: Province, site: Site
) -> None:
    """At any hour: the window is never open now, and a recall waits for none."""
    async with served(root, site.url, 1, sync_window=closed_window()) as port:
        viewer = await Connection.open(port, limit=1 << 16)
        await viewer.send(f"GET {MEDIA} HTTP/1.1\r\nHost: x\r\n\r\n")
        assert b" 200 " in await viewer.reader.readuntil(b"\r\n\r\n")
        seen = len(await viewer.reader.readexactly(100_000))
        province.recall("film")
        province.release()
        async with asyncio.timeout(60):
            while (await get(port, MEDIA, Range="bytes=0-9")).status != 404:
                await asyncio.sleep(0.05)
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            seen += len(await viewer.reader.readexactly(len(FILM) - seen))
        await viewer.close()
        assert await lessons(port) == {"one"}
        assert not list((root / "blobs").rglob(province.blob(FILM).digest))


@pytest.mark.parametrize("workers", [1, 2])
async def test_a_killed_keeper_comes_back_and_serving_does_not_notice(
    root: Path, province: Province, site: Site, workers: int
) -> None:
    async with served(root, site.url, workers, sync_window="00:00-24:00") as port:
        await until(lambda: len(keepers()) == 1)
        province.lesson("two", {"two.pdf": b"two"})
        province.release()
        await wait_for_lessons(port, {"film", "one", "two"})
        found = await figures(port)
        assert (found["yuanjiao_edge_keepers"], found["yuanjiao_edge_keeper_restarts_total"]) == (1, 0)
        assert found["planned"] >= 3
        assert found["yuanjiao_edge_workers"] == workers
        for _ in range(2):
            (pid,) = keepers()
            os.kill(pid, signal.SIGKILL)
            await until(lambda: keepers() not in ([], [pid]))  # noqa: B023 - awaited within the round
            assert (await get(port, MEDIA, Range="bytes=5-9")).body == FILM[5:10]
        province.lesson("three", {"three.pdf": b"three"})
        province.release()
        await wait_for_lessons(port, {"film", "one", "two", "three"})
        again = await figures(port)
        assert (again["yuanjiao_edge_keepers"], again["yuanjiao_edge_keeper_restarts_total"]) == (1, 2)
        assert again["yuanjiao_edge_worker_restarts_total"] == 0
        assert again["planned"] > found["planned"], "what the dead ones counted stays"


async def test_what_a_long_answer_sends_is_told_while_it_runs(root: Path, site: Site) -> None:
    async with served(root, site.url, 1) as port:
        viewer = await Connection.open(port, limit=1 << 16)
        await viewer.send(f"GET {MEDIA} HTTP/1.1\r\nHost: x\r\n\r\n")
        await viewer.reader.readuntil(b"\r\n\r\n")
        seen = len(await viewer.reader.readexactly(200_000))
        async with asyncio.timeout(60):
            while (await figures(port))["media"] < seen:
                await asyncio.sleep(0.05)
        assert await viewer.reader.readexactly(len(FILM) - seen) == FILM[seen:]
        await viewer.close()
        assert (await figures(port))["media"] == len(FILM)


async def test_a_fault_in_the_nights_settings_is_told_at_the_start(root: Path, site: Site) -> None:
    with pytest.raises(ConfigurationError, match=r"sync\.zone"):
        async with served(root, site.url, 1, sync_zone="Asia/Nowhere"):
            pass


async def test_the_command_keeps_to_the_window_but_not_with_now(root: Path, province: Province, site: Site) -> None:
    window = closed_window()
    env = {"YUANJIAO_UPSTREAM_URLS": site.url, "YUANJIAO_SYNC_WINDOW": window, "YUANJIAO_STORE_RESERVE_BYTES": "0"}

    async def command(*arguments: str) -> Done:
        return await asyncio.to_thread(lambda: spawn("edge", "sync", root, *arguments, **env))

    assert (await command()).code == 0, "nothing was planned, so nothing is left"
    province.recall("film")
    province.lesson("two", {"two.pdf": b"two"})
    province.release()
    done = await command("--json")
    assert done.code == 4
    assert (done.json["removed"], done.json["waits"], done.json["complete"]) == (["film"], True, False)
    assert [one["reason"] for one in done.json["deferred"]] == [f"waits for the window {window[:5]}"]
    assert len(done.err.splitlines()) == 1
    assert f"等待 {window[:5]} 的同步时段" in done.err
    assert "--now" in done.err
    done = await command("--json", "--now")
    assert (done.code, done.json["added"]) == (0, ["two"])
    assert sum(done.json["bytes_by_reason"].values()) == done.json["bytes_fetched"]
