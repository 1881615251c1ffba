"""Edges that ask edges: a parent fills for its children, siblings never for each other; and bulk yields to fills."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from support.city import free_ports
from support.edges import edge_at, run
from support.fills import filling, follow, new_province
from support.province import ManualClock, Province, Site

from edge.settings import Sync
from edge.sync.bulk import Bulk
from edge.sync.governor import HOLD_S, Governor
from edge.sync.lines import schedule_of
from edge.upstream.client import NO_FILL

FILM = random.Random(9).randbytes(3_000_000)
MEDIA = "/media/film/film.mp4"


@pytest.fixture
def province() -> Province:
    made = new_province()
    made.lesson("film", {"film.mp4": FILM})
    made.release()
    return made


@pytest.fixture
async def site(province: Province) -> AsyncIterator[Site]:
    async with province.site().running() as running:
        yield running


async def test_a_parent_fills_for_its_children(tmp_path: Path, province: Province, site: Site) -> None:
    await follow(tmp_path / "parent", province, site.url)
    await follow(tmp_path / "child", province, site.url)
    site.forget()
    async with (
        filling(tmp_path / "parent", site.url) as parent,
        filling(tmp_path / "child", f"http://127.0.0.1:{parent.port}") as child,
    ):
        assert (await child.get(MEDIA)).body == FILM
        await parent.until_whole(province.blob(FILM).digest)
        assert site.bytes_sent == len(FILM) + 32 * 12, "once over the province's line"
        url = f"http://127.0.0.1:{parent.port}"
        async with edge_at(tmp_path / "third", province, ManualClock(int(time.time())), url) as opened:
            assert "film" in (await run(opened)).added, "a sync of a child finds it there too"


async def test_siblings_give_what_they_have_and_fetch_nothing_for_each_other(
    tmp_path: Path, province: Province, site: Site
) -> None:
    dead = f"http://127.0.0.1:{free_ports(1)[0]}"
    for name in ("one", "two"):
        await follow(tmp_path / name, province, site.url)
    digest = province.blob(FILM).digest
    async with filling(tmp_path / "one", site.url) as one:
        site.forget()
        got = await one.get(f"/blobs/{digest}", Range="bytes=0-9", **{NO_FILL[0].replace("-", "_"): NO_FILL[1]})
        assert got.status == 503
        assert not site.requests, "a sibling's question fetches nothing"
        own = {"upstream_siblings": f"http://127.0.0.1:{one.port}", "upstream_own_url": "http://10.1.2.3:8080"}
        async with filling(tmp_path / "two", dead, **own) as two:
            assert (await two.get(MEDIA)).status == 503, "neither has it, and neither makes the other fetch it"
            assert not site.requests
            assert (await one.get(MEDIA)).body == FILM
            await one.until_whole(digest)
            site.forget()
            async with asyncio.timeout(40):  # above is dead, but the sibling has it now
                while (got := await two.get(MEDIA)).status != 200:
                    await asyncio.sleep(0.2)
            assert got.body == FILM
            assert not site.requests


def test_bulk_yields_while_viewers_are_filled_for() -> None:
    now_s, flights = 100.0, 0
    bulk = Bulk()
    schedule = schedule_of(Sync(window="00:00-24:00", viewer_share=0.0), "410122")
    governor = Governor(schedule, bulk, ManualClock(), int, lambda: now_s, lambda: flights)
    governor.look()
    assert (governor.is_playing, bulk.gate.rate) == (False, None)
    flights = 2
    governor.look()
    assert (governor.is_playing, bulk.gate.rate) == (True, 0)
    flights, now_s = 0, now_s + HOLD_S + 0.1
    governor.look()
    assert not governor.is_playing
