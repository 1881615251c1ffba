"""Backups of an origin, and what edges see of one that was lost and restored."""

import asyncio
import shutil
from pathlib import Path

import msgspec
import pytest
from support.edges import PATIENT
from support.object_store import environment
from support.origins import blob_names, found_origin
from support.program import succeed
from support.receipts import article, coverage, make_edge, origin_at, sync

from manifests.errors import ConfigurationError, InputError, StorageDamagedError, StorageError
from origin import app
from origin.clock import system_clock
from origin.database.engine import reading
from origin.database.library import newest_release
from tools import backup as backups
from tools.backup import AHEAD, back_up, restore, snapshots_of


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """An origin with a lesson that an edge holds, backed up with its keys; then it went on for a while."""
    home = tmp_path_factory.mktemp("made")
    found_origin(home / "origin")

    async def fill() -> None:
        async with origin_at(home / "origin") as (origin, url):
            await article(origin, home, "kj-1")
            await make_edge(origin, url, home / "edge")
            await sync(home / "edge", **PATIENT)
            await back_up(origin, home / "backup", keys=True)
            await article(origin, home, "kj-2")
            for _ in range(3):
                await article(origin, home, "kj-1", body=f"第 {_} 次修改")
            await sync(home / "edge", **PATIENT)

    asyncio.run(fill())
    return home


@pytest.fixture
def home(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "home"))


async def _lessons(origin: app.Origin) -> dict[str, int]:
    _, catalog = await origin.releases.current_catalog()
    return {item.id: item.version for item in catalog.courseware}


@pytest.mark.parametrize("where", ["as it was", "bucket and server"])
async def test_edges_follow_an_origin_that_was_lost_and_restored(home, where, request):
    shutil.rmtree(home / "origin")
    more = {}
    if where != "as it was":
        options, server = request.getfixturevalue("bucket"), request.getfixturevalue("cluster")
        env = environment(options)
        section = {name.removeprefix("YUANJIAO_STORAGE_").lower(): value for name, value in env.items()}
        more = {"storage": section | {"part_bytes": options.part_bytes}, "database": server.create()}
    done = await restore(home / "backup", home / "new", {}, system_clock, **more)
    assert done.released
    assert done.catalog_version > AHEAD
    async with origin_at(home / "new") as (origin, url):
        assert await _lessons(origin) == {"kj-1": 1}
        report = await sync(home / "edge", url, **PATIENT)
        assert report.complete
        assert (report.catalog_version, list(report.removed)) == (done.catalog_version, ["kj-2"])
        spread = (await coverage(origin, "kj-1")).spread
        assert spread is not None
        await article(origin, home, "kj-3")
        await app.recall(origin, "kj-1", "内容有误")
        report = await sync(home / "edge", url, **PATIENT)
        assert (list(report.added), list(report.removed)) == (["kj-3"], ["kj-1"])


async def test_each_backup_copies_only_what_is_new_and_any_can_be_restored(home):
    async with origin_at(home / "origin") as (origin, _):
        done = await back_up(origin, home / "backup", keys=False)
        assert 0 < done.new_blobs < done.blobs
        names = await asyncio.to_thread(snapshots_of, home / "backup")
        assert len(names) == 2
        assert blob_names(home / "backup") >= blob_names(home / "origin")
        assert not [path for path in (home / "backup" / "staging").rglob("*") if path.name != ".lock"]
    with pytest.raises(ConfigurationError, match="keys"):
        await restore(home / "backup", home / "new", {}, system_clock)
    newest = await restore(home / "backup", home / "new", {}, system_clock, keys_dir=home / "origin" / "keys")
    oldest = await restore(home / "backup", home / "old", {}, system_clock, name=names[0])
    assert (newest.released, oldest.released) == (True, True)
    found = []
    for root in ("new", "old"):
        async with app.open_origin(home / root, {}, system_clock) as origin:
            found.append(await _lessons(origin))
    assert found == [{"kj-1": 4, "kj-2": 1}, {"kj-1": 1}]
    assert not list((home / "new" / "keys").iterdir())
    assert {path.stat().st_mode & 0o777 for path in (home / "old" / "keys").iterdir()} == {0o600}


