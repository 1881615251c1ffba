"""An edge that fills on demand under test: workers, and a filler in a process of its own."""

from __future__ import annotations

import asyncio
import hashlib
import os
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families
from support.edges import FAST, edge_at, run
from support.portal import get
from support.province import ManualClock, Province
from support.raw_http import Connection, Reply

from edge.clock import system_clock
from edge.serve.server import serve

FILLER = (sys.executable, "-P", "-m", "tools.edge_filler", "20")
KEEPER = (sys.executable, "-P", "-m", "tools.edge_keeper", "20")
# Room for a busy machine, on which province, workers and clients share two cores.
PATIENT = FAST | {"YUANJIAO_UPSTREAM_PROGRESS_TIMEOUT_S": "5", "YUANJIAO_FILL_WAIT_S": "40"}


def new_province(*, back_s: int = 60) -> Province:
    """A province whose clock is the machine's."""
    return Province(ManualClock(int(time.time()) - back_s))


async def follow(root: Path, province: Province, *urls: str, **env: str) -> None:
    """Take the newest catalog, but no lesson of column `zl-one`."""
    env = {"sync_columns": "zl-two", **env}
    async with edge_at(root, province, ManualClock(int(time.time())), *urls, **env) as edge:
        assert (await run(edge)).complete


@dataclass
class Running:
    """An edge that is served."""

    root: Path
    port: int
    urls: tuple[str, ...]

    async def get(self, path: str, method: str = "GET", **headers: str) -> Reply:
        return await get(self.port, path, method, **headers)

    async def figures(self) -> dict[str, float]:
        """All samples; those with a label under `name:label`."""
        text = (await self.get("/metrics")).body.decode()
        return {
            ":".join([sample.name.removeprefix("yuanjiao_edge_"), *sample.labels.values()]): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }

    def file(self, digest: str) -> Path:
        """Where a whole blob lies."""
        return self.root / "blobs" / digest[:2] / digest

    def is_whole(self, digest: str) -> bool:
        return self.file(digest).exists()

    async def until_whole(self, digest: str) -> None:
        async with asyncio.timeout(40):
            while not self.is_whole(digest):
                await asyncio.sleep(0.02)


@asynccontextmanager
async def filling(root: Path, *urls: str, workers: int = 1, keeper: bool = False, **env: str) -> AsyncIterator[Running]:
    """Serve with a filler until the block ends."""
    stop = asyncio.Event()
    ready: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    own = {f"YUANJIAO_{name.upper()}": value for name, value in env.items()}
    settings = PATIENT | {"YUANJIAO_UPSTREAM_URLS": ",".join(urls), "YUANJIAO_SERVE_SHUTDOWN_S": "2"} | own
    more = {"keeper_command": KEEPER} if keeper else {}
    task = asyncio.create_task(
        serve(
            root,
            "127.0.0.1",
            0,
            workers,
            settings,
            system_clock,
            ready.set_result,
            stop=stop,
            filler_command=FILLER,
            **more,
        )
    )
    await asyncio.wait({task, ready}, timeout=60, return_when=asyncio.FIRST_COMPLETED)
    if task.done():
        task.result()
    try:
        running = Running(root, int(ready.result().rpartition(":")[2]), urls)
        async with asyncio.timeout(40):
            while own.get("YUANJIAO_FILL_ENABLED") != "false" and not (await running.figures())["fillers"]:
                await asyncio.sleep(0.02)
        yield running
    finally:
        stop.set()
        await asyncio.wait_for(task, 60)


def fillers() -> list[int]:
    """Filler processes of this one."""
    found = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split()
    return [pid for pid in map(int, found) if b"edge_filler" in Path(f"/proc/{pid}/cmdline").read_bytes()]


async def digest_of_body(port: int, path: str, limit: int = 1 << 16) -> tuple[int, str, float]:
    """Read an answer to its end without keeping it: its length, its SHA-256, and when its first byte came."""
    connection = await Connection.open(port, limit=limit)
    began = asyncio.get_running_loop().time()
    await connection.send(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n")
    head = await connection.reader.readuntil(b"\r\n\r\n")
    assert b" 200 " in head.partition(b"\r\n")[0], head
    fields = dict(line.split(": ", 1) for line in head.decode("latin-1").split("\r\n")[1:] if line)
    left = int(fields["Content-Length"])
    digest, first_s, total = hashlib.sha256(), 0.0, 0
    while left:
        data = await connection.reader.read(min(left, 1 << 16))
        if not data:
            raise ConnectionResetError("broken off")
        first_s = first_s or asyncio.get_running_loop().time() - began
        digest.update(data)
        left -= len(data)
        total += len(data)
    await connection.close()
    return total, digest.hexdigest(), first_s
