"""A descriptor that threads share with whoever closes it."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager


class HeldFile:
    """Closed when it was told to close and nobody is in the middle of using it.

    A thread that is still writing when its task was cancelled must never write to a number that the system has given
    to another file since.
    """

    def __init__(self, number: int) -> None:
        self._number = number
        self._users = 0
        self._is_closed = False
        self._lock = threading.Lock()

    @contextmanager
    def use(self) -> Iterator[int]:
        """The descriptor, for the length of the block.

        Raises:
            OSError: caller's mistake; it was closed (EBADF).
        """
        with self._lock:
            if self._is_closed:
                raise OSError(errno.EBADF, "file was closed")
            self._users += 1
        try:
            yield self._number
        finally:
            with self._lock:
                self._users -= 1
                self._close_if_free()

    def close(self) -> None:
        """Close it, now or when its last user is done; harmless when done twice."""
        with self._lock:
            if not self._is_closed:
                self._is_closed = True
                self._close_if_free()

    def _close_if_free(self) -> None:
        if self._is_closed and not self._users:
            os.close(self._number)
