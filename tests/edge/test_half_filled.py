"""A half-filled blob answers for the pieces it has, over a socket, while another store object writes to it."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from support.edge_store import PIECE, flip, make_blob
from support.portal import Shop, file_of, get, lesson, served
from support.raw_http import Reply

from edge.store.begun import MOST_PIECES
from edge.store.partial import Partial
from manifests.pieces import parse_bits

WHOLE = make_blob(5 * PIECE, "whole")
HALF = make_blob(10 * PIECE + 1000, "half")
HAVE = (0, 1, 4, 10)


@dataclass
class Site:
    shop: Shop
    port: int
    partial: Partial

    async def get(self, path: str, method: str = "GET", **headers: str) -> Reply:
        return await get(self.port, path, method, **headers)

    async def range(self, start: int, stop: int, **headers: str) -> Reply:
        return await self.get(f"/blobs/{HALF.digest}", Range=f"bytes={start}-{stop - 1}", **headers)


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    shop = Shop(tmp_path)
    shop.put(WHOLE)
    shop.install(lesson("kj-1", file_of(WHOLE, "a.mp4")), offered=[lesson("kj-2", file_of(HALF, "b.mp4"))])
    with shop.store.begin(HALF.ref, HALF.table) as partial:
        for n in HAVE:
            partial.write_pieces(n, HALF.piece(n))
        async with served(tmp_path) as port:
            yield Site(shop, port, partial)
    shop.close()


async def test_proved_pieces_are_given_out_as_if_the_blob_were_whole(site: Site) -> None:
    got = await site.range(100, 2 * PIECE - 5)
    assert got.status == 206
    assert got.body == HALF.data[100 : 2 * PIECE - 5]
    assert got.headers["content-range"] == f"bytes 100-{2 * PIECE - 6}/{HALF.ref.size}"
    whole = await site.get(f"/blobs/{WHOLE.digest}", Range="bytes=0-99")
    assert got.headers.keys() == whole.headers.keys()
    assert got.headers["etag"] == f'"{HALF.digest}"'
    tail = await site.range(10 * PIECE, HALF.ref.size)
    assert tail.body == HALF.data[10 * PIECE :]
    both = await site.get(f"/blobs/{HALF.digest}", Range=f"bytes=0-9,{4 * PIECE}-{4 * PIECE + 9}")
    assert both.status == 206
    assert HALF.data[4 * PIECE : 4 * PIECE + 10] in both.body


@pytest.mark.parametrize(("start", "stop"), [(2 * PIECE - 1, 2 * PIECE + 1), (0, 11 * PIECE), (5 * PIECE, 6 * PIECE)])
async def test_a_range_that_touches_a_missing_piece_waits(site: Site, start: int, stop: int) -> None:
    got = await site.range(start, min(stop, HALF.ref.size))
    assert got.status == 503
    assert got.headers["retry-after"] == "300"


async def test_without_a_range_it_is_not_here(site: Site) -> None:
    for method in ("GET", "HEAD"):
        assert (await site.get(f"/blobs/{HALF.digest}", method)).status == 503
    assert (await site.get(f"/blobs/{HALF.digest}", If_None_Match=f'"{HALF.digest}"')).status == 304
    assert (await site.range(HALF.ref.size, HALF.ref.size + 1)).status == 416


async def test_bits_grow_with_the_pieces_and_end_as_ones(site: Site) -> None:
    path = f"/pieces/{HALF.digest}"
    got = await site.get(path)
    assert (got.status, got.headers["cache-control"]) == (200, "no-store")
    assert got.headers["content-type"] == "application/octet-stream"
    assert parse_bits(got.body, len(HALF.table)) == set(HAVE)
    for n in site.partial.missing():
        assert (await site.range(*HALF.table.bounds(n))).status == 503
        site.partial.write_pieces(n, HALF.piece(n))
        assert (await site.range(*HALF.table.bounds(n))).body == HALF.piece(n)
    site.partial.finish()
    assert (await site.range(0, HALF.ref.size)).body == HALF.data
    assert (await site.get(f"/pieces/{WHOLE.digest}")).body == b"\xf8"
    for name in ("0" * 64, "x", HALF.digest[:-1]):
        assert (await site.get(f"/pieces/{name}")).status == 404


async def test_marked_bytes_that_the_disk_lost_are_not_given_out(site: Site) -> None:
    path = site.shop.paths.partial(HALF.digest)
    flip(path, 4 * PIECE + 17)
    assert (await site.range(4 * PIECE, 4 * PIECE + 5)).status == 503
    assert (await site.range(0, PIECE)).status == 206
    path.unlink()
    assert (await site.range(0, PIECE)).status == 503


async def test_one_answer_is_bounded(tmp_path: Path) -> None:
    shop = Shop(tmp_path)
    big = make_blob((MOST_PIECES + 3) * PIECE, "big")
    with shop.store.begin(big.ref, big.table) as partial:
        partial.write_pieces(0, memoryview(big.data)[: (MOST_PIECES + 1) * PIECE])
        async with served(tmp_path) as port:
            path = f"/blobs/{big.digest}"
            got = await get(port, path, Range=f"bytes=0-{MOST_PIECES * PIECE - 1}")
            assert got.body == big.data[: MOST_PIECES * PIECE]
            assert (await get(port, path, Range=f"bytes=0-{MOST_PIECES * PIECE}")).status == 503
            held = [one for one in Path("/proc/self/fd").iterdir() if os.path.realpath(one).endswith(big.digest)]
            assert len(held) == 1  # the writer's
    shop.close()
