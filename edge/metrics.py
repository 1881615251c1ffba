"""The edge's figures (see `metric_table`): counters that all worker processes share, which `exposition` tells.

Identities, which a test checks after a storm of good, bad, aborted and pipelined requests and killed workers:

    requests = answers, summed over results                     once no request is in flight
    connections accepted = open now + closed, over causes       at any moment, but for the delay of the gauge

A request or a connection that a killed process took with it is put down as lost when its row is settled, so both hold
after a kill too. What a kill may lose for good is the bytes of answers that were under way since they were last told
(a quarter of a second) and the access log's lines that were not written yet. Bytes from upstreams stand under exactly
one reason each (see `edge.reasons`), so their sum is what crossed the line for this server.
"""

from __future__ import annotations

import mmap
import os
from bisect import bisect_left
from enum import IntEnum

from edge.reasons import UpstreamReason


class Result(IntEnum):
    """How a request ended; the value is its cell in a worker's row."""

    HIT = 1
    NOT_HERE = 2
    NOT_FOUND = 3
    REFUSED = 4
    ERROR = 5
    FILL = 32
    LIMITED = 40
    LOST = 41


class Closed(IntEnum):
    """Why a client connection ended; the value is its cell."""

    CLIENT = 44
    IDLE = 45
    FULL = 46
    STALLED = 47
    SERVER = 48
    LOST = 49


class Cell(IntEnum):
    """Cells of a worker's row beside the results."""

    REQUESTS = 0
    SENT_BYTES = 6
    RANGES = 7
    UNCHANGED = 8
    ABORTED = 9
    CONNECTIONS = 10
    DESCRIPTORS = 11
    RESTARTS = 12
    WORKERS = 13
    KEEPERS = 14
    KEEPER_RESTARTS = 15
    FILLERS = 33
    FILLER_RESTARTS = 34
    FILLS_IN_FLIGHT = 35
    FILL_FLIGHTS = 36
    FILL_JOINED = 37
    FILL_DROPPED = 38
    FILL_BYPASS = 39
    UNREADABLE = 42
    ACCEPTED = 43
    SENT_BLOBS = 50  # of SENT_BYTES
    SENT_PAGES = 51  # beside SENT_BYTES
    LOG_DROPPED = 52


# Upper bounds of the histogram's buckets in seconds; a cell each, one for what is above, and one for the sum in
# microseconds.
BEGIN_BOUNDS = (0.001, 0.005, 0.02, 0.1, 0.5, 2.0)
_BEGIN = 64
_BEGIN_SUM = _BEGIN + len(BEGIN_BOUNDS) + 1

# Plain numbers: the attribute of an enumeration costs the hot path as much as the count.
_RANGES, _UNCHANGED = int(Cell.RANGES), int(Cell.UNCHANGED)
_SENT_BYTES, _SENT_BLOBS, _SENT_PAGES = int(Cell.SENT_BYTES), int(Cell.SENT_BLOBS), int(Cell.SENT_PAGES)

_UPSTREAM = 16
_CELLS = 128
_GAUGES = (Cell.CONNECTIONS, Cell.DESCRIPTORS, Cell.WORKERS, Cell.KEEPERS, Cell.FILLERS, Cell.FILLS_IN_FLIGHT)
REASONS = {reason: _UPSTREAM + number for number, reason in enumerate(UpstreamReason)}


def cell_of(reason: UpstreamReason) -> int:
    """The cell of bytes from upstreams for one reason."""
    return REASONS[reason]


class Counters:
    """A row of 64-bit cells per process in memory that all of them map: workers, keeper, and last their supervisor.

    Each living process writes its own row only, so there is nothing to lock; a reader may be one count behind. Memory,
    not a file: a full or read-only disk must not stop serving.
    """

    def __init__(self, file: int, row: int, rows: int) -> None:
        """Map the rows behind `file` (see `shared_rows`) as the owner of `row`."""
        self._map = mmap.mmap(file, rows * _CELLS * 8)
        self._all = memoryview(self._map).cast("Q")
        self._mine = self._all[row * _CELLS : (row + 1) * _CELLS]
        self.forget(row)

    def add(self, cell: int, count: int = 1) -> None:
        """Count; the hot path's only cost for figures."""
        self._mine[cell] += count

    def add_begin(self, seconds: float) -> None:
        """Count an answer that was begun so long after its request had come."""
        mine = self._mine
        mine[_BEGIN if seconds <= BEGIN_BOUNDS[0] else _BEGIN + bisect_left(BEGIN_BOUNDS, seconds)] += 1
        mine[_BEGIN_SUM] += int(seconds * 1e6)

    def add_answer(self, result: int, status: int, sent_bytes: int, page_bytes: int, *, is_media: bool) -> None:
        """Count an answer that was sent whole, in one call because every one of a thousand clients pays for it.

        Args:
            result: how its request ended.
            status: of the answer.
            sent_bytes: of files, not counted before.
            page_bytes: of what came from memory.
            is_media: whether the file was asked for as a lesson's, and not by its digest.
        """
        mine = self._mine
        mine[result] += 1
        if status == 206:
            mine[_RANGES] += 1
        elif status == 304:
            mine[_UNCHANGED] += 1
        if sent_bytes:
            mine[_SENT_BYTES] += sent_bytes
            if not is_media:
                mine[_SENT_BLOBS] += sent_bytes
        if page_bytes:
            mine[_SENT_PAGES] += page_bytes

    def set(self, cell: Cell, value: int) -> None:
        """Set one of the gauges."""
        self._mine[cell] = value

    def forget(self, row: int) -> None:
        """Settle the row of a process that died: zero what it had open, put down as lost what it took with it."""
        cells = self._all[row * _CELLS : (row + 1) * _CELLS]
        for gauge in _GAUGES:
            cells[gauge] = 0
        cells[Result.LOST] += max(cells[Cell.REQUESTS] - sum(cells[one] for one in Result), 0)
        cells[Closed.LOST] += max(cells[Cell.ACCEPTED] - sum(cells[one] for one in Closed), 0)
        cells.release()

    def total(self, cell: int) -> int:
        """Sum over all processes."""
        return sum(self._all[cell::_CELLS])

    def begins(self) -> tuple[tuple[int, ...], int]:
        """Answers begun within each of `BEGIN_BOUNDS` and above the last, and the sum of what they took, in µs."""
        return tuple(self.total(_BEGIN + number) for number in range(len(BEGIN_BOUNDS) + 1)), self.total(_BEGIN_SUM)

    def close(self) -> None:
        """Unmap."""
        self._mine.release()
        self._all.release()
        self._map.close()


def shared_rows(rows: int) -> int:
    """Make the shared memory for so many rows; returns a descriptor to hand down and to close."""
    file = os.memfd_create("yuanjiao-metrics")
    os.ftruncate(file, rows * _CELLS * 8)
    return file
