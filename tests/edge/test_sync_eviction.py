"""Sync and eviction: who gives way to a new lesson, what is left out, and when it comes back."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from support.edges import edge_at, preview, run, stored
from support.province import DAY, ManualClock, Province, Site
from support.small_disk import small_disk

from edge import app
from edge.app import Edge
from edge.store.evicting import limits_of, make_room
from edge.store.eviction import BIG_BYTES, Standing
from edge.sync.planner import Action, How
from edge.sync.whynot import Cause

SIZE = BIG_BYTES + 4096
FILMS = {name: random.Random(name).randbytes(SIZE) for name in ("old", "fond", "new", "other", "second")}
# Two films, their tables, some catalogs and documents.
QUOTA = {"store_quota_bytes": str(2 * SIZE + 100_000)}
PLENTY = {"store_quota_bytes": str(20 * SIZE)}
TEXT = b"%PDF a page"


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def province(clock: ManualClock) -> Province:
    made = Province(clock)
    film(made, "old", priority=3)
    film(made, "fond")
    made.release()
    return made


@pytest.fixture
async def site(province: Province) -> AsyncIterator[Site]:
    async with province.site().running() as running:
        yield running


def film(province: Province, id_: str, data: bytes | None = None, **fields: Any) -> None:
    province.lesson(id_, {"video.mp4": data or FILMS[id_], "page.pdf": TEXT + id_.encode()}, patches=False, **fields)


def has(edge: Edge, id_: str) -> bool:
    item = edge.library.get(id_)
    return item is not None and edge.store.has(item.files[0].ref.digest)


async def evicted_old(edge: Edge, province: Province) -> None:
    """Bring the edge to where `new` has displaced `old`."""
    await run(edge)
    film(province, "new")
    province.release()
    await run(edge)
    assert (has(edge, "old"), has(edge, "fond"), has(edge, "new")) == (False, True, True)


async def test_a_new_lesson_displaces_one_of_lower_priority_as_the_dry_run_said(
    tmp_path: Path, province: Province, clock: ManualClock, site: Site
) -> None:
    async with edge_at(tmp_path, province, clock, site.url, **QUOTA) as edge:
        await run(edge)
        film(province, "new")
        province.release()
        (item,) = (await preview(edge)).of(Action.ADD)
        assert [victim.ids for victim in item.evicts] == [("old",)]
        assert item.evicts[0].reason_zh.startswith("空间不足：计划内，优先级 3，本机从未观看")
        assert has(edge, "old"), "a dry run evicts nothing"
        report = await run(edge)
        assert (report.added, report.complete) == (("new",), True)
        assert not has(edge, "old")
        assert stored(edge, "old", "page.pdf") == TEXT + b"old", "small files stay"


async def test_an_evicted_lesson_stays_listed_and_is_not_fetched_again(
    tmp_path: Path, province: Province, clock: ManualClock, site: Site
) -> None:
    async with edge_at(tmp_path, province, clock, site.url, **QUOTA) as edge:
        await evicted_old(edge, province)
        site.forget()
        province.release()
        for _ in range(2):  # a run that plans, and a poll that finds all as it was
            report = await run(edge)
            assert (report.complete, report.updated, site.asked(edge.library.get("old").files[0].blob)) == (True, (), 0)  # type: ignore[union-attr]
            assert [(one.id, one.reason_zh) for one in report.deferred] == [("old", "因空间不足已淘汰，点播时再取回")]
        assert "old" in edge.library.versions()
        (absent,) = await app.why_not(edge)
        assert (absent.id, absent.cause) == ("old", Cause.EVICTED)
        assert absent.text_zh == "因空间不足已淘汰：仍在列表中，点播时再取回。"


async def test_it_comes_back_by_plan_when_there_is_room_below_the_low_watermark(
    tmp_path: Path, province: Province, clock: ManualClock, site: Site
) -> None:
    async with edge_at(tmp_path, province, clock, site.url, **QUOTA) as edge:
        await evicted_old(edge, province)
    async with edge_at(tmp_path, province, clock, site.url, **PLENTY) as edge:
        (item,) = (await preview(edge)).of(Action.UPDATE)
        assert (item.id, item.is_back, item.reason_zh) == ("old", True, "曾因空间不足淘汰，现空间已够")
        report = await run(edge)
        assert (report.complete, report.updated, report.deferred) == (True, ("old",), ())
        assert report.bytes_by_reason["evicted"] >= SIZE
        assert stored(edge, "old", "video.mp4") == FILMS["old"]
        assert not edge.usage.evicted()


async def test_room_that_a_recall_gives_back_is_used_only_below_the_low_watermark(
    tmp_path: Path, province: Province, clock: ManualClock, site: Site
) -> None:
    async with edge_at(tmp_path, province, clock, site.url, **QUOTA) as edge:
        await evicted_old(edge, province)
        province.recall("fond")
        province.release()
        assert (await run(edge)).recalled == ("fond",)
        assert [one.id for one in (await run(edge)).deferred] == ["old"], "it would fit, but the next one would not"
    nearly = {**QUOTA, "store_low_watermark": "0.98", "store_high_watermark": "0.99"}
    async with edge_at(tmp_path, province, clock, site.url, **nearly) as edge:
        assert (await run(edge)).updated == ("old",), "a poll without news sees that there is room"


async def test_lessons_of_the_same_priority_that_came_lately_are_not_displaced(
    tmp_path: Path, province: Province, clock: ManualClock, site: Site
) -> None:
    async with edge_at(tmp_path, province, clock, site.url, **QUOTA) as edge:
        await run(edge)
        film(province, "new", priority=3)
        province.release()
        report = await run(edge)
        assert (report.exit_code, [one.id for one in report.deferred]) == (5, ["new"])
        clock.move(15 * DAY)
        province.release()
        assert (await run(edge)).added == ("new",)
        assert not has(edge, "old")


async def test_what_is_watched_stays_and_the_new_lesson_waits(
    tmp_path: Path, province: Province, clock: ManualClock, site: Site
) -> None:
    async with edge_at(tmp_path, province, clock, site.url, **QUOTA) as edge:
        await run(edge)
        item = edge.library.get("old")
        assert item is not None
        edge.usage.note_used({item.files[0].ref.digest: 1}, clock())
        film(province, "new")
        province.release()
        assert [one.id for one in (await run(edge)).deferred] == ["new"]
        assert has(edge, "old")
        clock.move(3600)
        assert (await run(edge)).added == ("new",)


async def test_a_new_version_of_an_evicted_lesson_is_listed_and_left_out(
    tmp_path: Path, province: Province, clock: ManualClock, site: Site
) -> None:
    async with edge_at(tmp_path, province, clock, site.url, **QUOTA) as edge:
        await evicted_old(edge, province)
        film(province, "old", FILMS["second"], priority=3, title="修订")
        province.release()
        report = await run(edge)
        assert (report.complete, report.updated) == (True, ("old",))
        item = edge.library.get("old")
        assert item is not None
        assert (item.version, item.title, has(edge, "old")) == (2, "修订", False)
        assert stored(edge, "old", "page.pdf") == TEXT + b"old"
        province.lessons["old"] = msgspec.structs.replace(province.lessons["old"], title="再修订")
        province.release()
        report = await run(edge)
        assert (report.updated, has(edge, "old"), edge.library.get("old").title) == (("old",), False, "再修订")  # type: ignore[union-attr]


async def test_an_index_that_was_lost_brings_no_evicted_lesson_back(
    tmp_path: Path, province: Province, clock: ManualClock, site: Site
) -> None:
    async with edge_at(tmp_path, province, clock, site.url, **QUOTA) as edge:
        await evicted_old(edge, province)
    for path in tmp_path.glob("index.sqlite*"):
        path.unlink()
    async with edge_at(tmp_path, province, clock, site.url, **QUOTA) as edge:
        assert "old" not in edge.library.versions(), "rebuilt from what is here"
        (item,) = (await preview(edge)).of(Action.ADD)
        assert [file.how for file in item.files] == [How.EVICTED, How.HAVE]
        report = await run(edge)
        assert (report.complete, report.added) == (True, ("old",))
        assert ("old" in edge.library.versions(), has(edge, "old"), has(edge, "fond")) == (True, False, True)


async def test_a_pinned_lesson_comes_back_whoever_has_to_go(
    tmp_path: Path, province: Province, clock: ManualClock, site: Site
) -> None:
    async with edge_at(tmp_path, province, clock, site.url, **QUOTA) as edge:
        await evicted_old(edge, province)
        edge.usage.pin("old", clock())
        clock.move(15 * DAY)
        province.lessons["old"] = msgspec.structs.replace(province.lessons["old"], priority=6)
        province.release()
        report = await run(edge)
        assert (report.complete, report.updated) == (True, ("old",))
        assert (has(edge, "old"), has(edge, "fond"), has(edge, "new")) == (True, False, True)


async def test_a_recalled_lesson_that_was_evicted_is_new_when_it_is_offered_again(
    tmp_path: Path, province: Province, clock: ManualClock, site: Site
) -> None:
    async with edge_at(tmp_path, province, clock, site.url, **QUOTA) as edge:
        await evicted_old(edge, province)
        province.recall("old")
        province.release()
        await run(edge)
        assert not edge.usage.evicted()
        film(province, "old", priority=9)
        province.release()
        report = await run(edge)
        assert (report.added, has(edge, "old")) == (("old",), True)


async def pulled(edge: Edge, province: Province, id_: str) -> None:
    """Have a lesson here that no plan brought, as the filler would."""
    file = province.lessons[id_].files[0]
    table = province.content.blobs[file.table or ""]
    from manifests.pieces import parse_table

    assert file.ref.table_ref is not None
    edge.store.put(file.ref.table_ref, table)
    with edge.store.begin(file.ref, parse_table(table, file.size, file.piece_size)) as partial:
        partial.write_pieces(0, province.content.blobs[file.blob])
        partial.finish()
    edge.usage.note_pulled(file.ref.digest, id_, file.size, edge.clock())


async def test_pulled_lessons_give_way_first_outlive_collecting_and_go_with_their_recall(
    tmp_path: Path, province: Province, clock: ManualClock, site: Site
) -> None:
    film(province, "other", columns=("zl-two",))
    film(province, "second", columns=("zl-two",))
    province.recall("old")
    province.release()
    only = {**QUOTA, "sync_columns": "zl-one"}
    async with edge_at(tmp_path, province, clock, site.url, **only) as edge:
        await run(edge)
        await pulled(edge, province, "other")
        other = province.lessons["other"].files[0].ref.digest
        film(province, "film", b"short", priority=9)
        province.release()
        await run(edge)
        assert edge.store.has(other), "collecting keeps what a terminal wanted"
        film(province, "new", priority=0)
        province.release()
        assert (await run(edge)).added == ("new",)
        assert (edge.store.has(other), has(edge, "fond")) == (False, True), "whatever its priority"
    async with edge_at(tmp_path, province, clock, site.url, **{**PLENTY, "sync_columns": "zl-one"}) as edge:
        await pulled(edge, province, "second")
        second = province.lessons["second"].files[0].ref.digest
        province.recall("second")
        province.release()
        await run(edge)
        assert not edge.store.has(second)
        assert second not in edge.usage.rows()


async def test_a_lost_blob_is_fetched_again_but_an_evicted_one_is_not(
    tmp_path: Path, province: Province, clock: ManualClock, site: Site
) -> None:
    async with edge_at(tmp_path, province, clock, site.url, **QUOTA) as edge:
        await run(edge)
        limits = limits_of(edge.settings.store)
        make_room(edge.store, edge.library, edge.usage, limits, SIZE, clock(), standing=Standing.PLANNED, priority=4)
        assert (has(edge, "old"), has(edge, "fond")) == (False, True)
        lost = edge.library.get("fond")
        assert lost is not None
        edge.store.delete([lost.files[0].ref.digest])
        report = await run(edge)
        assert (report.updated, has(edge, "old"), has(edge, "fond")) == (("fond",), False, True)
        assert "evicted" not in report.bytes_by_reason


async def test_a_new_lesson_finds_room_on_a_disk_that_is_really_full(
    tmp_path: Path, province: Province, clock: ManualClock, site: Site
) -> None:
    with small_disk(tmp_path / "disk", "32m") as disk:
        async with edge_at(disk / "edge", province, clock, site.url) as edge:
            await run(edge)
            film(province, "new")
            province.release()
            left = edge.store.free_bytes() - SIZE // 2
            (disk / "hog").write_bytes(bytes(left))
            report = await run(edge)
            assert (report.added, report.complete) == (("new",), True)
            assert (has(edge, "old"), has(edge, "fond"), has(edge, "new")) == (False, True, True)
