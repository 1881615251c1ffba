"""From a source to a stored blob: one read gives the whole digest, the piece table and the staged copy.

Two threads hash beside each other (whole digest, piece digests; hashlib lets go of the interpreter's lock for large
buffers) while a third reads and writes. A handful of buffers goes round among them, so memory does not depend on the
file's size; nor does what the copy takes of the kernel's cache, which belongs to what edges are fetching meanwhile.
"""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
import secrets
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from manifests.digests import Digest, digest_of
from manifests.errors import InputError
from manifests.pieces import MAX_TABLE_BYTES, PIECE_SIZE, BlobRef, TableBuilder, table_bytes
from origin.publish.failpoints import reach
from origin.publish.source import Reader, Source
from origin.publish.together import outlast
from origin.storage.base import BlobStorage
from origin.storage.faults import storage_faults

Progress = Callable[[str, int, int], None]
"""Told (stage, bytes done, bytes in all), on the event loop's thread."""

BUFFER_BYTES = 4 * 1024 * 1024
BUFFERS = 4  # one being read, one being written, two waiting for the slower of the hashing threads
# The disk begins with each buffer as soon as it is written, and so far behind its pages are clean and given back.
# Measured for 1 GiB on a busy machine of 2 cores: 1.4-2.2 s, with 1.7-5.9 s when the kernel is left to it.
BEHIND_BYTES = 32 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Staged:
    """A file in staging, hashed, that nobody knows of yet."""

    path: Path
    size: int
    digest: Digest
    table: bytes | None

    @property
    def ref(self) -> BlobRef:
        """The blob that it will be."""
        return BlobRef(self.digest, self.size, digest_of(self.table) if self.table is not None else None)


async def ingest(source: Source, storage: BlobStorage, staging: Path, progress: Progress | None = None) -> BlobRef:
    """Read a source once and store it: `stage` and `adopt` in one.

    Raises:
        InputError: bad data; empty, too large, or changed while it was read.
        StorageFullError: environment; nothing is left in staging.
        StorageError: environment; likewise.
    """
    return await adopt(await stage(source, staging, progress), storage, staging)


async def stage(source: Source, staging: Path, progress: Progress | None = None) -> Staged:
    """Read a source once: its digests and a copy in staging.

    Args:
        source: what to read; its size is known beforehand.
        staging: this process's own directory, in the same file system as a local storage.
        progress: told of every portion.

    Raises:
        InputError: bad data; empty, too large, or changed while it was read.
        StorageFullError: environment; nothing is left in staging.
        StorageError: environment; likewise.
    """
    _check_size(source)
    loop = asyncio.get_running_loop()
    stop = threading.Event()

    def report(done: int) -> None:
        if progress is not None:
            loop.call_soon_threadsafe(progress, source.what, done, source.size)

    work = loop.run_in_executor(None, partial(_stage, source, staging, stop, report))
    try:
        return await outlast(work, stop.set)
    except asyncio.CancelledError:
        if work.exception() is None:  # it ended before it was asked to
            work.result().path.unlink(missing_ok=True)
        raise


async def adopt(staged: Staged, storage: BlobStorage, staging: Path) -> BlobRef:
    """Store what was staged: the blob, and its piece table when it is longer than one piece.

    Raises:
        StorageFullError: environment; nothing is left in staging.
        StorageError: environment; likewise.
    """
    reach("ingest:staged")
    try:
        await storage.put(staged.path, staged.digest, staged.size)
    finally:
        staged.path.unlink(missing_ok=True)
    reach("ingest:blob-stored")
    ref = staged.ref
    if staged.table is not None and ref.table is not None:
        path = staged_path(staging)
        try:
            await asyncio.to_thread(_write_table, path, staged.table)
            await storage.put(path, ref.table, len(staged.table))
        finally:
            path.unlink(missing_ok=True)
    return ref


def staged_path(staging: Path, suffix: str = "") -> Path:
    """A name in staging that nobody else has."""
    return staging / f"{secrets.token_hex(8)}{suffix}"


