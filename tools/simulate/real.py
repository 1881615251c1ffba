"""The model against the real thing: edges of one city over loopback HTTP, their origin behind a shaped line.

Everything real runs: a signed release, the origin's server and every edge as a process of its own, the edges' whole
sync. The model is told the same release and the same line, and must come to the same bytes and the same time.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
import time
from asyncio.subprocess import Process
from collections.abc import Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from edge.app import init_edge
from edge.serve.order import listen
from edge.sync.report import SyncReport
from manifests.bundle import encode_bundle
from manifests.errors import TransferError
from manifests.instants import parse_instant
from manifests.model import Catalog
from manifests.names import Region
from origin.app import Origin, enroll, init_origin, open_origin, publish
from origin.clock import system_clock
from origin.publish.request import PublishRequest
from origin.stations.regions import RegionRow, load_regions
from tools.processes import READY_S, serving, talking
from tools.simulate.engine import Night, Runner
from tools.simulate.fleet import SimEdge
from tools.simulate.results import Agreement, Figures, per_unique
from tools.simulate.scenario import DAY_S, PROVINCE, START, EdgeSpec, Stretch
from tools.simulate.uplink import Uplink, open_uplink

EDGES = 12
CITY = Region("410100")
TOLERANCE = 0.2
_DEADLINE_S = 120.0
_MEMBER = "tools.simulate.member"
_RESERVE = {"YUANJIAO_STORE_RESERVE_BYTES": "0"}
# An edge's own line is no bound here: all share the origin's.
_LOOPBACK_BYTES_PER_S = 1e9
_MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Trial:
    """What is tried.

    Attributes:
        lessons: how many documents of random bytes are published, each of `lesson_bytes`.
        uplink_bytes_per_s: the origin's line.
        has_swarm: edges know each other as siblings, and each serves what it has while it syncs.
    """

    edges: int = EDGES
    lessons: int = 4
    lesson_bytes: int = 5 * _MIB
    uplink_bytes_per_s: float = 14.0 * _MIB
    has_swarm: bool = False


# With siblings the line carries each byte once: it is slower by as much, or the machine would be measured.
TRIALS = (Trial(), Trial(uplink_bytes_per_s=0.7 * _MIB, has_swarm=True))


def run_real(trial: Trial, directory: Path | None = None) -> Agreement:
    """Measure, compute, compare; what it needs on the disk is removed again.

    Raises:
        TransferError: environment; an edge did not come to hold everything in time.
    """
    scratch = Path(tempfile.mkdtemp(prefix="yuanjiao-simulate-", dir=directory))
    try:
        return asyncio.run(_compare(trial, scratch))
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


async def _compare(trial: Trial, scratch: Path) -> Agreement:
    await init_origin(scratch / "origin", PROVINCE, passphrase=None, clock=system_clock)
    async with open_origin(scratch / "origin", {}, system_clock) as origin:
        await _publish(origin, trial, scratch)
        _, catalog = await origin.releases.current_catalog()
        arguments = ("origin", "serve", str(scratch / "origin"), "--host", "127.0.0.1", "--port", "0")
        async with (
            serving(arguments, scratch / "origin.log") as url,
            open_uplink("127.0.0.1", urlsplit(url).port or 80, trial.uplink_bytes_per_s) as uplink,
        ):
            counties = load_regions().within(CITY, "county")[: trial.edges]
            real_s = await _sync_city(origin, uplink, counties, scratch, has_swarm=trial.has_swarm)
    unique = unique_bytes(catalog)
    real = Figures(uplink.bytes_down, per_unique(uplink.bytes_down, unique), round(real_s, 2))
    model = model_of(catalog, counties, trial.uplink_bytes_per_s, has_swarm=trial.has_swarm)
    ratios = (model.origin_bytes / real.origin_bytes, model.seconds / real.seconds)
    agrees = all(abs(ratio - 1) <= TOLERANCE for ratio in ratios)
    return Agreement(
        len(counties), trial.has_swarm, unique, real, model, round(ratios[0], 3), round(ratios[1], 3), agrees
    )


async def _publish(origin: Origin, trial: Trial, scratch: Path) -> None:
    for number in range(trial.lessons):
        path = scratch / f"lesson-{number}.pdf"
        await asyncio.to_thread(_write_document, path, trial.lesson_bytes)
        await publish(origin, PublishRequest(files=(path,), title=f"课件 {number}", id=f"kj-{number}"))
        path.unlink()


def _write_document(path: Path, size: int) -> None:
    """Bytes that nothing can shorten, in the frame of a PDF."""
    head, tail = b"%PDF-1.4\n", b"\n%%EOF\n"
    path.write_bytes(head + os.urandom(size - len(head) - len(tail)) + tail)


async def _sync_city(
    origin: Origin, uplink: Uplink, counties: Sequence[RegionRow], scratch: Path, *, has_swarm: bool
) -> float:
    """Sync all edges at once; gives the seconds until the last one was done."""
    async with AsyncExitStack() as stack:
        listeners = [stack.enter_context(listen("127.0.0.1", 0, shared=False)) for _ in counties]
        urls = [f"http://127.0.0.1:{one.getsockname()[1]}" for one in listeners]
        members = []
        for n, (county, listener) in enumerate(zip(counties, listeners, strict=True)):
            root = scratch / county.code
            bundle = await enroll(origin, county.code, (uplink.url,))
            await asyncio.to_thread(init_edge, root, encode_bundle(bundle), system_clock)
            log, number = scratch / f"{county.code}.log", listener.fileno()
            env = _RESERVE | (_siblings(urls, n) if has_swarm else {})
            process = await stack.enter_async_context(talking(_MEMBER, (str(root), str(number)), log, env, (number,)))
            members.append(Member(process, log))
        await asyncio.gather(*(one.line(READY_S) for one in members))
        uplink.bytes_down = 0
        began_s = time.monotonic()
        for one in members:
            one.begin()
        told = await asyncio.gather(*(one.line(_DEADLINE_S) for one in members))
        spent_s = time.monotonic() - began_s
    for line in told:
        if not msgspec.json.decode(line, type=SyncReport).complete:
            raise TransferError("an edge ended its sync without everything", zh="有边缘服务器未能取齐课件")
    return spent_s


@dataclass(frozen=True, slots=True)
class Member:
    """One edge at work, and where its errors go."""

    process: Process
    log: Path

    def begin(self) -> None:
        """Let it sync."""
        if self.process.stdin is not None:
            self.process.stdin.write(b"sync\n")

    async def line(self, within_s: float) -> bytes:
        """What it says next.

        Raises:
            TransferError: environment; it said nothing in time, or ended.
        """
        line = b""
        if self.process.stdout is not None:
            with suppress(TimeoutError):
                line = await asyncio.wait_for(self.process.stdout.readline(), within_s)
        if line:
            return line
        words = self.log.read_text("utf-8", "replace").strip().splitlines()[-1:] or ["it said nothing"]
        raise TransferError(
            f"an edge was not done within {within_s:.0f} s: {words[0]}",
            zh=f"有边缘服务器在 {within_s:.0f} 秒内未完成：{words[0]}",
            hint="run it on a machine that is less busy",
            hint_zh="请在空闲的机器上重试",
        )


def _siblings(urls: Sequence[str], own: int) -> dict[str, str]:
    """Settings by which one of these edges knows itself and the others."""
    others = ",".join(url for n, url in enumerate(urls) if n != own)
    return {"YUANJIAO_UPSTREAM_OWN_URL": urls[own], "YUANJIAO_UPSTREAM_SIBLINGS": others}


def unique_bytes(catalog: Catalog) -> int:
    """Bytes of the distinct blobs of a release, piece tables included."""
    refs = {file.blob: file.ref for item in catalog.courseware for file in item.files}
    tables = {ref.table_ref.digest: ref.table_ref.size for ref in refs.values() if ref.table_ref is not None}
    return sum(ref.size for ref in refs.values()) + sum(tables.values())


def model_of(catalog: Catalog, counties: Sequence[RegionRow], uplink_bytes_per_s: float, *, has_swarm: bool) -> Figures:
    """What the model says of the same release on the same line, all edges beginning at once."""
    runners = []
    for county in counties:
        spec = EdgeSpec(county.code, county.name, county.code[:4], (), (), (), disk_bytes=1 << 50)
        edge = SimEdge(spec, len(counties) if has_swarm else 1)
        promise = edge.plan(catalog, _after(catalog))
        line = (Stretch(0.0, float(DAY_S), _LOOPBACK_BYTES_PER_S),)
        runners.append(Runner(county.code, spec.city, line, edge.units(promise, catalog)))
    night = Night(runners, uplink=uplink_bytes_per_s, has_swarm=has_swarm, patience_s=2.0)
    night.run(float(DAY_S))
    origin_bytes = sum(one.from_above for one in runners)
    last_s = max((at for one in runners for at in one.finished.values()), default=0.0)
    return Figures(round(origin_bytes), per_unique(origin_bytes, unique_bytes(catalog)), round(last_s, 2))


def _after(catalog: Catalog) -> float:
    """A moment at which all that the release offers may be shown; the model counts from a day of its own."""
    return float(parse_instant(catalog.issued) - START + 1)
