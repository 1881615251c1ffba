"""Answers from open files: begun in one place, counted in one place, sent past aiohttp's own writer.

`BlobResponse` is what aiohttp's handler sees of one: `prepare` is awaited, then `write_eof`, then `keep_alive` is
read. A test with pipelined requests pins these three.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Executor

import structlog
from aiohttp import web
from aiohttp.abc import AbstractStreamWriter

from edge.clock import Clock
from edge.metrics import Cell, Closed, Counters, Result
from edge.serve.accesslog import Asked, Note
from edge.serve.connection import Connection, StalledClientError
from edge.serve.entries import Entry
from edge.serve.heads import Tails
from edge.serve.protocol import EdgeServer
from edge.serve.sending import ChangedFileError, Sending
from manifests.ranges import Answer, plan_answer

_ASKED = web.RequestKey("asked", tuple)

_log = structlog.get_logger(__name__)


class Lane:
    """What all answers of one worker share; `server` is set before the first request."""

    __slots__ = ("_live", "_tails", "clock", "counters", "log", "monotonic", "readers", "server")

    server: EdgeServer

    def __init__(self, clock: Clock, counters: Counters, readers: Executor, log: Note | None = None) -> None:
        self.clock = clock
        self.monotonic = time.monotonic
        self.counters = counters
        self.readers = readers
        self.log = log
        self._tails = Tails()
        self._live: set[Sending] = set()

    def begin(
        self,
        entry: Entry,
        method: str,
        headers: Mapping[str, str],
        *,
        asked: Asked | None = None,
        keep_alive: bool = True,
        is_old: bool = False,
        make: Callable[[Entry, Answer, bytes], Sending] = Sending,
    ) -> Sending:
        """Plan the answer to a request; whoever begins one ends it by `end`."""
        answer = plan_answer(method, headers, entry.what)
        tail = self._tails.tail(self.clock(), keep_alive=keep_alive, is_old=is_old)
        sending = make(entry, answer, entry.heads.block(answer) + tail)
        sending.asked = asked
        self._live.add(sending)
        first = next((part.range for part in answer.parts if part.range is not None), None)
        if first is not None:
            entry.count(is_first=first.start == 0)
        return sending

    def count_live(self, is_one: Callable[[Sending], bool]) -> int:
        """How many running answers are of a kind."""
        return sum(map(is_one, self._live))

    def tell_sent(self) -> None:
        """Count what running answers sent so far: the keeper sees from it that somebody watches."""
        for sending in self._live:
            self._count_sent(sending)

    def end(self, sending: Sending, error: BaseException | None = None) -> None:
        """Count an answer that was sent, or was broken off by `error`, and let go of its file."""
        counters, result, asked = self.counters, sending.result, sending.asked
        if asked is not None:
            now_s = self.monotonic()
            if not sending.is_told:
                counters.add_begin(now_s - asked[-1])
            if self.log is not None:
                self.log(asked, sending.status, sending.sent_bytes, now_s)
        sending.close()
        self._live.discard(sending)
        self._count_sent(sending)
        if error is None:
            if sending.status == 206:
                counters.add(Cell.RANGES)
            elif sending.status == 304:
                counters.add(Cell.UNCHANGED)
        elif isinstance(error, ChangedFileError) or (
            isinstance(error, OSError) and not isinstance(error, ConnectionError)
        ):
            result = Result.ERROR
            _log.error("blob_unreadable", digest=sending.entry.digest, error=str(error) or type(error).__name__)
        else:
            counters.add(Cell.ABORTED)
        counters.add(result)

    def tell_begun(self, sending: Sending) -> None:
        """Count how long it took to begin an answer that is not sent at once; its head goes out next."""
        if sending.asked is not None and not sending.is_told:
            sending.is_told = True
            self.counters.add_begin(self.monotonic() - sending.asked[-1])

    def tell_answered(self, request: web.BaseRequest, response: web.StreamResponse) -> None:
        """Count and log an answer that aiohttp sent from memory."""
        if isinstance(response, BlobResponse):
            return  # `end` does
        sent_bytes = response.body_length
        self.counters.add(Cell.SENT_PAGES, sent_bytes)
        if self.log is not None:
            self.log(self.asked_of(request), response.status, sent_bytes, self.monotonic())

    def asked_of(self, request: web.BaseRequest) -> Asked:
        """Who asked what; noted at the first call, which should be as soon as the request is there."""
        found: Asked | None = request.get(_ASKED)
        if found is None:
            # aiohttp gives one that it could not read this method.
            method = "" if request.method == "UNKNOWN" else request.method
            address = self.server.address_of(request.protocol)
            found = (address, method, request.raw_path, request.version, request.headers, self.monotonic())
            request[_ASKED] = found
        return found

    def _count_sent(self, sending: Sending) -> None:
        count = sending.sent_bytes - sending.counted_bytes
        self.counters.add(Cell.SENT_BYTES, count)
        if not sending.entry.courseware:
            self.counters.add(Cell.SENT_BLOBS, count)
        sending.counted_bytes = sending.sent_bytes


class BlobResponse(web.StreamResponse):
    """One answer from an open file, begun already."""

    def __init__(self, lane: Lane, sending: Sending, request: web.BaseRequest) -> None:
        super().__init__(status=sending.status)
        self._lane = lane
        self._sending = sending
        self._keeps = request.keep_alive

    @property
    def keep_alive(self) -> bool:
        """As the request wished."""
        return self._keeps

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        """Send everything.

        Raises:
            ConnectionError: environment; the answer was broken off, and so is the connection.
        """
        lane, sending = self._lane, self._sending
        try:
            connection = await lane.server.connection_of(request)
            lane.tell_begun(sending)
            await self._send(connection)
        except (ChangedFileError, OSError, asyncio.CancelledError) as error:
            lane.end(sending, error)
            if isinstance(error, StalledClientError):
                lane.server.note_end(request.protocol, Closed.STALLED)
            # The head is out, so breaking the connection is the only way to say that the body is not whole.
            if request.transport is not None:
                request.transport.abort()
            if isinstance(error, asyncio.CancelledError | ConnectionError):
                raise
            raise ConnectionResetError("blob cannot be read") from error
        lane.end(sending)
        return None

    async def _send(self, connection: Connection) -> None:
        await connection.finish(self._sending, self._lane.readers)

    async def write_eof(self, data: bytes = b"") -> None:
        """Nothing is left to write."""
