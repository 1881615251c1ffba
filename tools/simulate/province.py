"""Days and nights of a province in order: publish, recall, watch, plan, fetch, install, learn."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import xxhash

from edge.sync.planner import Action, ItemPlan
from edge.sync.promise import PromisedPlan
from manifests.instants import Instant, dump_instant
from manifests.line import parse_window, windows_from
from manifests.model import Catalog
from tools.simulate.engine import Night, Runner
from tools.simulate.fleet import SimEdge
from tools.simulate.publishing import BASE_LESSONS, Day, Publisher
from tools.simulate.results import NightRow, Simulation, Worst, per_unique
from tools.simulate.scenario import DAY_S, HOUR_S, START, WINDOW, ZONE, Scenario, edges_of, rng_of
from tools.simulate.viewers import Evening, watch

_LACKING_AT_FIRST = 0.01  # of the library, on each edge


@dataclass
class _Account:
    """What is counted over the whole run."""

    worst: Worst = field(default_factory=Worst)
    unique: dict[str, float] = field(default_factory=dict)


def simulate(scenario: Scenario, base_lessons: int = BASE_LESSONS) -> Simulation:
    """Run the province; the same scenario gives the same figures.

    Raises:
        ConfigurationError: caller's mistake; more edges than there are regions.
    """
    specs = edges_of(scenario)
    cities = Counter(spec.city for spec in specs)
    fleet = [SimEdge(spec, cities[spec.city] if scenario.has_swarm else 1) for spec in specs]
    publisher = Publisher(scenario, specs, base_lessons)
    _fill_at_first(scenario, fleet, publisher.catalog(0.0))
    account = _Account()
    rows = []
    for number in range(scenario.nights):
        day = publisher.day(number)
        rows.append(_one_day(scenario, fleet, day, account))
    return _total(scenario, rows, account)


def _fill_at_first(scenario: Scenario, fleet: Sequence[SimEdge], catalog: Catalog) -> None:
    """Edges hold what earlier months have brought, as far as it is for them and their disk takes it; nearly all."""
    newest_first = sorted(catalog.courseware, key=lambda item: item.published, reverse=True)
    for edge in fleet:
        rng = rng_of(scenario.seed, "first", edge.spec.region)
        areas = edge.wanted.areas
        for item in newest_first:
            is_here = rng.random() >= _LACKING_AT_FIRST and not areas.isdisjoint(item.audience)
            if is_here and item.size <= edge.room:
                edge.install(item)


def _one_day(scenario: Scenario, fleet: Sequence[SimEdge], day: Day, account: _Account) -> NightRow:
    reach = _recall(scenario, fleet, day)
    evenings = watch(scenario, fleet, day.catalog, day.number)
    opens, closes = _window(day.number)
    runners: list[Runner] = []
    promises: list[PromisedPlan] = []
    for edge in fleet:
        begin = opens + jitter_of(edge.spec.region, scenario.jitter_s)
        promise = edge.plan(day.catalog, begin)
        stretches = tuple(edge.spec.stretches(begin, closes))
        units = edge.units(promise, day.catalog)
        runners.append(Runner(edge.spec.region, edge.spec.city, stretches, units))
        promises.append(promise)
    by_region = {edge.spec.region: edge for edge in fleet}
    night = Night(
        runners,
        uplink=scenario.uplink_bytes_per_s,
        has_swarm=scenario.has_swarm,
        patience_s=scenario.patience_s,
        holds=lambda name, digest: digest in by_region[name].blobs,  # type: ignore[index]
    )
    night.run(closes)
    lacks = [_morning(*one, day.catalog) for one in zip(fleet, runners, promises, strict=True)]
    return _row(_Facts(scenario, fleet, day, runners, promises, night.touched, evenings, reach, lacks), account)


def jitter_of(region: str, most_s: int) -> int:
    """Seconds after the window's opening at which an edge begins; always the same for one edge."""
    return xxhash.xxh3_64_intdigest(region.encode()) % (most_s + 1)


def _window(day: int) -> tuple[float, float]:
    evening = Instant(START + day * DAY_S + 12 * HOUR_S)
    span = next(windows_from(parse_window(WINDOW), evening, ZONE))
    return float(span.start - START), float(span.stop - START)


def _recall(scenario: Scenario, fleet: Sequence[SimEdge], day: Day) -> list[float]:
    """Edges act at their next poll, or as soon as they hear again; seconds until each did."""
    reach = []
    for id_, at in day.recalls.items():
        for edge in fleet:
            if id_ in edge.items:
                edge.drop(id_)
                poll = rng_of(scenario.seed, "poll", edge.spec.region, id_).random() * scenario.poll_s
                reach.append(edge.spec.next_up(at + poll) - at)
    return sorted(reach)


def _morning(edge: SimEdge, runner: Runner, promise: PromisedPlan, catalog: Catalog) -> float:
    """Install what is whole, keep the rest, learn the line; returns the bytes that are lacking."""
    missing = {unit.item for unit in runner.units if unit.missing >= 1.0}
    items = {item.id: item for item in catalog.courseware}
    fills = promise.of(Action.ADD, Action.UPDATE)
    for plan in fills:
        if plan.id not in missing:
            edge.install(items[plan.id])
    edge.keep_begun(runner.units)
    for hour, (seconds, count) in sorted(runner.busy.items()):
        if seconds >= 60:
            edge.learn(hour * HOUR_S, count / seconds)
    no_room = sum(items[one.id].size for one in promise.items if one.for_room)
    return sum(unit.missing for unit in runner.units) + no_room


