"""Answers from open files: begun in one place, counted in one place, sent past aiohttp's own writer.

`BlobResponse` is what aiohttp's handler sees of one: `prepare` is awaited, then `write_eof`, then `keep_alive` is
read. A test with pipelined requests pins these three.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping

import structlog
from aiohttp import HttpVersion11, web
from aiohttp.abc import AbstractStreamWriter

from edge.clock import Clock
from edge.metrics import Cell, Closed, Counters, Result
from edge.serve.accessline import question_of
from edge.serve.accesslog import Asked, Note
from edge.serve.connection import Connection, StalledClientError
from edge.serve.entries import Entry
from edge.serve.heads import Tails
from edge.serve.protocol import EdgeServer
from edge.serve.sending import NO_SPAN, ChangedFileError, Sending
from edge.serve.shapes import Planned, Shape, Span
from manifests.ranges import Part, plan_answer

Make = Callable[[Entry, int, bytes, tuple[Part, ...], tuple[int, int]], Sending]

_ASKED = web.RequestKey("asked", tuple)

_log = structlog.get_logger(__name__)


class Lane:
    """What all answers of one worker share; `server` is set before the first request."""

    __slots__ = ("_live", "_tails", "clock", "counters", "log", "monotonic", "server")

    server: EdgeServer

    def __init__(self, clock: Clock, counters: Counters, log: Note | None = None) -> None:
        self.clock = clock
        self.monotonic = time.monotonic
        self.counters = counters
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
        make: Make = Sending,
    ) -> Sending:
        """Plan the answer to a request; whoever begins one ends it by `end`."""
        planned = _plan(method, headers, entry)
        tail = self._tails.tail(self.clock(), keep_alive=keep_alive, is_old=is_old)
        sending = self._begun(entry, planned, planned.block + tail + planned.body, make)
        sending.asked = asked
        return sending

    def begin_for(self, entry: Entry, request: web.BaseRequest, make: Make = Sending) -> Sending:
        """Plan the answer to a request that aiohttp handles; see `begin`."""
        return self.begin(
            entry,
            request.method,
            request.headers,
            asked=self.asked_of(request),
            keep_alive=request.keep_alive,
            is_old=request.version < HttpVersion11,
            make=make,
        )

    def begin_known(self, entry: Entry, asked: Shape | Span, address: str = "") -> Sending | None:
        """Plan the answer to a request by its shape, from a client's address; None leaves it to `begin`."""
        if isinstance(asked, Span):
            sending = self._begin_span(entry, asked)
            if sending is not None:
                sending.asked = (address, asked.shape.question, self.monotonic())
            return sending
        planned = asked.planned
        if planned is None or planned.what is not entry.what:
            planned = asked.planned = _plan(asked.method, asked.headers, entry)
        sending = self._begun(entry, planned, planned.block + self._tails.kept(self.clock()) + planned.body)
        sending.asked = (address, asked.question, self.monotonic())
        return sending

    def _begin_span(self, entry: Entry, asked: Span) -> Sending | None:
        """What `plan_answer` plans for one satisfiable range, without the detour; a property test compares the two."""
        what, start, last = entry.what, asked.first, asked.last
        stop = what.size if last is None or last >= what.size else last + 1
        tag = asked.shape.if_range
        if start >= stop or entry.data is not None or (tag is not None and tag != what.etag):
            return None
        head = entry.heads.partial(start, stop) + self._tails.kept(self.clock())
        sending = Sending(entry, 206, head, (), (start, stop))
        self._live.add(sending)
        entry.count(is_first=start == 0)
        return sending

    def _begun(self, entry: Entry, planned: Planned, head: bytes, make: Make = Sending) -> Sending:
        sending = make(entry, planned.status, head, planned.parts, NO_SPAN)
        sending.body_bytes = len(planned.body)
        self._live.add(sending)
        if planned.first >= 0:
            entry.count(is_first=planned.first == 0)
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
        counters, asked, sent_bytes = self.counters, sending.asked, sending.sent_bytes
        if asked is not None:
            now_s = self.monotonic()
            if not sending.is_told:
                counters.add_begin(now_s - asked[-1])
            if self.log is not None:
                body_bytes = sending.body_bytes if error is None else 0
                self.log(asked, sending.status, sent_bytes + body_bytes, now_s)
        sending.close()
        self._live.discard(sending)
        if error is None:
            count, is_media = sent_bytes - sending.counted_bytes, sending.entry.is_media
            counters.add_answer(sending.result, sending.status, count, sending.body_bytes, is_media=is_media)
            sending.counted_bytes = sent_bytes
        else:
            self._count_sent(sending)
            counters.add(self._judge(sending, error))

    def tell_begun(self, sending: Sending) -> None:
        """Count how long it took to begin an answer that is not sent at once."""
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
            question = question_of(method, request.raw_path, request.version, request.headers)
            found = (self.server.address_of(request.protocol), question, self.monotonic())
            request[_ASKED] = found
        return found

    def _judge(self, sending: Sending, error: BaseException) -> Result:
        if isinstance(error, ChangedFileError) or (
            isinstance(error, OSError) and not isinstance(error, ConnectionError)
        ):
            _log.error("blob_unreadable", digest=sending.entry.digest, error=str(error) or type(error).__name__)
            return Result.ERROR
        self.counters.add(Cell.ABORTED)
        return sending.result

    def _count_sent(self, sending: Sending) -> None:
        sent_bytes = sending.sent_bytes
        if sent_bytes != sending.counted_bytes:
            count = sent_bytes - sending.counted_bytes
            self.counters.add(Cell.SENT_BYTES, count)
            if not sending.entry.is_media:
                self.counters.add(Cell.SENT_BLOBS, count)
            sending.counted_bytes = sent_bytes


def _plan(method: str, headers: Mapping[str, str], entry: Entry) -> Planned:
    """The answer to a request; of a small document its bytes go out with the head."""
    answer, data = plan_answer(method, headers, entry.what), entry.data
    block = entry.heads.block(answer)
    if data is None:
        return Planned(entry.what, answer.status, block, b"", answer.parts)
    spans = [(part.literal, part.range) for part in answer.parts]
    body = b"".join(literal + (data[one.start : one.stop] if one else b"") for literal, one in spans)
    return Planned(entry.what, answer.status, block, body, ())


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
        await connection.finish(self._sending)

    async def write_eof(self, data: bytes = b"") -> None:
        """Nothing is left to write."""
