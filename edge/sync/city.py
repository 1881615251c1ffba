"""What one run knows of its city: siblings, what they were seen to bring, and how to ask them without being a burden.

Nothing that a sibling says is believed: its bits only say what to ask it for, and each piece proves itself.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

from edge.settings import Upstream
from edge.sync.shares import patience_s, score
from edge.upstream.client import pieces_path
from edge.upstream.source import Source
from edge.upstream.sources import Sources
from manifests.digests import Digest
from manifests.pieces import parse_bits

# A sibling is asked for its bits about so often while it has news, and less often while it has none.
POLL_S = 0.7
POLL_MOST_S = 4.0
# Requests to siblings in flight at once, over all blobs; they cross the city, not the province's line.
_FLIGHTS = 4
_GAP_DECAY = 0.9


class City:
    """One per run; for one event loop.

    Args:
        own: this edge's address as its siblings know it.
        sources: with siblings.
        rng: spreads polls in time.
        monotonic: seconds.
        deadline_s: within which any source must make progress.

    Attributes:
        flights: places for requests to siblings.
        fills: blobs under way that are shared.
        gap_s: how far apart pieces come from above, the slow side of it; 0 until that is known.
    """

    def __init__(
        self, own: str, sources: Sources, rng: random.Random, monotonic: Callable[[], float], deadline_s: float
    ) -> None:
        self.own = own
        self.sources = sources
        self.monotonic = monotonic
        self.flights = asyncio.Semaphore(_FLIGHTS)
        self.fills = 0
        self.gap_s = 0.0
        self._rng = rng
        self._deadline_s = deadline_s
        self._moved_s: dict[str, float] = {}
        self._asked_s: float | None = None  # since when above owes pieces
        self._began_s: float | None = None
        self._is_own = False  # what is known of the gap is known from this edge's own pieces

    @property
    def siblings(self) -> tuple[Source, ...]:
        """The other edges."""
        return self.sources.siblings

    def patience_s(self, *, has_begun: bool) -> float:
        """How long a sibling may bring nothing of its share before it is not counted on.

        A line that many share brings everybody's first piece late: as long as nothing came to anybody, those who have
        begun are no slower than it is, and what is late here may be late there.
        """
        now_s = self.monotonic()
        waited_s = now_s - self._asked_s if self._asked_s is not None else 0.0
        if has_begun and not self.gap_s and self._began_s is not None:
            waited_s = now_s - self._began_s
        return patience_s(self._deadline_s, max(self.gap_s, waited_s))

    def asked(self) -> None:
        """Above was asked for pieces."""
        if self._asked_s is None:
            self._asked_s = self.monotonic()

    def came(self) -> None:
        """Pieces came from above and proved."""
        now_s = self.monotonic()
        if self._asked_s is not None:
            self.gap_s = max(now_s - self._asked_s, self.gap_s * _GAP_DECAY if self._is_own else 0.0)
            self._is_own = True
        self._asked_s = now_s

    def rested(self) -> None:
        """Nothing was asked of above for a while: the time until the next piece says nothing of the line."""
        self._asked_s = None

    def begin(self) -> None:
        """A blob begins to be filled."""
        self.fills += 1
        if self._began_s is None:
            self._began_s = self.monotonic()

    def heard(self, url: str, since_s: float) -> None:
        """A sibling has brought something of its share; the time since `since_s`, or its last, was its line's.

        That is what an edge knows of the line to which no share falls.
        """
        now_s = self.monotonic()
        if not self._is_own:
            self.gap_s = max(now_s - max(since_s, self.moved_s(url)), self.gap_s * _GAP_DECAY)
        self._moved_s[url] = now_s

    def moved(self, url: str) -> None:
        """A sibling was seen to have proved something new of its share."""
        self._moved_s[url] = self.monotonic()

    def moved_s(self, url: str) -> float:
        """When that was last, in any blob; long ago for never."""
        return self._moved_s.get(url, float("-inf"))

    def pause_s(self, upstream: Source, idle: int) -> float:
        """How long to leave a sibling alone after `idle` polls without news; spread, so that no two edges keep step."""
        base_s: float = min(POLL_S * 2 ** min(idle, 8), POLL_MOST_S) * max(1, self.fills)
        return max(base_s * (0.5 + self._rng.random()), self.sources.rest_s(upstream))

    def pick(self, of: list[int]) -> int:
        """One of several equally good places to begin."""
        return self._rng.randrange(len(of))

    async def bits(self, upstream: Source, digest: Digest, count: int) -> frozenset[int]:
        """The pieces that a sibling says it has.

        Raises:
            UntrustedError: bad data; not the bits of `count` pieces.
            TransferError: environment; MissingError when it has not begun the blob.
        """
        length = (count + 7) // 8

        async def act(one: Source) -> frozenset[int]:
            return parse_bits(await one.get_bytes(pieces_path(digest), length, length), count)

        return await self.sources.ask(upstream, act)

    def keeper(self, digest: Digest) -> Source | None:
        """The sibling to ask for a small blob before above is asked; None when that is for this edge to fetch."""
        ranked = sorted([one.url for one in self.siblings] + [self.own], key=lambda url: score(digest, -1, url))
        for url in ranked:
            if url == self.own:
                return None
            for one in self.siblings:
                if one.url == url and self.sources.is_counted_on(one):
                    return one
        return None


def open_city(upstream: Upstream, sources: Sources, rng: random.Random, monotonic: Callable[[], float]) -> City | None:
    """The city as the settings have it; None for an edge that is given no siblings."""
    if not sources.siblings:
        return None
    return City(upstream.own_url.rstrip("/"), sources, rng, monotonic, upstream.progress_timeout_s)
