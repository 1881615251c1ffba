"""What a publish costs the others: lessons that would be here in time without it, and with it will not be. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import tzinfo

from msgspec import Struct

from manifests.instants import Instant
from manifests.line import Line, completions
from manifests.names import Region, is_within
from manifests.words import join_names
from origin.publish.turns import EdgeState, Offer, Queue, due_at, queue_up


class Delay(Struct, frozen=True):
    """One planned lesson that is pushed past the time that was asked about.

    Attributes:
        edges: names of the edges where it is.
        counties: how many regions these stand in.
    """

    id: str
    title: str
    edges: tuple[str, ...]
    counties: int


def plan_delays(
    states: Iterable[EdgeState],
    pending: Mapping[str, Sequence[Offer]],
    lessons: Sequence[Offer],
    now: Instant,
    minute: int,
    zone_of: Callable[[str], tzinfo],
) -> tuple[Delay, ...]:
    """Say which lessons that wait would be late because of these, where they would not be without; most edges first.

    Args:
        states: edges of which something can be said.
        pending: by code of the edge, what it is to fetch already.
        lessons: what would be published.
        now: when.
        minute: of the local day, the next one for each edge.
        zone_of: a time zone by its name.
    """
    found: dict[str, list[EdgeState]] = {}
    titles: dict[str, str] = {}
    for edge in states:
        for one in _pushed(edge, pending.get(edge.code, ()), lessons, now, minute, zone_of):
            titles[one.id] = one.title
            found.setdefault(one.id, []).append(edge)
    delays = [
        Delay(id_, titles[id_], tuple(one.name for one in edges), len({one.region for one in edges}))
        for id_, edges in found.items()
    ]
    return tuple(sorted(delays, key=lambda one: (-len(one.edges), one.id)))


def tell_delays(delays: Sequence[Delay]) -> tuple[str, str]:
    """The delays as the end of a sentence, Chinese and English; empty for none."""
    if not delays:
        return "", ""
    names = [
        (f"《{one.title}》在 {one.counties} 个县", f"{one.title} in {_count(one.counties, 'county', 'counties')}")
        for one in delays
    ]
    zh, en = join_names(names)
    return f"；将推迟{zh}", f"; delays {en}"


def is_meant(one: Offer, region: str, columns: Sequence[str]) -> bool:
    """Whether an edge of this region, with these columns (none: all), takes it."""
    if not any(is_within(Region(region), area) for area in one.audience):
        return False
    return not columns or not one.columns.isdisjoint(columns)


def _pushed(
    edge: EdgeState,
    pending: Sequence[Offer],
    lessons: Sequence[Offer],
    now: Instant,
    minute: int,
    zone_of: Callable[[str], tzinfo],
) -> list[Offer]:
    state = edge.state
    if state is None or not pending:
        return []
    added = [one for one in lessons if is_meant(one, edge.region, state.columns)]
    if not added:
        return []
    zone = zone_of(state.line.zone)
    due = due_at(now, minute, zone)
    before = _late(queue_up(state.waiting_bytes, pending, (), now), state.line, now, zone, due)
    after = _late(queue_up(state.waiting_bytes, pending, added, now), state.line, now, zone, due)
    return [one for one in pending if one.id in after and one.id not in before]


def _late(queue: Queue, line: Line, now: Instant, zone: tzinfo, due: Instant) -> set[str]:
    ends = completions(line, now, zone, queue.sizes)[1:]
    return {one.id for one, at in zip(queue.offers, ends, strict=True) if at is None or at > due}


def _count(count: int, one: str, many: str) -> str:
    return f"{count} {one if count == 1 else many}"
