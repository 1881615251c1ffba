"""An edge under test: made from a province's bundle, with deadlines short enough for a test."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from support.province import ManualClock, Province

from edge import app
from edge.app import Edge
from edge.sync.planner import SyncPlan
from edge.sync.report import SyncReport

FAST = {
    "YUANJIAO_UPSTREAM_CONNECT_TIMEOUT_S": "2",
    "YUANJIAO_UPSTREAM_PROGRESS_TIMEOUT_S": "0.5",
    "YUANJIAO_UPSTREAM_FLOOR_BYTES_PER_S": "4096",
    "YUANJIAO_UPSTREAM_RETRIES": "2",
    "YUANJIAO_UPSTREAM_COOLDOWN_S": "0.02",
    "YUANJIAO_STORE_RESERVE_BYTES": "0",
}

# For an edge whose upstream stands on other servers, on a machine that may be very busy; names without their prefix.
PATIENT = {"upstream_connect_timeout_s": "20", "upstream_progress_timeout_s": "20", "upstream_floor_bytes_per_s": "1"}


@asynccontextmanager
async def edge_at(root: Path, province: Province, clock: ManualClock, *urls: str, **env: str) -> AsyncIterator[Edge]:
    """Open an edge, made first when there is none; `env` overrides settings, names without their prefix."""
    if not (root / "edge.toml").exists():
        app.init_edge(root, province.bundle(*(urls or ("http://127.0.0.1:9",))), clock)
    own = {f"YUANJIAO_{name.upper()}": value for name, value in env.items()}
    if urls:
        own["YUANJIAO_UPSTREAM_URLS"] = ",".join(urls)
    async with app.open_edge(root, FAST | own, clock) as edge:
        yield edge


async def run(edge: Edge, **arguments: Any) -> SyncReport:
    """Sync, and narrow the type."""
    report = await app.sync(edge, **arguments)
    assert isinstance(report, SyncReport)
    return report


async def preview(edge: Edge) -> SyncPlan:
    """Plan, and narrow the type."""
    plan = await app.sync(edge, dry_run=True)
    assert isinstance(plan, SyncPlan)
    return plan


def stored(edge: Edge, id_: str, name: str) -> bytes:
    """The bytes of an installed file, read from the disk."""
    item = edge.library.get(id_)
    assert item is not None
    file = next(one for one in item.files if one.name == name)
    return edge.store.path(file.ref.digest).read_bytes()


def disk_of(root: Path) -> dict[str, int]:
    """Every file below `root` but trust/ and the index, with its length: to see that nothing changed."""
    skipped = ("trust", "index", "sync.lock")
    return {
        str(path.relative_to(root)): path.stat().st_size
        for path in sorted(root.rglob("*"))
        if path.is_file() and not str(path.relative_to(root)).startswith(skipped)
    }
