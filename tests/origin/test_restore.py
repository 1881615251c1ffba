"""Restoring an old release: what is offered afterwards, what is refused, and what a kill leaves."""

from __future__ import annotations

import asyncio
import hashlib
from pathlib import Path

import pytest
from support.releases import (
    AddressIn,
    Edge,
    ManualClock,
    catalog_of,
    copy_origin,
    draft,
    offered,
    on_database,
    open_releases,
    run_act,
)

from manifests.catalog import parse_target
from manifests.errors import InputError, NotFoundError
from manifests.model import File
from origin.clock import system_clock
from origin.publish.failpoints import PUBLISH_POINTS, RESTORE_POINTS
from origin.publish.ingest import ingest
from origin.publish.release import Releases, RestoreWish
from origin.publish.restore_plan import Fate
from origin.publish.source import bytes_source
from origin.storage.local import LocalStorage


async def stored(root: Path, text: str, name: str = "video.mp4") -> File:
    """A file whose blob is in the storage; long enough that a patch to it is worth it."""
    line = hashlib.sha256(text.encode()).hexdigest()
    body = "".join(f"{line} {n} {text}\n" for n in range(1500)) + "".join(f"{n:09}\n" for n in range(60_000))
    ref = await ingest(bytes_source(body.encode(), name), LocalStorage(root / "blobs"), root / "staging")
    return File(role="video", name=name, media_type="video/mp4", blob=ref.digest, size=ref.size, table=ref.table)


async def lesson(releases: Releases, root: Path, key: str, content: str, **changes: object) -> None:
    """Publish a lesson of one stored file."""
    await releases.publish(draft(key, files=(await stored(root, content),), **changes))


@pytest.fixture(scope="module")
def founded(tmp_path_factory: pytest.TempPathFactory, address_in: AddressIn) -> Path:
    """Read only. Release 4 offers a, b and c; then b changes, c is recalled, d is new: releases 5, 6, 7."""
    root = tmp_path_factory.mktemp("founded") / "origin"
    on_database(root, address_in(root))

    async def found() -> None:
        clock = ManualClock(system_clock() - 1000)
        async with open_releases(root, clock=clock) as releases:
            await releases.establish()
            for key in "abc":
                await lesson(releases, root, key, f"{key} one")
            clock.now += 60
            await lesson(releases, root, "b", "b two")
            await releases.recall("c", "内容有误")
            await lesson(releases, root, "d", "d one")

    asyncio.run(found())
    return root


@pytest.fixture
def origin(founded: Path, tmp_path: Path) -> Path:
    return copy_origin(founded, tmp_path / "origin")


def _fates(items: object) -> list[tuple[str, str]]:
    return [(item.id, str(item.fate)) for item in items]  # type: ignore[attr-defined]


async def test_what_was_offered_then_is_offered_anew_under_new_numbers(origin: Path) -> None:
    async with open_releases(origin) as releases:
        edge = Edge(origin.parent / "edge", origin, await releases.root_text())
        edge.poll()
        before = {item.id: item for item in (await catalog_of(releases)).courseware}
        plan = await releases.foresee_restore(4)
        assert _fates(plan.items) == [("b", "change"), ("c", "recalled"), ("d", "away")]
        assert plan.unchanged == 1
        assert "内容有误" in plan.items[1].reason_zh
        assert await offered(releases) == {"a": 1, "b": 2, "d": 1}, "looking changes nothing"
        done = await releases.restore(RestoreWish(4, newest=plan.newest))
        assert done.catalog_version == 8
        assert await offered(releases) == {"a": 1, "b": 3}
        now = {item.id: item for item in (await catalog_of(releases)).courseware}
        (patch,) = now["b"].files[0].patches
        assert patch.source == before["b"].files[0].blob, "edges hold version 2 and go back by a patch"
        assert now["b"].published <= before["b"].published, "what is restored is not news"
        assert parse_target(edge.poll().custom).version == 8
        assert [recall.id for recall in (await catalog_of(releases)).recalls] == ["c"]
        again = await releases.restore(RestoreWish(4))
        assert not again.changed
        assert again.catalog_version == 8


async def test_restored_and_restored_back_is_what_it_was(origin: Path) -> None:
    async with open_releases(origin) as releases:
        before = {item.id: item.files[0].blob for item in (await catalog_of(releases)).courseware}
        await releases.restore(RestoreWish(4))
        plan = await releases.foresee_restore(7)
        assert _fates(plan.items) == [("b", "change"), ("d", "back")]
        await releases.restore(RestoreWish(7))
        assert {item.id: item.files[0].blob for item in (await catalog_of(releases)).courseware} == before
        assert await offered(releases) == {"a": 1, "b": 4, "d": 2}
        b = next(item for item in (await catalog_of(releases)).courseware if item.id == "b")
        assert len({patch.source for patch in b.files[0].patches}) == len(b.files[0].patches) == 1


