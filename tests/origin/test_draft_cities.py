"""Drafts of cities that publish: into whose catalog they go, who may release them, move them, see them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import update
from support.console import CITY, COUNTY, OTHER_CITY, OTHER_COUNTY, PROVINCE, Browser, Console, console_at
from support.drafts import call, get, make_draft, release_due, save, step, try_save
from support.origins import copy_origin, found_origin
from support.program import spawn
from support.receipts import article
from support.releases import AddressIn

from manifests.errors import BusyError, DeniedError, InputError
from manifests.names import Region
from origin.accounts.permissions import Role
from origin.database.engine import reading, writing
from origin.database.library import newest_release
from origin.database.tables_drafts import drafts
from origin.drafts.document import Document, encode_document
from origin.drafts.owners import PROVINCE as PROVINCES
from origin.drafts.owners import check_move, home_of, owner_of, owner_of_new
from origin.publish.cities import CityRight

SILENT_CITY, SILENT_COUNTY = "410300", "410322"
TEXT = "<p>返青期追肥</p>"
RIGHTS = tuple(CityRight(Region(city), ("key",)) for city in (CITY, OTHER_CITY))


@pytest.fixture(scope="module")
def founded(tmp_path_factory: pytest.TempPathFactory, address_in: AddressIn) -> Path:
    root = tmp_path_factory.mktemp("founded") / "origin"
    return found_origin(root, address_in(root))


@pytest.fixture
async def console(founded: Path, tmp_path: Path) -> AsyncIterator[Console]:
    async with console_at(copy_origin(founded, tmp_path / "origin")) as opened:
        for city in (CITY, OTHER_CITY):
            await opened.origin.releases.entrust(Region(city))
            await article(opened.origin, tmp_path, f"{city}-shi", publisher=city)
        await article(opened.origin, tmp_path, "sheng")
        yield opened


async def titles(console: Console, publisher: str = "") -> dict[str, tuple[str, ...]]:
    """What a catalog offers: audiences by id."""
    _, catalog = await console.origin.releases.current_catalog(publisher)
    return {one.id: tuple(one.audience) for one in catalog.courseware}


async def version(console: Console, publisher: str = "") -> int:
    async with reading(console.origin.engine) as connection:
        newest = await newest_release(connection, publisher)
    assert newest is not None
    return newest.catalog_version


async def judged(console: Console, author: Browser, region: str, **words: Any) -> dict[str, Any]:
    """A draft that a reviewer of a region approved."""
    reviewer = await console.person(f"reviewer{region}", Role.REVIEWER, region)
    draft = await make_draft(author, article=TEXT, **words)
    _, draft = await step(author, draft, "submit")
    status, draft = await step(reviewer, draft, "approve")
    assert (status, draft["state"]) == (200, "approved"), draft
    assert (await step(reviewer, draft, "release"))[0] == 403, "a reviewer publishes nothing"
    return draft


async def test_a_countys_draft_is_released_by_its_city_into_the_citys_catalog(console: Console) -> None:
    author = await console.person("author", Role.CONTRIBUTOR, COUNTY)
    draft = await judged(console, author, CITY)
    before = await titles(console), await titles(console, OTHER_CITY), await version(console)
    assert (draft["publisher"], draft["document"]["publisher"], draft["publishers"]) == (CITY, CITY, [])
    stranger = await console.person("stranger", Role.CITY_ADMIN, OTHER_CITY)
    assert (await step(stranger, draft, "release"))[0] == 404
    assert (await step(author, draft, "release"))[0] == 403
    city = await console.person("city", Role.CITY_ADMIN, CITY)
    assert "release" in (await get(city, draft))["steps"]
    assert (await step(city, draft, "release"))[0] == 200
    await release_due(console)
    done = await get(city, draft)
    assert (done["state"], done["courseware"][:10]) == ("released", f"{CITY}-kj-"), done["notes"]
    assert (await titles(console, CITY))[done["courseware"]] == (COUNTY,)
    assert (await titles(console), await titles(console, OTHER_CITY), await version(console)) == before


async def test_the_province_releases_a_citys_draft_into_the_citys_catalog(console: Console) -> None:
    city = await console.person("city", Role.CITY_ADMIN, CITY)
    draft = await judged(console, city, CITY)
    admin = await console.person("admin", Role.PROVINCE_ADMIN, PROVINCE)
    before = await titles(console)
    assert (await step(admin, draft, "release"))[0] == 200
    await release_due(console)
    done = await get(admin, draft)
    assert (await titles(console, CITY))[done["courseware"]] == (CITY,)
    assert await titles(console) == before


async def test_what_the_province_writes_for_a_city_is_meant_for_all_of_it(console: Console) -> None:
    admin = await console.person("admin", Role.PROVINCE_ADMIN, PROVINCE)
    draft = await judged(console, admin, PROVINCE, publisher=CITY)
    await step(admin, draft, "release")
    await release_due(console)
    done = await get(admin, draft)
    assert (await titles(console, CITY))[done["courseware"]] == (CITY,), done["notes"]


async def test_a_city_that_does_not_publish_hands_its_drafts_to_the_province(console: Console) -> None:
    city = await console.person("city", Role.CITY_ADMIN, SILENT_CITY)
    draft = await judged(console, city, SILENT_CITY)
    assert draft["publisher"] == PROVINCE
    assert "release" not in (await get(city, draft))["steps"]
    assert (await step(city, draft, "release"))[0] == 403
    admin = await console.person("admin", Role.PROVINCE_ADMIN, PROVINCE)
    await step(admin, draft, "release")
    await release_due(console)
    assert (await titles(console))[(await get(admin, draft))["courseware"]] == (SILENT_CITY,)


async def test_an_audience_lies_within_the_publishers_region(console: Console) -> None:
    city = await console.person("city", Role.CITY_ADMIN, CITY)
    admin = await console.person("admin", Role.PROVINCE_ADMIN, PROVINCE)
    draft = await make_draft(city, audience=[COUNTY])
    for browser in (city, admin):
        status, told = await try_save(browser, draft, audience=[OTHER_COUNTY])
        assert (status, "lies outside" in told["error"]) == (400, True)
    wide = await make_draft(admin, audience=[COUNTY, OTHER_COUNTY])
    assert (await try_save(admin, wide, publisher=CITY))[0] == 400
    moved = await save(admin, wide, publisher=CITY, audience=[COUNTY])
    assert (moved["publisher"], moved["document"]["audience"]) == (CITY, [COUNTY])


async def test_only_the_province_moves_a_draft_and_only_to_whoever_publishes(console: Console) -> None:
    city = await console.person("city", Role.CITY_ADMIN, CITY)
    admin = await console.person("admin", Role.PROVINCE_ADMIN, PROVINCE)
    draft = await make_draft(city, article=TEXT)
    for other in (PROVINCES, OTHER_CITY, SILENT_CITY):
        assert (await try_save(city, draft, publisher=other))[0] == 403
    for nobody in (SILENT_CITY, COUNTY, "420100", PROVINCE):
        assert (await try_save(admin, draft, publisher=nobody))[0] == 400
    assert (await try_save(admin, draft, publisher="nobody"))[0] == 400
    assert (await get(admin, draft))["publishers"] == [PROVINCES, CITY, OTHER_CITY]
    moved = await save(admin, draft, publisher=PROVINCES)
    assert moved["publisher"] == PROVINCE
    kept = await save(city, moved, summary="摘要", publisher="")
    assert kept["publisher"] == PROVINCE, "what names nobody leaves it as it is"


async def test_moving_takes_the_approval_and_the_citys_right_with_it(console: Console) -> None:
    city = await console.person("city", Role.CITY_ADMIN, CITY)
    draft = await judged(console, city, CITY)
    admin = await console.person("admin", Role.PROVINCE_ADMIN, PROVINCE)
    moved = await save(admin, draft, publisher=PROVINCES)
    assert moved["state"] == "editing"
    reviewer = await console.person("again", Role.REVIEWER, CITY)
    _, moved = await step(city, moved, "submit")
    _, moved = await step(reviewer, moved, "approve")
    assert (await step(city, moved, "release"))[0] == 403


async def test_a_next_version_goes_where_its_lesson_is(console: Console) -> None:
    city = await console.person("city", Role.CITY_ADMIN, CITY)
    admin = await console.person("admin", Role.PROVINCE_ADMIN, PROVINCE)
    other = await console.person("other", Role.CITY_ADMIN, OTHER_CITY)
    assert (await call(other, "POST", "/drafts", {"courseware": f"{CITY}-shi"}))[0] == 403
    for browser, id_, owner in ((city, "sheng", PROVINCE), (admin, f"{CITY}-shi", CITY), (city, f"{CITY}-shi", CITY)):
        status, draft = await call(browser, "POST", "/drafts", {"courseware": id_})
        assert (status, draft["publisher"], draft["publishers"]) == (200, owner, [])
        told = (await call(browser, "GET", f"/drafts/{draft['number']}/changes"))[1]
        assert told["fields"] == [], "what it says is what is offered"
    assert (await try_save(admin, draft, publisher=PROVINCES))[0] == 403
    reviewer = await console.person("reviewer", Role.REVIEWER, CITY)
    draft = await save(city, draft, title="新的题目")
    _, draft = await step(city, draft, "submit")
    _, draft = await step(reviewer, draft, "approve")
    await step(city, draft, "release")
    await release_due(console)
    done = await get(city, draft)
    assert (done["courseware"], done["version"]) == (f"{CITY}-shi", 2), done["notes"]


async def test_drafts_from_before_cities_published_stay_the_provinces(console: Console) -> None:
    city = await console.person("city", Role.CITY_ADMIN, CITY)
    old = await make_draft(city, title="旧稿")
    revising = (await call(city, "POST", "/drafts", {"courseware": f"{CITY}-shi"}))[1]
    for draft in (old, revising):
        async with writing(console.origin.engine) as connection:
            values = {"document": encode_document(Document(title="旧稿")), "publisher": ""}
            await connection.execute(update(drafts).where(drafts.c.id == draft["number"]).values(**values))
    assert ((await get(city, old))["publisher"], (await get(city, revising))["publisher"]) == (PROVINCE, CITY)
    there = await get(city, old)
    assert (await save(city, there))["revision"] == there["revision"], "what is the same already changes nothing"
    found = (await call(city, "GET", f"/drafts?city={CITY}"))[1]["drafts"]
    assert [one["number"] for one in found] == [revising["number"]]


@pytest.mark.parametrize(("key", "of_city", "of_province"), [(f"cities-{CITY}", True, False), ("targets", False, True)])
async def test_keys_are_away_or_here_for_the_publisher(
    console: Console, key: str, of_city: bool, of_province: bool
) -> None:
    city = await console.person("city", Role.CITY_ADMIN, CITY)
    admin = await console.person("admin", Role.PROVINCE_ADMIN, PROVINCE)
    own = await judged(console, city, CITY)
    provinces = await judged(console, admin, PROVINCE)
    keys = console.origin.paths.keys
    (keys / f"{key}.pem").rename(keys.parent / "away.pem")
    assert (await get(city, own))["keys_are_away"] is of_city
    assert (await get(admin, provinces))["keys_are_away"] is of_province
    assert (await get(city, own))["state"] == "approved"
    await step(city, own, "release")
    await release_due(console)
    assert (await get(city, own))["state"] == ("approved" if of_city else "released")


async def test_a_city_whose_right_was_withdrawn_releases_nothing(console: Console) -> None:
    city = await console.person("city", Role.CITY_ADMIN, CITY)
    draft = await judged(console, city, CITY)
    await console.origin.releases.withdraw(Region(CITY))
    await step(city, draft, "release")
    await release_due(console)
    back = await get(city, draft)
    assert (back["state"], "授权已撤销" in back["notes"][-1]["text"]) == ("approved", True)
    assert (await make_draft(city))["publisher"] == PROVINCE
    admin = await console.person("admin", Role.PROVINCE_ADMIN, PROVINCE)
    page = await admin.get(f"/console/drafts/{draft['number']}")
    assert f'value="{CITY}" data-home' in page.text, "what it is stays among the choices"
    assert (await save(admin, back, publisher=PROVINCES))["publisher"] == PROVINCE


async def test_a_citys_release_that_was_cut_off_is_made_once(
    console: Console, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await article(console.origin, tmp_path, "sheng", "第二版")  # so that the catalogs differ in their versions
    city = await console.person("city", Role.CITY_ADMIN, CITY)
    draft = await judged(console, city, CITY)
    await step(city, draft, "release")
    releasing = console.origin.drafts.releasing
    finish = releasing._finish

    async def cut(*_: object) -> None:
        raise BusyError("the process ended", zh="进程结束")

    monkeypatch.setattr(releasing, "_finish", cut)
    await release_due(console)
    monkeypatch.setattr(releasing, "_finish", finish)
    before = await version(console, CITY)
    await release_due(console)
    done = await get(city, draft)
    assert (done["state"], done["version"], done["catalog_version"]) == ("released", 1, before)
    assert await version(console, CITY) == before


async def test_the_citys_medium_is_enough_at_the_origins_machine(console: Console) -> None:
    city = await console.person("city", Role.CITY_ADMIN, CITY)
    draft = await judged(console, city, CITY)
    keys, root = console.origin.paths.keys, console.origin.paths.keys.parent
    drawer = root.parent / "drawer"
    drawer.mkdir()
    for name in (f"cities-{CITY}.pem", "targets.pem"):
        (keys / name).rename((drawer if name.startswith("cities") else root) / name)
    arguments = ("origin", "release-draft", root, draft["number"], "--keys", drawer, "--json")
    told = await asyncio.to_thread(spawn, *map(str, arguments))
    assert told.code == 0, told.err
    assert (await get(city, draft))["courseware"] in await titles(console, CITY)


async def test_the_overview_counts_what_one_may_release(console: Console) -> None:
    city = await console.person("city", Role.CITY_ADMIN, CITY)
    admin = await console.person("admin", Role.PROVINCE_ADMIN, PROVINCE)
    draft = await make_draft(city, article=TEXT)
    provinces = await save(admin, await make_draft(city, article=TEXT), publisher=PROVINCES)
    reviewer = await console.person("reviewer", Role.REVIEWER, CITY)
    for one in (draft, provinces):
        _, told = await step(city, one, "submit")
        await step(reviewer, told, "approve")
    for browser, query in ((city, f"state=approved&amp;city={CITY}"), (admin, "state=approved")):
        page = (await browser.get("/console")).text
        assert f'href="/console/drafts?{query}"' in page
        assert ("有 1 份" in page, "有 2 份" in page) == (browser is city, browser is admin)
    listed = await city.get(f"/console/drafts?state=approved&city={CITY}")
    assert f'href="/console/drafts/{draft["number"]}' in listed.text
    assert f'href="/console/drafts/{provinces["number"]}"' not in listed.text


async def test_the_pages_name_the_publisher_and_offer_its_counties(console: Console) -> None:
    city = await console.person("city", Role.CITY_ADMIN, CITY)
    admin = await console.person("admin", Role.PROVINCE_ADMIN, PROVINCE)
    draft = await make_draft(city, title="新稿", article=TEXT, audience=[COUNTY])
    path = f"/console/drafts/{draft['number']}"
    page = (await city.get(path)).text
    assert f'value="{COUNTY}"' in page
    assert f'value="{OTHER_COUNTY}"' not in page
    assert 'name="publisher"' not in page
    page = (await admin.get(path)).text
    assert f'<details data-city="{OTHER_CITY}" hidden>' in page
    assert f'<details data-city="{CITY}" open>' in page
    assert "发布到郑州市目录" in (await city.get(f"{path}/review")).text
    # The form alone moves it; what does not fit any more is said, and the next try is of the new publisher's regions.
    form = {"revision": draft["revision"], "title": "新稿", "article": TEXT, "audience_all": "0"}
    refused = await admin.submit(path, path, **form, publisher=OTHER_CITY, audience=COUNTY)
    assert (refused.status, f'<details data-city="{CITY}" open hidden>' in refused.text) == (400, True)
    await admin.submit(path, path, **form, publisher=OTHER_CITY, audience=OTHER_COUNTY)
    assert (await get(admin, draft))["publisher"] == OTHER_CITY


async def test_two_who_move_and_edit_meet_on_the_merge_page(console: Console) -> None:
    city = await console.person("city", Role.CITY_ADMIN, CITY)
    admin = await console.person("admin", Role.PROVINCE_ADMIN, PROVINCE)
    draft = await make_draft(city, title="新稿", article=TEXT)
    path = f"/console/drafts/{draft['number']}"
    seen = (await city.get(path)).field("seen")
    await save(admin, draft, publisher=PROVINCES)
    form = {"revision": draft["revision"], "seen": seen, "title": "改稿", "article": TEXT, "audience_all": "1"}
    page = await city.submit(path, path, **form)
    assert (page.status, 'name="take-title"' in page.text) == (409, True)
    assert 'name="take-publisher"' not in page.text, "what one may not choose is no conflict of one's own"
    page = await admin.submit(path, path, **form, publisher=CITY)
    assert 'name="take-publisher"' in page.text


async def test_a_pilot_of_a_citys_lesson_stays_within_the_city(console: Console) -> None:
    city = await console.person("city", Role.CITY_ADMIN, CITY)
    draft = await judged(console, city, CITY)
    for waves, status in (([[OTHER_COUNTY]], 400), ([[COUNTY]], 200)):
        body = {"step": "release", "revision": draft["revision"], "pilot": waves}
        got, told = await call(city, "POST", f"/drafts/{draft['number']}/step", body)
        assert got == status, told
    await release_due(console)
    done = await get(city, draft)
    assert done["state"] == "released", done["notes"]
    assert (await titles(console, CITY))[done["courseware"]] == (COUNTY,)


@pytest.mark.parametrize(
    ("author", "owner"),
    [
        (PROVINCE, PROVINCES),
        (CITY, CITY),
        (COUNTY, CITY),
        (OTHER_COUNTY, OTHER_CITY),
        (SILENT_CITY, PROVINCES),
        (SILENT_COUNTY, PROVINCES),
    ],
)
def test_a_new_draft_is_its_authors_citys_when_that_publishes(author: str, owner: str) -> None:
    assert owner_of_new(Region(author), None, RIGHTS) == owner
    assert owner_of_new(Region(author), "sheng", RIGHTS) == PROVINCES
    allowed = author == PROVINCE or author[:4] == CITY[:4]
    if allowed:
        assert owner_of_new(Region(author), f"{CITY}-shi", ()) == CITY
    else:
        with pytest.raises(DeniedError):
            owner_of_new(Region(author), f"{CITY}-shi", RIGHTS)


NAMES = st.sampled_from(["", PROVINCES, CITY, OTHER_CITY, SILENT_CITY])


@given(NAMES.filter(bool), NAMES, st.lists(NAMES.filter(bool)))
def test_a_move_keeps_the_owner_or_takes_one_of_the_choice(present: str, wanted: str, choice: list[str]) -> None:
    try:
        owner = check_move(present, wanted, choice)
    except InputError:
        assert wanted not in {"", present, *choice}
    else:
        assert owner == (wanted or present)
        assert owner in {present, *choice}


@given(st.sampled_from([PROVINCE, CITY, COUNTY, OTHER_COUNTY]), st.sampled_from([None, CITY, OTHER_CITY]))
def test_who_is_meant_lies_within_the_publisher(region: str, city: str | None) -> None:
    home = home_of(Region(region), Region(city) if city else None)
    assert home in {region, city}
    assert city is None or home[:4] == city[:4]
    assert owner_of(f"{city}-kj" if city else "kj") == (city or PROVINCES)
