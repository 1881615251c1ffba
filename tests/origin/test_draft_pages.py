"""The drafts' pages without a script: forms alone begin, fill, merge and release a draft."""

from __future__ import annotations

import json
import re
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.console import CITY, COUNTY, OTHER_COUNTY, PROVINCE, Browser, Console, Page
from support.drafts import call, get, make_draft, release_due, save, step
from support.receipts import article

from manifests.errors import InputError
from manifests.instants import dump_instant
from manifests.names import Region
from origin.accounts.permissions import Role
from origin.stations.regions import load_regions
from origin.web.console.draft_form import read_beijing, region_tree, show_beijing, split_list


def _hidden(page: Page, name: str) -> str:
    return page.field(name)


async def _send(browser: Browser, number: int, page: Page, **fields: Any) -> Page:
    """Send the editor's form as it was shown, some of its fields typed over."""
    own = {"form_token": _hidden(page, "form_token"), "revision": _hidden(page, "revision"), "seen": page.field("seen")}
    origin = {"Origin": browser.base, "Sec-Fetch-Site": "same-origin"}
    return await browser.post(f"/console/drafts/{number}", own | fields, follow=True, **origin)


async def test_forms_alone_begin_and_fill_a_draft(console: Console, tmp_path: Path) -> None:
    await article(console.origin, tmp_path, "xiaomai", columns=("农业技术", "2026年11月主题：秋种"))
    admin = await console.person("admin", Role.PROVINCE_ADMIN, PROVINCE)
    page = await admin.submit("/console/drafts", "/console/drafts", title="玉米")
    assert page.path == "/console/drafts/1"
    page = await _send(
        admin,
        1,
        page,
        title="玉米田间管理",
        summary="一\r\n二",
        credit="省农科院",
        **{"column-0": "农业技术"},
        columns_new="果树栽培，水产、水产",
        theme="new",
        theme_month="2026-12",
        theme_title="冬藏",
        tags="玉米、夏管",
        priority="8",
        audience_all="0",
        audience=CITY,
        publish_at="2030-01-01T08:00",
        expires="2031-01-01T00:00",
        article="<p>正文<script>alert(1)</script></p>",
        poster="auto",
        hls="1",
    )
    assert (page.status, page.path) == (200, "/console/drafts/1")
    _, draft = await call(admin, "GET", "/drafts/1")
    words = draft["document"]
    assert words["columns"] == ["农业技术", "果树栽培", "水产"]
    assert words["theme"] == "2026年12月主题：冬藏"
    assert (words["summary"], words["priority"], words["audience"]) == ("一\n二", 8, [CITY])
    assert (words["article"], words["expires"]) == ("<p>正文</p>", "2030-12-31T16:00:00Z")
    assert draft["publish_at"] == "2030-01-01T00:00:00Z", "eight hours before Beijing's"
    page = await admin.get("/console/drafts/1")
    assert 'value="2030-01-01T08:00"' in page.text
    assert re.search(r'value="2026年12月主题：冬藏" checked', page.text)
    assert re.search(rf'value="{CITY}" checked', page.text)


async def test_what_was_typed_wrong_is_shown_again_with_what_is_wrong(console: Console) -> None:
    admin = await console.person("admin", Role.PROVINCE_ADMIN, PROVINCE)
    draft = await make_draft(admin, title="甲")
    number = draft["number"]
    page = await admin.get(f"/console/drafts/{number}")
    await save(admin, draft, credit="别人")
    wrong = await _send(admin, number, page, title="长" * 201, summary="我写的", theme="", poster="auto")
    assert wrong.status == 400
    wrong = await _send(admin, number, page, title="好题", summary="我写的", tags="长" * 61, poster="auto")
    assert wrong.status == 400
    assert "我写的" in wrong.text
    assert wrong.field("revision") == "1", "a next try must not overwrite what others saved meanwhile"
    again = await _send(admin, number, wrong, title="好题", summary="我写的", poster="auto")
    assert again.status == 409
    assert "我写的" in again.text


async def test_a_merge_takes_what_was_chosen_and_keeps_the_rest_in_the_notes(console: Console) -> None:
    one = await console.person("one", Role.PROVINCE_ADMIN, PROVINCE)
    two = await console.person("two", Role.PROVINCE_ADMIN, PROVINCE)
    draft = await make_draft(one, title="题", summary="原文", article="<p>旧</p>")
    number = draft["number"]
    page = await two.get(f"/console/drafts/{number}")
    theirs = await save(one, draft, summary="对方的简介", article="<p>对方的正文</p>")
    fields = {"title": "我的题", "summary": "我的简介", "article": "<p>旧</p>", "poster": "auto", "hls": "1"}
    page = await _send(two, number, page, **fields)
    assert page.status == 409
    assert re.search(r'name="take-title" value="mine" checked', page.text)
    assert re.search(r'name="take-summary" value="mine" checked', page.text), "both changed it"
    assert re.search(r'name="take-article" value="theirs" checked', page.text), "only they changed it"
    mine = unescape(re.search(r'<textarea name="mine"[^>]*>(.*?)</textarea>', page.text, re.DOTALL)[1])  # type: ignore[index]
    assert json.loads(mine)["document"]["summary"] == "我的简介"
    merged = await two.post(
        f"/console/drafts/{number}/merge",
        {
            "form_token": page.field("form_token"),
            "revision": theirs["revision"],
            "mine": mine,
            "take-title": "mine",
            "take-summary": "theirs",
            "take-article": "theirs",
        },
        follow=True,
        Origin=two.base,
    )
    assert merged.status == 200
    now = await get(two, draft)
    words = now["document"]
    assert (words["title"], words["summary"], words["article"]) == ("我的题", "对方的简介", "<p>对方的正文</p>")
    told = now["notes"][-1]["text"]
    assert "我的简介" in told, "what was not taken is not lost"
    broken = {"form_token": page.field("form_token"), "revision": "1", "mine": "[1"}
    assert (await two.post(f"/console/drafts/{number}/merge", broken, Origin=two.base)).status == 400


