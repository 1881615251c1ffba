"""Serving on kept connections: ranges, segments, whole files and metadata, beside nginx, Caddy and Varnish.

All servers are pinned to one core and the client to another; rounds alternate, so that a busy machine hits all of them.
nginx runs with `tcp_nopush` on and off, and the better of the two is the peer: neither is best for all lengths.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import subprocess
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

from edge.paths import Paths
from edge.store.blobs import BlobStore
from manifests.bundle import BUNDLE_FORMAT, BUNDLE_MAJOR, Bundle, encode_bundle
from manifests.digests import Digest, digest_of
from manifests.errors import ConfigurationError
from manifests.instants import Instant, dump_instant
from manifests.pieces import PIECE_SIZE, BlobRef, TableBuilder, parse_table
from tools.bench.measure import Bench, has
from tools.bench.peers import CLIENT_CORE, Target, caddy, cpu_s, installed, nginx, on_core, ours, varnish
from tools.bench.table import Row, median
from tools.output import show_bytes

ROUND_S = 2.0
WHOLE_BYTES = 100_000_000
SMALL_NAME = "timestamp.json"
SMALL = b'{"signed":{"version":1,"pad":"' + b"x" * 960 + b'"}}'
_PORTION = 16 * PIECE_SIZE

_LUA = """local size, length = tonumber(os.getenv("SIZE")), tonumber(os.getenv("LENGTH"))
local step = tonumber(os.getenv("STEP"))
math.randomseed(os.time())
if length > 0 then
  request = function()
    local start = math.random(0, math.floor((size - length) / step)) * step
    return wrk.format("GET", nil, { Range = "bytes=" .. start .. "-" .. (start + length - 1) })
  end
end
done = function(summary)
  local e = summary.errors
  local failed = e.connect + e.read + e.write + e.status + e.timeout
  print("FIGURES", summary.requests, summary.bytes, summary.duration, failed)
end
"""


@dataclass(frozen=True, slots=True)
class Work:
    """What is asked.

    Attributes:
        file: which file: `big`, `whole` or `small`.
        length: of a range; 0 for all of it.
        step: ranges begin at multiples of it.
        least: share of nginx's speed that is asked for.
        beats_others: faster than Caddy and Varnish is asked for, too.
    """

    name: str
    file: str
    length: int
    step: int
    clients: int
    least: float
    beats_others: bool = False


WORKS = (
    Work("1.0 MiB random ranges of {size}", "big", 1 << 20, 1, 64, 0.9, beats_others=True),
    Work("1.5 MB segments (HLS, ranges of one file of {size})", "big", 1_500_000, 1_500_000, 64, 0.9),
    Work("whole files of 100 MB", "whole", 0, 1, 16, 0.95),
    Work("64.0 KiB random ranges of {size}", "big", 1 << 16, 1, 64, 0.7, beats_others=True),
    Work("metadata of 1 kB", "small", 0, 1, 64, 0.6, beats_others=True),
)


@dataclass(frozen=True, slots=True)
class Round:
    """What one round came to; `cpu_s` is the server's processor time."""

    requests_per_s: float
    bytes_per_s: float
    cpu_s_per_gb: float
    cpu_us_per_request: float


def run(bench: Bench) -> list[Row]:
    """Measure."""
    if not has("wrk"):
        return [Row("serving", "", "", None, "", "wrk is not installed; a client in Python would measure itself")]
    return asyncio.run(_run(bench))


async def _run(bench: Bench) -> list[Row]:
    root = bench.fresh("serve-edge")
    paths = await asyncio.to_thread(make_edge, root, bench)
    plain = {kind: f"/{kind}.bin" for kind in paths}
    files = bench.directory / "serve-files"
    async with AsyncExitStack() as stack:
        targets = [await stack.enter_async_context(ours(root, bench.directory / "serve.log", paths))]
        there = installed()
        if "nginx" in there:
            for peer in (nginx(bench, files, plain, nopush=True), nginx(bench, files, plain, nopush=False)):
                targets += [await stack.enter_async_context(peer)]
            if "Varnish" in there:
                size = bench.size_bytes + WHOLE_BYTES
                targets += [await stack.enter_async_context(varnish(bench, targets[1].port, plain, size))]
        if "Caddy" in there:
            targets += [await stack.enter_async_context(caddy(bench, files, plain))]
        rows = [await _row(bench, targets, work) for work in WORKS]
    return [*rows, *await _scaling(bench, root, files, paths, plain)]


