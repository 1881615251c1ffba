"""How many requests a line deserves at once: climb while goodput climbs, step back when requests stall or drop.

One request leaves a long line idle for a round trip between answers; too many only queue behind each other, and a
thin line then brings twenty pieces late instead of one early. Time is an argument; nothing here reads a clock.
"""

from __future__ import annotations

from dataclasses import dataclass

# Goodput is compared over spans of at least so long.
_EPOCH_S = 1.0
# More requests are worth having when they bring so much more.
_GAIN = 1.08
_FIRST_HOLD_S = 8.0
_HOLD_MOST_S = 64.0


@dataclass(slots=True)
class InFlight:
    """The window of requests in flight.

    Attributes:
        most: upper bound.
        size: requests that may be in flight now; from 1 to `most`.
    """

    most: int
    size: int = 4
    _began_s: float = 0.0
    _began_bytes: int = -1
    _full: bool = False
    _before: int = 0  # the size that the last step came from; 0: nothing is being tried
    _base: float = 0.0  # goodput at that size
    _climbing: bool = True
    _hold_s: float = _FIRST_HOLD_S
    _held_until_s: float = 0.0
    _hurt_s: float = -_EPOCH_S

    def __post_init__(self) -> None:
        self.size = max(1, min(self.size, self.most))

    def observe(self, now_s: float, received_bytes: int, active: int) -> None:
        """Look at the line.

        Args:
            now_s: of any monotonic source.
            received_bytes: bytes received so far, in all.
            active: requests in flight now.
        """
        if self._began_bytes < 0:
            self._begin(now_s, received_bytes)
        self._full = self._full or active >= self.size
        span_s = now_s - self._began_s
        if span_s < _EPOCH_S or received_bytes == self._began_bytes:
            return
        rate = (received_bytes - self._began_bytes) / span_s
        is_full = self._full
        self._begin(now_s, received_bytes)
        if is_full:  # otherwise there was not enough to ask for, which says nothing of the line
            self._judge(now_s, rate)

    def hurt(self, now_s: float) -> None:
        """A request stalled or dropped: ask for less at once. Those that fall together count once."""
        if now_s - self._hurt_s < _EPOCH_S:
            return
        self._hurt_s = now_s
        self.size = max(1, self.size // 2)
        self._before, self._base, self._climbing = 0, 0.0, True
        self._hold_s, self._held_until_s = _FIRST_HOLD_S, 0.0
        self._began_bytes = -1

    def _begin(self, now_s: float, received_bytes: int) -> None:
        self._began_s, self._began_bytes, self._full = now_s, received_bytes, False

    def _judge(self, now_s: float, rate: float) -> None:
        if self._before and rate < self._base * _GAIN:
            # The step brought nothing: back, and wait longer before the next try.
            self.size, self._before, self._climbing = self._before, 0, False
            self._held_until_s = now_s + self._hold_s
            self._hold_s = min(self._hold_s * 2, _HOLD_MOST_S)
        elif now_s >= self._held_until_s and self.size < self.most:
            self._before, self._base = self.size, rate
            self.size = min(self.most, self.size * 2 if self._climbing else self.size + 1)
        else:
            self._before = 0
