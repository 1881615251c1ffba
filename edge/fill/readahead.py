"""What the viewers of one blob need now and soon: positions in, pieces out.

Pure. One `Readers` per blob and process. A reader stands at the piece that it waits for or sends from; behind it lies a
window that grows by a piece for each piece it moves on, so that somebody who only looks into a lesson costs little and
somebody who watches it is soon far ahead of the line's hiccups. A jump is another reader, and the old one's wishes go
with it. A player that asks range by range goes on with the window that its last range had.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

FIRST_WINDOW = 2
# A range that begins where another ended, so soon, is the same viewer's.
FOLLOWS_S = 30.0
_MOST_ENDED = 64

Run = tuple[int, int]


class Wishes(NamedTuple):
    """Missing pieces as runs `(first, last)`, ascending and apart; no piece is in both.

    Attributes:
        urgent: somebody waits for these.
        ahead: these come next.
    """

    urgent: tuple[Run, ...] = ()
    ahead: tuple[Run, ...] = ()


@dataclass(slots=True)
class _Reader:
    at: int
    stop: int
    window: int


class Readers:
    """The readers of one blob.

    Args:
        count: pieces of the blob.
        most: longest window, in pieces.
    """

    def __init__(self, count: int, most: int) -> None:
        self._count = count
        self._most = most
        self._next = 0
        self._readers: dict[int, _Reader] = {}
        self._ended: dict[int, tuple[float, int]] = {}

    def __len__(self) -> int:
        """How many read now."""
        return len(self._readers)

    def begin(self, now_s: float, first: int, stop: int) -> int:
        """A reader of the pieces from `first` to before `stop`; returns its number."""
        ended_s, window = self._ended.pop(first, (now_s - FOLLOWS_S, 0))
        goes_on = window > 0 and now_s - ended_s < FOLLOWS_S
        self._next += 1
        # Whoever asks range by range asks for the next one too: its window reaches beyond this range.
        reader = _Reader(first, self._count if goes_on else stop, window if goes_on else FIRST_WINDOW)
        reader.window = min(reader.window, self._most)
        self._readers[self._next] = reader
        return self._next

    def move(self, number: int, at: int) -> bool:
        """A reader has come to piece `at`; tells whether that is news."""
        reader = self._readers[number]
        if at <= reader.at:
            return False
        reader.window = min(reader.window + at - reader.at, self._most)
        reader.at = at
        return True

    def end(self, number: int, now_s: float, *, at: int | None = None) -> None:
        """A reader is done; `at` is the piece that follows what it was sent, when it was sent all of it."""
        reader = self._readers.pop(number)
        if at is None:
            return
        self._ended[at] = (now_s, reader.window + max(0, at - reader.at))
        while len(self._ended) > _MOST_ENDED:
            del self._ended[next(iter(self._ended))]

    def wishes(self, have: Sequence[int]) -> Wishes:
        """What is missing of what they need.

        Args:
            have: truth for each piece that is here.
        """
        urgent = sorted({one.at for one in self._readers.values() if one.at < self._count and not have[one.at]})
        known = set(urgent)
        ahead = [n for first, stop in self._windows() for n in range(first, stop) if not have[n] and n not in known]
        return Wishes(tuple(runs(urgent)), tuple(runs(ahead)))

    def _windows(self) -> Iterator[Run]:
        """The windows of all readers joined, half-open, ascending and apart."""
        spans = sorted({(one.at + 1, min(one.at + 1 + one.window, one.stop)) for one in self._readers.values()})
        begun: Run | None = None
        for first, stop in spans:
            if begun is not None and first <= begun[1]:
                begun = (begun[0], max(begun[1], stop))
                continue
            if begun is not None:
                yield begun
            begun = (first, stop) if stop > first else None
        if begun is not None:
            yield begun


def runs(numbers: Sequence[int]) -> Iterator[Run]:
    """Ascending numbers as runs `(first, last)`."""
    first = last = -2
    for n in numbers:
        if n == last + 1:
            last = n
            continue
        if first >= 0:
            yield first, last
        first = last = n
    if first >= 0:
        yield first, last
