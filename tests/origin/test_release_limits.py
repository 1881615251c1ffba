"""Releases on a full disk, and releases of very many lessons."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import event, text
from support.releases import Edge, ManualClock, draft, offered, open_releases
from support.small_disk import fill, small_disk

from manifests.catalog import parse_target
from manifests.errors import StorageError, StorageFullError
from origin.database.engine import reading
from origin.publish.release import Releases


async def test_a_full_disk_leaves_the_old_release_whole(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", "3m") as disk:
        root = disk / "origin"
        clock = ManualClock()
        async with open_releases(root, clock=clock) as releases:
            await releases.establish()
            await releases.publish(draft())
            edge = Edge(tmp_path / "edge", root, await releases.root_text())
            edge.poll()
            clock.now += 7200
            (root / "ballast").unlink()
            fill(disk / "filler")
            for act in (releases.publish(draft("kj-2")), releases.recall("kj-1", "错误"), releases.renew()):
                with pytest.raises(StorageFullError):
                    await act
                fill(disk / "filler")  # also what an attempt gave back
            with pytest.raises(StorageFullError):
                await releases.rotate("timestamp")
            assert parse_target(edge.poll().custom).version == 2
            (disk / "filler").unlink()
            await releases.publish(draft("kj-2"))
            assert await offered(releases) == {"kj-1": 1, "kj-2": 1}
            edge.poll()
            assert not list((root / "metadata").glob("*.tmp"))
            assert await releases.repair() == ()


async def test_on_a_full_disk_a_recall_and_a_renewal_get_through(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", "6m") as disk:
        root = disk / "origin"
        clock = ManualClock()
        async with open_releases(root, clock=clock) as releases:
            await releases.establish()
            await releases.publish(draft())
            edge = Edge(tmp_path / "edge", root, await releases.root_text())
            edge.poll()
            for act in (releases.recall("kj-1", "错误"), releases.renew()):
                clock.now += 7200
                await releases.check_ready()  # the space is set aside
                fill(disk / "filler")
                await act
                fill(disk / "filler")
                with pytest.raises(StorageFullError, match="kept for recalls"):
                    await releases.check_ready()
                (disk / "filler").unlink()
            edge.poll()
            assert await offered(releases) == {}
            assert (await releases.expiries())["timestamp"] == clock.now + 86_400


async def test_a_directory_that_vanished_is_storage(tmp_path: Path) -> None:
    async with open_releases(tmp_path / "origin") as releases:
        await releases.establish()
        (tmp_path / "origin" / "metadata").rename(tmp_path / "gone")
        with pytest.raises(StorageError):
            await releases.publish(draft())


async def _statements(releases: Releases, count: int) -> int:
    seen: list[str] = []
    engine = releases._shop.engine.sync_engine

    def note(_connection: object, _cursor: object, statement: str, *_rest: object) -> None:
        seen.append(statement)

    event.listen(engine, "before_cursor_execute", note)
    await releases.publish_many([draft(f"n{count}-{n}", f"{count} {n}") for n in range(count)])
    event.remove(engine, "before_cursor_execute", note)
    return len(seen)


async def test_many_lessons_cost_no_more_statements_than_few(tmp_path: Path) -> None:
    async with open_releases(tmp_path / "origin") as releases:
        await releases.establish()
        await releases.publish(draft())
        assert await _statements(releases, 300) == await _statements(releases, 3)


async def test_marking_a_release_looks_each_lesson_up_by_index(tmp_path: Path) -> None:
    async with open_releases(tmp_path / "origin") as releases, reading(releases._shop.engine) as connection:
        rows = await connection.execute(
            text(
                "EXPLAIN QUERY PLAN UPDATE courseware SET current = (SELECT number FROM versions"
                " WHERE versions.courseware = courseware.id AND versions.release = 1)"
                " WHERE id IN (SELECT courseware FROM versions WHERE release = 1)"
            )
        )
        plans = [row.detail for row in rows]
    assert any("ix_versions_release (release=? AND courseware=?)" in plan for plan in plans), plans
