"""Opening the database and beginning transactions; nothing else in the origin sets a PRAGMA or says BEGIN.

SQLite by default, reached through aiosqlite's own thread; any other SQLAlchemy address is passed through as it is.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, Final

from sqlalchemy import event, exc
from sqlalchemy.engine import URL, Connection, make_url
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from manifests.errors import BusyError, ConfigurationError, StorageDamagedError, StorageError, StorageFullError
from origin.database.upgrade import upgrade

BUSY_S: Final = 30.0

# synchronous=FULL: in WAL mode NORMAL may forget the last commits at a power cut, and a forgotten allotment would give
# the same version number to two different documents. A publish commits three times; the syncs are not felt.
_PRAGMAS: Final = (
    "PRAGMA foreign_keys = ON",
    "PRAGMA journal_mode = WAL",
    "PRAGMA synchronous = FULL",
    f"PRAGMA busy_timeout = {int(BUSY_S * 1000)}",
)
_WRITES: Final = "yuanjiao_writes"


def sqlite_url(path: Path) -> str:
    """The address of a SQLite file."""
    return URL.create("sqlite+aiosqlite", database=str(path)).render_as_string(hide_password=False)


@asynccontextmanager
async def open_database(url: str) -> AsyncIterator[AsyncEngine]:
    """Open the database, bring it to the newest migration, close it at the end.

    Args:
        url: SQLAlchemy address for an asyncio driver; `sqlite_url(path)` for the usual file.

    Raises:
        ConfigurationError: bad data; an address SQLAlchemy cannot read, or a database newer than this program.
        StorageError: environment; it cannot be opened, read or written.
    """
    try:
        parsed = make_url(url)
    except exc.ArgumentError as error:
        raise ConfigurationError(f"database address is refused: {error}", zh="数据库地址不合规") from error
    with database_faults():
        await asyncio.to_thread(upgrade, parsed)
    engine = create_async_engine(parsed)
    if parsed.get_backend_name() == "sqlite":
        event.listen(engine.sync_engine, "connect", _prepare_connection)
        event.listen(engine.sync_engine, "begin", _begin)
    try:
        yield engine
    finally:
        await engine.dispose()


@asynccontextmanager
async def reading(engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
    """One consistent view of the database.

    Raises:
        StorageError: environment.
    """
    with database_faults():
        async with engine.connect() as connection, connection.begin():
            yield connection


@asynccontextmanager
async def writing(engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
    """One transaction that writes: committed as a whole at the end, or not at all.

    Raises:
        BusyError: environment; another process kept writing for too long.
        StorageError: environment.
    """
    with database_faults():
        async with engine.connect() as connection:
            await connection.execution_options(**{_WRITES: True})
            async with connection.begin():
                yield connection


def _prepare_connection(connection: Any, _record: object) -> None:
    # The driver would begin transactions by its own guess (never before SELECT or DDL); `_begin` does it instead.
    connection.isolation_level = None
    cursor = connection.cursor()
    for pragma in _PRAGMAS:
        cursor.execute(pragma)
    cursor.close()


def _begin(connection: Connection) -> None:
    # A reader that turns writer fails at once when another wrote meanwhile, whatever the busy timeout: so a writer
    # takes the lock at its beginning, where the timeout holds.
    wants = connection.get_execution_options().get(_WRITES, False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if wants else "BEGIN")


@contextmanager
def database_faults() -> Iterator[None]:
    """Put the driver's errors into this project's families.

    Raises:
        BusyError: environment; locked by another process.
        StorageFullError: environment.
        StorageDamagedError: environment; not a database, or its pages are broken.
        StorageError: environment; anything else that the disk is to blame for.
    """
    try:
        yield
    except exc.DBAPIError as error:
        raise _fault(error, error.orig) from error
    except sqlite3.Error as error:
        raise _fault(error, error) from error


_FULL = frozenset({sqlite3.SQLITE_FULL})
# The shared index of the write-ahead log cannot be made longer: on a full disk this comes before all else.
_NO_ROOM = frozenset({sqlite3.SQLITE_IOERR_SHMSIZE})
_BUSY = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED})
_DAMAGED = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
_DISK = frozenset({sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM})


def _fault(error: Exception, cause: BaseException | None) -> Exception:
    code = getattr(cause, "sqlite_errorcode", None)
    primary = code & 0xFF if isinstance(code, int) else None
    reason = str(cause)
    if primary in _BUSY:
        return BusyError(f"the database is locked by another process: {reason}", zh="数据库正被另一个进程占用")
    if primary in _FULL or code in _NO_ROOM:
        return StorageFullError(f"writing the database: {reason}", zh="磁盘空间不足，数据库无法写入")
    if primary in _DAMAGED:
        return StorageDamagedError(
            f"the database is damaged: {reason}",
            zh="数据库已损坏",
            hint="restore origin.sqlite from a backup",
            hint_zh="请从备份恢复 origin.sqlite",
        )
    if primary in _DISK:
        return StorageError(f"the database cannot be read or written: {reason}", zh=f"数据库无法读写：{reason}")
    return error
