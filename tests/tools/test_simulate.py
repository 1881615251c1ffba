"""The simulated province: its transfers by arithmetic, its table the same for the same seed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from manifests.catalog import decode_catalog, encode_catalog
from manifests.errors import ConfigurationError
from tools.cli import cli
from tools.simulate.engine import Night, Runner
from tools.simulate.fleet import SimEdge, Unit
from tools.simulate.province import simulate
from tools.simulate.publishing import Publisher
from tools.simulate.real import Trial, run_real
from tools.simulate.scenario import DAY_S, EdgeSpec, Region, Scenario, Stretch, edges_of

GOLDEN = Path(__file__).parent / "golden_simulation.json"
SMALL = Scenario(edges=14, nights=2, seed=7)
HOUR = 3600.0


def runner(name: str, stretches: Sequence[tuple[float, float, float]], *sizes: float, parts: int = 1) -> Runner:
    units = [Unit(f"blob-{n}", int(size), [size / parts] * parts, f"kj-{n}", "") for n, size in enumerate(sizes)]
    return Runner(name, "4101", tuple(Stretch(*one) for one in stretches), units)


def night(*runners: Runner, uplink: float = 1e12, swarm: bool = False, stop: float = 8 * HOUR) -> Night:
    made = Night(runners, uplink=uplink, has_swarm=swarm, patience_s=2.0)
    made.run(stop)
    return made


def missing(one: Runner) -> float:
    return sum(unit.missing for unit in one.units)


def test_one_edge_fetches_at_the_rate_of_its_line_and_waits_while_it_is_down() -> None:
    one = runner("a", [(0, 100, 10.0), (100, 200, 0.0), (200, 400, 5.0)], 600.0, 900.0)
    night(one)
    assert one.finished == {"blob-0": 60.0, "blob-1": pytest.approx(300.0)}
    assert one.from_above == pytest.approx(1500.0)
    assert one.busy[0] == (pytest.approx(200.0), pytest.approx(1500.0)), "hours learn from time with a line only"


def test_what_the_night_is_too_short_for_is_left() -> None:
    one = runner("a", [(0, 100, 10.0)], 1500.0)
    night(one, stop=100.0)
    assert missing(one) == pytest.approx(500.0)


def test_the_origins_line_is_shared_fairly() -> None:
    slow, fast, late = (
        runner("a", [(0, HOUR, 2.0)], 200.0),
        runner("b", [(0, HOUR, 100.0)], 800.0),
        runner("c", [(50, HOUR, 100.0)], 400.0),
    )
    night(slow, fast, late, uplink=10.0)
    # 8 a second for the fast one, 4 once the late one is there, 4 until both are whole at 150.
    assert slow.finished["blob-0"] == pytest.approx(100.0)
    assert fast.finished["blob-0"] == pytest.approx(50 + 50 + 200 / 5)
    assert late.finished["blob-0"] == pytest.approx(fast.finished["blob-0"])


def test_a_city_fetches_each_part_once_and_passes_it_on() -> None:
    city = [runner(name, [(0, HOUR, 10.0)], 1200.0, parts=4) for name in "abcd"]
    made = night(*city, swarm=True)
    assert sum(one.from_above for one in city) == pytest.approx(1200.0)
    assert sum(one.from_beside for one in city) == pytest.approx(3600.0)
    assert all(one.finished["blob-0"] == pytest.approx(120.0) for one in city)
    assert made.touched == {"blob-0": pytest.approx(1200.0)}


def test_a_part_whose_owner_went_away_comes_from_the_origin() -> None:
    city = [runner(name, [(0, HOUR, 10.0)], 1200.0, parts=4) for name in "abc"]
    gone = runner("d", [(0, 5, 10.0)], 1200.0, parts=4)
    night(*city, gone, swarm=True)
    assert all(missing(one) < 1 for one in city)
    assert 1200.0 <= sum(one.from_above for one in city) <= 2400.0


@given(
    lines=st.lists(st.floats(0.5, 50), min_size=1, max_size=5),
    sizes=st.lists(st.floats(100, 2000), min_size=1, max_size=4),
    uplink=st.floats(1, 100),
    swarm=st.booleans(),
    drop=st.tuples(st.floats(1, 50), st.floats(51, 90)),
)
@settings(max_examples=60, deadline=None)
def test_no_byte_is_lost_or_made(
    lines: list[float], sizes: list[float], uplink: float, swarm: bool, drop: tuple[float, float]
) -> None:
    parts = len(lines) if swarm else 1
    city = [
        runner(str(n), [(0, drop[0], line), (*drop, 0.0), (drop[1], 1e6, line)], *sizes, parts=parts)
        for n, line in enumerate(lines)
    ]
    night(*city, uplink=uplink, swarm=swarm, stop=1e6)
    for one in city:
        assert missing(one) < 1
        assert one.from_above + one.from_beside == pytest.approx(sum(sizes), rel=1e-6, abs=len(sizes) * parts)
    assert sum(one.from_above for one in city) >= sum(sizes) - len(sizes) * parts
    last = max(max(one.finished.values()) for one in city)
    assert last >= (sum(sizes) / uplink) * 0.999 - 1, "faster than the origin's line"


def test_the_same_seed_gives_the_same_table_and_another_one_another() -> None:
    first = simulate(SMALL, base_lessons=60)
    assert simulate(SMALL, base_lessons=60) == first
    assert simulate(Scenario(14, 2, 8), 60) != first
    text = json.dumps(msgspec.to_builtins(first), ensure_ascii=False, indent=1) + "\n"
    if not GOLDEN.exists():
        GOLDEN.write_text(text, "utf-8")
    assert text == GOLDEN.read_text("utf-8")


def test_a_swarm_spares_the_origin() -> None:
    alone = simulate(Scenario(14, 2, 7, has_swarm=False), 60)
    together = simulate(SMALL, 60)
    assert together.origin_bytes < alone.origin_bytes / 2
    assert together.completion >= alone.completion - 0.1


def test_catalogs_of_the_model_are_real_ones() -> None:
    publisher = Publisher(SMALL, edges_of(SMALL), base_lessons=20)
    catalogs = [publisher.day(n).catalog for n in range(6)]
    assert [decode_catalog(encode_catalog(one)).version for one in catalogs] == [1, 2, 3, 4, 5, 6]
    assert any(file.patches for one in catalogs for item in one.courseware for file in item.files)
    assert any(one.recalls for one in catalogs)


def test_an_edge_whose_disk_is_full_plans_only_what_fits() -> None:
    spec = EdgeSpec(Region("410122"), "中牟县", "4101", (1e6,) * 48, (), (), disk_bytes=(1 << 30) + 200_000_000)
    edge = SimEdge(spec)
    catalog = Publisher(SMALL, (spec,), base_lessons=40).catalog(0.0)
    promise = edge.plan(catalog, DAY_S)
    assert any(item.for_room for item in promise.items)
    coming = {item.id for item in promise.items if item.fits is not None}
    for item in catalog.courseware:
        if item.id in coming:
            edge.install(item)
    assert edge.room >= 0
    used = edge.used
    for id_ in list(edge.items):
        edge.drop(id_)
    assert (used > 0, edge.used, edge.blobs) == (True, 0, set())


def test_a_recall_reaches_an_edge_that_is_off_when_it_is_on_again() -> None:
    spec = EdgeSpec(Region("410122"), "中牟县", "4101", (1e6,) * 48, ((50.0, 70.0),), ((60.0, 500.0),), 1 << 40)
    assert spec.next_up(10.0) == 10.0
    assert spec.next_up(55.0) == 500.0
    assert spec.down_s(0.0, 60.0) == 10.0


def test_more_edges_than_regions_are_refused() -> None:
    with pytest.raises(ConfigurationError):
        simulate(Scenario(edges=999))


def test_the_command_prints_the_table_and_the_object() -> None:
    arguments = ["simulate", "--edges", "3", "--nights", "1", "--seed", "5"]
    shown = CliRunner().invoke(cli, arguments, env={"YUANJIAO_LANG": "zh"}, catch_exceptions=False)
    told = CliRunner().invoke(cli, [*arguments, "--json"], catch_exceptions=False)
    result = json.loads(told.stdout)
    assert (shown.exit_code, told.exit_code) == (0, 0)
    assert "每不重复字节" in shown.stdout.replace("\n", "")
    assert (result["edges"], result["nights"], len(result["rows"])) == (3, 1, 1)
    assert result["rows"][0]["origin_bytes"] >= result["rows"][0]["unique_bytes"] > 0


def test_real_edges_and_the_model_come_to_the_same_bytes(tmp_path: Path) -> None:
    trial = Trial(edges=3, lessons=2, lesson_bytes=700_000, uplink_bytes_per_s=4e6)
    found = run_real(trial, tmp_path)
    assert (found.edges, found.swarm, found.unique_bytes) == (3, False, 2 * (700_000 + 3 * 32))
    assert found.model.origin_bytes_per_unique_byte == pytest.approx(3)
    assert found.bytes_ratio == pytest.approx(1, abs=0.05)
    assert found.model.seconds == pytest.approx(3 * found.unique_bytes / 4e6, abs=0.01)
    assert found.real.seconds >= found.model.seconds * 0.9, "the line was shaped"
    assert list(tmp_path.iterdir()) == []


def test_real_edges_that_help_each_other_spare_the_line(tmp_path: Path) -> None:
    """How well depends on the machine, which plays them all; `simulate --real` measures that on an idle one."""
    trial = Trial(edges=3, lessons=2, lesson_bytes=2_500_000, uplink_bytes_per_s=1e6, has_swarm=True)
    found = run_real(trial, tmp_path)
    assert (found.edges, found.swarm) == (3, True)
    assert found.model.origin_bytes_per_unique_byte == pytest.approx(1)
    assert 1 <= found.real.origin_bytes_per_unique_byte < 2.8, "three edges, each alone, take three"
    assert list(tmp_path.iterdir()) == []
