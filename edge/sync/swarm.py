"""Fill one blob together with the edges of the city: this edge's share from above, the rest from each other.

    above:     own share → what nobody else can be counted on for
    siblings:  ask for bits → fetch what is proved there and lacking here

The two go on beside each other and never ask for the same piece at the same time. The province's line carries a
piece about once per city; when siblings fail, it carries it once more, and the blob is filled all the same.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Collection
from contextlib import suppress

import structlog

from edge.fill.spans import SpanFetch
from edge.store.partial import Partial
from edge.sync.city import City
from edge.sync.shares import Peer, Shares, absent
from edge.sync.slots import Slots
from edge.upstream.client import MissingError
from edge.upstream.source import Source
from manifests.errors import StorageError, TransferError, UntrustedError
from manifests.pieces import Span, plan_spans

# Longest request to a sibling.
_SPAN_BYTES = 2 * 1024 * 1024
# Nothing to do: look again after so long, or as soon as pieces arrive.
_WAIT_S = 0.5
# Siblings may take so long to say what they have before work begins without their word.
_MEET_S = 1.0
# Siblings are judged so often at most.
_JUDGE_S = 0.25
# A sibling that failed to give the same piece so often is not asked for it for a while: it may be putting the blob
# away just now. With each further failure the while doubles.
_STRIKES = 2
_STRUCK_S = 1.0
_STRUCK_MOST_S = 60.0

_log = structlog.get_logger(__name__)

FromAbove = Callable[[SpanFetch], Awaitable[None]]


class SwarmFill:
    """One blob being filled.

    Args:
        city: who else is there.
        blob: the partial.
        shares: of this blob.
        slots: places for requests to above.
        above: fetches a span from above.
        make: makes the fetch of a span.
        came: told of bytes that came and proved.
    """

    def __init__(
        self,
        city: City,
        blob: Partial,
        shares: Shares,
        slots: Slots,
        above: FromAbove,
        make: Callable[[Span], SpanFetch],
        came: Callable[[int], None],
    ) -> None:
        self._came = came
        self._city = city
        self._blob = blob
        self._shares = shares
        self._slots = slots
        self._above = above
        self._make = make
        self._left = set(blob.missing())
        self._busy: set[int] = set()
        self._changed = asyncio.Event()
        self._failed: TransferError | StorageError | None = None
        self._wrong: dict[int, UntrustedError] = {}  # pieces that every source above sent wrongly
        self._own = deque(shares.own_order())
        self._began_s = self._arrived_s = city.monotonic()
        self._met: set[str] = set()
        self._has: dict[str, frozenset[int]] = {}
        self._brought: Counter[str] = Counter()
        self._moved_s: dict[str, float] = {}
        self._looked_s: dict[str, float] = {}
        self._owes_s: dict[str, float] = {}  # since when a sibling owes anything
        self._gone: frozenset[str] = frozenset()
        self._judged_s = float("-inf")
        self._rising = 0
        self._strikes: Counter[tuple[str, int]] = Counter()
        self._struck: dict[str, dict[int, float]] = {one.url: {} for one in city.siblings}  # until when

    async def run(self) -> None:
        """Fetch all that is missing.

        Raises:
            UntrustedError: bad data; some pieces are wrong wherever they were asked for. All others are stored.
            TransferError: environment; nothing moves any more. What had arrived is stored.
            StorageError: environment.
        """
        self._city.begin()
        follows = [asyncio.create_task(self._follow(one)) for one in self._city.siblings]
        try:
            await self._meet()
            await self._rise()
        finally:
            self._city.fills -= 1
            for task in follows:
                task.cancel()
            await asyncio.gather(*follows, return_exceptions=True)
        for task in follows:
            if not task.cancelled() and (error := task.exception()) is not None:
                raise error
        if self._failed is not None:
            raise self._failed
        if self._left:
            raise self._wrong[min(self._left)]

    async def _meet(self) -> None:
        """Look once at every sibling first: what is in the city already need not cross the line."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_MEET_S):
                while len(self._met) < len(self._city.siblings):
                    await self._changed.wait()
                    self._changed.clear()

    # From above

    async def _rise(self) -> None:
        async with asyncio.TaskGroup() as group:
            while self._left and self._failed is None and not self._is_hopeless():
                await self._slots.acquire()
                span = self._next_span()
                if span is None:
                    self._slots.release()
                    await self._wait()
                    continue
                self._busy.update(span.numbers())
                group.create_task(self._span(span))

    async def _span(self, span: Span) -> None:
        fetch = self._make(span)
        self._rising += 1
        self._city.asked()
        try:
            await self._above(fetch)
        except TransferError as error:
            self._stood_still(error)
            if not fetch.bytes_stored and self._failed is None:
                await asyncio.sleep(_WAIT_S)  # siblings may bring it meanwhile; above need not be asked in a hurry
        except UntrustedError as error:
            self._wrong.update((n, error) for n in fetch.missing())
        except StorageError as error:
            self._failed = error
        finally:
            self._rising -= 1
            self._slots.release()
            if self._arrived(span, fetch):
                self._city.came()

    def _stood_still(self, error: TransferError) -> None:
        """Above gives nothing; that is the end only when siblings have brought nothing for long either."""
        offers = any(self._left & self._offered(one) for one in self._city.siblings)
        if not offers and self._city.monotonic() - self._arrived_s > self._city.patience_s(has_begun=False):
            self._failed = self._failed or error

    def _is_hopeless(self) -> bool:
        """Tell whether all that is left was sent wrongly by above, and no sibling has it."""
        return self._left <= self._wrong.keys() and not any(self._left & self._offered(s) for s in self._city.siblings)

    def _next_span(self) -> Span | None:
        """What to ask of above next: own share first, then what nobody else can be counted on for."""
        free = self._left - self._busy - self._wrong.keys()
        if not free:
            return None
        near: set[int] = set().union(*(self._offered(one) for one in self._city.siblings))
        while self._own:
            found = self._span_of(self._own[0], free - near)
            if found is not None:
                return found
            self._own.popleft()
        gone = self._absent()
        groups = {self._shares.group_of(n) for n in free - near}
        taken = [group for group in groups if self._shares.owner(group, gone) == self._shares.own]
        for group in self._shares.taken_order(taken):
            found = self._span_of(group, free - near)
            if found is not None:
                return found
        return None

    def _span_of(self, group: int, free: Collection[int]) -> Span | None:
        size = self._shares.group_pieces
        numbers = [n for n in range(group * size, (group + 1) * size) if n in free]
        return next(plan_spans(numbers, size), None)

    def _absent(self) -> frozenset[str]:
        """Siblings that are not counted on for this blob."""
        now_s = self._city.monotonic()
        if now_s - self._judged_s >= _JUDGE_S:
            self._judged_s = now_s
            owed = self._owed()
            peers = {one.url: self._peer(one, owed[one.url]) for one in self._city.siblings}
            gone = absent(peers, now_s)
            for url in gone - self._gone:
                _log.info("sibling not counted on", blob=self._blob.ref.digest, source=url, pieces=owed[url])
            self._gone = gone
        return self._gone

    def _owed(self) -> Counter[str]:
        """Pieces that each sibling should bring here and has not proved yet, as far as is known."""
        lacking: dict[int, list[int]] = {}
        for n in self._left:
            lacking.setdefault(self._shares.group_of(n), []).append(n)
        offered: dict[str, set[int]] = {one.url: self._offered(one) for one in self._city.siblings}
        owed: Counter[str] = Counter()
        for group, numbers in lacking.items():
            for member in self._shares.claimants(group, self._gone):
                has = offered.get(member, set())
                owed[member] += sum(n not in has for n in numbers)
        return owed

    def _peer(self, sibling: Source, owed: int) -> Peer:
        url, now_s = sibling.url, self._city.monotonic()
        if not owed:
            self._owes_s.pop(url, None)
        moved_s = max(self._moved_s.get(url, self._began_s), self._owes_s.setdefault(url, now_s) if owed else now_s)
        if self._has.get(url):  # it has begun this blob, and may be at work on another just now
            moved_s = max(moved_s, self._city.moved_s(url))
        is_well = self._city.sources.is_counted_on(sibling)
        looked_s = self._looked_s.get(url, self._began_s)
        has = self._has.get(url)
        patient_s = self._city.patience_s(has_begun=has is not None and len(has) < len(self._blob.table))
        return Peer(is_well, moved_s, looked_s, self._began_s, self._brought[url], owed, patient_s)

    # From siblings

    async def _follow(self, sibling: Source) -> None:
        """Watch what one sibling has, and fetch it, until cancelled."""
        idle = 0
        while True:
            if not self._city.sources.rest_s(sibling):
                idle = 0 if await self._look(sibling) else idle + 1
                self._meets(sibling)
                while self._next_near(sibling) is not None:
                    async with self._city.flights:
                        await self._take(sibling)
            self._meets(sibling)
            # Who has nothing to ask of above waits for siblings alone, and looks more often.
            await asyncio.sleep(self._city.pause_s(sibling, idle if self._rising else 0))

    def _meets(self, sibling: Source) -> None:
        if sibling.url not in self._met:
            self._met.add(sibling.url)
            self._changed.set()

    async def _look(self, sibling: Source) -> bool:
        """Ask for its bits; tell whether there are new ones."""
        count, url = len(self._blob.table), sibling.url
        before = self._has.get(url)
        if before is not None and len(before) == count:
            self._looked_s[url] = self._city.monotonic()  # it can have no more: what it does not give it will not
            return False
        asked_s = self._city.monotonic()
        try:
            bits = await self._city.bits(sibling, self._blob.ref.digest, count)
        except MissingError:
            self._looked_s[url] = asked_s
            return False  # it has not begun this blob
        except (UntrustedError, TransferError):
            return False  # told and remembered by `Sources`
        self._looked_s[url] = asked_s
        self._has[url] = bits
        new = bits if before is None else bits - before
        share = sum(url in self._shares.claimants(self._shares.group_of(n), self._gone) for n in new)
        if before is not None:
            self._brought[url] += share
        if share:
            if before is not None:
                self._city.heard(url, self._began_s)
            self._moved_s[url] = self._city.monotonic()
            self._city.moved(url)
        if new:
            self._changed.set()
        return bool(new)

    def _offered(self, sibling: Source) -> set[int]:
        """Pieces that a sibling has and may be asked for."""
        if self._city.sources.rest_s(sibling):
            return set()
        struck, now_s = self._struck[sibling.url], self._city.monotonic()
        return {n for n in self._has.get(sibling.url, ()) if struck.get(n, now_s) <= now_s}

    def _next_near(self, sibling: Source) -> Span | None:
        """What to ask of a sibling next: somewhere in what it has, so that siblings do not all ask for the same."""
        wanted = sorted((self._left & self._offered(sibling)) - self._busy)
        if not wanted:
            return None
        start = self._city.pick(wanted)
        most = max(1, _SPAN_BYTES // self._blob.table.piece_size)
        return next(plan_spans(wanted[start : start + most], most))

    async def _take(self, sibling: Source) -> None:
        span = self._next_near(sibling)
        if span is None:  # others were quicker while this one waited for its place
            return
        self._busy.update(span.numbers())
        fetch = self._make(span)
        try:
            await self._city.sources.ask(sibling, fetch.run)
        except UntrustedError as error:
            _log.warning("sibling lied", blob=self._blob.ref.digest, source=sibling.url, reason=error.message)
        except TransferError:
            self._strike(sibling.url, fetch.missing())
        except StorageError as error:
            self._failed = error
        finally:
            self._arrived(span, fetch)

    def _strike(self, url: str, numbers: list[int]) -> None:
        for n in numbers:
            self._strikes[url, n] += 1
            further = self._strikes[url, n] - _STRIKES
            if further >= 0:
                rest_s = min(_STRUCK_S * 2 ** min(further, 8), _STRUCK_MOST_S)
                self._struck[url][n] = self._city.monotonic() + rest_s

    # Both

    def _arrived(self, span: Span, fetch: SpanFetch) -> bool:
        """Take note of what a fetch brought; tells whether that was anything."""
        self._busy.difference_update(span.numbers())
        self._left -= set(span.numbers()).difference(fetch.missing())
        self._came(fetch.bytes_stored)
        if fetch.bytes_stored:
            self._arrived_s = self._city.monotonic()
        self._changed.set()
        return fetch.bytes_stored > 0

    async def _wait(self) -> None:
        """Until pieces or news arrive, or it is time to look again."""
        if not self._rising:
            self._city.rested()
        self._changed.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(_WAIT_S):
                await self._changed.wait()
