"""Eviction on traces: ours beside the policies of the field, in caches of 1 to 50 % of the catalog.

`python -m tools.bench --only eviction` prints a row per trace; `python -m tools.bench.eviction` the whole table.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from tools.bench.eviction_policies import OURS, POLICIES, REFERENCES, bound, replay
from tools.bench.eviction_traces import WEEKS, Trace, make_traces
from tools.bench.measure import Bench
from tools.bench.table import Row

SHARES = (0.01, 0.05, 0.10, 0.25, 0.50)
BOUND = "bound"
_TARGET = "≥ the best policy − 1 point on every trace"
_FULL_BYTES = 1 << 30


@dataclass(frozen=True, slots=True)
class Cell:
    """One policy on one trace in one cache: hit ratios by wishes and by bytes."""

    trace: str
    share: float
    policy: str
    hits: float
    bytes: float


def measure(traces: tuple[Trace, ...], shares: tuple[float, ...] = SHARES) -> list[Cell]:
    """All cells."""
    return [cell for trace in traces for share in shares for cell in _cells(trace, share)]


def run(bench: Bench) -> list[Row]:
    """Measure; a smaller bench replays fewer weeks."""
    weeks = max(4, round(WEEKS * min(1.0, bench.size_bytes / _FULL_BYTES)))
    cells = measure(make_traces(weeks=weeks))
    rows = []
    for trace in dict.fromkeys(cell.trace for cell in cells):
        mine = [cell for cell in cells if cell.trace == trace]
        worst = min(SHARES, key=lambda share: _lead(mine, share))
        ours, best, most = (pick(mine, worst) for pick in (_ours, _best, _bound))
        what = f"evicting, trace {trace}, cache of {worst:.0%} of the catalog (where ours does worst)"
        note = f"by wishes; by bytes {ours.bytes:.1%} to {best.bytes:.1%}; nobody could pass {most.hits:.1%} (PFOO-L)"
        ratio = ours.hits / best.hits
        rows.append(Row(what, f"{ours.hits:.1%}", f"{best.policy} {best.hits:.1%}", ratio, _TARGET, note))
    return rows


def markdown(cells: list[Cell]) -> str:
    """The whole table: a row per trace and cache, a column per policy, and the best of libcachesim's in one."""
    own = [*POLICIES, BOUND]
    lines = [
        f"| trace | cache | {' | '.join(POLICIES)} | best of libcachesim's | {BOUND} |",
        "|---|--:|" + "--:|" * (len(own) + 1),
    ]
    for trace, share in dict.fromkeys((cell.trace, cell.share) for cell in cells):
        row = {cell.policy: cell for cell in cells if (cell.trace, cell.share) == (trace, share)}
        theirs = max(
            (cell for cell in row.values() if cell.policy not in own), key=lambda cell: cell.hits, default=None
        )
        best = f"{theirs.policy.partition(' ')[0]} {_pair(theirs)}" if theirs is not None else "–"
        shown = " | ".join([*(_pair(row[one]) for one in POLICIES), best, _pair(row[BOUND])])
        lines.append(f"| {trace} | {share:.0%} | {shown} |")
    return "\n".join(lines) + "\n"


def _pair(cell: Cell) -> str:
    return f"{100 * cell.hits:.1f} / {100 * cell.bytes:.1f}"


def _cells(trace: Trace, share: float) -> Iterator[Cell]:
    size = round(trace.catalog_bytes * share)
    for name, make in POLICIES.items():
        yield Cell(trace.name, share, name, *replay(trace, make(size), size))
    for name, kind in REFERENCES.items() if find_spec("libcachesim") else ():
        yield Cell(trace.name, share, f"{name} (libcachesim)", *replay(trace, _Reference(kind, size), size))
    yield Cell(trace.name, share, BOUND, *bound(trace, size))


class _Reference:
    """A cache of libcachesim's."""

    def __init__(self, kind: str, size: int) -> None:
        self._library: Any = import_module("libcachesim")
        self._cache = getattr(self._library, kind)(size)

    def wish(self, lesson: int, size: int, at_s: int) -> bool:
        """See `tools.bench.eviction_policies.Cache`."""
        request = self._library.Request()
        request.obj_id, request.obj_size, request.clock_time = lesson + 1, size, at_s
        return bool(self._cache.get(request))


def _ours(cells: list[Cell], share: float) -> Cell:
    return next(cell for cell in cells if cell.share == share and cell.policy == OURS)


def _bound(cells: list[Cell], share: float) -> Cell:
    return next(cell for cell in cells if cell.share == share and cell.policy == BOUND)


def _best(cells: list[Cell], share: float) -> Cell:
    others = [cell for cell in cells if cell.share == share and cell.policy not in {OURS, BOUND}]
    return max(others, key=lambda cell: cell.hits)


def _lead(cells: list[Cell], share: float) -> float:
    return _ours(cells, share).hits - _best(cells, share).hits


if __name__ == "__main__":
    print(markdown(measure(make_traces())))
