"""The server's side of HTTP connections: aiohttp's parser and handler, with limits and an express way.

Two things are ours beside the express way (see `express`). A client that sends a head without end, takes nothing of an
answer, or is one too many costs a bounded amount for a bounded time. And a request that cannot be read is answered in a
sentence and not with a traceback in the log.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any

import structlog
from aiohttp import HttpVersion10, HttpVersion11, StreamReader, web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http import RawRequestMessage

from edge.metrics import Cell, Closed, Counters
from edge.serve.allowance import Allowance, Client, Clients
from edge.serve.connection import Connection, StalledClientError, queued_bytes
from edge.serve.express import Express, ExpressProtocol
from edge.serve.nearness import Congestion
from edge.serve.shapes import Shapes

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]

SERVER = "yuanjiao"
# A browser sends about twenty.
MOST_FIELDS = 64
# A head may take so many of the longest fields, whatever their number.
HEAD_FIELDS = 4
LINGER_S = 2.0
# What is read at once of a client: a head, or a few that were sent ahead. Nobody sends an edge more.
READ_BYTES = 16 * 1024
# "Too many connections" is said so often at most.
FULL_LOG_S = 60.0
# Zero would mean no limit.
LEAST_DRAIN_S = 0.05

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Limits:
    """What a client may cost.

    Attributes:
        stall_s: it takes no byte for so long: cut off.
        keepalive_s: it asks nothing, or not all of a head, for so long: closed.
        header_bytes: longest request line or header field.
        connections: open at once; the oldest idle one makes room.
    """

    stall_s: float
    keepalive_s: float
    header_bytes: int = 8190
    connections: int = 4096


Told = Callable[[web.BaseRequest, web.StreamResponse], None]


class EdgeServer(web.Server):
    """aiohttp's low-level server that makes our protocols and keeps a `Connection` beside each that needs one.

    `connection_lost` is where aiohttp tells a server that a connection ended; a test fails loudly if that changes.

    Attributes:
        counters: told of connections and of what cannot be read, if set.
        told: called with each request and answer that went through a task, if set.
        congestion: what connections are given, if set.
    """

    counters: Counters | None = None
    told: Told | None = None
    congestion: Congestion | None = None

    def __init__(
        self,
        handler: Handler,
        limits: Limits,
        readers: Executor,
        express: Express | None = None,
        clients: Clients | None = None,
    ) -> None:
        super().__init__(
            handler,
            access_log=None,
            keepalive_timeout=limits.keepalive_s,
            max_line_size=limits.header_bytes,
            max_field_size=limits.header_bytes,
            max_headers=MOST_FIELDS,
            lingering_time=LINGER_S,
            auto_decompress=False,
        )
        self.limits = limits
        self.express = express
        self.clients = Clients(Allowance()) if clients is None else clients
        self.shapes = Shapes()
        self.is_retiring = False
        self.drain_s = 0.0  # at the end, answers under way get so long
        self._readers = readers
        self._direct: dict[web.RequestHandler, Connection] = {}
        self._full_at = -FULL_LOG_S

    def __call__(self) -> web.RequestHandler:
        """Make the protocol of a new connection."""
        return EdgeProtocol(self, loop=self._loop, **self._kwargs)

    @property
    def direct_count(self) -> int:
        """How many connections have a duplicate of their socket."""
        return len(self._direct)

    def direct(self, handler: web.RequestHandler, transport: asyncio.Transport) -> Connection:
        """The direct way to a client; made when it is first needed."""
        found = self._direct.get(handler)
        if found is None:
            found = self._direct[handler] = Connection(transport, self._loop, self.limits.stall_s, self._readers)
        return found

    async def connection_of(self, request: web.BaseRequest) -> Connection:
        """The direct way to the client of `request`, with nothing left in aiohttp's own buffer.

        Raises:
            ConnectionError: environment; the client is gone or stalled.
        """
        transport = request.transport
        if transport is not None and transport.get_write_buffer_size():
            try:
                await asyncio.wait_for(request.writer.drain(), self.limits.stall_s)
            except TimeoutError as error:
                raise StalledClientError("client takes no bytes") from error
            transport = request.transport
        if transport is None:
            raise ConnectionResetError("client went away")
        return self.direct(request.protocol, transport)

    def retire(self) -> None:
        """From now on each connection gets one more answer at most, which says that it is the last."""
        self.is_retiring = True

    async def shutdown(self, timeout: float | None = None) -> None:  # noqa: ARG002 - aiohttp's signature
        """End all connections within `drain_s`, whatever aiohttp's runner would allow."""
        # aiohttp waits this long twice: for the answer, then for what its cancelling takes.
        await super().shutdown(max(self.drain_s / 2, LEAST_DRAIN_S))

    def client_of(self, handler: web.RequestHandler) -> Client:
        """The client address of a connection, with its allowance."""
        return self._guest(handler).client

    def address_of(self, handler: web.RequestHandler) -> str:
        """Where a connection comes from."""
        return self._guest(handler).address

    def note_end(self, handler: web.RequestHandler, cause: Closed) -> None:
        """Say why a connection is about to end; the first word stands."""
        guest = self._guest(handler)
        guest.cause = guest.cause or cause

    def count(self, cell: int) -> None:
        """Count, if anybody keeps figures."""
        if self.counters is not None:
            self.counters.add(cell)

    def _guest(self, handler: web.RequestHandler) -> EdgeProtocol:
        assert isinstance(handler, EdgeProtocol)  # noqa: S101 - the factory makes no others
        return handler

    def connection_made(self, handler: web.RequestHandler, transport: asyncio.Transport) -> None:
        """Take a connection, and above a limit close the one that has been idle since before all others."""
        super().connection_made(handler, transport)
        self.count(Cell.ACCEPTED)
        guest = self._guest(handler)
        guest.address = str((transport.get_extra_info("peername") or ("",))[0])
        guest.client = self.clients.enter(guest.address, self._loop.time())
        if self.congestion is not None:
            self.congestion.settle(transport.get_extra_info("socket"))
        # asyncio makes room for so much before each reading, and 256 KiB of memory cost more than a request's parsing.
        transport.max_size = READ_BYTES  # type: ignore[attr-defined]
        # Nothing of a page stays behind in our memory when its handler is done: `drain` now means empty.
        transport.set_write_buffer_limits(0)
        if guest.client.is_over:
            self._make_room(guest, transport, guest.client)
        elif len(self._connections) > self.limits.connections:
            self._make_room(guest, transport)

    def connection_lost(self, handler: web.RequestHandler, exc: BaseException | None = None) -> None:
        """Close the duplicate, so that the client sees the end of the connection."""
        found = self._direct.pop(handler, None)
        if found is not None:
            found.close()
        guest = self._guest(handler)
        self.clients.leave(guest.client)
        self.count(guest.cause or (Closed.CLIENT if exc is not None else Closed.SERVER))
        super().connection_lost(handler, exc)

    def _make_room(self, newest: EdgeProtocol, transport: asyncio.Transport, client: Client | None = None) -> None:
        """Close the connection that has been idle the longest, of one client or of all; else the newest."""
        now = self._loop.time()
        if now - self._full_at >= FULL_LOG_S:
            self._full_at = now
            most = self.limits.connections if client is None else client.allowance.connections
            _log.warning("connections_full", most=most, address=newest.address if client is not None else None)
        for handler in self._connections:
            guest = self._guest(handler)
            if guest.is_idle and guest is not newest and (client is None or guest.client is client):
                self.note_end(guest, Closed.FULL)
                guest.force_close()
                return
        self.note_end(newest, Closed.FULL)
        transport.abort()

    def _make_request(
        self,
        message: RawRequestMessage,
        payload: StreamReader,
        protocol: web.RequestHandler,
        writer: AbstractStreamWriter,
        task: asyncio.Task[None],
    ) -> web.BaseRequest:
        # What is no HTTP/1.x is answered in the oldest form of it, and so is a body in chunks from before they were
        # (RFC 9112 section 6.1: its framing is doubtful, so nothing more is read).
        if message.version != HttpVersion11 and (message.chunked or message.version != HttpVersion10):
            message = message._replace(version=HttpVersion10, should_close=True)
        elif self.is_retiring:
            message = message._replace(should_close=True)
        return super()._make_request(message, payload, protocol, writer, task)


