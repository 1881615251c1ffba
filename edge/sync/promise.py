"""A plan with a promise: when each lesson of a sync plan will be here, and what of it fits tonight.

Pure: plan, line and hour in, the same plan out with an instant for each lesson. Lessons that do not fit tonight stay
in the plan, in their order: a line that is better than its past may bring them all the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import tzinfo
from heapq import heappop, heappush
from itertools import pairwise, takewhile

from msgspec import Struct
from msgspec.structs import replace

from edge.sync.planner import Action, How, ItemPlan, SyncPlan
from manifests.instants import Instant, dump_instant
from manifests.line import HORIZON_DAYS, Line, completions, parse_window, windows_from
from manifests.words import join_names, show_bytes, show_day, show_moment

_FILLS = (Action.ADD, Action.UPDATE)
# The summary names so many days after tonight.
_NAMED_DAYS = 3


class Promise(Struct, frozen=True):
    """What the night will bring.

    Attributes:
        until: end of the window that is open or opens next; None when the window is ignored.
        items, bytes: lessons that will be fetched, and their bytes on the line.
        items_tonight, bytes_tonight: those of them that are here by `until`.
        by: when the last of them is here; None when that is not in sight, or there are none.
        summary, summary_zh: the same in one sentence.
    """

    until: str | None
    items: int
    bytes: int
    items_tonight: int
    bytes_tonight: int
    by: str | None
    summary: str
    summary_zh: str


class PromisedPlan(SyncPlan, frozen=True, kw_only=True):
    """A sync plan whose additions and updates say when they are expected."""

    promise: Promise


class Promised(Struct, frozen=True):
    """What was promised of one lesson: when it would be here (None: not in sight), and bytes on the line."""

    title: str
    expected: str | None
    bytes: int


class Fact(Struct, frozen=True):
    """What became of it: when it was installed, and bytes from the line that proved."""

    done: str
    bytes: int


def promise_plan(
    plan: SyncPlan, line: Line, zone: tzinfo, now: Instant, *, ignore_window: bool = False, at_once: int = 1
) -> PromisedPlan:
    """Say of each lesson to fetch when it will be here.

    Args:
        plan: what will be done, in order.
        line: rates, window and caps.
        zone: that of `line.zone`.
        now: when the work begins, or may begin.
        ignore_window: the run does not wait for its window, nor end with it (`--now`).
        at_once: so many lessons are under way together and share the line.
    """
    fills = plan.of(*_FILLS)
    sizes = [item.bytes_expected for item in fills]
    ends = shared_ends(sizes, at_once)
    marks = sorted({end for end in ends if end})
    steps = [mark - before for before, mark in pairwise([0, *marks])]
    reached = dict(zip(marks, completions(line, now, zone, steps, ignore_window=ignore_window), strict=True))
    moments = _moments(fills, [reached[end] if end else now for end in ends])
    until = None if ignore_window else next(windows_from(parse_window(line.window), now, zone)).stop
    promised = iter([_promised(item, at, until, now, zone) for item, at in zip(fills, moments, strict=True)])
    items = tuple(next(promised) if item.action in _FILLS else item for item in plan.items)
    values = {name: getattr(plan, name) for name in SyncPlan.__struct_fields__}
    whole = _sum_up(items, sizes, moments, until, now, zone)
    return PromisedPlan(**{**values, "items": items}, promise=whole)


def shared_ends(sizes: Sequence[int], at_once: int) -> list[int]:
    """How many bytes have crossed in all when each of these is complete; 0 for what has none.

    They begin in order, `at_once` of them are under way, and those share the line alike.
    """
    ends = [0] * len(sizes)
    under_way: list[tuple[int, int]] = []
    share = crossed = 0  # bytes that one of them got since the beginning; bytes of all

    def complete_one() -> None:
        nonlocal share, crossed
        end, n = under_way[0]
        crossed += (end - share) * len(under_way)
        share = end
        ends[n] = crossed
        heappop(under_way)

    for n, size in enumerate(sizes):
        if size > 0:
            if len(under_way) >= at_once:
                complete_one()
            heappush(under_way, (share + size, n))
    while under_way:
        complete_one()
    return ends


def promises_of(plan: SyncPlan) -> dict[str, Promised]:
    """What a plan promises, by lesson."""
    return {item.id: Promised(item.title, item.expected, item.bytes_expected) for item in plan.of(*_FILLS)}


def _moments(fills: Sequence[ItemPlan], alone: Sequence[Instant | None]) -> list[Instant | None]:
    """A lesson that shares a file with an earlier one is not here before the line has come so far."""
    moments: list[Instant | None] = []
    latest: Instant | None = Instant(0)
    for item, at in zip(fills, alone, strict=True):
        latest = None if at is None or latest is None else max(at, latest)
        moments.append(latest if any(file.how is How.COPY for file in item.files) else at)
    return moments


def _promised(item: ItemPlan, at: Instant | None, until: Instant | None, now: Instant, zone: tzinfo) -> ItemPlan:
    fits = at is not None and (until is None or at <= until)
    late_zh = late = ""
    if at is None:
        late_zh, late = f"按目前线路速率 {HORIZON_DAYS} 天内无法完成", f"not within {HORIZON_DAYS} days on this line"
    elif not fits:
        moment_zh, moment = show_moment(at, now, zone)
        late_zh, late = f"今晚时段已满，预计{moment_zh} 完成", f"tonight is full; expected {moment}"
    return replace(
        item,
        expected=None if at is None else dump_instant(at),
        fits=fits,
        late=late,
        late_zh=late_zh,
    )


def _sum_up(
    items: Sequence[ItemPlan],
    sizes: Sequence[int],
    moments: Sequence[Instant | None],
    until: Instant | None,
    now: Instant,
    zone: tzinfo,
) -> Promise:
    fills = [item for item in items if item.action in _FILLS]
    tonight = [size for item, size in zip(fills, sizes, strict=True) if item.fits]
    total, soon = sum(sizes), sum(tonight)
    known = [at for at in moments if at is not None]
    by = max(known) if fills and len(known) == len(fills) else None
    parts = [_head(len(fills), len(tonight), total, soon, by, until, now, zone)]
    if until is not None or by is None:
        late = [(item, at) for item, at in zip(fills, moments, strict=True) if not item.fits]
        parts += _late(late, now, zone)
    homeless = [_name(item) for item in items if item.for_room]
    if homeless:
        names_zh, names = join_names(homeless)
        parts.append((f"{names_zh}磁盘空间不足", f"no room for {names}"))
    return Promise(
        until=None if until is None else dump_instant(until),
        items=len(fills),
        bytes=total,
        items_tonight=len(tonight),
        bytes_tonight=soon,
        by=None if by is None else dump_instant(by),
        summary="; ".join(en for _, en in parts),
        summary_zh="；".join(zh for zh, _ in parts),
    )


def _head(
    count: int,
    fitting: int,
    total: int,
    soon: int,
    by: Instant | None,
    until: Instant | None,
    now: Instant,
    zone: tzinfo,
) -> tuple[str, str]:
    if not count:
        return "没有需要传输的课件", "nothing to fetch"
    size = show_bytes(total)
    if fitting < count:
        part = show_bytes(soon)
        when_zh, when = ("今晚", "tonight") if until is not None else ("本次", "in this run")
        return f"{when_zh}可完成 {size} 中的 {part}", f"{part} of {size} fits {when}"
    moment_zh, moment = show_moment(by or now, now, zone)
    if until is None:
        return f"立即传输 {size}，预计{moment_zh} 完成", f"{size} at once, done by {moment}"
    return f"今晚可完成全部 {size}，预计{moment_zh} 完成", f"all of {size} fits tonight, by {moment}"


def _late(late: Sequence[tuple[ItemPlan, Instant | None]], now: Instant, zone: tzinfo) -> Iterator[tuple[str, str]]:
    """One part for each of the next days that bring what does not fit tonight; one for the later ones."""
    known = sorted(((item, at) for item, at in late if at is not None), key=lambda pair: pair[1])
    days = 0
    while known and days < _NAMED_DAYS:
        when_zh, when = show_day(known[0][1], now, zone)
        group = list(takewhile(lambda pair: show_day(pair[1], now, zone)[1] == when, known))  # noqa: B023 - used up here
        names_zh, names = join_names([_name(item) for item, _ in group])
        yield f"{names_zh}{when_zh}完成", f"{names} {when}"
        known, days = known[len(group) :], days + 1
    if known:
        when_zh, when = show_day(known[-1][1], now, zone)
        yield f"另有 {len(known)} 个课件至{when_zh}完成", f"{len(known)} others by {when}"
    lost = [_name(item) for item, at in late if at is None]
    if lost:
        names_zh, names = join_names(lost)
        yield f"{names_zh} {HORIZON_DAYS} 天内无法完成", f"{names} not within {HORIZON_DAYS} days"


def _name(item: ItemPlan) -> tuple[str, str]:
    return f"《{item.title}》" if item.title else item.id, item.id
