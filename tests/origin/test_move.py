"""An origin that outgrew its machine: moved to a bucket and a server while it serves, then served by two machines."""

import asyncio
import shutil
import sqlite3
from pathlib import Path

import pytest
from support.edges import PATIENT
from support.object_store import environment
from support.origins import found_origin
from support.program import get, run, serving, spawn, succeed, wait_until
from support.receipts import article, coverage, make_edge, origin_at, sync

from manifests.errors import BusyError, ConfigurationError, StorageDamagedError
from manifests.instants import Instant
from manifests.settings import load_settings
from origin import app
from origin.clock import system_clock
from origin.database.engine import open_database, reading, writing
from origin.database.releases import note_audit
from origin.database.transfer import close_library, load_rows, read_rows, reopen_library, tally
from origin.publish.failpoints import MOVE_POINTS, VARIABLE
from origin.settings import Settings
from tools.moving import move
from tools.settings_text import with_sections


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """An origin with a lesson, and an edge that holds it and has said so."""
    home = tmp_path_factory.mktemp("made")
    found_origin(home / "origin")

    async def fill() -> None:
        async with origin_at(home / "origin") as (origin, url):
            await article(origin, home, "kj-1")
            await make_edge(origin, url, home / "edge")
            await sync(home / "edge", **PATIENT)

    asyncio.run(fill())
    return home


@pytest.fixture
def home(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "home"))


def _arguments(bucket) -> list[str]:
    return [
        *("--storage", "s3", "--bucket", bucket.bucket, "--prefix", bucket.prefix, "--endpoint", bucket.endpoint),
        *("--addressing", "path", "--credentials", str(bucket.credentials)),
    ]


def _section(bucket) -> dict[str, str]:
    return {
        "kind": "s3",
        "bucket": bucket.bucket,
        "prefix": bucket.prefix,
        "endpoint": bucket.endpoint,
        "addressing": "path",
        "credentials": str(bucket.credentials),
    }


async def _proved(root: Path, id_: str) -> int:
    async with app.open_origin(root, {}, system_clock) as origin:
        spread = (await coverage(origin, id_)).spread
    assert spread is not None
    return spread.proved


def test_moved_while_it_serves_and_two_machines_serve_from_then_on(home, bucket, cluster):
    root, address = home / "origin", cluster.create()
    with serving("origin", "serve", root, "--host", "127.0.0.1", "--port", "0") as url:
        before = _timestamp(url)
        planned = succeed("origin", "migrate", root, *_arguments(bucket), "--database", address, "--dry-run")
        moved = succeed("origin", "migrate", root, *_arguments(bucket), "--database", address)
        assert moved["blobs"] == planned["blobs"] > 0
        assert moved["rows"]["versions"] == 1
        assert (root / "origin.toml").stat().st_mode & 0o077 == 0
        # Nothing is looked for where it was.
        shutil.rmtree(root / "blobs")
        asyncio.run(_publish(root, home, "kj-2"))
        wait_until(lambda: _timestamp(url) not in (before, b""), 60)
        other = home / "other"
        other.mkdir()
        shutil.copyfile(root / "origin.toml", other / "origin.toml")
        with serving("origin", "serve", other, "--host", "127.0.0.1", "--port", "0") as second:
            report = asyncio.run(sync(home / "edge", second, **PATIENT))
            assert (report.complete, list(report.added)) == (True, ["kj-2"])
            asyncio.run(_publish(root, home, "kj-3"))
            report = asyncio.run(sync(home / "edge", second, **PATIENT))
            assert list(report.added) == ["kj-3"]
            report = asyncio.run(sync(home / "edge", url, **PATIENT))
            assert (report.complete, list(report.added)) == (True, [])
    assert [asyncio.run(_proved(root, f"kj-{n}")) for n in (1, 2, 3)] == [1, 1, 1]


def _timestamp(url: str) -> bytes:
    """As it is served; nothing for the moment in which the server changes over."""
    try:
        return get(f"{url}/metadata/timestamp.json").body
    except OSError:
        return b""


async def _publish(root: Path, home: Path, id_: str) -> None:
    async with app.open_origin(root, {}, system_clock) as origin:
        await article(origin, home, id_)


@pytest.mark.parametrize("point", [point for point in MOVE_POINTS if point != "move:switched"])
def test_killed_anywhere_it_goes_on(home, bucket, cluster, point):
    root, address = home / "origin", cluster.create()
    arguments = ("origin", "migrate", root, *_arguments(bucket), "--database", address)
    assert spawn(*arguments, **{VARIABLE: point}).code == -9
    again = run(*arguments, "--json")
    assert again.code == 0, again.err
    assert again.json["blobs"] == 0, "what was noted is not copied again"
    assert again.json["rows"]["versions"] == 1
    shutil.rmtree(root / "blobs")
    asyncio.run(_publish(root, home, "kj-2"))
    assert asyncio.run(_proved(root, "kj-1")) == 1
    with pytest.raises(sqlite3.IntegrityError, match="moved"), sqlite3.connect(root / "origin.sqlite") as old:
        old.execute("UPDATE allotments SET highest = 0")


