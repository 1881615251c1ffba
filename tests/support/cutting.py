"""A proxy that breaks off what is sent up, as a phone's or a county's line does; it knows nothing of HTTP."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from urllib.parse import urlsplit


@dataclass
class Line:
    """The line to one address.

    Attributes:
        limit: given the number of a connection, after how many bytes up it breaks; None: never.
        is_silent: instead of breaking, it carries nothing more.
    """

    url: str
    target: tuple[str, int]
    limit: Callable[[int], int | None]
    is_silent: bool = False
    connections: int = 0
    bytes_up: int = 0
    reached: threading.Event = field(default_factory=threading.Event)
    over: threading.Event = field(default_factory=threading.Event)

    def carry(self, near: socket.socket, number: int) -> None:
        """One connection."""
        with near, socket.create_connection(self.target) as far:
            threading.Thread(target=_copy, args=(far, near), daemon=True).start()
            left = self.limit(number)
            with suppress(OSError):
                while data := near.recv(65536 if left is None else min(65536, left)):
                    far.sendall(data)
                    self.bytes_up += len(data)
                    left = None if left is None else left - len(data)
                    if left == 0:
                        self.reached.set()
                        if self.is_silent:
                            self.over.wait(60)
                        # Closing alone would leave it open for as long as the other thread reads from it.
                        for end in (far, near):
                            end.shutdown(socket.SHUT_RDWR)
                        return
                far.shutdown(socket.SHUT_WR)


def _copy(source: socket.socket, to: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65536):
            to.sendall(data)
        to.shutdown(socket.SHUT_WR)


@contextmanager
def line_to(url: str, limit: Callable[[int], int | None]) -> Iterator[Line]:
    """Make a line to a server."""
    parts = urlsplit(url)
    with socket.create_server(("127.0.0.1", 0)) as server:
        line = Line(f"http://127.0.0.1:{server.getsockname()[1]}", (parts.hostname or "", parts.port or 0), limit)

        def accept() -> None:
            with suppress(OSError):
                while True:
                    near, _ = server.accept()
                    threading.Thread(target=line.carry, args=(near, line.connections), daemon=True).start()
                    line.connections += 1

        threading.Thread(target=accept, daemon=True).start()
        try:
            yield line
        finally:
            line.over.set()
            server.shutdown(socket.SHUT_RDWR)
