"""An intro trimmed off an interleaved MP4: bytes on the line for us, zsync, casync and rsync."""

from __future__ import annotations

import asyncio
import re
import shutil
import socket
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

from origin.app import publish
from origin.publish.request import PublishRequest
from tools.bench.clips import write_clip, write_picture
from tools.bench.measure import Bench, has, run_measured
from tools.bench.sync import new_edge, serve_new_origin, sync_once
from tools.bench.table import Row
from tools.output import show_bytes
from tools.relay import open_relay
from tools.samples.clip import cut_beginning

_BITS_PER_S = 20_000_000
_FULL_BYTES = 1 << 30  # the bench's full size, at which the clip is over 100 MB
_FULL_S = 50.0
_LEAST_S = 6.0
_READY_S = 10.0
_SENT = re.compile(r"Total bytes (?:sent|received): ([\d,.]+)")


def run(bench: Bench) -> list[Row]:
    """Measure; byte counts do not vary, so one round is enough."""
    return asyncio.run(_run(bench))


async def _run(bench: Bench) -> list[Row]:
    folder = bench.fresh("patch")
    folder.mkdir()
    old, new = folder / "old" / "lesson.mp4", folder / "new" / "lesson.mp4"
    old.parent.mkdir()
    new.parent.mkdir()
    seconds = max(_LEAST_S, _FULL_S * min(1.0, bench.size_bytes / _FULL_BYTES))
    write_clip(old, seconds=seconds, bits_per_s=_BITS_PER_S)
    cut_beginning(old, new, seconds / 10)
    size_bytes = new.stat().st_size
    ours = await _ours(bench, old, new)
    peers = {
        "zsync": await _zsync(folder, old, new),
        "casync": await _casync(folder, old, new),
        "rsync": _rsync(folder, old, new),
    }
    rows = [
        Row(
            f"intro trimmed off an MP4 of {size_bytes / 1e6:.0f} MB",
            f"{show_bytes(ours)}, {ours / size_bytes:.3%}",
            f"{name} {show_bytes(theirs)}, {theirs / size_bytes:.2%}"
            if theirs is not None
            else f"{name}: not installed",
            ours / theirs if theirs else None,
            "≤ 0.1 %",
            "all bytes on the line, metadata, catalog, piece tables and HTTP heads included",
        )
        for name, theirs in peers.items()
    ]
    shutil.rmtree(folder)
    return rows


async def _ours(bench: Bench, old: Path, new: Path) -> int:
    async with serve_new_origin(bench, "origin-patch") as (origin, url):
        poster = bench.directory / "poster.png"
        write_picture(poster)
        await publish(origin, PublishRequest(files=(old, poster), title="lesson", id="lesson", hls=False))
        root = await new_edge(bench, origin, url, "edge-patch")
        await sync_once(root)
        await publish(origin, PublishRequest(files=(new, poster), title="lesson", id="lesson", hls=False))
        async with open_relay("127.0.0.1", urlsplit(url).port or 80) as relay:
            await sync_once(root, relay.url)
            crossed = sum(exchange.bytes for exchange in relay.drain())
        shutil.rmtree(root)
    return crossed


async def _zsync(folder: Path, old: Path, new: Path) -> int | None:
    if not (has("zsync") and has("zsyncmake") and has("nginx")):
        return None
    run_measured(("zsyncmake", "-u", new.name, "-o", f"{new}.zsync", str(new)))
    async with _nginx(folder, new.parent) as url, open_relay("127.0.0.1", urlsplit(url).port or 80) as relay:
        out = folder / "zsync.mp4"
        command = ("zsync", "-q", "-i", str(old), "-o", str(out), f"{relay.url}/{new.name}.zsync")
        await asyncio.to_thread(run_measured, command, cwd=folder)
        _check(out, new)
        return sum(exchange.bytes for exchange in relay.drain())


async def _casync(folder: Path, old: Path, new: Path) -> int | None:
    if not (has("casync") and has("nginx")):
        return None
    run_measured(("casync", "make", f"--store={new.parent}/new.castr", f"{new}.caibx", str(new)))
    async with _nginx(folder, new.parent) as url, open_relay("127.0.0.1", urlsplit(url).port or 80) as relay:
        out = folder / "casync.mp4"
        store, index = f"{relay.url}/new.castr", f"{relay.url}/{new.name}.caibx"
        command = ("casync", "extract", f"--store={store}", f"--seed={old}", index, str(out))
        await asyncio.to_thread(run_measured, command, cwd=folder)
        _check(out, new)
        return sum(exchange.bytes for exchange in relay.drain())


def _rsync(folder: Path, old: Path, new: Path) -> int | None:
    if not has("rsync"):
        return None
    out = folder / "rsync.mp4"
    shutil.copyfile(old, out)
    told = run_measured(("rsync", "--no-whole-file", "--ignore-times", "--stats", str(new), str(out))).out.decode()
    _check(out, new)
    return sum(int(re.sub(r"\D", "", count)) for count in _SENT.findall(told))


def _check(out: Path, wanted: Path) -> None:
    """A peer's figure counts only for the right result."""
    if out.read_bytes() != wanted.read_bytes():
        raise RuntimeError(f"{out.name} is not what was published")


@asynccontextmanager
async def _nginx(folder: Path, files: Path) -> AsyncIterator[str]:
    """Serve a folder by nginx: zsync asks for several ranges at once, which few servers answer."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    config = folder / "nginx.conf"
    config.write_text(
        f"daemon off; master_process off; pid {folder}/nginx.pid; error_log stderr error;\n"
        f"events {{}}\nhttp {{ access_log off; server {{ listen 127.0.0.1:{port}; root {files}; }} }}\n"
    )
    process = await asyncio.create_subprocess_exec(
        "nginx", "-p", str(folder), "-c", str(config), stderr=subprocess.DEVNULL
    )
    try:
        await _answering(port)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        await process.wait()


async def _answering(port: int) -> None:
    async with asyncio.timeout(_READY_S):
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                await asyncio.sleep(0.05)
                continue
            writer.close()
            return
