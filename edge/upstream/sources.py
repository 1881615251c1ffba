"""Several upstreams as one: which to ask next, which to leave alone, and for how long.

Two kinds of fault, two reactions. A transfer fault (unreachable, broke off, stalled) costs a short cool-down that grows
with each repetition. Wrong content costs a long ban and is never asked of the same source again for the same thing. A
banned source is still the last resort for other things: each byte is proved anyway, and a county whose only upstream
has one rotten file must not lose the rest of the night.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TypeVar

import structlog

from edge.reasons import UpstreamReason
from edge.upstream.client import MissingError, NotYetError
from edge.upstream.source import Source
from manifests.errors import ExpiredError, RollbackError, TransferError, UntrustedError

T = TypeVar("T")
Act = Callable[[Source], Awaitable[T]]
Sleep = Callable[[float], Awaitable[None]]

# Tries of one thing per source while somebody waits for it.
_ATTEMPTS_NOW = 2

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Patience:
    """How much is forgiven.

    Attributes:
        attempts: tries of one thing per source before it is given up there.
        cool_down_s: first cool-down after a transfer fault; doubled with each further one.
        cool_down_most_s: bound of that doubling.
        ban_s: how long a source that sent wrong content stays the last resort.
        most_wrong: pieces of wrong content after which a source is not asked at all for the rest of the run; until
            then it may waste bytes, but it may also have rot in one file and be good for all others.
        per_source: requests in flight to the preferred source before the next one is used beside it.
    """

    attempts: int = 4
    cool_down_s: float = 0.5
    cool_down_most_s: float = 30.0
    ban_s: float = 3600.0
    most_wrong: int = 8
    per_source: int = 4


@dataclass(slots=True)
class Standing:
    """What is remembered of one source. Instants are of the monotonic source."""

    upstream: Source
    active: int = 0
    faults: int = 0
    wrong: int = 0
    cool_until_s: float = 0.0
    banned_until_s: float = 0.0


@dataclass(slots=True)
class _Try:
    """One thing being fetched: who may not be asked for it again, and why."""

    refused: set[str]
    attempts: int
    tries: dict[str, int] = field(default_factory=dict)
    wrong: UntrustedError | None = None
    failed: TransferError | None = None

    def fail(self, url: str, error: TransferError) -> None:
        self.failed = error
        self.tries[url] = self.tries.get(url, 0) + 1
        if self.tries[url] >= self.attempts:
            self.refused.add(url)


class Sources:
    """Ordered upstreams, most preferred first.

    Args:
        upstreams: at least one.
        siblings: asked by `ask` only, never by `fetch`.
        banned: seconds that bans of earlier runs still have to go, by address.
        rng: spreads retries in time, so that 160 edges do not come back in one second.
        sleep: waits out a cool-down.
    """

    def __init__(
        self,
        upstreams: Sequence[Source],
        patience: Patience,
        *,
        monotonic: Callable[[], float],
        rng: random.Random,
        sleep: Sleep = asyncio.sleep,
        banned: Mapping[str, float] | None = None,
        siblings: Sequence[Source] = (),
    ) -> None:
        self._patience = patience
        self._monotonic = monotonic
        self._rng = rng
        self._sleep = sleep
        now_s = monotonic()
        self._above = [Standing(one) for one in upstreams]
        self._siblings = [Standing(one) for one in siblings]
        self._all = [*self._above, *self._siblings]
        for one in self._all:
            left_s = min((banned or {}).get(one.upstream.url, 0.0), patience.ban_s)
            one.banned_until_s = now_s + left_s if left_s > 0 else 0.0

    @property
    def upstreams(self) -> tuple[Source, ...]:
        """All but siblings, in order of preference."""
        return tuple(one.upstream for one in self._above)

    @property
    def siblings(self) -> tuple[Source, ...]:
        """Edges of the same city."""
        return tuple(one.upstream for one in self._siblings)

    @property
    def requests(self) -> int:
        """Requests made so far, to all."""
        return sum(one.upstream.traffic.requests for one in self._all)

    @property
    def bytes_received(self) -> int:
        """Bytes of body received so far, from all."""
        return sum(one.upstream.traffic.bytes_received for one in self._all)

    @property
    def bytes_from_above(self) -> int:
        """Bytes of body received so far, from all but siblings."""
        return sum(one.upstream.traffic.bytes_received for one in self._above)

    def bytes_by_source(self) -> dict[str, int]:
        """Bytes of body received, by address; sources never asked are left out."""
        return {one.upstream.url: one.upstream.traffic.bytes_received for one in self._all if _was_asked(one)}

    def bytes_by_reason(self) -> dict[str, int]:
        """Bytes of body received, by why they were asked for; the sum is `bytes_received`."""
        found = dict.fromkeys(map(str, UpstreamReason), 0)
        for one in self._all:
            for reason, count in one.upstream.traffic.by_reason.items():
                found[reason] += count
        return {reason: count for reason, count in found.items() if count}

    def bans(self) -> dict[str, float]:
        """Seconds that each ban still has to go, by address."""
        now_s = self._monotonic()
        return {one.upstream.url: one.banned_until_s - now_s for one in self._all if one.banned_until_s > now_s}

    def ban(self, upstream: Source, error: UntrustedError) -> None:
        """Leave a source for last: it sent wrong content."""
        standing = self._standing(upstream)
        standing.banned_until_s = self._monotonic() + self._patience.ban_s
        standing.wrong += 1
        _log.warning("source banned", source=upstream.url, seconds=self._patience.ban_s, reason=error.message)

    async def fetch(self, what: str, act: Act[T], without: Iterable[str] = (), attempts: int | None = None) -> T:
        """Run `act` with one source after the other until one succeeds.

        Args:
            what: names the thing, for messages.
            act: raises TransferError or UntrustedError for a source that fails; anything else ends the search.
            without: addresses that are not to be asked, such as those that sent this thing wrongly before.
            attempts: tries per source, where another number than the settings' is wanted.

        Raises:
            UntrustedError: bad data; no source succeeded and at least one sent wrong content.
            TransferError: environment; no source succeeded.
        """
        return await self._search(what, act, _Try(set(without), attempts or self._patience.attempts), None)

    async def fetch_now(self, what: str, act: Act[T], without: Iterable[str] = (), wait_s: float = 1.0) -> T:
        """Like `fetch`, for somebody who looks at a screen: each source twice at most, and hardly a wait.

        Siblings are asked when above fails: what they have already is nearer than nothing.

        Args:
            what: see `fetch`.
            act: see `fetch`.
            without: see `fetch`.
            wait_s: how long to wait for sources that cool down, all waits together.

        Raises:
            UntrustedError: bad data; no source succeeded and at least one sent wrong content.
            TransferError: environment; no source succeeded, or all are to be left alone for longer.
        """
        one_try = _Try(set(without), _ATTEMPTS_NOW)
        try:
            return await self._search(what, act, one_try, self._monotonic() + wait_s)
        except (TransferError, UntrustedError):
            for standing in self._siblings:
                if standing.upstream.url not in without and not self.rest_s(standing.upstream):
                    with suppress(TransferError, UntrustedError):  # told and remembered by `ask`
                        return await self.ask(standing.upstream, act)
            raise

    def ready_in_s(self) -> float:
        """How long until some source above may be asked again; bans do not count, for they are a last resort."""
        return max(0.0, min(one.cool_until_s for one in self._above) - self._monotonic())

    async def _search(self, what: str, act: Act[T], one_try: _Try, ends_s: float | None) -> T:
        while True:
            standing = self._pick(one_try.refused)
            if standing is None:
                raise one_try.wrong or one_try.failed or _none_left(what)
            if ends_s is not None and standing.cool_until_s > ends_s:
                raise one_try.wrong or one_try.failed or _all_rest(what, self.ready_in_s())
            await self._cool(standing)
            try:
                return await self.ask(standing.upstream, act)
            except (RollbackError, ExpiredError) as error:
                # An old release is what a lagging sibling honestly has: no ban, and no alarm if another is current.
                _log.info("source lags", source=standing.upstream.url, reason=error.message)
                one_try.refused.add(standing.upstream.url)
                one_try.wrong = one_try.wrong or error
            except UntrustedError as error:
                one_try.refused.add(standing.upstream.url)
                one_try.wrong = one_try.wrong or error
            except MissingError as error:
                one_try.refused.add(standing.upstream.url)
                one_try.failed = error
            except TransferError as error:
                one_try.fail(standing.upstream.url, error)

    async def ask(self, upstream: Source, act: Act[T]) -> T:
        """Run `act` with this one, once, without waiting out a cool-down; what it does wrong is remembered.

        Raises:
            UntrustedError: bad data; it is banned now, unless what it sent was only old.
            TransferError: environment; it cools down now, unless it only lacks the thing.
        """
        standing = self._standing(upstream)
        standing.active += 1
        try:
            result = await act(upstream)
        except (RollbackError, ExpiredError, MissingError):
            raise
        except UntrustedError as error:
            self.ban(upstream, error)
            raise
        except TransferError as error:
            if not isinstance(error, NotYetError) or standing in self._above:
                self._cool_down(standing, error)
            raise
        finally:
            standing.active -= 1
        standing.faults = 0
        return result

    def rest_s(self, upstream: Source) -> float:
        """How long a source is to be left alone from now on; 0: it may be asked. A ban counts in full."""
        standing = self._standing(upstream)
        if standing.wrong >= self._patience.most_wrong:
            return self._patience.ban_s
        return max(0.0, max(standing.cool_until_s, standing.banned_until_s) - self._monotonic())

    def is_counted_on(self, upstream: Source) -> bool:
        """Tell whether its last answer was good, or none was asked of it yet."""
        return not self._standing(upstream).faults and not self.rest_s(upstream)

    def _cool_down(self, standing: Standing, error: TransferError) -> None:
        now_s = self._monotonic()
        if standing.cool_until_s > now_s:
            return  # requests that were in flight together fail together: one fault, not six
        standing.faults += 1
        span_s = min(self._patience.cool_down_s * 2 ** min(standing.faults - 1, 16), self._patience.cool_down_most_s)
        standing.cool_until_s = now_s + span_s * (0.5 + self._rng.random() / 2)
        _log.info("source cools down", source=standing.upstream.url, faults=standing.faults, reason=error.message)

    def _pick(self, refused: set[str]) -> Standing | None:
        """Choose without waiting: well before banned, ready before cooling, then preference, spread when busy."""
        now_s = self._monotonic()
        most_wrong = self._patience.most_wrong
        open_ones = [one for one in self._above if one.upstream.url not in refused and one.wrong < most_wrong]
        if not open_ones:
            return None
        well = [one for one in open_ones if one.banned_until_s <= now_s] or open_ones
        ready = [one for one in well if one.cool_until_s <= now_s]
        if not ready:
            return min(well, key=lambda one: one.cool_until_s)
        for one in ready:
            if one.active < self._patience.per_source:
                return one
        return min(ready, key=lambda one: one.active)

    async def _cool(self, standing: Standing) -> None:
        wait_s = standing.cool_until_s - self._monotonic()
        if wait_s > 0:
            await self._sleep(wait_s)

    def _standing(self, upstream: Source) -> Standing:
        return next(one for one in self._all if one.upstream is upstream)


def _was_asked(standing: Standing) -> bool:
    return standing.upstream.traffic.requests > 0


def _all_rest(what: str, seconds: float) -> TransferError:
    return TransferError(
        f"{what}: all upstreams failed just now and are left alone for {seconds:.0f} s",
        zh=f"{what}：所有上游刚刚失败，{seconds:.0f} 秒后重试",
    )


def _none_left(what: str) -> TransferError:
    return TransferError(f"{what}: no upstream is left to ask", zh=f"{what}：没有可用的上游")
