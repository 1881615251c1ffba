"""The gate through which bulk passes, several connections as one: a bucket, and those who wait at it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress

from aiohttp import ClientResponse

from edge.upstream.pacing import Bucket
from edge.upstream.sessions import bound

# Whoever waits looks again this often, whatever the bucket said.
_LOOK_S = 1.0
# Of the rate, for each of a handful of connections: half a second under way in all.
_WINDOW_S = 0.05
_LEAST_WINDOW_BYTES = 32 * 1024
_OPEN_WINDOW_BYTES = 4 * 1024 * 1024


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

    @property
    def window_bytes(self) -> int | None:
        """Most that one connection may have under way while bulk is held back; None for what the system finds best.

        Otherwise megabytes fill the kernel's buffers at the line's full speed before the sender is held back at all.
        """
        rate = self._bucket.rate
        return None if rate is None else max(int(rate * _WINDOW_S), _LEAST_WINDOW_BYTES)

    async def wait(self) -> None:
        """Wait until what was charged may pass."""
        while (left_s := self._bucket.wait_s(self._monotonic())) > 0:
            with suppress(TimeoutError):
                async with asyncio.timeout(min(left_s, _LOOK_S)):
                    await self._changed.wait()


class Throttle:
    """One body at the gate: read in portions, and its sender held back while it waits."""

    def __init__(self, gate: Gate, response: ClientResponse) -> None:
        self._gate = gate
        self._response = response
        self._window: int | None = None

    def portion_bytes(self) -> int | None:
        """How much to read now; None for whatever is there."""
        self._clamp()
        return None if self._gate.rate is None else self._gate.portion_bytes

    async def admit(self, count: int) -> float:
        """Wait until bytes that arrived may pass; returns the seconds that it took.

        The socket is not read meanwhile, so that the sender waits too and this machine's memory does not fill. Without
        a connection the whole body has arrived, and there is nobody to hold back.
        """
        if not self._gate.charge(count):
            return 0.0
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        connection = self._response.connection
        protocol = connection.protocol if connection is not None else None
        if protocol is not None:
            protocol.pause_reading()
        try:
            await self._gate.wait()
        finally:
            if protocol is not None:
                protocol.resume_reading()
        return loop.time() - began_s

    def _clamp(self) -> None:
        """Keep what the kernel takes in for us at what the rate allows, as it changes.

        A connection that was made for another window is not used again: TCP settles how far it can ever be opened
        when it is made, and who asks without a gate shall meet none that is held.
        """
        window, connection = self._gate.window_bytes, self._response.connection
        if window == self._window or connection is None or connection.transport is None:
            return
        self._window = window
        with suppress(OSError):  # a connection that just broke tells so by itself
            raw = connection.transport.get_extra_info("socket")
            if bound(raw, window or _OPEN_WINDOW_BYTES) and connection.protocol is not None:
                connection.protocol.force_close()
