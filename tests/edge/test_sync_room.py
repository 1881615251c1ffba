"""The room that a plan gives out, over random disks and needs."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from support.province import NOON

from edge.store.eviction import IDLE_S, EvictionLimits, Holding, Standing, Wish, in_order, may_displace
from edge.sync.room import Room
from manifests.digests import digest_of
from manifests.instants import Instant

NOW = Instant(NOON)
LIMITS = EvictionLimits(0, 0, 0.9, 0.8, 600.0)
HOLDINGS = st.lists(
    st.builds(
        lambda n, size, standing, priority, since: Holding(
            (f"h{n}",), standing, (digest_of(f"{n}".encode()),), size, priority, Instant(since)
        ),
        st.integers(0, 99),
        st.integers(1, 60),
        st.sampled_from([Standing.PULLED, Standing.PLANNED]),
        st.integers(0, 9),
        st.integers(NOON - 2 * IDLE_S, NOON),
    ),
    max_size=10,
    unique_by=lambda one: one.ids,
)
NEEDS = st.lists(st.tuples(st.integers(0, 120), st.integers(0, 9)), max_size=8)


@given(HOLDINGS, st.integers(-50, 200), NEEDS, st.integers(0, 99))
def test_room_is_given_once_and_taken_only_from_who_gives_way(
    holdings: list[Holding], left: int, needs: list[tuple[int, int]], needed: int
) -> None:
    kept = digest_of(f"{needed}".encode())
    room = Room(left, left - 40, in_order(holdings, LIMITS, NOW), {kept}, NOW)
    by_id = {one.ids: one for one in holdings}
    gone: list[Holding] = []
    taken = 0
    for need, priority in needs:
        before = room.left
        victims = room.take(need, priority)
        wish = Wish(Standing.PLANNED, priority)
        may = [one for one in holdings if one not in gone and kept not in one.blobs and may_displace(one, wish, NOW)]
        if victims is None:
            assert need > before + sum(one.size for one in may), "there was room"
            assert room.left == before
            continue
        chosen = [by_id[one.ids] for one in victims]
        assert all(one in may for one in chosen)
        assert not chosen or need > before
        assert all(before + sum(one.size for one in chosen) - one.size < need for one in chosen), "one too many"
        gone += chosen
        taken += need
        assert room.left == left + sum(one.size for one in gone) - taken
        assert room.left >= 0 or not need


@given(st.integers(-50, 200), st.integers(-50, 200), st.integers(0, 300))
def test_spare_room_is_for_those_that_were_evicted(left: int, spare: int, need: int) -> None:
    room = Room(left, spare, (), (), NOW)
    assert room.take_spare(need) is (need <= min(left, spare))
    assert room.left == left - (need if need <= min(left, spare) else 0)
