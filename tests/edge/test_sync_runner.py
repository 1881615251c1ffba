"""Sync end to end against a real signed province over real sockets: what crosses the line, what is installed, when."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from support.edges import disk_of, edge_at, preview, run, stored
from support.province import DAY, HOUR, ManualClock, Province, Site
from support.relay import Relay

from edge import app
from edge.store.locks import FileLock
from edge.sync.planner import How
from manifests.errors import BusyError
from manifests.instants import Instant, dump_instant
from manifests.pieces import PIECE_SIZE

RNG = random.Random(11)
VIDEO = RNG.randbytes(10 * PIECE_SIZE + 777)
TRIMMED = VIDEO[123_456:]


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def province(clock: ManualClock) -> Province:
    made = Province(clock)
    made.lesson("film", {"video.mp4": VIDEO, "note.pdf": b"notes"})
    made.lesson("paper", {"paper.pdf": b"p" * 70_000})
    made.release()
    return made


@pytest.fixture
async def site(province: Province) -> AsyncIterator[Site]:
    async with province.site().running() as running:
        yield running


async def test_first_sync_then_nothing_new(tmp_path: Path, province: Province, clock: ManualClock, site: Site) -> None:
    async with Relay(site.url).running() as relay, edge_at(tmp_path, province, clock, relay.url) as edge:
        report = await run(edge)
        assert report.complete
        assert (report.exit_code, report.error, report.freshness) == (0, "", "fresh")
        assert (report.added, report.updated, report.removed) == (("film", "paper"), (), ())
        assert stored(edge, "film", "video.mp4") == VIDEO
        assert stored(edge, "film", "note.pdf") == b"notes"
        assert report.bytes_fetched == site.bytes_sent
        assert report.sources == {relay.url: site.bytes_sent}
        assert edge.library.get_meta("last_sync") is not None
        relay.forget()
        again = await run(edge)
        assert again.complete
        assert again.requests == 2
        assert relay.bytes_both <= 2000


async def test_a_trimmed_intro_is_a_patch(tmp_path: Path, province: Province, clock: ManualClock, site: Site) -> None:
    async with edge_at(tmp_path, province, clock, site.url) as edge:
        await run(edge)
        province.lesson("film", {"video.mp4": TRIMMED, "note.pdf": b"notes"})
        province.release()
        report = await run(edge)
        assert report.updated == ("film",)
        assert report.bytes_from_patches == len(TRIMMED)
        assert report.bytes_reused == len(b"notes")
        assert report.bytes_fetched < 6000
        assert stored(edge, "film", "video.mp4") == TRIMMED
        old = next(digest for digest, data in province.content.blobs.items() if data == VIDEO)
        assert not edge.store.path(old).exists(), "the old blob's space is given back"


async def test_the_catalog_comes_by_patch_without_its_table(
    tmp_path: Path, province: Province, clock: ManualClock, site: Site
) -> None:
    for i in range(400):
        province.lesson(f"l{i:04d}", {"x.pdf": b"same for all"}, summary=f"{RNG.randbytes(400).hex()}")
    province.release()
    assert province.catalogs[-1].size > PIECE_SIZE
    async with edge_at(tmp_path, province, clock, site.url) as edge:
        first = await run(edge)
        assert len(first.added) == 402
        province.lesson("l0007", {"x.pdf": b"another"})
        province.release()
        site.forget()
        report = await run(edge)
        assert report.updated == ("l0007",)
        assert report.bytes_fetched < 6000
        assert site.asked(str(province.catalogs[-1].table)) == 0


async def test_recalls_and_removals_go_before_bulk(
    tmp_path: Path, province: Province, clock: ManualClock, site: Site
) -> None:
    async with edge_at(tmp_path, province, clock, site.url) as edge:
        await run(edge)
        province.recall("film")
        province.lesson("next", {"video.mp4": RNG.randbytes(3 * PIECE_SIZE)})
        province.remove("paper")
        province.release()
        new = province.lessons["next"].files[0].blob
        seen: list[set[str]] = []
        site.before = lambda path: seen.append(set(edge.library.versions())) if new in path else None
        report = await run(edge)
        assert report.removed == ("film", "paper")
        assert report.recalled == ("film",)
        assert report.added == ("next",)
        assert seen
        assert all(ids == set() for ids in seen), "both were gone before the first bulk byte was asked for"


async def test_the_old_version_stays_until_the_new_one_is_proved(
    tmp_path: Path, province: Province, clock: ManualClock, site: Site
) -> None:
    async with edge_at(tmp_path, province, clock, site.url) as edge:
        await run(edge)
        new = RNG.randbytes(len(VIDEO))
        item = province.lesson("film", {"video.mp4": new}, patches=False)
        province.release()
        seen: list[bytes] = []
        blob = item.files[0].blob
        site.before = lambda path: seen.append(stored(edge, "film", "video.mp4")) if blob in path else None
        await run(edge)
        assert seen
        assert all(data == VIDEO for data in seen)
        assert stored(edge, "film", "video.mp4") == new


async def test_dry_run_prints_the_plan_and_changes_nothing(
    tmp_path: Path, province: Province, clock: ManualClock, site: Site
) -> None:
    async with edge_at(tmp_path, province, clock, site.url) as edge:
        before = disk_of(tmp_path)
        plan = await preview(edge)
        assert [item.id for item in plan.items] == ["paper", "film"]
        assert [file.how for file in plan.items[1].files] == [How.PIECES, How.WHOLE]
        assert disk_of(tmp_path) == before
        report = await run(edge)
        assert report.bytes_fetched - plan.bytes_expected < 6000, "the plan is what is then done"
        province.lesson("film", {"video.mp4": TRIMMED})
        province.release()
        before = disk_of(tmp_path)
        assert (await preview(edge)).items[0].files[0].how is How.PATCH
        assert disk_of(tmp_path) == before


async def test_audience_columns_and_expiry(tmp_path: Path, province: Province, clock: ManualClock, site: Site) -> None:
    province.lesson("far", {"a.pdf": b"far"}, audience=("410200",))
    province.lesson("two", {"a.pdf": b"two"}, columns=("zl-two",))
    province.lesson("soon", {"a.pdf": b"soon"}, expires=dump_instant(Instant(clock() + HOUR)))
    province.lesson("later", {"a.pdf": b"later"}, published=dump_instant(Instant(clock() + 2 * HOUR)))
    province.release()
    async with edge_at(tmp_path, province, clock, site.url, sync_columns="zl-one") as edge:
        report = await run(edge)
        assert report.added == ("film", "paper", "soon")
        assert [one.id for one in report.deferred] == ["later"]
        assert report.complete, "a lesson that is not due yet is no fault"
        clock.move(HOUR)
        province.renew()
        report = await run(edge)
        assert report.removed == ("soon",)
        clock.move(HOUR)
        province.renew()
        assert (await run(edge)).added == ("later",)
    async with edge_at(tmp_path, province, clock, site.url) as edge:
        assert (await run(edge)).added == ("two",), "another subscription is seen at once"


async def test_a_lesson_that_changes_its_shape_and_its_audience(
    tmp_path: Path, province: Province, clock: ManualClock, site: Site
) -> None:
    async with edge_at(tmp_path, province, clock, site.url) as edge:
        await run(edge)
        more = {"video.mp4": VIDEO, "copy.mp4": VIDEO, "two.mp4": TRIMMED, "note.pdf": b"other notes"}
        province.lesson("film", more)
        province.lesson("paper", {"paper.pdf": b"p" * 70_000}, audience=("410200",))
        province.release()
        site.forget()
        report = await run(edge)
        assert (report.updated, report.removed, report.complete) == (("film",), ("paper",), True)
        assert {name: stored(edge, "film", name) for name in more} == more
        assert site.asked(province.blob(VIDEO).digest) == 0
        province.lesson("film", {"note.pdf": b"other notes"})
        province.release()
        assert (await run(edge)).complete
        assert edge.store.digests().isdisjoint(province.blob(data).digest for data in (VIDEO, TRIMMED))


async def test_a_changed_description_without_a_new_version(
    tmp_path: Path, province: Province, clock: ManualClock, site: Site
) -> None:
    import msgspec

    async with edge_at(tmp_path, province, clock, site.url) as edge:
        await run(edge)
        province.lessons["film"] = msgspec.structs.replace(province.lessons["film"], title="新标题")
        province.release()
        report = await run(edge)
        assert report.updated == ("film",)
        assert report.bytes_fetched < 5000
        item = edge.library.get("film")
        assert item is not None
        assert item.title == "新标题"


async def test_a_lost_blob_is_fetched_again(tmp_path: Path, province: Province, clock: ManualClock, site: Site) -> None:
    async with edge_at(tmp_path, province, clock, site.url) as edge:
        await run(edge)
        digest = province.lessons["paper"].files[0].ref.digest
        edge.store.mark_rotten(digest, [0])
        edge.store.path(digest).write_bytes(b"rot" * 1000)
        report = await run(edge)
        assert report.updated == ("paper",)
        assert stored(edge, "paper", "paper.pdf") == b"p" * 70_000


async def test_the_index_is_lost(tmp_path: Path, province: Province, clock: ManualClock, site: Site) -> None:
    async with edge_at(tmp_path, province, clock, site.url) as edge:
        await run(edge)
    for path in tmp_path.glob("index.sqlite*"):
        path.unlink()
    site.forget()
    async with edge_at(tmp_path, province, clock, site.url) as edge:
        report = await run(edge)
        assert report.complete
        assert set(edge.library.versions()) == {"film", "paper"}
        assert site.asked("/blobs/") == 0


async def test_one_sync_at_a_time(tmp_path: Path, province: Province, clock: ManualClock, site: Site) -> None:
    async with edge_at(tmp_path, province, clock, site.url) as edge:
        with FileLock(edge.paths.sync_lock) as other:
            with pytest.raises(BusyError) as caught:
                await run(edge, wait_s=0)
            assert f"process {os.getpid()}" in caught.value.message
            assert f"进程 {os.getpid()}" in caught.value.zh
            assert "--wait" in caught.value.hint
            waiting = asyncio.create_task(run(edge, wait_s=60))
            assert not (await asyncio.wait({waiting}, timeout=0.3))[0]
            other.release()
            assert (await waiting).complete


async def test_progress_is_told(tmp_path: Path, province: Province, clock: ManualClock, site: Site) -> None:
    told: list[tuple[str, int, int]] = []
    async with edge_at(tmp_path, province, clock, site.url) as edge:
        await run(edge, progress=lambda *step: told.append(step))
    assert [step[0] for step in told][:2] == ["trust", "catalog"]
    assert told[-1][0] == "fetch"
    assert told[-1][1] == told[-1][2] > len(VIDEO)


async def test_scrub_repairs_from_the_upstream(
    tmp_path: Path, province: Province, clock: ManualClock, site: Site
) -> None:
    async with edge_at(tmp_path, province, clock, site.url) as edge:
        await run(edge)
        digest = province.lessons["film"].files[0].ref.digest
        with edge.store.path(digest).open("r+b") as file:
            file.seek(PIECE_SIZE + 5)
            file.write(b"rot")
        site.forget()
        report = await app.scrub(edge, True)
        assert (len(report.bad), report.repaired) == (1, 1)
        assert stored(edge, "film", "video.mp4") == VIDEO
        assert site.bytes_sent <= PIECE_SIZE


async def test_cancelled_in_the_middle_and_resumed(
    tmp_path: Path, province: Province, clock: ManualClock, site: Site
) -> None:
    blob = province.lessons["film"].files[0].ref
    async with edge_at(tmp_path, province, clock, site.url, upstream_span_pieces="2") as edge:
        task = asyncio.create_task(run(edge))
        site.before = lambda path: task.cancel() if site.asked(blob.digest) >= 4 else None
        with pytest.raises(asyncio.CancelledError):
            await task
        site.before = None
        kept = edge.store.partials()[blob.digest]
        site.forget()
        report = await run(edge)
        assert report.complete
        asked = sum(_length(field) for path, field in site.requests if blob.digest in path)
        assert asked == len(VIDEO) - kept, "only what was missing"
        assert stored(edge, "film", "video.mp4") == VIDEO
        assert report.bytes_reused == kept + len(b"notes")


def _length(field: str) -> int:
    first, last = field.removeprefix("bytes=").split("-")
    return int(last) - int(first) + 1


async def test_a_year_off_line(tmp_path: Path, province: Province, clock: ManualClock, site: Site) -> None:
    async with edge_at(tmp_path, province, clock, site.url) as edge:
        await run(edge)
        clock.move(300 * DAY)
        province.lesson("film", {"video.mp4": TRIMMED})
        province.release()
        assert (await run(edge)).updated == ("film",)
