"""Serving random ranges of a big file on kept connections, one worker beside one worker of nginx.

Both servers are pinned to one core and the client to another; rounds alternate, so that a busy machine hits both. nginx
runs with `tcp_nopush` on and off, and the better of the two is the peer: neither is best for both lengths.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from edge.paths import Paths
from edge.store.blobs import BlobStore
from manifests.digests import Digest, digest_of
from manifests.errors import ConfigurationError
from manifests.pieces import PIECE_SIZE, BlobRef, TableBuilder, parse_table
from tools.bench.measure import Bench, has
from tools.bench.table import Row, median
from tools.output import show_bytes
from tools.processes import serving

CONNECTIONS = 8
ROUND_S = 2.0
READY_S = 10.0
_PORTION = 16 * PIECE_SIZE
# Length of a range, and the share of nginx's speed that is asked for.
LENGTHS = ((1024 * 1024, 0.6), (64 * 1024, 0.3))

_LUA = """local size, length = tonumber(os.getenv("SIZE")), tonumber(os.getenv("LENGTH"))
math.randomseed(os.time())
request = function()
  local start = math.random(0, size - length)
  return wrk.format("GET", nil, { Range = "bytes=" .. start .. "-" .. (start + length - 1) })
end
"""
_NGINX = """daemon off; worker_processes 1; pid {root}/nginx.pid; error_log {root}/nginx.err;
events {{ worker_connections 256; }}
http {{
  access_log off; sendfile on; keepalive_requests 100000000; default_type application/octet-stream;
  client_body_temp_path {root}/t1; proxy_temp_path {root}/t2; fastcgi_temp_path {root}/t3;
  uwsgi_temp_path {root}/t4; scgi_temp_path {root}/t5;
  server {{ listen 127.0.0.1:{on}; root {blobs}; tcp_nopush on; }}
  server {{ listen 127.0.0.1:{off}; root {blobs}; tcp_nopush off; }}
}}
"""


@dataclass(frozen=True, slots=True)
class Target:
    """A server under test: its name in the notes, its port, and the path of the file on it."""

    name: str
    port: int
    path: str


def run(bench: Bench) -> list[Row]:
    """Measure."""
    return asyncio.run(_run(bench))


async def _run(bench: Bench) -> list[Row]:
    root = bench.fresh("serve-edge")
    digest = await asyncio.to_thread(_make_edge, root, bench.size_bytes)
    async with contextlib.AsyncExitStack() as stack:
        with _on_core(0):
            address = await stack.enter_async_context(
                serving(
                    ("edge", "serve", str(root), "--host", "127.0.0.1", "--port", "0", "--workers", "1"),
                    bench.directory / "serve.log",
                )
            )
        targets = [Target("ours", int(address.rpartition(":")[2]), f"/blobs/{digest}")]
        if has("nginx"):
            targets += await stack.enter_async_context(_nginx(bench, Paths(root).blob(Digest(digest))))
        return [await _row(bench, targets, length, least) for length, least in LENGTHS]


async def _row(bench: Bench, targets: list[Target], length: int, least: float) -> Row:
    figures: dict[str, list[float]] = {target.name: [] for target in targets}
    for _ in range(bench.rounds):
        for target in targets:
            figures[target.name].append(await asyncio.to_thread(_ask, bench, target, length))
    ours = median(figures.pop("ours"))
    best = max(figures, key=lambda name: median(figures[name]), default="")
    peer = median(figures[best]) if best else 0.0
    return Row(
        f"{show_bytes(length)} random ranges of {show_bytes(bench.size_bytes)}, keep-alive, one worker",
        f"{ours:.0f}/s",
        f"{best} {peer:.0f}/s" if best else "nginx: not installed",
        ours / peer if peer else None,
        f"≥ {least} × nginx",
        f"client: {'wrk' if has('wrk') else 'our own, in Python'}, {CONNECTIONS} connections",
    )


def _ask(bench: Bench, target: Target, length: int) -> float:
    """Answers per second of one round."""
    url = f"http://127.0.0.1:{target.port}{target.path}"
    numbers = {"SIZE": str(bench.size_bytes), "LENGTH": str(length)}
    with _on_core(1):
        if not has("wrk"):
            arguments = (target.port, target.path, bench.size_bytes, length, CONNECTIONS, ROUND_S)
            return float(_output((sys.executable, "-m", "tools.bench.range_client", *map(str, arguments)), {}))
        script = bench.directory / "ranges.lua"
        script.write_text(_LUA, "ascii")
        out = _output(("wrk", "-t1", f"-c{CONNECTIONS}", f"-d{ROUND_S:.0f}s", "-s", str(script), url), numbers)
    if "Non-2xx" in out or "Socket errors" in out:
        raise ConfigurationError(f"bench: {target.name} answered with errors: {out.strip()[-300:]}")
    return next(float(line.split()[1]) for line in out.splitlines() if line.startswith("Requests/sec"))


def _output(command: tuple[str, ...], env: Mapping[str, str]) -> str:
    done = subprocess.run(command, env={**os.environ, **env}, capture_output=True, text=True, timeout=60, check=False)
    if done.returncode:
        raise ConfigurationError(f"bench: {command[0]} failed: {done.stderr.strip()[-300:]}")
    return done.stdout


@contextmanager
def _on_core(core: int) -> Iterator[None]:
    """Children started in the block run on one core (they inherit it); with one core there is nothing to choose."""
    before = os.sched_getaffinity(0)
    cores = sorted(before)
    os.sched_setaffinity(0, {cores[core % len(cores)]})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def _make_edge(root: Path, size: int) -> str:
    """An edge's directory with one blob of random bytes."""
    builder, whole = TableBuilder(), hashlib.sha256()
    source = root.with_name("serve.bin")
    with source.open("wb") as file:
        for start in range(0, size, _PORTION):
            portion = os.urandom(min(_PORTION, size - start))
            builder.update(portion)
            whole.update(portion)
            file.write(portion)
    table = builder.finish()
    ref = BlobRef(Digest(whole.hexdigest()), size, digest_of(table))
    with BlobStore.open(Paths(root)) as store:
        store.put(BlobRef(digest_of(table), len(table)), table)
        with store.begin(ref, parse_table(table, size, PIECE_SIZE)) as partial, source.open("rb") as file:
            for start in range(0, size, _PORTION):
                partial.write_pieces(start // PIECE_SIZE, file.read(_PORTION))
            partial.finish()
    source.unlink()
    Paths(root).settings.write_text("", "utf-8")
    return ref.digest


@asynccontextmanager
async def _nginx(bench: Bench, file: Path) -> AsyncIterator[list[Target]]:
    root = bench.fresh("nginx")
    root.mkdir()
    on, off = _free_port(), _free_port()
    config = root / "nginx.conf"
    config.write_text(_NGINX.format(root=root, blobs=file.parent, on=on, off=off), "utf-8")
    process = _start_pinned(("nginx", "-c", str(config), "-e", str(root / "start.err")))
    try:
        await _wait_for(on)
        yield [Target("nginx (nopush)", on, f"/{file.name}"), Target("nginx", off, f"/{file.name}")]
    finally:
        process.terminate()
        process.wait(10)


def _start_pinned(command: tuple[str, ...]) -> subprocess.Popen[bytes]:
    with _on_core(0):
        return subprocess.Popen(command)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


async def _wait_for(port: int) -> None:
    ends = time.monotonic() + READY_S
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError as error:
            if time.monotonic() > ends:
                raise ConfigurationError("bench: nginx does not come up") from error
            await asyncio.sleep(0.05)
        else:
            return
