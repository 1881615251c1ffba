"""One blob being filled: who wishes for which pieces, and the flights that bring them.

There is one flight per piece, however many wait for it, and it is a task of its own: a viewer who hangs up ends
nothing. A piece is proved, then written, then marked in the index, and then told to everybody. A failure is told once
to all who wait and not remembered: the next wish tries anew.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from typing import Protocol

import structlog

from edge.fill.desk import Desk
from edge.fill.flight_plan import Places, plan_flights, useless
from edge.fill.messages import Down, Ended, Failed, FillError, Piece, Proved, Trouble, Whole
from edge.fill.passing import Passing
from edge.fill.spans import SpanFetch
from edge.metrics import Cell
from edge.reasons import UpstreamReason, because
from edge.store.partial import Partial
from manifests.errors import StorageError, TransferError, UntrustedError, YuanjiaoError
from manifests.pieces import Span

_log = structlog.get_logger(__name__)


class Line(Protocol):
    """The connection of one worker."""

    def send(self, message: Down) -> None:
        """Tell it something."""
        ...


@dataclass(slots=True, eq=False)
class Seat:
    """One worker's view of a blob; `fill` is None when the blob was whole already."""

    line: Line
    view: int
    courseware: str
    digest: str
    fill: BlobFill | None = None
    urgent: set[int] = field(default_factory=set)
    ahead: set[int] = field(default_factory=set)


@dataclass(slots=True, eq=False)
class _Flight:
    span: Span
    fetch: SpanFetch
    is_ahead: bool
    task: asyncio.Task[None] | None = None

    @property
    def left(self) -> Collection[int]:
        return self.fetch.missing()


