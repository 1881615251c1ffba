"""A cold fill through a county's line of 20 Mbit/s and 100 ms, beside `aria2c -x8` through the same line."""

from __future__ import annotations

import asyncio
import shutil
from urllib.parse import urlsplit

from origin.app import Origin, publish
from origin.publish.request import PublishRequest
from tools.bench.clips import write_big_mp4
from tools.bench.line import Shape, open_line
from tools.bench.measure import Bench, has, run_measured
from tools.bench.sync import new_edge, serve_new_origin, sync_once
from tools.bench.table import Row, median
from tools.output import show_bytes

SIZE_BYTES = 128 * 1024 * 1024
RATE = 20_000_000 // 8
_STEADY = Shape(RATE, 0.1)
_DROPPING = Shape(RATE, 0.1, drop_every_s=10.0, down_s=1.0)
# A round takes a minute, and the line is the same in each.
_MOST_ROUNDS = 2


def run(bench: Bench) -> list[Row]:
    """Measure."""
    return asyncio.run(_run(bench))


async def _run(bench: Bench) -> list[Row]:
    size = min(bench.size_bytes, SIZE_BYTES)
    async with serve_new_origin(bench, "origin-fill") as (origin, url):
        file = bench.fresh("fill.mp4")
        write_big_mp4(file, size)
        released = await publish(origin, PublishRequest(files=(file,), title="fill", id="fill", hls=False))
        file.unlink()
        digest = next(one.blob for one in released.files if one.role == "video")
        return [
            await _row(bench, origin, url, digest, size, _STEADY, "", "≥ 0.85 × the line"),
            await _row(
                bench, origin, url, digest, size, _DROPPING, ", which drops every 10 s for 1 s", "≥ 0.95 × aria2c -x8"
            ),
        ]


async def _row(
    bench: Bench, origin: Origin, url: str, digest: str, size: int, shape: Shape, how: str, target: str
) -> Row:
    ours, theirs = [], []
    for _ in range(min(bench.rounds, _MOST_ROUNDS)):
        root = await new_edge(bench, origin, url, "edge-fill")
        async with open_line("127.0.0.1", urlsplit(url).port or 80, shape) as line:
            measured, told = await sync_once(root, line.url)
            if not told["complete"]:
                raise RuntimeError(f"fill: {told['error']}")
            ours.append(size / measured.seconds)
        shutil.rmtree(root)
        if has("aria2c"):
            async with open_line("127.0.0.1", urlsplit(url).port or 80, shape) as line:
                theirs.append(size / await _aria2c(bench, f"{line.url}/blobs/{digest}"))
    speed = median(ours)
    return Row(
        f"cold fill of {show_bytes(size)} through 20 Mbit/s, 100 ms{how}",
        f"{speed * 8 / 1e6:.1f} Mbit/s, {speed / shape.bytes_per_s:.2f} × the line",
        f"aria2c -x8 {median(theirs) * 8 / 1e6:.1f} Mbit/s" if theirs else "aria2c: not installed",
        speed / median(theirs) if theirs else None,
        target,
        "the whole command, proved and installed; a line shaped in user space",
    )


async def _aria2c(bench: Bench, address: str) -> float:
    out = bench.fresh("aria2c.out")
    command = ("aria2c", "-q", "-x8", "-s8", "-k1M", "--max-tries=0", "--retry-wait=1", "--file-allocation=none")
    try:
        measured = await asyncio.to_thread(
            run_measured, (*command, "-d", str(out.parent), "-o", out.name, address), env={"no_proxy": "*"}
        )
    finally:
        out.unlink(missing_ok=True)
    return measured.seconds
