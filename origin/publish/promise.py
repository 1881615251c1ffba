"""Who would hold a lesson by when: the question of `edge sync --dry-run`, asked for a whole province.

Pure: each edge's last word about its line, disk and backlog in, a promise with the tail by name out. What an edge is
to fetch already goes first, but where its lessons are known and come later by the edge's own order: these may be
pushed past their time, which is told. An edge that keeps silent is promised nothing.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import tzinfo
from enum import StrEnum

from msgspec import Struct

from manifests.errors import InputError
from manifests.instants import Instant, dump_instant
from manifests.line import HORIZON_DAYS, Line, completions
from manifests.names import Region, is_within
from manifests.reports import State
from manifests.words import join_names, show_bytes, show_moment
from origin.publish.delays import Delay, plan_delays, tell_delays
from origin.publish.turns import EdgeState, Offer, due_at, queue_up

__all__ = ["Cause", "EdgePromise", "EdgeState", "Offer", "ProvincePromise", "parse_by", "plan_promise"]

# Edges tell their state every hour; one that was not heard from for so long has no line to promise by.
SILENT_S = 3 * 86400
_CLOCK = re.compile(r"([01][0-9]|2[0-3]):([0-5][0-9])")


class Cause(StrEnum):
    """Why an edge is in the tail."""

    NEVER_REPORTED = "never-reported"
    SILENT = "silent"
    NOT_SUBSCRIBED = "not-subscribed"
    NO_ROOM = "no-room"
    LATE = "late"
    NOT_IN_SIGHT = "not-in-sight"


class EdgePromise(Struct, frozen=True):
    """One edge.

    Attributes:
        expected: when it would hold all that is offered to it; None when nothing can be promised.
        cause: why it is in the tail; None when it is in time.
        reason, reason_zh: the same for people, empty in time.
    """

    code: str
    name: str
    region: str
    expected: str | None = None
    cause: Cause | None = None
    reason: str = ""
    reason_zh: str = ""


class ProvincePromise(Struct, frozen=True):
    """All edges that the lessons are meant for.

    Attributes:
        by: local time of day that was asked about.
        edges, in_time: how many, and how many of them in time.
        bytes: of the largest share that an edge would fetch.
        promises: of those in time, soonest first.
        tail: the others, soonest first, then those that nothing is promised of.
        summary, summary_zh: all of it in one sentence.
        due: when that is, by the province's clock.
        counties, counties_in_time: the same as `edges` and `in_time` by region; one is in time when all its edges are.
        last: when the last edge of which it can be said will hold it.
        delays: lessons that wait already and will be late because of these.
    """

    by: str
    edges: int
    in_time: int
    bytes: int
    promises: tuple[EdgePromise, ...]
    tail: tuple[EdgePromise, ...]
    summary: str
    summary_zh: str
    due: str = ""
    counties: int = 0
    counties_in_time: int = 0
    last: str | None = None
    delays: tuple[Delay, ...] = ()


def parse_by(text: str) -> int:
    """Read a local time of day such as `06:00`, as minutes after midnight.

    Raises:
        InputError: bad data.
    """
    match = _CLOCK.fullmatch(text)
    if match is None:
        raise InputError(f"{text[:20]!r} is no time of day such as 06:00", zh=f"{text[:20]!r} 不是 06:00 这样的时刻")
    return int(match[1]) * 60 + int(match[2])


def plan_promise(
    states: Sequence[EdgeState],
    lessons: Sequence[Offer],
    now: Instant,
    by: str,
    zone_of: Callable[[str], tzinfo],
    pending: Mapping[str, Sequence[Offer]] | None = None,
) -> ProvincePromise:
    """Say of each edge when it would hold the lessons that are meant for it, were they published now.

    Args:
        states: all enrolled edges.
        lessons: what would be published.
        now: when.
        by: local time of day, the next one for each edge.
        zone_of: a time zone by its name.
        pending: lessons that each edge, by its code, is to fetch already, as far as they are known.

    Raises:
        InputError: bad data; `by` is no time of day.
    """
    minute, known = parse_by(by), pending or {}
    found: list[tuple[Instant | None, EdgePromise]] = []
    most = 0
    for edge in states:
        meant = [one for one in lessons if any(is_within(Region(edge.region), area) for area in one.audience)]
        if meant:
            most = max(most, sum(one.bytes for one in meant))
            found.append(_promise(edge, meant, known.get(edge.code, ()), now, minute, zone_of))
    found.sort(key=lambda pair: (pair[0] is None, pair[0] or 0, pair[1].code))
    promises = tuple(one for _, one in found if one.cause is None)
    tail = tuple(one for _, one in found if one.cause is not None)
    heard = [edge for edge in states if edge.at is not None and now - edge.at <= SILENT_S]
    delays = plan_delays(heard, known, lessons, now, minute, zone_of)
    summary_zh, summary = _sum_up(len(found), len(promises), tail, by)
    more_zh, more = tell_delays(delays)
    late = {one.region for one in tail}
    ends = [at for at, _ in found if at is not None]
    return ProvincePromise(
        by=by,
        edges=len(found),
        in_time=len(promises),
        bytes=most,
        promises=promises,
        tail=tail,
        summary=summary + more,
        summary_zh=summary_zh + more_zh,
        due=dump_instant(due_at(now, minute, zone_of(Line().zone))),
        counties=len({one.region for _, one in found}),
        counties_in_time=len({one.region for one in promises} - late),
        last=dump_instant(max(ends)) if ends else None,
        delays=delays,
    )


def _promise(
    edge: EdgeState,
    meant: Sequence[Offer],
    pending: Sequence[Offer],
    now: Instant,
    minute: int,
    zone_of: Callable[[str], tzinfo],
) -> tuple[Instant | None, EdgePromise]:
    def lost(cause: Cause, reason: str, reason_zh: str) -> tuple[None, EdgePromise]:
        return None, EdgePromise(edge.code, edge.name, edge.region, None, cause, reason, reason_zh)

    state = edge.state
    if state is None or edge.at is None:
        return lost(Cause.NEVER_REPORTED, "it has never reported", "从未上报")
    zone = zone_of(state.line.zone)
    if now - edge.at > SILENT_S:
        when_zh, when = show_moment(edge.at, now, zone)
        return lost(Cause.SILENT, f"not heard from since {when}", f"自{when_zh} 起未上报")
    taken = [one for one in meant if not state.columns or not one.columns.isdisjoint(state.columns)]
    if len(taken) < len(meant):
        return lost(Cause.NOT_SUBSCRIBED, "its columns are not subscribed to there", "未订阅所属专栏")
    size = sum(one.bytes for one in taken)
    room = state.room_bytes - state.waiting_bytes
    if size > room:
        have = show_bytes(max(room, 0))
        return lost(
            Cause.NO_ROOM,
            f"no room: {show_bytes(size)} needed, {have} left",
            f"空间不足：需 {show_bytes(size)}，余 {have}",
        )
    at = _here_at(state, taken, pending, now, zone)
    if at is None:
        return lost(Cause.NOT_IN_SIGHT, f"not within {HORIZON_DAYS} days on its line", f"{HORIZON_DAYS} 天内无法完成")
    made = EdgePromise(edge.code, edge.name, edge.region, dump_instant(at))
    return (at, made) if at <= due_at(now, minute, zone) else (at, _late(made, at, state, now, zone))


def _here_at(
    state: State, taken: Sequence[Offer], pending: Sequence[Offer], now: Instant, zone: tzinfo
) -> Instant | None:
    """When the last of them is there; those that wait and stand behind them do not count."""
    queue = queue_up(state.waiting_bytes, pending, taken, now)
    last = max(number for number, one in enumerate(queue.offers) if any(one is mine for mine in taken))
    before = queue.first_bytes + sum(one.bytes for one in queue.offers[: last + 1])
    return completions(state.line, now, zone, [before])[0]


def _late(made: EdgePromise, at: Instant, state: State, now: Instant, zone: tzinfo) -> EdgePromise:
    when_zh, when = show_moment(at, now, zone)
    reason, reason_zh = f"window too thin: {when}", f"时段内传不完，预计{when_zh}"
    if state.waiting_bytes:
        behind = show_bytes(state.waiting_bytes)
        reason, reason_zh = f"{reason}, after {behind} of its own", f"{reason_zh}（此前尚有 {behind} 待传）"
    return EdgePromise(made.code, made.name, made.region, made.expected, Cause.LATE, reason, reason_zh)


def _sum_up(count: int, in_time: int, tail: Sequence[EdgePromise], by: str) -> tuple[str, str]:
    if not count:
        return "没有面向的边缘服务器", "no enrolled edge is meant"
    zh, en = f"{count} 台边缘服务器中 {in_time} 台将在 {by} 前具备", f"{in_time} of {count} edges hold it by {by}"
    if not tail:
        return zh, en
    names = [(f"{one.name}（{one.reason_zh}）", f"{one.name} ({one.reason})") for one in tail]
    shown_zh, shown = join_names(names, what_zh="台")
    return f"{zh}；其余：{shown_zh}", f"{en}; tail: {shown}"
