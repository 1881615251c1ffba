"""Opening the database and beginning transactions; nothing else in the origin sets a PRAGMA or says BEGIN.

SQLite by default, reached through aiosqlite's own thread; PostgreSQL through psycopg when one machine is outgrown. On
both, writers come one after another and each sees all that was written before it; a reader sees one moment.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

from sqlalchemy import event, exc, text
from sqlalchemy.engine import URL, Connection, make_url
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from manifests.errors import ConfigurationError
from origin.database.faults import database_faults
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

# What the server ends by itself, so that nobody waits for a machine that is gone: a statement, a wait for a lock, a
# transaction in which nothing happens any more.
_SERVER_OPTIONS: Final = (
    "-c statement_timeout=120s "
    f"-c lock_timeout={int(BUSY_S)}s "
    "-c idle_in_transaction_session_timeout=120s "
    "-c tcp_keepalives_idle=30 -c tcp_keepalives_interval=10 -c tcp_keepalives_count=3"
)
_CONNECT_S: Final = 10
_CONNECTIONS: Final = 10
# Names the right to write, among whatever else may use advisory locks in this database.
_WRITER: Final = 0x59_4A_57


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
    _check_driver(parsed)
    with database_faults():
        await asyncio.to_thread(upgrade, parsed)
    engine = _engine(parsed)
    try:
        yield engine
    finally:
        await engine.dispose()


def _check_driver(url: URL) -> None:
    name = url.drivername
    if name not in {"sqlite+aiosqlite", "postgresql+psycopg"}:
        raise ConfigurationError(
            f"database address is refused: it begins with {name!r}, not sqlite+aiosqlite or postgresql+psycopg",
            zh=f"数据库地址不合规：应以 sqlite+aiosqlite 或 postgresql+psycopg 开头，而不是 {name!r}",
        )
    if name.startswith("postgresql"):
        try:
            import psycopg  # noqa: F401 - only whether it is installed
        except ImportError as error:
            raise ConfigurationError(
                f"PostgreSQL needs psycopg, which is not usable here: {error}",
                zh="使用 PostgreSQL 需要安装 psycopg",
                hint="install yuanjiao with its extra: pip install 'yuanjiao[postgres]'",
                hint_zh="请安装附加组件：pip install 'yuanjiao[postgres]'",
            ) from error


def _engine(url: URL) -> AsyncEngine:
    if url.get_backend_name() == "sqlite":
        engine = create_async_engine(url)
        event.listen(engine.sync_engine, "connect", _prepare_connection)
        event.listen(engine.sync_engine, "begin", _begin)
        return engine
    return create_async_engine(
        url,
        connect_args={"connect_timeout": _CONNECT_S, "options": _SERVER_OPTIONS, "application_name": "yuanjiao"},
        pool_size=_CONNECTIONS,
        max_overflow=0,
        pool_timeout=BUSY_S,
        pool_pre_ping=True,
    )


@asynccontextmanager
async def reading(engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
    """One consistent view of the database.

    Raises:
        StorageError: environment.
    """
    with database_faults():
        async with engine.connect() as connection:
            if connection.dialect.name != "sqlite":
                await connection.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
            async with connection.begin():
                yield connection


@asynccontextmanager
async def writing(engine: AsyncEngine, *, in_turn: bool = True) -> AsyncIterator[AsyncConnection]:
    """One transaction that writes: committed as a whole at the end, or not at all.

    Args:
        engine: the database.
        in_turn: wait for other writers; without it (servers only), each statement must be right whatever they do.

    Raises:
        BusyError: environment; another process kept writing for too long.
        StorageError: environment.
    """
    with database_faults():
        async with engine.connect() as connection:
            await connection.execution_options(**{_WRITES: True})
            async with connection.begin():
                if in_turn and connection.dialect.name != "sqlite":
                    # Read committed, which is the server's usual: what is read after this was not yet there before.
                    await connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _WRITER})
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
