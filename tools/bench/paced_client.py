"""Terminals that play: each takes its rate and no more, segment after segment, and notes when it could not.

Run as a process of its own: `python -m tools.bench.paced_client PORT PATH SIZE TERMINALS RATE SECONDS`; prints one
JSON line and keeps its connections until it is killed.
"""

from __future__ import annotations

import heapq
import random
import socket
import sys
import time

import msgspec

SEGMENT_BYTES = 1_500_000
# A terminal looks at its socket so often; its receive buffer holds about twice as much.
TICK_S = 0.1
TICKS_PER_SECOND = 10
RECEIVE_BYTES = 64 * 1024
LEAST = 0.95
# What it was late itself in any tick of a second makes that second no witness.
LAG_S = 0.1
_ROOM = bytearray(1 << 20)


class Outcome(msgspec.Struct, frozen=True):
    """What the terminals saw after their first second.

    Attributes:
        worst: least share of its rate that any terminal got in any of its seconds.
        behind: terminals' seconds below `LEAST`.
        unsure: seconds that do not count because this client was late itself.
    """

    worst: float
    behind: int
    unsure: int
    seconds: int
    taken_bytes: int


class Terminal:
    """One player; `take` is called at each of its ticks."""

    def __init__(self, port: int, path: str, size: int) -> None:
        self.socket = socket.socket()
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BYTES)
        self.socket.settimeout(20)
        self.socket.connect(("127.0.0.1", port))
        self.socket.setblocking(False)
        self._path = path
        self._size = size
        self._left = self._length = 0
        self._head = b""
        self.began_s = 0.0
        self.taken = 0
        self.marked_s = 0.0
        self.marked = 0
        self.was_late = False
        self.ticks = 0

    def ask(self) -> None:
        """Ask for the next segment."""
        start = random.randrange(max(1, self._size // SEGMENT_BYTES)) * SEGMENT_BYTES  # noqa: S311 - no secret
        last = min(start + SEGMENT_BYTES, self._size) - 1
        self._left, self._head = -1, b""
        self.socket.send(
            f"GET {self._path} HTTP/1.1\r\nHost: bench\r\nRange: bytes={start}-{last}\r\n\r\n".encode("ascii")
        )
        self._length = last + 1 - start

    def take(self, due: int) -> None:
        """Take what is due, as far as it has come."""
        while self.taken < due:
            try:
                if self._left < 0:
                    self._read_head()
                    continue
                count = self.socket.recv_into(_ROOM, min(self._left, due - self.taken, len(_ROOM)))
            except BlockingIOError:
                return
            if count == 0:
                raise SystemExit("connection ended early")
            self.taken += count
            self._left -= count
            if not self._left:
                self.ask()

    def _read_head(self) -> None:
        part = self.socket.recv(1024)
        if not part:
            raise SystemExit("connection ended early")
        self._head += part
        head, end, rest = self._head.partition(b"\r\n\r\n")
        if not end:
            return
        if b" 206 " not in head[:20]:
            raise SystemExit(f"not a 206: {head[:60]!r}")
        self._left = self._length - len(rest)
        self.taken += len(rest)


def play(port: int, path: str, size: int, terminals: int, rate: int, seconds: int) -> Outcome:
    """Play, and tell how it was."""
    players = [Terminal(port, path, size) for _ in range(terminals)]
    began = time.monotonic()
    due: list[tuple[float, int]] = []
    for number, player in enumerate(players):
        player.began_s = began + TICK_S * TICKS_PER_SECOND * number / terminals
        heapq.heappush(due, (player.began_s, number))
    worst, behind, unsure, counted = 1.0, 0, 0, 0
    while due:
        at, number = due[0]
        now = time.monotonic()
        if now < at:
            time.sleep(at - now)
            now = time.monotonic()
        player = players[number]
        if player.ticks == 0:
            player.ask()
        player.take(int((now - player.began_s) * rate))
        player.was_late |= now - at > LAG_S
        if player.ticks % TICKS_PER_SECOND == 0:
            if player.ticks > TICKS_PER_SECOND:
                share = (player.taken - player.marked) / ((now - player.marked_s) * rate)
                counted += 1
                if player.was_late:
                    unsure += 1
                else:
                    worst = min(worst, share)
                    behind += share < LEAST
            player.marked, player.marked_s, player.was_late = player.taken, now, False
        player.ticks += 1
        if player.ticks > seconds * TICKS_PER_SECOND:
            heapq.heappop(due)
        else:
            heapq.heapreplace(due, (player.began_s + player.ticks * TICK_S, number))
    return Outcome(worst, behind, unsure, counted, sum(player.taken for player in players))


if __name__ == "__main__":
    port, path, *numbers = sys.argv[1:]
    outcome = play(int(port), path, *map(int, numbers))
    print(msgspec.json.encode(outcome).decode(), flush=True)
    time.sleep(60)
