"""Policies of eviction as caches over lessons, and what nobody could beat: for the trace benchmark.

The ones of the field are written here from their papers' rules; where libcachesim is installed, its own are run beside
them. Ours is the planner's `value` with the record's `cooled`: the very functions that an edge decides by.
"""

from __future__ import annotations

import heapq
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from typing import Protocol

from edge.store.eviction import cooled, value
from tools.bench.eviction_traces import Trace


class Cache(Protocol):
    """A cache of so many bytes."""

    def wish(self, lesson: int, size: int, at_s: int) -> bool:
        """Ask for a lesson, which is here afterwards if it fits at all; whether it was here before."""
        ...


class Lru:
    """The least recently used goes."""

    def __init__(self, size: int) -> None:
        self._room = size
        self._held: OrderedDict[int, int] = OrderedDict()

    def wish(self, lesson: int, size: int, at_s: int) -> bool:  # noqa: ARG002 - one protocol for all
        """See `Cache`."""
        if lesson in self._held:
            self._held.move_to_end(lesson)
            return True
        while self._room < size:
            self._room += self._held.popitem(last=False)[1]
        self._held[lesson] = size
        self._room -= size
        return False


class Sieve:
    """A hand goes from the oldest to the newest: what was asked for since it last passed stays where it is."""

    def __init__(self, size: int) -> None:
        self._room = size
        self._order: list[int] = []  # oldest first
        self._sizes: dict[int, int] = {}
        self._visited: set[int] = set()
        self._hand = 0

    def wish(self, lesson: int, size: int, at_s: int) -> bool:  # noqa: ARG002 - one protocol for all
        """See `Cache`."""
        if lesson in self._sizes:
            self._visited.add(lesson)
            return True
        while self._room < size:
            self._evict()
        self._order.append(lesson)
        self._sizes[lesson] = size
        self._room -= size
        return False

    def _evict(self) -> None:
        while True:
            if self._hand >= len(self._order):
                self._hand = 0
            one = self._order[self._hand]
            if one not in self._visited:
                break
            self._visited.discard(one)
            self._hand += 1
        del self._order[self._hand]
        self._room += self._sizes.pop(one)


class S3Fifo:
    """Newcomers pass a small queue; only those asked for again reach the main one, where ghosts come back at once."""

    SMALL = 0.1

    def __init__(self, size: int) -> None:
        self._small_most = round(size * self.SMALL)
        self._main_most = size - self._small_most
        self._queues: tuple[deque[int], deque[int]] = (deque(), deque())
        self._taken = [0, 0]
        self._sizes: dict[int, int] = {}
        self._counts: dict[int, int] = {}
        self._ghosts: OrderedDict[int, int] = OrderedDict()
        self._ghost_bytes = 0

    def wish(self, lesson: int, size: int, at_s: int) -> bool:  # noqa: ARG002 - one protocol for all
        """See `Cache`."""
        if lesson in self._sizes:
            self._counts[lesson] = min(self._counts[lesson] + 1, 3)
            return True
        if size > self._main_most:
            return False
        while sum(self._taken) + size > self._small_most + self._main_most:
            if self._taken[0] > self._small_most or not self._queues[1]:
                self._evict_small()
            else:
                self._evict_main()
        was_ghost = lesson in self._ghosts
        if was_ghost:
            self._ghost_bytes -= self._ghosts.pop(lesson)
        self._sizes[lesson] = size
        self._put(lesson, int(was_ghost))
        return False

    def _put(self, lesson: int, queue: int) -> None:
        self._queues[queue].append(lesson)
        self._taken[queue] += self._sizes[lesson]
        self._counts[lesson] = 0

    def _take(self, queue: int) -> int:
        one = self._queues[queue].popleft()
        self._taken[queue] -= self._sizes[one]
        return one

    def _evict_small(self) -> None:
        one = self._take(0)
        if self._counts[one] > 0:
            self._put(one, 1)
            return
        size = self._ghosts[one] = self._sizes.pop(one)
        self._ghost_bytes += size
        while self._ghost_bytes > self._main_most:
            self._ghost_bytes -= self._ghosts.popitem(last=False)[1]

    def _evict_main(self) -> None:
        one = self._take(1)
        count = self._counts[one]
        if count > 0:
            self._put(one, 1)
            self._counts[one] = count - 1
        else:
            del self._sizes[one]


