"""The trace benchmark of eviction: its traces, its policies and its bound are what they say."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from edge.store.eviction import EvictionLimits, EvictionState, Holding, Standing, plan_eviction
from edge.store.usage import Usage
from manifests.digests import digest_of
from manifests.instants import Instant
from tools.bench.eviction import SHARES, markdown, measure
from tools.bench.eviction_policies import OURS, POLICIES, Cache, bound, replay
from tools.bench.eviction_traces import Trace, make_traces

TRACES = make_traces(weeks=4)
SMALL = TRACES[-1]


def test_the_same_seed_gives_the_same_traces() -> None:
    assert make_traces(weeks=1) == make_traces(weeks=1)
    assert make_traces(seed=7, weeks=1) != make_traces(weeks=1)
    for trace in TRACES:
        assert list(trace.wishes) == sorted(trace.wishes)
        assert all(20e6 <= size <= 2e9 for size in trace.sizes)
        # In a settled library all lessons are there from the beginning; an hour is chosen within the day.
        if trace.name != "zipf":
            assert all(at // 86400 >= trace.published[lesson] // 86400 for at, lesson in trace.wishes)


@pytest.mark.parametrize("make", POLICIES.values(), ids=list(POLICIES))
def test_no_policy_passes_the_bound_and_all_fill_up_with_room_for_everything(make: Callable[[int], Cache]) -> None:
    size = SMALL.catalog_bytes // 10
    hits, hit_bytes = replay(SMALL, make(size), size)
    assert 0 < hits <= bound(SMALL, size)[0]
    assert 0 < hit_bytes <= bound(SMALL, size)[1]
    everything = SMALL.catalog_bytes * 2
    first = len({lesson for _, lesson in SMALL.wishes})
    assert replay(SMALL, make(everything), everything)[0] == 1 - first / len(SMALL.wishes)


def test_the_table_has_every_trace_and_cache() -> None:
    text = markdown(measure((SMALL,), shares=SHARES[:2]))
    assert text.count("\n") == 4
    assert f"| {SMALL.name} | 1% |" in text


def test_the_edge_evicts_what_the_benchmark_s_policy_does(tmp_path: Path) -> None:
    """Ours in the benchmark, beside the record of use and the planner as an edge has them, wish by wish."""
    trace = Trace("part", SMALL.wishes[:400], SMALL.sizes, SMALL.published)
    size = SMALL.catalog_bytes // 50
    limits = EvictionLimits(size, 0, 1.0, 1.0, 0.0)
    model = POLICIES[OURS](size)
    held: set[int] = set()
    hits = 0
    with Usage.open(tmp_path / "usage.sqlite") as usage:
        for at_s, lesson in trace.wishes:
            name, bytes_, now = digest_of(f"{lesson}".encode()), trace.sizes[lesson], Instant(at_s + 1)
            if bytes_ > size:
                continue
            if lesson not in held:
                rows = usage.rows()
                found = tuple(
                    Holding(
                        (f"{one}",), Standing.PULLED, (row.digest,), trace.sizes[one], heat=row.heat, floor=row.floor
                    )
                    for one in held
                    if (row := rows[digest_of(f"{one}".encode())])
                )
                state = EvictionState(found, sum(trace.sizes[one] for one in held), size)
                for victim in plan_eviction(state, limits, bytes_, now).victims:
                    usage.note_evicted({victim.blobs[0]: victim.size}, now, victim.standing, victim.worth)
                    held.remove(int(victim.ids[0]))
                usage.note_pulled(name, f"{lesson}", bytes_, now)
            else:
                hits += 1
            held.add(lesson)
            usage.note_used({name: 1}, now)
    expected = sum(
        model.wish(lesson, trace.sizes[lesson], at_s) for at_s, lesson in trace.wishes if trace.sizes[lesson] <= size
    )
    # The planner spares small victims that a large one after them makes superfluous; the benchmark's heap does not.
    assert abs(hits - expected) <= len(trace.wishes) // 50
