"""A lesson that is not here: two hundred ask for it at once, beside nginx and Varnish; and a seek on a thin line."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from origin.app import Origin, publish
from origin.publish.request import PublishRequest
from tools.bench.clips import write_big_mp4
from tools.bench.line import Shape, ShapedLine, open_line
from tools.bench.measure import Bench, has
from tools.bench.ports import free_port, wait_for
from tools.bench.sync import new_edge, serve_new_origin, sync_once
from tools.bench.table import Row, median
from tools.output import show_bytes
from tools.processes import serving

CLIENTS = 200
CROWD_BYTES = 100 * 1000 * 1000
_WIDE = Shape(100_000_000 // 8, 0.02)
_THIN = Shape(20_000_000 // 8, 0.02)
_PIECE_BYTES = 256 * 1024
# What a player reads before its viewer jumps: the head of the file and some seconds.
_LOOKED_AT_BYTES = 512 * 1024
# A round of the crowd takes half a minute per server, and a lesson can be cold once per edge only.
_MOST_ROUNDS = 2
_SEEKS = 5
# A column that no lesson is in: the catalog comes, and nothing else.
_NOTHING = {"YUANJIAO_SYNC_COLUMNS": "none"}

_NGINX = """daemon off; worker_processes 2; pid {root}/nginx.pid; error_log {root}/nginx.err;
events {{ worker_connections 2048; }}
http {{
  access_log off; sendfile on; default_type application/octet-stream;
  client_body_temp_path {root}/t1; proxy_temp_path {root}/t2; fastcgi_temp_path {root}/t3;
  uwsgi_temp_path {root}/t4; scgi_temp_path {root}/t5;
  proxy_cache_path {root}/cache levels=1:2 keys_zone=cold:10m max_size=2g;
  server {{
    listen 127.0.0.1:{port} reuseport backlog=1024;
    location / {{
      slice 1m; proxy_cache cold; proxy_cache_lock on; proxy_cache_lock_timeout 300s; proxy_cache_lock_age 300s;
      proxy_cache_key $uri$slice_range; proxy_set_header Range $slice_range; proxy_http_version 1.1;
      proxy_set_header Connection ""; proxy_cache_valid 200 206 1h; proxy_pass http://127.0.0.1:{line};
    }}
  }}
}}
"""
# Starts a peer: the bench, its port, and the port of the line.
Start = Callable[[Bench, int, int], subprocess.Popen[bytes]]
_VCL = """vcl 4.1;
backend default {{ .host = "127.0.0.1"; .port = "{line}"; }}
"""


@dataclass(frozen=True, slots=True)
class _Crowd:
    """What one server did for the crowd."""

    first_p99_s: float
    seconds: float
    down: int
    is_well: bool


def run(bench: Bench) -> list[Row]:
    """Measure."""
    return asyncio.run(_run(bench))


async def _run(bench: Bench) -> list[Row]:
    async with serve_new_origin(bench, "origin-cold") as (origin, url):
        size = min(bench.size_bytes, CROWD_BYTES)
        crowd = await _publish(bench, origin, "crowd", size)
        rows = await _crowd_rows(bench, origin, url, crowd, size)
        seek = await _publish(bench, origin, "seek", bench.size_bytes)
        rows.append(await _seek_row(bench, origin, url, seek))
        return rows


async def _publish(bench: Bench, origin: Origin, name: str, size: int) -> str:
    file = bench.fresh(f"{name}.mp4")
    write_big_mp4(file, size)
    released = await publish(origin, PublishRequest(files=(file,), title=name, id=name))
    file.unlink()
    return next(one.blob for one in released.files if one.role == "video")


async def _crowd_rows(bench: Bench, origin: Origin, url: str, digest: str, size: int) -> list[Row]:
    found: dict[str, list[_Crowd]] = {}
    for _ in range(min(bench.rounds, _MOST_ROUNDS)):
        found.setdefault("ours", []).append(await _ours(bench, origin, url, digest))
        if has("nginx"):
            found.setdefault("nginx", []).append(await _peer(bench, url, digest, _nginx))
        if has("varnishd"):
            found.setdefault("Varnish", []).append(await _peer(bench, url, digest, _varnish))
    ours = found.pop("ours")
    down, first = median(one.down for one in ours) / size, median(one.first_p99_s for one in ours)
    is_well = all(one.is_well for one in ours)
    what = f"cold start: {CLIENTS} clients ask for {show_bytes(size)} that is not here"
    rows = [
        Row(
            what,
            f"{down:.3f} × from upstream",
            ", ".join(f"{name} {median(one.down for one in all_) / size:.3f} ×" for name, all_ in found.items()),
            None,
            "1.00 ×",
            f"100 Mbit/s, 20 ms; {'all complete and identical' if is_well else 'NOT all complete'}; "
            f"{median(one.seconds for one in ours):.0f} s in all, two workers; heads and piece table included",
        )
    ]
    for name, all_ in found.items():
        theirs = median(one.first_p99_s for one in all_)
        rows.append(
            Row(
                "the same, first byte, p99",
                f"{first * 1000:.0f} ms",
                f"{name} {theirs * 1000:.0f} ms",
                first / theirs,
                "< 1 ×",
                f"{'all complete' if all(one.is_well for one in all_) else 'not all complete'} there, "
                f"{median(one.seconds for one in all_):.0f} s in all",
            )
        )
    return rows


async def _ours(bench: Bench, origin: Origin, url: str, digest: str) -> _Crowd:
    async with _cold_edge(bench, origin, url, _WIDE) as (line, port):
        return await _ask(line, port, f"/blobs/{digest}")


@asynccontextmanager
async def _cold_edge(bench: Bench, origin: Origin, url: str, shape: Shape) -> AsyncIterator[tuple[ShapedLine, int]]:
    """A new edge that knows the catalog and has no lesson, served behind a line."""
    root = await new_edge(bench, origin, url, "edge-cold")
    await sync_once(root, more=_NOTHING)
    async with open_line("127.0.0.1", urlsplit(url).port or 80, shape) as line:
        settings = Path(root, "edge.toml")
        settings.write_text(
            f'[upstream]\nurls = ["{line.url}"]\n[sync]\ncolumns = ["none"]\nwindow = "03:00-03:01"\n'
            "poll_s = 3600.0\n[store]\nreserve_bytes = 0\n",
            "utf-8",
        )
        arguments = ("edge", "serve", str(root), "--host", "127.0.0.1", "--port", "0", "--workers", "2")
        async with serving(arguments, bench.directory / "cold.log") as address:
            port = int(address.rpartition(":")[2])
            await _wait_for_filler(port)
            line.bytes_down = 0
            yield line, port
    shutil.rmtree(root)


async def _wait_for_filler(port: int) -> None:
    """The filler comes up beside the workers."""
    async with asyncio.timeout(60):
        while True:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"GET /metrics HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n")
            is_up = b"\nyuanjiao_edge_fillers 1.0" in await reader.read()
            writer.transport.abort()
            if is_up:
                return
            await asyncio.sleep(0.1)


async def _peer(bench: Bench, url: str, digest: str, start: Start) -> _Crowd:
    async with open_line("127.0.0.1", urlsplit(url).port or 80, _WIDE) as line:
        port = free_port()
        process = await asyncio.to_thread(start, bench, port, urlsplit(line.url).port or 80)
        try:
            await wait_for(port)
            line.bytes_down = 0
            return await _ask(line, port, f"/blobs/{digest}")
        finally:
            process.terminate()
            await asyncio.to_thread(process.wait, 20)


def _nginx(bench: Bench, port: int, line: int) -> subprocess.Popen[bytes]:
    root = bench.fresh("nginx-cold")
    root.mkdir()
    root.chmod(0o777)
    config = root / "nginx.conf"
    config.write_text(_NGINX.format(root=root, port=port, line=line), "utf-8")
    return subprocess.Popen(("nginx", "-c", str(config), "-e", str(root / "start.err")))


def _varnish(bench: Bench, port: int, line: int) -> subprocess.Popen[bytes]:
    root = bench.fresh("varnish-cold")
    root.mkdir()
    config = root / "cold.vcl"
    config.write_text(_VCL.format(line=line), "utf-8")
    arguments = ("-F", "-n", str(root / "n"), "-a", f"127.0.0.1:{port}", "-f", str(config), "-s", "malloc,1g")
    return subprocess.Popen(("varnishd", *arguments), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


async def _ask(line: ShapedLine, port: int, path: str) -> _Crowd:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tools.bench.crowd", str(port), path, str(CLIENTS), stdout=asyncio.subprocess.PIPE
    )
    out, _ = await process.communicate()
    told = msgspec.json.decode(out)
    firsts = told["firsts"]
    is_well = told["whole"] == CLIENTS and told["kinds"] == 1
    return _Crowd(firsts[int(len(firsts) * 0.99) - 1], told["seconds"], line.bytes_down, is_well)


async def _seek_row(bench: Bench, origin: Origin, url: str, digest: str) -> Row:
    times, fetched = [], []
    for _ in range(min(bench.rounds, _SEEKS)):
        async with _cold_edge(bench, origin, url, _THIN) as (line, port):
            times.append(await _seek(port, f"/blobs/{digest}", bench.size_bytes * 8 // 10))
            fetched.append(line.bytes_down)
    piece_s = _PIECE_BYTES / _THIN.bytes_per_s
    bound_s = 1.5 * piece_s + _THIN.round_trip_s
    seek_s = median(times)
    return Row(
        f"cold seek to 80 % of {show_bytes(bench.size_bytes)} through 20 Mbit/s, 20 ms",
        f"first byte after {seek_s * 1000:.0f} ms, {show_bytes(round(median(fetched)))} fetched by then",
        "",
        None,
        f"≤ {bound_s * 1000:.0f} ms (1.5 pieces + a round trip), ≤ 4 MiB",
        f"a player that read {show_bytes(_LOOKED_AT_BYTES)} from the start; piece table and heads included",
    )


async def _seek(port: int, path: str, to: int) -> float:
    """Open at the start, read a little, hang up, ask for another place; seconds to its first byte."""
    loop = asyncio.get_running_loop()
    async with AsyncExitStack() as stack:
        reader = await stack.enter_async_context(_asked(port, path, 0))
        await reader.readexactly(_LOOKED_AT_BYTES)
    async with AsyncExitStack() as stack:
        began_s = loop.time()
        reader = await stack.enter_async_context(_asked(port, path, to))
        await reader.readexactly(1)
        return loop.time() - began_s


@asynccontextmanager
async def _asked(port: int, path: str, start: int) -> AsyncIterator[asyncio.StreamReader]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=64 * 1024)
    try:
        writer.write(f"GET {path} HTTP/1.1\r\nHost: bench\r\nRange: bytes={start}-\r\n\r\n".encode("ascii"))
        await reader.readuntil(b"\r\n\r\n")
        yield reader
    finally:
        writer.transport.abort()
