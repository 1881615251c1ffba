"""A real browser at a real edge process; for tests that ask for Playwright first."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from support.edge_store import ROOT

if TYPE_CHECKING:
    from playwright import sync_api

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
ARGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update"),
)
SERVE = """
import asyncio, sys
from pathlib import Path
from edge.clock import system_clock
from edge.serve.server import serve
asyncio.run(serve(Path(sys.argv[1]), "127.0.0.1", 0, 1, {}, system_clock, lambda address: print(address, flush=True)))
"""


@dataclass
class Portal:
    address: str
    page: sync_api.Page
    answers: list[tuple[str, int, str]]
    faults: list[str]

    def open(self, path: str) -> None:
        self.page.goto(self.address + path)

    def press(self, *keys: str) -> None:
        for key in keys:
            self.page.keyboard.press(key)

    def focused(self, attribute: str) -> str | None:
        found = self.page.evaluate(f"document.activeElement.getAttribute('{attribute}')")
        return None if found is None else str(found)

    def at_s(self) -> float:
        return float(self.page.evaluate("document.getElementById('video').currentTime"))

    def wait(self, condition: str, within_s: float = 20) -> None:
        """Playwright's own waiting evaluates text inside the page, which the portal's policy forbids."""
        ends = time.monotonic() + within_s
        while not self.page.evaluate(condition):
            assert time.monotonic() < ends, condition
            self.page.wait_for_timeout(20)


@contextmanager
def serving(root: Path) -> Iterator[str]:
    """Serve an edge's directory by a process of its own; gives its address."""
    process = subprocess.Popen(
        [sys.executable, "-c", SERVE, str(root)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("http://"):
            break
    yield line.strip()
    process.terminate()
    assert process.wait(20) == 0


@contextmanager
def chromium() -> Iterator[sync_api.Browser]:
    """The machine's own Chromium, without a screen."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        made = playwright.chromium.launch(executable_path=CHROMIUM, args=list(ARGS))
        yield made
        made.close()


@contextmanager
def opened(address: str, browser: sync_api.Browser) -> Iterator[Portal]:
    """A page that notes what is answered and what goes wrong."""
    page = browser.new_page(viewport={"width": 1280, "height": 720})
    found = Portal(address, page, [], [])

    def note(response: sync_api.Response) -> None:
        found.answers.append((response.url, response.status, response.headers.get("content-range", "")))

    page.on("response", note)
    page.on("pageerror", lambda error: found.faults.append(str(error)))
    page.on("console", lambda message: found.faults.append(message.text) if message.type == "error" else None)
    yield found
    page.close()
