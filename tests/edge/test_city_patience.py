"""How long an edge waits for its siblings: as slow a line as it sees itself, and no shorter while nobody sees any."""

from __future__ import annotations

import random

from edge.settings import Upstream
from edge.sync.city import City
from edge.sync.shares import PATIENCE_MOST_S
from edge.upstream.opening import limits_of
from edge.upstream.sources import Patience, Sources

A, B = "http://10.0.0.1:8080", "http://10.0.0.2:8080"
BASE_S = 5.0  # two and a half progress deadlines


class Hand:
    """A monotonic clock that stands until it is moved."""

    def __init__(self) -> None:
        self.s = 1000.0

    def __call__(self) -> float:
        return self.s


def _city(clock: Hand) -> City:
    rng = random.Random(1)
    patience = Patience(attempts=1, cool_down_s=1, cool_down_most_s=1, ban_s=1, per_source=1)
    sources = Sources((), patience, monotonic=clock, rng=rng, banned={}, siblings=())
    return City("http://10.0.0.9:8080", sources, rng, clock, limits_of(Upstream()).answer_s)


def test_a_thin_line_that_brought_nobody_anything_yet_is_no_ones_fault() -> None:
    clock = Hand()
    city = _city(clock)
    city.begin()
    clock.s += 20
    assert city.patience_s(has_begun=True) == 60, "to an edge without a share of its own, too"
    assert city.patience_s(has_begun=False) == BASE_S, "who has not begun may never do so"
    city.asked()
    clock.s += 4
    assert city.patience_s(has_begun=False) == 12, "three times what it waits itself"
    clock.s += 100
    assert city.patience_s(has_begun=True) == PATIENCE_MOST_S


def test_the_first_pieces_tell_how_slow_the_line_is() -> None:
    clock = Hand()
    city = _city(clock)
    city.begin()
    began_s = clock.s
    clock.s += 15
    city.heard(A, began_s)
    assert city.patience_s(has_begun=True) == city.patience_s(has_begun=False) == 45
    for _ in range(40):
        clock.s += 0.5
        city.heard(A, began_s)
    assert city.patience_s(has_begun=True) == BASE_S, "it has become faster"
    clock.s += 30
    city.heard(B, began_s)
    assert city.patience_s(has_begun=True) == PATIENCE_MOST_S


def test_own_pieces_say_more_than_siblings() -> None:
    clock = Hand()
    city = _city(clock)
    city.begin()
    city.asked()
    clock.s += 2
    city.came()
    clock.s += 2
    city.came()
    assert city.patience_s(has_begun=True) == 6
    began_s = clock.s
    city.rested()
    clock.s += 50
    city.heard(A, began_s)
    assert city.patience_s(has_begun=True) == 6, "it was at work on something else"
    city.asked()
    clock.s += 10
    assert city.patience_s(has_begun=True) == 30, "the line has become slower"
