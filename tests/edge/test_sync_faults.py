"""Sync against rot, liars and bad lines, over real sockets: what was proved is kept, the rest is named."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
from support.edges import edge_at, run, stored
from support.province import ManualClock, Province, Site
from support.relay import Fault, Liar, Relay, raw

from manifests.errors import DigestError, FormatError
from manifests.pieces import PIECE_SIZE

RNG = random.Random(12)
VIDEO = RNG.randbytes(12 * PIECE_SIZE + 99)
TRIMMED = VIDEO[77_777:]
PAPER = b"p" * 50_000


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def province(clock: ManualClock) -> Province:
    made = Province(clock)
    made.lesson("film", {"video.mp4": VIDEO})
    made.lesson("paper", {"paper.pdf": PAPER})
    made.release()
    return made


@pytest.fixture
async def site(province: Province) -> AsyncIterator[Site]:
    async with province.site().running() as running:
        yield running


async def test_a_flipped_byte_costs_one_piece(
    tmp_path: Path, province: Province, clock: ManualClock, site: Site
) -> None:
    blob = province.lessons["film"].files[0].ref
    async with province.mirror().running() as bent, edge_at(tmp_path, province, clock, bent.url) as edge:
        bent.content.flip(blob.digest, 5 * PIECE_SIZE + 3)
        report = await run(edge)
        assert (report.complete, report.exit_code) == (False, 3)
        assert report.added == ("paper",), "one rotten file does not hold up the others"
        assert [one.id for one in report.deferred] == ["film"]
        assert "piece 5 does not prove" in report.error
        assert list(report.banned) == [bent.url]
        assert edge.store.partials()[blob.digest] == 12 * PIECE_SIZE
    async with edge_at(tmp_path, province, clock, site.url) as edge:
        report = await run(edge)
        assert report.complete
        assert sum(path.endswith(blob.digest) for path, _ in site.requests) == 1
        assert stored(edge, "film", "video.mp4") == VIDEO
    assert site.bytes_sent < PIECE_SIZE + 2000


async def test_a_sibling_makes_good_what_another_spoils(
    tmp_path: Path, province: Province, clock: ManualClock, site: Site
) -> None:
    blob = province.lessons["film"].files[0].ref
    async with province.mirror().running() as bent, edge_at(tmp_path, province, clock, bent.url, site.url) as edge:
        bent.content.flip(blob.digest, 3)
        report = await run(edge)
        assert report.complete
        assert list(report.banned) == [bent.url]
        assert stored(edge, "film", "video.mp4") == VIDEO
        site.forget()
        bent.forget()
        province.lesson("more", {"more.pdf": b"more"})
        province.release()
        assert (await run(edge)).complete
        assert bent.requests == [], "the ban outlives the run"


@pytest.mark.parametrize("which", ["table", "paper"])
async def test_a_flipped_byte_in_a_small_blob(
    tmp_path: Path, province: Province, clock: ManualClock, site: Site, which: str
) -> None:
    table, paper = province.lessons["film"].files[0].table, province.lessons["paper"].files[0].blob
    digest, victim = (str(table), "film") if which == "table" else (paper, "paper")
    async with province.mirror().running() as bent:
        bent.content.flip(digest, 7)
        async with edge_at(tmp_path / "a", province, clock, bent.url) as edge:
            report = await run(edge)
            assert report.exit_code == 3
            assert [one.id for one in report.deferred] == [victim]
            assert not edge.store.path(digest).exists()  # type: ignore[arg-type]
        async with edge_at(tmp_path / "b", province, clock, bent.url, site.url) as edge:
            assert (await run(edge)).complete


async def test_a_flipped_byte_in_a_patch_falls_back_to_pieces(
    tmp_path: Path, province: Province, clock: ManualClock, site: Site
) -> None:
    async with edge_at(tmp_path, province, clock, site.url) as edge:
        await run(edge)
        item = province.lesson("film", {"video.mp4": TRIMMED})
        province.release()
        province.content.flip(item.files[0].patches[0].blob, 40)
        report = await run(edge)
        assert report.complete
        assert list(report.banned) == [site.url]
        assert report.bytes_fetched > len(TRIMMED)
        assert stored(edge, "film", "video.mp4") == TRIMMED


async def test_a_patch_that_builds_something_else_falls_back_to_pieces(
    tmp_path: Path, province: Province, clock: ManualClock, site: Site
) -> None:
    async with edge_at(tmp_path, province, clock, site.url) as edge:
        await run(edge)
        other = bytearray(TRIMMED)
        other[4 * PIECE_SIZE + 1] ^= 1
        wrong = province.patch(province.lessons["film"].files[0].blob, bytes(other))
        item = province.lesson("film", {"video.mp4": TRIMMED}, patches=False)
        files = (msgspec.structs.replace(item.files[0], patches=(wrong,)),)
        province.lessons["film"] = msgspec.structs.replace(item, files=files)
        province.release()
        site.forget()
        report = await run(edge)
        assert report.complete
        assert stored(edge, "film", "video.mp4") == TRIMMED
        assert report.bytes_from_patches == len(TRIMMED) - PIECE_SIZE, "its good pieces count"
        assert report.bytes_fetched < PIECE_SIZE + 8000


async def test_a_rotten_old_blob_spoils_only_the_patch(
    tmp_path: Path, province: Province, clock: ManualClock, site: Site
) -> None:
    async with edge_at(tmp_path, province, clock, site.url) as edge:
        await run(edge)
        with edge.store.path(province.lessons["film"].files[0].ref.digest).open("r+b") as file:
            file.seek(6 * PIECE_SIZE)
            file.write(b"rot")
        province.lesson("film", {"video.mp4": TRIMMED})
        province.release()
        report = await run(edge)
        assert report.complete
        assert stored(edge, "film", "video.mp4") == TRIMMED
        assert report.bytes_fetched < 3 * PIECE_SIZE


async def test_a_flipped_byte_in_the_catalog_changes_nothing(
    tmp_path: Path, province: Province, clock: ManualClock, site: Site
) -> None:
    async with edge_at(tmp_path, province, clock, site.url) as edge:
        await run(edge)
        province.recall("paper")
        province.catalog_patches = False
        province.release()
        async with province.mirror().running() as bent:
            bent.content.flip(province.catalogs[-1].digest, 100)
            async with edge_at(tmp_path, province, clock, bent.url) as same:
                with pytest.raises(DigestError):
                    await run(same)
        assert set(edge.library.versions()) == {"film", "paper"}
        note = edge.library.get_meta("last_sync")
        assert isinstance(note, dict)
        assert note["exit_code"] == 3
        assert (await run(edge)).removed == ("paper",)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"major":1', b'"major":2'),
        (b'"publisher":"410000"', b'"publisher":"420000"'),
        (b'"version":2}', b'"version":9}'),
        (b'"name":"paper.pdf"', b'"name":"../er.pdf"'),
        (b"{", b"["),
    ],
)
async def test_a_signed_catalog_that_breaks_a_rule_changes_nothing(
    tmp_path: Path, province: Province, clock: ManualClock, site: Site, old: bytes, new: bytes
) -> None:
    async with edge_at(tmp_path, province, clock, site.url) as edge:
        await run(edge)
        province.release(edit=lambda data: data.replace(old, new))
        with pytest.raises(FormatError):
            await run(edge)
        assert edge.library.catalog_version() == 1
        province.release()
        assert (await run(edge)).complete


@pytest.mark.parametrize("target", [{"version": 0}, {"table": "zz"}, {"table": "ab" * 32}, {"piece_size": 1000}])
async def test_a_signed_target_that_breaks_a_rule_changes_nothing(
    tmp_path: Path, province: Province, clock: ManualClock, site: Site, target: dict[str, object]
) -> None:
    async with edge_at(tmp_path, province, clock, site.url) as edge:
        await run(edge)
        province.release(**target)
        with pytest.raises(FormatError):
            await run(edge)
        assert edge.library.catalog_version() == 1


async def test_a_line_that_drops_every_few_pieces(
    tmp_path: Path, province: Province, clock: ManualClock, site: Site
) -> None:
    async with Relay(site.url, lambda _: Fault(cut_after=3 * PIECE_SIZE)).running() as relay:
        async with edge_at(tmp_path, province, clock, relay.url) as edge:
            report = await run(edge)
            assert report.complete
            assert stored(edge, "film", "video.mp4") == VIDEO
        assert relay.connections > 3
        assert relay.bytes_down < len(VIDEO) * 1.6, "only the pieces under way are lost at each drop"


async def test_a_slow_source_is_left_for_the_next(
    tmp_path: Path, province: Province, clock: ManualClock, site: Site
) -> None:
    loop = asyncio.get_running_loop()
    slow = Relay(site.url, lambda _: Fault(drip_s=1))
    async with slow.running(), edge_at(tmp_path, province, clock, slow.url, site.url) as edge:
        began_s = loop.time()
        report = await run(edge)
        assert report.complete
        assert loop.time() - began_s < 60, "at a byte a second it would be there in weeks"


async def test_two_sources_carry_together(tmp_path: Path, province: Province, clock: ManualClock, site: Site) -> None:
    async with province.mirror().running() as other:
        env = {"upstream_span_pieces": "1", "upstream_requests_in_flight": "4"}
        async with edge_at(tmp_path, province, clock, site.url, other.url, **env) as edge:
            report = await run(edge)
            assert report.complete
            assert set(report.sources) == {site.url, other.url}


LIES = {
    "missing": raw(404),
    "error": raw(500, b"x" * 100),
    "page": raw(200, b"<html>login</html>" * 100, "Content-Type: text/html"),
    "short": raw(206, b"x", "Content-Range: bytes 0-0/3145827"),
    "cut": raw(200, b"x" * 10, length=50_000),
    "long": raw(200, b"x" * (len(VIDEO) + 50_000)),
    "range": raw(206, b"x" * 100, "Content-Range: bytes 100-199/3145827"),
    "redirect": raw(302, b"", "Location: http://127.0.0.1:9/elsewhere"),
}


@pytest.mark.parametrize("lie", LIES)
async def test_lies_about_blobs(tmp_path: Path, province: Province, clock: ManualClock, site: Site, lie: str) -> None:
    def script(path: str, _range: str) -> bytes:
        _, kind, name = path.split("/", 2)
        data = province.content.metadata.get(name) if kind == "metadata" else None
        if name == province.catalogs[-1].digest:
            data = province.content.blobs[name]
        return LIES[lie] if kind == "blobs" and data is None else raw(200, data) if data else raw(404)

    async with Liar(script).running() as liar:
        async with edge_at(tmp_path, province, clock, liar.url) as edge:
            report = await run(edge)
            assert (report.complete, report.exit_code) == (False, 4)
            assert {one.id for one in report.deferred} == {"film", "paper"}
            assert liar.url in report.error
            assert edge.library.versions() == {}
        async with edge_at(tmp_path, province, clock, liar.url, site.url) as edge:
            assert (await run(edge)).complete
            assert stored(edge, "film", "video.mp4") == VIDEO


async def test_a_blob_that_nobody_has_defers_its_lesson_only(
    tmp_path: Path, province: Province, clock: ManualClock, site: Site
) -> None:
    for i in range(6):
        del province.content.blobs[province.lesson(f"lost{i}", {"x.pdf": b"%d" % i}, priority=9).files[0].blob]
    province.release()
    async with edge_at(tmp_path, province, clock, site.url) as edge:
        report = await run(edge)
        assert report.added == ("film", "paper")
        assert len(report.deferred) == 6
        assert report.exit_code == 4


async def test_a_dead_line_ends_the_run_soon(
    tmp_path: Path, province: Province, clock: ManualClock, site: Site
) -> None:
    for i in range(40):
        province.lesson(f"l{i:02d}", {"x.pdf": b"%d" % i * 1000}, priority=9 if i < 5 else 1)
    province.release()
    last = province.lessons["l04"].files[0].blob
    async with Relay(site.url).running() as line, edge_at(tmp_path, province, clock, line.url) as edge:

        def die(path: str) -> None:
            if last in path:
                line.faults = lambda _: Fault(refuse=True)
                line.drop()

        site.before = die
        report = await run(edge)
        assert report.exit_code == 4
        assert 1 <= len(report.added) <= 8
        assert len(report.added) + len(report.deferred) == 42
        assert sum("not begun" in one.reason for one in report.deferred) > 20
        assert edge.library.versions().keys() == set(report.added)
        site.before = None
        line.faults = lambda _: Fault()
        assert (await run(edge)).complete
