"""The console and cities that publish: whose lessons somebody may recall, and how lists tell them apart."""

from __future__ import annotations

import json
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from support.console import CITY, OTHER_CITY, PROVINCE, Browser, Console, console_at
from support.origins import found_origin
from support.receipts import article

from manifests.names import Region
from origin.accounts.permissions import Role


@pytest.fixture(scope="module")
def founded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return found_origin(tmp_path_factory.mktemp("founded") / "origin")


@pytest.fixture
async def console(founded: Path, tmp_path: Path) -> AsyncIterator[Console]:
    async with console_at(Path(shutil.copytree(founded, tmp_path / "origin"))) as opened:
        releases = opened.origin.releases
        for city in (CITY, OTHER_CITY):
            await releases.entrust(Region(city))
            await article(opened.origin, tmp_path, f"{city}-shi", publisher=city)
        await article(opened.origin, tmp_path, "sheng")
        yield opened


async def listed(browser: Browser, **where: str) -> Any:
    query = "&".join(f"{name}={value}" for name, value in where.items())
    return json.loads((await browser.get(f"/api/v1/lessons?{query}")).text)


async def recall(browser: Browser, id_: str) -> int:
    page = await browser.submit("/console/me", f"/console/lessons/{id_}/recall", reason="内容有误")
    return page.status


@pytest.mark.parametrize("role", [Role.CITY_ADMIN, Role.REVIEWER])
async def test_a_city_recalls_its_own_and_nobody_elses(console: Console, role: Role) -> None:
    person = await console.person("city", role, CITY)
    for other in ("sheng", f"{OTHER_CITY}-shi"):
        assert await recall(person, other) == 403
        assert not json.loads((await person.get(f"/api/v1/lessons/{other}")).text)["may_recall"]
    own = json.loads((await person.get(f"/api/v1/lessons/{CITY}-shi")).text)
    assert (own["may_recall"], own["keys_are_away"], own["publisher"]) == (True, False, CITY)
    assert await recall(person, f"{CITY}-shi") == 200
    _, catalog = await console.origin.releases.current_catalog(CITY)
    assert [one.id for one in catalog.recalls] == [f"{CITY}-shi"]


async def test_the_city_reads_in_its_audit_what_the_province_did_to_its_lesson(console: Console) -> None:
    admin = await console.person("admin", Role.PROVINCE_ADMIN, PROVINCE)
    city = await console.person("city", Role.CITY_ADMIN, CITY)
    other = await console.person("other", Role.CITY_ADMIN, OTHER_CITY)
    assert await recall(admin, f"{CITY}-shi") == 200
    path = f"/api/v1/audit?subject={CITY}-shi"
    done = [one["action"] for one in json.loads((await city.get(path)).text)["changes"]]
    assert done == ["recall.done", "recall.ask"]
    assert json.loads((await other.get(path)).text)["changes"] == []


async def test_without_the_citys_key_the_provinces_catalog_recalls(console: Console) -> None:
    keys = console.origin.paths.keys
    (keys / f"cities-{CITY}.pem").rename(keys.parent / "away.pem")
    city = await console.person("city", Role.CITY_ADMIN, CITY)
    assert not json.loads((await city.get(f"/api/v1/lessons/{CITY}-shi")).text)["keys_are_away"]
    assert await recall(city, f"{CITY}-shi") == 200
    _, province = await console.origin.releases.current_catalog()
    assert [one.id for one in province.recalls] == [f"{CITY}-shi"]


async def test_lists_tell_publishers_apart(console: Console) -> None:
    viewer = await console.person("viewer", Role.VIEWER, CITY)
    every = await listed(viewer)
    assert (every["total"], every["publishers"]) == (3, [PROVINCE, CITY, OTHER_CITY])
    for publisher, ids in ((PROVINCE, ["sheng"]), (CITY, [f"{CITY}-shi"]), ("410300", [])):
        found = await listed(viewer, publisher=publisher)
        assert [one["id"] for one in found["lessons"]] == ids
        assert {one["publisher"] for one in found["lessons"]} <= {publisher}
    assert (await viewer.get("/api/v1/lessons?publisher=nobody")).status == 400
    page = await viewer.get(f"/console/lessons?publisher={CITY}")
    assert f"{CITY}-shi" in page.text
    assert "sheng" not in page.text
    assert "郑州市" in (await viewer.get("/console/releases")).text
    assert "郑州市" in (await viewer.get(f"/console/lessons/{CITY}-shi")).text
    assert "郑州市" in (await viewer.get("/console")).text, "when its signature ends"
