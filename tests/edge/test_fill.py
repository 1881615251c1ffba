"""Fill on demand over real processes: workers, a filler, a province over sockets."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from support.fills import Running, digest_of_body, filling, follow, new_province
from support.province import Province, Site

FILM = random.Random(5).randbytes(6_000_000)
NOTE = b"%PDF-1.4 a page"
MEDIA = "/media/film/film.mp4"


@pytest.fixture
def province() -> Province:
    made = new_province()
    made.lesson("film", {"film.mp4": FILM, "note.pdf": NOTE})
    made.lesson("here", {"here.pdf": b"here"}, columns=("zl-two",))
    made.release()
    return made


@pytest.fixture
async def site(province: Province) -> AsyncIterator[Site]:
    async with province.site().running() as running:
        yield running


@pytest.fixture
async def edge(tmp_path: Path, province: Province, site: Site) -> AsyncIterator[Running]:
    await follow(tmp_path, province, site.url)
    site.forget()
    async with filling(tmp_path, site.url) as running:
        yield running


async def test_a_lesson_that_is_not_here_plays(edge: Running, province: Province) -> None:
    got = await edge.get(MEDIA)
    assert got.status == 200
    assert got.body == FILM
    await edge.until_whole(province.blob(FILM).digest)
    again = await edge.get(MEDIA)
    assert again.body == FILM
