"""The patch container: round trip, and every way in which a hostile patch can lie."""

import contextlib
import random
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from manifests.errors import FormatError
from manifests.patch_plan import MAX_REGION_BYTES, MAX_SEGMENT_BYTES, max_region
from manifests.patches import (
    ENTRY_BYTES,
    FIXED_BYTES,
    PatchPlan,
    Segment,
    apply_patch,
    dump_header,
    encode_patch,
    encode_segment,
    header_size,
    max_frame,
    parse_header,
    plan_patch,
    zstd,
)

ROOT = Path(__file__).parents[2]
OLD = random.Random(1).randbytes(600_000)
NEW = b"head" + OLD[1_000:500_000] + b"tail"
PLAN = plan_patch(OLD, NEW)


def made(plan: PatchPlan = PLAN, old: bytes = OLD, new: bytes = NEW) -> bytes:
    parts: list[bytes] = []
    size = encode_patch(old, new, plan, parts.append)
    assert size == sum(map(len, parts))
    return b"".join(parts)


PATCH = made()


def apply(patch: bytes, *, old: bytes = OLD, new_size: int = len(NEW), patch_size: int | None = None) -> bytes:
    return b"".join(
        apply_patch(
            lambda a, b: old[a:b],
            lambda a, b: patch[a:b],
            len(patch) if patch_size is None else patch_size,
            old_size=len(old),
            new_size=new_size,
        )
    )


def raw(
    entries: list[tuple[int, int, int, int]], *, old: int = len(OLD), new: int | None = None, **fixed: int
) -> bytes:
    """A header as an attacker writes it."""
    total = sum(entry[0] for entry in entries) if new is None else new
    head = struct.pack(">7sBQQI", b"yjpatch", fixed.get("version", 1), old, total, fixed.get("count", len(entries)))
    return head + b"".join(struct.pack(">IQII", *entry) for entry in entries)


def frame_of(data: bytes, **options: int) -> bytes:
    params = {zstd.CompressionParameter[name]: value for name, value in options.items()}
    return zstd.ZstdCompressor(options=params).compress(data, zstd.ZstdCompressor.FLUSH_FRAME)


def test_round_trip() -> None:
    assert len(PATCH) < 300
    assert apply(PATCH) == NEW
    header = parse_header(PATCH, len(PATCH))
    assert header.plan == PLAN
    assert header.patch_size == len(PATCH)
    assert PATCH.startswith(dump_header(PLAN, header.frame_sizes))
    assert header_size(1) == FIXED_BYTES + ENTRY_BYTES == 48


def test_nothing_from_something_and_something_from_nothing() -> None:
    for old, new in ((b"", b""), (OLD, b""), (b"", NEW), (b"a", b"b"), (b"1234567", b"1234567"), (NEW, NEW)):
        plan = plan_patch(old, new)
        assert apply(made(plan, old, new), old=old, new_size=len(new)) == new
    assert len(made(plan_patch(b"", b""), b"", b"")) == FIXED_BYTES
    assert plan_patch(OLD, b"").covered_ratio == 1.0


def test_segments_come_one_at_a_time_with_exact_sizes() -> None:
    size = 2 * MAX_SEGMENT_BYTES + 5
    plan = plan_patch(b"", bytes(size))
    patch = made(plan, b"", bytes(size))
    reads: list[tuple[int, int]] = []

    def read_patch(start: int, stop: int) -> bytes:
        reads.append((start, stop))
        return patch[start:stop]

    parts = apply_patch(lambda a, b: b"", read_patch, len(patch), old_size=0, new_size=size)
    assert len(next(parts)) == MAX_SEGMENT_BYTES
    assert len(reads) == 3
    assert [len(part) for part in parts] == [MAX_SEGMENT_BYTES, 5]


@pytest.mark.parametrize("cut", [0, 1, 7, 27, 28, 30, 47, 48, 60, len(PATCH) - 1])
def test_truncated(cut: int) -> None:
    with pytest.raises(FormatError):
        apply(PATCH[:cut])
    with pytest.raises(FormatError):
        apply(PATCH[:cut], patch_size=len(PATCH))


def test_trailing_bytes() -> None:
    with pytest.raises(FormatError, match="header for"):
        apply(PATCH + b"\0")


def test_patch_for_other_blobs() -> None:
    with pytest.raises(FormatError, match="promised"):
        apply(PATCH, new_size=len(NEW) + 1)
    with pytest.raises(FormatError, match="promised"):
        apply(PATCH, old=OLD[:-1])


