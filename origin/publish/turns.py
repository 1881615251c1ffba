"""Whose turn it is on a county's line: what waits there, and what would be published, in the order of the edge's plan.

Pure. The edge fetches what is about to expire first, then by priority, then small before large; the origin, which knows
what each edge holds, stands the same queue up to say when a lesson comes, and which others come later because of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, tzinfo
from typing import Protocol

from manifests.instants import Instant
from manifests.names import Region
from manifests.reports import State

# As the edge's planner has it: a lesson that expires within a week is of use now or never.
_SOON_S = 7 * 86400
_NEVER = 1 << 62


class EdgeState(Protocol):
    """An enrolled edge and the last state that it told; None when it never told any."""

    @property
    def code(self) -> str:
        """Its number, such as `410122-1`."""

    @property
    def name(self) -> str:
        """What people call it."""

    @property
    def region(self) -> str:
        """Code of its county or city."""

    @property
    def state(self) -> State | None:
        """Line, room and backlog, as it last told."""

    @property
    def at(self) -> Instant | None:
        """When it told."""


@dataclass(frozen=True, slots=True)
class Offer:
    """A lesson that may be published, or that is and waits somewhere.

    Attributes:
        bytes: on the line, where nothing of it can be reused.
        columns: ids.
        id, title: empty for what has none yet.
    """

    bytes: int
    audience: tuple[Region, ...]
    columns: frozenset[str] = frozenset()
    id: str = ""
    title: str = ""
    priority: int = 5
    expires: Instant | None = None


@dataclass(frozen=True, slots=True)
class Queue:
    """What crosses one line, in turn.

    Attributes:
        first_bytes: what the edge says that it waits for and the origin cannot name; it goes before all others.
        offers: the others.
    """

    first_bytes: int
    offers: tuple[Offer, ...]

    @property
    def sizes(self) -> list[int]:
        """Bytes of each, the unnamed first."""
        return [self.first_bytes, *(one.bytes for one in self.offers)]


def queue_up(waiting_bytes: int, pending: Sequence[Offer], added: Iterable[Offer], now: Instant) -> Queue:
    """Stand up in the order in which an edge fetches.

    Args:
        waiting_bytes: what the edge says that it waits for.
        pending: what of it the origin knows.
        added: what would come to it.
        now: what expires soon is reckoned from here.
    """

    def turn(one: Offer) -> tuple[int, int, int, bool, str]:
        is_soon = one.expires is not None and one.expires <= now + _SOON_S
        deadline = one.expires if is_soon and one.expires is not None else _NEVER
        # Of equals, what waits already stands before what has no name yet.
        return deadline, -one.priority, one.bytes, not one.id, one.id

    known = sum(one.bytes for one in pending)
    return Queue(max(0, waiting_bytes - known), tuple(sorted((*pending, *added), key=turn)))


def due_at(now: Instant, minute: int, zone: tzinfo) -> Instant:
    """The next time that it is so many minutes after local midnight."""
    local = datetime.fromtimestamp(now, zone)
    for day in range(3):  # two will do but where a clock is put forward over the very minute
        date = local.date() + timedelta(days=day)
        due = datetime(date.year, date.month, date.day, minute // 60, minute % 60, tzinfo=zone).timestamp()
        if due > now:
            break
    return Instant(int(due))
