"""Opening, migrating and writing the database, on a real file."""

from __future__ import annotations

import asyncio
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine, func, insert, select, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine
from support.postgres import Cluster
from support.releases import AddressIn

from manifests.errors import BusyError, ConfigurationError, StorageDamagedError, StorageError
from manifests.instants import Instant
from origin.database import engine as opening
from origin.database.engine import open_database, reading, sqlite_url, writing
from origin.database.releases import allot, note_audit
from origin.database.schema import HEAD, schema
from origin.database.tables import audit, edges, versions
from origin.database.upgrade import _SCRIPTS
from tools.doctor_origin import check_origin


@pytest.fixture
def address(address_in: AddressIn, tmp_path: Path) -> str:
    """Of a new database, of either kind."""
    return address_in(tmp_path)


async def test_a_new_database_has_exactly_the_tables_of_the_schema(address: str) -> None:
    async with open_database(address):
        pass
    with create_engine(address.replace("+aiosqlite", "")).connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, schema) == []
        assert connection.execute(text("SELECT version_num FROM alembic_version")).scalar() == HEAD


def test_head_is_the_last_script() -> None:
    assert ScriptDirectory(str(_SCRIPTS)).get_heads() == [HEAD]


async def test_every_connection_keeps_the_promises(tmp_path: Path) -> None:
    async with (
        open_database(sqlite_url(tmp_path / "o.sqlite")) as engine,
        reading(engine) as one,
        reading(engine) as two,
    ):
        for connection in (one, two):
            got = [
                (await connection.exec_driver_sql(f"PRAGMA {name}")).scalar()
                for name in ("foreign_keys", "journal_mode", "synchronous")
            ]
            assert got == [1, "wal", 2]


async def _write_an_orphan(engine: AsyncEngine) -> None:
    row = {"courseware": "kj-1", "number": 1, "release": 1, "title": "t", "kind": "video", "priority": 5}
    row |= {"duration_s": 0.0, "size_bytes": 0, "published_at": 0, "document": "{}"}
    async with writing(engine) as connection:
        await note_audit(connection, Instant(1), "test", "gone")
        await connection.execute(insert(versions).values(**row))


async def test_a_reference_to_nothing_is_refused_and_nothing_of_the_transaction_stays(address: str) -> None:
    async with open_database(address) as engine:
        with pytest.raises(IntegrityError, match=r"(?i)foreign key"):
            await _write_an_orphan(engine)
        async with reading(engine) as connection:
            assert (await connection.execute(select(func.count()).select_from(audit))).scalar() == 0


async def test_opening_again_finds_what_was_written(address: str) -> None:
    url = address
    async with open_database(url) as engine, writing(engine) as connection:
        assert await allot(connection, {"targets": 0, "catalog": 7}) == {"targets": 1, "catalog": 8}
    async with open_database(url) as engine, writing(engine) as connection:
        assert await allot(connection, {"targets": 0, "catalog": 7}) == {"targets": 2, "catalog": 9}
        assert await allot(connection, {"targets": 40}) == {"targets": 41}


async def test_writers_wait_for_each_other(address: str) -> None:
    async with open_database(address) as engine:

        async def bump() -> int:
            async with writing(engine) as connection:
                return (await allot(connection, {"n": 0}))["n"]

        assert sorted(await asyncio.gather(*(bump() for _ in range(12)))) == list(range(1, 13))


async def test_a_database_locked_for_too_long_is_busy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opening, "_PRAGMAS", ("PRAGMA busy_timeout = 50",))
    path = tmp_path / "o.sqlite"
    async with open_database(sqlite_url(path)) as engine:
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(BusyError) as caught:
            async with writing(engine):
                pass
        assert caught.value.exit_code == 4
        other.close()


async def test_not_a_database_is_damage_and_a_directory_is_storage(tmp_path: Path) -> None:
    path = tmp_path / "o.sqlite"
    path.write_bytes(b"this is no database, whatever its name says" * 100)
    with pytest.raises(StorageDamagedError):
        async with open_database(sqlite_url(path)):
            pass
    with pytest.raises(StorageError):
        async with open_database(sqlite_url(tmp_path)):
            pass


