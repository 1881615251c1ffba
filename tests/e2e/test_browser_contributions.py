"""A contribution from a phone: files, words, one button; in the inbox it plays; the phone sees what became of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from support.console import CITY, COUNTY, Console, console_at
from support.console_pages import IN_A_BROWSER, page_of, with_part
from support.media import make_mp4
from support.origins import found_origin

from origin.accounts.permissions import Role

pytest.importorskip("playwright.async_api", reason="playwright is not installed")
pytestmark = [*IN_A_BROWSER, with_part("tus.min.js")]


@pytest.fixture
async def console(tmp_path: Path) -> AsyncIterator[Console]:
    root = await asyncio.to_thread(found_origin, tmp_path / "origin")
    async with console_at(root, uploads_floor_bytes="0") as opened:
        yield opened


async def test_from_a_phone_to_the_inbox_and_back(console: Console, chromium: Any, tmp_path: Path) -> None:
    observer = await console.person("observer", Role.CONTRIBUTOR, COUNTY)
    city = await console.person("city", Role.CITY_ADMIN, CITY)
    told: list[str] = []
    phone = {"viewport": {"width": 390, "height": 800}, "has_touch": True, "is_mobile": True}
    page = await page_of(chromium, observer, told, **phone)
    await page.goto(f"{console.url}/console/contribute")
    await page.get_by_label("标题").fill("中牟麦田见闻")
    held: list[Any] = []

    async def hold(route: Any) -> None:
        if route.request.method == "PATCH" and not held:
            held.append(route)
            return
        await route.continue_()

    await page.context.route("**/api/v1/uploads/*", hold)
    film = make_mp4(tmp_path / "麦田.mp4", seconds=2, width=320, height=180)
    await page.locator("[data-upload] input[type=file]").set_input_files(film)
    await page.wait_for_function("document.querySelector('[data-state=sending]') !== null")
    # Not before the file is there.
    await page.get_by_role("button", name="提交投稿").click()
    await page.get_by_text("请等文件上传并校验完成").wait_for()
    for _ in range(600):
        if held:
            break
        await page.wait_for_timeout(20)
    await held[0].continue_()
    await page.locator("[data-state=ready]").wait_for()
    await page.get_by_role("button", name="提交投稿").click()
    await page.get_by_text("已提交，等待审核").wait_for()
    assert await page.get_by_text("待审核", exact=True).count() == 1

    desk = await page_of(chromium, city, told, viewport={"width": 1366, "height": 800})
    await desk.goto(f"{console.url}/console/inbox")
    await desk.get_by_role("link", name="中牟麦田见闻").click()
    video = desk.locator("video")
    await video.evaluate("(one) => { one.muted = true; return one.play(); }")
    await desk.wait_for_timeout(50)
    assert await video.evaluate(
        "(one) => new Promise((done) => { one.ontimeupdate = () => done(one.currentTime > 0 && one.videoWidth); })"
    )
    await desk.get_by_label("原因（投稿人可见）").fill("请补充拍摄地点")
    await desk.get_by_role("button", name="退回修改").click()
    await desk.get_by_text("已通知投稿人").wait_for()
    await page.reload()
    await page.get_by_text("请补充拍摄地点").wait_for()
    await page.get_by_role("link", name="修改并重新提交").click()
    await page.get_by_label("简介").fill("中牟县官渡镇")
    await page.get_by_role("button", name="修改后重新提交").click()
    await page.get_by_text("已提交，等待审核").wait_for()
    await desk.goto(f"{console.url}/console/inbox")
    await desk.get_by_role("link", name="中牟麦田见闻").click()
    await desk.get_by_role("button", name="采用", exact=True).click()
    await desk.get_by_text("已采用。").wait_for()
    await page.reload()
    await page.get_by_text("已通过").wait_for()
    assert told == []
