"""Promises: what fits tonight, when the rest comes, in what words; and properties over random plans."""

from __future__ import annotations

from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.sync.planner import Action, FilePlan, How, ItemPlan, SyncPlan
from edge.sync.promise import PromisedPlan, promise_plan, promises_of, shared_ends
from manifests.instants import Instant, parse_instant
from manifests.line import HOURS_OF_DAY, Line, parse_window, windows_from
from manifests.words import join_names, show_bytes, show_day, show_moment

SHANGHAI = ZoneInfo("Asia/Shanghai")
EVENING = parse_instant("2026-11-24T12:00:00Z")  # Tuesday, 20:00 local
GIB = 1 << 30
# 1 GiB an hour: 8 GiB in a night.
LINE = Line(default_rate=GIB // 3600 + 1)


def item(id_: str, *sizes: int, how: How = How.PIECES, action: Action = Action.ADD, **fields: Any) -> ItemPlan:
    files = tuple(FilePlan(f"{n}.mp4", how, size, size, 0) for n, size in enumerate(sizes))
    return ItemPlan(id_, action, 1, "new", "新课件", files, f"课{id_}", **fields)


def plan(*items: ItemPlan) -> SyncPlan:
    return SyncPlan(9, items, sum(one.bytes_expected for one in items), 0, 0, {})


def promise(*items: ItemPlan, line: Line = LINE, now: Instant = EVENING, **options: Any) -> PromisedPlan:
    return promise_plan(plan(*items), line, SHANGHAI, now, **options)


def test_what_fits_and_what_does_not_keep_their_order() -> None:
    made = promise(item("a", 3 * GIB), item("b", 4 * GIB), item("c", 2 * GIB), item("d", 1), item("e", 8 * GIB))
    assert [one.id for one in made.items] == ["a", "b", "c", "d", "e"]
    assert [one.fits for one in made.items] == [True, True, False, False, False]
    assert [one.expected and one.expected[:16] for one in made.items] == [
        "2026-11-24T17:00",  # 22:00 and three hours
        "2026-11-24T21:00",
        "2026-11-25T15:00",
        "2026-11-25T15:00",
        "2026-11-26T15:00",
    ]
    assert (made.items[0].late, made.items[2].late) == ("", "tonight is full; expected Wednesday 23:00")
    assert made.items[2].late_zh == "今晚时段已满，预计周三 23:00 完成"
    whole = made.promise
    assert (whole.items, whole.items_tonight, whole.bytes_tonight) == (5, 2, 7 * GIB)
    assert (whole.until, whole.by) == ("2026-11-24T22:00:00Z", made.items[4].expected)
    assert whole.summary == "7.0 GiB of 17.0 GiB fits tonight; c and d Wednesday; e Thursday"
    assert whole.summary_zh == "今晚可完成 17.0 GiB 中的 7.0 GiB；《课c》、《课d》周三完成；《课e》周四完成"


def test_when_all_fits() -> None:
    whole = promise(item("a", GIB), item("b", 0)).promise
    assert whole.summary == "all of 1.0 GiB fits tonight, by today 23:00"
    assert whole.summary_zh == "今晚可完成全部 1.0 GiB，预计今天 23:00 完成"
    assert promise().promise.summary_zh == "没有需要传输的课件"
    assert promise(item("z", action=Action.RECALL)).promise.by is None


def test_now_does_not_wait_for_the_window_nor_end_with_it() -> None:
    made = promise(item("a", 20 * GIB), ignore_window=True)
    assert made.items[0].fits
    assert made.promise.until is None
    assert made.promise.summary == "20.0 GiB at once, done by Wednesday 16:00"
    made = promise(item("a", GIB), item("b", 1 << 50), ignore_window=True)
    assert made.promise.summary == "1.0 GiB of 1.00 PiB fits in this run; b not within 60 days"


def test_what_is_not_in_sight_and_what_has_no_room_is_named() -> None:
    made = promise(item("a", 1 << 50), item("b", action=Action.DEFER, for_room=True))
    assert made.items[0].expected is None
    assert made.items[0].fits is False
    assert made.items[1].fits is None
    assert made.promise.by is None
    assert made.promise.summary == "0 B of 1.00 PiB fits tonight; a not within 60 days; no room for b"
    assert made.promise.summary_zh.endswith("《课a》 60 天内无法完成；《课b》磁盘空间不足")


def test_many_nights_are_summed_up_shortly() -> None:
    made = promise(*(item(f"{n:02}", 5 * GIB) for n in range(20)))
    assert made.promise.summary == (
        "5.0 GiB of 100.0 GiB fits tonight; 01 and 02 Thursday; 03 and 04 Friday; 05 Saturday; 14 others by 7 Dec"
    )


def test_a_lesson_that_shares_a_file_waits_for_the_one_that_brings_it() -> None:
    made = promise(item("a", 9 * GIB), item("b", 0, how=How.COPY), item("c", 0, how=How.HAVE))
    assert made.items[1].expected == made.items[0].expected
    assert made.items[1].fits is False
    assert made.items[2].fits
    lost = promise(item("a", 1 << 50), item("b", 0, how=How.COPY))
    assert lost.items[1].expected is None


def test_promises_by_lesson() -> None:
    made = promise(item("z", action=Action.RECALL), item("a", 2 * GIB), item("b", 9 * GIB))
    promised = promises_of(made)
    assert list(promised) == ["a", "b"]
    assert (promised["a"].title, promised["a"].bytes) == ("课a", 2 * GIB)
    assert promised["b"].expected == made.items[2].expected


@pytest.mark.parametrize(
    ("at", "zh", "en"),
    [
        ("2026-11-24T15:59:00Z", "今天 23:59", "today 23:59"),
        ("2026-11-25T18:40:00Z", "周四 02:40", "Thursday 02:40"),
        ("2026-11-30T15:00:00Z", "周一 23:00", "Monday 23:00"),
        ("2026-11-30T16:00:00Z", "12月1日 00:00", "1 Dec 00:00"),
        ("2027-01-01T16:00:00Z", "2027年1月2日 00:00", "2 Jan 2027 00:00"),
    ],
)
def test_moments_in_words(at: str, zh: str, en: str) -> None:
    assert show_moment(parse_instant(at), EVENING, SHANGHAI) == (zh, en)
    assert show_day(parse_instant(at), EVENING, SHANGHAI) == (zh.rsplit(" ", 1)[0], en.rsplit(" ", 1)[0])


def test_names_and_sizes_in_words() -> None:
    names = [(f"课{n}", f"k{n}") for n in range(5)]
    assert join_names(names[:1]) == ("课0", "k0")
    assert join_names(names[:3]) == ("课0、课1、课2", "k0, k1 and k2")
    assert join_names(names) == ("课0、课1、课2等 5 个课件", "k0, k1, k2 and 2 more")
    assert [show_bytes(n) for n in (0, 1023, 1536, 1 << 42, 1 << 50)] == [
        "0 B",
        "1023 B",
        "1.5 KiB",
        "4.00 TiB",
        "1.00 PiB",
    ]


def test_lessons_under_way_together_share_the_line() -> None:
    assert shared_ends([5, 0, 3], 1) == [5, 0, 8]
    assert shared_ends([5, 3], 2) == [8, 6], "3 of each have crossed when the shorter is complete"
    assert shared_ends([5, 3, 4], 2) == [10, 6, 12]
    made = promise(item("a", 4 * GIB), item("b", 3 * GIB), item("c", 3 * GIB), at_once=3)
    assert [one.fits for one in made.items] == [False, False, False]
    assert made.promise.by == promise(item("a", 10 * GIB)).promise.by


@given(st.lists(st.integers(0, 20), max_size=7), st.integers(1, 4))
def test_sharing_is_that_of_bytes_dealt_out_in_turn(sizes: list[int], at_once: int) -> None:
    left = {n: size for n, size in enumerate(sizes) if size}
    ends, crossed = [0] * len(sizes), 0
    while left:
        served = list(left)[:at_once]
        step = min(left[n] for n in served)
        crossed += step * len(served)
        for n in served:
            left[n] -= step
            if not left[n]:
                ends[n] = crossed
                del left[n]
    assert shared_ends(sizes, at_once) == ends


plans = st.lists(st.integers(0, 1 << 36), max_size=8).map(
    lambda sizes: [item(f"l{n}", size) for n, size in enumerate(sizes)]
)
lines = st.builds(
    Line,
    window=st.sampled_from(["22:00-06:00", "00:00-24:00", "12:00-12:30", "23:59-00:01"]),
    caps=st.just(()) | st.just((1000,) + (0,) * (HOURS_OF_DAY - 1)),
    default_rate=st.sampled_from([1, 100_000, 10_000_000]),
)


@settings(max_examples=60)
@given(
    plans, lines, st.integers(EVENING, EVENING + 7 * 86400), st.booleans(), st.integers(1, 1 << 34), st.integers(1, 4)
)
def test_properties(items: list[ItemPlan], line: Line, now: int, ignore_window: bool, more: int, at_once: int) -> None:
    at = Instant(now)
    made = promise(*items, line=line, now=at, ignore_window=ignore_window, at_once=at_once)
    whole = made.promise
    assert [one.id for one in made.items] == [one.id for one in items]
    assert whole.bytes == made.bytes_expected
    assert whole.items_tonight == sum(bool(one.fits) for one in made.items)
    assert whole.bytes_tonight == sum(one.bytes_expected for one in made.items if one.fits)
    assert (whole.until is None) is ignore_window
    until = next(windows_from(parse_window(line.window), at, SHANGHAI)).stop
    for one in made.items:
        seen = one.expected is not None and parse_instant(one.expected) >= at
        assert seen or one.expected is None
        if not ignore_window:
            assert one.fits == (one.expected is not None and parse_instant(one.expected) <= until)
        assert bool(one.late) == bool(one.late_zh) == (not one.fits)
    later = promise(*(item(one.id, one.bytes_expected + more) for one in items), line=line, now=at, at_once=at_once)
    for one, other in zip(promise(*items, line=line, now=at, at_once=at_once).items, later.items, strict=True):
        assert (one.expected or "9999") <= (other.expected or "9999"), "more bytes are never earlier"
        assert one.fits or not other.fits
