"""The drivers' errors in this project's families, for both databases."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from sqlalchemy import exc

from manifests.errors import BusyError, ConfigurationError, StorageDamagedError, StorageError, StorageFullError


@contextmanager
def database_faults() -> Iterator[None]:
    """Put the driver's errors into this project's families.

    Raises:
        BusyError: environment; locked by another process, or no connection was free in time.
        ConfigurationError: environment; the server does not know the account or the database.
        StorageFullError: environment.
        StorageDamagedError: environment; not a database, or its pages are broken.
        StorageError: environment; anything else that the disk or the line to the server is to blame for.
    """
    try:
        yield
    except exc.DBAPIError as error:
        raise _fault(error, error.orig) from error
    except exc.TimeoutError as error:
        raise BusyError("no connection to the database was free in time", zh="数据库连接全部被占用") from error
    except sqlite3.Error as error:
        raise _fault(error, error) from error


_FULL: Final = frozenset({sqlite3.SQLITE_FULL})
# The shared index of the write-ahead log cannot be made longer: on a full disk this comes before all else.
_NO_ROOM: Final = frozenset({sqlite3.SQLITE_IOERR_SHMSIZE})
_BUSY: Final = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED})
_DAMAGED: Final = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
_DISK: Final = frozenset({sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM})


def _fault(error: Exception, cause: BaseException | None) -> Exception:
    if not isinstance(cause, sqlite3.Error):
        return _server_fault(error, cause)
    code = getattr(cause, "sqlite_errorcode", None)
    primary = code & 0xFF if isinstance(code, int) else None
    reason = str(cause)
    if code == sqlite3.SQLITE_CONSTRAINT_TRIGGER:
        return BusyError(
            f"this library refuses changes: {reason}",
            zh="课件库已迁移到其他数据库",
            hint="start this process again, or finish `yuanjiao origin migrate`",
            hint_zh="请重新启动本进程，或重新运行 `yuanjiao origin migrate` 完成迁移",
        )
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


# PostgreSQL's SQLSTATEs; the first two letters are the class.
_SERVER_BUSY: Final = frozenset({"55P03", "40001", "40P01", "57014", "53300", "25P03"})
_REFUSED: Final = frozenset({"28000", "28P01", "3D000", "42501"})
_DOWN: Final = ("08", "57P", "58", "F0")


def _server_fault(error: Exception, cause: BaseException | None) -> Exception:
    state = getattr(cause, "sqlstate", None) or ""
    reason = " ".join(str(cause).split())[:300]
    if state in _SERVER_BUSY:
        return BusyError(f"the database is busy: {reason}", zh="数据库繁忙，未能在时限内完成")
    if state == "53100":
        return StorageFullError(f"writing the database: {reason}", zh="数据库服务器磁盘空间不足")
    if state.startswith("XX"):
        return StorageDamagedError(
            f"the database is damaged: {reason}",
            zh="数据库已损坏",
            hint="restore the database from a backup",
            hint_zh="请从备份恢复数据库",
        )
    if state in _REFUSED or "authentication failed" in reason or ("database" in reason and "does not exist" in reason):
        return ConfigurationError(
            f"the database server refuses: {reason}",
            zh=f"数据库服务器拒绝访问：{reason}",
            hint="check database.url, the account and its rights",
            hint_zh="请检查 database.url、账号及其权限",
        )
    unreached = isinstance(error, exc.OperationalError | exc.InterfaceError) and not state
    if unreached or state.startswith(_DOWN):
        return StorageError(
            f"the database cannot be reached: {reason}",
            zh=f"无法连接数据库：{reason}",
            hint="check the database server and the line to it",
            hint_zh="请检查数据库服务器及其网络",
        )
    return error