def _write_table(path: Path, data: bytes) -> None:
    with storage_faults("staging a piece table"):
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        try:
            _write_all(fd, memoryview(data), 0)
        finally:
            os.close(fd)


def _check_size(source: Source) -> None:
    if source.size == 0:
        raise InputError(f"{source.what} is empty", zh=f"{source.what} 是空文件")
    if table_bytes(source.size, PIECE_SIZE) > MAX_TABLE_BYTES:
        most = MAX_TABLE_BYTES // 32 * PIECE_SIZE
        raise InputError(
            f"{source.what} has {source.size} bytes; at most {most} can be published",
            zh=f"{source.what} 过大（{source.size} 字节），最多 {most} 字节",
        )


def _stage(source: Source, staging: Path, stop: threading.Event, report: Callable[[int], None]) -> Staged:
    path = staged_path(staging)
    try:
        with Reader(source) as reader:
            with storage_faults(f"staging {source.what}"):
                fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
            try:
                _preallocate(fd, source)
                digest, table = _pump(reader, fd, source, stop, report)
                if source.size > BEHIND_BYTES:
                    with storage_faults(f"staging {source.what}"):
                        os.fdatasync(fd)  # a fault of what the disk began with is told to this descriptor for sure
            finally:
                os.close(fd)
    except BaseException:  # whatever happened, also a KeyboardInterrupt: half a file must not stay
        path.unlink(missing_ok=True)
        raise
    return Staged(path, source.size, digest, table)


def _preallocate(fd: int, source: Source) -> None:
    """Take the space before the first byte: a full disk is known at once, and ext4 writes many times faster."""
    with storage_faults(f"staging {source.what} ({source.size} bytes)"):
        try:
            os.posix_fallocate(fd, 0, source.size)
        except OSError as error:
            if error.errno not in {errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS}:
                raise


def _pump(
    reader: Reader, fd: int, source: Source, stop: threading.Event, report: Callable[[int], None]
) -> tuple[Digest, bytes | None]:
    whole = hashlib.sha256()
    pieces = TableBuilder() if source.size > PIECE_SIZE else None
    spare = [memoryview(bytearray(min(BUFFER_BYTES, source.size))) for _ in range(BUFFERS)]
    busy: deque[tuple[memoryview, list[Future[None]]]] = deque()
    done = 0
    with ThreadPoolExecutor(1) as whole_thread, ThreadPoolExecutor(1) as piece_thread:
        while not stop.is_set():
            if not spare:
                buffer, hashing = busy.popleft()
                for future in hashing:
                    future.result()
                spare.append(buffer)
            buffer = spare.pop()
            portion = buffer[: reader.readinto(buffer)]
            if not portion:
                break
            hashing = [whole_thread.submit(whole.update, portion)]
            if pieces is not None:
                hashing.append(piece_thread.submit(pieces.update, portion))
            busy.append((buffer, hashing))
            with storage_faults(f"staging {source.what}"):
                _write_all(fd, portion, done)
                _write_behind(fd, done, len(portion))
            done += len(portion)
            report(done)
        for _, hashing in busy:
            for future in hashing:
                future.result()
    if done != source.size:
        raise InputError(f"publishing {source.what} was stopped", zh=f"{source.what} 的发布已中止")
    return Digest(whole.hexdigest()), pieces.finish() if pieces is not None else None


def _write_behind(fd: int, start: int, count: int) -> None:
    """Have the disk begin with what was just written, and give back pages that it is done with."""
    for at in (start, start - BEHIND_BYTES):
        if at >= 0:
            os.posix_fadvise(fd, at, count, os.POSIX_FADV_DONTNEED)


def _write_all(fd: int, data: memoryview, offset: int) -> None:
    """Write to the last byte: a disk that fills up may take a part and report no error."""
    while data:
        count = os.pwrite(fd, data, offset)
        if count == 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        data, offset = data[count:], offset + count
