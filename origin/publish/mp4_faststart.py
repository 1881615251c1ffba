"""Moving an MP4's header to the front, as a plan over the old file: new header bytes and ranges to copy.

A player that fetches over a line needs the header first. Only the header changes: the samples stay bit for bit, and
the offsets in the header follow them to their new place.
"""

from __future__ import annotations

import struct
import sys
from array import array
from bisect import bisect_right
from dataclasses import dataclass

from manifests.ranges import ByteRange
from origin.publish.mp4 import Layout, chunk_offsets, read_layout
from origin.publish.mp4_boxes import Node, Read, damaged

_NARROW_LIMIT = 1 << 32
_MAX_BRAND_BYTES = 64 << 10


@dataclass(frozen=True, slots=True)
class FaststartPlan:
    """The new file, part by part: bytes as they are, or ranges of the old file.

    Attributes:
        size: bytes of all parts.
    """

    parts: tuple[bytes | ByteRange, ...]
    size: int


@dataclass(frozen=True, slots=True)
class _Moves:
    """Where the kept ranges of the old file stand in the new one; `starts` and `stops` ascend."""

    starts: tuple[int, ...]
    stops: tuple[int, ...]
    shifts: tuple[int, ...]

    def apply(self, offsets: array[int]) -> array[int]:
        """New offsets for old ones.

        Raises:
            InputError: bad data; an offset that lies in no kept range.
        """
        moved = array("Q")
        for offset in offsets:
            at = bisect_right(self.starts, offset) - 1
            if at < 0 or offset > self.stops[at]:
                raise damaged(f"a chunk begins at byte {offset}, where no samples are", "索引指向的位置没有数据")
            moved.append(offset + self.shifts[at])
        return moved


def plan_faststart(read: Read, size: int) -> FaststartPlan | None:
    """Plan to move the header of a file of `size` bytes to the front; None when it is there already.

    Raises:
        InputError: bad data, as `read_layout`.
        ValueError: the caller's mistake: the layout says that its header cannot be moved.
    """
    return plan_faststart_of(read_layout(read, size), read)


def plan_faststart_of(layout: Layout, read: Read) -> FaststartPlan | None:
    """The same for a layout that was read before."""
    if layout.faststart:
        return None
    if layout.immovable:
        raise ValueError(f"this header cannot be moved: {layout.immovable}")
    first = layout.boxes[0] if layout.boxes[0].kind == "ftyp" else None
    if first and first.size > _MAX_BRAND_BYTES:
        raise damaged(f"its brand list has {first.size} bytes", "文件类型信息过长")
    ftyp = read(first.start, first.size) if first else b""
    kept = _kept_ranges(layout, len(ftyp))
    header = _header_for(layout.moov, kept, len(ftyp))
    parts: tuple[bytes | ByteRange, ...] = (ftyp, header, *kept) if ftyp else (header, *kept)
    return FaststartPlan(parts, sum(len(part) for part in parts))


def _kept_ranges(layout: Layout, start: int) -> tuple[ByteRange, ...]:
    """Everything but ftyp and moov, in order; adjacent boxes are one range."""
    moov = layout.moov_box
    return tuple(ByteRange(a, b) for a, b in ((start, moov.start), (moov.stop, layout.size)) if a < b)


def _header_for(moov: Node, kept: tuple[ByteRange, ...], before: int) -> bytes:
    """The header with its offsets moved; a table that passes 4 GiB is widened, which moves the samples again."""
    traks = [node for node in moov.children if node.kind == "trak"]
    tables = [chunk_offsets(trak) for trak in traks]
    wide = {n for n, (kind, _) in enumerate(tables) if kind == "co64"}
    while True:
        plain = _dump(moov, [_Table(n in wide, offsets) for n, (_, offsets) in enumerate(tables)])
        moves = _moves(kept, before + len(plain))
        moved = [moves.apply(offsets) for _, offsets in tables]
        too_far = {n for n, offsets in enumerate(moved) if offsets and max(offsets) >= _NARROW_LIMIT}
        if too_far <= wide:
            return _dump(moov, [_Table(n in wide, offsets) for n, offsets in enumerate(moved)])
        wide |= too_far


def _moves(kept: tuple[ByteRange, ...], at: int) -> _Moves:
    shifts = []
    for part in kept:
        shifts.append(at - part.start)
        at += len(part)
    return _Moves(tuple(part.start for part in kept), tuple(part.stop for part in kept), tuple(shifts))


@dataclass(frozen=True, slots=True)
class _Table:
    wide: bool
    offsets: array[int]

    def dump(self, version: bytes) -> bytes:
        # While the header's length is being found, offsets may not fit yet; they are written again when they do.
        fitting = self.offsets if self.wide else (offset % _NARROW_LIMIT for offset in self.offsets)
        body = array("Q" if self.wide else "I", fitting)
        if sys.byteorder == "little":
            body.byteswap()
        return _box("co64" if self.wide else "stco", version + struct.pack(">I", len(body)) + body.tobytes())


def _dump(node: Node, tables: list[_Table]) -> bytes:
    """A header box again as bytes; the traks take their chunk tables from `tables`, in order."""
    pending = iter(tables)
    parts = []
    for child in node.children:
        table = next(pending) if child.kind == "trak" else None
        parts.append(_dump_in(child, table))
    return _box(node.kind, b"".join(parts))


def _dump_in(node: Node, table: _Table | None) -> bytes:
    if node.kind in {"stco", "co64"} and table is not None:
        return table.dump(node.data[:4])
    if not node.kind:
        return node.data
    return _box(node.kind, b"".join(_dump_in(child, table) for child in node.children) or node.data)


def _box(kind: str, body: bytes) -> bytes:
    return struct.pack(">I4s", 8 + len(body), kind.encode("latin-1")) + body
