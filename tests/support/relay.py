"""Bad lines and bad upstreams, over real sockets and by script.

`Relay` is a TCP proxy that knows nothing of HTTP: it cuts, stalls, drips, flips and delays, and counts every byte both
ways, headers included. `Liar` is an upstream that answers with whatever raw bytes a test gives it.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from urllib.parse import urlsplit


@dataclass
class Fault:
    """What happens to the bytes that one connection carries down. None: nothing.

    Attributes:
        cut_after: close the connection when so many bytes have passed.
        stall_after: pass nothing more after so many bytes, and keep the connection.
        flip_at: flip a bit of the byte at this offset.
        drip_s: pass one byte, then wait so long.
        latency_s: wait so long before each portion.
        delay_s: pass everything on so much later, both ways, without holding up what follows: a long line.
        refuse: close the connection at once.
    """

    cut_after: int | None = None
    stall_after: int | None = None
    flip_at: int | None = None
    drip_s: float | None = None
    latency_s: float | None = None
    delay_s: float | None = None
    refuse: bool = False


Read = Callable[[], Awaitable[bytes]]
Spawn = Callable[[Coroutine[None, None, None]], object]


def _later(reader: asyncio.StreamReader, delay_s: float | None, spawn: Spawn) -> Read:
    """How to read what comes, `delay_s` after it came; at most 256 portions are on the way."""
    if delay_s is None:
        return lambda: reader.read(65536)
    loop = asyncio.get_running_loop()
    under_way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(256)

    async def take() -> None:
        data = b"?"
        while data:
            data = await reader.read(65536)
            await under_way.put((loop.time() + delay_s, data))

    async def read() -> bytes:
        at_s, data = await under_way.get()
        await asyncio.sleep(at_s - loop.time())
        return data

    spawn(take())
    return read


class Relay:
    """A proxy in front of one address.

    Attributes:
        faults: given the number of the connection, from 0 on, gives its fault.
    """

    def __init__(self, target: str, faults: Callable[[int], Fault] | None = None) -> None:
        self.faults = faults or (lambda _: Fault())
        self.url = ""
        self.connections = 0
        self.bytes_up = 0
        self.bytes_down = 0
        self._target = urlsplit(target)
        self._tasks: set[asyncio.Task[None]] = set()
        self._open: set[asyncio.StreamWriter] = set()

    @property
    def bytes_both(self) -> int:
        """Every byte on the line, both ways."""
        return self.bytes_up + self.bytes_down

    def forget(self) -> None:
        """Set the counters to zero."""
        self.connections = self.bytes_up = self.bytes_down = 0

    def drop(self) -> None:
        """Break all connections that are open now."""
        for writer in self._open:
            writer.transport.abort()

    @asynccontextmanager
    async def running(self, listener: socket.socket | None = None) -> AsyncIterator[Relay]:
        """Relay until the block ends, on a port of our own or on a socket that listens in another network."""
        listener = listener or socket.create_server(("127.0.0.1", 0))
        server = await asyncio.start_server(self._accept, sock=listener)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        try:
            yield self
        finally:
            server.close()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._open.add(writer)
        fault = self.faults(self.connections)
        self.connections += 1
        far: asyncio.StreamWriter | None = None
        try:
            if not fault.refuse:
                back, far = await asyncio.open_connection(self._target.hostname, self._target.port)
                async with asyncio.TaskGroup() as group:
                    tasks: list[asyncio.Task[None]] = []

                    def spawn(work: Coroutine[None, None, None]) -> None:
                        tasks.append(group.create_task(work))

                    spawn(self._pass_up(_later(reader, fault.delay_s, spawn), far))
                    await self._pass_down(_later(back, fault.delay_s, spawn), writer, fault)
                    for one in tasks:
                        one.cancel()
        except* (OSError, asyncio.CancelledError):
            # Cancelled only by our own end; asyncio's streams would print a cancelled handler as a fault.
            pass
        finally:
            self._tasks.discard(task)
            self._open.discard(writer)
            for one in (writer, far):
                if one is not None:
                    one.transport.abort()

    async def _pass_up(self, read: Read, writer: asyncio.StreamWriter) -> None:
        while data := await read():
            self.bytes_up += len(data)
            writer.write(data)
            await writer.drain()
        with suppress(OSError):
            writer.write_eof()

    async def _pass_down(self, read: Read, writer: asyncio.StreamWriter, fault: Fault) -> None:
        passed = 0
        while data := bytearray(await read()):
            if fault.latency_s is not None:
                await asyncio.sleep(fault.latency_s)
            if fault.flip_at is not None and passed <= fault.flip_at < passed + len(data):
                data[fault.flip_at - passed] ^= 1
            limit = fault.cut_after if fault.cut_after is not None else fault.stall_after
            if limit is not None:
                data = data[: limit - passed]
            passed += len(data)
            await self._send(writer, data, fault)
            if limit is not None and passed >= limit:
                if fault.stall_after is not None:
                    await asyncio.Event().wait()
                return

    async def _send(self, writer: asyncio.StreamWriter, data: bytearray, fault: Fault) -> None:
        if fault.drip_s is None:
            self.bytes_down += len(data)
            writer.write(data)
            await writer.drain()
            return
        for byte in data:
            self.bytes_down += 1
            writer.write(bytes([byte]))
            await writer.drain()
            await asyncio.sleep(fault.drip_s)


Script = Callable[[str, str], bytes]


class Liar:
    """An HTTP upstream by script.

    Args:
        script: given path and Range field (empty for none), gives the raw answer, head and all. The connection is
            closed after each answer, so a body may end early or run on.
    """

    def __init__(self, script: Script) -> None:
        self.script = script
        self.requests: list[tuple[str, str]] = []
        self.heads: list[bytes] = []
        self.url = ""

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Liar]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        try:
            yield self
        finally:
            server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            lines = head.decode("latin-1").split("\r\n")
            fields = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
            path = lines[0].split(" ")[1]
            self.heads.append(head)
            self.requests.append((path, fields.get("range", "")))
            writer.write(self.script(path, fields.get("range", "")))
            await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()


def raw(status: int, body: bytes = b"", *fields: str, length: int | None = None) -> bytes:
    """A raw answer; `length` is what its head claims, the body's own when not given."""
    head = [f"HTTP/1.1 {status} x", f"Content-Length: {len(body) if length is None else length}", *fields]
    return "\r\n".join([*head, "Connection: close", "", ""]).encode() + body
