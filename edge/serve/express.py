"""The express way: a request for what is open already is answered where its bytes arrive, without a task of its own.

Mostly it is not even parsed: its head is known by its bytes (see `shapes`). What is doubtful in any way goes to
aiohttp's parser and handler, unread and unchanged.

What is used of aiohttp's handler beyond its documents is used here and nowhere else: `SEAMS` names it, a test compares
them with what aiohttp has, and tests with pipelined, partial and broken requests pin how they behave.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from aiohttp import EMPTY_PAYLOAD, HttpVersion11, StreamReader, web
from aiohttp.hdrs import HOST
from aiohttp.http import RawRequestMessage

from edge.serve.connection import Connection
from edge.serve.hosts import is_host
from edge.serve.sending import ChangedFileError, Sending, Wait
from edge.serve.shapes import Shape, Shapes, Span, ends_one_head

# Of aiohttp's RequestHandler, beside what it documents.
SEAMS = (
    "_force_close",
    "_keepalive_handle",
    "_keepalive_timeout",
    "_messages",
    "_next_keepalive_close_time",
    "_parser",
    "_process_keepalive",
    "_request_count",
    "_upgraded",
    "_waiter",
)


@dataclass(frozen=True, slots=True)
class Express:
    """How a request is answered at once.

    Attributes:
        begin: gives an answer to send, or None, to what is asked from an address.
        begun: is told of one that is on its way and takes longer.
        end: is told how it went.
    """

    begin: Callable[[Shape | Span, str], Sending | None]
    begun: Callable[[Sending], None]
    end: Callable[[Sending, BaseException | None], None]


class ExpressServer(Protocol):
    """What the express way needs of its server.

    Attributes:
        is_retiring: nobody is answered at once any more.
    """

    express: Express | None
    shapes: Shapes
    is_retiring: bool

    def direct(self, handler: web.RequestHandler, transport: asyncio.Transport) -> Connection:
        """The direct way to a client."""


class ExpressProtocol(web.RequestHandler):
    """One connection.

    Attributes:
        address: where it comes from.

    While an answer of the express way is under way aiohttp's handler sleeps; what comes meanwhile waits, one reading
    long, and is handled as if it came afterwards.
    """

    def __init__(self, server: Any, *, loop: asyncio.AbstractEventLoop, **kwargs: Any) -> None:
        super().__init__(server, loop=loop, **kwargs)
        self.address = ""
        self._server: ExpressServer = server
        self._body: StreamReader = EMPTY_PAYLOAD
        self._direct: Connection | None = None
        self._sending: Sending | None = None
        self._held = b""
        self._is_between = True  # the parser holds no part of a request
        self._is_told_to_close = False
        self._drained: asyncio.Future[None] | None = None

    @property
    def is_idle(self) -> bool:
        """Whether nothing is being answered: no request yet, or no more."""
        waiter = self._waiter
        return waiter is not None and not waiter.done() and not self._force_close and self._sending is None

    def data_received(self, data: bytes) -> None:
        """Answer at once what can be, without parsing what was parsed before; parse the rest."""
        if self._sending is not None:
            self._hold(data)
            return
        server, waiter = self._server, self._waiter
        is_idle = waiter is not None and not waiter.done()
        is_open = is_idle and not server.is_retiring and not self._force_close
        if is_open and self._is_between:
            asked = server.shapes.find(data)
            if asked is not None and self._answer_at_once(asked):
                return
        before = self._request_count
        if is_idle:
            self._waiter = None  # aiohttp shall parse and wake nobody
        try:
            super().data_received(data)
        finally:
            self._waiter = waiter
        was_between = self._is_between
        self.parsed(data, self._request_count - before)
        if self._request_count == before:
            return
        if waiter is not None and is_idle:
            shape = self._shape() if is_open else None
            if shape is None or not self._answer_first(shape, data if was_between and self._is_between else b""):
                waiter.set_result(None)

    def parsed(self, data: bytes, count: int) -> None:
        """Note what aiohttp's parser made of `data`: so many requests."""
        if count and self._messages:
            self._body = self._messages[-1][1]
        # A single head without a body that ends where the bytes do: nothing of them is left in the parser.
        self._is_between = count == 1 and self._body is EMPTY_PAYLOAD and ends_one_head(data)

    def _shape(self) -> Shape | None:
        """What the single request that was just parsed asks, when it is a plain one."""
        message, body = self._messages[0]
        if (
            len(self._messages) > 1
            or body is not EMPTY_PAYLOAD
            or not isinstance(message, RawRequestMessage)
            or message.should_close
            or message.version != HttpVersion11
            or self._upgraded
            or not is_host(message.headers.get(HOST, ""))
        ):
            return None
        return Shape(message)

    def _answer_first(self, shape: Shape, head: bytes) -> bool:
        """Answer a request that was parsed; `head` is all that the parser was given for it, empty when unknown."""
        messages = self._messages
        message = messages.popleft()
        if not self._answer_at_once(shape):
            messages.appendleft(message)
            return False
        if self._parser is not None:
            self._parser.message_consumed()
        if head:
            self._server.shapes.learn(head, shape)
        return True

    def _answer_at_once(self, asked: Shape | Span) -> bool:
        """Answer a request for what is open already, here and now; False leaves it to aiohttp's handler."""
        express, transport = self._server.express, self.transport
        if express is None or transport is None or transport.get_write_buffer_size():
            return False
        sending = express.begin(asked, self.address)
        if sending is None:
            return False
        direct = self._direct
        if direct is None:
            direct = self._direct = self._server.direct(self, transport)
        try:
            wait = sending.advance(direct.socket)
        except (ChangedFileError, OSError) as error:
            express.end(sending, error)
            transport.abort()
        else:
            if wait is Wait.NOTHING:
                express.end(sending, None)
                self._go_idle()
            else:
                self._sending = sending
                express.begun(sending)
                direct.drive(sending, wait, self._sent)
        return True

    def _hold(self, data: bytes) -> None:
        self._held += data
        if data and self.transport is not None:
            self.transport.pause_reading()

    def _sent(self, error: BaseException | None) -> None:
        """An answer that took more than one step has ended."""
        sending, express, transport = self._sending, self._server.express, self.transport
        self._sending = None
        if sending is not None and express is not None:
            express.end(sending, error)
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)
        if transport is None:
            return
        if error is not None:
            transport.abort()
        elif self._is_told_to_close:
            super().close()
            transport.close()
        else:
            self._go_idle()
            self._take_held(transport)

    def _take_held(self, transport: asyncio.Transport) -> None:
        held, self._held = self._held, b""
        if held:
            transport.resume_reading()
            self.data_received(held)

    def close(self) -> None:
        """No more requests; what is being answered is answered."""
        if self._sending is not None:
            self._is_told_to_close = True
        else:
            super().close()

    async def shutdown(self, timeout: float | None = 15.0) -> None:
        """End the connection; an answer of the express way gets as long as one of aiohttp's: twice the timeout."""
        if self._sending is not None:
            self._drained = self._loop.create_future()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._drained, None if timeout is None else 2 * timeout)
            if self._direct is not None:
                self._direct.stop(ConnectionAbortedError("this server ends"))
        await super().shutdown(timeout)

    def _process_keepalive(self) -> None:
        if self._sending is None:
            super()._process_keepalive()
        else:
            self._keepalive_handle = self._loop.call_later(self._keepalive_timeout, self._process_keepalive)

    def _go_idle(self) -> None:
        """Begin the time that keep-alive allows, as aiohttp does after each answer."""
        close_at = self._loop.time() + self._keepalive_timeout
        self._next_keepalive_close_time = close_at
        if self._keepalive_handle is None:
            self._keepalive_handle = self._loop.call_at(close_at, self._process_keepalive)
