"""Sending files from a real browser: a closed page, a paused upload, a file that is refused; and how it looks."""

from __future__ import annotations

import asyncio
import hashlib
import re
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from support.console import CITY, Browser, Console, console_at
from support.console_pages import DEADLINE_MS, IN_A_BROWSER, with_part
from support.media import make_mp4

from origin.accounts.permissions import Role

pytest.importorskip("playwright.async_api", reason="playwright is not installed")
pytestmark = [*IN_A_BROWSER, with_part("tus.min.js")]
CHUNK = 32 << 20


@pytest.fixture
async def console(founded: Path, tmp_path: Path) -> AsyncIterator[Console]:
    root = Path(shutil.copytree(founded, tmp_path / "origin"))
    async with console_at(root, uploads_floor_bytes="0") as opened:
        yield opened


@pytest.fixture(scope="module")
def lesson(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real video, longer than one chunk."""
    path = make_mp4(tmp_path_factory.mktemp("lesson") / "春季麦田管理.mp4", seconds=2)
    filler = (8 << 20) + CHUNK
    with path.open("ab") as file:
        file.write(filler.to_bytes(4, "big") + b"free" + bytes(filler - 8))
    return path


async def opened_by(chromium: Any, person: Browser) -> Any:
    """A context of a browser in which somebody is signed in."""
    context = await chromium.new_context(viewport={"width": 1366, "height": 800})
    context.set_default_timeout(DEADLINE_MS)
    await context.add_cookies([{"name": "yj_session", "value": person.cookie("yj_session"), "url": person.base}])
    return context


async def test_an_upload_goes_on_after_the_page_was_closed(console: Console, chromium: Any, lesson: Path) -> None:
    person = await console.person("studio", Role.CONTRIBUTOR, CITY)
    context = await opened_by(chromium, person)
    offsets: list[int] = []
    stopped = asyncio.Event()

    async def hold(route: Any) -> None:
        if route.request.method == "PATCH":
            offsets.append(int(route.request.headers["upload-offset"]))
            if offsets == [0, CHUNK]:
                stopped.set()
                return  # the page is closed before this chunk is sent, or with a part of it sent
        await route.continue_()

    await context.route("**/api/v1/uploads/*", hold)
    told: list[str] = []
    page = await context.new_page()
    page.on("pageerror", lambda error: told.append(str(error)))
    page.on("console", lambda message: told.append(message.text))
    await page.goto(f"{console.url}/console/uploads")
    await page.locator("[data-upload] input[type=file]").set_input_files(lesson)
    await asyncio.wait_for(stopped.wait(), 60)
    assert re.search(r"32\.0 MiB / 40\.", await page.locator("[data-told]").inner_text())
    await page.close(run_before_unload=False)
    assert told == []

    page = await context.new_page()
    page.on("console", lambda message: told.append(message.text))
    await page.goto(f"{console.url}/console/uploads")
    assert "再次选择同一文件即可续传" in await page.locator("table.list").inner_text()
    await page.locator("[data-upload] input[type=file]").set_input_files(lesson)
    await page.locator("[data-state=ready]").wait_for()
    assert len(offsets) == 3
    assert offsets[2] >= CHUNK
    assert await page.locator("[data-sum]").inner_text() == hashlib.sha256(lesson.read_bytes()).hexdigest()
    assert "视频" in await page.locator("[data-told]").inner_text()
    assert told == []
    await context.close()


async def test_a_file_that_is_dropped_paused_and_refused(console: Console, chromium: Any) -> None:
    person = await console.person("studio", Role.CONTRIBUTOR, CITY)
    context = await opened_by(chromium, person)
    page = await context.new_page()
    await page.goto(f"{console.url}/console/uploads")
    held = asyncio.Event()

    async def hold(route: Any) -> None:
        if route.request.method == "PATCH" and not held.is_set():
            held.set()
            return
        await route.continue_()

    await context.route("**/api/v1/uploads/*", hold)
    # A name that would be markup: it is text wherever it stands.
    data = await page.evaluate_handle(
        """() => {
            const data = new DataTransfer();
            data.items.add(new File(["no film at all"], "<img src=x onerror=alert(1)>.mp4"));
            data.items.add(new File(["no film at all"], "假.mp4"));
            return data;
        }"""
    )
    await page.locator("[data-upload]").dispatch_event("drop", {"dataTransfer": data})
    rows = page.locator("[data-list] > li")
    assert await rows.count() == 2
    await asyncio.wait_for(held.wait(), 60)
    bad, fake = rows.nth(0), rows.nth(1)
    await bad.get_by_text("不合规").wait_for()  # the name is refused before the first byte
    await fake.get_by_role("button", name="暂停").click()
    await fake.get_by_text("已暂停").wait_for()
    await fake.get_by_role("button", name="继续").click()
    await fake.get_by_text("与扩展名 .mp4 不符").wait_for()
    assert await fake.get_attribute("data-state") == "refused"
    await fake.get_by_role("button", name="移除").click()
    await bad.get_by_role("button", name="移除").click()
    assert await rows.count() == 0
    await page.reload()
    await page.get_by_text("还没有上传任何文件").wait_for()
    await context.close()


async def test_signing_in_again_loses_nothing(console: Console, chromium: Any, lesson: Path) -> None:
    person = await console.person("studio", Role.CONTRIBUTOR, CITY)
    context = await opened_by(chromium, person)
    page = await context.new_page()
    offsets: list[int] = []

    async def note(route: Any) -> None:
        if route.request.method == "PATCH":
            offsets.append(int(route.request.headers["upload-offset"]))
            if offsets == [0, CHUNK]:
                console.clock.now += 3 * 86400
        await route.continue_()

    await context.route("**/api/v1/uploads/*", note)
    await page.goto(f"{console.url}/console/uploads")
    await page.locator("[data-upload] input[type=file]").set_input_files(lesson)
    await page.get_by_text("登录已过期").wait_for()
    await person.sign_in("studio")
    await context.add_cookies([{"name": "yj_session", "value": person.cookie("yj_session"), "url": person.base}])
    await page.get_by_role("button", name="继续").click()
    await page.locator("[data-state=ready]").wait_for()
    assert offsets == [0, CHUNK, CHUNK]
    assert await page.locator("[data-sum]").inner_text() == hashlib.sha256(lesson.read_bytes()).hexdigest()
    await context.close()