async def _row(bench: Bench, targets: list[Target], work: Work) -> Row:
    rounds: dict[str, list[Round]] = {target.name: [] for target in targets}
    for _ in range(bench.rounds):
        for target in targets:
            rounds[target.name].append(await asyncio.to_thread(ask, bench, target, work))
    speeds = {name: median(one.requests_per_s for one in made) for name, made in rounds.items()}
    if work.file == "whole":
        speeds = {name: median(one.bytes_per_s for one in made) for name, made in rounds.items()}
    costs = {name: _cost(work, made) for name, made in rounds.items()}
    mine = speeds.pop("ours")
    rivals = [name for name in speeds if name.startswith("nginx")]
    best = max(rivals, key=lambda name: speeds[name], default="")
    others = [f"{name} {mine / speed:.2f} ×" for name, speed in speeds.items() if name not in rivals and speed]
    others += [f"{name}: not installed" for name in ("Caddy", "Varnish") if name not in speeds]
    note = f"{work.clients} clients, one worker; ours ÷ {', '.join(others)}; processor {costs['ours']}"
    return Row(
        work.name.format(size=show_bytes(bench.size_bytes)) + ", keep-alive",
        _speed(work, mine),
        f"{best} {_speed(work, speeds[best])}" if best else "nginx: not installed",
        mine / speeds[best] if best else None,
        f"≥ {work.least} × nginx" + ("; above Caddy and Varnish" if work.beats_others else ""),
        note + (f", nginx {costs[best]}" if best else ""),
    )


def _cost(work: Work, rounds: list[Round]) -> str:
    if work.file == "small":
        return f"{median(one.cpu_us_per_request for one in rounds):.1f} µs each"
    return f"{median(one.cpu_s_per_gb for one in rounds):.2f} s/GB"


def _speed(work: Work, figure: float) -> str:
    return f"{figure / 1e6:.0f} MB/s" if work.file == "whole" else f"{figure:.0f}/s"


async def _scaling(bench: Bench, root: Path, files: Path, paths: dict[str, str], plain: dict[str, str]) -> list[Row]:
    """Two workers against one, on all cores, the client's work among them: so nginx is asked the same."""
    log, work = bench.directory / "scaling.log", WORKS[3]
    speeds: dict[tuple[str, int], list[float]] = {}
    async with AsyncExitStack() as stack:
        made: list[tuple[int, Target]] = []
        for workers in (1, 2):
            made.append((workers, await stack.enter_async_context(ours(root, log, paths, workers, None))))
            if "nginx" in installed():
                peer = nginx(bench, files, plain, nopush=False, workers=workers, core=None)
                made.append((workers, await stack.enter_async_context(peer)))
        for _ in range(bench.rounds):
            for workers, target in made:
                found = await asyncio.to_thread(ask, bench, target, work, None)
                speeds.setdefault((target.name[:5].strip(), workers), []).append(found.requests_per_s)
    scales = {name: median(speeds[name, 2]) / median(speeds[name, 1]) for name in {name for name, _ in speeds}}
    peer_scale = scales.get("nginx")
    return [
        Row(
            "two workers against one, 64.0 KiB random ranges",
            f"{scales['ours']:.2f} ×",
            f"nginx {peer_scale:.2f} ×" if peer_scale else "nginx: not installed",
            scales["ours"] / peer_scale if peer_scale else None,
            "≥ 1.8 × on two free cores, or as nginx scales",
            f"{os.cpu_count()} cores, on which the client runs as well",
        )
    ]


