"""Answers from what is being filled: the same plan, head and limits as any other, sent as far as pieces are proved.

The head goes out when the first piece that the answer needs is proved, so that it never promises what no source has.
"""

from __future__ import annotations

import asyncio
import socket
from typing import cast

from aiohttp import web

from edge.fill.client import FillClient
from edge.fill.messages import FillError
from edge.fill.views import View
from edge.metrics import Result
from edge.serve.connection import Connection
from edge.serve.entries import Entry
from edge.serve.response import BlobResponse, Lane
from edge.serve.sending import TURN_BYTES, ChangedFileError, Sending, Wait
from manifests.ranges import Part

# A class of viewers waits for the same piece: each sees its first bytes before any of them gets the rest of it.
_FIRST_TURN_BYTES = 32 * 1024
# A failed piece is wished for again so soon at the earliest, while the answer's deadline lasts.
_AGAIN_S = 0.5


class FillEntry(Entry):
    """The open file of a blob that is being filled; pieces beside those that are sent are written meanwhile."""

    __slots__ = ()

    def is_touched(self) -> bool:
        """Never: proved pieces are not written again."""
        return False


class FillSending(Sending):
    """One answer on its way.

    Args:
        client: that the view is of.
        view: given back by `close`.
        reader: which waited for the first piece, and reads on here.

    Attributes:
        is_stuck: the last turn ended where the next piece is not proved yet.
    """

    __slots__ = ("_client", "_held", "_is_first", "_reader", "_view", "is_stuck")

    def __init__(
        self,
        entry: Entry,
        status: int,
        head: bytes,
        parts: tuple[Part, ...],
        span: tuple[int, int],
        *,
        client: FillClient,
        view: View,
        reader: int,
    ) -> None:
        super().__init__(entry, status, head, parts, span)
        self.result = Result.HIT if view.is_whole else Result.FILL
        self.is_stuck = False
        self._client = client
        self._view = view
        self._reader: int | None = reader
        self._is_first = True
        self._held: int | None = None

    @property
    def piece(self) -> int:
        """The piece that is needed next."""
        return self._at // self._view.piece_size

    @property
    def is_passing(self) -> bool:
        """Whether its pieces are not kept and take memory."""
        return self._view.mode == "bypass"

    def close(self) -> None:
        """Give entry and view back; harmless when done twice."""
        if not self._is_closed:
            self._let_go()
            self._end_reader()
            self._client.release(self._view)
        super().close()

    def advance(self, to: socket.socket) -> Wait:
        """Send what goes without waiting, one turn at most; see `Sending.advance`."""
        self.is_stuck = False
        if self.entry.revoked:
            raise ConnectionResetError("recalled meanwhile")
        if self._is_begun and self.entry.is_touched():
            raise ChangedFileError("file was written to while it was open")
        room = TURN_BYTES if self._is_begun else _FIRST_TURN_BYTES
        self._is_begun = True
        while True:
            if self._literal and not self._send_literal(to):
                return Wait.SOCKET
            if self._at < self._stop:
                if not room:
                    return Wait.TURN
                self._view.move(cast("int", self._reader), self.piece)
                count = self._view.proved_stop(self._at, min(self._stop, self._at + room)) - self._at
                if not count:
                    self.is_stuck = True
                    return Wait.NOTHING
                wait, sent = self._send_some(to, count)
                if wait is not None:
                    return wait
                room -= sent
            elif self._next < len(self._parts):
                self._take_part()
            else:
                self._end_reader()
                return Wait.NOTHING

    async def more(self, connection: Connection, wait_s: float) -> None:
        """Wait until the next piece is here; failures in between are outlived while the deadline lasts.

        Raises:
            ConnectionError: environment; the client is gone, or nothing came in time.
        """
        loop = asyncio.get_running_loop()
        ends_s = loop.time() + wait_s
        while not self.entry.revoked:
            try:
                async with asyncio.timeout_at(ends_s):
                    await self._client.attach(self._view)
                    if not self._view.is_here(self.piece):
                        await connection.until(self._view.wait(self.piece))
                    return
            except TimeoutError as error:
                raise ConnectionResetError("the next piece did not come in time") from error
            except FillError as error:
                if self._view.error is not None or loop.time() + _AGAIN_S > ends_s:
                    raise ConnectionResetError(error.message) from error
                await asyncio.sleep(_AGAIN_S)
            if connection.lost:
                raise ConnectionResetError("client went away")
        raise ConnectionResetError("recalled meanwhile")

    def _take_part(self) -> None:
        super()._take_part()
        if self._at < self._stop and not self._is_first:
            self._end_reader()
            size = self._view.piece_size
            self._reader = self._view.begin(self._at // size, (self._stop - 1) // size + 1)
        self._is_first = False

    def _end_reader(self) -> None:
        if self._reader is not None:
            size = self._view.piece_size
            at = self._stop // size if self._at >= self._stop > 0 else None
            self._view.end(self._reader, at)
            self._reader = None

    def _send_some(self, to: socket.socket, count: int) -> tuple[Wait | None, int]:
        if self._view.mode == "bypass":
            sent = self._send_passing(to, count)
        else:
            if self._at >= self._warm_until and not self._is_cached(self._at, count):
                return Wait.DISK, 0
            sent = self._send_range(to, count)
        return (Wait.SOCKET if sent < count else None), sent

    def _send_passing(self, to: socket.socket, count: int) -> int:
        n, start = self.piece, self._at % self._view.piece_size
        if self._held != n:
            self._let_go()
            self._view.hold(n)
            self._held = n
        try:
            sent = to.send(memoryview(self._view.data(n))[start : start + count])
        except BlockingIOError:
            return 0
        self._at += sent
        self.sent_bytes += sent
        return sent

    def _let_go(self) -> None:
        held, self._held = self._held, None
        if held is not None:
            self._view.let_go(held)


class FillResponse(BlobResponse):
    """One answer from what is being filled, begun already."""

    def __init__(self, lane: Lane, sending: FillSending, request: web.BaseRequest, wait_s: float) -> None:
        super().__init__(lane, sending, request)
        self._filling = sending
        self._wait_s = wait_s

    async def _send(self, connection: Connection) -> None:
        while True:
            await super()._send(connection)
            if not self._filling.is_stuck:
                return
            await self._filling.more(connection, self._wait_s)