async def test_a_backup_is_of_one_moment_however_busy_the_origin_is(home):
    async with origin_at(home / "origin") as (origin, _):

        async def publish() -> None:
            for n in range(3):
                await article(origin, home, f"busy-{n}")

        await asyncio.gather(publish(), back_up(origin, home / "b", keys=True))
    await restore(home / "b", home / "new", {}, system_clock)
    async with app.open_origin(home / "new", {}, system_clock) as origin:
        _, catalog = await origin.releases.current_catalog()
        async with reading(origin.engine) as connection:
            newest = await newest_release(connection)
        assert newest is not None
        assert newest.catalog_version == catalog.version
        for item in catalog.courseware:
            for file in item.files:
                assert await origin.storage.size(file.blob) == file.size


async def test_what_was_cut_off_goes_on(home, monkeypatch):
    async def fails(*_: object) -> None:
        raise StorageError("the disk went away")

    async with origin_at(home / "origin") as (origin, _):
        with monkeypatch.context() as patch:
            patch.setattr(backups, "_dump", fails)
            with pytest.raises(StorageError, match="went away"):
                await back_up(origin, home / "b", keys=True)
        with pytest.raises(ConfigurationError, match="no snapshot"):
            snapshots_of(home / "b")
        again = await back_up(origin, home / "b", keys=True)
        assert again.new_blobs == 0
    for name in ("_load", "_finish"):
        with monkeypatch.context() as patch:
            patch.setattr(backups, name, fails if name == "_load" else _fails_at_once)
            with pytest.raises(StorageError, match="went away"):
                await restore(home / "b", home / "new", {}, system_clock)
        with pytest.raises(ConfigurationError):
            async with app.open_origin(home / "new", {}, system_clock):
                pass
    done = await restore(home / "b", home / "new", {}, system_clock)
    assert done.released
    async with app.open_origin(home / "new", {}, system_clock) as origin:
        assert await _lessons(origin) == {"kj-1": 4, "kj-2": 1}


def _fails_at_once(*_: object) -> None:
    raise StorageError("the disk went away")


async def test_a_damaged_backup_is_refused(home):
    snapshot = home / "backup" / "snapshots" / snapshots_of(home / "backup")[0]
    library = snapshot / "library.jsonl"
    good = library.read_bytes()
    library.write_bytes(good.replace(b"kj-1", b"kj-9", 1))
    with pytest.raises(StorageDamagedError, match=r"library\.jsonl"):
        await restore(home / "backup", home / "new", {}, system_clock)
    library.write_bytes(good)
    (snapshot / "metadata" / "1.root.json").unlink()
    with pytest.raises(StorageDamagedError, match=r"1\.root\.json"):
        await restore(home / "backup", home / "new", {}, system_clock)
    assert not (home / "new").exists()


async def test_a_rotten_or_lost_blob_is_told(home):
    digest = min(blob_names(home / "backup"))
    path = home / "backup" / "blobs" / digest[:2] / digest
    path.write_bytes(b"x" + path.read_bytes()[1:])
    with pytest.raises(StorageDamagedError, match=digest[:16]):
        await restore(home / "backup", home / "new", {}, system_clock)
    path.unlink()
    with pytest.raises(StorageDamagedError, match="lacks 1 blobs"):
        await restore(home / "backup", home / "new", {}, system_clock)


async def test_where_it_cannot_be(home):
    async with app.open_origin(home / "origin", {}, system_clock) as origin:
        with pytest.raises(InputError, match="within"):
            await back_up(origin, home / "origin" / "backup", keys=False)
    with pytest.raises(ConfigurationError, match="not empty"):
        await restore(home / "backup", home / "origin", {}, system_clock)
    with pytest.raises(ConfigurationError, match="no snapshot"):
        await restore(home / "backup", home / "new", {}, system_clock, name="none")


def test_by_command(home):
    would = succeed("origin", "backup", home / "origin", home / "b", "--dry-run")
    assert not (home / "b").exists()
    done = succeed("origin", "backup", home / "origin", home / "b", "--with-keys")
    assert done["blobs"] == would["blobs"]
    planned = succeed("origin", "restore", home / "b", home / "new", "--dry-run")
    assert (planned["snapshot"], planned["blobs"]) == (done["snapshot"], done["blobs"])
    restored = succeed("origin", "restore", home / "b", home / "new", "--snapshot", done["snapshot"])
    assert restored["released"]
    snapshot = msgspec.json.decode((home / "b" / "snapshots" / done["snapshot"] / "snapshot.json").read_bytes())
    assert (snapshot["region"], snapshot["has_keys"]) == ("410000", True)
    assert (home / "b" / "snapshots" / done["snapshot"]).stat().st_mode & 0o077 == 0
