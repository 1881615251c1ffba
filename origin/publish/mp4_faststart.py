"""Moving an MP4's header to the front, as a plan over the old file: new header bytes and ranges to copy.

A player that fetches over a line needs the header first. Only the header changes: the samples stay bit for bit, and
the offsets in the header follow them to their new place.
"""

from __future__ import annotations

import struct
import sys
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from manifests.ranges import ByteRange
from origin.publish.mp4 import Layout, chunk_offsets, read_layout
from origin.publish.mp4_boxes import Node, Read, damaged

_CHUNK_TABLES = frozenset({"stco", "co64"})
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
class _Move:
    """A kept range of the old file and how far it is moved."""

    start: int
    stop: int
    shift: int


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
    old = [chunk_offsets(node)[1] for node in moov.children if node.kind == "trak"]
    while True:
        moves = _moves(kept, before + _length(moov, old))
        new = [_moved(offsets, moves) for offsets in old]
        if [one.itemsize for one in new] == [one.itemsize for one in old]:
            return b"".join(_dump(moov, new))
        old = [array(moved.typecode, offsets) for offsets, moved in zip(old, new, strict=True)]


def _moves(kept: tuple[ByteRange, ...], at: int) -> tuple[_Move, ...]:
    moves = []
    for part in kept:
        moves.append(_Move(part.start, part.stop, at - part.start))
        at += len(part)
    return tuple(moves)


def _moved(offsets: array[int], moves: Sequence[_Move]) -> array[int]:
    """New offsets for old ones, in a wider array when they need one.

    Raises:
        InputError: bad data; an offset that lies in no kept range.
    """
    try:
        return array(offsets.typecode, _new_places(offsets, moves))
    except OverflowError:
        return array("Q", _new_places(offsets, moves))


def _new_places(offsets: Iterable[int], moves: Sequence[_Move]) -> Iterator[int]:
    start, stop, shift = 1, 0, 0  # of the range that the last offset was in: the next one nearly always is, too
    for offset in offsets:
        if not start <= offset <= stop:
            move = next((one for one in moves if one.start <= offset <= one.stop), None)
            if move is None:
                raise damaged(f"a chunk begins at byte {offset}, where no samples are", "索引指向的位置没有数据")
            start, stop, shift = move.start, move.stop, move.shift
        yield offset + shift


# The header may be tens of megabytes: its length is known before it is put together, and it is put together once.


def _length(moov: Node, tables: Sequence[array[int]]) -> int:
    """How long the header will be with these chunk tables, one for each trak in order."""
    return 8 + sum(_length_in(child, table) for child, table in _with_tables(moov, tables))


def _length_in(node: Node, table: array[int] | None) -> int:
    if table is not None and node.kind in _CHUNK_TABLES:
        return 16 + table.itemsize * len(table)
    if not node.kind:
        return len(node.data)
    return 8 + (sum(_length_in(child, table) for child in node.children) or len(node.data))


def _dump(moov: Node, tables: Sequence[array[int]]) -> Iterator[bytes | memoryview]:
    yield struct.pack(">I4s", _length(moov, tables), b"moov")
    for child, table in _with_tables(moov, tables):
        yield from _dump_in(child, table)


def _dump_in(node: Node, table: array[int] | None) -> Iterator[bytes | memoryview]:
    if table is not None and node.kind in _CHUNK_TABLES:
        kind = b"co64" if table.itemsize == 8 else b"stco"
        yield struct.pack(">I4s4sI", _length_in(node, table), kind, node.data[:4], len(table))
        big_endian = array(table.typecode, table)
        if sys.byteorder == "little":
            big_endian.byteswap()
        yield memoryview(big_endian).cast("B")
        return
    if node.kind:
        yield struct.pack(">I4s", _length_in(node, table), node.kind.encode("latin-1"))
    for child in node.children:
        yield from _dump_in(child, table)
    yield node.data  # empty where there are children


def _with_tables(moov: Node, tables: Sequence[array[int]]) -> Iterator[tuple[Node, array[int] | None]]:
    pending = iter(tables)
    for child in moov.children:
        yield child, next(pending) if child.kind == "trak" else None
