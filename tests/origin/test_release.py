"""Publishing: what edges see before, after and while something goes wrong."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from support.releases import (
    DATABASE,
    AddressIn,
    Edge,
    ManualClock,
    address_of,
    catalog_of,
    copy_origin,
    draft,
    file_of,
    offered,
    on_database,
    open_releases,
    run_act,
)
from tuf.api.exceptions import BadVersionNumberError, ExpiredMetadataError

from manifests.catalog import parse_target
from manifests.errors import BusyError, ConfigurationError, InputError, StorageDamagedError
from origin.database.engine import sqlite_url
from origin.publish.failpoints import PUBLISH_POINTS
from origin.publish.lock import publish_lock
from origin.publish.release import Releases


@pytest.fixture(scope="module")
def founded(tmp_path_factory: pytest.TempPathFactory, address_in: AddressIn) -> Path:
    """An origin that has published kj-1 once."""
    root = tmp_path_factory.mktemp("founded") / "origin"
    on_database(root, address_in(root))

    async def found() -> None:
        async with open_releases(root) as releases:
            await releases.establish()
            await releases.publish(draft())

    asyncio.run(found())
    return root


@pytest.fixture
def origin(founded: Path, tmp_path: Path) -> Path:
    return copy_origin(founded, tmp_path / "origin")


async def _edge(releases: Releases, origin: Path, name: str = "edge") -> Edge:
    return Edge(origin.parent / name, origin, await releases.root_text())


async def test_an_edge_follows_from_the_first_release_on(tmp_path: Path) -> None:
    root = tmp_path / "origin"
    async with open_releases(root) as releases:
        await releases.establish()
        edge = await _edge(releases, root)
        assert parse_target(edge.poll().custom).version == 1
        assert await offered(releases) == {}
        done = await releases.publish(draft())
        assert (done.id, done.version, done.catalog_version, done.changed) == ("kj-1", 1, 2, True)
        target = edge.poll()
        ref, catalog = await releases.current_catalog()
        assert (target.hashes["sha256"], target.length) == (ref.digest, ref.size)
        assert (parse_target(target.custom).version, catalog.version) == (2, 2)
        assert [item.id for item in catalog.courseware] == ["kj-1"]
        assert [column.title for column in catalog.columns] == ["农业技术"]


async def test_a_poll_with_nothing_new_is_small(origin: Path) -> None:
    async with open_releases(origin) as releases:
        edge = await _edge(releases, origin)
        edge.poll()
        edge.poll()
        assert edge.asked == ["2.root.json", "timestamp.json"]
        assert (origin / "metadata" / "timestamp.json").stat().st_size < 600


async def test_publishing_the_same_again_changes_nothing(origin: Path) -> None:
    async with open_releases(origin) as releases:
        before = (origin / "metadata" / "timestamp.json").read_bytes()
        same = await releases.publish(draft())
        assert (same.version, same.catalog_version, same.changed) == (1, 2, False)
        assert (origin / "metadata" / "timestamp.json").read_bytes() == before
        other = await releases.publish(draft(content="two"))
        assert (other.version, other.catalog_version, other.changed) == (2, 3, True)
        titled = await releases.publish(draft(content="two", title="另一标题"))
        assert titled.version == 3
        assert [files[0].blob for files in await releases.previous_files("kj-1")] == [
            file_of(text).blob for text in ("two", "two", "one")
        ]
        assert await releases.previous_files("kj-9") == []


async def test_columns_are_found_by_title_or_id_and_empty_ones_are_not_offered(origin: Path) -> None:
    async with open_releases(origin) as releases:
        (first,) = (await catalog_of(releases)).columns
        await releases.publish(draft("kj-2", columns=(first.id, "种植", " 农业技术 ")))
        catalog = await catalog_of(releases)
        assert [column.title for column in catalog.columns] == ["农业技术", "种植"]
        assert catalog.courseware[1].columns == (first.id, catalog.columns[1].id)
        await releases.publish(draft("kj-2", columns=()))
        assert [column.title for column in (await catalog_of(releases)).columns] == ["农业技术"]


async def test_many_drafts_are_one_release(origin: Path) -> None:
    async with open_releases(origin) as releases:
        done = await releases.publish_many([draft(), *(draft(f"kj-{n}") for n in range(2, 6))])
        assert [(one.version, one.catalog_version, one.changed) for one in done] == [(1, 3, False)] + [(1, 3, True)] * 4
        with pytest.raises(InputError, match="same id"):
            await releases.publish_many([draft("kj-7"), draft("kj-7", "x")])


@pytest.mark.parametrize(
    "changes",
    [
        {"title": "a\nb"},
        {"title": "x" * 4096},
        {"title": ""},
        {"files": ()},
        {"files": (file_of("a"), file_of("b", "VIDEO.mp4"))},
        {"files": (file_of("a", "../x.mp4"),)},
        {"audience": ()},
        {"audience": ("41",)},
        {"priority": 11},
        {"expires": "2000-01-01T00:00:00Z"},
        {"expires": "tomorrow"},
        {"columns": ("a\u202eb",)},
        {"key": "Kj/1"},
    ],
)
async def test_a_bad_draft_is_refused_and_leaves_nothing(origin: Path, changes: dict[str, object]) -> None:
    async with open_releases(origin) as releases:
        before = sorted(path.name for path in (origin / "metadata").iterdir())
        with pytest.raises(InputError):
            await releases.publish(draft(**({"key": "kj-2"} | changes)))
        assert sorted(path.name for path in (origin / "metadata").iterdir()) == before
        assert await offered(releases) == {"kj-1": 1}


async def test_catalogs_come_with_patches_from_recent_ones(origin: Path) -> None:
    many = [draft(f"kj-{n:04}", summary="内容" * 40 + str(n)) for n in range(400)]
    async with open_releases(origin, catalog_patches=2) as releases:
        await releases.publish_many(many)
        for n in range(3):
            await releases.publish(draft("kj-0001", f"new {n}"))
        ref, _ = await releases.current_catalog()
        edge = await _edge(releases, origin)
        custom = parse_target(edge.poll().custom)
        assert len(custom.patches) == 2
        assert ref.digest not in {patch.source for patch in custom.patches}
        assert all(patch.size < ref.size / 20 for patch in custom.patches)
        assert custom.table == ref.table


@pytest.mark.parametrize("point", PUBLISH_POINTS)
async def test_killed_anywhere_the_old_release_is_whole_and_the_next_repairs(origin: Path, point: str) -> None:
    async with open_releases(origin) as releases:
        edge = await _edge(releases, origin)
        edge.poll()
        assert run_act(origin, "publish", ["kj-2"], point) == -9
        landed = point in {"publish:timestamp-renamed", "publish:marked"}
        seen = edge.poll()
        assert await releases.signed_catalog() == seen.hashes["sha256"]
        stored = origin / "blobs" / seen.hashes["sha256"][:2] / seen.hashes["sha256"]
        assert parse_target(seen.custom).version == (3 if landed else 2)
        assert stored.stat().st_size == seen.length
        done = await releases.publish(draft("kj-2"))
        assert done.changed is not landed
        assert await offered(releases) == {"kj-1": 1, "kj-2": done.version}
        fresh = await _edge(releases, origin, "fresh")
        assert edge.poll().hashes == fresh.poll().hashes == {"sha256": (await releases.current_catalog())[0].digest}
        assert await releases.repair() == ()


async def test_numbers_of_an_abandoned_release_are_not_used_again(origin: Path) -> None:
    assert run_act(origin, "publish", ["kj-1", "lost"], "publish:snapshot-written") == -9
    seen = {path.name: path.read_bytes() for path in (origin / "metadata").iterdir()}
    async with open_releases(origin) as releases:
        (line,) = await releases.repair()
        assert "never landed" in line
        done = await releases.publish(draft(content="kept"))
    assert (done.version, done.catalog_version) == (3, 4)
    for path in (origin / "metadata").iterdir():
        assert path.name == "timestamp.json" or seen.get(path.name, path.read_bytes()) == path.read_bytes()


async def test_killed_in_its_first_release_an_init_can_be_repeated(tmp_path: Path) -> None:
    root = tmp_path / "origin"
    for point in ("publish:begun", "publish:snapshot-written"):
        assert run_act(root, "establish", point=point) == -9
    keys = {path.name: path.read_bytes() for path in (root / "keys").iterdir()}
    async with open_releases(root) as releases:
        await releases.establish()
        await releases.establish()
        assert {path.name: path.read_bytes() for path in (root / "keys").iterdir()} == keys
        edge = await _edge(releases, root)
        assert parse_target(edge.poll().custom).version == (await catalog_of(releases)).version


async def test_two_publishes_at_once_both_land(origin: Path) -> None:
    async with open_releases(origin) as one, open_releases(origin) as two:
        results = await asyncio.gather(
            asyncio.to_thread(run_act, origin, "publish", ["kj-2"]),
            asyncio.to_thread(run_act, origin, "publish", ["kj-3"]),
            one.publish(draft("kj-4")),
            two.publish(draft("kj-5")),
            two.publish(draft("kj-1", "two")),
        )
        assert results[:2] == [0, 0]
        assert await offered(one) == {"kj-1": 2, "kj-2": 1, "kj-3": 1, "kj-4": 1, "kj-5": 1}


async def test_a_lock_held_too_long_is_busy(origin: Path) -> None:
    async with open_releases(origin, lock_deadline_s=0.1) as releases, publish_lock(origin / "publish.lock", 1):
        with pytest.raises(BusyError):
            await releases.publish(draft("kj-2"))
        assert await releases.renew() is False


async def test_a_cancelled_publish_runs_to_its_end_under_the_lock(origin: Path) -> None:
    async with open_releases(origin) as releases:
        task = asyncio.create_task(releases.publish(draft("kj-2")))
        while not (origin / "metadata" / "3.targets.json").exists() and not task.done():
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await releases.repair() == ()
        assert await offered(releases) == {"kj-1": 1, "kj-2": 1}


async def test_an_edge_sees_expiry_and_rollback(origin: Path) -> None:
    async with open_releases(origin) as releases:
        edge = await _edge(releases, origin)
        edge.poll()
        older = (origin / "metadata" / "timestamp.json").read_bytes()
        await releases.publish(draft("kj-2"))
        edge.poll()
        (origin / "metadata" / "timestamp.json").write_bytes(older)
        with pytest.raises(BadVersionNumberError):
            edge.poll()
    old = origin.parent / "old"
    past = ManualClock()
    past.now -= 2 * 86_400
    async with open_releases(old, clock=past) as releases:
        await releases.establish()
        stale = await _edge(releases, old, "stale")
        with pytest.raises(ExpiredMetadataError):
            stale.poll()
        past.now += 2 * 86_400
        assert await releases.renew() is True
        stale.poll()


async def test_renewal_signs_what_is_due(origin: Path) -> None:
    clock = ManualClock()
    async with open_releases(origin, clock=clock) as releases:
        before = await releases.expiries()
        assert await releases.renew() is False
        clock.now += 3600
        assert await releases.renew() is True
        after = await releases.expiries()
        assert after == before | {"timestamp": clock.now + 86_400}
        clock.now += 16 * 86_400
        assert await releases.renew() is True
        assert (await releases.expiries())["snapshot"] == clock.now + 30 * 86_400
        clock.now += 200 * 86_400
        assert await releases.renew() is True
        assert (await releases.expiries())["targets"] == clock.now + 365 * 86_400
        clock.now += 200 * 86_400
        (origin / "keys" / "targets.pem").rename(origin / "keys" / "elsewhere")
        assert await releases.renew() is True
        clock.now += 60
        assert await releases.renew() is False
        assert (await catalog_of(releases)).version == 2


async def test_a_wrong_clock_signs_nothing(origin: Path) -> None:
    clock = ManualClock()
    clock.now -= 3 * 365 * 86_400
    async with open_releases(origin, clock=clock) as releases:
        for years in (0, 6):
            clock.now += years * 365 * 86_400
            for act in (releases.publish(draft("kj-2")), releases.recall("kj-1", "错误"), releases.renew()):
                with pytest.raises(ConfigurationError, match="clock"):
                    await act
        assert await offered(releases) == {"kj-1": 1}


async def test_a_database_and_metadata_of_different_age_are_refused(origin: Path) -> None:
    backup = copy_origin(origin, origin.parent / "backup")
    async with open_releases(origin) as releases:
        await releases.publish(draft("kj-2"))
    for path in [*backup.glob("origin.sqlite*"), *backup.glob(DATABASE)]:
        path.replace(origin / path.name)
    if address_of(origin).startswith("sqlite"):
        on_database(origin, sqlite_url(origin / "origin.sqlite"))
    async with open_releases(origin) as releases:
        with pytest.raises(StorageDamagedError, match=r"(targets|timestamp) version"):
            await releases.publish(draft("kj-3"))


async def test_before_init_everything_says_so(tmp_path: Path) -> None:
    async with open_releases(tmp_path / "empty") as releases:
        for act in (releases.publish(draft()), releases.renew(), releases.current_catalog(), releases.root_text()):
            with pytest.raises(ConfigurationError, match="released"):
                await act
        with pytest.raises(InputError, match="root keys"):
            await releases.establish(2, 3)


async def test_old_metadata_files_are_cleared_away(origin: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("origin.publish.collection.KEPT_VERSIONS", 2)
    async with open_releases(origin) as releases:
        edge = await _edge(releases, origin)
        for n in range(4):
            await releases.publish(draft(content=str(n)))
        names = {path.name for path in (origin / "metadata").iterdir()}
        assert names == {
            "1.root.json",
            "timestamp.json",
            *(f"{n}.{role}.json" for n in (5, 6) for role in ("targets", "snapshot")),
        }
        edge.poll()
