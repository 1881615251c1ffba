"""A line of a county, shaped in user space: so many bytes a second for all connections together, a delay, drops.

What stands behind it is told nothing; whoever measures two programs sends both through the same line.
"""

from __future__ import annotations

import asyncio
import fcntl
import socket
import sys
import termios
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

# One connection sends so much before the next one's turn, as packets on a shared line do.
_PORTION_BYTES = 16 * 1024
# A turn that the loop took late may be made up for within so long; otherwise a busy machine would slow the line.
_LATE_S = 0.05


@dataclass(frozen=True, slots=True)
class Shape:
    """What a line is like.

    Attributes:
        bytes_per_s: downwards; upwards nothing is shaped, for requests are small.
        round_trip_s: added to each round trip.
        drop_every_s: all connections break so often; 0: never.
        down_s: and none comes about for so long then.
    """

    bytes_per_s: int
    round_trip_s: float = 0.0
    drop_every_s: float = 0.0
    down_s: float = 0.0


class ShapedLine:
    """A running line; made by `open_line`.

    Attributes:
        url: where its near end listens.
        bytes_down: passed so far, heads included.
    """

    def __init__(self, host: str, port: int, shape: Shape) -> None:
        self.url = ""
        self.bytes_down = 0
        self._far = (host, port)
        self._shape = shape
        self._delivered = 0
        self._free_s = 0.0
        self._is_down = False
        self._open: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    def taken(self) -> int:
        """Bytes that whoever is at the near end has taken in: what waits in this process or its sockets is not yet."""
        return self._delivered - sum(map(_waiting, self._open))

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry one connection to its end."""
        task = asyncio.current_task()
        if task is not None:
            self._tasks.add(task)
        self._open.add(writer)
        _bound(writer)
        far: asyncio.StreamWriter | None = None
        try:
            if not self._is_down:
                back, far = await asyncio.open_connection(*self._far, limit=2 * _PORTION_BYTES)
                await self._carry(reader, writer, back, far)
        except (OSError, asyncio.CancelledError):
            pass  # either end went away, or the line's own end
        finally:
            self._open.discard(writer)
            if task is not None:
                self._tasks.discard(task)
            for one in (writer, far):
                if one is not None:
                    one.transport.abort()

    async def drop_again_and_again(self) -> None:
        """Break the line as its shape says, until cancelled."""
        while self._shape.drop_every_s:
            await asyncio.sleep(self._shape.drop_every_s)
            self._is_down = True
            for writer in self._open:
                writer.transport.abort()
            await asyncio.sleep(self._shape.down_s)
            self._is_down = False

    async def end(self) -> None:
        """Break all connections and wait until they are gone."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _carry(
        self,
        near_in: asyncio.StreamReader,
        near_out: asyncio.StreamWriter,
        far_in: asyncio.StreamReader,
        far_out: asyncio.StreamWriter,
    ) -> None:
        # As much as a line holds while it is on its way, so that the delay costs no rate.
        held = max(4, round(self._shape.bytes_per_s * self._shape.round_trip_s / _PORTION_BYTES) + 2)
        under_way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(held)
        chores = [
            asyncio.create_task(self._up(near_in, far_out)),
            asyncio.create_task(self._shaped(far_in, under_way)),
            asyncio.create_task(self._deliver(under_way, near_out)),
        ]
        try:
            await asyncio.wait(chores, return_when=asyncio.FIRST_COMPLETED)
            if chores[1].done():
                await asyncio.wait(chores[2:])  # what is under way still arrives
        finally:
            for chore in chores:
                chore.cancel()
            await asyncio.gather(*chores, return_exceptions=True)

    async def _up(self, near: asyncio.StreamReader, far: asyncio.StreamWriter) -> None:
        while data := await near.read(_PORTION_BYTES):
            await asyncio.sleep(self._shape.round_trip_s / 2)
            far.write(data)
            await far.drain()

    async def _shaped(self, far: asyncio.StreamReader, under_way: asyncio.Queue[tuple[float, bytes]]) -> None:
        loop = asyncio.get_running_loop()
        while data := await far.read(_PORTION_BYTES):
            self._free_s = max(self._free_s, loop.time() - _LATE_S) + len(data) / self._shape.bytes_per_s
            self.bytes_down += len(data)
            await asyncio.sleep(max(0.0, self._free_s - loop.time()))
            await under_way.put((loop.time() + self._shape.round_trip_s / 2, data))
        await under_way.put((loop.time(), b""))

    async def _deliver(self, under_way: asyncio.Queue[tuple[float, bytes]], near: asyncio.StreamWriter) -> None:
        loop = asyncio.get_running_loop()
        while True:
            at_s, data = await under_way.get()
            if not data:
                return
            await asyncio.sleep(max(0.0, at_s - loop.time()))
            near.write(data)
            self._delivered += len(data)
            await near.drain()


def _waiting(writer: asyncio.StreamWriter) -> int:
    """Bytes written that the other end has not confirmed (SIOCOUTQ, tcp(7))."""
    if writer.is_closing():
        return 0
    number = writer.get_extra_info("socket").fileno()
    queued = int.from_bytes(fcntl.ioctl(number, termios.TIOCOUTQ, bytes(4)), sys.byteorder)
    return writer.transport.get_write_buffer_size() + queued


def _bound(writer: asyncio.StreamWriter) -> None:
    """Let the near end hold little: a line is no store, and what waits in one would count as passed."""
    writer.transport.set_write_buffer_limits(high=_PORTION_BYTES)
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 * _PORTION_BYTES)


@asynccontextmanager
async def open_line(host: str, port: int, shape: Shape) -> AsyncIterator[ShapedLine]:
    """Lay a line from a free local port to `host:port` for the time of the block."""
    line = ShapedLine(host, port, shape)
    server = await asyncio.start_server(line.accept, "127.0.0.1", 0, limit=2 * _PORTION_BYTES)
    line.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    drops = asyncio.create_task(line.drop_again_and_again())
    try:
        yield line
    finally:
        server.close()
        drops.cancel()
        with suppress(asyncio.CancelledError):
            await drops
        await line.end()
