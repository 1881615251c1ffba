"""Viewers in the evening: a lesson that is here starts at once; one that is missing comes over the line as it plays."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field

from edge.sync.wanting import wanted_of
from manifests.instants import Instant, dump_instant
from manifests.model import Catalog, Courseware
from tools.simulate.fleet import SimEdge
from tools.simulate.scenario import DAY_S, HOUR_S, START, Scenario, rng_of

_BEGIN_H, _END_H = 19.0, 21.5
_LEAST_PLAYS, _MOST_PLAYS = 10, 60
_NEW_SHARE = 0.25  # plays of the newest twentieth of what was there yesterday
_TODAY_SHARE = 0.01  # plays of what came out today, before its night
_FIRST_BUFFER_S = 4.0  # of the lesson, before its picture moves
_PATIENCE_S = 300.0  # nobody waits longer for a lesson


@dataclass(slots=True)
class Evening:
    """What viewers met.

    Attributes:
        stall_s: seconds for which a picture stood still, over all viewers.
        pulled: bytes that their plays took over the line, by lesson, each play on its own.
        broken: plays given up.
    """

    plays: int = 0
    stall_s: float = 0.0
    pulled: dict[str, float] = field(default_factory=dict)
    broken: int = 0

    def pull(self, id_: str, count: float) -> None:
        """Count bytes of a lesson that was not here."""
        self.pulled[id_] = self.pulled.get(id_, 0.0) + count


def watch(scenario: Scenario, fleet: Sequence[SimEdge], catalog: Catalog, day: int) -> dict[str, Evening]:
    """The evening of a day on every edge, by region."""
    found: dict[str, Evening] = {}
    for edge in fleet:
        rng = rng_of(scenario.seed, "viewers", day, edge.spec.region)
        evening = found[edge.spec.region] = Evening()
        begin = day * DAY_S + _BEGIN_H * HOUR_S
        offered = wanted_of(catalog, edge.wanted, Instant(START + int(begin)))
        if not offered:
            continue
        shelves = _shelves(offered, dump_instant(Instant(START + day * DAY_S)))
        for _ in range(rng.randint(_LEAST_PLAYS, _MOST_PLAYS)):
            item = _choose(rng, *shelves)
            at = rng.uniform(begin, day * DAY_S + _END_H * HOUR_S)
            if not edge.spec.is_off(at):
                _play(edge, item, at, evening)
    return found


def _shelves(offered: Sequence[Courseware], today: str) -> tuple[list[Courseware], list[Courseware], list[Courseware]]:
    """What came out today, the newest of the rest, the rest; none of them empty unless all are."""
    ranked = sorted(offered, key=lambda item: (item.published, item.id))
    rest = [item for item in ranked if item.published < today] or ranked
    return [item for item in ranked if item.published >= today] or rest, rest[-max(1, len(rest) // 20) :], rest


def _choose(
    rng: random.Random, today: list[Courseware], newest: list[Courseware], rest: list[Courseware]
) -> Courseware:
    luck = rng.random()
    if luck < _TODAY_SHARE:
        return rng.choice(today)
    return rng.choice(newest if luck < _TODAY_SHARE + _NEW_SHARE else rest)


def _play(edge: SimEdge, item: Courseware, at: float, evening: Evening) -> None:
    evening.plays += 1
    if edge.items.get(item.id) is not None:
        return  # an older version plays until the newer one is proved
    rate = edge.spec.rate(at)
    wait_s = edge.spec.next_up(at) - at if rate <= 0 else 0.0
    if wait_s >= _PATIENCE_S:
        evening.broken += 1
        evening.stall_s += _PATIENCE_S
        return
    rate = rate or edge.spec.rate(at + wait_s) or 1.0
    needed = item.size / max(item.duration_s, 1.0)
    # A line slower than the lesson stands still for as long as the lesson takes longer to come than to watch.
    stall_s = wait_s + _FIRST_BUFFER_S * needed / rate + max(0.0, item.size / rate - item.duration_s)
    if stall_s > _PATIENCE_S:
        evening.broken += 1
        share = _PATIENCE_S / stall_s
        evening.pull(item.id, item.size * share)
        evening.stall_s += _PATIENCE_S
        return
    evening.stall_s += stall_s
    evening.pull(item.id, float(item.size))
