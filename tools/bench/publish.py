"""Publishing a big file beside `sha256sum` on the same file, and the memory that it takes."""

from __future__ import annotations

import asyncio
import shutil
import sys
from pathlib import Path

import msgspec

from origin.app import init_origin
from origin.clock import system_clock
from tools.bench.clips import write_big_mp4
from tools.bench.measure import Bench, Measured, has, run_measured
from tools.bench.table import Row, median, show_rate
from tools.output import show_bytes

BIG_FACTOR = 4  # the file of the second memory figure, in sizes of the first


def run(bench: Bench) -> list[Row]:
    """Measure."""
    file = bench.fresh("publish.mp4")
    write_big_mp4(file, bench.size_bytes)
    _warm(file)
    ours, theirs, peaks = [], [], []
    for _ in range(bench.rounds):
        seconds, measured = _publish(bench, file)
        ours.append(bench.size_bytes / seconds)
        peaks.append(measured.peak_bytes)
        if has("sha256sum"):
            theirs.append(bench.size_bytes / run_measured(("sha256sum", str(file))).seconds)
    file.unlink()
    speed, size = median(ours), show_bytes(bench.size_bytes)
    row = Row(
        f"publish {size}, probe aside",
        show_rate(speed),
        f"sha256sum {show_rate(median(theirs))}" if theirs else "sha256sum: not installed",
        speed / median(theirs) if theirs else None,
        "≥ 1.2 ×",
        "one read: two digests, staged copy synced to the disk",
    )
    return [row, _memory_row(size, max(peaks)), _big_row(bench)]


def _memory_row(size: str, peak_bytes: int) -> Row:
    return Row(f"memory of publishing {size}", show_bytes(peak_bytes), "", None, "≤ 250 MiB", "whole process tree")


def _big_row(bench: Bench) -> Row:
    size_bytes = BIG_FACTOR * bench.size_bytes
    size = show_bytes(size_bytes)
    if shutil.disk_usage(bench.directory).free < 3 * size_bytes:
        return Row(f"memory of publishing {size}", "", "", None, "≤ 250 MiB", "not measured: the disk is too small")
    file = bench.fresh("publish-big.mp4")
    write_big_mp4(file, size_bytes)
    _, measured = _publish(bench, file)
    file.unlink()
    return _memory_row(size, measured.peak_bytes)


def _publish(bench: Bench, file: Path) -> tuple[float, Measured]:
    root = bench.fresh("origin-publish")
    asyncio.run(init_origin(root, "410000", passphrase=None, clock=system_clock))
    measured = run_measured((sys.executable, "-m", "tools.bench.once", str(root), str(file)))
    shutil.rmtree(root)
    told: dict[str, float] = msgspec.json.decode(measured.out)
    return told["seconds"], measured


def _warm(file: Path) -> None:
    """Read the file once, so that neither side pays for the disk's first read."""
    with file.open("rb", buffering=0) as opened:
        while opened.read(1 << 20):
            pass
