"""A source: the bytes that one blob will be, read once, never copied beforehand.

Usually a whole file as a person handed it in. An MP4 whose index is moved to the front is the same file in another
order with a few bytes of our own in between, so no second copy of a gigabyte is made on the way.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from manifests.errors import InputError
from manifests.ranges import ByteRange


@dataclass(frozen=True, slots=True)
class Stamp:
    """What tells that a file was changed: looked at before it is probed and after it is read."""

    size: int
    mtime_ns: int
    inode: int


def stamp_of(path: Path) -> Stamp:
    """Look at a file that a person named.

    Raises:
        InputError: bad data; it is missing, not a regular file, empty, or not readable.
    """
    try:
        found = path.stat()
    except (OSError, ValueError) as error:
        raise unreadable(path, error) from error
    if not path.is_file():
        raise InputError(f"{path} is not a file", zh=f"{path} 不是文件")
    if found.st_size == 0:
        raise InputError(f"{path} is empty", zh=f"{path} 是空文件")
    return Stamp(found.st_size, found.st_mtime_ns, found.st_ino)


def unreadable(path: Path, error: OSError | ValueError) -> InputError:
    """The error for a file that a person named and that cannot be looked at or opened."""
    if isinstance(error, FileNotFoundError):
        return InputError(f"{path} does not exist", zh=f"文件 {path} 不存在")
    if isinstance(error, PermissionError):
        return InputError(f"{path} may not be read", zh=f"没有读取 {path} 的权限")
    reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
    return InputError(f"{path}: {reason}", zh=f"无法读取文件 {path}:{reason}")


@dataclass(frozen=True, slots=True)
class Source:
    """Bytes end to end: literal ones, or a range of the one file at `path`.

    Attributes:
        what: name for messages.
        stamp: the file as it was when these parts were decided; None when there is no file.
    """

    what: str
    parts: tuple[bytes | ByteRange, ...]
    path: Path | None = None
    stamp: Stamp | None = None

    @property
    def size(self) -> int:
        """Bytes in all."""
        return sum(len(part) for part in self.parts)


def file_source(path: Path, stamp: Stamp) -> Source:
    """A whole file, bit for bit."""
    return Source(path.name, (ByteRange(0, stamp.size),), path, stamp)


def bytes_source(data: bytes, what: str) -> Source:
    """Bytes that are in memory already."""
    return Source(what, (data,))


class Reader:
    """Reads a source from its first byte to its last; a context manager that owns the descriptor."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._fd = -1
        self._parts: Iterator[bytes | ByteRange] = iter(source.parts)
        self._part: bytes | ByteRange = b""
        self._at = 0  # within the part

    def __enter__(self) -> Self:
        if self._source.path is not None:
            try:
                self._fd = os.open(self._source.path, os.O_RDONLY | os.O_CLOEXEC)
            except OSError as error:
                raise unreadable(self._source.path, error) from error
            os.posix_fadvise(self._fd, 0, 0, os.POSIX_FADV_SEQUENTIAL)
            self._check_unchanged()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def readinto(self, buffer: memoryview) -> int:
        """Fill `buffer` as far as the source goes; 0 at its end.

        Raises:
            InputError: bad data; the file was changed under us, or the disk it comes from cannot be read.
        """
        filled = 0
        while filled < len(buffer):
            if self._at == len(self._part):
                following = next(self._parts, None)
                if following is None:
                    break
                self._part, self._at = following, 0
                continue
            filled += self._take(buffer[filled:])
        if filled < len(buffer):
            self._check_unchanged()
        return filled

    def _take(self, buffer: memoryview) -> int:
        part, at = self._part, self._at
        want = min(len(buffer), len(part) - at)
        if isinstance(part, bytes):
            buffer[:want] = part[at : at + want]
            got = want
        else:
            try:
                got = os.preadv(self._fd, [buffer[:want]], part.start + at)
            except OSError as error:
                what = self._source.what
                raise InputError(
                    f"reading {what}: {error.strerror}", zh=f"读取 {what} 出错：{error.strerror}"
                ) from error
            if got == 0:
                raise self._changed()
        self._at += got
        return got

    def _check_unchanged(self) -> None:
        if self._fd < 0:
            return
        found = os.fstat(self._fd)
        if Stamp(found.st_size, found.st_mtime_ns, found.st_ino) != self._source.stamp:
            raise self._changed()

    def _changed(self) -> InputError:
        return InputError(
            f"{self._source.path} was changed while it was being published",
            zh=f"文件 {self._source.path} 在发布过程中被修改",
            hint="wait until the file is completely written, then publish it again",
            hint_zh="请等文件写完后重新发布",
        )
