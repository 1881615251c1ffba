"""Whether a run may move bulk, and how fast; whoever owns the night changes it while the run is at work."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from edge.sync.window import Refusal
from edge.upstream.gate import Gate


class Bulk:
    """Allowed and unlimited until somebody says otherwise. For one event loop.

    Attributes:
        gate: what bodies of lessons pass through; signed lists and catalogs do not.
        refusal: why bulk may not move now; None when it may.
    """

    def __init__(self, refusal: Refusal | None = None) -> None:
        self.gate = Gate()
        self.refusal = refusal
        self._closed = asyncio.Event()
        self._is_held = False
        self._held: Callable[[bool], None] = _nobody
        self.rule(refusal)

    def rule(self, refusal: Refusal | None) -> None:
        """Allow bulk, or refuse it with a reason."""
        self.refusal = refusal
        if refusal is None:
            self._closed.clear()
        else:
            self._closed.set()

    def pace(self, rate: int | None, *, is_held: bool) -> None:
        """Set the rate; `is_held` says that it is below what the line and its caps allow, for a while."""
        self.gate.set_rate(rate)
        if is_held != self._is_held:
            self._is_held = is_held
            self._held(is_held)

    def tell_held(self, held: Callable[[bool], None]) -> None:
        """Tell somebody now, and from now on when it changes, whether bulk is held back: the line is not slow then."""
        self._held = held
        held(self._is_held)

    async def refused(self) -> Refusal:
        """Wait until bulk may not move (any more)."""
        while self.refusal is None:
            await self._closed.wait()
        return self.refusal


def _nobody(_is_held: bool) -> None:
    return
