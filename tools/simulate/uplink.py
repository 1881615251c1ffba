"""A line of a given rate before a server.

A relay that knows nothing of HTTP lets bytes down at one rate for all connections together, and counts them.
Connections take turns, as packets do in a router's fair queue.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

_PORTION = 16 * 1024
_BURST_S = 0.02  # a line that stood idle gives no more than this at once


@dataclass
class Uplink:
    """A running relay.

    Attributes:
        url: where it listens.
        bytes_down: bytes that came from the server, heads of answers included.
    """

    host: str
    port: int
    bytes_per_s: float
    url: str = ""
    bytes_down: int = 0
    _free_s: float = 0.0
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    async def take_turn(self, count: int) -> None:
        """Wait until the line has carried so many bytes more."""
        now_s = asyncio.get_running_loop().time()
        self._free_s = max(self._free_s, now_s - _BURST_S) + count / self.bytes_per_s
        self.bytes_down += count
        if self._free_s > now_s:
            await asyncio.sleep(self._free_s - now_s)

    def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Take a connection in."""
        task = asyncio.create_task(self._connection(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def end(self) -> None:
        """Break what is open."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far: asyncio.StreamWriter | None = None
        try:
            back, far = await asyncio.open_connection(self.host, self.port, limit=_PORTION)
            up = asyncio.create_task(_pass_up(reader, far))
            try:
                while data := await back.read(_PORTION):
                    await self.take_turn(len(data))
                    writer.write(data)
                    await writer.drain()
            finally:
                up.cancel()
                await asyncio.gather(up, return_exceptions=True)
        except OSError:
            pass  # either side went away; the other learns it by the close below
        finally:
            for one in (writer, far):
                if one is not None:
                    one.close()
                    with suppress(OSError):
                        await one.wait_closed()


async def _pass_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(_PORTION):
        writer.write(data)
        await writer.drain()


@asynccontextmanager
async def open_uplink(host: str, port: int, bytes_per_s: float) -> AsyncIterator[Uplink]:
    """Put a line before `host:port` for the time of the block."""
    uplink = Uplink(host, port, bytes_per_s)
    server = await asyncio.start_server(uplink.accept, "127.0.0.1", 0, limit=_PORTION)
    uplink.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield uplink
    finally:
        server.close()
        await uplink.end()
