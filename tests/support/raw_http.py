"""HTTP over a bare socket: exactly these bytes go out, exactly what came back is looked at."""

import asyncio
from contextlib import suppress
from dataclasses import dataclass

DEADLINE_S = 60


@dataclass(frozen=True)
class Reply:
    """One response as it stood on the wire; header names in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes
    head_bytes: int


class Connection:
    """A client connection that does not tidy up what it sends."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    async def open(cls, port: int, limit: int = 1 << 22) -> "Connection":
        return cls(*await asyncio.open_connection("127.0.0.1", port, limit=limit))

    async def send(self, text: str | bytes) -> None:
        self.writer.write(text.encode("latin-1") if isinstance(text, str) else text)
        await self.writer.drain()

    async def request(self, path: str, method: str = "GET", **headers: str) -> Reply:
        """Send one request on this connection; `If_None_Match` becomes `If-None-Match`."""
        fields = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
        await self.send(f"{method} {path} HTTP/1.1\r\nHost: x\r\n{fields}\r\n")
        return await self.reply(has_body=method != "HEAD")

    async def reply(self, has_body: bool = True) -> Reply:
        async with asyncio.timeout(DEADLINE_S):
            head = await self.reader.readuntil(b"\r\n\r\n")
            first, *lines = head[:-4].decode("latin-1").split("\r\n")
            headers: dict[str, str] = {}
            for line in lines:
                name, _, value = line.partition(":")
                assert name.lower() not in headers, f"{name} twice"
                headers[name.lower()] = value.strip()
            status = int(first.split()[1])
            bodyless = not has_body or status in {204, 304}
            body = b"" if bodyless else await self.reader.readexactly(int(headers["content-length"]))
        return Reply(status, headers, body, len(head))

    async def is_closed(self) -> bool:
        """Wait until the other side has closed; False when it sends something instead."""
        async with asyncio.timeout(DEADLINE_S):
            try:
                return await self.reader.read(1) == b""
            except ConnectionError:
                return True

    async def close(self) -> None:
        self.writer.close()
        with suppress(ConnectionError):
            await self.writer.wait_closed()
