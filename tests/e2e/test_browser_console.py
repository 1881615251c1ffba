"""The console in a real browser: keyboard, search while typing, narrow and wide, and nothing that the policy stops."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support.console import COUNTY, PASSWORD, PROVINCE, Console
from support.console_pages import IN_A_BROWSER, page_of
from support.receipts import article, make_edge

from origin.accounts.permissions import Role

pytest.importorskip("playwright.async_api", reason="playwright is not installed")
pytestmark = IN_A_BROWSER
LONG = "WWWWWWWWWW" * 12 + "春季田间管理" * 10


async def test_pages_fit_narrow_and_wide_screens_and_break_no_policy(
    console: Console, chromium: Any, tmp_path: Path
) -> None:
    await article(console.origin, tmp_path, "xiaomai", summary=LONG)
    await make_edge(console.origin, console.url, tmp_path / "edge", COUNTY)
    admin = await console.person("admin", Role.PROVINCE_ADMIN, PROVINCE)
    told: list[str] = []
    page = await page_of(chromium, admin, told)
    for path in (
        *("", "/lessons", "/lessons/xiaomai", "/edges", f"/edges/{COUNTY}-1", "/releases"),
        *("/people", "/people/1", "/audit", "/me", "/uploads", "/inbox", "/contribute"),
    ):
        await page.goto(f"{console.url}/console{path}")
        for width in (390, 1366):
            await page.set_viewport_size({"width": width, "height": 800})
            over = await page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
            assert over <= 0, (path, width)
            covered = await page.evaluate(
                """() => [...document.querySelectorAll("nav.main a, .own a, .own button")].filter((one) => {
                    const box = one.getBoundingClientRect();
                    const top = document.elementFromPoint(box.x + box.width / 2, box.y + box.height / 2);
                    return box.y < innerHeight && !one.contains(top);
                }).map((one) => one.textContent)"""
            )
            assert covered == [], (path, width)
    await page.context.close()
    assert told == []


async def test_the_keyboard_alone_signs_in_searches_and_recalls(
    console: Console, chromium: Any, tmp_path: Path
) -> None:
    for id_ in ("xiaomai", "yumi"):
        await article(console.origin, tmp_path, id_)
    await console.person("reviewer", Role.REVIEWER, PROVINCE)
    await console.browser().join(await console.reset("reviewer"), "")
    told: list[str] = []
    page = await page_of(chromium, console.browser(), told)
    await page.goto(f"{console.url}/console/lessons?state=offered")
    await page.keyboard.type("reviewer")
    await page.keyboard.press("Tab")
    await page.keyboard.type(PASSWORD)
    await page.keyboard.press("Enter")
    await page.wait_for_url("**/console/me")
    await page.get_by_role("button", name="启用双重验证").click()
    person = console.browser()
    person.secret = await page.locator("input[name=secret]").input_value()
    assert await page.locator("img.qr").evaluate("(one) => one.naturalWidth") > 100
    await page.locator("input[name=code]").fill(person.code())
    await page.keyboard.press("Enter")
    await page.get_by_text("恢复码").first.wait_for()
    await page.goto(f"{console.url}/console/lessons")
    await page.keyboard.press("?")
    await page.locator("dialog[open]").wait_for()
    await page.keyboard.press("Escape")
    await page.keyboard.press("/")
    await page.keyboard.type("yumi")
    await page.get_by_text("共 1 个课件").wait_for()
    assert await page.get_by_text("课件 xiaomai").count() == 0
    await page.get_by_role("link", name="课件 yumi").focus()
    await page.keyboard.press("Enter")
    asked: list[str] = []

    async def agree(dialog: Any) -> None:
        asked.append(dialog.message)
        await dialog.accept()

    page.on("dialog", agree)
    await page.locator("input[name=reason]").fill("内容有误")
    await page.keyboard.press("Enter")
    await page.get_by_role("status").wait_for()
    assert "已撤回" in await page.get_by_role("status").inner_text()
    assert asked == ["确认撤回《课件 yumi》？所有终端将无法播放。"]
    assert told == []
    await page.context.close()
