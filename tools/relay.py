"""A relay between an edge and its upstream that counts what crosses the line, head and body, request by request.

For the demo and the benchmarks: figures are taken from the wire, not from what the edge says of itself. It speaks
just enough HTTP/1.1 to tell one exchange from the next on a kept connection.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

_LIMIT = 256 * 1024
_PORTION = 256 * 1024
_LENGTH = re.compile(rb"(?im)^content-length:[ \t]*(\d+)[ \t]*\r$")
_CLOSE = re.compile(rb"(?im)^connection:[ \t]*close[ \t]*\r$")
_CHUNKED = re.compile(rb"(?im)^transfer-encoding:.*chunked")


@dataclass(slots=True)
class Exchange:
    """One request and its answer, in bytes on the line above TCP."""

    method: str
    path: str
    status: int = 0
    sent_bytes: int = 0
    received_bytes: int = 0

    @property
    def bytes(self) -> int:
        """Both directions."""
        return self.sent_bytes + self.received_bytes


@dataclass
class Relay:
    """A running relay.

    Attributes:
        url: where it listens.
        exchanges: all that was asked so far; take them away with `drain`.
    """

    url: str = ""
    exchanges: list[Exchange] = field(default_factory=list)

    def drain(self) -> list[Exchange]:
        """All exchanges since the last call."""
        taken, self.exchanges = self.exchanges, []
        return taken


@asynccontextmanager
async def open_relay(host: str, port: int) -> AsyncIterator[Relay]:
    """Relay a free local port to `host:port` for the time of the block."""
    relay = Relay()
    running: set[asyncio.Task[None]] = set()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(_relay_connection(relay, reader, writer, host, port))
        running.add(task)
        task.add_done_callback(running.discard)

    server = await asyncio.start_server(accept, "127.0.0.1", 0, limit=_LIMIT)
    relay.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield relay
    finally:
        server.close()
        for task in list(running):
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


async def _relay_connection(
    relay: Relay, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, host: str, port: int
) -> None:
    try:
        upstream_reader, upstream_writer = await asyncio.open_connection(host, port, limit=_LIMIT)
    except OSError:
        writer.close()
        return
    try:
        while await _relay_exchange(relay, reader, upstream_writer, upstream_reader, writer):
            pass
    except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
        pass  # either side went away; the other side learns it by the close below
    finally:
        for one in (writer, upstream_writer):
            one.close()
            with suppress(OSError):
                await one.wait_closed()


async def _relay_exchange(
    relay: Relay,
    client: asyncio.StreamReader,
    to_server: asyncio.StreamWriter,
    server: asyncio.StreamReader,
    to_client: asyncio.StreamWriter,
) -> bool:
    """Pass one request and its answer on; False when the connection has ended."""
    head = await _next_head(client, server)
    if head is None:
        return False
    method, path, _ = head.split(b"\r\n", 1)[0].decode("latin-1").split(" ", 2)
    exchange = Exchange(method, path, sent_bytes=len(head))
    relay.exchanges.append(exchange)
    to_server.write(head)
    if (length := _LENGTH.search(head)) is not None:
        exchange.sent_bytes += await _pass(client, to_server, int(length[1]))
    await to_server.drain()
    answer = await server.readuntil(b"\r\n\r\n")
    exchange.status = int(answer.split(b" ", 2)[1])
    exchange.received_bytes += len(answer)
    to_client.write(answer)
    await to_client.drain()
    if method == "HEAD" or exchange.status in {204, 304}:
        return True
    length = _LENGTH.search(answer)
    if length is not None and not _CHUNKED.search(answer):
        await _pass_counted(server, to_client, int(length[1]), exchange)
        return _CLOSE.search(answer) is None
    await _pass_counted(server, to_client, None, exchange)  # ends with the connection
    return False


async def _next_head(client: asyncio.StreamReader, server: asyncio.StreamReader) -> bytes | None:
    """The next request's head; None when the server has closed first, which an idle client must learn."""
    asking = asyncio.ensure_future(client.readuntil(b"\r\n\r\n"))
    closing = asyncio.ensure_future(server.read(1))
    try:
        await asyncio.wait({asking, closing}, return_when=asyncio.FIRST_COMPLETED)
        return await asking if asking.done() else None
    finally:
        for task in (asking, closing):
            task.cancel()
        await asyncio.gather(asking, closing, return_exceptions=True)


async def _pass_counted(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, length: int | None, exchange: Exchange
) -> None:
    left = length
    while left is None or left > 0:
        portion = await reader.read(_PORTION if left is None else min(_PORTION, left))
        if not portion:
            if left is None:
                return
            raise asyncio.IncompleteReadError(b"", left)
        exchange.received_bytes += len(portion)
        writer.write(portion)
        await writer.drain()
        left = None if left is None else left - len(portion)


async def _pass(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, length: int) -> int:
    body = await reader.readexactly(length)
    writer.write(body)
    return length
