"""Many clients that ask for one file at the same moment: when each saw its first byte, and whether all got the same.

Run as a process of its own: `python -m tools.bench.crowd PORT PATH CLIENTS`; prints JSON.
"""

from __future__ import annotations

import json
import selectors
import socket
import sys
import time

import xxhash

_BUFFER_BYTES = 1024 * 1024
_DEADLINE_S = 280.0


class _Client:
    def __init__(self, port: int, path: str) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=10)
        self._path = path
        self._head = b""
        self._left = -1
        self._began_s = 0.0
        self.first_s = 0.0
        self.is_whole = False
        self.hash = xxhash.xxh3_64()

    def ask(self) -> None:
        self._began_s = time.monotonic()
        self.socket.sendall(f"GET {self._path} HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n".encode("ascii"))

    def take(self, buffer: memoryview) -> bool:
        """Read what is there; true at the end."""
        count = self.socket.recv_into(buffer)
        if count == 0:
            return True
        data = buffer[:count]
        if self._left < 0:
            self._head += bytes(data)
            head, end, rest = self._head.partition(b"\r\n\r\n")
            if not end:
                return False
            if b" 200 " not in head[:20]:
                return True
            fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:])
            self._left = int(fields[b"content-length"])
            data = memoryview(rest)
        if data and not self.first_s:
            self.first_s = time.monotonic() - self._began_s
        self.hash.update(data)
        self._left -= len(data)
        self.is_whole = self._left == 0
        return self._left <= 0


def run(port: int, path: str, count: int) -> dict[str, object]:
    """Let them all ask, and wait for the last."""
    clients = [_Client(port, path) for _ in range(count)]
    selector = selectors.DefaultSelector()
    buffer = memoryview(bytearray(_BUFFER_BYTES))
    began_s = time.monotonic()
    for client in clients:
        selector.register(client.socket, selectors.EVENT_READ, client)
        client.ask()
    left = count
    while left and time.monotonic() - began_s < _DEADLINE_S:
        for key, _ in selector.select(1):
            client = key.data
            if client.take(buffer):
                selector.unregister(client.socket)
                client.socket.close()
                left -= 1
    whole = [client for client in clients if client.is_whole]
    return {
        "seconds": time.monotonic() - began_s,
        "firsts": sorted(client.first_s for client in clients),
        "whole": len(whole),
        "kinds": len({client.hash.hexdigest() for client in whole}),
    }


def main() -> None:
    """Entry of the process."""
    port, path, count = sys.argv[1:]
    sys.stdout.write(json.dumps(run(int(port), path, int(count))))


if __name__ == "__main__":
    main()
