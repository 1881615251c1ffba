"""Places for requests in flight, as many as the line deserves at the moment."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from types import TracebackType

from edge.sync.inflight import InFlight


class Slots:
    """A semaphore whose size follows `window`; for one event loop.

    Args:
        window: decides.
        received: bytes received so far from the sources behind this line.
    """

    def __init__(self, window: InFlight, received: Callable[[], int]) -> None:
        self._window = window
        self._received = received
        self._active = 0
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def acquire(self) -> None:
        """Take a place; first come, first served."""
        if self._active >= self._window.size or self._waiting:
            await self._wait()
        self._active += 1
        self.tick()

    def release(self) -> None:
        """Give a place back."""
        self.tick()
        self._active -= 1
        self._wake()

    def tick(self) -> None:
        """Bytes have come: let the window look."""
        self._window.observe(asyncio.get_running_loop().time(), self._received(), self._active)
        self._wake()

    def hurt(self) -> None:
        """A request stalled or dropped."""
        self._window.hurt(asyncio.get_running_loop().time())

    async def __aenter__(self) -> None:
        await self.acquire()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    async def _wait(self) -> None:
        waiter = asyncio.get_running_loop().create_future()
        self._waiting.append(waiter)
        try:
            await waiter
        except asyncio.CancelledError:
            if waiter in self._waiting:
                self._waiting.remove(waiter)
            if waiter.done() and not waiter.cancelled():
                self._active -= 1  # the place came just then: it goes to the next
                self._wake()
            raise
        self._active -= 1  # taken by `_wake` for us; `acquire` counts it again

    def _wake(self) -> None:
        while self._waiting and self._active < self._window.size:
            waiter = self._waiting.popleft()
            if not waiter.done():
                self._active += 1
                waiter.set_result(None)
