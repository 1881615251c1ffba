"""A city's admin publishes by the console: a county of the city shows the lesson, a county of another does not."""

from __future__ import annotations

import asyncio
import json
import shutil
from pathlib import Path

import pytest
from support.console import CITY, COUNTY, OTHER_CITY, OTHER_COUNTY, console_at
from support.drafts import call, get, make_draft, release_due, step
from support.origins import found_origin
from support.program import get as fetch
from support.program import serving
from support.receipts import make_edge, sync
from support.releases import ManualClock

from manifests.names import Region
from origin.accounts.permissions import Role
from origin.clock import system_clock


def shown(edge: Path) -> set[str]:
    """What a county's portal shows."""
    reserve = {"YUANJIAO_STORE_RESERVE_BYTES": "0"}
    with serving("edge", "serve", edge, "--host", "127.0.0.1", "--port", "0", **reserve) as url:
        return {one["title"] for one in json.loads(fetch(f"{url}/api/courseware").body)}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return found_origin(tmp_path / "origin")


async def test_the_citys_counties_show_it_and_no_others(root: Path, tmp_path: Path) -> None:
    async with console_at(root, ManualClock(system_clock())) as console:
        for city in (CITY, OTHER_CITY):
            await console.origin.releases.entrust(Region(city))
        edges = {
            county: await make_edge(console.origin, console.url, tmp_path / county, county)
            for county in (COUNTY, OTHER_COUNTY)
        }
        city = await console.person("city", Role.CITY_ADMIN, CITY)
        reviewer = await console.person("reviewer", Role.REVIEWER, CITY)
        draft = await make_draft(city, title="大蒜越冬", article="<p>浇封冻水</p>")
        _, draft = await step(city, draft, "submit")
        _, draft = await step(reviewer, draft, "approve")
        status, told = await call(city, "GET", f"/drafts/{draft['number']}/promise")
        assert (status, told["edges"], told["counties"]) == (200, 1, 1), told
        page = await city.submit(
            f"/console/drafts/{draft['number']}/review",
            f"/console/drafts/{draft['number']}/step",
            step="release",
            revision=draft["revision"],
        )
        assert page.status == 200
        await release_due(console)
        assert (await get(city, draft))["state"] == "released"
        for edge in edges.values():
            assert (await sync(edge)).complete
    assert await asyncio.to_thread(shown, edges[COUNTY]) == {"大蒜越冬"}
    assert await asyncio.to_thread(shown, edges[OTHER_COUNTY]) == set()
    shutil.rmtree(tmp_path / COUNTY)
