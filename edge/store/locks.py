"""Locks between processes, on a file of their own. The kernel gives them back when a process dies, however it dies."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from edge.store.faults import storage_faults
from manifests.errors import BusyError

_POLL_S = 0.05
_TURN_S = 1.5
_PAUSE_S = 0.12
# A poll has done its work in a second; what takes longer is a night's sync, and the long work is better begun anew.
_RETURN_S = 600.0


class FileLock:
    """An flock, shared or exclusive. Not for two threads at once.

    The file holds the number of the process that last held it exclusively, for the message to a person.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._fd: int | None = None

    def acquire(self, *, exclusive: bool = True, wait_s: float = 0.0) -> Self:
        """Take the lock, or turn the one that is held into the other kind.

        Raises:
            BusyError: environment; others held it for all of `wait_s`.
            StorageError: environment; the file can not be made.
        """
        with storage_faults(f"locking {self._path.name}", f"锁定 {self._path.name}"):
            if self._fd is None:
                self._fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            deadline = time.monotonic() + wait_s
            while not self._try(fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH):
                if time.monotonic() >= deadline:
                    self.release()
                    holder = f" ({self.holder()})" if self.holder() else ""
                    raise BusyError(
                        f"{self._path.name} is held by another process{holder}",
                        zh=f"{self._path.name} 正被另一个进程占用{holder}",
                    )
                time.sleep(_POLL_S)
            if exclusive:
                # A full disk has no room for a note, and a recall must get the lock all the same.
                with suppress(OSError):
                    os.truncate(self._fd, 0)
                    os.pwrite(self._fd, f"{os.getpid()}\n".encode(), 0)
        return self

    async def wait(self, wait_s: float) -> Self:
        """Take the lock exclusively, waiting in the event loop; see `acquire`."""
        deadline = time.monotonic() + wait_s
        while True:
            try:
                return self.acquire()
            except BusyError:
                if time.monotonic() >= deadline:
                    raise
            await asyncio.sleep(_POLL_S)

    def holder(self) -> str:
        """Number of the process that took it exclusively last; empty when that is not known."""
        try:
            text = self._path.read_bytes()[:20].decode("ascii", "replace").strip()
        except OSError:
            return ""
        return text if text.isdigit() else ""

    def release(self) -> None:
        """Give it back; does nothing when it is not held."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def __enter__(self) -> Self:
        return self if self._fd is not None else self.acquire()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    def _try(self, kind: int) -> bool:
        try:
            fcntl.flock(self._fd or 0, kind | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in {errno.EWOULDBLOCK, errno.EACCES}:
                return False
            raise
        return True


class Turns:
    """A lock held by long work that gives way every moment or two, since a recall must not wait for hours.

    Whoever else wants the lock looks for it every `_POLL_S`; the pause is longer than that.
    """

    def __init__(self, lock: FileLock) -> None:
        self._lock = lock
        self._since_s = time.monotonic()

    async def give_way(self) -> bool:
        """Let others have the lock, when it is time; tells whether it did, and so what was read may have changed.

        Raises:
            BusyError: environment; somebody kept the lock past the deadline.
            StorageError: environment.
        """
        if time.monotonic() - self._since_s < _TURN_S:
            return False
        self._lock.release()
        await asyncio.sleep(_PAUSE_S)
        await self._lock.wait(_RETURN_S)
        self._since_s = time.monotonic()
        return True
