"""What was lost or rotted after it was installed comes back with the next sync, at the price of what was lost."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import msgspec
import pytest
from support.edge_store import flip
from support.edges import edge_at, preview, run, stored
from support.province import ManualClock, Province, Site

from edge import app
from edge.app import Edge
from edge.sync import follow
from manifests.digests import Digest
from manifests.pieces import PIECE_SIZE

RNG = random.Random(22)
FILM = RNG.randbytes(9 * PIECE_SIZE + 5)
PAPER = b"p" * 70_000


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def province(clock: ManualClock) -> Province:
    made = Province(clock)
    made.lesson("film", {"video.mp4": FILM, "paper.pdf": PAPER})
    made.lesson("same", {"copy.mp4": FILM})
    made.release()
    return made


@pytest.fixture
async def site(province: Province) -> AsyncIterator[Site]:
    async with province.site().running() as running:
        yield running


def _flip_two_pieces(edge: Edge, province: Province) -> int:
    path = edge.store.path(_film(province))
    flip(path, PIECE_SIZE + 7)
    flip(path, 5 * PIECE_SIZE)
    return 2 * PIECE_SIZE


def _lose_the_film(edge: Edge, province: Province) -> int:
    edge.store.path(_film(province)).unlink()
    return len(FILM)


def _lose_the_paper(edge: Edge, province: Province) -> int:
    edge.store.path(province.lessons["film"].files[1].ref.digest).unlink()
    return len(PAPER)


def _lose_the_table(edge: Edge, province: Province) -> int:
    edge.store.path(_table(province)).unlink()
    return 10 * 32


def _rot_the_table(edge: Edge, province: Province) -> int:
    flip(edge.store.path(_table(province)), 40)
    return 10 * 32


def _film(province: Province) -> Digest:
    return province.lessons["film"].files[0].ref.digest


def _table(province: Province) -> Digest:
    return Digest(str(province.lessons["film"].files[0].table))


Hurt = Callable[[Edge, Province], int]


@pytest.mark.parametrize("hurt", [_flip_two_pieces, _lose_the_film, _lose_the_paper, _lose_the_table, _rot_the_table])
async def test_what_a_scrub_found_is_fetched_again(
    tmp_path: Path, province: Province, clock: ManualClock, site: Site, hurt: Hurt
) -> None:
    async with edge_at(tmp_path, province, clock, site.url) as edge:
        await run(edge)
        lost = hurt(edge, province)
        report = await app.scrub(edge, False)
        assert report.bad
        assert report.repaired == 0
        site.forget()
        mended = await run(edge)
        assert mended.complete
        assert "film" in mended.updated
        fetched = sum(size for path, size in _blob_bytes(site, province).items())
        assert lost <= fetched <= lost + 400, "what was lost, and the piece table if that was lost too"
        assert stored(edge, "film", "video.mp4") == FILM
        assert stored(edge, "film", "paper.pdf") == PAPER
        assert edge.library.lacking() == {}
        assert (await app.scrub(edge, False)).bad == ()
        assert (await run(edge)).requests == 2


def _blob_bytes(site: Site, province: Province) -> dict[str, int]:
    found: dict[str, int] = {}
    for path, field in site.requests:
        _, kind, name = path.split("/", 2)
        if kind == "blobs":
            first, _, last = field.removeprefix("bytes=").partition("-")
            size = int(last) - int(first) + 1 if field else len(province.content.blobs[name])
            found[name] = found.get(name, 0) + size
    return found


async def test_a_rotten_lesson_needs_no_room_to_be_mended(
    tmp_path: Path, province: Province, clock: ManualClock, site: Site
) -> None:
    async with edge_at(tmp_path, province, clock, site.url) as edge:
        await run(edge)
        used = edge.store.stats().blob_bytes
        _flip_two_pieces(edge, province)
        await app.scrub(edge, False)
    async with edge_at(tmp_path, province, clock, site.url, store_quota_bytes=str(used)) as edge:
        plan = await preview(edge)
        assert plan.bytes_expected == 2 * PIECE_SIZE
        assert (await run(edge)).complete


async def test_nothing_new_and_nothing_lost_reads_no_catalog(
    tmp_path: Path, province: Province, clock: ManualClock, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded: list[int] = []
    decode = follow.decode_catalog
    monkeypatch.setattr(follow, "decode_catalog", lambda data: decoded.append(len(data)) or decode(data))
    async with edge_at(tmp_path, province, clock, site.url) as edge:
        await run(edge)
        assert len(decoded) == 1
        assert (await run(edge)).complete
        assert len(decoded) == 1
        flip(edge.store.path(province.catalogs[-1].digest), 9)
        await app.scrub(edge, False)
        assert (await run(edge)).complete
        assert edge.store.has(province.catalogs[-1].digest), "siblings ask this edge for it"


async def test_a_file_removed_by_hand_does_not_stop_the_night(
    tmp_path: Path, province: Province, clock: ManualClock, site: Site
) -> None:
    """Nothing told the index: the catalog and the blob that a patch starts from are gone when they are wanted."""
    async with edge_at(tmp_path, province, clock, site.url) as edge:
        await run(edge)
        edge.store.path(_film(province)).unlink()
        for kept in edge.library.catalogs():
            edge.store.path(kept.ref.digest).unlink()
        cut = FILM[1000:]
        province.lesson("film", {"video.mp4": cut, "paper.pdf": PAPER})
        province.lesson("more", {"more.pdf": b"more"})
        province.release()
        report = await run(edge)
        assert report.complete, report
        assert stored(edge, "film", "video.mp4") == cut
        assert (await run(edge)).complete
        assert stored(edge, "same", "copy.mp4") == FILM, "met as lost on the way, and fetched for the other lesson"


async def test_strays_of_killed_runs_are_removed(
    tmp_path: Path, province: Province, clock: ManualClock, site: Site
) -> None:
    """As a kill at `delete:unindexed` or `put:renamed` leaves them, for a blob that nobody wants any more."""
    async with edge_at(tmp_path, province, clock, site.url) as edge:
        await run(edge)
        stray, wanted = Digest("ab" * 32), province.blob(b"soon wanted")
        for digest, data in ((stray, b"x" * 1000), (wanted.digest, b"soon wanted")):
            edge.store.path(digest).parent.mkdir(exist_ok=True)
            edge.store.path(digest).write_bytes(data)
        province.lesson("more", {"more.pdf": b"soon wanted"})
        province.release()
        assert (await run(edge)).complete
        assert not edge.store.path(stray).exists()
        assert edge.store.has(wanted.digest)
        assert {path.name for path in edge.paths.blobs.rglob("*") if path.is_file()} == edge.store.digests()


async def test_the_index_and_a_piece_are_lost(
    tmp_path: Path, province: Province, clock: ManualClock, site: Site
) -> None:
    async with edge_at(tmp_path, province, clock, site.url) as edge:
        await run(edge)
        flip(edge.store.path(_film(province)), 3 * PIECE_SIZE)
    for path in tmp_path.glob("index.sqlite*"):
        path.unlink()
    site.forget()
    async with edge_at(tmp_path, province, clock, site.url) as edge:
        assert (await run(edge)).complete
        assert stored(edge, "same", "copy.mp4") == FILM
        assert _blob_bytes(site, province) == {_film(province): PIECE_SIZE}


@pytest.mark.parametrize("bent", ["size", "table"])
async def test_two_lessons_that_disagree_about_a_blob(
    tmp_path: Path, province: Province, clock: ManualClock, site: Site, bent: str
) -> None:
    """Signed, and still wrong: the lesson that does not fit waits, the other plays, and each run ends."""
    item = province.lessons["same"]
    file = item.files[0]
    if bent == "size":
        file = msgspec.structs.replace(file, size=file.size - 1)
    else:
        file = msgspec.structs.replace(file, table="cd" * 32)
    province.lessons["same"] = msgspec.structs.replace(item, files=(file,), priority=0)
    province.release()
    async with edge_at(tmp_path, province, clock, site.url) as edge:
        for _ in range(2):
            report = await run(edge)
            assert [one.id for one in report.deferred] == ["same"]
            assert stored(edge, "film", "video.mp4") == FILM
        assert report.exit_code == (3 if bent == "size" else 4)
