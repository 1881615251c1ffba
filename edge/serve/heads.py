"""Header blocks as bytes. What does not change for a representation is built once; a request adds the rest.

The meaning comes from manifests.ranges alone: a test compares every block built here with the planned fields.
"""

from __future__ import annotations

from email.utils import formatdate
from http import HTTPStatus

from manifests.instants import Instant
from manifests.ranges import Answer, Representation, plan_answer

_VARIABLE = frozenset({"content-length", "content-range"})


class Heads:
    """The header blocks of one representation, without the tail that `Tails` gives."""

    __slots__ = ("_partial", "_size", "_whole")

    def __init__(self, what: Representation) -> None:
        whole = plan_answer("HEAD", {}, what)
        fixed = [field for field in whole.fields if field[0].lower() not in _VARIABLE]
        self._size = what.size
        self._whole = dump_block(whole.status, whole.fields)
        partial = dump_block(206, fixed).replace(b"%", b"%%")
        self._partial = partial + b"Content-Length: %d\r\nContent-Range: bytes %d-%d/%d\r\n"

    def block(self, answer: Answer) -> bytes:
        """The block of a planned answer; the two common ones cost no building."""
        if answer.status == 206 and len(answer.parts) == 1:
            only = answer.parts[0].range
            if only is not None:
                return self.partial(only.start, only.stop)
        if answer.status == 200:
            return self._whole
        return dump_block(answer.status, answer.fields)

    def partial(self, start: int, stop: int) -> bytes:
        """The block of a 206 with the one range from `start` to before `stop`."""
        return self._partial % (stop - start, start, stop - 1, self._size)


def dump_block(status: int, fields: tuple[tuple[str, str], ...] | list[tuple[str, str]]) -> bytes:
    """Status line and fields, each ended by CRLF; the empty line that ends a head comes with the tail.

    Raises:
        ValueError: caller's mistake; a field would break out of its line.
    """
    lines = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}"]
    for name, value in fields:
        if "\r" in value or "\n" in value or "\0" in value:
            raise ValueError(f"field {name} contains a line break")
        lines.append(f"{name}: {value}")
    return ("\r\n".join(lines) + "\r\n").encode("latin-1")


class Tails:
    """The end of every head: Date (RFC 9110 section 6.6.1), Connection when it is not the default, an empty line."""

    __slots__ = ("_at", "_close", "_keep", "_keep_old")

    def __init__(self) -> None:
        self._at: Instant | None = None
        self._keep = self._close = self._keep_old = b""

    def kept(self, now: Instant) -> bytes:
        """The common tail: HTTP/1.1, and the connection stays."""
        return self._keep if now == self._at else self.tail(now, keep_alive=True, is_old=False)

    def tail(self, now: Instant, *, keep_alive: bool, is_old: bool) -> bytes:
        """The tail at `now`; `is_old` for HTTP/1.0, where keeping a connection must be said."""
        if now != self._at:
            date = f"Date: {formatdate(now, usegmt=True)}\r\n".encode("ascii")
            self._keep = date + b"\r\n"
            self._keep_old = date + b"Connection: keep-alive\r\n\r\n"
            self._close = date + b"Connection: close\r\n\r\n"
            self._at = now
        if not keep_alive:
            return self._close
        return self._keep_old if is_old else self._keep