async def test_a_recall_is_undone_only_for_the_lesson_that_is_named(origin: Path) -> None:
    async with open_releases(origin) as releases:
        plan = await releases.foresee_restore(5, ["c"])
        assert _fates(plan.items) == [("c", "back"), ("d", "away")]
        await releases.restore(RestoreWish(5, bring_back=("c",)))
        catalog = await catalog_of(releases)
        assert {item.id: item.version for item in catalog.courseware} == {"a": 1, "b": 2, "c": 2}
        assert [(one.id, one.version) for one in catalog.recalls] == [("c", 1)], "version 1 itself stays recalled"
        with pytest.raises(InputError):
            await releases.foresee_restore(5, ["not an id!"])


async def test_an_older_version_that_was_recalled_does_not_come_back_in_passing(origin: Path) -> None:
    async with open_releases(origin) as releases:
        await lesson(releases, origin, "c", "c two")
        plan = await releases.foresee_restore(4)
        c = next(item for item in plan.items if item.id == "c")
        assert (c.fate, c.version, c.then) == (Fate.RECALLED, 2, 1)
        await releases.restore(RestoreWish(4))
        assert (await offered(releases))["c"] == 2


async def test_a_lesson_whose_file_is_gone_is_refused_by_name(origin: Path) -> None:
    async with open_releases(origin) as releases:
        lost = (await releases.previous_files("b"))[1][0]
        await LocalStorage(origin / "blobs").delete(lost.ref.digest)
        plan = await releases.foresee_restore(4)
        assert [(item.id, item.reason) for item in plan.of(Fate.REFUSED)] == [("b", "gone from the storage: video.mp4")]
        with pytest.raises(InputError, match=r"b \(gone from the storage"):
            await releases.restore(RestoreWish(4))
        assert await offered(releases) == {"a": 1, "b": 2, "d": 1}
        await releases.restore(RestoreWish(4, partly=True))
        assert await offered(releases) == {"a": 1, "b": 2}


async def test_whoever_looked_before_another_release_looks_again(origin: Path) -> None:
    async with open_releases(origin) as releases:
        plan = await releases.foresee_restore(4)
        await lesson(releases, origin, "e", "e one")
        with pytest.raises(InputError, match="since you looked") as caught:
            await releases.restore(RestoreWish(4, newest=plan.newest))
        assert caught.value.http_status == 409
        for number in (0, 99):
            with pytest.raises(NotFoundError):
                await releases.restore(RestoreWish(number))


async def test_any_release_can_be_restored_also_when_its_catalog_is_long_gone(origin: Path) -> None:
    async with open_releases(origin) as releases:
        for n in range(55):
            await releases.release_anew(f"again {n}")
        await releases.restore(RestoreWish(3))
        assert await offered(releases) == {"a": 1, "b": 3}
        await releases.restore(RestoreWish(1))
        assert await offered(releases) == {}


async def test_what_was_taken_away_is_published_again_as_usual(origin: Path) -> None:
    async with open_releases(origin) as releases:
        await releases.restore(RestoreWish(4))
        with pytest.raises(NotFoundError):
            await releases.recall("d", "不再提供")
        await lesson(releases, origin, "d", "d one")
        assert (await offered(releases))["d"] == 2


@pytest.mark.parametrize("point", RESTORE_POINTS + PUBLISH_POINTS)
async def test_a_restore_that_is_killed_leaves_one_whole_release(origin: Path, point: str) -> None:
    code = await asyncio.to_thread(run_act, origin, "restore", ("4",), point)
    assert code == -9
    has_landed = point in {"publish:timestamp-renamed", "publish:marked"}
    async with open_releases(origin) as releases:
        edge = Edge(origin.parent / "edge", origin, await releases.root_text())
        await releases.repair()
        assert await offered(releases) == ({"a": 1, "b": 3} if has_landed else {"a": 1, "b": 2, "d": 1})
        seen = parse_target(edge.poll().custom).version
        assert seen == (await catalog_of(releases)).version
        await releases.restore(RestoreWish(4))
        assert (await offered(releases)).keys() == {"a", "b"}
        assert parse_target(edge.poll().custom).version >= seen
