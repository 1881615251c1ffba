"""The writing side of a client connection for bytes that go from the page cache to the socket.

asyncio refuses add_writer on a transport's own descriptor, so each connection that sends a file gets one duplicate of
its socket. While an answer is being sent nothing else writes to that connection: aiohttp handles the requests of a
connection one after another, and we begin only when the transport's own buffer is empty.
"""

from __future__ import annotations

import asyncio
import fcntl
import socket
import sys
import termios
from concurrent.futures import Executor

from edge.serve.sending import Sending, Wait


class StalledClientError(ConnectionError):
    """The client took no byte within the deadline."""


class Connection:
    """One client connection; `close` belongs to the server's connection_lost."""

    __slots__ = ("_deadline", "_loop", "_stall_s", "_waiter", "lost", "socket")

    _deadline: asyncio.TimerHandle

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop, stall_s: float) -> None:
        self._loop = loop
        self._stall_s = stall_s
        self._waiter: asyncio.Future[None] | None = None
        self.socket: socket.socket = transport.get_extra_info("socket").dup()
        self.lost = False

    def close(self) -> None:
        """Give the duplicate back and wake whoever waits on it; the FIN goes out only when this was done."""
        self.lost = True
        waiter = self._waiter
        if waiter is not None:
            # Also when it is done already and its coroutine has not run yet: the loop must not keep watching a number
            # that the next connection will get.
            self._loop.remove_writer(self.socket.fileno())
            if not waiter.done():
                waiter.set_exception(ConnectionResetError("client went away"))
        self.socket.close()

    async def finish(self, sending: Sending, readers: Executor) -> None:
        """Send all that is left of an answer.

        Raises:
            ChangedFileError: bad data; the file is not what was opened any more.
            ConnectionError: environment; the client is gone or stalled, or the blob was revoked meanwhile.
            OSError: environment; the disk cannot be read, or not within the deadline.
        """
        while True:
            if self.lost:
                raise ConnectionResetError("client went away")
            wait = sending.advance(self.socket)
            if wait is Wait.NOTHING:
                return
            if wait is Wait.SOCKET:
                await self._writable()
            elif wait is Wait.DISK:
                await asyncio.wait_for(self._loop.run_in_executor(readers, sending.read_cold), self._stall_s)
            else:
                await asyncio.sleep(0)

    async def until(self, event: asyncio.Future[None]) -> None:
        """Wait for something else than the client, while nothing is sent to it.

        Raises:
            ConnectionError: environment; the client went away meanwhile.
        """
        if self.lost:
            raise ConnectionResetError("client went away")
        self._waiter = event
        try:
            await event
        finally:
            self._waiter = None

    async def _writable(self) -> None:
        waiter = self._waiter = self._loop.create_future()
        number = self.socket.fileno()
        self._loop.add_writer(number, _wake, waiter)
        self._look_again(waiter)
        try:
            await waiter
        finally:
            self._deadline.cancel()
            self._waiter = None
            if not self.lost:
                self._loop.remove_writer(number)

    def _look_again(self, waiter: asyncio.Future[None]) -> None:
        queued = queued_bytes(self.socket.fileno())
        self._deadline = self._loop.call_later(self._stall_s, self._watch_taking, waiter, queued)

    def _watch_taking(self, waiter: asyncio.Future[None], before: int) -> None:
        """Cut a client off that took nothing since the last look; the system says "writable" only after megabytes."""
        if waiter.done():
            return
        if queued_bytes(self.socket.fileno()) < before:
            self._look_again(waiter)
        else:
            waiter.set_exception(StalledClientError("client takes no bytes"))


def queued_bytes(number: int) -> int:
    """Bytes that the system holds for a socket because the client has not confirmed them (SIOCOUTQ, tcp(7))."""
    return int.from_bytes(fcntl.ioctl(number, termios.TIOCOUTQ, bytes(4)), sys.byteorder)


def _wake(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)
