"""SIGHUP: the processes of `edge serve` are replaced under load, and nobody is refused meanwhile."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from support.edge_store import make_blob
from support.portal import Shop, file_of, get, lesson
from support.raw_http import Connection

VIDEO = make_blob(20_000_000, "renew")
MEDIA = "/media/kj-1/a.mp4"
CLIENTS = 6
CODE = """
import asyncio, sys
from pathlib import Path
from edge.clock import system_clock
from edge.serve.server import serve
from edge.serve.supervisor import WORKER
tell = lambda address: print(address, flush=True)
keeper, filler = ((sys.executable, "-P", "-m", f"tools.edge_{one}", "20") if one in sys.argv else ()
                  for one in ("keeper", "filler"))
asyncio.run(serve(Path(sys.argv[1]), "127.0.0.1", 0, int(sys.argv[2]), {}, system_clock, tell,
                  worker_command=WORKER, keeper_command=keeper, filler_command=filler))
"""


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    made = Shop(tmp_path)
    made.put(VIDEO)
    made.install(lesson("kj-1", file_of(VIDEO, "a.mp4")))
    made.paths.settings.write_text("[serve]\nstall_s = 20.0\nshutdown_s = 20.0\n", "utf-8")
    made.close()
    return made


@asynccontextmanager
async def running(shop: Shop, workers: int, *more: str) -> AsyncIterator[tuple[asyncio.subprocess.Process, int]]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", CODE, str(shop.paths.root), str(workers), *more, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    async with asyncio.timeout(60):
        while not (line := await process.stdout.readline()).startswith(b"http://"):
            assert line
    try:
        yield process, int(line.decode().rpartition(":")[2])
    finally:
        process.terminate()
        assert await asyncio.wait_for(process.wait(), 60) == 0


def children(process: asyncio.subprocess.Process, module: str = "") -> set[int]:
    """Its processes: workers, keeper and filler, or those of one kind."""
    found = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    lines = {int(pid): Path(f"/proc/{pid}/cmdline") for pid in found}
    return {pid for pid, line in lines.items() if line.exists() and module.encode() in line.read_bytes()}


async def until(is_so: Callable[[], bool]) -> None:
    async with asyncio.timeout(90):
        while not is_so():
            await asyncio.sleep(0.02)


async def ask_on(port: int, stop: asyncio.Event) -> int:
    """Ask again and again on kept connections as a player does; any refusal, reset or wrong byte fails. Counts."""
    count = 0
    while not stop.is_set():
        connection = await Connection.open(port)
        is_kept = True
        while is_kept and not stop.is_set():
            start = count * 7919 % 19_000_000
            reply = await connection.request(MEDIA, Range=f"bytes={start}-{start + 65535}")
            assert (reply.status, reply.body) == (206, VIDEO.data[start : start + 65536])
            is_kept = reply.headers.get("connection") != "close"
            count += 1
            await asyncio.sleep(0.002)
        await connection.close()
    return count


async def test_all_processes_are_replaced_and_no_request_is_refused(shop: Shop) -> None:
    stop = asyncio.Event()
    async with running(shop, 2, "keeper", "filler") as (process, port):
        await until(lambda: len(children(process)) == 4)
        before = children(process)
        clients = [asyncio.create_task(ask_on(port, stop)) for _ in range(CLIENTS)]
        slow = await Connection.open(port, limit=1 << 16)  # it is sent to by an old worker until all is there
        await slow.send(f"GET {MEDIA} HTTP/1.1\r\nHost: x\r\n\r\n")
        await slow.reader.readuntil(b"\r\n\r\n")
        process.send_signal(signal.SIGHUP)
        await until(lambda: bool(children(process) - before))
        assert await slow.reader.readexactly(len(VIDEO.data)) == VIDEO.data
        await slow.close()
        await until(lambda: len(children(process)) == 4 and not children(process) & before)
        stop.set()
        counts = await asyncio.wait_for(asyncio.gather(*clients), 60)
        assert min(counts) > 0
        assert (await get(port, MEDIA, Range="bytes=5-9")).body == VIDEO.data[5:10]
        metrics = (await get(port, "/metrics")).body.decode()
        for name in ("worker", "keeper", "filler"):
            assert f"yuanjiao_edge_{name}_restarts_total 0.0" in metrics
        # Whoever was relieved has answered all that it took, and seen off all clients.
        assert 'yuanjiao_edge_answers_total{result="lost"} 0.0' in metrics
        assert 'yuanjiao_edge_connections_closed_total{cause="lost"} 0.0' in metrics


async def test_settings_that_cannot_be_read_replace_nothing(shop: Shop) -> None:
    async with running(shop, 1) as (process, port):
        await until(lambda: len(children(process)) == 1)
        before = children(process)
        good = shop.paths.settings.read_text("utf-8")
        shop.paths.settings.write_text("[serve]\nprot = 1\n", "utf-8")
        process.send_signal(signal.SIGHUP)
        assert (await get(port, MEDIA, Range="bytes=5-9")).status == 206
        shop.paths.settings.write_text(good + "max_header_bytes = 2048\n", "utf-8")
        process.send_signal(signal.SIGHUP)
        await until(lambda: len(children(process)) == 1 and not children(process) & before)
        long = "x" * 3000  # the new worker has the new limit
        assert (await get(port, MEDIA, X=long)).status == 400


async def test_a_worker_that_is_killed_while_it_is_relieved_is_not_missed(shop: Shop) -> None:
    async with running(shop, 1) as (process, port):
        await until(lambda: len(children(process)) == 1)
        (old,) = children(process, "edge.serve.worker")
        process.send_signal(signal.SIGHUP)
        os.kill(old, signal.SIGKILL)
        await until(lambda: bool(children(process, "edge.serve.worker") - {old}))

        async def is_served() -> bool:
            try:
                return (await get(port, MEDIA, Range="bytes=5-9")).status == 206
            except (OSError, asyncio.IncompleteReadError):
                return False

        async with asyncio.timeout(60):
            while not await is_served():
                await asyncio.sleep(0.05)
        await until(lambda: len(children(process)) == 1)