class EdgeProtocol(ExpressProtocol):
    """One connection.

    Attributes:
        client: its address with the allowance.
        cause: why it is about to end, when that is known before.
    """

    client: Client

    def __init__(self, server: EdgeServer, *, loop: asyncio.AbstractEventLoop, **kwargs: Any) -> None:
        super().__init__(server, loop=loop, **kwargs)
        self._edge = server
        self._head_bytes = 0
        self.cause: Closed | None = None

    def parsed(self, data: bytes, count: int) -> None:
        """Bound a head that does not end."""
        super().parsed(data, count)
        if count:
            self._head_bytes = 0
        else:
            self._bound_head(len(data))

    def eof_received(self) -> None:
        """The client has said its last word; aiohttp lets the transport close."""
        self.cause = self.cause or Closed.CLIENT
        super().eof_received()

    def _process_keepalive(self) -> None:
        super()._process_keepalive()
        if self._force_close and self.cause is None:
            self.cause = Closed.IDLE

    def _sent(self, error: BaseException | None) -> None:
        if isinstance(error, StalledClientError):
            self.cause = self.cause or Closed.STALLED
        super()._sent(error)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer a request that cannot be read: in words, without its text, and without a traceback in the log."""
        if status != 400:
            return super().handle_error(request, status, exc, message)
        _log.debug("bad_request", reason=type(exc).__name__)
        self._edge.count(Cell.UNREADABLE)
        headers = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff", "Server": SERVER}
        headers["Connection"] = "close"
        response = web.Response(status=status, headers=headers, text="请求格式有误，无法处理。\n")
        response.force_close()
        return response

    def log_exception(self, *args: Any, **kwargs: Any) -> None:
        """A body that cannot be read is the client's fault and no event of ours; the rest is a bug."""
        if isinstance(kwargs.get("exc_info"), web.RequestPayloadError):
            _log.debug("bad_body")
        else:
            super().log_exception(*args, **kwargs)

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        """Send an answer; one that waits in our memory for a client that takes nothing is broken off."""
        transport = self.transport
        if transport is None:
            return await super().finish_response(request, resp, start_time)
        self._watch_taking(transport, 0)
        try:
            return await super().finish_response(request, resp, start_time)
        finally:
            self._watching.cancel()
            if self._edge.told is not None:
                self._edge.told(request, resp)

    def _watch_taking(self, transport: asyncio.Transport, before: int) -> None:
        left = transport.get_write_buffer_size()
        if left:
            left += queued_bytes(transport.get_extra_info("socket").fileno())
        if left >= before > 0:
            self.cause = self.cause or Closed.STALLED
            transport.abort()
        self._watching = self._loop.call_later(self._edge.limits.stall_s, self._watch_taking, transport, left)

    def _bound_head(self, count: int) -> None:
        """Aiohttp bounds each field and their number; together they might still be half a megabyte per connection."""
        if not self._body.is_eof():
            return  # of a body, which nobody reads and flow control bounds
        self._head_bytes += count
        if self._head_bytes > HEAD_FIELDS * self._edge.limits.header_bytes and self.transport is not None:
            self.transport.abort()
