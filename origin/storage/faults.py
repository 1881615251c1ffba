"""Faults of the disk, told in this project's words."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from manifests.errors import StorageError, StorageFullError

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


def storage_error(error: OSError, what: str) -> StorageError:
    """Put an OSError into the storage family; `what` names the act, such as "staging lesson.mp4"."""
    reason = error.strerror or str(error)
    if error.errno in _FULL:
        return StorageFullError(f"{what}: no space left ({reason})", zh=f"磁盘空间不足：{what}({reason})")
    return StorageError(f"{what}: {reason}", zh=f"本地存储故障：{what}({reason})")


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
