"""What every test stands on: no setting, language or proxy of the machine reaches in."""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from support.console import Console, console_at
from support.origins import found_origin

# How long an example takes is the machine's business, and it has others.
settings.register_profile("busy", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy")

_PROXIES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")


@pytest.fixture(autouse=True, scope="session")
def _plain_environment() -> Iterator[None]:
    """Take out of the environment, for us and for the processes that we start, what would change a result."""
    ours = [name for name in os.environ if name.startswith("YUANJIAO_") or name.lower() in _PROXIES]
    taken = {name: os.environ.pop(name) for name in ours}
    os.environ["YUANJIAO_LANG"] = "zh"
    yield
    os.environ.pop("YUANJIAO_LANG", None)
    os.environ.update(taken)


@pytest.fixture(scope="session")
def founded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Read only: an origin with nothing in it, on SQLite; modules that want another found their own."""
    return found_origin(tmp_path_factory.mktemp("founded") / "origin")


@pytest.fixture
async def console(founded: Path, tmp_path: Path) -> AsyncIterator[Console]:
    """An origin of one's own that answers, and people in front of it."""
    async with console_at(Path(shutil.copytree(founded, tmp_path / "origin"))) as opened:
        yield opened