@dataclass(frozen=True, slots=True)
class _Facts:
    """All that is known of one night when it is over."""

    scenario: Scenario
    fleet: Sequence[SimEdge]
    day: Day
    runners: Sequence[Runner]
    promises: Sequence[PromisedPlan]
    touched: dict[str, float]
    evenings: dict[str, Evening]
    reach: list[float]
    lacks: list[float]


def _row(facts: _Facts, account: _Account) -> NightRow:
    opens, closes = _window(facts.day.number)
    evenings = list(facts.evenings.values())
    touched = _with_plays(facts)
    for digest, count in touched.items():
        account.unique[digest] = max(account.unique.get(digest, 0.0), count)
    pulled = sum(count for one in evenings for count in one.pulled.values())
    origin_bytes, unique_bytes = sum(one.from_above for one in facts.runners) + pulled, sum(touched.values())
    kept = [all(one.fits and not one.for_room for one in _to_come(promise)) for promise in facts.promises]
    worst = _worst(facts, opens, closes)
    if worst.missing_bytes > account.worst.missing_bytes:
        account.worst = worst
    day_text = dump_instant(Instant(START + facts.day.number * DAY_S))
    return NightRow(
        night=facts.day.number + 1,
        published=sum(item.published >= day_text for item in facts.day.catalog.courseware),
        origin_bytes=round(origin_bytes),
        viewer_bytes=round(pulled),
        unique_bytes=round(unique_bytes),
        origin_bytes_per_unique_byte=per_unique(origin_bytes, unique_bytes),
        city_bytes=round(sum(one.from_beside for one in facts.runners)),
        edges=len(facts.fleet),
        off=sum(edge.spec.is_off(closes - 1) for edge in facts.fleet),
        promised=sum(kept),
        complete=sum(lack < 1.0 for lack in facts.lacks),
        worst=worst,
        plays=sum(one.plays for one in evenings),
        broken=sum(one.broken for one in evenings),
        stall_s=round(sum(one.stall_s for one in evenings), 1),
        recall_s=round(facts.reach[-1], 1) if facts.reach else None,
        recall_half_s=round(facts.reach[len(facts.reach) // 2], 1) if facts.reach else None,
    )


def _to_come(promise: PromisedPlan) -> list[ItemPlan]:
    """Lessons that an edge should hold in the morning, those for which it has no room included."""
    return [one for one in promise.items if one.for_room or one.action in {Action.ADD, Action.UPDATE}]


def _with_plays(facts: _Facts) -> dict[str, float]:
    """Distinct content that left the origin, by digest: the night's, and what viewers' plays asked for."""
    found = dict(facts.touched)
    items = {item.id: item for item in facts.day.catalog.courseware}
    for evening in facts.evenings.values():
        for id_, count in evening.pulled.items():
            video = items[id_].files[0]
            found[video.blob] = max(found.get(video.blob, 0.0), min(count, float(video.size)))
    return found


def _worst(facts: _Facts, opens: float, closes: float) -> Worst:
    lack, n = max((lack, -n) for n, lack in enumerate(facts.lacks))
    if lack < 1.0:
        return Worst()
    edge, runner = facts.fleet[-n], facts.runners[-n]
    on_line = sum(unit.missing for unit in runner.units)
    reason, reason_zh = _reason(edge, on_line, lack, opens, closes)
    return Worst(edge.spec.region, edge.spec.name, round(lack), reason, reason_zh)


def _reason(edge: SimEdge, on_line: float, lack: float, opens: float, closes: float) -> tuple[str, str]:
    if lack > 2 * on_line:
        return "its disk is full", "磁盘已满"
    if edge.spec.is_off((opens + closes) / 2):
        return "switched off", "夜间停机"
    down_s = edge.spec.down_s(opens, closes)
    if down_s > HOUR_S / 2:
        return f"the line was down for {down_s / 60:.0f} min", f"线路中断 {down_s / 60:.0f} 分钟"
    mean = edge.spec.rate(edge.spec.next_up((opens + closes) / 2)) / 125_000
    return f"its line is slow, {mean:.1f} Mbit/s", f"线路慢，{mean:.1f} Mbit/s"


def _total(scenario: Scenario, rows: Sequence[NightRow], account: _Account) -> Simulation:
    origin_bytes = sum(row.origin_bytes for row in rows)
    unique_bytes = round(sum(account.unique.values()))
    slots = sum(row.edges for row in rows)
    recalls = [row.recall_s for row in rows if row.recall_s is not None]
    return Simulation(
        edges=scenario.edges,
        nights=scenario.nights,
        seed=scenario.seed,
        swarm=scenario.has_swarm,
        rows=tuple(rows),
        origin_bytes=origin_bytes,
        unique_bytes=unique_bytes,
        city_bytes=sum(row.city_bytes for row in rows),
        viewer_bytes=sum(row.viewer_bytes for row in rows),
        origin_bytes_per_unique_byte=per_unique(origin_bytes, unique_bytes),
        completion=round(sum(row.complete for row in rows) / slots, 4) if slots else 0.0,
        stall_s=round(sum(row.stall_s for row in rows), 1),
        worst=account.worst,
        recall_s=max(recalls, default=None),
    )
