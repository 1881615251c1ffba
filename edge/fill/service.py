"""One worker at the filler: its messages in, its views, and what it is told."""

from __future__ import annotations

import asyncio
from collections import Counter

import msgspec
import structlog

from edge.fill.blob_fill import BlobFill, Seat, trouble_of
from edge.fill.messages import (
    UP,
    Close,
    Down,
    Ended,
    Found,
    Lookup,
    Open,
    Opened,
    Served,
    Up,
    Wish,
    frame,
    read_frame,
)
from edge.fill.offers import Offers
from edge.fill.opener import Opener
from edge.store.rows import encode
from manifests.digests import Digest
from manifests.errors import YuanjiaoError
from manifests.pieces import dump_bits, piece_count

# A worker that leaves so much unread, beside what it may be passed, is stuck.
_MOST_UNREAD_BYTES = 16 << 20
_MOST_ASKING = 256
_RETRY_S = 5.0
_MOST_COUNTED = 10_000

_log = structlog.get_logger(__name__)


class Service:
    """The connection of one worker, from the filler's side.

    Args:
        reader, writer: the connection.
        opener: opens blobs.
        offers: looks lessons up.
        used: where to count what was served.
        bypass_bytes: most that a worker is passed and may not have read yet.

    Attributes:
        seats: its views.
    """

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        opener: Opener,
        offers: Offers,
        used: Counter[str],
        bypass_bytes: int,
    ) -> None:
        self.seats: dict[int, Seat] = {}
        self._reader = reader
        self._writer = writer
        self._opener = opener
        self._offers = offers
        self._used = used
        self._most_unread = _MOST_UNREAD_BYTES + bypass_bytes
        self._asking = asyncio.Semaphore(_MOST_ASKING)
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def is_asking(self) -> bool:
        """Whether something is being opened or looked up for it."""
        return bool(self._tasks)

    def send(self, message: Down) -> None:
        """Tell the worker something; one that does not read is let go, and calls again when it can."""
        if self._writer.transport.get_write_buffer_size() > self._most_unread:
            _log.error("worker_reads_nothing")
            self._writer.transport.abort()
        elif not self._writer.is_closing():
            self._writer.write(frame(message))

    async def run(self) -> None:
        """Serve until the worker goes away."""
        try:
            while (data := await read_frame(self._reader)) is not None:
                await self._take(UP.decode(data))
        except (OSError, msgspec.DecodeError) as error:
            _log.warning("worker_lost", reason=str(error))
        finally:
            await self.end()

    async def end(self) -> None:
        """Leave all views and close the connection."""
        tasks = set(self._tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        for view in tuple(self.seats):
            self._leave(view)
        self._writer.transport.abort()

    async def _take(self, message: Up) -> None:
        match message:
            case Wish():
                seat = self.seats.get(message.view)
                if seat is not None and seat.fill is not None:
                    seat.fill.wish(seat, _numbers(message.urgent), _numbers(message.ahead))
            case Close():
                self._leave(message.view)
            case Served():
                if len(self._used) < _MOST_COUNTED:
                    self._used.update(message.counts)
            case Open() | Lookup():
                await self._asking.acquire()
                task = asyncio.create_task(self._open(message) if isinstance(message, Open) else self._look(message))
                self._tasks.add(task)
                task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._asking.release()
        if not task.cancelled() and task.exception() is not None:
            _log.error("bug", error=repr(task.exception()), exc_info=task.exception())
            self._writer.transport.abort()

    async def _open(self, ask: Open) -> None:
        seat = self.seats[ask.view] = Seat(self, ask.view, ask.courseware, ask.digest)
        try:
            fill = await self._opener.open(ask)
        except YuanjiaoError as error:
            _log.info("fill_not_opened", blob=ask.digest, reason=error.message)
            self.seats.pop(ask.view, None)
            self.send(Ended(ask.view, trouble_of(error, self._opener.retry_s() or _RETRY_S)))
            return
        if self.seats.get(ask.view) is not seat:  # closed meanwhile
            return
        self.send(_opened(ask, fill))
        if fill is not None:
            fill.sit(seat)

    async def _look(self, ask: Lookup) -> None:
        try:
            if ask.courseware:
                item = await self._offers.lesson(ask.courseware)
            else:
                item = await self._offers.lesson_of(Digest(ask.digest))
        except YuanjiaoError as error:
            _log.info("fill_not_looked_up", reason=error.message)
            item = None
        self.send(Found(ask.number, encode(item) if item is not None else b""))

    def _leave(self, view: int) -> None:
        seat = self.seats.pop(view, None)
        if seat is not None and seat.fill is not None:
            seat.fill.leave(seat)


def _numbers(runs: tuple[tuple[int, int], ...]) -> list[int]:
    return [n for first, last in runs for n in range(first, last + 1)]


def _opened(ask: Open, fill: BlobFill | None) -> Opened:
    if fill is None:
        return Opened(ask.view, "whole", b"", 0, 0)
    kept = fill.kept
    if kept is None:
        return Opened(ask.view, "bypass", b"", 0, 0)
    device, inode = kept.identity
    bits = dump_bits(fill.have(), piece_count(ask.size, ask.piece_size))
    return Opened(ask.view, "file", bits, device, inode)
