"""The night's promises on a line: a cap that holds second by second, and an edge that catches up after days without."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

from origin.app import Origin, publish
from origin.publish.request import PublishRequest
from tools.bench.clips import write_big_mp4
from tools.bench.fill import RATE
from tools.bench.line import Shape, ShapedLine, open_line
from tools.bench.measure import Bench
from tools.bench.sync import new_edge, serve_new_origin, sync_once
from tools.bench.table import Row, median
from tools.output import show_bytes

CAP = 8_000_000 // 8
SPAN_S = 30.0
_TICK_S = 0.05
_CAPS = "YUANJIAO_SYNC_CAPS_BYTES_PER_S"
# So much has passed when bulk is under way for sure: signed lists and the catalog are not capped, and are smaller.
_UNDER_WAY_BYTES = 600_000
_LESSON_BYTES = 8 * 1024 * 1024
_DAYS = 3


def run(bench: Bench) -> list[Row]:
    """Measure."""
    return asyncio.run(_run(bench))


async def _run(bench: Bench) -> list[Row]:
    async with serve_new_origin(bench, "origin-night") as (origin, url):
        caught_up = await _catch_up(bench, origin, url)
        lesson = min(bench.size_bytes, round(CAP * (SPAN_S + 6)))
        await _publish(bench, origin, "capped", lesson)
        return [*await _cap(bench, origin, url, lesson), caught_up]


async def _publish(bench: Bench, origin: Origin, name: str, size: int) -> None:
    file = bench.fresh(f"{name}.mp4")
    write_big_mp4(file, size)
    await publish(origin, PublishRequest(files=(file,), title=name, id=name, hls=False))
    file.unlink()


async def _cap(bench: Bench, origin: Origin, url: str, size: int) -> list[Row]:
    root = await new_edge(bench, origin, url, "edge-capped")
    seen: list[int] = []
    async with open_line("127.0.0.1", urlsplit(url).port or 80, Shape(100 * CAP)) as line:
        watch = asyncio.create_task(_watch(line, seen))
        try:
            await sync_once(root, line.url, {_CAPS: ",".join([str(CAP)] * 24)})
        finally:
            watch.cancel()
            with suppress(asyncio.CancelledError):
                await watch
    passed = _steady(seen)
    span_s = (len(passed) - 1) * _TICK_S
    rate = (passed[-1] - passed[0]) / span_s
    second = round(1 / _TICK_S)
    most = max(after - before for before, after in zip(passed, passed[second:], strict=False))
    return [
        Row(
            f"bulk capped at 8 Mbit/s, {span_s:.0f} s of {show_bytes(size)}",
            f"{rate * 8 / 1e6:.2f} Mbit/s",
            "the cap 8.00 Mbit/s",
            rate / CAP,
            "within 3 %",
            "bytes that the edge took in from an unshaped line",
        ),
        Row(
            "the same, most in any one second",
            show_bytes(most),
            f"a second at the cap {show_bytes(CAP)}",
            most / CAP,
            "< 2 ×: bursts under 1 s",
            "looked at every 50 ms",
        ),
    ]


async def _watch(line: ShapedLine, seen: list[int]) -> None:
    """Note what has passed, tick by tick of the loop's own clock."""
    loop = asyncio.get_running_loop()
    due_s = loop.time()
    while True:
        seen.append(line.taken())
        due_s += _TICK_S
        await asyncio.sleep(max(0.0, due_s - loop.time()))


def _steady(seen: list[int]) -> list[int]:
    """The span in which bulk was under way."""
    first = next(n for n, count in enumerate(seen) if count > _UNDER_WAY_BYTES)
    last = next((n for n, count in enumerate(seen) if count >= seen[-1] - CAP // 4), len(seen))
    return seen[first : min(last, first + round(SPAN_S / _TICK_S) + 1)]


async def _catch_up(bench: Bench, origin: Origin, url: str) -> Row:
    await _publish(bench, origin, "before", min(bench.size_bytes, _LESSON_BYTES))
    shape = Shape(RATE, 0.1)
    ratios = []
    for n in range(min(bench.rounds, 2)):
        root = await new_edge(bench, origin, url, f"edge-days-{n}")
        await sync_once(root)
        for day in range(_DAYS):
            await _publish(bench, origin, f"day-{n}-{day}", min(bench.size_bytes, _LESSON_BYTES))
        ratios.append(await _caught_up(root, url, shape))
    return Row(
        f"caught up after {_DAYS} releases without a line, 20 Mbit/s, 100 ms",
        f"{median(ratios):.2f} × the delta's own time on the line",
        "",
        median(ratios),
        "≤ 2 ×",
        "the whole command; the delta is what crossed the line",
    )


async def _caught_up(root: Path, url: str, shape: Shape) -> float:
    async with open_line("127.0.0.1", urlsplit(url).port or 80, shape) as line:
        measured, told = await sync_once(root, line.url)
        if not told["complete"]:
            raise RuntimeError(f"night: {told['error']}")
        return measured.seconds / (line.bytes_down / shape.bytes_per_s)
