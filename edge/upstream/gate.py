"""The gate through which bulk passes, several connections as one: a bucket, and those who wait at it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress

from edge.upstream.pacing import Bucket

# Whoever waits looks again this often, whatever the bucket said.
_LOOK_S = 1.0


class Gate:
    """Holds bulk to a rate that may change at any moment. For one event loop."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._bucket = Bucket(monotonic())
        self._changed = asyncio.Event()

    @property
    def rate(self) -> int | None:
        """Bytes per second; 0 for paused, None for no limit."""
        return self._bucket.rate

    @property
    def portion_bytes(self) -> int:
        """How much to read at once."""
        return self._bucket.portion_bytes

    def set_rate(self, rate: int | None) -> None:
        """Change the rate; whoever waits reckons anew at once."""
        if rate != self._bucket.rate:
            self._bucket.set_rate(rate, self._monotonic())
            self._changed.set()
            self._changed = asyncio.Event()

    def charge(self, count: int) -> bool:
        """Charge bytes that arrived; tells whether they must wait at `wait`."""
        now_s = self._monotonic()
        self._bucket.charge(count, now_s)
        return self._bucket.wait_s(now_s) > 0

    async def wait(self) -> None:
        """Wait until what was charged may pass."""
        while (left_s := self._bucket.wait_s(self._monotonic())) > 0:
            with suppress(TimeoutError):
                async with asyncio.timeout(min(left_s, _LOOK_S)):
                    await self._changed.wait()
