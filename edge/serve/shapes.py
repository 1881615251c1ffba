"""Heads that were parsed once, known again by their bytes.

A player asks for one file a thousand times, and its heads differ in the numbers of `Range` alone. What aiohttp's parser
made of a head is kept under the head's bytes, the two numbers cut out; a head with these bytes needs no second parsing.
So nothing is understood here that the parser did not understand before: any other byte, and the head is its again.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from aiohttp.http import RawRequestMessage

from edge.serve.accessline import Question, question_of
from manifests.ranges import Part, Representation

# A browser's head has about 600 bytes, and a class of the same boxes sends the same.
LONGEST_HEAD = 2048
MOST_SHAPES = 512

# Eighteen digits are more than any size, and fewer than would cost anything.
_RANGE = re.compile(rb"\r\nRange: bytes=([0-9]{1,18}-[0-9]{0,18})\r\n", re.IGNORECASE)
_CONDITIONS = ("If-Match", "If-None-Match", "If-Modified-Since", "If-Unmodified-Since")
_END = b"\r\n\r\n"


class Planned:
    """An answer in the form in which it is sent: only the head's tail, with the date, is added each time.

    Attributes:
        first: byte of the file that is sent first; -1 when none is.
    """

    __slots__ = ("block", "body", "first", "parts", "status", "what")

    def __init__(self, what: Representation, status: int, block: bytes, body: bytes, parts: tuple[Part, ...]) -> None:
        self.what = what
        self.status = status
        self.block = block
        self.body = body
        self.parts = parts
        self.first = next((part.range.start for part in parts if part.range is not None), -1)


class Shape:
    """What a request says beside the numbers of its range.

    Attributes:
        key: its path as sent, without the query.
        if_range: the entity tag under which its range is meant; None for any.
        planned: its answer as planned last, for the representation that it names.
        question: for the access log.
    """

    __slots__ = ("headers", "if_range", "key", "message", "method", "planned", "question")

    def __init__(self, message: RawRequestMessage) -> None:
        self.message = message
        self.method: str = message.method
        self.headers: Mapping[str, str] = message.headers
        self.key: str = message.path.partition("?")[0]
        self.if_range: str | None = message.headers.get("If-Range")
        self.planned: Planned | None = None
        self.question: Question = question_of(self.method, message.path, message.version, message.headers)


class Span:
    """A known head that asks for one range: from `first` to `last`, None for the end."""

    __slots__ = ("first", "last", "shape")

    def __init__(self, shape: Shape, first: int, last: int | None) -> None:
        self.shape = shape
        self.first = first
        self.last = last


class Shapes:
    """The heads known to one process, bounded in number and length."""

    __slots__ = ("_ranged", "_whole")

    def __init__(self) -> None:
        self._whole: dict[bytes, Shape] = {}
        self._ranged: dict[bytes, Shape] = {}

    def __len__(self) -> int:
        """Heads known."""
        return len(self._whole) + len(self._ranged)

    def find(self, data: bytes) -> Shape | Span | None:
        """What these bytes ask when they are one known head and nothing more."""
        match = _RANGE.search(data)
        if match is None:
            return self._whole.get(data)
        start, stop = match.span(1)
        shape = self._ranged.get(data[:start] + data[stop:])
        if shape is None:
            return None
        first, _, last = match[1].partition(b"-")
        return Span(shape, int(first), int(last) if last else None)

    def learn(self, data: bytes, shape: Shape) -> None:
        """Keep what the parser made of `data`, which must be all of the head and nothing else."""
        if len(data) > LONGEST_HEAD or not ends_one_head(data):
            return
        if len(self) >= MOST_SHAPES:  # rather than an order kept on each request
            self._whole.clear()
            self._ranged.clear()
        match = _RANGE.search(data)
        if match is None:
            self._whole[data] = shape
            return
        # One range, read by the parser from this very line, and by itself: no condition decides whether it counts.
        asked = shape.message.headers.getall("Range", [])
        is_alone = asked == ["bytes=" + match[1].decode("ascii")]
        is_free = not any(name in shape.headers for name in _CONDITIONS)
        is_once = len(shape.message.headers.getall("If-Range", [])) <= 1
        if shape.method == "GET" and is_alone and is_free and is_once:
            start, stop = match.span(1)
            self._ranged[data[:start] + data[stop:]] = shape


def ends_one_head(data: bytes) -> bool:
    """Whether the only empty line is at the end."""
    return data.find(_END) == len(data) - len(_END)
