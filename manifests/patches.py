"""Patches: how to build a blob from an older one (FORMAT.md section 3).

A patch is a header with a table of segments, then one zstd frame per segment. Each frame is compressed with the
segment's region of the old blob as its prefix, so writing and reading need memory for one segment and one region,
whatever the size of the blobs. A reader proves the result by the new blob's piece table or digest, like bytes of any
other source: this file only makes sure that a hostile patch cannot take more memory, time or space than its limits.
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING

from manifests.errors import FormatError
from manifests.patch_plan import (
    MAX_SEGMENT_BYTES,
    MIN_REGION_BYTES,
    MIN_SEGMENT_BYTES,
    PatchPlan,
    Segment,
    max_region,
    plan_patch,
)
from manifests.pieces import MAX_BLOB_SIZE

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

if TYPE_CHECKING:
    from typing_extensions import Buffer

__all__ = [
    "PatchHeader",
    "PatchPlan",
    "Segment",
    "apply_patch",
    "dump_header",
    "encode_patch",
    "encode_segment",
    "header_size",
    "parse_header",
    "plan_patch",
]

MAGIC = b"yjpatch"
VERSION = 1
MAX_SEGMENTS = 1 << 18  # enough for the largest blob, with cuts
FIXED_BYTES = 28
ENTRY_BYTES = 20

_FIXED = struct.Struct(">7sBQQI")
_ENTRY = struct.Struct(">IQII")
# Measured on a trimmed MP4 of 213 MB and a catalog of 44 MB: with a region, level 1 is the fastest and within 10 % of
# the best, while level 3 ("dfast") leaves five times as much of the MP4. Without a region, zstd's usual level.
_REGION_LEVEL = 1
_PLAIN_LEVEL = 3
_WINDOW_LOG = 25  # 32 MiB: the smallest power of two over segment + region


@dataclass(frozen=True, slots=True)
class PatchHeader:
    """A patch's parsed header: its plan and the compressed size of each segment."""

    plan: PatchPlan
    frame_sizes: tuple[int, ...]

    @property
    def patch_size(self) -> int:
        """Length of the whole patch in bytes."""
        return header_size(len(self.frame_sizes)) + sum(self.frame_sizes)


def header_size(segment_count: int) -> int:
    """Length in bytes of a header with so many segments; the first frame begins there."""
    return FIXED_BYTES + segment_count * ENTRY_BYTES


def max_frame(new_size: int) -> int:
    """Longest frame that a segment may have: zstd's own bound for bytes that do not compress."""
    return new_size + (new_size >> 8) + 128


def encode_segment(plan: PatchPlan, number: int, old: Buffer, new: Buffer) -> bytes:
    """Compress one segment. Safe on several threads at once; zstd works without the interpreter's lock.

    Args:
        plan: made from exactly these two blobs.
        number: which segment of the plan.
        old: the whole older blob.
        new: the whole newer blob.
    """
    segment = plan.segments[number]
    params = zstd.CompressionParameter
    options: dict[int, int] = {params.compression_level: _PLAIN_LEVEL}
    prefix = None
    if segment.old_size:
        options = {
            params.compression_level: _REGION_LEVEL,
            params.enable_long_distance_matching: 1,
            params.window_log: _WINDOW_LOG,
        }
        with memoryview(old)[segment.old_start : segment.old_start + segment.old_size] as region:
            prefix = zstd.ZstdDict(region, is_raw=True).as_prefix
    encoder = zstd.ZstdCompressor(options=options, zstd_dict=prefix)
    encoder.set_pledged_input_size(segment.new_size)
    with memoryview(new)[segment.new_start : segment.new_start + segment.new_size] as data:
        return encoder.compress(data, encoder.FLUSH_FRAME)


def dump_header(plan: PatchPlan, frame_sizes: Sequence[int]) -> bytes:
    """Write the header for frames of these sizes, one per segment.

    Raises:
        FormatError: caller's mistake; a reader would refuse this header.
    """
    if len(frame_sizes) != len(plan.segments):
        raise FormatError(f"patch of {len(plan.segments)} segments with {len(frame_sizes)} frames")
    header = PatchHeader(plan, tuple(frame_sizes))
    _check_header(header)
    fixed = _FIXED.pack(MAGIC, VERSION, plan.old_size, plan.new_size, len(plan.segments))
    entries = (
        _ENTRY.pack(one.new_size, one.old_start, one.old_size, size)
        for one, size in zip(plan.segments, header.frame_sizes, strict=True)
    )
    return fixed + b"".join(entries)


def encode_patch(old: Buffer, new: Buffer, plan: PatchPlan, write: Callable[[bytes], object]) -> int:
    """Write a whole patch in one go and return its size; holds all frames in memory, so for small patches."""
    frames = [encode_segment(plan, number, old, new) for number in range(len(plan.segments))]
    header = dump_header(plan, [len(frame) for frame in frames])
    for part in (header, *frames):
        write(part)
    return len(header) + sum(map(len, frames))


