"""Drafts: who may see, save, review and release them; what two people who save at once lose (nothing)."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from support.console import CITY, COUNTY, OTHER_CITY, OTHER_COUNTY, PROVINCE, Console, console_at
from support.drafts import call, get, make_draft, release_due, save, step, try_save, upload
from support.media import make_mp4, make_png
from support.origins import copy_origin, found_origin
from support.receipts import article
from support.releases import AddressIn

from manifests.instants import Instant, dump_instant
from origin.accounts.permissions import Role


@pytest.fixture(scope="module")
def founded(tmp_path_factory: pytest.TempPathFactory, address_in: AddressIn) -> Path:
    root = tmp_path_factory.mktemp("founded") / "origin"
    return found_origin(root, address_in(root))


@pytest.fixture
async def console(founded: Path, tmp_path: Path) -> AsyncIterator[Console]:
    async with console_at(copy_origin(founded, tmp_path / "origin")) as opened:
        yield opened


TEXT = "<h2>要点</h2><p>返青期<strong>追肥</strong></p>"


async def test_a_draft_is_written_reviewed_by_another_and_released(console: Console, tmp_path: Path) -> None:
    writer = await console.person("writer", Role.PROVINCE_ADMIN, PROVINCE)
    reviewer = await console.person("reviewer", Role.REVIEWER, PROVINCE)
    video = await upload(console, "writer", make_mp4(tmp_path / "麦田.mp4"))
    subtitles = tmp_path / "麦田.srt"
    subtitles.write_bytes("1\n00:00:00,000 --> 00:00:01,000\n返青\n".encode("gbk"))
    cues = await upload(console, "writer", subtitles)
    draft = await make_draft(
        writer,
        title="小麦春管",
        summary="三月",
        columns=["农业技术"],
        theme="2026年12月主题：冬管",
        audience=[CITY, COUNTY, OTHER_COUNTY],
        tags=["小麦"],
        poster="frame-3",
        article=TEXT,
        files=[{"upload": video, "name": "麦田.mp4"}, {"upload": cues, "name": "麦田.srt"}],
    )
    assert draft["document"]["audience"] == [CITY, OTHER_COUNTY]
    assert draft["kind"] == "video"
    status, draft = await step(writer, draft, "submit")
    assert (status, draft["state"]) == (200, "review")
    assert (await step(writer, draft, "approve"))[0] == 403
    status, draft = await step(reviewer, draft, "approve")
    assert (status, draft["state"]) == (200, "approved")
    assert (await step(reviewer, draft, "release"))[0] == 403, "a reviewer's word alone puts nothing on screens"
    status, promise = await call(writer, "GET", f"/drafts/{draft['number']}/promise?by=06:00")
    assert (status, promise["edges"]) == (200, 0)
    status, draft = await step(writer, draft, "release")
    assert (status, draft["state"]) == (200, "publishing")
    assert await release_due(console) == 1
    draft = await get(writer, draft)
    assert (draft["state"], draft["version"]) == ("released", 1)
    _, catalog = await console.origin.releases.current_catalog()
    (item,) = catalog.courseware
    assert (item.id, item.title, item.audience) == (draft["courseware"], "小麦春管", (CITY, OTHER_COUNTY))
    assert {one.role for one in item.files} >= {"video", "subtitle", "poster", "article"}
    assert [column.title for column in catalog.columns] == ["农业技术", "2026年12月主题：冬管"]
    assert await release_due(console) == 0
    kinds = [note["kind"] for note in draft["notes"]]
    assert kinds == ["submit", "approve", "release", "begin", "finish"]
    rows = json.loads((await writer.get(f"/api/v1/audit?subject={draft['number']}")).text)["changes"]
    assert [row["action"] for row in rows][::-1][:3] == ["draft.create", "draft.save", "draft.submit"]


async def test_a_revision_keeps_files_replaces_words_and_says_what_changed(console: Console, tmp_path: Path) -> None:
    await article(console.origin, tmp_path, "xiaomai", body="旧文", columns=("农业技术",))
    admin = await console.person("admin", Role.PROVINCE_ADMIN, PROVINCE)
    other = await console.person("other", Role.REVIEWER, PROVINCE)
    status, draft = await call(admin, "POST", "/drafts", {"courseware": "xiaomai"})
    assert (status, draft["document"]["title"], draft["base_version"]) == (200, "课件 xiaomai", 1)
    assert "旧文" in draft["document"]["article"]
    draft = await save(admin, draft, article="<p>新文</p>", title="课件（修订）")
    _, changes = await call(admin, "GET", f"/drafts/{draft['number']}/changes")
    assert {one["field"] for one in changes["fields"]} == {"title", "article"}
    _, draft = await step(admin, draft, "submit")
    _, draft = await step(other, draft, "approve")
    await step(admin, draft, "release")
    await release_due(console)
    draft = await get(admin, draft)
    assert (draft["courseware"], draft["version"]) == ("xiaomai", 2), draft["notes"]


async def test_the_second_of_two_who_save_is_shown_both_and_loses_nothing(console: Console) -> None:
    one = await console.person("one", Role.PROVINCE_ADMIN, PROVINCE)
    two = await console.person("two", Role.PROVINCE_ADMIN, PROVINCE)
    draft = await make_draft(one, title="甲", summary="原文")
    await save(one, draft, summary="甲的改动")
    status, told = await try_save(two, draft, title="乙的标题", summary="乙的改动")
    assert status == 409
    both = told["conflict"]
    assert both["mine"]["summary"] == "乙的改动"
    assert both["theirs"]["summary"] == "甲的改动"
    assert set(both["differing"]) == {"title", "summary"}
    present = await get(two, draft)
    assert present["document"]["summary"] == "甲的改动", "nothing was written"
    results = await asyncio.gather(*(try_save(two, present, summary=f"第{n}") for n in range(4)))
    assert sorted(status for status, _ in results) == [200, 409, 409, 409]


async def test_an_edit_takes_the_approval_away_and_a_stale_approval_is_none(console: Console) -> None:
    writer = await console.person("writer", Role.PROVINCE_ADMIN, PROVINCE)
    reviewer = await console.person("reviewer", Role.REVIEWER, PROVINCE)
    draft = await make_draft(writer, article=TEXT)
    _, seen = await step(writer, draft, "submit")
    changed = await save(writer, seen, summary="又改")
    assert changed["state"] == "editing"
    _, changed = await step(writer, changed, "submit")
    assert (await step(reviewer, seen, "approve"))[0] == 409, "that revision is not what is there"
    _, approved = await step(reviewer, changed, "approve")
    again = await save(writer, approved, summary="审后又改")
    assert (again["state"], again["reviewer"]) == ("editing", None)
    assert (await step(writer, again, "release"))[0] == 409


async def test_returning_needs_a_reason_which_the_author_sees(console: Console) -> None:
    author = await console.person("author", Role.CONTRIBUTOR, COUNTY)
    city = await console.person("city", Role.CITY_ADMIN, CITY)
    draft = await make_draft(author, article=TEXT)
    _, draft = await step(author, draft, "submit")
    assert (await step(city, draft, "return"))[0] == 400
    status, draft = await step(city, draft, "return", "请补充字幕")
    assert (status, draft["state"]) == (200, "returned")
    assert (await get(author, draft))["notes"][-1]["text"] == "请补充字幕"
    assert "您有 1 份稿件被退回" in (await author.get("/console")).text
    draft = await save(author, draft, summary="已补")
    assert draft["state"] == "returned"
    _, draft = await step(author, draft, "submit")
    assert "有 1 份稿件待审核" in (await city.get("/console")).text
    assert (await step(city, draft, "approve"))[1]["state"] == "approved"
    assert (await step(author, draft, "release"))[0] == 403
    assert (await step(city, draft, "release"))[0] == 403, "the catalog is the province's"


async def test_an_unfinished_draft_is_not_handed_in(console: Console, tmp_path: Path) -> None:
    writer = await console.person("writer", Role.PROVINCE_ADMIN, PROVINCE)
    draft = await make_draft(writer)
    status, told = await step(writer, draft, "submit")
    assert status == 409
    assert "学习" in told["error_zh"]
    picture = await upload(console, "writer", make_png(tmp_path / "a.png"))
    shown = '<p>见图<img src="a.png"></p>'
    draft = await save(writer, draft, article=shown)
    assert "a.png" in (await step(writer, draft, "submit"))[1]["error"]
    draft = await save(writer, draft, files=[{"upload": picture, "name": "a.png", "role": "picture"}])
    assert (await step(writer, draft, "submit"))[0] == 200


async def test_a_scheduled_draft_goes_out_at_its_hour_without_anybody(console: Console) -> None:
    writer = await console.person("writer", Role.PROVINCE_ADMIN, PROVINCE)
    reviewer = await console.person("reviewer", Role.REVIEWER, PROVINCE)
    author = await console.person("author", Role.CONTRIBUTOR, CITY)
    at = console.clock.now + 7200
    hour = dump_instant(Instant(at))
    draft = await make_draft(writer, article=TEXT, publish_at=hour)
    _, draft = await step(writer, draft, "submit")
    _, draft = await step(reviewer, draft, "approve")
    assert draft["state"] == "publishing", "who wrote it could release it, so it waits for its hour"
    theirs = await make_draft(author, article=TEXT, publish_at=hour)
    _, theirs = await step(author, theirs, "submit")
    _, theirs = await step(reviewer, theirs, "approve")
    assert theirs["state"] == "approved", "neither of the two could release it"
    assert await release_due(console) == 0
    status, held = await step(writer, draft, "hold")
    assert (status, held["state"]) == (200, "approved")
    await step(writer, held, "schedule")
    console.clock.now = at
    assert await release_due(console) == 1
    assert (await get(writer, draft))["state"] == "released"
    assert (await get(writer, theirs))["state"] == "approved"


async def test_where_the_keys_are_away_it_stays_approved_and_says_so(console: Console, tmp_path: Path) -> None:
    writer = await console.person("writer", Role.PROVINCE_ADMIN, PROVINCE)
    reviewer = await console.person("reviewer", Role.REVIEWER, PROVINCE)
    draft = await make_draft(writer, article=TEXT)
    _, draft = await step(writer, draft, "submit")
    _, draft = await step(reviewer, draft, "approve")
    (console.origin.paths.keys / "targets.pem").rename(tmp_path / "targets.pem")
    assert (await get(writer, draft))["keys_are_away"]
    assert "签名密钥不在本机" in (await writer.get(f"/console/drafts/{draft['number']}/review")).text
    await step(writer, draft, "release")
    await release_due(console)
    draft = await get(writer, draft)
    assert draft["state"] == "approved"
    assert "密钥" in draft["notes"][-1]["text"]
    (tmp_path / "targets.pem").rename(console.origin.paths.keys / "targets.pem")
    await step(writer, draft, "release")
    await release_due(console)
    assert (await get(writer, draft))["state"] == "released"


async def test_another_citys_draft_is_not_there_whoever_asks_and_however(console: Console, tmp_path: Path) -> None:
    author = await console.person("author", Role.CONTRIBUTOR, COUNTY)
    mine = await upload(console, "author", make_mp4(tmp_path / "a.mp4"))
    draft = await make_draft(author, article=TEXT, files=[{"upload": mine, "name": "a.mp4"}])
    number = draft["number"]
    for login, role, region in (
        ("othercity", Role.CITY_ADMIN, OTHER_CITY),
        ("otherreviewer", Role.REVIEWER, OTHER_CITY),
        ("othercontributor", Role.CONTRIBUTOR, OTHER_COUNTY),
    ):
        stranger = await console.person(login, role, region)
        for method, path, body in (
            ("GET", f"/drafts/{number}", None),
            ("GET", f"/drafts/{number}/changes", None),
            ("GET", f"/drafts/{number}/promise", None),
            ("GET", f"/drafts/{number}/progress", None),
            ("GET", f"/drafts/{number}/frames", None),
            ("PATCH", f"/drafts/{number}", {"revision": 1, "document": {"title": "x"}}),
            ("POST", f"/drafts/{number}/step", {"step": "submit", "revision": 2}),
            ("POST", f"/drafts/{number}/notes", {"text": "x"}),
        ):
            here = await call(stranger, method, path, body)
            nowhere = await call(stranger, method, path.replace(f"/{number}", "/999999"), body)
            assert here[0] in {403, 404}, (login, path)
            assert here[0] == nowhere[0], "whether it exists is not told"
            assert str(here[1]).replace(str(number), "N") == str(nowhere[1]).replace("999999", "N")
        for page in ("", "/review", "/preview", "/screen", "/promise", "/files/a.mp4", "/frames/1"):
            assert (await stranger.get(f"/console/drafts/{number}{page}", follow=False)).status == 404
        assert number not in [one["number"] for one in (await call(stranger, "GET", "/drafts"))[1]["drafts"]]
        if role is Role.REVIEWER:
            continue
        own = await make_draft(stranger, article=TEXT)
        stolen = await try_save(stranger, own, files=[{"upload": mine, "name": "a.mp4"}])
        assert stolen[0] == 404, "an upload of another city cannot be had by naming it"
    viewer = await console.person("viewer", Role.VIEWER, COUNTY)
    assert (await call(viewer, "GET", f"/drafts/{number}"))[0] == 403
    reviewer = await console.person("reviewer", Role.REVIEWER, CITY)
    assert (await call(reviewer, "GET", f"/drafts/{number}"))[0] == 200
    assert (await try_save(reviewer, draft, title="x"))[0] == 403
    assert (await call(author, "POST", "/drafts", {"region": OTHER_COUNTY}))[0] == 403
    assert (await try_save(author, draft, audience=[PROVINCE]))[0] == 403
