"""Small files written as transactions: temporary name, all bytes, fsync, rename, fsync of the directory."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from origin.storage.faults import storage_faults
from origin.storage.local import fsync_directory

TEMPORARY: Final = ".tmp"


def write_durably(path: Path, data: bytes, *, mode: int = 0o644) -> None:
    """Put `data` at `path`, whole or not at all; what was there before is replaced.

    Raises:
        StorageFullError: environment.
        StorageError: environment.
    """
    temporary = path.with_name(path.name + TEMPORARY)
    with storage_faults(f"writing {path.name}"):
        temporary.unlink(missing_ok=True)
        try:
            fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
            try:
                _write_all(fd, data)
                os.fsync(fd)
            finally:
                os.close(fd)
            temporary.replace(path)
        except OSError:
            temporary.unlink(missing_ok=True)
            raise
        fsync_directory(path.parent)


def _write_all(fd: int, data: bytes) -> None:
    # A write to a full disk may store a part and report no error; only the next one says ENOSPC.
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
