"""What all fills of one filler share: sources, threads, and the places for requests that are in flight at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edge.fill.flight_plan import Places
from edge.fill.spans import Run
from edge.metrics import Cell, Counters
from edge.upstream.sources import Sources

if TYPE_CHECKING:
    from edge.fill.blob_fill import BlobFill

# Of all places, those that read-ahead leaves to the next jump.
_KEPT_FREE = 2
# One request: long enough to be worth its round trip, short enough that a jump does not wait for it.
_SPAN_BYTES = 1024 * 1024
_LEAST_RETRY_S = 1.0


class Desk:
    """Gives places out, to what is waited for first.

    Args:
        sources: whom to ask.
        run: runs blocking work in a few threads.
        counters: of this process.
        most: requests in flight at once.

    Attributes:
        fills: all that go on, the one that was served longest ago first.
    """

    def __init__(self, sources: Sources, run: Run, counters: Counters, most: int) -> None:
        self.sources = sources
        self.run = run
        self.counters = counters
        self.fills: list[BlobFill] = []
        self._most = most
        self._flights = 0
        self._ahead = 0

    def schedule(self) -> None:
        """Begin what has a place; when somebody waits and there is competition, end what nobody needs."""
        if any(fill.wished()[0] for fill in self.fills):
            for fill in self.fills:
                fill.cancel_useless()
        for fill in tuple(self.fills):
            fill.launch(Places(self._most - self._flights, 0, _span_pieces(fill)))
        for fill in tuple(self.fills):
            ahead = max(1, self._most - _KEPT_FREE) - self._ahead
            fill.launch(Places(self._most - self._flights, max(0, ahead), _span_pieces(fill)))
        if self.fills:
            self.fills.append(self.fills.pop(0))

    def begun(self, *, is_ahead: bool) -> None:
        """A request begins."""
        self._flights += 1
        self._ahead += is_ahead
        self.counters.add(Cell.FILL_FLIGHTS)
        self.counters.set(Cell.FILLS_IN_FLIGHT, self._flights)

    def ended(self, *, is_ahead: bool) -> None:
        """A request has ended, and its place is free."""
        self._flights -= 1
        self._ahead -= is_ahead
        self.counters.set(Cell.FILLS_IN_FLIGHT, self._flights)
        self.schedule()

    def retry_s(self) -> float:
        """When a source may be asked again, at the earliest."""
        return max(_LEAST_RETRY_S, self.sources.ready_in_s())


def _span_pieces(fill: BlobFill) -> int:
    return max(1, _SPAN_BYTES // fill.piece_size)
