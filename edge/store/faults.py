"""Faults of the disk and of the index, told in this project's words."""

from __future__ import annotations

import errno
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from manifests.errors import BusyError, StorageDamagedError, StorageError, StorageFullError

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
# The bytes are gone or unreadable: a vanished file, a directory in its place, a bad sector. Not a matter of rights,
# space or the moment, so the thing counts as damaged and is fetched again.
_LOST = frozenset({errno.ENOENT, errno.EIO, errno.EISDIR, errno.ENOTDIR, errno.ELOOP})
_INDEX_FULL = frozenset({sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_SHMSIZE})
_INDEX_BUSY = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED})
_INDEX_RIGHTS = frozenset({sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM})
_INDEX_DAMAGED = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_FORMAT})

_ACTS_ZH = {"opening": "打开", "reading": "读取", "writing": "写入", "rebuilding": "重建"}
_REASONS_ZH = {
    errno.ENOSPC: "磁盘已满",
    errno.EDQUOT: "超出磁盘配额",
    errno.EROFS: "文件系统只读",
    errno.EACCES: "权限不足",
    errno.EPERM: "权限不足",
    errno.EIO: "磁盘读写错误",
    errno.ENOENT: "文件不存在",
    errno.EXDEV: "不在同一文件系统",
    errno.ENOTDIR: "不是目录",
    errno.EISDIR: "应为文件却是目录",
    errno.EMFILE: "打开的文件过多",
    errno.ENFILE: "打开的文件过多",
}
_OWNER = (
    "run as the user who owns the edge's directory, or give all of it to this user (chown -R)",
    "请以边缘服务器目录的属主身份运行，或将整个目录的属主改为当前用户（chown -R）",
)
_HINTS = {
    errno.EACCES: _OWNER,
    errno.EPERM: _OWNER,
    errno.EROFS: (
        "the system mounted this disk read-only, often after a fault: see dmesg, repair it, mount it writable again",
        "系统已将该磁盘挂载为只读（多因磁盘故障）：请查看 dmesg，修复后重新以可写方式挂载",
    ),
    errno.EIO: ("see dmesg and replace the disk soon", "请查看 dmesg，并尽快更换磁盘"),
}


def storage_error(error: OSError, what: str, what_zh: str = "") -> StorageError:
    """Put an OSError into the storage family; `what` names the act, such as "writing index"."""
    reason = error.strerror or str(error)
    reason_zh = _REASONS_ZH.get(error.errno or 0, reason)
    if error.errno in _FULL:
        return StorageFullError(f"{what}: no space left ({reason})", zh=f"磁盘空间不足：{what_zh or what}({reason_zh})")
    hint, hint_zh = _HINTS.get(error.errno or 0, ("", ""))
    return StorageError(f"{what}: {reason}", zh=f"{what_zh or what} 失败：{reason_zh}", hint=hint, hint_zh=hint_zh)


@contextmanager
def storage_faults(what: str, what_zh: str) -> Iterator[None]:
    """Map every OSError of the block.

    Args:
        what: the act, such as "reading blob 12ab".
        what_zh: the same for people, such as "读取数据块 12ab".

    Raises:
        StorageFullError: environment; no space or quota left.
        StorageError: environment; any other fault of the disk.
    """
    try:
        yield
    except OSError as error:
        raise storage_error(error, what, what_zh) from error


def is_lost(error: OSError) -> bool:
    """Tell whether the bytes themselves are gone, so that fetching them again is the cure."""
    return error.errno in _LOST


def is_index_damage(error: sqlite3.Error) -> bool:
    """Tell whether SQLite says that the file itself is wrong, not the moment."""
    code = getattr(error, "sqlite_errorcode", None)
    return code is not None and (code & 0xFF) in _INDEX_DAMAGED


def is_index_full(error: sqlite3.Error) -> bool:
    """Tell whether SQLite lacked space, in the file or for its shared memory."""
    code = getattr(error, "sqlite_errorcode", None) or 0
    return code in _INDEX_FULL or (code & 0xFF) == sqlite3.SQLITE_FULL


def index_damaged(message: str, zh: str) -> StorageDamagedError:
    """The error of an index that must be rebuilt."""
    return StorageDamagedError(
        message,
        zh=zh,
        hint="run `yuanjiao edge sync DIR` (or serve) again: the index is rebuilt from the blobs",
        hint_zh="请重新运行 `yuanjiao edge sync DIR`（或 serve），索引将根据已有数据自动重建",
    )


@contextmanager
def index_faults(what: str) -> Iterator[None]:
    """Map every sqlite3 error of the block.

    Args:
        what: one of "opening", "reading", "writing", "rebuilding".

    Raises:
        StorageDamagedError: environment; the index is damaged and will be rebuilt at the next opening.
        StorageFullError: environment; no space left.
        BusyError: environment; another process kept the index locked past the deadline.
        StorageError: environment; any other fault.
    """
    try:
        yield
    except sqlite3.Error as error:
        act = _ACTS_ZH.get(what, what)
        code = getattr(error, "sqlite_errorcode", None) or 0
        if is_index_damage(error):
            raise index_damaged(f"index is damaged ({what}): {error}", f"本地索引已损坏：{error}") from error
        if is_index_full(error):
            raise StorageFullError(f"index: no space left ({what})", zh=f"磁盘空间不足，无法{act}索引") from error
        if (code & 0xFF) in _INDEX_BUSY:
            raise BusyError(
                f"index is locked by another process ({what})", zh=f"索引正被其他进程占用，未能{act}"
            ) from error
        hint, hint_zh = _OWNER if (code & 0xFF) in _INDEX_RIGHTS else ("", "")
        raise StorageError(
            f"index: {error} ({what})", zh=f"{act}索引失败：{error}", hint=hint, hint_zh=hint_zh
        ) from error
