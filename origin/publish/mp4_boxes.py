"""Boxes of an MP4 or QuickTime file (ISO/IEC 14496-12): finding them, and the tree inside the header.

All figures in a file are claims of whoever made it: every count, size and depth has a limit here, and whatever does
not add up is an InputError. Reading goes through a callable, so the same code serves files and tests.
"""

from __future__ import annotations

import struct
import sys
from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from manifests.errors import InputError

Read = Callable[[int, int], bytes]
"""Returns the bytes from an offset on: as many as asked for, or fewer at the end of the file."""

MAX_TOP_BOXES = 200_000  # a fragmented day in one-second fragments
MAX_HEADER_BOXES = 20_000

_PARENTS = {
    "trak": "moov",
    "edts": "trak",
    "mdia": "trak",
    "minf": "mdia",
    "stbl": "minf",
    "dinf": "minf",
}
_CONTAINERS = frozenset({"moov", *_PARENTS})


@dataclass(frozen=True, slots=True)
class Box:
    """One box: `start` is where its header is, `body` its payload, `stop` where it ends; all absolute."""

    kind: str
    start: int
    body: int
    stop: int

    @property
    def size(self) -> int:
        """Bytes with the header."""
        return self.stop - self.start


@dataclass(frozen=True, slots=True)
class Node:
    """A box of the header with its children; `data` is the payload of a box that holds none."""

    kind: str
    data: bytes
    children: tuple[Node, ...] = ()

    def find(self, *path: str) -> Node | None:
        """The first box down this path of names."""
        node: Node | None = self
        for kind in path:
            node = next((child for child in node.children if child.kind == kind), None) if node else None
        return node

    def walk(self) -> Iterator[Node]:
        """This box and all below it."""
        yield self
        for child in self.children:
            yield from child.walk()


def damaged(why: str, zh: str) -> InputError:
    """The error for a file whose boxes do not add up."""
    return InputError(f"the MP4 file is damaged: {why}", zh=f"MP4 文件已损坏：{zh}")


def truncated(why: str) -> InputError:
    """The error for a file that ends too early."""
    return InputError(
        f"the MP4 file is truncated: {why}",
        zh="MP4 文件不完整（被截断），请重新拷贝或重新导出后再试",
        hint="copy or export the recording again; check that both copies have the same size",
        hint_zh="请核对原文件大小，重新拷贝或导出",
    )


def read_table(data: bytes, code: str, columns: int, skip: int = 4) -> array[int]:
    """A counted table of big-endian integers that begins `skip` bytes into a box: 32 bits each for `I`, 64 for `Q`."""
    width = 8 if code == "Q" else 4
    if len(data) < skip + 4:
        raise damaged("a table ends early", "索引表不完整")
    (count,) = struct.unpack_from(">I", data, skip)
    stop = skip + 4 + count * columns * width
    if stop > len(data):
        raise damaged(f"a table of {count} rows does not fit its box", "索引表不完整")
    table = array(code)
    table.frombytes(data[skip + 4 : stop])
    if sys.byteorder == "little":
        table.byteswap()
    return table


def top_boxes(read: Read, size: int) -> Iterator[Box]:
    """The boxes of a file of `size` bytes, in order; stops at junk that stands behind a whole file."""
    at, seen = 0, set[str]()
    for _ in range(MAX_TOP_BOXES):
        if at >= size:
            return
        box = _box_at(read(at, 16), at, size)
        whole = seen >= {"moov", "mdat"}
        if box is None or not _is_name(box.kind):
            if whole:
                return  # players stop at the end of what they know; junk behind it harms nobody
            raise damaged(f"no box begins at byte {at}", "结构无法识别")
        if box.stop > size:
            if whole and box.kind not in {"mdat", "moov", "moof"}:
                return
            raise truncated(f"box {box.kind} needs {box.stop - size} bytes more than there are")
        seen.add(box.kind)
        yield box
        at = box.stop
    raise damaged("it has too many boxes", "结构过于零碎")


def _box_at(head: bytes, at: int, limit: int) -> Box | None:
    if len(head) < 8:
        return None
    size, name = struct.unpack_from(">I4s", head)
    body = at + 8
    if size == 1:
        if len(head) < 16:
            return None
        (size,) = struct.unpack_from(">Q", head, 8)
        body = at + 16
    elif size == 0:  # to the end of what holds it
        size = limit - at
    return Box(name.decode("latin-1"), at, body, at + size) if at + size >= body else None


def _is_name(kind: str) -> bool:
    return all(" " <= char <= "~" or char == "©" for char in kind)


def parse_header(data: bytes) -> Node:
    """The tree of a moov box, given whole."""
    left = [MAX_HEADER_BOXES]
    box = _box_at(data[:16], 0, len(data))
    if box is None:
        raise damaged("its header is empty", "文件头为空")
    return _parse_node(data, box, left)


def _parse_node(data: bytes, box: Box, left: list[int]) -> Node:
    left[0] -= 1
    if left[0] < 0:
        raise damaged("its header has too many boxes", "文件头过于零碎")
    if box.kind not in _CONTAINERS:
        return Node(box.kind, data[box.body : box.stop])
    children: list[Node] = []
    at = box.body
    while at < box.stop:
        # QuickTime ends some lists with four zero bytes; what is no box is kept as it is, under no name.
        child = _box_at(data[at : min(at + 16, box.stop)], at, box.stop)
        if child is None:
            children.append(Node("", data[at : box.stop]))
            break
        if child.stop > box.stop:
            raise damaged(f"box {child.kind} is longer than {box.kind} around it", "文件头内部长度不符")
        # Nesting by name ends at stbl's depth, so that a hostile file cannot exhaust the stack.
        if child.kind in _CONTAINERS and _PARENTS.get(child.kind) != box.kind:
            raise damaged(f"box {child.kind} stands inside {box.kind}", "文件头嵌套有误")
        children.append(_parse_node(data, child, left))
        at = child.stop
    return Node(box.kind, b"", tuple(children))
