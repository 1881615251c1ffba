"""Pilots end to end: an origin and three edges over real sockets; waves go on by receipts, and stop by failures."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from sqlalchemy import select
from support.origins import found_origin
from support.program import serving, spawn, succeed, wait_until
from support.receipts import COUNTY, OTHER, article, coverage, held, make_edge, open_edge, origin_at, sync

from edge import app as edge_app
from manifests.errors import InputError, StorageFullError
from manifests.names import Region
from origin.app import Origin
from origin.database.engine import reading
from origin.database.tables_pilots import pilots
from origin.publish.pilot_plan import PilotWish, Terms
from origin.publish.piloting import Pilots, keep_pilots
from tools.cli import cli

THIRD = "410305"
COUNTIES = (COUNTY, OTHER, THIRD)
WAVES = ((Region(COUNTY),), (Region(OTHER),))
LOOKS = 600


@pytest.fixture(scope="module")
def founded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("founded")
    found_origin(root / "origin")
    return root / "origin"


@pytest.fixture
async def origin(founded: Path, tmp_path: Path) -> AsyncIterator[tuple[Origin, str]]:
    async with origin_at(Path(shutil.copytree(founded, tmp_path / "origin"))) as made:
        yield made


@asynccontextmanager
async def looking(origin: Origin) -> AsyncIterator[None]:
    """The task that `origin serve` runs, looking often."""
    task = asyncio.create_task(keep_pilots(Pilots(origin.releases), origin.metrics, 0.02))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def reached(origin: Origin, state: str, wave: int) -> str:
    """Wait until the pilot is there; gives the reason that it tells."""
    row = None
    for _ in range(LOOKS):
        async with reading(origin.engine) as connection:
            row = (await connection.execute(select(pilots))).one()
        if (row.state, row.wave) == (state, wave):
            return str(row.reason)
        await asyncio.sleep(0.02)
    raise AssertionError(f"the pilot stands at {row}")


async def versions(edges: dict[str, Path]) -> dict[str, dict[str, int]]:
    """What each edge shows now."""
    found = {}
    for county, root in edges.items():
        async with open_edge(root) as edge:
            found[county] = edge.library.versions()
    return found


async def _edges(origin: Origin, url: str, root: Path) -> dict[str, Path]:
    return {county: await make_edge(origin, url, root / county, county) for county in COUNTIES}


async def test_two_waves_go_on_by_themselves_when_the_receipts_come(tmp_path: Path, origin: tuple[Origin, str]) -> None:
    province, url = origin
    edges = await _edges(province, url, tmp_path)
    await article(province, tmp_path, "wheat", "第一版")
    for root in edges.values():
        await sync(root)
    await article(province, tmp_path, "wheat", "第二版", pilot=PilotWish(WAVES, Terms(), "zhang"))
    async with looking(province):
        for county in (OTHER, THIRD):  # before the first county has proved it
            await sync(edges[county])
        assert await versions(edges) == {county: {"wheat": 1} for county in COUNTIES}
        await sync(edges[COUNTY])
        await reached(province, "running", 1)
        await sync(edges[THIRD])
        assert await versions(edges) == {COUNTY: {"wheat": 2}, OTHER: {"wheat": 1}, THIRD: {"wheat": 1}}
        await sync(edges[OTHER])
        await reached(province, "done", 1)
    assert (await versions(edges))[THIRD] == {"wheat": 1}, "it has not heard yet"
    await sync(edges[THIRD])
    assert await versions(edges) == {county: {"wheat": 2} for county in COUNTIES}
    assert await held(province) == {f"{county}-1": {"wheat": 2} for county in COUNTIES}
    assert province.metrics.value("pilot_looks", outcome="go_on") == 1


async def test_only_the_pilots_county_gets_the_new_version_and_coverage_counts_it_alone(
    tmp_path: Path, origin: tuple[Origin, str]
) -> None:
    province, url = origin
    edges = await _edges(province, url, tmp_path)
    await article(province, tmp_path, "wheat", "第一版")
    await article(province, tmp_path, "wheat", "第二版", pilot=PilotWish(WAVES, Terms(), "zhang"))
    await article(province, tmp_path, "maize", "新课", pilot=PilotWish(WAVES, Terms(), "zhang"))
    for root in edges.values():
        await sync(root)
    both = {"wheat": 2, "maize": 1}
    assert await versions(edges) == {COUNTY: both, OTHER: {"wheat": 1}, THIRD: {"wheat": 1}}
    for id_, version in (("wheat", 2), ("maize", 1)):
        spread = (await coverage(province, id_, version)).spread
        assert spread is not None
        assert (spread.meant, spread.proved) == (1, 1), "the regions of the wave, and no others"
    base = (await coverage(province, "wheat")).spread
    assert base is not None
    assert (base.version, base.meant, base.proved) == (1, 2, 2), "those that are given another version do not count"
    # Why it is not here, an index made anew, and a dry run all go by the same version.
    async with open_edge(edges[OTHER]) as edge:
        assert [(one.id, str(one.cause)) for one in await edge_app.why_not(edge)] == [("maize", "audience")]
    for county, expected in ((COUNTY, both), (OTHER, {"wheat": 1})):
        (edges[county] / "index.sqlite").unlink()
        async with open_edge(edges[county]) as edge:
            assert edge.library.versions() == expected
        assert (await sync(edges[county])).updated == ()


async def test_a_county_whose_disk_is_full_stops_it_and_all_are_where_they_were(
    tmp_path: Path, origin: tuple[Origin, str]
) -> None:
    province, url = origin
    edges = await _edges(province, url, tmp_path)
    await article(province, tmp_path, "wheat", "第一版")
    for root in edges.values():
        await sync(root)
    long = "".join(f"{n} 病虫害防治要点\n\n" for n in range(25_000))
    await article(
        province, tmp_path, "wheat", long, pilot=PilotWish(WAVES, Terms(failed_minutes=0, deadline_hours=1), "zhang")
    )
    async with looking(province):
        report = await sync(edges[COUNTY], store_quota_bytes="100000")
        assert report.exit_code == StorageFullError.exit_code
        reason = await reached(province, "stopped", 0)
    assert "410122-1" in reason
    for root in edges.values():
        await sync(root)
    assert await versions(edges) == {county: {"wheat": 3} for county in COUNTIES}
    blobs = [files[0].blob for files in await province.releases.previous_files("wheat")]
    assert blobs[0] == blobs[2], "version 3 is what version 1 was"
    report = await sync(edges[OTHER])
    assert report.bytes_fetched < 2000, "nothing crosses the line twice"


async def test_who_took_part_goes_back_by_a_patch(tmp_path: Path, origin: tuple[Origin, str]) -> None:
    province, url = origin
    one = await make_edge(province, url, tmp_path / "one", COUNTY)
    body = "".join(f"{n:07} {n * 7919 % 1000003:07}\n" for n in range(20_000))
    await article(province, tmp_path, "wheat", body)
    await article(province, tmp_path, "wheat", body + "修订", pilot=PilotWish(WAVES, Terms(), "zhang"))
    await sync(one)
    (running,) = await Pilots(province.releases).look_at_all()
    await Pilots(province.releases).stop(running.pilot.id, "zhang", "内容要再改")
    report = await sync(one)
    assert report.updated == ("wheat",)
    assert report.bytes_from_patches > 0
    assert report.bytes_fetched < 20_000, "the whole lesson has over 300 kB"


def test_the_command_publishes_to_some_regions_first_and_looks_at_pilots(tmp_path: Path, founded: Path) -> None:
    root = Path(shutil.copytree(founded, tmp_path / "origin"))
    lesson = tmp_path / "a.md"
    lesson.write_text("# 课\n\n文\n", encoding="utf-8")

    def run(*arguments: str) -> Any:
        done = CliRunner().invoke(cli, [*arguments, "--json"])
        assert done.exit_code == 0, done.output
        return json.loads(done.stdout)

    common = ("publish", str(lesson), "--origin", str(root), "--title", "课", "--id", "ke")
    waves = ("--pilot", f"{COUNTY},兰考县", "--pilot", "410300")
    assert run(*common, *waves, "--dry-run")["pilot"] == [[COUNTY, OTHER], ["410300"]]
    run(*common, *waves)
    (told,) = run("origin", "pilots", str(root), "--dry-run")["pilots"]
    assert (told["courseware"], told["step"], told["meant"]) == ("ke", "wait", 0)
    (told,) = run("origin", "pilots", str(root))["pilots"]
    assert (told["step"], told["catalog_version"]) == ("wait", 0)
    assert isinstance(CliRunner().invoke(cli, [*common, "--pilot", "没有的县"]).exception, InputError)


def test_origin_serve_sends_a_pilot_on_by_itself(tmp_path: Path, founded: Path) -> None:
    root = Path(shutil.copytree(founded, tmp_path / "origin"))
    lesson = tmp_path / "a.md"
    lesson.write_text("# 课\n\n文\n", encoding="utf-8")
    common = ("publish", lesson, "--origin", root, "--title", "课", "--id", "ke")
    with serving("origin", "serve", root, "--host", "127.0.0.1", "--port", "0", YUANJIAO_PILOTS_EVERY_S="1") as url:
        for county in COUNTIES[:2]:
            succeed("origin", "enroll", root, county, "--upstream", url, "--out", tmp_path / f"{county}.json")
            succeed("edge", "init", tmp_path / county, "--bundle", tmp_path / f"{county}.json")
        succeed(*common, "--pilot", COUNTY, runner=spawn)
        assert succeed("edge", "sync", tmp_path / OTHER, "--now", runner=spawn)["added"] == []
        assert succeed("edge", "sync", tmp_path / COUNTY, "--now", runner=spawn)["added"] == ["ke"]
        wait_until(lambda: succeed("origin", "pilots", root, "--dry-run")["pilots"] == [])
        assert succeed("edge", "sync", tmp_path / OTHER, "--now", runner=spawn)["added"] == ["ke"]