class Gdsf:
    """Greedy-dual size frequency: uses per byte above a floor that rises with each victim."""

    def __init__(self, size: int) -> None:
        self._room = size
        self._sizes: dict[int, int] = {}
        self._values: dict[int, float] = {}
        self._heap: list[tuple[float, int]] = []
        self._floor = 0.0
        self._heats: dict[int, float] = {}

    def wish(self, lesson: int, size: int, at_s: int) -> bool:
        """See `Cache`."""
        is_hit = lesson in self._sizes
        if not is_hit:
            self._heats[lesson] = self.heat(lesson, at_s)
            while self._room < size:
                self._evict()
            self._sizes[lesson] = size
            self._room -= size
        self._heats[lesson] += 1
        self.used(lesson, at_s)
        worth = self._values[lesson] = value(self._heats[lesson], size, self._floor)
        heapq.heappush(self._heap, (worth, lesson))
        return is_hit

    def heat(self, lesson: int, at_s: int) -> float:  # noqa: ARG002 - ours asks for both
        """What a newcomer's earlier uses count for: nothing."""
        return 0.0

    def used(self, lesson: int, at_s: int) -> None:
        """Told of each use."""

    def _evict(self) -> None:
        worth, one = heapq.heappop(self._heap)
        if self._values.get(one) == worth:  # else it was watched since, and stands further up
            self._room += self._sizes.pop(one)
            del self._values[one]
            self._floor = max(self._floor, worth)


class Ours(Gdsf):
    """The same with a memory: uses before a lesson went count on when it comes back, cooled."""

    def __init__(self, size: int) -> None:
        super().__init__(size)
        self._last: dict[int, int] = {}

    def heat(self, lesson: int, at_s: int) -> float:
        """What a newcomer's earlier uses count for."""
        return cooled(self._heats.get(lesson, 0.0), at_s - self._last.get(lesson, at_s))

    def used(self, lesson: int, at_s: int) -> None:
        """Told of each use."""
        self._last[lesson] = at_s


OURS = "ours"
POLICIES: dict[str, Callable[[int], Cache]] = {OURS: Ours, "LRU": Lru, "SIEVE": Sieve, "S3-FIFO": S3Fifo, "GDSF": Gdsf}
# Only those that end on every trace: LFUDA of 0.3.5 does not where a lesson is larger than a fifth of the cache.
REFERENCES = {"LRU": "LRU", "SIEVE": "Sieve", "S3-FIFO": "S3FIFO", "GDSF": "GDSF", "ARC": "ARC", "SLRU": "SLRU"}


def replay(trace: Trace, cache: Cache, size: int) -> tuple[float, float]:
    """Hit ratios by wishes and by bytes; a lesson that does not fit at all is a miss."""
    hits = hit_bytes = 0
    for at_s, lesson in trace.wishes:
        bytes_ = trace.sizes[lesson]
        if bytes_ <= size and cache.wish(lesson, bytes_, at_s):
            hits += 1
            hit_bytes += bytes_
    return hits / len(trace.wishes), hit_bytes / sum(trace.sizes[lesson] for _, lesson in trace.wishes)


def bound(trace: Trace, size: int) -> tuple[float, float]:
    """Above what nobody can be who knew the future (PFOO-L): the cheapest returns fill the cache's room × time."""
    last: dict[int, int] = {}
    spans: list[tuple[int, int]] = []
    for n, (_, lesson) in enumerate(trace.wishes):
        if lesson in last:
            spans.append((n - last[lesson], trace.sizes[lesson]))
        last[lesson] = n
    whole = size * len(trace.wishes)
    return (
        _fitted(sorted((span * bytes_, 1) for span, bytes_ in spans), whole) / len(trace.wishes),
        _fitted([(span * bytes_, bytes_) for span, bytes_ in sorted(spans)], whole)
        / sum(trace.sizes[lesson] for _, lesson in trace.wishes),
    )


def _fitted(costs: Sequence[tuple[int, int]], whole: int) -> int:
    won = 0
    for cost, gain in costs:
        whole -= cost
        if whole < 0:
            break
        won += gain
    return won
