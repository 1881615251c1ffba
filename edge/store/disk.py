"""Small acts on files that must be right every time: whole writes, synced renames, marks, free space.

Functions here raise OSError; callers say in `storage_faults` what was being done.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import xxhash

from edge.store.faults import is_lost, storage_faults

MARK_BYTES = 8
READ_BYTES = 1024 * 1024


def mark_of(data: bytes | bytearray | memoryview) -> bytes:
    """The xxh3-64 of a piece, against the disk's own rot; no protection against intent."""
    return xxhash.xxh3_64_digest(data)


def write_at(fd: int, data: bytes | memoryview, offset: int) -> None:
    """Write all of `data`; a full disk may take part of it without an error, so the count is checked."""
    view = memoryview(data)
    while view:
        count = os.pwrite(fd, view, offset)
        if count == 0:
            raise OSError(errno.ENOSPC, "the disk took no byte")
        view = view[count:]
        offset += count


def read_at(fd: int, start: int, stop: int) -> bytes:
    """Read up to `stop`; shorter only when the file ends before."""
    parts = []
    while start < stop:
        part = os.pread(fd, stop - start, start)
        if not part:
            break
        parts.append(part)
        start += len(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def read_readable(fd: int, start: int, stop: int) -> bytes:
    """Read up to `stop`; nothing where the disk cannot give the bytes, so that a bad sector costs its piece only.

    Raises:
        OSError: environment; anything but lost bytes.
    """
    try:
        return read_at(fd, start, stop)
    except OSError as error:
        if not is_lost(error):
            raise
        return b""


def read_cold(fd: int, start: int, stop: int) -> bytes:
    """Read from the disk itself, not from the page cache: rot is on the platter, and the cache would hide it.

    The pages are dropped again afterwards, so that a night's scrub does not push out what viewers are watching.
    """
    os.posix_fadvise(fd, start, stop - start, os.POSIX_FADV_DONTNEED)
    data = read_at(fd, start, stop)
    os.posix_fadvise(fd, start, stop - start, os.POSIX_FADV_DONTNEED)
    return data


def forget_cached(fd: int, start: int, stop: int) -> None:
    """Have the system drop a range from its page cache, so that reads of it come from the disk itself."""
    os.posix_fadvise(fd, start, stop - start, os.POSIX_FADV_DONTNEED)


def ask_ahead(fd: int, start: int, stop: int) -> None:
    """Have the system begin to read a range, without waiting for it."""
    if stop > start:
        os.posix_fadvise(fd, start, stop - start, os.POSIX_FADV_WILLNEED)


def read_into(fd: int, start: int, stop: int, buffer: memoryview) -> memoryview:
    """Read up to `stop` into the beginning of `buffer`; shorter only when the file ends before."""
    filled = 0
    while start + filled < stop:
        count = os.preadv(fd, [buffer[filled : stop - start]], start + filled)
        if not count:
            break
        filled += count
    return buffer[:filled]


def start_writeback(fd: int, start: int, stop: int) -> None:
    """Have the system begin to write a range to the disk, without waiting for it.

    Left alone it would keep a gigabyte in memory, and the sync of the disk at the blob's end would wait for all of it
    while the line stands idle.
    """
    os.posix_fadvise(fd, start, stop - start, os.POSIX_FADV_DONTNEED)


def portions(fd: int, size: int, portion: int = READ_BYTES) -> Iterator[bytes]:
    """The file from its start, in portions; ends early when the file does."""
    for start in range(0, size, portion):
        data = read_at(fd, start, min(start + portion, size))
        if not data:
            return
        yield data


@contextmanager
def opened(path: Path, flags: int = os.O_RDONLY) -> Iterator[int]:
    """A descriptor for the time of the block."""
    fd = os.open(path, flags | os.O_CLOEXEC, 0o644)
    try:
        yield fd
    finally:
        os.close(fd)


def sync_dir(path: Path) -> None:
    """Make a rename in this directory survive a power cut."""
    with opened(path, os.O_RDONLY | os.O_DIRECTORY) as fd:
        os.fsync(fd)


def make_dir(path: Path) -> None:
    """Create one directory whose own name survives a power cut."""
    with suppress(FileExistsError):
        path.mkdir()
        sync_dir(path.parent)


def write_new(path: Path, data: bytes) -> None:
    """Write a new file and sync its bytes; nothing is left behind when that fails."""
    try:
        with opened(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC) as fd:
            write_at(fd, data, 0)
            os.fsync(fd)
    except OSError:
        path.unlink(missing_ok=True)
        raise


def replace_file(path: Path, data: bytes) -> None:
    """Put `data` under `path` so that a reader, or a power cut, finds the old file or the new one, whole.

    Raises:
        StorageFullError: environment; no space left.
        StorageError: environment; any other fault of the disk.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with storage_faults(f"writing {path.name}", f"写入 {path.name}"):
        write_new(temporary, data)
        temporary.replace(path)
        sync_dir(path.parent)


def place_file(source: Path, target: Path) -> None:
    """Give a file that was already synced its name, and make the name survive a power cut."""
    make_dir(target.parent)
    source.replace(target)
    sync_dir(target.parent)


def move_file(source: Path, target: Path) -> None:
    """Rename within one file system and make it survive a power cut."""
    place_file(source, target)
    sync_dir(source.parent)


def remove_tree(path: Path) -> None:
    """Remove a file, a link, or a directory with all that is in it."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def remove_file(path: Path) -> int:
    """Remove a file that may be gone already; returns the bytes freed."""
    with suppress(FileNotFoundError):
        size = path.stat().st_size
        path.unlink()
        return size
    return 0


def free_bytes(path: Path) -> int:
    """Space that this process may still use."""
    stat = os.statvfs(path)
    return stat.f_bavail * stat.f_frsize
