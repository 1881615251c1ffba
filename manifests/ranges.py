"""What to answer to a GET or HEAD of known bytes: status, header fields and byte ranges, decided without I/O.

Range, conditional and HEAD semantics of RFC 9110 (sections 13, 14, 15.3.7, 15.5.17) for representations whose
validator is their digest. Nothing here knows files, sockets or whether the bytes are here already: a hit and a fill
get the same answer. Ranges are half-open inside and become inclusive only in a header's text.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping
from dataclasses import dataclass

MAX_RANGES = 32
MAX_RANGE_HEADER = 4096

_SPEC = re.compile(r"([0-9]+)-([0-9]+)?|-([0-9]+)")
_ETAG = re.compile(r'(?:W/)?"[\x21\x23-\x7e\x80-\xff]*"')


@dataclass(frozen=True, slots=True)
class ByteRange:
    """Half-open range `start` to `stop` of a representation, never empty."""

    start: int
    stop: int

    def __len__(self) -> int:
        """Bytes in it."""
        return self.stop - self.start

    def content_range(self, size: int) -> str:
        """The `Content-Range` field value."""
        return f"bytes {self.start}-{self.stop - 1}/{size}"


@dataclass(frozen=True, slots=True)
class Part:
    """One portion of the body: literal bytes first, then a range of the representation (None: nothing more)."""

    literal: bytes
    range: ByteRange | None


@dataclass(frozen=True, slots=True)
class Answer:
    """A planned response. `parts` is empty when no body is to be sent (HEAD, 304, 412, 416).

    `fields` always carries Content-Length, except for 304.
    """

    status: int
    fields: tuple[tuple[str, str], ...]
    parts: tuple[Part, ...]


@dataclass(frozen=True, slots=True)
class Representation:
    """The bytes that a target resource is now.

    Attributes:
        etag: strong entity tag, quotes included.
        fields: header fields of every 200 and 206 beside those that this module adds
            (for example Cache-Control and Repr-Digest).
    """

    size: int
    etag: str
    media_type: str
    fields: tuple[tuple[str, str], ...] = ()


class Unsatisfiable(Exception):  # noqa: N818 - it is an outcome of parsing, answered with 416
    """A well-formed Range of which no part lies within the representation."""


def parse_range(value: str, size: int) -> tuple[ByteRange, ...] | None:
    """Read a `Range` field.

    Returns:
        The satisfiable ranges in the order asked, adjacent and overlapping ones joined when more than one was
        asked; None when the field must be ignored (another unit, malformed, or more than `MAX_RANGES` ranges:
        RFC 9110 section 14.2 lets a server ignore those).

    Raises:
        Unsatisfiable: well-formed, but no part lies within `size` bytes.
    """
    if len(value) > MAX_RANGE_HEADER:
        return None
    unit, equals, specs = value.partition("=")
    if not equals or unit.strip(" \t").lower() != "bytes" or unit != unit.rstrip(" \t"):
        return None
    ranges: list[ByteRange] = []
    count = 0
    for element in specs.split(","):
        spec = element.strip(" \t")
        if not spec:
            continue  # a list may have empty elements (RFC 9110 section 5.6.1.2)
        count += 1
        match = _SPEC.fullmatch(spec)
        if match is None or count > MAX_RANGES:
            return None
        found = _read_spec(match, size)
        if found is None:
            return None
        if found.stop > found.start:
            ranges.append(found)
    if count == 0:
        return None
    if not ranges:
        raise Unsatisfiable
    return tuple(ranges) if len(ranges) == 1 else _joined(ranges)


def _read_spec(match: re.Match[str], size: int) -> ByteRange | None:
    first, last, suffix = match.group(1, 2, 3)
    if suffix is not None:
        if size == 0 and int(suffix) > 0:
            return None  # satisfiable by RFC 9110 section 14.1.2, but no Content-Range can say so: answer with all
        return ByteRange(max(size - int(suffix), 0), size)
    start = int(first)
    if last is None:
        return ByteRange(start, max(start, size))
    if int(last) < start:
        return None  # malformed, so the whole field is (RFC 9110 section 14.1.1)
    return ByteRange(start, max(start, min(int(last) + 1, size)))


def _joined(ranges: list[ByteRange]) -> tuple[ByteRange, ...]:
    """Join ranges that overlap or touch, so that no byte is sent twice; the order asked is kept otherwise."""
    if all(a.stop < b.start for a, b in itertools.pairwise(ranges)):
        return tuple(ranges)
    merged: list[ByteRange] = []
    for item in sorted(ranges, key=lambda one: one.start):
        if merged and item.start <= merged[-1].stop:
            merged[-1] = ByteRange(merged[-1].start, max(merged[-1].stop, item.stop))
        else:
            merged.append(item)

    def place(whole: ByteRange) -> int:
        return min(i for i, one in enumerate(ranges) if whole.start <= one.start < whole.stop)

    return tuple(sorted(merged, key=place))


def parse_etags(value: str) -> tuple[str, ...] | None:
    """Read `If-Match` or `If-None-Match`: the entity tags, `("*",)` for any, None when malformed."""
    if value.strip(" \t") == "*":
        return ("*",)
    tags: list[str] = []
    rest = value.strip(" \t,")
    while rest:
        match = _ETAG.match(rest)
        if match is None:
            return None
        tags.append(match.group())
        rest = rest[match.end() :]
        stripped = rest.lstrip(" \t")
        if stripped and not stripped.startswith(","):
            return None
        rest = stripped.lstrip(" \t,")
    return tuple(tags) or None


def plan_answer(method: str, headers: Mapping[str, str], what: Representation) -> Answer:
    """Decide the answer to GET or HEAD.

    Args:
        method: `GET` or `HEAD`; Range has a meaning for GET only (RFC 9110 section 14.2).
        headers: request fields; lookups must ignore case.
        what: the selected representation.

    Order of the checks: RFC 9110 section 13.2.2. There is no Last-Modified, so conditions on dates are ignored,
    and an `If-Range` with a date never matches.
    """
    if_match = _field(headers, "If-Match")
    if if_match is not None and not _matches_strongly(if_match, what.etag):
        return Answer(412, (("ETag", what.etag), ("Content-Length", "0")), ())
    if_none_match = _field(headers, "If-None-Match")
    if if_none_match is not None and _matches_weakly(if_none_match, what.etag):
        kept = tuple(field for field in what.fields if field[0].lower() != "repr-digest")
        return Answer(304, (("ETag", what.etag), *kept), ())
    asked = _field(headers, "Range") if method == "GET" else None
    if_range = _field(headers, "If-Range")
    if asked is None or (if_range is not None and if_range.strip(" \t") != what.etag):
        return _whole(method, what)
    try:
        ranges = parse_range(asked, what.size)
    except Unsatisfiable:
        fields = (("Content-Range", f"bytes */{what.size}"), ("Accept-Ranges", "bytes"), ("Content-Length", "0"))
        return Answer(416, fields, ())
    if ranges is None:
        return _whole(method, what)
    if len(ranges) == 1:
        return _single(ranges[0], what)
    return _multiple(ranges, what)


def _field(headers: Mapping[str, str], name: str) -> str | None:
    """A field, its lines joined (RFC 9110 section 5.3), which multidict keeps apart. A repeated Range is malformed."""
    getall = getattr(headers, "getall", None)
    values: list[str] = getall(name, []) if getall else [headers[name]] if name in headers else []
    return ", ".join(values) if values else None


def _base(what: Representation) -> tuple[tuple[str, str], ...]:
    return (("ETag", what.etag), ("Accept-Ranges", "bytes"), *what.fields)


def _whole(method: str, what: Representation) -> Answer:
    fields = (("Content-Type", what.media_type), ("Content-Length", str(what.size)), *_base(what))
    has_body = method == "GET" and what.size > 0
    return Answer(200, fields, (Part(b"", ByteRange(0, what.size)),) if has_body else ())


def _single(one: ByteRange, what: Representation) -> Answer:
    fields = (
        ("Content-Type", what.media_type),
        ("Content-Length", str(len(one))),
        ("Content-Range", one.content_range(what.size)),
        *_base(what),
    )
    return Answer(206, fields, (Part(b"", one),))


def _multiple(ranges: tuple[ByteRange, ...], what: Representation) -> Answer:
    # The digest cannot foretell itself, so its own hexadecimal text cannot occur in the blob but by intent; and a
    # receiver that counts by Content-Range is not misled even then.
    boundary = "yj" + what.etag.strip('"')[:40].replace("/", "_")
    parts = []
    for i, one in enumerate(ranges):
        head = (
            f"{'' if i == 0 else chr(13) + chr(10)}--{boundary}\r\nContent-Type: {what.media_type}\r\n"
            f"Content-Range: {one.content_range(what.size)}\r\n\r\n"
        )
        parts.append(Part(head.encode("latin-1"), one))
    parts.append(Part(f"\r\n--{boundary}--\r\n".encode("latin-1"), None))
    length = sum(len(part.literal) + (len(part.range) if part.range else 0) for part in parts)
    fields = (
        ("Content-Type", f"multipart/byteranges; boundary={boundary}"),
        ("Content-Length", str(length)),
        *_base(what),
    )
    return Answer(206, fields, tuple(parts))


def _matches_strongly(value: str, etag: str) -> bool:
    tags = parse_etags(value)
    return tags is not None and (tags == ("*",) or etag in tags)


def _matches_weakly(value: str, etag: str) -> bool:
    tags = parse_etags(value)
    return tags is not None and (tags == ("*",) or etag in {tag.removeprefix("W/") for tag in tags})


_CONTENT_RANGE = re.compile(r"(?i:bytes) ([0-9]{1,19})-([0-9]{1,19})/([0-9]{1,19})")


def parse_content_range(value: str) -> tuple[ByteRange, int] | None:
    """Read a `Content-Range` of a 206: the range and the whole size; None when malformed or the size is unknown."""
    match = _CONTENT_RANGE.fullmatch(value.strip(" \t"))
    if match is None:
        return None
    first, last, size = (int(text) for text in match.groups())
    if not first <= last < size:
        return None
    return ByteRange(first, last + 1), size
