"""What a village sees of a lesson that is offered, is not here, and cannot be fetched: words, and later the lesson."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from support.browser import CHROMIUM, chromium, opened
from support.media import make_mp4
from support.program import run, serving, succeed

pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
pytestmark = [pytest.mark.browser, pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")]

SECONDS = 12
PATIENCE_S = 90
WAIT = {"YUANJIAO_FILL_WAIT_S": "2", "YUANJIAO_UPSTREAM_CONNECT_TIMEOUT_S": "1", "YUANJIAO_STORE_RESERVE_BYTES": "0"}


def half_a_day_away() -> str:
    """A window that is closed now."""
    opens = datetime.now(ZoneInfo("Asia/Shanghai")) + timedelta(hours=11)
    return f"{opens:%H}:00-{opens + timedelta(hours=2):%H}:00"


@pytest.fixture
def county(tmp_path: Path) -> Iterator[tuple[Path, str, str]]:
    """An origin's directory, its port, and the address of an edge that knows the lesson and has nothing of it."""
    origin, edge, bundle = tmp_path / "origin", tmp_path / "edge", tmp_path / "edge.bundle"
    succeed("origin", "init", origin)
    film = make_mp4(tmp_path / "film.mp4", SECONDS, 320, 180, noise=True)
    succeed("publish", film, "--no-hls", "--origin", origin, "--title", "果树修剪", "--id", "kj-away")
    env = WAIT | {"YUANJIAO_SYNC_WINDOW": half_a_day_away()}
    with serving("origin", "serve", origin, "--port", "0", "--host", "127.0.0.1") as upstream:
        succeed("origin", "enroll", origin, "410122", "--upstream", upstream, "--out", bundle)
        succeed("edge", "init", edge, "--bundle", bundle)
        assert run("edge", "sync", edge, **env).code == 4, "the window is closed: all is put off"
    command = ("edge", "serve", edge, "--port", "0", "--host", "127.0.0.1", "--workers", "1")
    with serving(*command, **env) as address:
        yield origin, upstream.rpartition(":")[2], address


def test_no_source_is_told_in_words_and_the_lesson_plays_when_the_line_is_back(county: tuple[Path, str, str]) -> None:
    origin, port, address = county
    with chromium() as browser, opened(address, browser) as portal:
        portal.open("/lessons/kj-away")
        portal.press("Enter")
        said = "document.getElementById('notice').textContent"
        portal.wait(f"{said}.indexOf('该课件尚未传到本站') >= 0", PATIENCE_S)
        assert "404" not in portal.page.inner_text("body")
        assert {status for url, status, _ in portal.answers if url.endswith("film.mp4")} == {503}
        # A document that is asked for by its address says the same on a page of its own.
        portal.open("/media/kj-away/film.mp4")
        assert "课件暂时无法取得" in portal.page.inner_text("body")
        with serving("origin", "serve", origin, "--port", port, "--host", "127.0.0.1"):
            portal.open("/lessons/kj-away")
            portal.press("Enter")
            portal.wait("document.getElementById('video').currentTime > 0.5", PATIENCE_S)
