"""The keeper keeps to the watermarks by day: what terminals pull through must not fill the disk until the night."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from support.edge_store import make_blob, store_blob
from support.edges import edge_at, run
from support.nights import keeping, until
from support.province import ManualClock, Province, Site

from edge.serve import keeper
from edge.store.eviction import BIG_BYTES

FILMS = [make_blob(BIG_BYTES, f"pulled {n}", 65536) for n in range(3)]


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def province(clock: ManualClock) -> Province:
    made = Province(clock)
    made.lesson("one", {"one.pdf": b"one"})
    made.release()
    return made


@pytest.fixture
async def site(province: Province) -> AsyncIterator[Site]:
    async with province.site().running() as running:
        yield running


async def test_pulled_lessons_go_down_to_the_low_watermark(
    tmp_path: Path, province: Province, clock: ManualClock, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeper, "_ROOM_EVERY_S", 0.1)
    # The polls would collect what no lesson of this catalog needs.
    quota = {"store_quota_bytes": str(3 * BIG_BYTES), "sync_poll_s": "86400"}
    async with edge_at(tmp_path, province, clock, site.url, **quota) as edge:
        await run(edge)
        for n, film in enumerate(FILMS):
            store_blob(edge.store, film)
            edge.usage.note_pulled(film.digest, f"kj-{n}", BIG_BYTES, clock())
        edge.usage.note_used({FILMS[1].digest: 9}, clock())
        clock.move(3600)
        async with keeping(tmp_path, clock, site.url, **quota):
            await until(lambda: bool(edge.usage.evictions()))
            await until(lambda: not all(edge.store.has(film.digest) for film in FILMS))
        assert edge.store.has(FILMS[1].digest), "the one that was watched most stays"
        assert edge.usage.evictions()["pulled"].blobs == 1
