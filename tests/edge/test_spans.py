"""One span on a line that breaks: nothing that came is asked for again, and one source never ends another's piece."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from support.edge_store import PIECE, make_blob, opened_store
from support.province import Content, Site
from support.relay import Fault, Relay

from edge.fill.spans import SpanFetch
from edge.upstream.client import open_upstreams
from edge.upstream.progress import Limits
from manifests.errors import TransferError
from manifests.pieces import Span

MADE = make_blob(8 * PIECE, "span")


async def _run(work, *args):
    return await asyncio.to_thread(work, *args)


async def test_half_a_piece_goes_on_from_the_same_source(tmp_path: Path) -> None:
    ticks: list[int] = []
    cuts = iter([2 * PIECE + 5000, PIECE + 777])
    async with (
        Site(Content(blobs={MADE.digest: MADE.data})).running() as site,
        Relay(site.url, lambda _: Fault(cut_after=next(cuts, None))).running() as relay,
        open_upstreams((relay.url, site.url), Limits()) as (broken, well),
    ):
        with opened_store(tmp_path) as store, store.begin(MADE.ref, MADE.table) as partial:
            fetch = SpanFetch(partial, Span(0, 7), _run, lambda: ticks.append(1))
            with pytest.raises(TransferError):
                await fetch.run(broken)
            assert 0 < len(fetch.missing()) < 8
            with pytest.raises(TransferError):
                await fetch.run(broken)
            last = fetch.missing()
            await fetch.run(broken)
            assert fetch.missing() == partial.missing() == []
            assert broken.traffic.bytes_received == fetch.bytes_stored == len(MADE.data)
            assert last
            assert ticks
    assert well.traffic.requests == 0


async def test_another_source_begins_the_piece_anew(tmp_path: Path) -> None:
    async with (
        Site(Content(blobs={MADE.digest: MADE.data})).running() as site,
        Relay(site.url, lambda _: Fault(cut_after=2 * PIECE + 5000)).running() as relay,
        open_upstreams((relay.url, site.url), Limits()) as (broken, well),
    ):
        with opened_store(tmp_path) as store, store.begin(MADE.ref, MADE.table) as partial:
            fetch = SpanFetch(partial, Span(0, 7), _run, lambda: None)
            with pytest.raises(TransferError):
                await fetch.run(broken)
            left = len(fetch.missing())
            await fetch.run(well)
            assert well.traffic.bytes_received == left * PIECE
            assert partial.missing() == []