async def test_a_review_by_forms_from_approval_to_the_promise_and_the_release(console: Console) -> None:
    writer = await console.person("writer", Role.PROVINCE_ADMIN, PROVINCE)
    reviewer = await console.person("reviewer", Role.REVIEWER, PROVINCE)
    draft = await make_draft(writer, title="稿", article="<p>x</p>")
    number = draft["number"]
    review = f"/console/drafts/{number}/review"
    page = await writer.get(review)
    assert "提交审核" in page.text
    revision = draft["revision"]
    await writer.submit(review, f"/console/drafts/{number}/step", step="submit", revision=revision)
    page = await reviewer.get(f"/console/drafts/{number}", follow=False)
    assert page.status == 303, "who may not edit is shown what there is"
    page = await reviewer.submit(review, f"/console/drafts/{number}/step", step="return", revision=revision)
    assert page.status == 400
    assert "请填写原因" in page.text
    page = await reviewer.submit(review, f"/console/drafts/{number}/step", step="approve", revision=revision)
    assert "操作已完成" in page.text
    page = await writer.get(f"{review}?promise=1")
    assert page.text.index("没有应收到此课件的边缘服务器") < page.text.index('value="release"'), (
        "the promise comes first"
    )
    await writer.submit(review, f"/console/drafts/{number}/step", step="release", revision=revision)
    await release_due(console)
    assert "已发布为课件" in (await writer.get(review)).text
    assert (await writer.get("/console/drafts?state=released&part=list")).text.count("<tr>") == 2


async def test_lists_filter_by_state_author_source_and_words(console: Console) -> None:
    admin = await console.person("admin", Role.PROVINCE_ADMIN, PROVINCE)
    author = await console.person("author", Role.CONTRIBUTOR, COUNTY)
    for title in ("小麦春管", "玉米 Corn"):
        await make_draft(admin, title=title)
    theirs = await make_draft(author, title="小麦见闻", article="<p>x</p>")
    await step(author, theirs, "submit")

    async def found(query: str, browser: Browser = admin) -> set[str]:
        return {one["title"] for one in (await call(browser, "GET", f"/drafts?{query}"))[1]["drafts"]}

    assert await found("") == {"小麦春管", "玉米 Corn", "小麦见闻"}
    assert await found("state=review") == {"小麦见闻"}
    assert await found("mine=true") == {"小麦春管", "玉米 Corn"}
    assert await found("text=小麦") == {"小麦春管", "小麦见闻"}
    assert await found("text=corn") == {"玉米 Corn"}
    assert await found("source=contribution") == set()
    assert await found("", author) == {"小麦见闻"}, "a county sees its own"
    assert "没有符合条件" in (await admin.get("/console/drafts?text=nothing")).text
    counts = (await call(admin, "GET", "/drafts?state=review"))[1]
    assert (counts["total"], counts["counts"]) == (1, {"editing": 2, "review": 1})


def test_regions_are_a_tree_that_shows_what_is_chosen_in_part() -> None:
    rows = load_regions().rows
    tree = region_tree(rows, [CITY, OTHER_COUNTY], Region(PROVINCE))
    assert len(tree) == 18
    assert sum(len(city["counties"]) for city in tree) == 157
    by_code = {city["code"]: city for city in tree}
    assert by_code[CITY]["on"]
    assert not by_code[CITY]["part"]
    assert by_code["410200"]["part"]
    assert [one["code"] for one in by_code["410200"]["counties"] if one["on"]] == [OTHER_COUNTY]
    (county,) = region_tree(rows, [], Region(COUNTY))
    assert [one["code"] for one in county["counties"]] == [COUNTY]


@given(at=st.integers(0, 4_000_000_000))
def test_beijing_time_goes_through_a_form_and_back(at: int) -> None:
    text = dump_instant(at - at % 60)  # type: ignore[arg-type]
    assert read_beijing(show_beijing(text)) == text


def test_odd_times_and_lists_are_taken_or_refused_and_never_guessed() -> None:
    assert read_beijing(" ") is None
    for text in ("明天", "2026-13-01T00:00", "2026-02-30T00:00", "0000-01-01T00:00", "2026-01-01"):
        with pytest.raises(InputError):
            read_beijing(text)
    assert split_list("a，b、c,, ;d\n") == ["a", "b", "c", "d"]
