"""The access log's file: whole lines from several processes, new by size and by day, never above its bound.

All workers of an edge append to one `access.log`. Each batch of lines is written under a lock of the folder, and in
whole or not at all: a batch that the disk did not take in full is cut off again. One who finds that the file was
renamed, by a sibling or by logrotate, goes on in the new one; so there is nothing to do on a signal. System calls are
few, because after each the thread has to wait until the event loop lets the interpreter go.
"""

from __future__ import annotations

import errno
import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import tzinfo
from pathlib import Path

from edge.serve.accessline import day_of
from edge.store.disk import free_bytes

CURRENT = "access.log"
# Below this the log leaves what is free to recalls and the index.
LEAST_FREE_BYTES = 32 * 1024 * 1024
ROOM_LOOK_S = 10
LOCK_DEADLINE_S = 2.0
_LOCK_PAUSE_S = 0.01
# The bound holds so many files.
_FILES = 8
_DAY_S = 86400


@dataclass(frozen=True, slots=True)
class LogBounds:
    """How much of it is kept.

    Attributes:
        most_bytes: of all files together.
        keep_days: how long a full one is kept.
    """

    most_bytes: int
    keep_days: int


class LogFile:
    """Appends to the log of one folder; one thread at a time."""

    def __init__(self, folder: Path, bounds: LogBounds, zone: tzinfo) -> None:
        self._folder = folder
        self._path = folder / CURRENT
        self._bounds = bounds
        self._zone = zone
        self._file = self._held = -1
        self._room_at = 0
        self._day = ""

    def write(self, lines: bytes, now: int) -> None:
        """Append whole lines, all or none.

        Args:
            lines: with their ends.
            now: epoch seconds.

        Raises:
            OSError: environment; nothing was written.
        """
        try:
            if self._held < 0:
                self._folder.mkdir(mode=0o750, parents=True, exist_ok=True)
                self._held = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            with self._locked():
                self._write(lines, now)
        except OSError:
            self.close()  # whatever it was, the next lines find their way anew
            raise

    def close(self) -> None:
        """Close what is open."""
        for file in (self._file, self._held):
            if file >= 0:
                os.close(file)
        self._file = self._held = -1

    def _write(self, lines: bytes, now: int) -> None:
        today = day_of(now, self._zone)
        held = self._opened(today)
        is_full = held.st_size + len(lines) > self._bounds.most_bytes // _FILES
        if held.st_size and (is_full or self._day != today):
            self._set_aside(self._day)
            self._prune(now)
            held = self._opened(today)
        if abs(now - self._room_at) >= ROOM_LOOK_S:
            self._room_at = 0
            if free_bytes(self._folder) < LEAST_FREE_BYTES:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            self._room_at = now
        self._append(lines, held.st_size)
        self._day = today

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Hold the folder. A holder that hangs must not hang us: then it is a fault like any other."""
        ends_s = time.monotonic() + LOCK_DEADLINE_S
        while True:
            try:
                fcntl.flock(self._held, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > ends_s:
                    raise
                time.sleep(_LOCK_PAUSE_S)
        try:
            yield
        finally:
            fcntl.flock(self._held, fcntl.LOCK_UN)

    def _opened(self, today: str) -> os.stat_result:
        """Have the file open that has the name now, and know of which day its last line is."""
        if self._file >= 0:
            held = os.fstat(self._file)
            with suppress(FileNotFoundError):
                named = self._path.stat()
                if (named.st_ino, named.st_dev) == (held.st_ino, held.st_dev):
                    return held
            os.close(self._file)
            self._file = -1
        self._file = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o640)
        held = os.fstat(self._file)
        self._day = day_of(int(held.st_mtime), self._zone) if held.st_size else today
        return held

    def _set_aside(self, day: str) -> None:
        taken = [int(path.stem[-6:]) for path in self._folder.glob(f"access-{day}-??????.log") if _is_ours(path)]
        self._path.rename(self._folder / f"access-{day}-{max(taken, default=0) + 1:06}.log")

    def _prune(self, now: int) -> None:
        oldest = day_of(now - self._bounds.keep_days * _DAY_S, self._zone)
        room = self._bounds.most_bytes - self._bounds.most_bytes // _FILES
        for path in sorted(filter(_is_ours, self._folder.glob("access-*.log")), reverse=True):
            room -= path.stat().st_size
            if room < 0 or path.name[7:15] < oldest:
                path.unlink()

    def _append(self, lines: bytes, size: int) -> None:
        left = memoryview(lines)
        try:
            while left:  # a full disk may take a part without an error
                left = left[os.write(self._file, left) :]
        except OSError:
            os.ftruncate(self._file, size)
            raise


def _is_ours(path: Path) -> bool:
    name = path.name
    return len(name) == 26 and name[7:15].isdigit() and name[16:22].isdigit()
