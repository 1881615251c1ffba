"""Reading the access log on from where it was left, over files that were set aside meanwhile. Blocking.

A place is a file by its inode and the digest of its first bytes (inodes are given out again), and how far it was read.
Only whole lines are given. What was deleted before it could be read is lost, and nothing is given twice.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

from msgspec import Struct
from xxhash import xxh3_64_hexdigest

CURRENT: Final = "access.log"
_ASIDE: Final = "access-????????-??????.log"
_HEAD_BYTES: Final = 256


class Place(Struct, frozen=True):
    """How far the log was read.

    Attributes:
        inode, head: of the file; 0 and empty before anything was read.
        offset: bytes of it that were read.
        written_at_ns: when that file was written last, as far as was seen.
    """

    inode: int = 0
    head: str = ""
    offset: int = 0
    written_at_ns: int = 0


class Portion(NamedTuple):
    """Whole lines, and the place behind them."""

    lines: list[bytes]
    place: Place


class _File(NamedTuple):
    path: Path
    inode: int
    size: int
    written_at_ns: int


def read_on(folder: Path, place: Place, most_bytes: int) -> Portion:
    """Read what was written since; no lines when there is nothing new, or no log.

    Raises:
        OSError: environment.
    """
    files = _files(folder)
    at, offset = _find(files, place)
    while at < len(files):
        one = files[at]
        lines, stop, head = _read(one.path, offset, most_bytes)
        found = Place(one.inode, head, stop, one.written_at_ns)
        # A file that was set aside is not written any more: with nothing more in it the next one's turn comes.
        if lines or at + 1 == len(files):
            return Portion(lines, found)
        place, at, offset = found, at + 1, 0
    return Portion([], place)


def _files(folder: Path) -> list[_File]:
    """Oldest first; the current one last."""
    found = []
    for path in (*sorted(folder.glob(_ASIDE)), folder / CURRENT):
        with suppress(FileNotFoundError):
            stat = path.lstat()
            if path.is_file() and not path.is_symlink():
                found.append(_File(path, stat.st_ino, stat.st_size, stat.st_mtime_ns))
    return found


def _find(files: list[_File], place: Place) -> tuple[int, int]:
    """Which file comes next, and from where on in it."""
    for number, one in enumerate(files):
        if one.inode == place.inode and one.size >= place.offset and _head_of(one.path, place.head) == place.head:
            return number, place.offset
    # It is gone, or was renamed to something that is not ours: those written after it are new.
    for number, one in enumerate(files):
        if one.written_at_ns > place.written_at_ns:
            return number, 0
    return len(files), 0


def _head_of(path: Path, known: str) -> str:
    length = int(known.partition("-")[0] or 0) if known else 0
    with path.open("rb") as file:
        return _head(file.read(length)) if known else ""


def _head(data: bytes) -> str:
    return f"{len(data)}-{xxh3_64_hexdigest(data)}"


def _read(path: Path, offset: int, most_bytes: int) -> tuple[list[bytes], int, str]:
    with path.open("rb") as file:
        head = _head(file.read(_HEAD_BYTES))
        file.seek(offset)
        data = file.read(most_bytes)
        end = data.rfind(b"\n") + 1
        if not end and len(data) == most_bytes:  # a line without end is nobody's: step over it
            return [], offset + len(data), head
    return data[:end].splitlines(), offset + end, head
