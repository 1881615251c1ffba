"""The console and cities that publish: whose lessons somebody may recall, and how lists tell them apart."""

from __future__ import annotations

import json
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from support.console import CITY, OTHER_CITY, PROVINCE, Browser, Console, console_at
from support.drafts import call, get, make_draft, release_due, step, try_save
from support.receipts import article

from manifests.names import Region
from origin.accounts.permissions import Role


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


async def draft_out(console: Console, author: Browser, other: Browser, **words: Any) -> Any:
    """A draft from its first word to its release: written by one, reviewed by another."""
    draft = await make_draft(author, **{"title": "本市新闻", "article": "<p>要闻</p>", **words})
    for person, name in ((author, "submit"), (other, "approve"), (author, "release")):
        status, told = await step(person, draft, name)
        assert status == 200, told
        draft = told
    assert await release_due(console) == 1
    return await get(author, draft)


async def test_a_citys_draft_goes_into_its_own_catalog_by_the_citys_own_people(console: Console) -> None:
    admin = await console.person("admin", Role.CITY_ADMIN, CITY)
    reviewer = await console.person("reviewer", Role.REVIEWER, CITY)
    draft = await draft_out(console, admin, reviewer, audience=["410122"])
    assert (draft["state"], draft["publisher"]) == ("released", CITY), draft
    assert draft["courseware"].startswith(f"{CITY}-kj-")
    _, own = await console.origin.releases.current_catalog(CITY)
    item = next(one for one in own.courseware if one.id == draft["courseware"])
    assert item.audience == ("410122",)
    assert "郑州市目录" in (await admin.get(f"/console/drafts/{draft['number']}")).text
    made = await make_draft(admin, title="越界")
    status, _ = await try_save(admin, made, audience=["410203"])
    assert status in {400, 403}


async def test_a_city_that_may_not_publish_leaves_the_release_to_the_province(console: Console) -> None:
    admin = await console.person("admin", Role.CITY_ADMIN, "410300")
    reviewer = await console.person("reviewer", Role.REVIEWER, "410300")
    draft = await make_draft(admin, title="洛阳新闻", article="<p>要闻</p>")
    assert draft["publisher"] == PROVINCE
    _, draft = await step(admin, draft, "submit")
    _, draft = await step(reviewer, draft, "approve")
    assert (await step(admin, draft, "release"))[0] == 403
    province = await console.person("province", Role.PROVINCE_ADMIN, PROVINCE)
    status, told = await step(province, await get(province, draft), "release")
    assert status == 200, told
    assert await release_due(console) == 1
    assert not (await get(province, draft))["courseware"].startswith("410300-")


async def test_a_city_restores_its_own_releases_and_nobody_elses(console: Console, tmp_path: Path) -> None:
    await article(console.origin, tmp_path, f"{CITY}-shi", "第二版", publisher=CITY)
    admin = await console.person("admin", Role.CITY_ADMIN, CITY)
    listed = json.loads((await admin.get("/api/v1/releases")).text)["releases"]
    first = {
        publisher: min(one["number"] for one in listed if one["publisher"] == publisher and one["lessons"])
        for publisher in (PROVINCE, CITY, OTHER_CITY)
    }
    for other in (PROVINCE, OTHER_CITY):
        status, _ = await call(admin, "POST", f"/releases/{first[other]}/restore", {})
        assert status == 403
    before = await console.origin.releases.current_catalog()
    status, told = await call(admin, "POST", f"/releases/{first[CITY]}/restore", {})
    assert (status, told["changed"]) == (200, True), told
    _, own = await console.origin.releases.current_catalog(CITY)
    assert [(one.id, one.version) for one in own.courseware] == [(f"{CITY}-shi", 3)]
    assert await console.origin.releases.current_catalog() == before
    page = (await admin.get("/console/releases")).text
    assert f'href="/console/releases/{first[CITY]}"' in page
    assert f'href="/console/releases/{first[PROVINCE]}"' not in page


async def test_who_may_ask_for_a_publish_into_whose_catalog(console: Console) -> None:
    admin = await console.person("admin", Role.CITY_ADMIN, CITY)
    common = {"title": "新", "uploads": ["0" * 32]}
    for publisher, expected in (("", 403), (OTHER_CITY, 403), ("410300", 403), (CITY, 404)):
        body = {**common, "publisher": publisher or None}
        status, told = await call(admin, "POST", "/publishes", body)
        assert (publisher, status) == (publisher, expected), told
    province = await console.person("province", Role.PROVINCE_ADMIN, PROVINCE)
    status, told = await call(
        province, "POST", "/publishes", {"title": "新", "uploads": ["0" * 32], "publisher": "410300"}
    )
    assert status == 400, told