def ask(bench: Bench, target: Target, work: Work, core: int | None = CLIENT_CORE) -> Round:
    """One round."""
    url = f"http://127.0.0.1:{target.port}{target.paths[work.file]}"
    numbers = {"SIZE": str(bench.size_bytes), "LENGTH": str(work.length), "STEP": str(work.step)}
    script = bench.directory / "ranges.lua"
    script.write_text(_LUA, "ascii")
    # Whole files count only by their bytes: some are under way when time is up.
    command = ("wrk", "-t1", f"-c{work.clients}", f"-d{ROUND_S:.0f}s", "--timeout", "20s", "-s", str(script), url)
    before = cpu_s(target.pid)
    with on_core(core):
        out = _output(command, numbers)
    spent = cpu_s(target.pid) - before
    line = next((line for line in out.splitlines() if line.startswith("FIGURES")), "")
    if not line:
        raise ConfigurationError(f"bench: wrk told no figures for {target.name}: {out.strip()[-300:]}")
    requests, count, micros, errors = (float(word) for word in line.split()[1:])
    if errors:
        raise ConfigurationError(f"bench: {target.name} answered {errors:.0f} times with an error")
    seconds = micros / 1e6
    per_request = spent * 1e6 / requests if requests else 0.0
    return Round(requests / seconds, count / seconds, spent / (count / 1e9), per_request)


def _output(command: tuple[str, ...], env: Mapping[str, str]) -> str:
    done = subprocess.run(command, env={**os.environ, **env}, capture_output=True, text=True, timeout=120, check=False)
    if done.returncode:
        raise ConfigurationError(f"bench: {command[0]} failed: {done.stderr.strip()[-300:]}")
    return done.stdout


def make_edge(root: Path, bench: Bench) -> dict[str, str]:
    """An edge's directory with a big and a smaller blob and a signed list's file; the same as plain files for peers."""
    files = bench.fresh("serve-files")
    files.mkdir()
    paths = {}
    for kind, size in (("big", bench.size_bytes), ("whole", WHOLE_BYTES)):
        digest = _put(root, files / f"{kind}.bin", size)
        paths[kind] = f"/blobs/{digest}"
    (files / "small.bin").write_bytes(SMALL)
    Paths(root).trust.mkdir(parents=True, exist_ok=True)
    (Paths(root).trust / SMALL_NAME).write_bytes(SMALL)
    paths["small"] = f"/metadata/{SMALL_NAME}"
    Paths(root).settings.write_text("", "utf-8")
    upstream = ("http://127.0.0.1:9",)  # nobody answers: the keeper is there, and has nothing to do
    bundle = Bundle(BUNDLE_FORMAT, BUNDLE_MAJOR, "410000", "410122", "中牟县", upstream, "{}", dump_instant(Instant(0)))
    Paths(root).bundle.write_bytes(encode_bundle(bundle))
    return paths


def _put(root: Path, plain: Path, size: int) -> str:
    """Random bytes as a blob, and as a file whose blocks are the same on the disk and in memory."""
    builder, whole = TableBuilder(), hashlib.sha256()
    with plain.open("wb") as file:
        for start in range(0, size, _PORTION):
            portion = os.urandom(min(_PORTION, size - start))
            builder.update(portion)
            whole.update(portion)
            file.write(portion)
    table = builder.finish()
    ref = BlobRef(Digest(whole.hexdigest()), size, digest_of(table))
    with BlobStore.open(Paths(root)) as store:
        store.put(BlobRef(digest_of(table), len(table)), table)
        with store.begin(ref, parse_table(table, size, PIECE_SIZE)) as partial, plain.open("rb") as file:
            for start in range(0, size, _PORTION):
                partial.write_pieces(start // PIECE_SIZE, file.read(_PORTION))
            partial.finish()
    plain.unlink()
    os.link(Paths(root).blob(ref.digest), plain)
    return ref.digest
