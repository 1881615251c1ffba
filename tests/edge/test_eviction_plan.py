"""The plan of an eviction: examples, and properties over random disks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st
from support.province import NOON

from edge.store.eviction import (
    HALF_LIFE_S,
    IDLE_S,
    EvictionLimits,
    EvictionPlan,
    EvictionState,
    Holding,
    Standing,
    Wish,
    cooled,
    in_order,
    is_held,
    may_displace,
    plan_eviction,
    spare_bytes,
    value,
)
from manifests.digests import digest_of
from manifests.instants import Instant

GOLDEN = Path(__file__).parent / "golden_eviction.json"
NOW = Instant(NOON)
LIMITS = EvictionLimits(1000, 0, 0.9, 0.8, 600.0)
PLENTY = 1 << 40
PLANNED = Wish(Standing.PLANNED, 5)


def held(id_: str, size: int, standing: Standing = Standing.PULLED, **fields: Any) -> Holding:
    return Holding((id_,), standing, (digest_of(id_.encode()),), size, **fields)


def disk(*holdings: Holding, other: int = 0, free: int = PLENTY) -> EvictionState:
    return EvictionState(holdings, sum(one.size for one in holdings) + other, free)


def ids(plan: EvictionPlan) -> list[str]:
    return [id_ for one in plan.victims for id_ in one.ids]


def test_nothing_goes_while_there_is_room() -> None:
    plan = plan_eviction(disk(held("a", 500), held("b", 300)), LIMITS, 50, NOW)
    assert (ids(plan), plan.room_bytes, plan.is_enough) == ([], 200, True)


def test_above_the_high_watermark_pulled_lessons_go_until_the_low_one() -> None:
    state = disk(held("a", 100), held("b", 100, heat=9.0), held("c", 800, Standing.PLANNED))
    plan = plan_eviction(state, LIMITS, 0, NOW)
    assert ids(plan) == ["a", "b"], "planned ones do not go for a watermark"
    assert ids(plan_eviction(disk(held("a", 100), held("c", 800, Standing.PLANNED)), LIMITS, 0, NOW)) == []


def test_a_need_above_the_high_watermark_brings_it_to_the_low_one() -> None:
    state = disk(*(held(f"l{n}", 100, heat=float(n + 1)) for n in range(9)))
    assert ids(plan_eviction(state, LIMITS, 100, NOW)) == ["l0", "l1"]


def test_what_was_pulled_goes_before_what_was_planned_and_pinned_never() -> None:
    state = disk(
        held("planned", 400, Standing.PLANNED),
        held("pulled", 300, heat=1000.0),
        held("pinned", 300, Standing.PINNED),
    )
    plan = plan_eviction(state, LIMITS, 600, NOW, PLANNED)
    assert (ids(plan), plan.is_enough) == (["pulled", "planned"], True)
    whole = plan_eviction(state, LIMITS, 800, NOW, Wish(Standing.PLANNED, 9))
    assert (whole.is_enough, ids(whole)) == (False, []), "what would not fit all the same costs nobody his lesson"


def test_leased_and_just_watched_lessons_stay() -> None:
    state = disk(
        held("leased", 400, leased_until=Instant(NOW + 1)),
        held("watched", 300, used_at=Instant(NOW - 599)),
        held("left", 300, used_at=Instant(NOW - 600)),
    )
    assert ids(plan_eviction(state, LIMITS, 100, NOW)) == ["left"]


def test_a_pulled_lesson_displaces_no_planned_one() -> None:
    state = disk(held("a", 1000, Standing.PLANNED, priority=0))
    assert not plan_eviction(state, LIMITS, 10, NOW).is_enough
    assert plan_eviction(state, LIMITS, 10, NOW, PLANNED).is_enough


def test_a_new_lesson_that_nobody_could_watch_yet_is_not_displaced_by_its_like() -> None:
    new = held("new", 10, Standing.PLANNED, since=Instant(NOW - IDLE_S + 1))
    old = held("old", 10, Standing.PLANNED, since=Instant(NOW - 9 * IDLE_S), used_at=Instant(NOW - IDLE_S))
    fond = held("fond", 10, Standing.PLANNED, since=Instant(NOW - 9 * IDLE_S), used_at=Instant(NOW - IDLE_S + 1))
    assert [may_displace(one, PLANNED, NOW) for one in (new, old, fond)] == [False, True, False]
    assert all(may_displace(one, Wish(Standing.PLANNED, 6), NOW) for one in (new, old, fond))
    assert not any(may_displace(one, Wish(Standing.PLANNED, 4), NOW) for one in (new, old, fond))


def test_lower_priorities_go_first_and_then_what_is_worth_less() -> None:
    some = [
        held("much", 10, Standing.PLANNED, priority=3, heat=9.0),
        held("little", 10, Standing.PLANNED, priority=3, heat=2.0),
        held("large", 100, Standing.PLANNED, priority=3, heat=9.0),
        held("low", 10, Standing.PLANNED, priority=1, heat=99.0),
        held("pulled", 10, heat=999.0),
    ]
    assert [one.ids[0] for one in in_order(some, LIMITS, NOW)] == ["pulled", "low", "large", "little", "much"]


def test_a_quota_that_was_lowered_is_kept_even_without_a_need() -> None:
    state = disk(held("a", 700, Standing.PLANNED), held("b", 700, Standing.PLANNED, heat=5.0))
    assert ids(plan_eviction(state, LIMITS, 0, NOW)) == ["a"]


def test_one_large_victim_spares_the_small_ones_before_it() -> None:
    state = disk(*(held(f"s{n}", 10) for n in range(3)), held("large", 970, heat=1000.0))
    limits = EvictionLimits(1000, 0, 1.0, 0.99, 600.0)
    assert ids(plan_eviction(state, limits, 500, NOW)) == ["large"]


def test_reasons_say_what_goes_and_why_in_both_languages() -> None:
    state = disk(held("a", 1000, used_at=Instant(NOW - 3 * 86400)))
    (victim,) = plan_eviction(state, LIMITS, 1000, NOW).victims
    assert victim.reason == "no room: pulled through for a terminal, last watched 3 days ago, 1000 B"
    assert victim.reason_zh == "空间不足：终端点播时取得，3 天前最后观看，1000 B"


def test_value_is_uses_per_byte_above_the_floor_and_cools_while_away() -> None:
    assert value(4.0, 100, 0.5) == 0.54
    assert value(0.0, 100, 0.0) == value(1.0, 100, 0.0), "what nobody watched yet came for somebody"
    assert cooled(8.0, HALF_LIFE_S) == 4.0
    assert cooled(8.0, -5) == 8.0


def test_spare_room_ends_at_the_low_watermark() -> None:
    assert spare_bytes(700, PLENTY, LIMITS) == 100
    assert spare_bytes(900, PLENTY, LIMITS) == -100
    assert spare_bytes(600, 400, EvictionLimits(0, 100, 0.9, 0.5, 0.0)) == 450 - 600


def test_golden_plan() -> None:
    day = 86400
    state = disk(
        held("pinned", 90, Standing.PINNED),
        held("new", 200, Standing.PLANNED, since=Instant(NOW - day)),
        held("old", 200, Standing.PLANNED, since=Instant(NOW - 90 * day), used_at=Instant(NOW - 40 * day), heat=3.0),
        held("low", 150, Standing.PLANNED, priority=1, since=Instant(NOW - day), heat=9.0),
        held("pulled", 100, used_at=Instant(NOW - 2 * day), heat=2.0, floor=0.01),
        held("watched", 200, used_at=Instant(NOW - 60), heat=1.0),
        other=10,
    )
    plan = plan_eviction(state, LIMITS, 450, NOW, PLANNED)
    text = msgspec.json.format(msgspec.json.encode(plan), indent=2).decode() + "\n"
    if not GOLDEN.exists():
        GOLDEN.write_text(text, "utf-8")
    assert text == GOLDEN.read_text("utf-8")


STANDINGS = st.sampled_from(list(Standing))
HOLDINGS = st.lists(
    st.builds(
        held,
        st.uuids().map(str),
        st.integers(0, 300),
        STANDINGS,
        priority=st.integers(0, 9),
        since=st.integers(NOW - 3 * IDLE_S, NOW).map(Instant),
        used_at=st.one_of(st.just(Instant(0)), st.integers(NOW - 2 * IDLE_S, NOW).map(Instant)),
        heat=st.floats(0, 50),
        floor=st.floats(0, 1),
        leased_until=st.integers(NOW - 2, NOW + 2).map(Instant),
    ),
    max_size=12,
)
DISKS = st.builds(
    lambda holdings, other, free: disk(*holdings, other=other, free=free),
    HOLDINGS,
    st.integers(0, 500),
    st.integers(0, 2000),
)
ALL_LIMITS = st.builds(
    lambda quota, reserve, low, over: EvictionLimits(quota, reserve, low + over, low, 600.0),
    st.sampled_from([0, 300, 1000, 3000]),
    st.integers(0, 500),
    st.floats(0.3, 0.9),
    st.floats(0.01, 0.1),
)
WISHES = st.builds(Wish, STANDINGS, st.integers(0, 9))


@given(DISKS, ALL_LIMITS, st.integers(0, 1500), WISHES)
def test_every_plan_keeps_the_promises(state: EvictionState, limits: EvictionLimits, need: int, wish: Wish) -> None:
    plan = plan_eviction(state, limits, need, NOW, wish)
    by_id = {one.ids: one for one in state.holdings}
    gone = [by_id[one.ids] for one in plan.victims]
    assert len({one.ids for one in gone}) == len(gone)
    assert not any(is_held(one, limits, NOW) for one in gone)
    assert plan.bytes == sum(one.size for one in gone)
    assert plan == plan_eviction(state, limits, need, NOW, wish)
    most = plan.room_bytes - plan.bytes + state.taken_bytes
    room = most - state.taken_bytes
    if room >= 0:
        assert all(may_displace(one, wish, NOW) or one.standing is Standing.PULLED for one in gone)
    assert all(one.standing is not Standing.PINNED for one in gone)
    # Of each standing that gave way wholly to a higher one, nothing is left that might have gone instead.
    if gone:
        allowed = [one for one in in_order(state.holdings, limits, NOW) if room < 0 or may_displace(one, wish, NOW)]
        last = max(one.standing for one in gone)
        lower = sum(one.size for one in allowed if one.standing < last)
        if last is Standing.PLANNED:
            assert lower < max(need - room, -room, 1), "planned lessons went although pulled ones were enough"
        # No victim is one too many: without it the need, or the low watermark, would be missed.
        for one in gone:
            left = state.taken_bytes - plan.bytes + one.size
            passes_low = state.taken_bytes + need > most * limits.high and left + need > round(most * limits.low)
            assert passes_low or need > most - left or left > most
    assert plan.is_enough == (need <= plan.room_bytes)
    if not plan.is_enough and room >= 0:
        assert need > room


@given(DISKS, ALL_LIMITS, WISHES)
def test_a_plan_that_was_carried_out_leaves_nothing_to_do(
    state: EvictionState, limits: EvictionLimits, wish: Wish
) -> None:
    plan = plan_eviction(state, limits, 0, NOW, wish)
    gone = {one.ids for one in plan.victims}
    rest = tuple(one for one in state.holdings if one.ids not in gone)
    after = EvictionState(rest, state.taken_bytes - plan.bytes, state.free_bytes + plan.bytes)
    assert plan_eviction(after, limits, 0, NOW, wish).bytes == 0
