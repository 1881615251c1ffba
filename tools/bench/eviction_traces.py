"""Years of a county's evenings as lists of wishes: what the eviction policies are judged by. Deterministic by seed.

Each trace is what pull-through sees: (second, lesson) in order of time, and the sizes of all lessons. They model what
the field knows of its viewers, one habit at a time and all together:

    zipf       a settled library: a few lessons are asked for every day, most hardly ever
    releases   new lessons each week, watched most in their first weeks; the old ones fade but never quite
    classes    the timetable: all stations open one lesson within the same evening hour, some again next season
    scan       as releases, and an inspector who opens every lesson once, three times a year
    all        everything at once
"""

from __future__ import annotations

import math
import random
from bisect import bisect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import accumulate

DAY_S = 86400
WEEK_S = 7 * DAY_S
WEEKS = 52
# A county has some three hundred stations; a fifth of them watch on their own of an evening.
WISHES_A_DAY = 60
OLD_LESSONS = 800
NEW_A_WEEK = 20
SIZE_LEAST, SIZE_MEDIAN, SIZE_MOST = 20e6, 250e6, 2e9
FRESH_S = 10 * DAY_S  # a new lesson's wishes fall to a third in so long
FRESH_BOOST = 30.0
CLASSES_A_WEEK = 3
CLASS_STATIONS = (20, 120)
SEED = 410000


@dataclass(frozen=True, slots=True)
class Trace:
    """What was asked for.

    Attributes:
        wishes: second since the start, and number of the lesson.
        sizes: bytes of each lesson.
        published: second at which each came out; 0 for those of before.
    """

    name: str
    wishes: tuple[tuple[int, int], ...]
    sizes: tuple[int, ...]
    published: tuple[int, ...]

    @property
    def catalog_bytes(self) -> int:
        """Bytes of all lessons together."""
        return sum(self.sizes)


def make_traces(seed: int = SEED, weeks: int = WEEKS) -> tuple[Trace, ...]:
    """All traces."""
    return tuple(_trace(name, make, seed, weeks) for name, make in _MAKERS.items())


class _County:
    """Lessons with their sizes, popularity and dates; draws from them by its own generator."""

    def __init__(self, rng: random.Random, weeks: int) -> None:
        self.rng = rng
        self.days = weeks * 7
        count = OLD_LESSONS + NEW_A_WEEK * weeks
        self.sizes = [_size(rng) for _ in range(count)]
        released = [week * WEEK_S + rng.randrange(WEEK_S) for week in range(weeks) for _ in range(NEW_A_WEEK)]
        self.published = [0] * OLD_LESSONS + sorted(released)
        # Zipf's law over a random order: what is popular is neither the newest nor the largest.
        ranks = list(range(1, count + 1))
        rng.shuffle(ranks)
        self.weights = [rank**-0.9 for rank in ranks]

    def evening(self, day: int) -> int:
        """A second of that day, mostly after work."""
        return round(day * DAY_S + min(max(self.rng.gauss(20, 1.5), 0), 23.9) * 3600)

    def drawn(self, weights: list[float], count: int) -> list[int]:
        sums = list(accumulate(weights))
        return [bisect(sums, self.rng.random() * sums[-1]) for _ in range(count)]


def _zipf(county: _County) -> Iterator[tuple[int, int]]:
    for day in range(county.days):
        for one in county.drawn(county.weights, WISHES_A_DAY):
            yield county.evening(day), one


def _releases(county: _County) -> Iterator[tuple[int, int]]:
    for day in range(county.days):
        now = day * DAY_S
        weights = [
            0.0 if at > now else weight * (1 + (FRESH_BOOST * math.exp((at - now) / FRESH_S) if at else 0))
            for weight, at in zip(county.weights, county.published, strict=True)
        ]
        for one in county.drawn(weights, WISHES_A_DAY):
            yield county.evening(day), one


def _classes(county: _County) -> Iterator[tuple[int, int]]:
    rng = county.rng
    held: list[int] = []
    for day in range(county.days):
        if rng.random() < CLASSES_A_WEEK / 7:
            known = [n for n, at in enumerate(county.published) if at <= day * DAY_S]
            # Half of the classes show what came out lately, a quarter repeat one that was held before.
            pick = (
                rng.choice(held)
                if held and rng.random() < 0.25
                else rng.choice(known[-60:] if rng.random() < 0.67 else known)
            )
            held.append(pick)
            begin = day * DAY_S + rng.choice((19, 20)) * 3600
            for _ in range(rng.randint(*CLASS_STATIONS)):
                yield begin + rng.randrange(1800), pick


def _scans(county: _County) -> Iterator[tuple[int, int]]:
    for day in (60, 180, 300):
        known = [n for n, at in enumerate(county.published) if at <= day * DAY_S]
        for place, one in enumerate(known):
            yield day * DAY_S + 9 * 3600 + place * 20, one


def _together(
    *makers: Callable[[_County], Iterator[tuple[int, int]]],
) -> Callable[[_County], Iterator[tuple[int, int]]]:
    def made(county: _County) -> Iterator[tuple[int, int]]:
        for make in makers:
            yield from make(county)

    return made


_MAKERS: dict[str, Callable[[_County], Iterator[tuple[int, int]]]] = {
    "zipf": _zipf,
    "releases": _releases,
    "classes": _together(_classes, _releases),
    "scan": _together(_releases, _scans),
    "all": _together(_releases, _classes, _scans),
}


def _trace(name: str, make: Callable[[_County], Iterator[tuple[int, int]]], seed: int, weeks: int) -> Trace:
    county = _County(random.Random(f"{seed}/{name}"), weeks)  # noqa: S311 - a model, not a secret
    wishes = tuple(sorted(make(county)))
    return Trace(name, wishes, tuple(county.sizes), tuple(county.published))


def _size(rng: random.Random) -> int:
    return round(min(max(SIZE_MEDIAN * math.exp(rng.gauss(0, 1)), SIZE_LEAST), SIZE_MOST))
