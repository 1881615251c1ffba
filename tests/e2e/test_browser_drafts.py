"""A lesson from the editor to the screens, by two people in real browsers; and what a closed tab loses: nothing."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from support.console import CITY, COUNTY, OTHER_COUNTY, PROVINCE, Console, console_at
from support.console_pages import IN_A_BROWSER, page_of, with_part
from support.drafts import get, make_draft, save
from support.media import make_mp4, make_png
from support.receipts import article, make_edge

from manifests.names import Region
from origin.accounts.permissions import Role

pytest.importorskip("playwright.async_api", reason="playwright is not installed")
pytestmark = [*IN_A_BROWSER, with_part("quill.js")]


@pytest.fixture
async def console(founded: Path, tmp_path: Path) -> AsyncIterator[Console]:
    root = Path(shutil.copytree(founded, tmp_path / "origin"))
    async with console_at(root, uploads_floor_bytes="0") as opened:
        releasing = asyncio.create_task(opened.origin.drafts.releasing.run(0.2))
        yield opened
        releasing.cancel()
        with suppress(asyncio.CancelledError):
            await releasing


async def _write(page: Any, console: Console, tmp_path: Path) -> None:
    """Begin a draft, bring files in, write an article with a picture, have all of it saved by itself."""
    await page.goto(f"{console.url}/console/drafts")
    await page.locator("form.begin input[name=title]").fill("春季麦田管理")
    await page.get_by_role("button", name="新建").click()
    await page.locator("form[data-draft]").wait_for()
    files = [make_mp4(tmp_path / "麦田.mp4", seconds=3), make_png(tmp_path / "苗情.png")]
    await page.locator("[data-upload] input[type=file]").set_input_files([str(one) for one in files])
    await page.locator("[data-files] [data-file]").nth(1).wait_for()
    await page.locator("textarea[name=summary]").fill("返青期管理要点")
    await page.get_by_text("已自动保存").wait_for()
    await page.locator(".ql-editor").click()
    await page.keyboard.type("看苗追肥")
    await page.locator("button.ql-image").click()
    await page.locator("dialog .pictures button").click()
    await page.locator(".ql-editor img").wait_for()
    await page.locator("summary", has_text="郑州市").locator("input").check()
    await page.locator("input[name=theme_month]").fill("2026-12")
    await page.locator("input[name=theme_title]").fill("冬季果园")
    await page.get_by_text("门户显示为专栏：2026年12月主题：冬季果园").wait_for()


@pytest.mark.timeout(400)
async def test_a_lesson_goes_from_the_editor_over_another_persons_desk_to_the_catalog(
    console: Console, chromium: Any, tmp_path: Path
) -> None:
    await make_edge(console.origin, console.url, tmp_path / "edge", COUNTY)
    writer = await console.person("writer", Role.PROVINCE_ADMIN, PROVINCE)
    reviewer = await console.person("reviewer", Role.REVIEWER, PROVINCE)
    told: list[str] = []
    page = await page_of(chromium, writer, told)
    await _write(page, console, tmp_path)
    await page.get_by_role("button", name="保存", exact=True).click()
    await page.get_by_text("稿件已保存").wait_for()
    assert await page.locator(".ql-editor img").count() == 1
    await page.locator(".frame input").nth(1).check()
    assert await page.locator(".frame img").nth(1).evaluate("(one) => one.decode().then(() => one.naturalWidth)") > 0
    await page.get_by_role("button", name="保存并预览").click()
    screen = page.frame_locator("iframe")
    await screen.get_by_text("看苗追肥").wait_for()
    loaded = """(one) => new Promise((done) => {
        if (one.readyState) done(one.duration);
        one.onloadedmetadata = () => done(one.duration);
    })"""
    assert await screen.locator("video").evaluate(loaded) > 2
    assert await screen.locator(".text img").evaluate("(one) => one.naturalWidth") > 0
    await page.get_by_role("link", name="春季麦田管理").click()
    await page.get_by_role("button", name="保存并提交审核").click()
    await page.get_by_text("已提交审核").wait_for()
    assert await page.get_by_role("button", name="审核通过").count() == 0, "not one's own"
    number = page.url.split("/drafts/")[1].split("/")[0]

    other = await page_of(chromium, reviewer, told)
    await other.goto(f"{console.url}/console/drafts")
    await other.get_by_role("link", name="春季麦田管理").click()
    await other.locator("form.say textarea").fill("内容准确")
    await other.get_by_role("button", name="发表").click()
    await other.get_by_role("button", name="审核通过").click()
    await other.get_by_text("操作已完成").wait_for()

    await page.goto(f"{console.url}/console/drafts/{number}/review")
    await page.get_by_text("1 台边缘服务器中").wait_for()
    await page.get_by_role("button", name="立即发布").click()
    await page.get_by_text("已发布为课件").wait_for()
    _, catalog = await console.origin.releases.current_catalog()
    (item,) = catalog.courseware
    assert (item.title, item.audience) == ("春季麦田管理", ("410100",))
    assert {"video", "poster", "article", "picture"} <= {one.role for one in item.files}
    assert [one.title for one in catalog.columns] == ["2026年12月主题：冬季果园"]
    assert told == []


async def test_what_was_typed_survives_a_closed_tab_and_is_never_put_back_unasked(
    console: Console, chromium: Any
) -> None:
    writer = await console.person("writer", Role.PROVINCE_ADMIN, PROVINCE)
    draft = await make_draft(writer, title="原题", article="<p>原文</p>")
    told: list[str] = []
    page = await page_of(chromium, writer, told)

    async def lost(route: Any) -> None:
        if route.request.method == "POST":
            await route.abort()
        else:
            await route.continue_()

    await page.route("**/console/drafts/*", lost)
    address = f"{console.url}/console/drafts/{draft['number']}"
    await page.goto(address)
    await page.locator(".ql-editor").click()
    await page.keyboard.press("End")
    await page.keyboard.type("，断网时写的")
    await page.locator("input[name=title]").fill("断网时改的题")
    await page.close()
    page = await page.context.new_page()
    await page.goto(address)
    assert await page.locator("input[name=title]").input_value() == "原题"
    await page.get_by_role("button", name="恢复").click()
    assert await page.locator("input[name=title]").input_value() == "断网时改的题"
    await page.get_by_text("已自动保存").wait_for()
    saved = await get(writer, draft)
    assert saved["document"]["title"] == "断网时改的题"
    assert "断网时写的" in saved["document"]["article"]
    await page.reload()
    assert not await page.locator("[data-kept]").is_visible()


async def test_pages_of_drafts_fit_narrow_and_wide_screens_and_break_no_policy(
    console: Console, chromium: Any, tmp_path: Path
) -> None:
    await article(console.origin, tmp_path, "xiaomai", columns=("W" * 60,))
    writer = await console.person("writer", Role.PROVINCE_ADMIN, PROVINCE)
    draft = await make_draft(
        writer, title="W" * 200, summary="W" * 4000, tags=["W" * 60], article=f"<p>{'W' * 500}</p>"
    )
    told: list[str] = []
    page = await page_of(chromium, writer, told)
    number = draft["number"]
    paths = (
        "",
        f"/{number}",
        f"/{number}/review",
        f"/{number}/preview",
        f"/{number}/preview?on=phone",
        f"/{number}/screen",
    )
    for path in paths:
        await page.goto(f"{console.url}/console/drafts{path}")
        for width in (390, 1366, 1920):
            await page.set_viewport_size({"width": width, "height": 900})
            over = await page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
            assert over <= 0, (path, width)
    await page.goto(f"{console.url}/console/drafts/{number}")
    await save(writer, draft, summary="别人改的")
    await page.locator("input[name=title]").fill("我改的")
    await page.get_by_role("button", name="保存", exact=True).click()
    await page.get_by_text("两个版本").first.wait_for()
    assert await page.locator("input[name=take-title][value=mine]").is_checked()
    assert await page.locator("input[name=take-summary][value=theirs]").is_checked(), "only they changed it"
    await page.set_viewport_size({"width": 390, "height": 900})
    assert await page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth") <= 0
    await page.get_by_role("button", name="按所选内容保存").click()
    await page.get_by_text("已按所选内容保存").wait_for()
    merged = await get(writer, draft)
    assert (merged["document"]["title"], merged["document"]["summary"]) == ("我改的", "别人改的")
    assert [one for one in told if "409" not in one] == []


async def test_the_province_moves_a_draft_to_a_city_and_sees_its_counties_alone(
    console: Console, chromium: Any, tmp_path: Path
) -> None:
    await console.origin.releases.entrust(Region(CITY))
    admin = await console.person("admin", Role.PROVINCE_ADMIN, PROVINCE)
    draft = await make_draft(admin, title="大蒜越冬", audience=[OTHER_COUNTY])
    told: list[str] = []
    page = await page_of(chromium, admin, told)
    await page.goto(f"{console.url}/console/drafts/{draft['number']}")
    select, cities = page.locator("select[name=publisher]"), page.locator("details[data-city]:visible")
    assert await cities.count() == 18
    await page.get_by_text("河南省全部").wait_for()
    await select.select_option(CITY)
    await page.get_by_text("郑州市全部").wait_for()
    assert await cities.count() == 1
    await page.locator("summary", has_text="郑州市").locator("input").check()
    await page.get_by_role("button", name="保存", exact=True).click()
    await page.get_by_text("稿件已保存").wait_for()
    assert (await get(admin, draft))["document"]["publisher"] == CITY
    assert await cities.count() == 1
    await select.select_option("province")
    assert await cities.count() == 18
    assert told == []
