"""A browser for the tests that drive the console."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from support.browser import ARGS, CHROMIUM


@pytest.fixture
async def chromium() -> AsyncIterator[Any]:
    """A browser with nobody signed in; see `support.console_pages.page_of`."""
    from playwright import async_api

    async with async_api.async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=list(ARGS))
        yield browser
        await browser.close()
