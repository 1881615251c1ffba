"""Boards in a real browser: charts over tables, pages that follow the edges by themselves, a wall without a line."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path
from typing import Any

import pytest
from support.console import COUNTY, PROVINCE, Console, console_at
from support.console_pages import DEADLINE_MS, IN_A_BROWSER, page_of
from support.receipts import article, make_edge, sync

from manifests.instants import Instant, dump_instant
from manifests.names import Region
from manifests.reports import HOUR_S, LessonWatched, Watched
from origin.accounts.permissions import Role
from origin.database.engine import writing
from origin.stations.watched import take_watching

pytest.importorskip("playwright.async_api", reason="playwright is not installed")
pytestmark = IN_A_BROWSER
FULL = {"width": 1920, "height": 1080}
PATHS = (
    *("/boards", "/boards?region=410100", "/boards/watching", "/wall"),
    *("/lessons/wheat", f"/edges/{COUNTY}-1", "/edges", ""),
)


async def _until(page: Any, condition: str) -> None:
    """Playwright's own waiting evaluates text inside the page, which the console's policy forbids."""
    async with asyncio.timeout(DEADLINE_MS / 1000):
        while not await page.evaluate(condition):
            await page.wait_for_timeout(50)


async def _watched(console: Console) -> None:
    hour = Instant(console.clock() // HOUR_S * HOUR_S)
    told = Watched(dump_instant(hour), 9, {"wheat": LessonWatched(5, 4, 100)})
    async with writing(console.origin.engine) as connection:
        await take_watching(connection, f"{COUNTY}-1", Region(COUNTY), [told], console.clock())


async def test_boards_fit_every_screen_draw_their_charts_and_break_no_policy(
    console: Console, chromium: Any, tmp_path: Path
) -> None:
    await make_edge(console.origin, console.url, tmp_path / "edge", COUNTY)
    await article(console.origin, tmp_path, "wheat")
    await sync(tmp_path / "edge")
    await _watched(console)
    viewer = await console.person("viewer", Role.VIEWER, PROVINCE)
    told: list[str] = []
    page = await page_of(chromium, viewer, told, viewport=FULL)
    for path in PATHS:
        await page.goto(f"{console.url}/console{path}")
        tables = await page.locator("table[data-chart]").count()
        await _until(page, f"document.querySelectorAll('.chart canvas').length >= {tables}")
        for width in (1920, 1366, 390):
            await page.set_viewport_size({"width": width, "height": 800})
            over = await page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
            assert over <= 0, (path, width)
        cut = await page.evaluate(
            """() => [...document.querySelectorAll(".tile b, .figure b")].filter((one) => {
                const box = one.getBoundingClientRect(), around = one.closest("li, div").getBoundingClientRect();
                return box.right > around.right + 1 || box.bottom > around.bottom + 1;
            }).map((one) => one.textContent)"""
        )
        assert cut == [], path
    await page.context.close()
    assert told == []


async def test_a_lessons_page_follows_its_edges_to_the_last(console: Console, chromium: Any, tmp_path: Path) -> None:
    await make_edge(console.origin, console.url, tmp_path / "edge", COUNTY)
    await sync(tmp_path / "edge")
    await article(console.origin, tmp_path, "wheat")
    viewer = await console.person("viewer", Role.VIEWER, PROVINCE)
    told: list[str] = []
    page = await page_of(chromium, viewer, told, viewport=FULL)
    await page.goto(f"{console.url}/console/lessons/wheat")
    await _until(page, "document.querySelector('.live').className === 'live on'")
    await page.locator("#proof-edges summary").click()
    assert "0/1" in await page.locator("#proof").inner_text()
    await sync(tmp_path / "edge")
    await _until(page, "document.getElementById('proof').innerText.includes('1/1')")
    assert await page.locator("#proof-edges").get_attribute("open") is not None, "what was open stays open"
    assert await page.locator("#proof .chart canvas").count() == 1
    await page.context.close()
    assert told == []


async def test_the_wall_outlives_a_lost_line_and_goes_on_by_itself(
    founded: Path, chromium: Any, tmp_path: Path
) -> None:
    root = Path(shutil.copytree(founded, tmp_path / "origin"))
    told: list[str] = []
    async with console_at(root) as console:
        await make_edge(console.origin, console.url, tmp_path / "edge", COUNTY)
        await article(console.origin, tmp_path, "wheat")
        viewer = await console.person("viewer", Role.VIEWER, PROVINCE)
        page = await page_of(chromium, viewer, told, viewport=FULL, reduced_motion="reduce")
        await page.goto(f"{console.url}/console/wall")
        await _until(page, "document.querySelector('.live').className === 'live on'")
        port, clock = int(console.url.rpartition(":")[2]), console.clock
    await _until(page, "document.querySelector('.live').className === 'live off'")
    assert "中牟县" in await page.locator(".ticker").inner_text(), "what was known stays on the screen"
    async with console_at(root, clock, port=port):
        await sync(tmp_path / "edge")
        await _until(page, "document.querySelector('.live').className === 'live on'")
        await _until(page, "document.querySelector('#wall').innerText.includes('全部到齐')")
        assert await page.locator("#wall .chart canvas").count() == 1
        await page.context.close()
    assert [one for one in told if "ERR_" not in one] == [], "but for the line that was away"


async def test_without_scripts_a_board_is_a_table(console: Console, chromium: Any, tmp_path: Path) -> None:
    await make_edge(console.origin, console.url, tmp_path / "edge", COUNTY)
    await article(console.origin, tmp_path, "wheat")
    viewer = await console.person("viewer", Role.VIEWER, PROVINCE)
    told: list[str] = []
    page = await page_of(chromium, viewer, told, viewport=FULL, java_script_enabled=False)
    await page.goto(f"{console.url}/console/boards")
    assert await page.locator(".tile b", has_text="郑州市").count() == 1
    await page.locator("#curve-data summary").click()
    assert await page.locator("#curve-data table").is_visible()
    await page.context.close()
    assert told == []