def parse_header(data: bytes, patch_size: int) -> PatchHeader:
    """Read a patch's header.

    Args:
        data: the patch from its first byte on, at least its whole header; more is not looked at.
        patch_size: length of the whole patch in bytes.

    Raises:
        FormatError: bad data; not a patch, another version, a broken rule or limit, or another length.
    """
    count = _segment_count(data)
    if len(data) < header_size(count):
        raise FormatError(f"patch header is cut off: {len(data)} bytes of {header_size(count)}")
    _, _, old_size, new_size, _ = _FIXED.unpack_from(data)
    segments: list[Segment] = []
    frame_sizes: list[int] = []
    start = 0
    for entry in _ENTRY.iter_unpack(data[FIXED_BYTES : header_size(count)]):
        size, old_start, region_size, frame_size = entry
        segments.append(Segment(start, size, old_start, region_size))
        frame_sizes.append(frame_size)
        start += size
    header = PatchHeader(PatchPlan(old_size, new_size, tuple(segments)), tuple(frame_sizes))
    _check_header(header)
    if header.patch_size != patch_size:
        raise FormatError(f"patch of {patch_size} bytes has a header for {header.patch_size}")
    return header


def _segment_count(data: bytes) -> int:
    if len(data) < FIXED_BYTES:
        raise FormatError(f"patch header is cut off: {len(data)} bytes")
    magic, version, _, new_size, count = _FIXED.unpack_from(data)
    if magic != MAGIC:
        raise FormatError("this is not a patch")
    if version != VERSION:
        raise FormatError(f"patch has version {version}, this program reads {VERSION}")
    if count > min(MAX_SEGMENTS, new_size // MIN_SEGMENT_BYTES + 1):
        raise FormatError(f"patch of {count} segments for {new_size} bytes")
    return int(count)


def _check_header(header: PatchHeader) -> None:
    plan = header.plan
    if max(plan.old_size, plan.new_size) > MAX_BLOB_SIZE:
        raise FormatError(f"patch for blobs over {MAX_BLOB_SIZE} bytes")
    if len(plan.segments) > MAX_SEGMENTS:
        raise FormatError(f"patch of {len(plan.segments)} segments passes the limit of {MAX_SEGMENTS}")
    start = 0
    for number, (one, frame) in enumerate(zip(plan.segments, header.frame_sizes, strict=True)):
        is_last = number == len(plan.segments) - 1
        if one.new_start != start or not (1 if is_last else MIN_SEGMENT_BYTES) <= one.new_size <= MAX_SEGMENT_BYTES:
            raise FormatError(f"segment {number} of a patch has {one.new_size} bytes at {one.new_start}")
        start += one.new_size
        _check_region(number, one, plan.old_size)
        if not 1 <= frame <= max_frame(one.new_size):
            raise FormatError(f"segment {number} of a patch has a frame of {frame} bytes for {one.new_size}")
    if start != plan.new_size:
        raise FormatError(f"segments of a patch make {start} bytes where {plan.new_size} are promised")


def _check_region(number: int, one: Segment, old_size: int) -> None:
    if one.old_size == 0 and one.old_start == 0:
        return
    if not MIN_REGION_BYTES <= one.old_size <= max_region(one.new_size) or one.old_start + one.old_size > old_size:
        raise FormatError(
            f"segment {number} of a patch has a region of {one.old_size} bytes at {one.old_start} of {old_size}"
        )


def apply_patch(
    read_old: Callable[[int, int], bytes],
    read_patch: Callable[[int, int], bytes],
    patch_size: int,
    *,
    old_size: int,
    new_size: int,
) -> Iterator[bytes]:
    """Build the new blob, one segment at a time, in order.

    Memory: one segment, one region and one frame (under 60 MiB). The bytes are not proved here.

    Args:
        read_old: gives the old blob's bytes from start to stop (half-open).
        read_patch: the same for the patch.
        patch_size: length of the patch.
        old_size: length of the old blob, as promised by the catalog.
        new_size: length of the new blob, as promised by the catalog.

    Raises:
        FormatError: bad data; the patch is no patch, or not for these two blobs, or breaks a rule or limit. Some
            segments may have been given out before.
    """
    count = _segment_count(read_patch(0, min(FIXED_BYTES, patch_size)))
    header = parse_header(read_patch(0, min(header_size(count), patch_size)), patch_size)
    plan = header.plan
    if (plan.old_size, plan.new_size) != (old_size, new_size):
        raise FormatError(
            f"patch builds {plan.new_size} bytes from {plan.old_size} where {new_size} from {old_size} are promised"
        )
    starts = accumulate(header.frame_sizes, initial=header_size(count))
    for one, start, size in zip(plan.segments, starts, header.frame_sizes, strict=False):
        yield _decode_segment(one, read_old, read_patch(start, start + size))


def _decode_segment(one: Segment, read_old: Callable[[int, int], bytes], frame: bytes) -> bytes:
    decoder = zstd.ZstdDecompressor(
        zstd_dict=_prefix(one, read_old), options={zstd.DecompressionParameter.window_log_max: _WINDOW_LOG}
    )
    try:
        data: bytes = decoder.decompress(frame, max_length=one.new_size + 1)
    except zstd.ZstdError as error:
        raise FormatError(f"a patch's frame does not decompress: {error}") from error
    if len(data) != one.new_size or not decoder.eof or decoder.unused_data:
        raise FormatError(f"a patch's frame is not exactly the {one.new_size} bytes of its segment")
    return data


def _prefix(one: Segment, read_old: Callable[[int, int], bytes]) -> tuple[zstd.ZstdDict, int] | None:
    # A function of its own: the region is dropped on return, before the frame is decompressed (ZstdDict copies it).
    if not one.old_size:
        return None
    region = read_old(one.old_start, one.old_start + one.old_size)
    if len(region) != one.old_size:
        raise FormatError(f"old blob gave {len(region)} bytes at {one.old_start} where {one.old_size} are expected")
    return zstd.ZstdDict(region, is_raw=True).as_prefix