def test_old_blob_that_gives_too_little() -> None:
    patch = PATCH
    with pytest.raises(FormatError, match="old blob gave"):
        list(
            apply_patch(
                lambda a, b: OLD[a : b - 1], lambda a, b: patch[a:b], len(patch), old_size=len(OLD), new_size=len(NEW)
            )
        )


K = 16 * 1024
GOOD_FRAME = frame_of(b"x" * 100)
LIES: dict[str, bytes] = {
    "no magic": b"YJPATCH" + PATCH[7:],
    "version 0": raw([(100, 0, 0, len(GOOD_FRAME))], version=0) + GOOD_FRAME,
    "version 2": raw([(100, 0, 0, len(GOOD_FRAME))], version=2) + GOOD_FRAME,
    "a zip file": b"PK\x03\x04" + bytes(100),
    "more segments than entries": raw([(100, 0, 0, len(GOOD_FRAME))], count=2) + GOOD_FRAME,
    "fewer segments than entries": raw([(100, 0, 0, len(GOOD_FRAME))] * 2, new=200, count=1) + GOOD_FRAME,
    "four thousand million segments": raw([], new=100, count=0xFFFFFFFF),
    "segments of nothing": raw([(0, 0, 0, 1)]) + b"x",
    "an early segment too short": raw([(K - 1, 0, 0, 9), (K, 0, 0, 9)]) + bytes(18),
    "a segment too long": raw([(MAX_SEGMENT_BYTES + 1, 0, 0, 9)]) + bytes(9),
    "segments that make too little": raw([(100, 0, 0, len(GOOD_FRAME))], new=101) + GOOD_FRAME,
    "segments that make too much": raw([(100, 0, 0, len(GOOD_FRAME))], new=99) + GOOD_FRAME,
    "a region past the end": raw([(100, len(OLD) - 50, 51, len(GOOD_FRAME))]) + GOOD_FRAME,
    "a region far past the end": raw([(100, 1 << 63, 50, len(GOOD_FRAME))]) + GOOD_FRAME,
    "a region too short": raw([(100, 0, 7, len(GOOD_FRAME))]) + GOOD_FRAME,
    "an empty region with a start": raw([(100, 5, 0, len(GOOD_FRAME))]) + GOOD_FRAME,
    "a region too long for its segment": raw([(100, 0, max_region(100) + 1, len(GOOD_FRAME))]) + GOOD_FRAME,
    "an empty frame": raw([(100, 0, 0, 0)]),
    "a frame past zstd's bound": raw([(100, 0, 0, max_frame(100) + 1)]) + bytes(max_frame(100) + 1),
    "blobs over the limit": raw([(100, 0, 0, len(GOOD_FRAME))], old=(1 << 40) + 1) + GOOD_FRAME,
    "frame sizes past the patch": raw([(100, 0, 0, len(GOOD_FRAME) + 1)]) + GOOD_FRAME,
}


@pytest.mark.parametrize("patch", LIES.values(), ids=LIES.keys())
def test_headers_that_lie(patch: bytes) -> None:
    with pytest.raises(FormatError):
        parse_header(patch, len(patch))
    new_size = struct.unpack_from(">Q", patch, 16)[0] if len(patch) >= FIXED_BYTES else 0
    with pytest.raises(FormatError):
        apply(patch, new_size=new_size)


def one_segment(frame: bytes, size: int = 100, region: tuple[int, int] = (0, 0)) -> bytes:
    return raw([(size, *region, len(frame))]) + frame


FRAMES: dict[str, Callable[[], bytes]] = {
    "not zstd": lambda: b"x" * 20,
    "shorter than its segment": lambda: frame_of(b"x" * 99),
    "longer than its segment": lambda: frame_of(b"x" * 101),
    "longer, size not told": lambda: frame_of(b"x" * 101, content_size_flag=0),
    "cut off": lambda: frame_of(b"x" * 100)[:-1],
    "two frames": lambda: frame_of(b"x" * 50) + frame_of(b"x" * 50),
    "bytes after the frame": lambda: frame_of(b"x" * 100) + b"\0",
    "skippable frame": lambda: struct.pack("<II", 0x184D2A50, 8) + b"x" * 8,
    "skippable frame first": lambda: struct.pack("<II", 0x184D2A50, 0) + frame_of(b"x" * 100),
    "needs a dictionary": lambda: zstd.ZstdCompressor(
        zstd_dict=zstd.ZstdDict(b"0123456789x" * 9, is_raw=True).as_prefix
    ).compress(b"0123456789x" * 9 + b"x", zstd.ZstdCompressor.FLUSH_FRAME),
    "checksum wrong": lambda: frame_of(b"x" * 100, checksum_flag=1)[:-1] + b"\0",
    "legacy magic": lambda: bytes.fromhex("1eb52ffd") + bytes(30),
}


