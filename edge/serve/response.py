"""Answers from open files: begun in one place, counted in one place, sent past aiohttp's own writer.

`BlobResponse` is what aiohttp's handler sees of one: `prepare` is awaited, then `write_eof`, then `keep_alive` is
read. A test with pipelined requests pins these three.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import structlog
from aiohttp import web
from aiohttp.abc import AbstractStreamWriter

from edge.clock import Clock
from edge.metrics import Cell, Counters, Result
from edge.serve.entries import Entry
from edge.serve.heads import Tails
from edge.serve.protocol import EdgeServer
from edge.serve.sending import NO_SPAN, ChangedFileError, Sending
from edge.serve.shapes import Planned, Shape, Span
from manifests.ranges import plan_answer

_log = structlog.get_logger(__name__)


class Lane:
    """What all answers of one worker share; `server` is set before the first request."""

    __slots__ = ("_live", "_tails", "clock", "counters", "server")

    server: EdgeServer

    def __init__(self, clock: Clock, counters: Counters) -> None:
        self.clock = clock
        self.counters = counters
        self._tails = Tails()
        self._live: set[Sending] = set()

    def begin(
        self, entry: Entry, method: str, headers: Mapping[str, str], *, keep_alive: bool = True, is_old: bool = False
    ) -> Sending:
        """Plan the answer to a request; whoever begins one ends it by `end`."""
        planned = _plan(method, headers, entry)
        tail = self._tails.tail(self.clock(), keep_alive=keep_alive, is_old=is_old)
        return self._begun(entry, planned, planned.block + tail + planned.body)

    def begin_known(self, entry: Entry, asked: Shape | Span) -> Sending | None:
        """Plan the answer to a request by its shape; None leaves it to `begin`."""
        if isinstance(asked, Span):
            return self._begin_span(entry, asked)
        planned = asked.planned
        if planned is None or planned.what is not entry.what:
            planned = asked.planned = _plan(asked.method, asked.headers, entry)
        return self._begun(entry, planned, planned.block + self._tails.kept(self.clock()) + planned.body)

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
        return sending

    def _begun(self, entry: Entry, planned: Planned, head: bytes) -> Sending:
        sending = Sending(entry, planned.status, head, planned.parts, NO_SPAN)
        self._live.add(sending)
        return sending

    def tell_sent(self) -> None:
        """Count what running answers sent so far: the keeper sees from it that somebody watches."""
        for sending in self._live:
            self._count_sent(sending)

    def end(self, sending: Sending, error: BaseException | None = None) -> None:
        """Count an answer that was sent, or was broken off by `error`, and let go of its file."""
        counters = self.counters
        sending.close()
        self._live.discard(sending)
        self._count_sent(sending)
        if error is None:
            if sending.status == 206:
                counters.add(Cell.RANGES)
            elif sending.status == 304:
                counters.add(Cell.UNCHANGED)
            counters.add(Result.HIT)
        else:
            counters.add(self._judge(sending, error))

    def _judge(self, sending: Sending, error: BaseException) -> Result:
        if isinstance(error, ChangedFileError) or (
            isinstance(error, OSError) and not isinstance(error, ConnectionError)
        ):
            _log.error("blob_unreadable", digest=sending.entry.digest, error=str(error) or type(error).__name__)
            return Result.ERROR
        self.counters.add(Cell.ABORTED)
        return Result.HIT

    def _count_sent(self, sending: Sending) -> None:
        sent_bytes = sending.sent_bytes
        if sent_bytes != sending.counted_bytes:
            self.counters.add(Cell.SENT_BYTES, sent_bytes - sending.counted_bytes)
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
            await connection.finish(sending)
        except (ChangedFileError, OSError, asyncio.CancelledError) as error:
            lane.end(sending, error)
            # The head is out, so breaking the connection is the only way to say that the body is not whole.
            if request.transport is not None:
                request.transport.abort()
            if isinstance(error, asyncio.CancelledError | ConnectionError):
                raise
            raise ConnectionResetError("blob cannot be read") from error
        lane.end(sending)
        return None

    async def write_eof(self, data: bytes = b"") -> None:
        """Nothing is left to write."""