async def test_a_database_of_a_newer_program_and_a_bad_address_are_refused(tmp_path: Path) -> None:
    url = sqlite_url(tmp_path / "o.sqlite")
    async with open_database(url) as engine, writing(engine) as connection:
        await connection.execute(text("UPDATE alembic_version SET version_num = 'r9999'"))
    with pytest.raises(ConfigurationError, match="r9999"):
        async with open_database(url):
            pass
    with pytest.raises(ConfigurationError, match="address"):
        async with open_database("no address"):
            pass


def test_two_processes_may_open_a_new_database_at_once(address: str) -> None:
    program = (
        "import asyncio, sys\n"
        "from origin.database.engine import open_database\n"
        "async def main():\n"
        "    async with open_database(sys.argv[1]): pass\n"
        "asyncio.run(main())\n"
    )
    command = [sys.executable, "-c", program, address]
    both = [subprocess.Popen(command, stderr=subprocess.PIPE) for _ in range(2)]
    for process in both:
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 0, errors.decode()
    with create_engine(address.replace("+aiosqlite", "")).connect() as connection:
        assert connection.execute(select(func.count()).select_from(edges)).scalar() == 0


async def test_a_reader_sees_one_moment(address: str) -> None:
    async with open_database(address) as engine, reading(engine) as reader:
        assert await _count(reader) == 0
        async with writing(engine) as writer:
            await note_audit(writer, Instant(1), "test", "meanwhile")
        assert await _count(reader) == 0
        async with reading(engine) as later:
            assert await _count(later) == 1


async def test_a_writer_sees_what_the_one_before_it_wrote(address: str) -> None:
    async with open_database(address) as engine:
        begun = asyncio.Event()

        async def second() -> int:
            await begun.wait()
            async with writing(engine) as connection:
                return await _count(connection)

        waiting = asyncio.create_task(second())
        async with writing(engine) as connection:
            begun.set()
            await asyncio.sleep(0)
            await note_audit(connection, Instant(1), "test", "first")
        assert await waiting == 1


async def _count(connection: AsyncConnection) -> int:
    return int((await connection.execute(select(func.count()).select_from(audit))).scalar_one())


async def test_a_server_that_refuses_or_is_not_there_is_told_without_the_password(cluster: Cluster) -> None:
    for url, family, said in (
        (cluster.address("no_such_database"), ConfigurationError, "does not exist"),
        ("postgresql+psycopg://someone:very-secret@127.0.0.1:9/db", StorageError, "cannot be reached"),
    ):
        with pytest.raises(family, match=said) as caught:
            async with open_database(url):
                pass
        assert "very-secret" not in f"{caught.value.message}{caught.value.zh}"


async def test_a_server_database_locked_for_too_long_is_busy(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opening, "_SERVER_OPTIONS", "-c lock_timeout=50ms")
    async with open_database(cluster.create()) as engine, writing(engine):
        with pytest.raises(BusyError):
            async with writing(engine):
                pass


async def test_a_server_that_ends_our_connections_is_found_again(cluster: Cluster) -> None:
    url = cluster.create()
    async with open_database(url) as engine:
        async with reading(engine) as connection:
            assert await _count(connection) == 0
        name = url.rpartition("/t")[2].partition("?")[0]
        cluster.execute(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 't{name}'")
        async with writing(engine) as connection:
            await note_audit(connection, Instant(1), "test", "after")


async def test_doctor_asks_the_server(cluster: Cluster, tmp_path: Path) -> None:
    (tmp_path / "origin.toml").write_text("")
    for url, level in ((cluster.create(), "ok"), (cluster.address("gone"), "fail")):
        findings = await check_origin(tmp_path, {"YUANJIAO_DATABASE_URL": url}, Instant(1))
        assert next(one for one in findings if one.id == "database").level == level
