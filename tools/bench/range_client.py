"""A client that asks for random ranges on kept connections and only counts: used where wrk is not installed.

Run as a process of its own: `python -m tools.bench.range_client PORT PATH SIZE LENGTH CONNECTIONS SECONDS`; prints the
answers per second.
"""

from __future__ import annotations

import random
import selectors
import socket
import sys
import time

_BUFFER_BYTES = 4 * 1024 * 1024
_ROOM_FOR_HEAD = 4096


class _Client:
    def __init__(self, port: int, path: str, size: int, length: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=10)
        self._path, self._size, self._length = path, size, length
        self._left = 0
        self._head = b""

    def ask(self) -> None:
        start = random.randrange(self._size - self._length + 1)  # noqa: S311 - where to read is no secret
        last = start + self._length - 1
        self.socket.sendall(
            f"GET {self._path} HTTP/1.1\r\nHost: bench\r\nRange: bytes={start}-{last}\r\n\r\n".encode("ascii")
        )
        self._left, self._head = -1, b""

    def take(self, buffer: memoryview) -> bool:
        """Read what is there; true when the answer is whole."""
        if self._left < 0:
            self._head += self.socket.recv(_ROOM_FOR_HEAD)
            head, end, rest = self._head.partition(b"\r\n\r\n")
            if not end:
                return False
            if b" 206 " not in head[:20]:
                raise SystemExit(f"not a 206: {head[:60]!r}")
            self._left = self._length - len(rest)
        else:
            count = self.socket.recv_into(buffer, min(self._left, _BUFFER_BYTES))
            if count == 0:
                raise SystemExit("connection ended early")
            self._left -= count
        return self._left == 0


def run(port: int, path: str, size: int, length: int, connections: int, seconds: float) -> float:
    """Answers per second."""
    buffer = memoryview(bytearray(_BUFFER_BYTES))
    selector = selectors.DefaultSelector()
    for _ in range(connections):
        client = _Client(port, path, size, length)
        selector.register(client.socket, selectors.EVENT_READ, client)
        client.ask()
    count, began = 0, time.monotonic()
    while time.monotonic() - began < seconds:
        for key, _ in selector.select(1):
            client = key.data
            if client.take(buffer):
                count += 1
                client.ask()
    return count / (time.monotonic() - began)


if __name__ == "__main__":
    port, path, size, length, connections, seconds = sys.argv[1:]
    print(run(int(port), path, int(size), int(length), int(connections), float(seconds)))
