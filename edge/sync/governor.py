"""The governor: opens and closes bulk and sets its rate, four times a second, by clock and terminals."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from edge.clock import Clock
from edge.reasons import UpstreamReason
from edge.sync.bulk import Bulk
from edge.sync.window import Schedule, cap_at, rate_now, refusal_at

# With the workers' own quarter of a second for telling what they sent, bulk yields well within a second.
TICK_S = 0.25
# Players fetch in bursts some seconds apart; bulk does not rush into each gap.
HOLD_S = 5.0
# Span over which a rate is measured.
_MEASURE_S = 1.0


class Governor:
    """Rules over one `Bulk`, whose owner runs it beside the work.

    Args:
        schedule: of this edge; may be replaced at any time.
        bulk: what is ruled.
        clock: wall clock, read anew each time: it may jump.
        sent: bytes sent to terminals so far, by all processes.
        monotonic: seconds for durations.
        filling: requests to upstreams that viewers wait for, now: they and bulk share the line.

    Attributes:
        is_playing: terminals are being served, or filled for.
    """

    def __init__(
        self,
        schedule: Schedule,
        bulk: Bulk,
        clock: Clock,
        sent: Callable[[], int] = int,
        monotonic: Callable[[], float] = time.monotonic,
        filling: Callable[[], int] = int,
    ) -> None:
        self.schedule = schedule
        self.bulk = bulk
        self.is_playing = False
        self._clock = clock
        self._sent = sent
        self._monotonic = monotonic
        self._filling = filling
        self._sent_before = sent()
        self._played_s = -HOLD_S
        self._received = self._measured_from = 0
        self._measured_s = monotonic()
        self._best = 0

    def count(self, _reason: UpstreamReason, count: int) -> None:
        """Note bytes that arrived from upstreams, from which the line's rate is seen."""
        self._received += count

    def look(self) -> None:
        """Rule once."""
        now, now_s, sent = self._clock(), self._monotonic(), self._sent()
        if sent != self._sent_before or self._filling():
            self._sent_before, self._played_s = sent, now_s
        self.is_playing = now_s - self._played_s < HOLD_S
        self._measure(now_s)
        rate = rate_now(self.schedule, now, is_playing=self.is_playing, seen_bytes_per_s=self._best)
        # Beside the caps, which whoever measures the line knows: yielding to viewers, or a share of idle capacity.
        self.bulk.pace(rate, is_held=rate != cap_at(self.schedule, now))
        self.bulk.rule(refusal_at(self.schedule, now))

    async def run(self) -> None:
        """Rule until cancelled."""
        while True:
            self.look()
            await asyncio.sleep(TICK_S)

    def _measure(self, now_s: float) -> None:
        span_s = now_s - self._measured_s
        if span_s >= _MEASURE_S:
            self._best = max(self._best, int((self._received - self._measured_from) / span_s))
            self._measured_s, self._measured_from = now_s, self._received
