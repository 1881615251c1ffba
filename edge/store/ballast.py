"""A few megabytes set aside for the moment when something else has filled the disk.

The reserve keeps this program from filling it; logs and neighbours do not know the reserve. Recalling and deleting
need a little space first (a catalog, a page of the index), so they may throw the ballast overboard.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

import structlog

from edge.store.disk import free_bytes, opened
from manifests.errors import StorageFullError

BALLAST_BYTES = 4 * 1024 * 1024

T = TypeVar("T")

log = structlog.get_logger(__name__)


class Ballast:
    """The file and what to do with it."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def take(self, catalog_bytes: int = 0) -> None:
        """Set it aside, or let it grow, while there is room; a small or full disk goes without.

        Args:
            catalog_bytes: size of the largest catalog here: the next one, which may carry a recall, must fit.
        """
        with suppress(OSError):
            held = self._path.stat().st_size if self._path.exists() else 0
            size = min(BALLAST_BYTES + 2 * catalog_bytes, (free_bytes(self._path.parent) + held) // 16)
            if size > held:
                try:
                    with opened(self._path, os.O_WRONLY | os.O_CREAT) as fd:
                        os.posix_fallocate(fd, 0, size)
                except OSError:
                    self._path.unlink()
                    raise

    def spend(self, act: Callable[[], T]) -> T:
        """Do what must not fail for want of space; it is done once more without the ballast.

        Raises:
            StorageFullError: environment; there was no ballast, or it was not enough.
        """
        try:
            return act()
        except StorageFullError:
            try:
                self._path.unlink()
            except OSError:
                log.warning("no_ballast")
            else:
                log.warning("ballast_spent")
                return act()
            raise
