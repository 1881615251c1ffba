"""The console in a real browser; for tests that ask for Playwright first."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support.browser import CHROMIUM
from support.console import Browser
from support.edge_store import ROOT

DEADLINE_MS = 60_000
WIDE = {"width": 1366, "height": 900}
_VENDOR = ROOT / "origin/web/console/static/vendor"

IN_A_BROWSER = [pytest.mark.browser, pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")]


def with_part(name: str) -> pytest.MarkDecorator:
    """Skip where the build did not bring a browser part."""
    return pytest.mark.skipif(not Path(_VENDOR, name).exists(), reason="installed without browser parts")


async def page_of(chromium: Any, person: Browser, told: list[str], **context: Any) -> Any:
    """A page of a browser in which somebody is signed in, if they are; notes all that the browser says of it."""
    opened = await chromium.new_context(**{"viewport": WIDE, **context})
    opened.set_default_timeout(DEADLINE_MS)
    session = person.cookie("yj_session")
    if session:
        await opened.add_cookies([{"name": "yj_session", "value": session, "url": person.base}])
    page = await opened.new_page()
    page.on("console", lambda message: told.append(message.text))
    page.on("pageerror", lambda error: told.append(str(error)))
    return page
