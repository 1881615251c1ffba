"""A file of three gigabytes through the real program: in bounded memory, bit for bit."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest
from support.media import box_names, make_mp4, packets_of
from support.program import PROGRAM, succeed

GIB = 1 << 30
SIZE = 3 * GIB
MEMORY_BYTES = 250 << 20


def make_big_mp4(path: Path, size: int) -> Path:
    """A playable MP4 of exactly `size` bytes with its header at the end; a hole in the samples takes no disk space."""
    clip = make_mp4(path.with_name("clip.mp4"), seconds=4, faststart=False)
    data = clip.read_bytes()
    # FFmpeg leaves eight bytes before mdat for exactly this: a length of 64 bits, without moving a sample.
    assert box_names(clip) == ["ftyp", "free", "mdat", "moov"]
    mdat, moov = data.index(b"mdat") - 12, data.index(b"moov") - 4
    assert data[mdat : mdat + 8] == b"\0\0\0\x08free"
    header = data[moov:]
    with path.open("wb") as file:
        file.write(data[:mdat])
        file.write((1).to_bytes(4, "big") + b"mdat" + (size - mdat - len(header)).to_bytes(8, "big"))
        file.write(data[mdat + 16 : moov])
        file.seek(size - len(header))
        file.write(header)
    assert path.stat().st_size == size
    return path


def run_watched(*arguments: str | Path) -> tuple[dict, int]:
    """Run one command with --json; its object and the highest resident memory of the process itself."""
    peak_kib = 0
    with subprocess.Popen(
        [*PROGRAM, *map(str, arguments), "--json"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True
    ) as process:
        status = Path(f"/proc/{process.pid}/status")
        while process.poll() is None:
            # The kernel's own high-water mark, so that looking now and then misses nothing but the last moment.
            lines = [line for line in status.read_text().splitlines() if line.startswith("VmHWM")]
            peak_kib = max([peak_kib, *(int(line.split()[1]) for line in lines)])
            time.sleep(0.02)
        assert process.stdout is not None
        out = process.stdout.read()
    assert process.returncode == 0
    return json.loads(out), peak_kib * 1024


@pytest.mark.big
def test_three_gigabytes_are_published(tmp_path: Path) -> None:
    if shutil.disk_usage(tmp_path).free < 8 * GIB:
        pytest.skip("needs 8 GiB of free space")
    big = make_big_mp4(tmp_path / "big.mp4", SIZE)
    root = tmp_path / "origin"
    succeed("origin", "init", root)
    try:
        done, peak_bytes = run_watched("publish", big, "--origin", root, "--title", "三小时的讲座")
        assert peak_bytes <= MEMORY_BYTES, f"{peak_bytes >> 20} MiB"
        video = next(file for file in done["files"] if file["role"] == "video")
        stored = root / "blobs" / video["sha256"][:2] / video["sha256"]
        assert video["size"] == stored.stat().st_size == SIZE
        with stored.open("rb") as file:
            assert hashlib.file_digest(file, "sha256").hexdigest() == video["sha256"]
        # The header is in front now, and every sample is what it was.
        os.link(stored, tmp_path / "stored.mp4")
        assert _first_boxes(stored) == ["ftyp", "moov", "mdat"]
        assert packets_of(tmp_path / "stored.mp4") == packets_of(big)
        assert [path.name for path in (root / "staging").iterdir()] == [".lock"]
    finally:
        shutil.rmtree(root)
        big.unlink()


def _first_boxes(path: Path) -> list[str]:
    with path.open("rb") as file:
        head = file.read(1 << 20)
    names, at = [], 0
    while at + 8 <= len(head):
        names.append(head[at + 4 : at + 8].decode("latin-1"))
        at += int.from_bytes(head[at : at + 4], "big") if names[-1] != "mdat" else len(head)
    return names
