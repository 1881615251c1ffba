"""How a city divides a blob: everybody agrees, nothing is left out, and one who goes leaves little behind."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.sync.shares import LATE_S, PATIENCE_MOST_S, Peer, Shares, absent, patience_s, rank
from manifests.digests import Digest

MIB = 1024 * 1024
BLOB = Digest("ab" * 32)
CITY = [f"http://10.0.0.{n}:8080" for n in range(12)]
PIECE = 256 * 1024


def _views(pieces: int, members: list[str]) -> list[Shares]:
    return [Shares(BLOB, pieces, PIECE, own, [one for one in members if one != own]) for own in members]


@given(st.integers(1, 400), st.integers(1, 12), st.data())
def test_each_group_has_one_owner_in_everybodys_view(pieces: int, count: int, data: st.DataObject) -> None:
    members = CITY[:count]
    gone = data.draw(st.sets(st.sampled_from(members), max_size=count - 1))
    views = [view for view in _views(pieces, members) if view.own not in gone]
    for group in range(views[0].count):
        owners = {view.owner(group, gone) for view in views}
        assert len(owners) == 1
        assert not owners & gone
        assert [*views[0].claimants(group, gone)][-1] in owners
    assert views[0].group_of(pieces - 1) == views[0].count - 1


def test_own_shares_cover_the_blob_and_are_walked_in_different_orders() -> None:
    views = _views(800, CITY)
    orders = [view.own_order() for view in views]
    assert sorted(group for order in orders for group in order) == list(range(200))
    assert all(order != sorted(order) for order in orders if len(order) > 4)
    for view, order in zip(views, orders, strict=True):
        assert views[0].taken_order(order) == order[::-1], view.own  # helpers begin where the owner would end


def test_shares_are_even_enough_and_few_groups_move_when_one_goes() -> None:
    many = Counter(rank(BLOB, group, CITY)[0] for group in range(3000))
    assert max(many.values()) < 1.3 * 3000 / 12
    for group in range(200):
        before, after = rank(BLOB, group, CITY), rank(BLOB, group, CITY[1:])
        assert after == tuple(one for one in before if one != CITY[0])


WELL = {
    "is_well": True,
    "moved_s": 100.0,
    "looked_s": 100.0,
    "watched_s": 60.0,
    "brought": 40,
    "owed": 10,
    "patient_s": 5,
}


@pytest.mark.parametrize(
    ("change", "is_absent"),
    [
        ({}, False),
        ({"is_well": False}, True),
        ({"looked_s": 104.9}, False),
        ({"looked_s": 105.1}, True),  # it was seen to stand still
        ({"looked_s": 105.1, "patient_s": 6}, False),  # its line is slow
        ({"looked_s": 105.1, "owed": 0}, False),  # it has nothing to do
        ({"owed": 119}, False),  # it has a big share
        ({"owed": 121}, True),  # more than three times as long as the fill has taken
        ({"brought": 0, "owed": 400}, False),  # it only begins
        ({"watched_s": 99.0, "brought": 1, "owed": LATE_S}, False),  # a slow start says little
    ],
)
def test_who_is_counted_on(change: dict[str, float], is_absent: bool) -> None:
    peers = {"a": Peer(**{**WELL, **change})}  # type: ignore[arg-type]
    assert absent(peers, 100.0) == ({"a"} if is_absent else set())


def test_patience_grows_with_the_gap_of_ones_own_line() -> None:
    assert patience_s(2.0, 0.0) == 5.0
    assert patience_s(2.0, 4.0) == 12.0
    assert patience_s(2.0, 1000.0) == PATIENCE_MOST_S
