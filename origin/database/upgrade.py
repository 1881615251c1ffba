"""Bringing a database to the newest migration, once per opening; alembic is loaded only when there is work to do."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from sqlalchemy import Connection, create_engine, exc, inspect, text
from sqlalchemy.engine import URL
from sqlalchemy.pool import NullPool

from manifests.errors import ConfigurationError
from origin.database.tables import HEAD

_SCRIPTS: Final = Path(__file__).parent / "migrations"
_BUSY_S: Final = 60
_CONNECT_S: Final = 10
_MIGRATOR: Final = 0x59_4A_4D  # an advisory lock's name


def upgrade(url: URL) -> None:
    """Run the migrations that this database lacks. Blocking: call it in a thread.

    SQLite's own write lock, taken before the first look, keeps two processes from migrating at once: the second waits
    and finds nothing left to do. On PostgreSQL an advisory lock does, taken when there is
    something to do. All steps are one transaction, so a crash leaves the old schema whole.

    Raises:
        ConfigurationError: bad data; the database was made by a newer program.
        sqlalchemy.exc.DBAPIError: environment; the caller maps it.
    """
    is_sqlite = url.get_backend_name() == "sqlite"
    if is_sqlite:
        url = url.set(drivername="sqlite")
    engine = create_engine(url, poolclass=NullPool, connect_args={} if is_sqlite else {"connect_timeout": _CONNECT_S})
    try:
        with engine.connect() as connection:
            if is_sqlite:
                _lock(connection)
            version = _version_of(connection)
            if version != HEAD and not is_sqlite:
                connection.execute(text(f"SET LOCAL lock_timeout = '{_BUSY_S}s'"))
                connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _MIGRATOR})
                version = _version_of(connection)
            if version != HEAD:
                _check_known(version)
                _run(connection)
            connection.commit()
    finally:
        engine.dispose()


def _lock(connection: Connection) -> None:
    raw = connection.connection.driver_connection
    if raw is None:
        raise exc.InvalidRequestError("the connection is closed")
    raw.isolation_level = None
    connection.exec_driver_sql(f"PRAGMA busy_timeout = {_BUSY_S * 1000}")
    connection.exec_driver_sql("PRAGMA journal_mode = WAL")
    connection.exec_driver_sql("BEGIN IMMEDIATE")


def _version_of(connection: Connection) -> str | None:
    if not inspect(connection).has_table("alembic_version"):
        return None
    return connection.execute(text("SELECT version_num FROM alembic_version")).scalar()


def _check_known(version: str | None) -> None:
    from alembic.script import ScriptDirectory

    known = {script.revision for script in ScriptDirectory(str(_SCRIPTS)).walk_revisions()}
    if version is not None and version not in known:
        raise ConfigurationError(
            f"the database is at migration {version!r}, which this program does not have",
            zh=f"数据库版本 {version!r} 比当前程序新",
            hint="install the newer yuanjiao on this origin, or restore the database from before the update",
            hint_zh="请在源站安装新版 yuanjiao，或恢复升级前的数据库备份",
        )


def _run(connection: Connection) -> None:
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(_SCRIPTS).replace("%", "%%"))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
