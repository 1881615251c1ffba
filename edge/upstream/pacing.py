"""A token bucket: how long bytes must wait so that they keep to a rate. Pure: the reading of the clock is an argument.

Bytes are charged when they arrive and passed on when the bucket is out of debt again. So a portion larger than the
bucket waits longer and is not lost, and what was passed on never exceeds rate × time + burst.
"""

from __future__ import annotations

import math

# What may have gathered while nobody asked, in seconds of the rate.
BURST_S = 0.25
# One portion read at a time, in seconds of the rate; several connections may each hold one.
PORTION_S = 0.1
LEAST_PORTION_BYTES = 4 * 1024
MOST_PORTION_BYTES = 256 * 1024


class Bucket:
    """Seconds are of any one monotonic source.

    Attributes:
        rate: bytes per second; 0 for paused, None for no limit.
    """

    def __init__(self, now_s: float, rate: int | None = None) -> None:
        self.rate = rate
        self._level = 0.0  # bytes that may pass at once; below zero: debt
        self._at_s = now_s

    @property
    def portion_bytes(self) -> int:
        """How much to read at once."""
        if self.rate is None:
            return MOST_PORTION_BYTES
        return min(max(int(self.rate * PORTION_S), LEAST_PORTION_BYTES), MOST_PORTION_BYTES)

    def set_rate(self, rate: int | None, now_s: float) -> None:
        """Change the rate; debt stays, unless there is no limit any more."""
        self._fill(now_s)
        self.rate = rate
        self._level = 0.0 if rate is None else min(self._level, rate * BURST_S)

    def charge(self, count: int, now_s: float) -> None:
        """Charge bytes that arrived."""
        self._fill(now_s)
        if self.rate is not None:
            self._level -= count

    def wait_s(self, now_s: float) -> float:
        """Seconds until everything charged so far may be passed on; infinite while paused."""
        self._fill(now_s)
        if self.rate is None:
            return 0.0
        if self.rate == 0:
            return math.inf  # not one byte more, whatever has been saved up
        # Part of a byte is no debt; nor could a clock's last digit tell how long it takes to pay.
        return 0.0 if self._level > -1 else -self._level / self.rate

    def _fill(self, now_s: float) -> None:
        if self.rate is not None:
            self._level = min(self._level + (now_s - self._at_s) * self.rate, self.rate * BURST_S)
        self._at_s = now_s
