"""Syncing: a big file beside `curl | sha256sum`, a night with nothing new, ten lessons of fifty thousand changed."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from edge.app import init_edge
from manifests.bundle import encode_bundle
from manifests.names import CoursewareId, Region
from origin.app import Origin, enroll, init_origin, open_origin, publish
from origin.clock import system_clock
from origin.publish.planner import Draft
from origin.publish.request import PublishRequest
from tools.bench.clips import write_big_mp4
from tools.bench.measure import Bench, Measured, has, run_measured
from tools.bench.table import Row, median, show_rate
from tools.output import show_bytes
from tools.processes import PROGRAM, serving
from tools.relay import open_relay

LESSONS = 50_000  # at the bench's full size; a smaller run has fewer
CHANGED = 10
_FULL_BYTES = 1 << 30
_REGION = Region("410000")
_UPSTREAMS = "YUANJIAO_UPSTREAM_URLS"


def run(bench: Bench) -> list[Row]:
    """Measure."""
    return asyncio.run(_run(bench))


async def _run(bench: Bench) -> list[Row]:
    async with serve_new_origin(bench, "origin-sync") as (origin, url):
        file = bench.fresh("sync.mp4")
        write_big_mp4(file, bench.size_bytes)
        released = await publish(origin, PublishRequest(files=(file,), title="bench", id="bench", hls=False))
        file.unlink()
        digest = next(one.blob for one in released.files if one.role == "video")
        rows = await _cold_rows(bench, origin, url, digest)
        rows.append(await _nothing_new_row(bench, url))
    async with serve_new_origin(bench, "origin-many") as (origin, url):
        rows.append(await _many_row(bench, origin, url))
    return rows


@asynccontextmanager
async def serve_new_origin(bench: Bench, name: str) -> AsyncIterator[tuple[Origin, str]]:
    """A new origin, open here and served by a process of its own; removed at the end."""
    root = bench.fresh(name)
    await init_origin(root, _REGION, passphrase=None, clock=system_clock)
    try:
        async with open_origin(root, {}, system_clock) as origin:
            arguments = ("origin", "serve", str(root), "--host", "127.0.0.1", "--port", "0")
            async with serving(arguments, bench.directory / f"{name}.log") as url:
                yield origin, url
    finally:
        shutil.rmtree(root)


async def new_edge(bench: Bench, origin: Origin, url: str, name: str) -> Path:
    """An edge that has never synced."""
    root = bench.fresh(name)
    bundle = await enroll(origin, Region("410122"), (url,))
    await asyncio.to_thread(init_edge, root, encode_bundle(bundle), system_clock)
    return root


async def sync_once(
    root: Path, upstream: str = "", more: Mapping[str, str] | None = None
) -> tuple[Measured, dict[str, object]]:
    """`yuanjiao edge sync` as a process, measured; what it told. `more` is added to its environment."""
    env = ({_UPSTREAMS: upstream} if upstream else {}) | dict(more or {})
    measured = await asyncio.to_thread(run_measured, (*PROGRAM, "edge", "sync", str(root), "--now", "--json"), env=env)
    told: dict[str, object] = msgspec.json.decode(measured.out)
    return measured, told


async def _cold_rows(bench: Bench, origin: Origin, url: str, digest: str) -> list[Row]:
    ours, theirs, peaks = [], [], []
    for _ in range(bench.rounds):
        root = await new_edge(bench, origin, url, "edge-cold")
        measured, _ = await sync_once(root)
        ours.append(bench.size_bytes / measured.seconds)
        peaks.append(measured.peak_bytes)
        if has("curl") and has("sha256sum"):
            pipe = f"curl -sf {url}/blobs/{digest} | sha256sum"
            plain = await asyncio.to_thread(run_measured, ("sh", "-c", pipe))
            theirs.append(bench.size_bytes / plain.seconds)
    size, speed = show_bytes(bench.size_bytes), median(ours)
    return [
        Row(
            f"cold sync of {size} over loopback",
            show_rate(speed),
            f"curl | sha256sum {show_rate(median(theirs))}" if theirs else "curl: not installed",
            speed / median(theirs) if theirs else None,
            "≥ 0.6 ×",
            "the whole command: start, trust, fetch, prove, write, sync to the disk, install",
        ),
        Row(f"edge memory at a cold sync of {size}", show_bytes(max(peaks)), "", None, "≤ 150 MiB"),
    ]


async def _nothing_new_row(bench: Bench, url: str) -> Row:
    port = urlsplit(url).port or 80
    async with open_relay("127.0.0.1", port) as relay:
        measured, _ = await sync_once(bench.directory / "edge-cold", relay.url)
        exchanges = relay.drain()
    crossed = sum(exchange.bytes for exchange in exchanges)
    return Row(
        "sync with nothing new",
        f"{len(exchanges)} requests, {crossed} B",
        "",
        None,
        "≤ 3 requests, ≤ 2 kB",
        f"both directions, HTTP heads included; {measured.cpu_s:.1f} s of processor time, start of Python included",
    )


async def _many_row(bench: Bench, origin: Origin, url: str) -> Row:
    count = max(10 * CHANGED, round(LESSONS * min(1.0, bench.size_bytes / _FULL_BYTES)))
    lessons = await _publish_many(bench, origin, count)
    root = await new_edge(bench, origin, url, "edge-many")
    await sync_once(root)
    bytes_crossed, cpu_s = [], []
    for number in range(bench.rounds):
        chosen = lessons[number :: len(lessons) // CHANGED][:CHANGED]
        await origin.releases.publish_many([replace(one, summary=f"{one.summary} 修订") for one in chosen])
        async with open_relay("127.0.0.1", urlsplit(url).port or 80) as relay:
            measured, told = await sync_once(root, relay.url)
            bytes_crossed.append(sum(exchange.bytes for exchange in relay.drain()))
        cpu_s.append(measured.cpu_s)
        updated = told["updated"]
        if not isinstance(updated, list) or len(updated) != CHANGED:
            raise RuntimeError(f"{updated} were updated, not {CHANGED}")
    shutil.rmtree(root)
    return Row(
        f"{CHANGED} lessons changed in a catalog of {count}",
        f"{median(bytes_crossed) / 1000:.1f} kB, {median(cpu_s):.2f} s of processor time",
        "",
        None,
        "≤ 20 kB, ≤ 2 s",
        "both directions, HTTP heads included; start of Python included",
    )


async def _publish_many(bench: Bench, origin: Origin, count: int) -> list[Draft]:
    """Lessons that share one small file: it is the catalog that is measured here."""
    text = bench.directory / "lesson.md"
    text.write_text("# 课\n", encoding="utf-8")
    first = await publish(origin, PublishRequest(files=(text,), title="第一课", id="first", columns=("农业技术",)))
    lessons = [
        Draft(
            id=CoursewareId(f"kj-{number:06d}"),
            title=f"冬小麦返青期田间管理要点之{number}",
            kind="article",
            columns=("农业技术",),
            audience=(_REGION,),
            files=first.files,
            summary=f"第 {number} 讲：{os.urandom(12).hex()}",
        )
        for number in range(count)
    ]
    await origin.releases.publish_many(lessons)
    return lessons
