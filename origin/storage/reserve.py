"""Space that is set aside: on a full disk a recall must still get through, and signatures must still be renewed.

A file of zeros that is deleted when the disk is full, and made again when there is room. It works whoever filled the
disk, which a limit on what we publish ourselves would not.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

# The database's side files, role files, a small catalog; what a big catalog needs is added.
LEAST_BYTES: Final = 1 << 20
_SHARE: Final = 20  # of a small disk at most a twentieth


class Reserve:
    """The file that is set aside."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def hold(self, more_bytes: int = 0) -> bool:
        """Set space aside, `more_bytes` beside the least; False when there is no room for it. Blocking."""
        try:
            disk = os.statvfs(self._path.parent)
            wanted = min(LEAST_BYTES + more_bytes, disk.f_blocks * disk.f_frsize // _SHARE)
            fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                had = os.fstat(fd).st_size
                if had < wanted:
                    _extend(fd, had, wanted)
            finally:
                os.close(fd)
        except OSError:
            return False
        return True

    def release(self) -> bool:
        """Give the space back; False when there was none. Blocking."""
        try:
            had = self._path.stat().st_size
            self._path.unlink()
        except OSError:
            return False
        return had > 0


def _extend(fd: int, had: int, wanted: int) -> None:
    try:
        os.posix_fallocate(fd, 0, wanted)
    except OSError:
        os.ftruncate(fd, had)
        raise
