"""Space that is set aside: on a full disk a recall must still get through, and signatures must still be renewed.

A file of zeros that goes overboard when the disk is full, and is made again when there is room. It works whoever filled
the disk, which a limit on what we publish ourselves would not.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

# The database's side files, role files, a small catalog; what a big catalog needs is added.
LEAST_BYTES: Final = 1 << 20
_SHARE: Final = 20  # of a small disk at most a twentieth


class Ballast:
    """The file that is set aside. All of it is blocking."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def take(self, catalog_bytes: int = 0) -> bool:
        """Set space aside, enough for the next catalog if that is as long as this one; False when there is no room."""
        try:
            disk = os.statvfs(self._path.parent)
            wanted = min(LEAST_BYTES + 2 * catalog_bytes, disk.f_blocks * disk.f_frsize // _SHARE)
            fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                held = os.fstat(fd).st_size
                if held < wanted:
                    _extend(fd, held, wanted)
            finally:
                os.close(fd)
        except OSError:
            return False
        return True

    def drop(self) -> bool:
        """Give the space back; False when there was none."""
        try:
            held = self._path.stat().st_size
            self._path.unlink()
        except OSError:
            return False
        return held > 0


def _extend(fd: int, held: int, wanted: int) -> None:
    try:
        os.posix_fallocate(fd, 0, wanted)
    except OSError:
        os.ftruncate(fd, held)
        raise
