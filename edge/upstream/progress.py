"""The progress floor: how long a body may take, judged by what arrives and not by a total.

A line of 4 Mbit/s and one of 1 Gbit/s need the same rule: within each window some least number of bytes must come.
An upstream that sends one byte a second keeps every plain read timeout quiet for ever; it fails here in one window.
Time is an argument; nothing here reads a clock.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """Deadlines of one request.

    Attributes:
        connect_s: to an open connection (name, TCP, TLS).
        answer_s: from there to the end of the answer's head.
        window_s: length of the window in which `floor_bytes` must arrive.
        floor_bytes: least bytes per window; a body's last, shorter rest must arrive within one window too.
        total_s: whole request, whatever arrives.
    """

    connect_s: float = 5.0
    answer_s: float = 5.0
    window_s: float = 2.0
    floor_bytes: int = 8 * 1024
    total_s: float = 900.0


class Pace:
    """Watches one body. Seconds are of any one monotonic source."""

    def __init__(self, limits: Limits, now_s: float) -> None:
        self._limits = limits
        self._window_end_s = now_s + limits.window_s
        self._end_s = now_s + limits.total_s
        self._arrived = 0

    @property
    def due_s(self) -> float:
        """The moment at which waiting for more bytes must end."""
        return min(self._window_end_s, self._end_s)

    def arrive(self, count: int, now_s: float) -> None:
        """Note bytes; enough of them open the next window."""
        self._arrived += count
        if self._arrived >= self._limits.floor_bytes:
            self._arrived = 0
            self._window_end_s = now_s + self._limits.window_s

    def pause(self, seconds: float) -> None:
        """Leave out time that this side spent on hashing and storing: the sender is not to blame for it."""
        self._window_end_s += seconds
        self._end_s += seconds