@pytest.mark.parametrize("frame", FRAMES.values(), ids=FRAMES.keys())
def test_frames_that_lie(frame: Callable[[], bytes]) -> None:
    with pytest.raises(FormatError, match="frame"):
        apply(one_segment(frame()), new_size=100)


def test_the_good_frame_is_good() -> None:
    assert apply(one_segment(GOOD_FRAME), new_size=100) == b"x" * 100
    assert apply(one_segment(GOOD_FRAME, region=(0, 8)), new_size=100) == b"x" * 100


MEMORY_PROBE = """
import sys
from pathlib import Path
from manifests.errors import FormatError
from manifests.patches import apply_patch

def peak():
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0])

old_path, patch_path, new_size = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
def reader(path):
    def read(start, stop):
        with path.open("rb") as file:
            file.seek(start)
            return file.read(stop - start)
    return read
before = peak()
try:
    size = sum(map(len, apply_patch(reader(old_path), reader(patch_path), patch_path.stat().st_size,
                                    old_size=old_path.stat().st_size, new_size=new_size)))
except FormatError:
    size = -1
print(size, peak() - before)
"""


def wide_frame() -> bytes:
    params = zstd.CompressionParameter
    encoder = zstd.ZstdCompressor(options={params.window_log: 27, params.content_size_flag: 0})
    return encoder.compress(bytes(1000)) + encoder.flush()


def test_memory_is_bounded_for_bombs_and_for_honest_patches(tmp_path: Path) -> None:
    # In a process of its own, because zstd's memory is not Python's: the kernel's high-water mark counts both.
    old = random.Random(2).randbytes(2 * MAX_REGION_BYTES)
    new = old[MAX_SEGMENT_BYTES:] + old[:MAX_SEGMENT_BYTES]
    bomb = frame_of(bytes(256 * 1024 * 1024))
    assert len(bomb) < max_frame(MAX_SEGMENT_BYTES)
    region = (0, MAX_REGION_BYTES)
    cases = [
        (made(plan_patch(old, new), old, new), len(new), len(new)),
        (raw([(MAX_SEGMENT_BYTES, *region, len(bomb))], old=len(old)) + bomb, MAX_SEGMENT_BYTES, -1),
        (raw([(1000, 0, 0, len(wide_frame()))], old=len(old)) + wide_frame(), 1000, -1),
        (raw([], old=len(old), new=1 << 40, count=1 << 18) + bytes(20 << 18), 1 << 40, -1),
    ]
    (tmp_path / "old").write_bytes(old)
    for patch, new_size, expected in cases:
        (tmp_path / "patch").write_bytes(patch)
        command = [sys.executable, "-c", MEMORY_PROBE, str(tmp_path / "old"), str(tmp_path / "patch"), str(new_size)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=60)
        size, peak_kib = map(int, done.stdout.split())
        assert size == expected
        assert peak_kib < 80 * 1024


@settings(max_examples=200, deadline=None)
@given(st.integers(0, len(PATCH) - 1), st.integers(1, 255))
def test_a_flipped_byte_is_refused_or_gives_exactly_as_many_bytes(at: int, mask: int) -> None:
    damaged = bytearray(PATCH)
    damaged[at] ^= mask
    with contextlib.suppress(FormatError):
        assert len(apply(bytes(damaged))) == len(NEW)


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=100))
def test_no_bytes_break_the_parser(data: bytes) -> None:
    for patch in (data, PATCH[:FIXED_BYTES] + data, b"yjpatch\x01" + data):
        with pytest.raises(FormatError):
            parse_header(patch, len(patch))


def test_the_writer_refuses_what_a_reader_would() -> None:
    with pytest.raises(FormatError, match="frames"):
        dump_header(PLAN, [])
    for segment in (
        Segment(1, len(NEW)),
        Segment(0, len(NEW), 0, MAX_REGION_BYTES + 1),
        Segment(0, len(NEW), len(OLD), 8),
        Segment(0, len(NEW) - 1),
    ):
        with pytest.raises(FormatError):
            dump_header(PatchPlan(len(OLD), len(NEW), (segment,)), [10])


def test_a_segment_needs_its_region() -> None:
    plan = PatchPlan(len(OLD), 1000, (Segment(0, 1000, 5000, 9000),))
    frame = encode_segment(plan, 0, OLD, OLD[6000:7000])
    assert len(frame) < 100
    patch = dump_header(plan, [len(frame)]) + frame
    assert apply(patch, new_size=1000) == OLD[6000:7000]
    other = bytes(len(OLD))
    assert apply(patch, old=other, new_size=1000) == bytes(1000)  # not proved here: the piece table does that
