"""Faults of the disk and of the index, told in this project's words."""

from __future__ import annotations

import errno
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from manifests.errors import BusyError, StorageDamagedError, StorageError, StorageFullError

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_INDEX_FULL = frozenset({sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_SHMSIZE})
_INDEX_BUSY = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED})
_INDEX_DAMAGED = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_FORMAT})


def storage_error(error: OSError, what: str) -> StorageError:
    """Put an OSError into the storage family; `what` names the act, such as "writing index"."""
    reason = error.strerror or str(error)
    if error.errno in _FULL:
        return StorageFullError(f"{what}: no space left ({reason})", zh=f"磁盘空间不足:{what}({reason})")
    return StorageError(f"{what}: {reason}", zh=f"本地存储故障:{what}({reason})")


@contextmanager
def storage_faults(what: str) -> Iterator[None]:
    """Map every OSError of the block.

    Raises:
        StorageFullError: environment; no space or quota left.
        StorageError: environment; any other fault of the disk.
    """
    try:
        yield
    except OSError as error:
        raise storage_error(error, what) from error


def is_index_damage(error: sqlite3.Error) -> bool:
    """Tell whether SQLite says that the file itself is wrong, not the moment."""
    code = getattr(error, "sqlite_errorcode", None)
    return code is not None and (code & 0xFF) in _INDEX_DAMAGED


@contextmanager
def index_faults(what: str) -> Iterator[None]:
    """Map every sqlite3 error of the block.

    Raises:
        StorageDamagedError: environment; the index is damaged and will be rebuilt at the next opening.
        StorageFullError: environment; no space left.
        BusyError: environment; another process kept the index locked past the deadline.
        StorageError: environment; any other fault.
    """
    try:
        yield
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", None) or 0
        if is_index_damage(error):
            raise StorageDamagedError(
                f"index is damaged ({what}): {error}",
                zh=f"本地索引已损坏({what}):{error}",
                hint="run `yuanjiao edge sync DIR` (or serve) again: the index is rebuilt from the blobs",
                hint_zh="请重新运行 `yuanjiao edge sync DIR`(或 serve),索引将根据已有数据自动重建",
            ) from error
        if code in _INDEX_FULL:
            raise StorageFullError(f"index: no space left ({what})", zh=f"磁盘空间不足,无法写入索引({what})") from error
        if (code & 0xFF) in _INDEX_BUSY:
            raise BusyError(f"index is locked by another process ({what})", zh=f"索引被其他进程占用({what})") from error
        raise StorageError(f"index: {error} ({what})", zh=f"索引读写失败({what}):{error}") from error
