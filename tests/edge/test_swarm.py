"""Edges of one city fill a new blob together, over real sockets."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from structlog.testing import capture_logs
from support.city import GROUP, city, content_bytes, free_ports, sync_all
from support.edges import stored
from support.portal import get
from support.province import ManualClock, Province
from support.relay import Fault, Liar, Relay, raw

from edge.paths import Paths
from edge.store.blobs import BlobStore
from manifests.digests import Digest, digest_of
from manifests.pieces import PIECE_SIZE, BlobRef, TableBuilder, dump_bits, parse_table

FILM = random.Random(7).randbytes(12 * GROUP + 1000)


def table_of(data: bytes) -> bytes:
    builder = TableBuilder()
    builder.update(data)
    return builder.finish()


def _province(clock: ManualClock) -> tuple[Province, str]:
    province = Province(clock)
    lesson = province.lesson("film", {"film.mp4": FILM})
    province.release()
    return province, lesson.files[0].blob


def _half(blob: str, which: int) -> Callable[[int, Path], None]:
    """Give each edge, before it is opened, the pieces of every other group."""
    table_data = table_of(FILM)
    ref = BlobRef(Digest(blob), len(FILM), digest_of(table_data))

    def fill(number: int, home: Path) -> None:
        table = parse_table(table_data, ref.size, ref.piece_size)
        with BlobStore.open(Paths(home)) as store:
            store.put(BlobRef(digest_of(table_data), len(table_data)), table_data)
            with store.begin(ref, table) as partial:
                for n in range(len(table)):
                    if (n // 4 + number) % which == 0:
                        partial.write_pieces(n, FILM[slice(*table.bounds(n))])

    return fill


async def test_a_piece_crosses_the_line_about_once(tmp_path: Path) -> None:
    clock = ManualClock()
    province, blob = _province(clock)
    async with province.site().running() as origin, city(tmp_path, province, clock, [origin.url] * 4) as members:
        reports = await sync_all(members)
        for member, report in zip(members, reports, strict=True):
            assert report.complete
            assert stored(member.edge, "film", "film.mp4") == FILM
            near = sum(count for url, count in report.sources.items() if url != origin.url)
            assert near > 0
        assert content_bytes(origin, blob, len(FILM)) <= 1.5 * len(FILM)


async def test_two_half_filled_edges_complete_from_each_other_when_the_line_is_cut(tmp_path: Path) -> None:
    clock = ManualClock()
    province, blob = _province(clock)
    async with AsyncExitStack() as stack:
        site = await stack.enter_async_context(province.site().running())
        relay = await stack.enter_async_context(Relay(site.url).running())

        def cut(path: str) -> None:
            if blob in path:  # from the first bulk byte on, the province cannot be reached
                relay.faults = lambda _: Fault(refuse=True)
                relay.drop()

        site.before = cut
        members = await stack.enter_async_context(
            # Above is asked in vain for as long as a busy machine needs to look at the sibling.
            city(tmp_path, province, clock, [relay.url] * 2, before=_half(blob, 2), upstream_retries="20")
        )
        reports = await sync_all(members)
        for member, report in zip(members, reports, strict=True):
            assert report.complete, report.error
            assert stored(member.edge, "film", "film.mp4") == FILM


async def test_a_sibling_that_just_puts_the_blob_away_is_asked_again(tmp_path: Path) -> None:
    clock = ManualClock()
    province, blob = _province(clock)
    count = len(table_of(FILM)) // 32
    refused: Counter[str] = Counter()

    def answer(path: str, field: str) -> bytes:
        if path == f"/pieces/{blob}":
            return raw(200, dump_bits(range(count), count))
        if path != f"/blobs/{blob}":
            return raw(404)
        refused[field] += 1
        if refused.total() <= 4:
            return raw(404)
        first, last = (int(text) for text in field.removeprefix("bytes=").split("-"))
        return raw(206, FILM[first : last + 1], f"Content-Range: bytes {first}-{last}/{len(FILM)}")

    async with AsyncExitStack() as stack:
        site = await stack.enter_async_context(province.site().running())
        relay = await stack.enter_async_context(Relay(site.url).running())
        sibling = await stack.enter_async_context(Liar(answer).running())

        def cut(path: str) -> None:
            if blob in path:
                relay.faults = lambda _: Fault(refuse=True)
                relay.drop()

        site.before = cut
        members = await stack.enter_async_context(
            city(tmp_path, province, clock, [relay.url], strangers=[sibling.url], upstream_retries="20")
        )
        report = (await sync_all(members))[0]
        assert report.complete, report.error
        assert stored(members[0].edge, "film", "film.mp4") == FILM


async def test_a_dead_sibling_and_one_that_does_not_sync_cost_little(tmp_path: Path) -> None:
    clock = ManualClock()
    province, blob = _province(clock)
    dead = f"http://127.0.0.1:{free_ports(1)[0]}"
    async with (
        province.site().running() as origin,
        city(tmp_path, province, clock, [origin.url] * 3, strangers=[dead]) as members,
    ):
        reports = await sync_all(members[:2])
        assert all(report.complete and not report.banned for report in reports)
        assert content_bytes(origin, blob, len(FILM)) <= 1.5 * len(FILM)
        before = content_bytes(origin, blob, len(FILM))
        late = (await sync_all(members[2:]))[0]
        assert late.complete
        assert content_bytes(origin, blob, len(FILM)) == before  # all was in the city


async def test_a_lying_sibling_is_banned_and_named(tmp_path: Path) -> None:
    clock = ManualClock()
    province, blob = _province(clock)
    count = len(table_of(FILM)) // 32

    def lie(path: str, field: str) -> bytes:
        if path == f"/pieces/{blob}":
            return raw(200, dump_bits(range(count), count))
        if path != f"/blobs/{blob}":
            return raw(404)
        first, last = (int(text) for text in field.removeprefix("bytes=").split("-"))
        return raw(206, bytes(last - first + 1), f"Content-Range: bytes {first}-{last}/{len(FILM)}")

    async with AsyncExitStack() as stack:
        origin = await stack.enter_async_context(province.site().running())
        liar = await stack.enter_async_context(Liar(lie).running())
        members = await stack.enter_async_context(
            city(tmp_path, province, clock, [origin.url] * 3, strangers=[liar.url])
        )
        with capture_logs() as log:
            reports = await sync_all(members)
        for member, report in zip(members, reports, strict=True):
            assert report.complete
            assert list(report.banned) == [liar.url]
            assert stored(member.edge, "film", "film.mp4") == FILM
        named = [entry for entry in log if entry["event"] == "source banned"]
        assert {entry["source"] for entry in named} == {liar.url}
        asked = sum(path == f"/blobs/{blob}" for path, _ in liar.requests)
        assert asked <= 3  # once by each edge, then never again
        assert content_bytes(origin, blob, len(FILM)) <= 1.5 * len(FILM)
        again = (await sync_all(members[:1]))[0]
        assert list(again.banned) == [liar.url]  # the ban outlives the run
        metrics = (await get(int(members[0].url.rpartition(":")[2]), "/metrics")).body.decode()
        assert f'yuanjiao_edge_source_ban_seconds{{source="{liar.url}"}}' in metrics


async def test_a_sibling_that_promises_and_does_not_give_is_passed_over(tmp_path: Path) -> None:
    clock = ManualClock()
    province, blob = _province(clock)
    count = len(table_of(FILM)) // 32

    def promise(path: str, _: str) -> bytes:
        return raw(200, dump_bits(range(count), count)) if path.startswith("/pieces/") else raw(503)

    async with AsyncExitStack() as stack:
        origin = await stack.enter_async_context(province.site().running())
        liar = await stack.enter_async_context(Liar(promise).running())
        members = await stack.enter_async_context(
            city(tmp_path, province, clock, [origin.url] * 2, strangers=[liar.url])
        )
        reports = await sync_all(members)
        assert all(report.complete and not report.banned for report in reports)
        assert content_bytes(origin, blob, len(FILM)) <= 1.5 * len(FILM)


@pytest.mark.parametrize("how", ["stalls", "truncates", "answers the wrong range"])
async def test_a_sibling_that_fails_is_passed_over_without_a_ban(tmp_path: Path, how: str) -> None:
    clock = ManualClock()
    province, blob = _province(clock)
    count = len(table_of(FILM)) // 32

    def answer(path: str, field: str) -> bytes:
        if path == f"/pieces/{blob}":
            return raw(200, dump_bits(range(count), count))
        if path != f"/blobs/{blob}":
            return raw(404)
        first, last = (int(text) for text in field.removeprefix("bytes=").split("-"))
        told = f"Content-Range: bytes {first + (how == 'answers the wrong range')}-{last}/{len(FILM)}"
        body = FILM[first : last + 1]
        return raw(206, body[:100_000] if how == "truncates" else body, told, length=len(body))

    async with AsyncExitStack() as stack:
        origin = await stack.enter_async_context(province.site().running())
        liar = await stack.enter_async_context(Liar(answer).running())
        relay = await stack.enter_async_context(Relay(liar.url).running())
        if how == "stalls":
            relay.faults = lambda _: Fault(stall_after=1000)
        members = await stack.enter_async_context(
            city(tmp_path, province, clock, [origin.url] * 2, strangers=[relay.url])
        )
        for report in await sync_all(members):
            assert report.complete, report.error
            assert not report.banned
        assert content_bytes(origin, blob, len(FILM)) <= 1.6 * len(FILM)


async def test_a_line_that_drops_again_and_again_brings_no_proved_piece_twice(tmp_path: Path) -> None:
    clock = ManualClock()
    province, _ = _province(clock)
    async with AsyncExitStack() as stack:
        site = await stack.enter_async_context(province.site().running())
        relay = await stack.enter_async_context(Relay(site.url, lambda _: Fault(cut_after=900_000)).running())
        members = await stack.enter_async_context(city(tmp_path, province, clock, [relay.url] * 2))
        reports = await sync_all(members)
        assert all(report.complete for report in reports)
        above = sum(report.sources[relay.url] for report in reports)
        assert relay.connections > 12  # it did drop
        assert above <= len(FILM) + relay.connections * PIECE_SIZE
