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
from sqlalchemy.ext.asyncio import AsyncEngine

from manifests.errors import BusyError, ConfigurationError, StorageDamagedError, StorageError
from manifests.instants import Instant
from origin.database import engine as opening
from origin.database.engine import open_database, reading, sqlite_url, writing
from origin.database.releases import allot, note_audit
from origin.database.tables import HEAD, audit, edges, schema, versions
from origin.database.upgrade import _SCRIPTS


async def test_a_new_database_has_exactly_the_tables_of_the_schema(tmp_path: Path) -> None:
    path = tmp_path / "origin.sqlite"
    async with open_database(sqlite_url(path)):
        pass
    with create_engine(f"sqlite:///{path}").connect() as connection:
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


async def test_a_reference_to_nothing_is_refused_and_nothing_of_the_transaction_stays(tmp_path: Path) -> None:
    async with open_database(sqlite_url(tmp_path / "o.sqlite")) as engine:
        with pytest.raises(IntegrityError, match="FOREIGN KEY"):
            await _write_an_orphan(engine)
        async with reading(engine) as connection:
            assert (await connection.execute(select(func.count()).select_from(audit))).scalar() == 0


async def test_opening_again_finds_what_was_written(tmp_path: Path) -> None:
    url = sqlite_url(tmp_path / "o.sqlite")
    async with open_database(url) as engine, writing(engine) as connection:
        assert await allot(connection, {"targets": 0, "catalog": 7}) == {"targets": 1, "catalog": 8}
    async with open_database(url) as engine, writing(engine) as connection:
        assert await allot(connection, {"targets": 0, "catalog": 7}) == {"targets": 2, "catalog": 9}
        assert await allot(connection, {"targets": 40}) == {"targets": 41}


async def test_writers_wait_for_each_other(tmp_path: Path) -> None:
    async with open_database(sqlite_url(tmp_path / "o.sqlite")) as engine:

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


def test_two_processes_may_open_a_new_database_at_once(tmp_path: Path) -> None:
    program = (
        "import asyncio, sys\n"
        "from origin.database.engine import open_database\n"
        "async def main():\n"
        "    async with open_database(sys.argv[1]): pass\n"
        "asyncio.run(main())\n"
    )
    path = tmp_path / "o.sqlite"
    command = [sys.executable, "-c", program, sqlite_url(path)]
    both = [subprocess.Popen(command, stderr=subprocess.PIPE) for _ in range(2)]
    for process in both:
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 0, errors.decode()
    with create_engine(f"sqlite:///{path}").connect() as connection:
        assert connection.execute(select(func.count()).select_from(edges)).scalar() == 0
