"""/healthz in every state of trust and disk; serving goes on in all of them."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from support.edge_store import make_blob
from support.portal import DAY, NOW, HandClock, Shop, file_of, get, lesson, served
from support.small_disk import small_disk

from edge.reasons import UpstreamReason
from edge.serve import stock
from edge.store.decay import ScrubRecord
from edge.store.scrub_log import note_scrub
from manifests.instants import Instant

VIDEO = make_blob(50_000, "v")
MEDIA = "/media/kj-1/a.mp4"


@dataclass
class Site:
    port: int
    clock: HandClock
    shop: Shop

    async def health(self) -> dict[str, Any]:
        reply = await get(self.port, "/healthz")
        assert reply.status == 200
        assert reply.headers["content-type"].startswith("application/json")
        found: dict[str, Any] = json.loads(reply.body)
        return found

    async def codes(self) -> list[str]:
        health = await self.health()
        assert health["status"] == ("degraded" if health["reasons"] else "ok")
        assert all(reason["zh"] and reason["en"] for reason in health["reasons"])
        return [reason["code"] for reason in health["reasons"]]


@pytest.fixture
async def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Site]:
    monkeypatch.setattr(stock, "MEND_S", 0.2)
    shop = Shop(tmp_path)
    shop.paths.settings.write_text("[store]\nreserve_bytes = 1\n", "utf-8")
    shop.put(VIDEO)
    shop.install(lesson("kj-1", file_of(VIDEO, "a.mp4")))
    clock = HandClock()
    async with served(tmp_path, clock) as port:
        yield Site(port, clock, shop)
    shop.close()


async def test_shape(site: Site) -> None:
    site.shop.library.set_meta("last_sync", {"complete": True, "bytes_fetched": 7})
    site.shop.library.set_meta("last_work", {"added": ["kj-1"]})
    health = await site.health()
    assert health.pop("disk_free_bytes") > 0
    night = health.pop("night")
    # Noon in Shanghai: the window opens at 22:00, and this county begins at its own minute.
    assert "2026-11-24T14:00:00Z" <= night.pop("starts_at") < "2026-11-24T14:30:00Z"
    assert night.pop("ends_at") == "2026-11-24T22:00:00Z"
    assert set(night.pop("upstream_bytes")) == set(UpstreamReason)
    assert night == {"keepers": 0, "is_open": False}
    assert health == {
        "status": "ok",
        "reasons": [],
        "freshness": "fresh",
        "cities": {},
        "catalog_version": 1,
        "offered_catalog_version": 1,
        "checked_at": "2026-11-24T04:00:00Z",
        "courseware": 1,
        "blobs": 2,
        "evicted": 0,
        "last_sync": {"complete": True, "bytes_fetched": 7},
        "last_work": {"added": ["kj-1"]},
        "reports": {"waiting": 0, "oldest_at": None},
        "now": "2026-11-24T04:00:00Z",
    }


async def test_freshness_by_the_clock_and_never_backwards(site: Site) -> None:
    for at, freshness, codes in (
        (NOW, "fresh", []),
        (NOW + 3 * DAY, "stale", ["stale"]),
        (NOW + 40 * DAY, "expired", ["expired"]),
        (NOW + 3 * 365 * DAY, "expired", ["expired"]),
        (NOW - 3 * 365 * DAY, "fresh", ["clock"]),
    ):
        site.clock.now = at
        assert (await site.health())["freshness"] == freshness
        assert await site.codes() == codes
        assert (await get(site.port, MEDIA)).body == VIDEO.data


async def test_unverified_state_is_told(site: Site) -> None:
    before = site.shop.paths.trust_state.read_bytes()
    for damaged in (b"{damaged", before.replace(b"}", b',"source":"\xff\xfe"}')):
        site.shop.paths.trust_state.write_bytes(damaged)
        await asyncio.sleep(3 * stock.LOOK_S)
        assert await site.codes() == []  # what was read before stands
    site.shop.paths.trust_state.unlink()
    async with asyncio.timeout(60):
        while await site.codes() != ["never_synced"]:
            pass
    assert (await get(site.port, MEDIA)).status == 200


async def test_damaged_index_keeps_what_stands_and_is_rebuilt(site: Site) -> None:
    assert (await get(site.port, MEDIA)).status == 200
    site.shop.close()
    for path in site.shop.paths.root.glob("index.sqlite*"):
        path.unlink()
    shutil.copy(site.shop.paths.blob(VIDEO.digest), site.shop.paths.index)  # no index at all
    assert (await get(site.port, MEDIA)).body == VIDEO.data
    assert (await get(site.port, "/")).status == 200
    async with asyncio.timeout(60):
        while "storage" not in await site.codes():
            pass
        while await site.codes():
            await asyncio.sleep(0.05)
    assert (await get(site.port, MEDIA)).body == VIDEO.data


async def test_full_and_read_only_disk_serve_on(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", "24m") as disk:
        root = disk / "edge"
        shop = Shop(root)
        shop.paths.settings.write_text("[store]\nreserve_bytes = 1000000\n", "utf-8")
        shop.put(VIDEO)
        shop.install(lesson("kj-1", file_of(VIDEO, "a.mp4")))
        shop.close()
        with suppress(OSError), (disk / "filler").open("wb", buffering=0) as filler:
            while filler.write(bytes(1 << 16)):
                pass
        async with served(root) as port:
            assert (await get(port, MEDIA)).body == VIDEO.data
            assert await Site(port, HandClock(), shop).codes() == ["disk_full"]
        subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
        async with served(root) as port:
            assert (await get(port, MEDIA)).body == VIDEO.data
            assert await Site(port, HandClock(), shop).codes() == ["read_only", "disk_full"]


async def test_a_disk_that_decays_is_told_before_a_lesson_is_lost(site: Site) -> None:
    before = await site.codes()
    note_scrub(site.shop.paths.scrubs, ScrubRecord(Instant(NOW), 10**12, unreadable=1))
    assert await site.codes() == [*before[:-1], "disk_decays", *before[-1:]]
    assert (await get(site.port, MEDIA)).status == 200
