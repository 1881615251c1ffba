"""The writing side of a client connection for bytes that go from the page cache to the socket.

asyncio refuses add_writer on a transport's own descriptor, so each connection that sends a file gets one duplicate of
its socket. While an answer is being sent nothing else writes to that connection: requests of a connection are handled
one after another, and we begin only when the transport's own buffer is empty.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import socket
import sys
import termios
from collections.abc import Callable
from concurrent.futures import Executor

from edge.serve.sending import ChangedFileError, Sending, Wait

Done = Callable[[BaseException | None], None]


class StalledClientError(ConnectionError):
    """The client took no byte within the deadline."""


class Connection:
    """One client connection; `close` belongs to the server's connection_lost.

    An answer is driven by callbacks: the loop says that the client has room, we send a turn, and so on. Between two
    turns all others have theirs, because the loop asks each once per round.
    """

    __slots__ = (
        "_deadline",
        "_done",
        "_is_watched",
        "_loop",
        "_queued",
        "_readers",
        "_reading",
        "_sending",
        "_stall_s",
        "_waiter",
        "lost",
        "socket",
    )

    _deadline: asyncio.TimerHandle
    _done: Done

    def __init__(
        self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop, stall_s: float, readers: Executor
    ) -> None:
        self._loop = loop
        self._stall_s = stall_s
        self._readers = readers
        self._sending: Sending | None = None
        self._reading: asyncio.Future[None] | None = None
        self._queued = 0
        self._is_watched = False
        self._waiter: asyncio.Future[None] | None = None
        # Not `dup`: what uvloop shows of its sockets has no such method.
        self.socket = socket.socket(fileno=os.dup(transport.get_extra_info("socket").fileno()))
        self.socket.setblocking(False)
        self.lost = False

    @property
    def is_sending(self) -> bool:
        """Whether an answer is on its way."""
        return self._sending is not None

    def close(self) -> None:
        """Give the duplicate back and tell whoever sends; the FIN goes out only when this was done."""
        self.lost = True
        self.stop(ConnectionResetError("client went away"))
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(ConnectionResetError("client went away"))
        self.socket.close()

    def drive(self, sending: Sending, wait: Wait, done: Done) -> None:
        """Send all that is left of an answer, after a first step that ended with `wait`.

        Args:
            sending: the answer; whoever began it ends it.
            wait: what its next step waits for.
            done: called once with None when all is sent; with ChangedFileError when the file is not what was opened,
                ConnectionError when the client is gone or stalled or the blob was revoked, OSError when the disk
                cannot be read, or not within the deadline.
        """
        self._sending, self._done = sending, done
        self._watch_progress(sending)
        self._go_on(sending, wait)

    def stop(self, error: BaseException) -> None:
        """Break off what is being sent, if anything is."""
        if self._sending is not None:
            self._end(error)

    async def finish(self, sending: Sending) -> None:
        """Send all that is left of an answer, as `drive` does, and raise what that tells."""
        if self.lost:
            raise ConnectionResetError("client went away")
        wait = sending.advance(self.socket)
        if wait is Wait.NOTHING:
            return
        ended: asyncio.Future[None] = self._loop.create_future()

        def done(error: BaseException | None) -> None:
            if ended.done():
                return
            if error is None:
                ended.set_result(None)
            else:
                ended.set_exception(error)

        self.drive(sending, wait, done)
        try:
            await ended
        finally:
            self.stop(asyncio.CancelledError())

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

    def _go_on(self, sending: Sending, wait: Wait) -> None:
        if wait is Wait.NOTHING:
            self._end(None)
        elif wait is Wait.DISK:
            self._unwatch()
            self._reading = self._loop.run_in_executor(self._readers, sending.read_cold)
            self._reading.add_done_callback(self._was_read)
        elif not self._is_watched:
            # Also for a turn: it comes when the loop has asked all others.
            self._is_watched = True
            self._loop.add_writer(self.socket.fileno(), self._step)

    def _step(self) -> None:
        sending = self._sending
        if sending is None:
            return  # it ended in the same round of the loop
        try:
            wait = sending.advance(self.socket)
        except (ChangedFileError, OSError) as error:
            self._end(error)
        else:
            self._go_on(sending, wait)

    def _was_read(self, reading: asyncio.Future[None]) -> None:
        if reading is not self._reading:
            return  # the answer it was for has ended
        self._reading = None
        error = ConnectionResetError("readers have ended") if reading.cancelled() else reading.exception()
        if error is not None:
            self._end(error)
        else:
            self._step()

    def _end(self, error: BaseException | None) -> None:
        self._unwatch()
        self._deadline.cancel()
        self._sending = self._reading = None
        done = self._done
        del self._done
        done(error)

    def _unwatch(self) -> None:
        if self._is_watched:
            self._is_watched = False
            self._loop.remove_writer(self.socket.fileno())

    def _watch_progress(self, sending: Sending) -> None:
        self._queued = queued_bytes(self.socket.fileno())
        self._deadline = self._loop.call_later(self._stall_s, self._look, sending, sending.progress)

    def _look(self, sending: Sending, before: tuple[int, int, int]) -> None:
        """Cut a client off that took nothing since the last look; the system says "writable" only after megabytes."""
        if sending.progress != before or queued_bytes(self.socket.fileno()) < self._queued:
            self._watch_progress(sending)
        elif self._reading is not None:
            self._end(TimeoutError("the disk gives no bytes"))
        else:
            self._end(StalledClientError("client takes no bytes"))


def queued_bytes(number: int) -> int:
    """Bytes that the system holds for a socket because the client has not confirmed them (SIOCOUTQ, tcp(7))."""
    return int.from_bytes(fcntl.ioctl(number, termios.TIOCOUTQ, bytes(4)), sys.byteorder)
