"""What is fetched next: the readers' windows and the plan of flights, for all positions and holes."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from edge.fill.flight_plan import Places, plan_flights, useless
from edge.fill.readahead import FIRST_WINDOW, FOLLOWS_S, Readers, runs
from manifests.pieces import Span

COUNT = 60
HAVE = st.lists(st.booleans(), min_size=COUNT, max_size=COUNT)
PIECES = st.sets(st.integers(0, COUNT - 1))


def pieces(found: tuple[tuple[int, int], ...]) -> list[int]:
    return [n for first, last in found for n in range(first, last + 1)]


@given(HAVE, st.lists(st.tuples(st.integers(0, COUNT - 1), st.integers(0, 20)), max_size=8), st.integers(1, 12))
def test_wishes_are_what_is_missing_of_positions_and_windows(
    have: list[bool], starts: list[tuple[int, int]], most: int
) -> None:
    readers = Readers(COUNT, most)
    wanted, soon = set(), set()
    for at, moved in starts:
        number = readers.begin(0.0, at, COUNT)
        here = min(at + moved, COUNT - 1)
        readers.move(number, here)
        wanted.add(here)
        soon.update(range(here + 1, min(here + 1 + min(FIRST_WINDOW + here - at, most), COUNT)))
    wishes = readers.wishes(have)
    assert pieces(wishes.urgent) == sorted(n for n in wanted if not have[n])
    assert pieces(wishes.ahead) == sorted(n for n in soon - wanted if not have[n])


@given(st.lists(st.integers(0, 200), unique=True).map(sorted))
def test_runs_are_the_numbers(numbers: list[int]) -> None:
    found = tuple(runs(numbers))
    assert pieces(found) == numbers
    assert all(first > last + 1 for (_, last), (first, _) in pairwise(found))


def test_a_window_grows_with_what_was_watched_and_ends_with_the_reader() -> None:
    readers, have = Readers(1000, 8), [False] * 1000
    number = readers.begin(0.0, 10, 1000)
    assert readers.wishes(have) == (((10, 10),), ((11, 12),))
    assert readers.move(number, 13)
    assert not readers.move(number, 13)
    assert readers.wishes(have) == (((13, 13),), ((14, 18),))
    readers.move(number, 40)
    assert readers.wishes(have).ahead == ((41, 48),)
    jumped = readers.begin(1.0, 800, 1000)
    assert readers.wishes(have) == (((40, 40), (800, 800)), ((41, 48), (801, 802)))
    readers.end(number, 1.0)
    assert readers.wishes(have) == (((800, 800),), ((801, 802),))
    readers.end(jumped, 2.0)
    assert readers.wishes(have) == ((), ())


def test_a_player_that_asks_range_by_range_goes_on_beyond_its_range() -> None:
    readers, have = Readers(1000, 8), [False] * 1000
    first = readers.begin(0.0, 0, 4)
    assert readers.wishes(have).ahead == ((1, 2),)
    readers.move(first, 3)
    assert readers.wishes(have).ahead == (), "no further than the range that was asked for"
    readers.end(first, 1.0, at=4)
    readers.begin(2.0, 4, 8)
    assert readers.wishes(have).ahead == ((5, 10),)
    readers.begin(2.0 + FOLLOWS_S, 500, 501)
    assert readers.wishes(have).urgent == ((4, 4), (500, 500))


@given(PIECES, PIECES, PIECES, st.integers(0, 6), st.integers(0, 6), st.integers(1, 8))
def test_flights_bring_wishes_once_and_what_is_waited_for_first(
    urgent: set[int], ahead: set[int], busy: set[int], places: int, for_ahead: int, most: int
) -> None:
    ahead -= urgent
    spans = plan_flights(sorted(urgent), sorted(ahead), busy, COUNT, Places(places, for_ahead, most))
    brought = [n for span in spans for n in span.numbers()]
    assert len(spans) <= places
    assert len(brought) == len(set(brought))
    assert set(brought) <= (urgent | ahead) - busy
    assert all(1 <= len(span.numbers()) <= most for span in spans)
    leading = [span.first in urgent for span in spans]
    assert leading == sorted(leading, reverse=True), "read-ahead never before what is waited for"
    assert sum(not one for one in leading) <= for_ahead
    missing = urgent - busy
    assert missing <= set(brought) or len(spans) == places, "all that is waited for, while there is a place"
    if places and missing:
        assert min(missing) == spans[0].first


def test_read_ahead_goes_in_requests_that_are_worth_one() -> None:
    places = Places(4, 4, 4)
    assert plan_flights([], [20], {19}, COUNT, places) == [], "it stands at the edge of a window that grows"
    assert plan_flights([], [20, 21, 22, 23], {19}, COUNT, places) == [Span(20, 23)]
    assert plan_flights([], [20, 30, 31], {19}, COUNT, places) == [Span(20, 20)], "a hole stays as small as it is"
    assert plan_flights([], [20], (), COUNT, places) == [Span(20, 20)], "nothing else is under way"
    assert plan_flights([], [COUNT - 1], {19}, COUNT, places) == [Span(COUNT - 1, COUNT - 1)]


def test_flights_that_nobody_needs_are_given_up_unless_nearly_done() -> None:
    spans = [(Span(0, 3), [0, 1, 2, 3]), (Span(4, 7), [7]), (Span(8, 11), [10, 11]), (Span(12, 15), [14, 15])]
    assert useless(spans, {11, 40}) == [0, 3]
    assert useless(spans, ()) == [0, 2, 3]
