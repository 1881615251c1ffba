"""Measure the line while a run is at work, and keep what was learnt: after each hour, and when the run ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import tzinfo

import structlog

from edge.clock import Clock
from edge.sync.metering import Meter, learn_all
from edge.threads import run_to_end
from manifests.errors import StorageError
from manifests.line import Line

_TICK_S = 2.0

_log = structlog.get_logger(__name__)


class Gauge:
    """One per run, on its event loop.

    Args:
        received: bytes of body received so far over the line; those of siblings do not cross it.
        line: as it is known before the run.
        keep: writes the new profile to the disk.
    """

    def __init__(
        self,
        received: Callable[[], int],
        line: Line,
        zone: tzinfo,
        clock: Clock,
        monotonic: Callable[[], float],
        keep: Callable[[tuple[int, ...]], None],
    ) -> None:
        self._received = received
        self._line = line
        self._zone = zone
        self._clock = clock
        self._monotonic = monotonic
        self._keep = keep
        self._meter = Meter()
        self._rates = line.rates
        self._is_bulk = False
        self._is_held = False

    def bulk(self, is_under_way: bool) -> None:
        """Told when range requests for pieces begin, and when the last of them is done."""
        self._is_bulk = is_under_way
        self._mark()

    def hold(self, is_held: bool) -> None:
        """Told when bulk is held back on purpose (a pause, viewers first), and when it goes on."""
        self._is_held = is_held
        self._mark()

    @asynccontextmanager
    async def measuring(self) -> AsyncIterator[None]:
        """Measure for the time of the block."""
        ticker = asyncio.create_task(self._tick())
        try:
            yield
        finally:
            ticker.cancel()
            await asyncio.wait({ticker})
            self._mark()
            await self._learn(is_over=True)

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(_TICK_S)
            self._mark()
            await self._learn(is_over=False)

    def _mark(self) -> None:
        is_counted = self._is_bulk and not self._is_held
        self._meter.mark(self._clock(), self._monotonic(), self._received(), is_counted=is_counted)

    async def _learn(self, *, is_over: bool) -> None:
        measured = self._meter.take(self._zone, None if is_over else self._clock())
        rates = learn_all(self._rates, self._line, self._zone, measured)
        if rates == self._rates:
            return
        self._rates = rates
        try:
            await run_to_end(self._keep, rates)
        except StorageError as error:  # a disk that takes none must not end the run
            _log.warning("line profile not kept", reason=error.message)
