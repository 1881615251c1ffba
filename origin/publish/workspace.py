"""Staging: each process works in a directory of its own, and what a killed one left is swept by the next.

Ownership is a lock on a file, not a process id: ids are used again and mean nothing in another container.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from origin.storage.faults import storage_faults

_LOCK = ".lock"


@contextmanager
def open_workspace(staging: Path) -> Iterator[Path]:
    """Make this process's own directory in `staging`, after removing those that nobody owns any more.

    Raises:
        StorageError: environment.
    """
    with storage_faults("opening the staging directory"):
        staging.mkdir(parents=True, exist_ok=True)
        # Under the outer lock, because a directory just made and not yet locked looks abandoned.
        with _locked(staging / _LOCK):
            _sweep(staging)
            own = staging / secrets.token_hex(6)
            own.mkdir()
            owner = os.open(own / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(owner, fcntl.LOCK_EX)
    try:
        yield own
    finally:
        shutil.rmtree(own, ignore_errors=True)
        os.close(owner)


def _sweep(staging: Path) -> None:
    for entry in staging.iterdir():
        if entry.is_dir() and _is_abandoned(entry):
            shutil.rmtree(entry, ignore_errors=True)
        elif not entry.is_dir() and entry.name != _LOCK:
            entry.unlink(missing_ok=True)


def _is_abandoned(directory: Path) -> bool:
    try:
        fd = os.open(directory / _LOCK, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return True  # killed between making the directory and locking it
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(fd)
    return True


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        with suppress(OSError):
            fcntl.flock(fd, fcntl.LOCK_UN)
        os.close(fd)
