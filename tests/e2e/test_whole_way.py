"""The whole way in real browsers and real processes: the first admin, a video, another person's review, a county.

Nothing is reached into: the program's commands, the console's pages, and the county's portal are all there is.
"""

from __future__ import annotations

import hashlib
import shutil
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest
from support.browser import CHROMIUM, chromium
from support.media import make_mp4
from support.program import serving, spawn, succeed

from origin.accounts.totp import STEP_S, code_at

if TYPE_CHECKING:
    from playwright import sync_api

VENDOR = Path(__file__).parents[2] / "origin/web/console/static/vendor/tus.min.js"
pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
pytestmark = [
    pytest.mark.browser,
    pytest.mark.timeout(400),
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine"),
    pytest.mark.skipif(not VENDOR.exists(), reason="installed without browser parts"),
]
PASSWORD = "麦浪滚滚千里-2026"
TITLE = "果树冬季修剪"
DEADLINE_MS = 90_000


@dataclass
class Desk:
    """Somebody's browser."""

    page: sync_api.Page
    faults: list[str]

    def press(self, name: str) -> None:
        self.page.get_by_role("button", name=name, exact=True).click()

    def see(self, text: str) -> None:
        self.page.get_by_text(text).first.wait_for()

    def until(self, condition: str) -> None:
        """Playwright's own waiting evaluates text inside the page, which the pages' policy forbids."""
        ends = time.monotonic() + DEADLINE_MS / 1000
        while not self.page.evaluate(condition):
            assert time.monotonic() < ends, condition
            self.page.wait_for_timeout(50)

    def join(self, link: str, login: str) -> None:
        """Use an invitation, sign in, set up the second factor."""
        page = self.page
        page.goto(link)
        page.locator("input[name=login]").fill(login)
        page.locator("input[name=password]").fill(PASSWORD)
        page.locator("input[name=again]").fill(PASSWORD)
        page.keyboard.press("Enter")
        page.wait_for_url("**/console/login*")
        page.locator("input[name=login]").fill(login)
        page.locator("input[name=password]").fill(PASSWORD)
        page.keyboard.press("Enter")
        page.wait_for_url("**/console/me*")
        self.press("启用双重验证")
        secret = page.locator("input[name=secret]").input_value()
        page.locator("input[name=code]").fill(code_at(secret, int(time.time()) // STEP_S))
        page.keyboard.press("Enter")
        self.see("恢复码")


@pytest.fixture
def origin(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """An origin's directory, and where it is served."""
    root = tmp_path / "origin"
    succeed("origin", "init", root)
    env = {"YUANJIAO_UPLOADS_FLOOR_BYTES": "0"}
    with serving("origin", "serve", root, "--port", "0", "--host", "127.0.0.1", **env) as address:
        yield root, address


def _desk(browser: Any) -> Desk:
    context = browser.new_context(viewport={"width": 1366, "height": 900}, locale="zh-CN")
    context.set_default_timeout(DEADLINE_MS)
    desk = Desk(context.new_page(), [])
    desk.page.on("pageerror", lambda error: desk.faults.append(str(error)))
    desk.page.on("console", lambda told: desk.faults.append(told.text) if told.type == "error" else None)
    return desk


def _invite(admin: Desk, address: str, name: str, role: str) -> str:
    admin.page.goto(f"{address}/console/people")
    form = admin.page.locator("form[action='/console/people/invite']")
    form.locator("input[name=name]").fill(name)
    form.locator("select[name=role]").select_option(role)
    form.locator("button").click()
    return str(admin.page.locator("input[data-select]").input_value())


def _write(admin: Desk, address: str, film: Path) -> str:
    """Bring a video in and hand it to review; the review page's address."""
    page = admin.page
    page.goto(f"{address}/console/drafts")
    page.locator("form.begin input[name=title]").fill(TITLE)
    admin.press("新建")
    page.locator("[data-upload] input[type=file]").set_input_files(str(film))
    page.locator("[data-files] [data-file]").first.wait_for()
    admin.see("已自动保存")
    admin.press("保存并提交审核")
    admin.see("已提交审核")
    assert page.get_by_role("button", name="审核通过").count() == 0, "not one's own"
    return page.url.partition("?")[0]


def _county(tmp_path: Path, root: Path, address: str) -> Path:
    """An edge that is to hold what the province offers."""
    edge, bundle = tmp_path / "edge", tmp_path / "county.bundle"
    succeed("origin", "enroll", root, "410122", "--upstream", address, "--out", bundle)
    succeed("edge", "init", edge, "--bundle", bundle)
    return edge


def test_from_the_first_admin_to_the_countys_screen(origin: tuple[Path, str], tmp_path: Path) -> None:
    root, address = origin
    film = make_mp4(tmp_path / "修剪.mp4", 8, 320, 180, noise=True)
    edge = _county(tmp_path, root, address)
    link = succeed("origin", "admin", root, "--name", "王管理", "--url", address)["link"]
    with chromium() as browser:
        admin, reviewer = _desk(browser), _desk(browser)
        admin.join(link, "wang")
        reviewer.join(_invite(admin, address, "李审核", "reviewer"), "li")
        review = _write(admin, address, film)

        reviewer.page.goto(review)
        reviewer.press("审核通过")
        reviewer.see("操作已完成")

        admin.page.goto(review)
        admin.see("1 台边缘服务器中")
        admin.press("立即发布")
        admin.see("已发布为课件")
        lesson = admin.page.locator("a[href^='/console/lessons/']").first.get_attribute("href") or ""
        admin.page.goto(address + lesson)
        spread = admin.page.locator("#coverage progress")
        assert (spread.get_attribute("value"), spread.get_attribute("max")) == ("0", "1")

        assert succeed("edge", "sync", edge, "--now", runner=spawn, YUANJIAO_STORE_RESERVE_BYTES="0")["complete"]
        # The page is not loaded anew: what the county proved comes to it.
        admin.until("document.querySelector('#coverage progress').value === 1")
        assert admin.faults == reviewer.faults == []

        with serving("edge", "serve", edge, "--port", "0", "--host", "127.0.0.1", "--workers", "1") as county:
            screen = _desk(browser)
            screen.page.goto(f"{county}/lessons/{lesson.rpartition('/')[2]}")
            screen.see(TITLE)
            screen.page.keyboard.press("Enter")
            screen.until("document.querySelector('video').currentTime > 1")
            name = "修剪.mp4"
            url = f"{county}/media/{lesson.rpartition('/')[2]}/{quote(name)}"
            with urllib.request.urlopen(url) as answer:
                found = hashlib.sha256(answer.read()).hexdigest()
            assert found == hashlib.sha256(film.read_bytes()).hexdigest()
    shutil.rmtree(edge)