class BlobFill:
    """The fill of one blob, from its first viewer until some time after the last.

    Args:
        pieces: where they go: the begun file, or memory when nothing is kept.
        desk: what all fills share.
        reason: why it has to be fetched.

    Attributes:
        seats: who looks.
        fault: why nothing comes any more; set once.
        is_whole: the blob is proved and has its name.
        idle_since_s: when the last seat was left.
    """

    def __init__(self, pieces: Partial | Passing, desk: Desk, reason: UpstreamReason) -> None:
        self.seats: set[Seat] = set()
        self.fault: YuanjiaoError | None = None
        self.is_whole = False
        self.idle_since_s = asyncio.get_running_loop().time()
        self.reason = reason
        self._pieces = pieces
        self._desk = desk
        self._flights: list[_Flight] = []
        self._finishing: asyncio.Task[None] | None = None
        self._count = len(pieces.table)
        self._have = bytearray(b"\x01" * self._count)
        for n in pieces.missing() if isinstance(pieces, Partial) else range(self._count):
            self._have[n] = 0
        desk.fills.append(self)

    @property
    def kept(self) -> Partial | None:
        """The begun file; None when nothing is kept."""
        return self._pieces if isinstance(self._pieces, Partial) else None

    @property
    def piece_size(self) -> int:
        """Bytes per piece."""
        return self._pieces.table.piece_size

    @property
    def is_busy(self) -> bool:
        """Whether somebody looks or something is under way."""
        return bool(self.seats or self._flights or (self._finishing and not self._finishing.done()))

    def have(self) -> list[int]:
        """Numbers of the pieces that are proved and stay."""
        return [n for n, have in enumerate(self._have) if have]

    def sit(self, seat: Seat) -> None:
        """Somebody looks from now on."""
        if self.fault is not None:  # just now
            seat.line.send(Ended(seat.view, trouble_of(self.fault, self._desk.retry_s())))
            return
        seat.fill = self
        self.seats.add(seat)
        if not self._flights and all(self._have):
            self._complete()

    def leave(self, seat: Seat) -> None:
        """Nobody looks through this view any more; what is under way for it comes to its end."""
        self.seats.discard(seat)
        self._count_dropped(seat.ahead)
        self.idle_since_s = asyncio.get_running_loop().time()

    def wish(self, seat: Seat, urgent: Iterable[int], ahead: Iterable[int]) -> None:
        """Take what the viewers behind a seat need now and next, in place of what they needed before."""
        lost = seat.ahead
        seat.urgent = {n for n in urgent if 0 <= n < self._count and not self._have[n]}
        seat.ahead = {n for n in ahead if 0 <= n < self._count and not self._have[n]} - seat.urgent
        self._count_dropped(lost - seat.ahead - seat.urgent)
        self._pass_on(seat, [n for n in seat.urgent if self._in_memory(n)])
        self._desk.schedule()

    def wished(self) -> tuple[list[int], list[int]]:
        """What is missing of all wishes: urgent, and ahead of viewers; ascending."""
        urgent = {n for seat in self.seats for n in seat.urgent if not self._in_memory(n)}
        ahead = {n for seat in self.seats for n in seat.ahead if not self._in_memory(n)}
        return sorted(urgent), sorted(ahead - urgent)

    def launch(self, places: Places) -> None:
        """Begin as many flights as there are places and wishes for."""
        if self.fault is not None or self.is_whole:
            return
        urgent, ahead = self.wished()
        busy = {n for flight in self._flights for n in flight.left}
        for span in plan_flights(urgent, ahead, busy, self._count, places):
            self._begin(span, is_ahead=span.first not in urgent)

    def cancel_useless(self) -> None:
        """End flights that bring nothing that is wished for: somebody waits for the line that they take."""
        urgent, ahead = self.wished()
        going = [flight for flight in self._flights if flight.task is not None and not flight.task.cancelling()]
        for i in useless([(flight.span, flight.left) for flight in going], {*urgent, *ahead}):
            task = going[i].task
            if task is not None:
                task.cancel()

    def end(self, error: YuanjiaoError) -> None:
        """Nothing comes any more; everybody is told, and may open it anew."""
        if self.fault is None:
            self.fault = error
            for seat in self.seats:
                seat.line.send(Ended(seat.view, trouble_of(error, self._desk.retry_s())))
                seat.fill = None
            self.seats.clear()

    async def close(self) -> None:
        """End what is under way, and give the file back; what was proved stays."""
        self._desk.fills.remove(self)
        tasks = {flight.task for flight in self._flights if flight.task is not None}
        for task in tasks:
            task.cancel()
        if self._finishing is not None:
            tasks.add(self._finishing)
        if tasks:
            await asyncio.wait(tasks)
        if isinstance(self._pieces, Partial):
            await self._desk.run(self._pieces.close)

    def _begin(self, span: Span, *, is_ahead: bool) -> None:
        fetch = SpanFetch(self._pieces, span, self._desk.run, _nothing, stored=self._came)
        flight = _Flight(span, fetch, is_ahead)
        self._flights.append(flight)
        self._desk.begun(is_ahead=is_ahead)
        with because(self.reason):
            flight.task = asyncio.create_task(self._fly(flight))

    async def _fly(self, flight: _Flight) -> None:
        fetch = flight.fetch
        try:
            await self._fetch(flight)
        except (UntrustedError, TransferError) as error:
            _log.info("fill_failed", blob=self._pieces.ref.digest, pieces=len(fetch.missing()), reason=error.message)
            self._fail(set(fetch.missing()), error)
        except StorageError as error:
            _log.warning("fill_not_stored", blob=self._pieces.ref.digest, reason=error.message, hint=error.hint)
            self.end(error)
        except Exception as error:  # noqa: BLE001 - a bug in one flight must not leave its waiters hanging
            _log.exception("bug", error=str(error))
            self.end(FillError(f"internal error: {type(error).__name__}", zh="服务器内部错误"))
        finally:
            self._flights.remove(flight)
            self._desk.ended(is_ahead=flight.is_ahead)

    async def _fetch(self, flight: _Flight) -> None:
        """Fetch a span from whoever has it; as long as pieces come, a line that breaks is no failure."""
        fetch, sources = flight.fetch, self._desk.sources
        if isinstance(self._pieces, Partial):  # the night's sync may be at this blob too
            marked = await self._desk.run(self._pieces.look, flight.span.first, flight.span.last)
            fetch.skip(marked)
            self._came(marked)
        left = fetch.missing()
        while left:
            try:
                await sources.fetch_now(fetch.what, fetch.run, fetch.refused)
            except TransferError:
                if len(fetch.missing()) == len(left):
                    raise
            left = fetch.missing()

    def _came(self, numbers: Collection[int]) -> None:
        """Pieces are proved and, unless they only pass, stored and marked."""
        if isinstance(self._pieces, Passing):
            self._desk.counters.add(Cell.FILL_BYPASS, len(numbers))
            for seat in tuple(self.seats):
                self._pass_on(seat, seat.urgent.intersection(numbers))
            return
        if self._pieces.is_whole:  # finished by another process
            numbers = range(self._count)
        new = tuple(n for n in numbers if not self._have[n])
        for n in new:
            self._have[n] = 1
        if new:
            for seat in self.seats:
                seat.urgent.difference_update(new)
                seat.ahead.difference_update(new)
                seat.line.send(Proved(seat.view, new))
        if all(self._have):
            self._complete()

    def _complete(self) -> None:
        if self._finishing is None and not self.is_whole:
            self._finishing = asyncio.create_task(self._finish())

    async def _finish(self) -> None:
        assert isinstance(self._pieces, Partial)  # noqa: S101 - what only passes never has all of its pieces
        try:
            await self._desk.run(self._pieces.finish)
        except YuanjiaoError as error:
            _log.warning("fill_not_finished", blob=self._pieces.ref.digest, reason=error.message)
            self.end(error)
            return
        self.is_whole = True
        _log.info("filled", blob=self._pieces.ref.digest, bytes=self._pieces.ref.size, reason=str(self.reason))
        for seat in self.seats:
            seat.line.send(Whole(seat.view))
            seat.fill = None
        self.seats.clear()

    def _fail(self, numbers: set[int], error: YuanjiaoError) -> None:
        trouble = trouble_of(error, self._desk.retry_s())
        for seat in self.seats:
            lost = tuple(sorted(seat.urgent & numbers))
            seat.urgent -= numbers
            seat.ahead -= numbers
            if lost:
                seat.line.send(Failed(seat.view, lost, trouble))

    def _pass_on(self, seat: Seat, numbers: Iterable[int]) -> None:
        if isinstance(self._pieces, Passing):
            for n in sorted(numbers):
                data = self._pieces.piece(n)
                if data is not None:
                    seat.urgent.discard(n)
                    seat.line.send(Piece(seat.view, n, data))

    def _in_memory(self, n: int) -> bool:
        return isinstance(self._pieces, Passing) and self._pieces.has(n)

    def _count_dropped(self, numbers: Iterable[int]) -> None:
        busy = {n for flight in self._flights for n in flight.left}
        self._desk.counters.add(Cell.FILL_DROPPED, sum(not self._have[n] and n not in busy for n in numbers))


def trouble_of(error: YuanjiaoError, retry_s: float) -> Trouble:
    """An error for the way to a worker."""
    retry_s = error.retry_s if isinstance(error, FillError) else retry_s
    return Trouble(error.message, error.zh, error.hint, error.hint_zh, retry_s)


def _nothing() -> None:
    return
