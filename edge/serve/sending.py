"""An answer on its way from the page cache to a socket, as steps that never wait.

Whoever drives it does the waiting: the express way of `protocol` takes one step and is mostly done, a task takes as
many as the client needs. Header block, parts and file ranges leave in the planned order and each byte once.
"""

from __future__ import annotations

import os
import socket
from enum import Enum, auto

from edge.metrics import Result
from edge.serve.accesslog import Asked
from edge.serve.entries import Entry
from manifests.ranges import Part

# A turn is bounded so that one fast client cannot hold the loop; 1 MiB is about 0.2 ms.
TURN_BYTES = 1024 * 1024
# The kernel reads ahead by about this much; a shorter range is in memory when its end is.
PROBED_TWICE = 128 * 1024
PROBED_BYTES = 256 * 1024

# Head and body in one packet are worth waiting for up to this length; above it, a packet more costs less than the
# pages shifted by a head (measured: 64 KiB over loopback, 48 instead of 65 microseconds of processor).
MERGED_BYTES = 16 * 1024

NO_SPAN = (0, 0)

_PROBE = bytearray(1)
_SCRATCH_BYTES = 256 * 1024


class ChangedFileError(Exception):
    """An open file was cut or written to since its blob was found; only breaking the connection tells the client."""


class Wait(Enum):
    """What the next step waits for."""

    NOTHING = auto()  # all is sent
    SOCKET = auto()  # the client's window
    DISK = auto()  # `read_cold`, in a thread
    TURN = auto()  # the others had to wait for this one


class Sending:
    """One answer from an open file that was just found untouched; holds its entry from construction to `close`."""

    __slots__ = (
        "_at",
        "_is_begun",
        "_is_closed",
        "_is_short",
        "_literal",
        "_next",
        "_parts",
        "_stop",
        "_warm_until",
        "asked",
        "body_bytes",
        "counted_bytes",
        "entry",
        "is_told",
        "result",
        "sent_bytes",
        "status",
    )

    def __init__(self, entry: Entry, status: int, head: bytes, parts: tuple[Part, ...], span: tuple[int, int]) -> None:
        """Plan what is sent: the head (of a small document with its body), the file's bytes in `span`, the parts."""
        entry.acquire()
        self.entry = entry
        self.status = status
        self.result = Result.HIT
        self.sent_bytes = 0  # of the file
        self.counted_bytes = 0  # of those, told to the counters
        self.body_bytes = 0  # of a document, which go out with the head
        self.asked: Asked | None = None
        self.is_told = False  # that it was begun
        self._parts = parts
        self._next = 0
        self._literal = head
        self._at, self._stop = span
        self._warm_until = -1
        self._is_begun = self._is_closed = False
        count = self._stop - self._at
        if parts:
            count += sum(len(part.range) for part in parts if part.range is not None)
        self._is_short = count <= MERGED_BYTES

    @property
    def progress(self) -> tuple[int, int, int]:
        """Differs after every byte that was sent."""
        return self._next, self._at, len(self._literal)

    def close(self) -> None:
        """Give the entry back; harmless when done twice."""
        if not self._is_closed:
            self._is_closed = True
            self.entry.release()

    def advance(self, to: socket.socket) -> Wait:
        """Send what goes without waiting, one turn at most.

        Raises:
            ChangedFileError: bad data; the file is not what was opened any more.
            ConnectionError: environment; the client is gone, or the blob was revoked meanwhile.
            OSError: environment; the disk cannot be read.
        """
        entry = self.entry
        if entry.revoked:
            raise ConnectionResetError("recalled meanwhile")
        if self._is_begun and entry.is_touched():
            raise ChangedFileError("file was written to while it was open")
        self._is_begun = True
        room = TURN_BYTES
        while True:
            if self._literal and not self._send_literal(to):
                return Wait.SOCKET
            at = self._at
            count = self._stop - at
            if count > 0:
                if not room:
                    return Wait.TURN
                if count > room:
                    count = room
                if at >= self._warm_until and not self._is_cached(at, count):
                    return Wait.DISK
                sent = self._send_range(to, count)
                if sent < count:
                    return Wait.SOCKET
                room -= sent
            elif self._next < len(self._parts):
                self._take_part()
            else:
                return Wait.NOTHING

    def read_cold(self) -> None:
        """Bring what comes next into the page cache (in a thread; preadv lets other threads run).

        If nobody waits for it any more it may outlive the descriptor: it only reads, into scratch memory.

        Raises:
            OSError: environment; the disk cannot be read.
        """
        start, count = self._at, min(self._stop - self._at, TURN_BYTES)
        scratch = bytearray(min(count, _SCRATCH_BYTES))
        while count > 0:
            got = os.preadv(self.entry.file, [scratch], start)
            if got == 0:
                break
            start += got
            count -= got
        self._warm_until = self._at + 1

    def _is_cached(self, start: int, count: int) -> bool:
        """Whether a range is in memory: a cold one must be read in a thread, not in the loop."""
        file = self.entry.file
        if not (_is_page_cached(file, start + count - 1) and (count <= PROBED_TWICE or _is_page_cached(file, start))):
            return False
        # A slow client takes it little by little; what was there a moment ago need not be asked for each time.
        self._warm_until = start + min(count, PROBED_BYTES)
        return True

    def _take_part(self) -> None:
        part = self._parts[self._next]
        self._next += 1
        self._literal = part.literal
        if part.range is not None:
            self._at, self._stop = part.range.start, part.range.stop
            self._warm_until = -1

    def _send_literal(self, to: socket.socket) -> bool:
        """Whether all of it went; before a short body it is kept back until both fill a packet."""
        follows = self._at < self._stop or self._next < len(self._parts)
        try:
            sent = to.send(self._literal, socket.MSG_MORE if follows and self._is_short else 0)
        except BlockingIOError:
            return False
        self._literal = self._literal[sent:]
        return not self._literal

    def _send_range(self, to: socket.socket, count: int) -> int:
        try:
            sent = os.sendfile(to.fileno(), self.entry.file, self._at, count)
        except BlockingIOError:
            return 0
        if sent == 0:
            raise ChangedFileError(f"file ends at byte {self._at}, {self._stop} were promised")
        self._at += sent
        self.sent_bytes += sent
        return sent


def _is_page_cached(file: int, at: int) -> bool:
    try:
        os.preadv(file, [_PROBE], at, os.RWF_NOWAIT)
    except BlockingIOError:
        return False
    except OSError:
        return True  # this file system cannot tell; then sendfile itself reads
    return True
