"""A keeper in this process, over a real province and a clock that a test moves."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from support.edges import FAST
from support.province import ManualClock

from edge import app
from edge.metrics import Counters, shared_rows
from edge.paths import Paths
from edge.serve.keeper import Keeper
from edge.store.blobs import BlobStore
from edge.store.configuration import read_settings
from edge.store.library import Library
from manifests.instants import Instant, dump_instant

# NOON of the province's clock is 19:06:40 in Shanghai.
# A slow machine is no stalled source: requests are counted.
EVENING = {
    "sync_poll_s": "0.1",
    "sync_jitter_minutes": "0",
    "upstream_span_pieces": "1",
    "upstream_progress_timeout_s": "10",
}
TO_TEN = 2 * 3600 + 53 * 60 + 20
TO_SIX = TO_TEN + 8 * 3600


@dataclass
class Kept:
    """A keeper at work, the counters of a worker beside it, and what it left in the library."""

    root: Path
    keeper: Keeper
    counters: Counters

    def versions(self) -> dict[str, int]:
        with BlobStore.open(Paths(self.root), read_only=True) as store:
            return Library(store).versions()

    def note(self, key: str) -> dict[str, object]:
        with BlobStore.open(Paths(self.root), read_only=True) as store:
            found = Library(store).get_meta(key)
        return found if isinstance(found, dict) else {}

    async def until(self, is_true: Callable[[], bool]) -> None:
        await until(is_true)

    async def polled(self, clock: ManualClock) -> dict[str, object]:
        """Wait for a run that began from now on; its report. Moves the clock by a second to tell it from others."""
        clock.move(1)
        after = dump_instant(Instant(clock.at))
        await until(lambda: str(self.note("last_sync").get("started", "")) >= after)
        return self.note("last_sync")


async def until(is_true: Callable[[], bool], deadline_s: float = 60.0) -> None:
    """Wait for a fact."""
    async with asyncio.timeout(deadline_s):
        while not is_true():
            await asyncio.sleep(0.02)


@asynccontextmanager
async def keeping(root: Path, clock: ManualClock, url: str, **env: str) -> AsyncIterator[Kept]:
    """Run a keeper until the block ends; `env` overrides settings, names without their prefix."""
    own = {f"YUANJIAO_{name.upper()}": value for name, value in (EVENING | env).items()}
    settings = read_settings(Paths(root), FAST | own | {"YUANJIAO_UPSTREAM_URLS": url})
    rows = shared_rows(2)
    worker, mine = Counters(rows, 0, 2), Counters(rows, 1, 2)
    os.close(rows)
    keeper = Keeper(app.nights(root, settings, clock), mine, clock)
    task = asyncio.create_task(keeper.run())
    try:
        yield Kept(root, keeper, worker)
    finally:
        task.cancel()
        await asyncio.wait({task})
        if not task.cancelled():
            task.result()


def closed_window() -> str:
    """A window that is not open now, in Shanghai."""
    later = datetime.now(UTC) + timedelta(hours=8 + 6)
    return f"{later:%H}:00-{later:%H}:30"
