"""The model against the real thing: edges of one city over loopback HTTP, their origin behind a shaped line.

Everything real runs: a signed release, the origin's server as a process of its own, the edges' whole sync. The model
is told the same release and the same line, and must come to the same bytes and the same time.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import tempfile
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from edge import app as edge_app
from edge.app import Edge
from edge.metrics import Counters, shared_rows
from edge.serve.worker import Signals, listen, run_worker
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
from tools.processes import serving
from tools.simulate.engine import Night, Runner
from tools.simulate.fleet import SimEdge
from tools.simulate.results import Agreement, Figures, per_unique
from tools.simulate.scenario import DAY_S, PROVINCE, START, EdgeSpec, Stretch
from tools.simulate.uplink import Uplink, open_uplink

EDGES = 12
CITY = Region("410100")
TOLERANCE = 0.2
_DEADLINE_S = 55.0
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
    return Agreement(len(counties), unique, real, model, round(ratios[0], 3), round(ratios[1], 3), agrees)


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
        listeners = [listen("127.0.0.1", 0, shared=False) for _ in counties] if has_swarm else []
        urls = [f"http://127.0.0.1:{one.getsockname()[1]}" for one in listeners]
        edges = []
        for n, county in enumerate(counties):
            env = _siblings(urls, n) if has_swarm else {}
            edge = await stack.enter_async_context(_open_edge(origin, uplink, county, scratch / county.code, env))
            edges.append(edge)
            if has_swarm:
                await stack.enter_async_context(_serving(edge, listeners[n]))
        uplink.bytes_down = 0
        began_s = time.monotonic()
        try:
            async with asyncio.timeout(_DEADLINE_S), asyncio.TaskGroup() as group:
                tasks = [group.create_task(edge_app.sync(edge)) for edge in edges]
        except TimeoutError as error:
            raise TransferError(
                f"the edges did not hold everything within {_DEADLINE_S:.0f} s",
                zh=f"{_DEADLINE_S:.0f} 秒内未能全部取齐",
                hint="run it on a machine that is less busy",
                hint_zh="请在空闲的机器上重试",
            ) from error
        spent_s = time.monotonic() - began_s
    for task in tasks:
        report = task.result()
        if not isinstance(report, SyncReport) or not report.complete:
            raise TransferError("an edge ended its sync without everything", zh="有边缘服务器未能取齐课件")
    return spent_s


@asynccontextmanager
async def _open_edge(
    origin: Origin, uplink: Uplink, county: RegionRow, root: Path, env: Mapping[str, str]
) -> AsyncIterator[Edge]:
    bundle = await enroll(origin, county.code, (uplink.url,))
    await asyncio.to_thread(edge_app.init_edge, root, encode_bundle(bundle), system_clock)
    async with edge_app.open_edge(root, {"YUANJIAO_STORE_RESERVE_BYTES": "0", **env}, system_clock) as edge:
        yield edge


def _siblings(urls: Sequence[str], own: int) -> dict[str, str]:
    """Settings by which one of these edges knows itself and the others."""
    others = ",".join(url for n, url in enumerate(urls) if n != own)
    return {"YUANJIAO_UPSTREAM_OWN_URL": urls[own], "YUANJIAO_UPSTREAM_SIBLINGS": others}


@asynccontextmanager
async def _serving(edge: Edge, listener: socket.socket) -> AsyncIterator[None]:
    """Serve what an edge has for the time of the block, in this process."""
    file = shared_rows(1)
    counters = Counters(file, 0, 1)
    os.close(file)
    stop, ready = asyncio.Event(), asyncio.Event()
    signals = Signals(stop, ready.set)
    task = asyncio.create_task(run_worker(edge.paths.root, edge.settings, listener, counters, system_clock, signals))
    listening = asyncio.create_task(ready.wait())
    await asyncio.wait({task, listening}, timeout=_DEADLINE_S, return_when=asyncio.FIRST_COMPLETED)
    listening.cancel()
    if task.done():
        task.result()
    try:
        yield
    finally:
        stop.set()
        await asyncio.wait_for(task, _DEADLINE_S)
        counters.close()


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