async def test_a_rotten_blob_stops_it_before_anything_is_switched(home, bucket):
    root = home / "origin"
    path = next(path for path in sorted((root / "blobs").rglob("*")) if path.is_file())
    good = path.read_bytes()
    path.write_bytes(bytes([good[0] ^ 1]) + good[1:])
    before = (root / "origin.toml").read_text()
    with pytest.raises(StorageDamagedError, match="source"):
        await move(root, {}, _section(bucket), "", dry_run=False, told=None)
    assert (root / "origin.toml").read_text() == before
    path.write_bytes(good)
    done = await move(root, {}, _section(bucket), "", dry_run=False, told=None)
    assert (done.storage, done.rows) == ("s3", {})
    async with app.open_origin(root, {}, system_clock) as origin:
        assert await origin.storage.size(path.name) == len(good)


async def test_what_is_in_use_is_not_overwritten(home, cluster):
    root, address = home / "origin", cluster.create()
    async with open_database(address) as engine, writing(engine) as connection:
        await load_rows(connection, _no_rows())
    found = await move(root, {}, {}, address, dry_run=True, told=None)
    assert found.dry_run
    other = cluster.create()
    await app.init_origin(
        home / "new", "410000", passphrase=None, clock=system_clock, env={"YUANJIAO_DATABASE_URL": other}
    )
    with pytest.raises(ConfigurationError, match="library already"):
        await move(root, {}, {}, other, dry_run=False, told=None)
    with pytest.raises(ConfigurationError, match="stays as it is"):
        await move(root, {"YUANJIAO_DATABASE_URL": "sqlite+aiosqlite:///x"}, {}, address, dry_run=False, told=None)
    with pytest.raises(ConfigurationError, match="nothing"):
        await move(root, {}, {}, "", dry_run=False, told=None)
    await _publish(root, home, "kj-2")


async def _no_rows():
    for row in ():
        yield row


async def test_a_library_is_the_same_on_either_database_and_goes_on_from_there(home, cluster):
    old = f"sqlite+aiosqlite:///{home / 'origin' / 'origin.sqlite'}"
    async with open_database(old) as source, open_database(cluster.create()) as target:
        async with reading(source) as rows, writing(target) as connection:
            given = await load_rows(connection, read_rows(rows))
        async with reading(target) as connection:
            assert await tally(connection) == given
        async with writing(target) as connection:
            await note_audit(connection, Instant(1), "test", "the next number is free")
        back = f"sqlite+aiosqlite:///{home / 'back.sqlite'}"
        async with open_database(back) as third, reading(target) as rows, writing(third) as connection:
            assert (await load_rows(connection, read_rows(rows))).counts["audit"] == given.counts["audit"] + 1


async def test_a_closed_library_refuses_every_writer_and_can_be_opened_again(home):
    async with open_database(f"sqlite+aiosqlite:///{home / 'origin' / 'origin.sqlite'}") as engine:
        async with writing(engine) as connection:
            await close_library(connection)
        with pytest.raises(BusyError, match="moved"):
            async with writing(engine) as connection:
                await note_audit(connection, Instant(1), "test", "no")
        async with writing(engine) as connection:
            await reopen_library(connection)
            await note_audit(connection, Instant(1), "test", "yes")


@pytest.mark.parametrize(
    "text",
    [
        "",
        '[publisher]\nregion = "410100" # ours\n',
        '[storage] # where\nkind = "local"\nthreads = 3\n\n[serve]\nport = 9 # not storage\n',
        '[serve]\nport = 9\n[database]\nurl = ""\n',
    ],
)
def test_settings_are_changed_and_everything_else_stays(text):
    new = with_sections(text, {"storage": {"kind": "s3", "bucket": '引号"'}, "database": {"url": "x"}})
    before = load_settings(Settings, text, {}, "t")
    after = load_settings(Settings, new, {}, "t")
    assert (after.storage.kind, after.storage.bucket, after.database.url) == ("s3", '引号"', "x")
    assert (after.publisher, after.serve) == (before.publisher, before.serve)
    assert after.storage.threads == before.storage.threads
    assert [line for line in text.splitlines() if "#" in line] == [line for line in new.splitlines() if "#" in line]


def test_the_environment_of_a_bucket_and_the_section_say_the_same(bucket):
    env = load_settings(Settings, "", environment(bucket), "t").storage
    text = load_settings(Settings, with_sections("", {"storage": _section(bucket)}), {}, "t").storage
    assert (env.bucket, env.endpoint, env.prefix) == (text.bucket, text.endpoint, text.prefix)
