"""Restoring a release and starting a pilot in a real browser: the plan first, regions from the tree, all widths."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from support.console import COUNTY, PROVINCE, Console, console_at
from support.console_pages import IN_A_BROWSER, page_of
from support.receipts import article, make_edge
from support.releases import offered

from manifests.names import Region
from origin.accounts.permissions import Role
from origin.publish.pilot_plan import PilotWish, Terms
from origin.publish.piloting import Pilots

pytest.importorskip("playwright.async_api", reason="playwright is not installed")
pytestmark = IN_A_BROWSER
LONG = "春季田间管理" * 10 + "W" * 90
WIDTHS = (390, 1366, 1920)


@pytest.fixture
async def console(founded: Path, tmp_path: Path) -> AsyncIterator[Console]:
    """A lesson in two versions, one that was recalled, an edge in one county."""
    async with console_at(Path(shutil.copytree(founded, tmp_path / "origin"))) as opened:
        await article(opened.origin, tmp_path, "yumi", "第一版")
        await article(opened.origin, tmp_path, "huasheng")
        await article(opened.origin, tmp_path, "yumi", "第二版")
        await opened.origin.releases.recall("huasheng", LONG)
        await make_edge(opened.origin, opened.url, tmp_path / "edge", COUNTY)
        yield opened


@pytest.fixture
async def page(console: Console, chromium: Any) -> AsyncIterator[Any]:
    """A page of a signed-in province admin; at its end nothing may have been said on the browser's console."""
    admin = await console.person("admin", Role.PROVINCE_ADMIN, PROVINCE)
    told: list[str] = []
    opened = await page_of(chromium, admin, told)
    opened.on("dialog", lambda dialog: dialog.accept())
    yield opened
    assert told == []


async def test_a_release_is_restored_with_one_recall_undone(console: Console, page: Any) -> None:
    await page.goto(f"{console.url}/console/releases")
    await page.locator("a[href='/console/releases/3']").click()
    await page.get_by_text("取消撤回").check()
    await page.get_by_role("button", name="更新方案").click()
    await page.get_by_text("按要求取消撤回").wait_for()
    await page.get_by_role("button", name="恢复", exact=True).click()
    await page.get_by_role("status").wait_for()
    assert "已恢复" in await page.get_by_role("status").inner_text()
    assert await offered(console.origin.releases) == {"yumi": 3, "huasheng": 2}


async def test_regions_of_a_pilot_are_chosen_from_the_tree(console: Console, page: Any) -> None:
    await page.goto(f"{console.url}/console/lessons/yumi/pilot?version=1")
    await page.get_by_text("从地区表中选择").click()
    await page.locator("summary", has_text="郑州市").click()
    first, second = page.locator("input[name=wave1]"), page.locator("input[name=wave2]")
    await page.get_by_role("button", name="中牟县").click()
    await page.get_by_role("button", name="巩义市").click()
    assert await first.input_value() == "中牟县 巩义市"
    await page.get_by_role("button", name="巩义市").click()
    assert await first.input_value() == "中牟县", "pressed again, it is out"
    await second.focus()
    await page.get_by_role("button", name="巩义市").click()
    await page.locator("summary", has_text="开封市").click()
    await page.locator("[data-area='开封市']").click()
    assert (await first.input_value(), await second.input_value()) == ("中牟县", "巩义市 开封市")
    await first.focus()
    await page.get_by_role("button", name="巩义市").click()
    assert (await first.input_value(), await second.input_value()) == ("中牟县 巩义市", "开封市"), "it moves over"
    await page.get_by_role("button", name="查看方案").click()
    await page.get_by_text("第 1 版的内容将以第 3 版发布").wait_for()
    await page.get_by_role("button", name="开始试点").click()
    await page.wait_for_url("**/console/pilots/1**")
    (running,) = await Pilots(console.origin.releases).look_at_all()
    assert running.pilot.waves == (("410122", "410181"), ("410200",))


async def test_pages_fit_narrow_and_wide_screens(console: Console, page: Any) -> None:
    before = ("/lessons/yumi/pilot?version=1&wave1=410122", "/lessons/huasheng/pilot", "/pilots")
    after = ("", "/releases", "/releases/3", "/releases/3?recalled=huasheng", "/pilots", "/pilots/1", "/lessons/yumi")
    await _check_widths(console, page, before)
    wish = PilotWish(((Region(COUNTY),), (Region("410200"),)), Terms())
    await Pilots(console.origin.releases).start("yumi", 1, wish)
    await _check_widths(console, page, after)


async def _check_widths(console: Console, page: Any, paths: tuple[str, ...]) -> None:
    for path in paths:
        await page.goto(f"{console.url}/console{path}")
        for width in WIDTHS:
            await page.set_viewport_size({"width": width, "height": 800})
            over = await page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
            assert over <= 0, (path, width)
