"""One night of transfers, by events: who fetches which part from where, at which rate, until when.

Rates are constant between events, so nothing is stepped through. An edge has two lanes on one line: `above` brings
parts from the origin, whose own line all edges share fairly; `beside` brings what siblings of the city have proved, at
what is left of the edge's line. Without the swarm there is only `above`.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import IntEnum

import xxhash

from tools.simulate.fleet import Unit
from tools.simulate.scenario import Stretch

_EMPTY_BYTES = 0.5  # less than a byte is nothing
_NO_BOUND = float("inf")


class _Kind(IntEnum):
    """What happens at an event; at the same instant in this order."""

    LINE = 0
    DONE = 1
    PATIENCE = 2


@dataclass(slots=True)
class Lane:
    """One transfer under way, or none.

    Attributes:
        since: up to here its bytes are counted.
        mark: changes whenever its rate does, so that an event made before is void.
    """

    unit: Unit | None = None
    part: int = 0
    rate: float = 0.0
    since: float = 0.0
    mark: int = 0


@dataclass
class Runner:
    """One edge in the night.

    Attributes:
        stretches: its line, from the moment it begins.
        units: what it must fetch, in order.
        from_above, from_beside: bytes moved.
        busy: seconds and bytes of each hour in which it fetched, to learn from.
        finished: when each unit was whole, by digest.
        open, own: parts that are missing, and those of them that this edge fetches from above, by digest and number.
    """

    name: str
    city: str
    stretches: Sequence[Stretch]
    units: list[Unit]
    line: float = 0.0
    above: Lane = field(default_factory=Lane)
    beside: Lane = field(default_factory=Lane)
    from_above: float = 0.0
    from_beside: float = 0.0
    busy: dict[int, tuple[float, float]] = field(default_factory=dict)
    finished: dict[str, float] = field(default_factory=dict)
    waits: bool = False
    open: dict[tuple[str, int], Unit] = field(default_factory=dict)
    own: dict[tuple[str, int], Unit] = field(default_factory=dict)


class Night:
    """Runs all edges from `start` to `stop`.

    Args:
        uplink: bytes per second of the origin's own line.
        has_swarm: siblings give each other what they have.
        holds: tells whether an edge, by name, has a whole blob from before.
        patience_s: a part that no sibling has is asked of the origin after so long.
    """

    def __init__(
        self,
        runners: Sequence[Runner],
        *,
        uplink: float,
        has_swarm: bool,
        patience_s: float,
        holds: Callable[[str, str], bool] = lambda _name, _digest: False,
    ) -> None:
        self.now = 0.0
        self.touched: dict[str, float] = {}
        self._runners = runners
        self._uplink = uplink
        self._has_swarm = has_swarm
        self._patience_s = patience_s
        self._events: list[tuple[float, int, int, int, int, float]] = []
        self._count = 0
        self._active: dict[int, None] = {}  # whose lane `above` moves, in the order in which they began
        self._level = _NO_BOUND  # most that one edge gets of the uplink
        self._number = {id(runner): n for n, runner in enumerate(runners)}
        self._cities: dict[str, list[Runner]] = {}
        for runner in runners:
            self._cities.setdefault(runner.city, []).append(runner)
        self._owners: dict[tuple[str, str], list[Runner]] = {}
        self._holders: dict[tuple[str, str], list[list[Runner]]] = {}
        if has_swarm:
            self._divide(holds)

    def run(self, stop: float) -> None:
        """Let the night pass."""
        for n, runner in enumerate(self._runners):
            self._list_parts(runner)
            for stretch in runner.stretches:
                self._push(stretch.start, _Kind.LINE, n, 0, stretch.bytes_per_s)
            if runner.stretches:
                self._push(runner.stretches[-1].stop, _Kind.LINE, n, 0, 0.0)
        while self._events and self._events[0][0] <= stop:
            at, kind, n, _, mark, value = heapq.heappop(self._events)
            self.now = at
            runner = self._runners[n]
            if kind == _Kind.LINE:
                self._set_line(runner, value)
            elif kind == _Kind.DONE:
                lane = runner.above if value else runner.beside
                if lane.mark == mark:
                    self._done(runner, lane)
            elif runner.waits and runner.above.unit is None and runner.beside.unit is None:
                self._fall_back(runner)
        self.now = stop
        for runner in self._runners:
            for lane in (runner.above, runner.beside):
                self._advance(runner, lane)

    # The swarm: who owns which part, who has it

    def _divide(self, holds: Callable[[str, str], bool]) -> None:
        for city, members in self._cities.items():
            wanting: dict[str, list[Runner]] = {}
            sizes: dict[str, int] = {}
            for runner in members:
                for unit in runner.units:
                    wanting.setdefault(unit.digest, []).append(runner)
                    sizes[unit.digest] = len(unit.left)
            for digest, those in wanting.items():
                ranked = sorted(those, key=lambda one: xxhash.xxh3_64_intdigest(f"{one.name}/{digest}".encode()))
                self._owners[city, digest] = ranked
                whole = [one for one in members if holds(one.name, digest)]
                self._holders[city, digest] = [list(whole) for _ in range(sizes[digest])]
            for runner in members:
                for unit in runner.units:
                    for part, left in enumerate(unit.left):
                        if left < _EMPTY_BYTES:
                            self._holders[city, unit.digest][part].append(runner)

    def _owner(self, city: str, unit: Unit, part: int) -> Runner:
        ranked = self._owners[city, unit.digest]
        return ranked[part % len(ranked)]

    def _is_near(self, runner: Runner, unit: Unit, part: int) -> bool:
        """A sibling with a line has it."""
        return any(one.line > 0 and one is not runner for one in self._holders[runner.city, unit.digest][part])

    # What to fetch next

    def _list_parts(self, runner: Runner) -> None:
        """What is missing, in the plan's order, and the share of it that is this edge's own to fetch from above."""
        for unit in runner.units:
            for part, left in enumerate(unit.left):
                if left >= _EMPTY_BYTES:
                    runner.open[unit.digest, part] = unit
                    if not self._has_swarm or self._owner(runner.city, unit, part) is runner:
                        runner.own[unit.digest, part] = unit

    def _next_above(self, runner: Runner) -> tuple[Unit, int] | None:
        lane = runner.beside
        for (_, part), unit in runner.own.items():
            if unit is not lane.unit or part != lane.part:
                return unit, part
        return None

    def _next_beside(self, runner: Runner) -> tuple[Unit, int] | None:
        if not self._has_swarm:
            return None
        lane = runner.above
        for (_, part), unit in runner.open.items():
            if self._is_near(runner, unit, part) and (unit is not lane.unit or part != lane.part):
                return unit, part
        return None

    def _feed(self, runner: Runner) -> None:
        """Give idle lanes work; wait for siblings when there is none."""
        if runner.line <= 0:
            return
        if runner.above.unit is None and (found := self._next_above(runner)) is not None:
            self._begin_above(runner, *found)
        if runner.beside.unit is None and (found := self._next_beside(runner)) is not None:
            runner.beside.unit, runner.beside.part = found
            runner.beside.since = self.now
            self._set_beside(runner)
        is_idle = runner.above.unit is None and runner.beside.unit is None
        was_waiting, runner.waits = runner.waits, is_idle and bool(runner.open)
        if runner.waits and not was_waiting:
            self._push(self.now + self._patience_s, _Kind.PATIENCE, self._number[id(runner)], 0, 0.0)

    def _begin_above(self, runner: Runner, unit: Unit, part: int) -> None:
        lane = runner.above
        lane.unit, lane.part, lane.since = unit, part, self.now
        self._active[self._number[id(runner)]] = None
        self._share(runner)

    def _fall_back(self, runner: Runner) -> None:
        runner.waits = False
        if runner.open and runner.line > 0:
            (_, part), unit = next(iter(runner.open.items()))
            self._begin_above(runner, unit, part)

    # Rates

    def _set_line(self, runner: Runner, line: float) -> None:
        for lane in (runner.above, runner.beside):
            self._advance(runner, lane)
        was, runner.line = runner.line, line
        n = self._number[id(runner)]
        if line <= 0:
            for lane in (runner.above, runner.beside):
                lane.unit, lane.rate, lane.mark = None, 0.0, lane.mark + 1
            self._active.pop(n, None)
            runner.waits = False
            self._share(None)
            return
        if n in self._active:
            self._share(runner)
        self._set_beside(runner)
        self._feed(runner)
        if was <= 0:
            self._wake(runner)

    def _share(self, changed: Runner | None) -> None:
        """Divide the uplink anew: nobody gets more than his line takes, the rest is shared evenly."""
        lines = [self._runners[n].line for n in self._active]
        level = _NO_BOUND if sum(lines) <= self._uplink else _water_level(lines, self._uplink)
        if level == self._level == _NO_BOUND:
            if changed is not None:
                self._set_above(changed)
            return
        self._level = level
        for n in self._active:
            self._set_above(self._runners[n])

    def _set_above(self, runner: Runner) -> None:
        lane = runner.above
        rate = min(runner.line, self._level)
        if rate != lane.rate or lane.since == self.now:
            self._advance(runner, lane)
            lane.rate = rate
            self._schedule(runner, lane, 1.0)
            self._set_beside(runner)

    def _set_beside(self, runner: Runner) -> None:
        lane = runner.beside
        if lane.unit is None:
            return
        self._advance(runner, lane)
        lane.rate = max(runner.line - (runner.above.rate if runner.above.unit else 0.0), 0.0)
        self._schedule(runner, lane, 0.0)

    def _schedule(self, runner: Runner, lane: Lane, which: float) -> None:
        lane.mark += 1
        if lane.unit is not None and lane.rate > 0:
            at = self.now + lane.unit.left[lane.part] / lane.rate
            self._push(at, _Kind.DONE, self._number[id(runner)], lane.mark, which)

    def _advance(self, runner: Runner, lane: Lane) -> None:
        """Count what the lane has moved since it was last looked at."""
        unit, passed = lane.unit, self.now - lane.since
        lane.since = self.now
        if unit is None or passed <= 0 or lane.rate <= 0:
            return
        moved = min(unit.left[lane.part], lane.rate * passed)
        unit.left[lane.part] -= moved
        self._count_moved(runner, lane, moved, passed)

    def _count_moved(self, runner: Runner, lane: Lane, moved: float, passed: float) -> None:
        if lane is runner.above and lane.unit is not None:
            runner.from_above += moved
            digest = lane.unit.digest
            self.touched[digest] = min(lane.unit.size, self.touched.get(digest, 0.0) + moved)
        else:
            runner.from_beside += moved
        hour = int((self.now - 1e-6) // 3600)
        seconds, count = runner.busy.get(hour, (0.0, 0.0))
        # Lanes move beside each other: time counts once, on the lane that holds the line.
        counts = lane is runner.above or runner.above.unit is None
        runner.busy[hour] = (seconds + (passed if counts else 0.0), count + moved)

    def _done(self, runner: Runner, lane: Lane) -> None:
        self._advance(runner, lane)
        unit, part = lane.unit, lane.part
        if unit is None:
            return
        unit.left[part] = 0.0
        runner.open.pop((unit.digest, part), None)
        runner.own.pop((unit.digest, part), None)
        if unit.missing < _EMPTY_BYTES:
            runner.finished[unit.digest] = self.now
        lane.unit, lane.mark = None, lane.mark + 1
        self._feed(runner)
        if lane is runner.above and lane.unit is None:
            lane.rate = 0.0
            self._active.pop(self._number[id(runner)], None)
            self._share(None)
            self._set_beside(runner)
        if self._has_swarm:
            self._holders[runner.city, unit.digest][part].append(runner)
            self._wake(runner)

    def _wake(self, by: Runner) -> None:
        """Siblings whose lane stands idle may find something now."""
        if self._has_swarm:
            for one in self._cities[by.city]:
                if one is not by and one.beside.unit is None and one.line > 0:
                    self._feed(one)

    def _push(self, at: float, kind: _Kind, n: int, mark: int, value: float) -> None:
        self._count += 1
        heapq.heappush(self._events, (at, int(kind), n, self._count, mark, value))


def _water_level(lines: Sequence[float], uplink: float) -> float:
    """The level to which all are filled when the whole is `uplink`: max-min fairness."""
    left, many = uplink, len(lines)
    for line in sorted(lines):
        if line * many >= left:
            return left / many
        left -= line
        many -= 1
    return _NO_BOUND
