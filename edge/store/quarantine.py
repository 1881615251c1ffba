"""Files whose bytes are not what their name says: set aside for a look, never named as whole again, and bounded."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import structlog

from edge.paths import Paths
from edge.store.disk import place_file
from edge.store.faults import storage_faults

MAX_FILES = 8
MAX_BYTES = 1 << 30

log = structlog.get_logger(__name__)


def quarantine(paths: Paths, path: Path) -> None:
    """Take a bad file away from where it lies; the oldest ones in quarantine give way.

    Raises:
        StorageError: environment; it could not be moved.
    """
    log.warning("file_quarantined", name=path.name)
    with storage_faults(f"setting {path.name[:20]} aside", f"隔离文件 {path.name[:20]}"):
        place_file(path, paths.quarantine / path.name)
        newest = sorted(paths.quarantine.iterdir(), key=lambda one: one.stat().st_ctime_ns, reverse=True)
        room = MAX_BYTES
        for count, kept in enumerate(newest, 1):
            room -= kept.stat().st_size
            if count > MAX_FILES or room < 0:
                with suppress(FileNotFoundError):
                    kept.unlink()
