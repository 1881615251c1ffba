"""A blob while pieces are missing. A piece is proved before it is written, and marked after it is written.

    prove (SHA-256 by the table) → pwrite → commit the mark

Killed between the last two, the piece is fetched again; nothing unproved is ever marked. A power cut may keep a mark
and lose the bytes: that is why a resumed partial reads its marked pieces and compares.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import structlog

from edge.paths import Paths
from edge.store.disk import MARK_BYTES, mark_of, move_file, read_at, read_readable, start_writeback, write_at
from edge.store.failpoints import reach
from edge.store.faults import storage_faults
from edge.store.held_file import HeldFile
from edge.store.index import Index
from edge.store.rows import SERVABLE, insert_blob, insert_partial, insert_pieces
from manifests.errors import DigestError, NotFoundError, StorageDamagedError, StorageError
from manifests.pieces import BlobRef, PieceTable, pieces_of_range

log = structlog.get_logger(__name__)


class DroppedError(StorageError):
    """A partial blob was dropped while it was open; what it had is gone."""

    default_hint = "begin it anew"
    default_hint_zh = "请重新获取"


@dataclass(frozen=True, slots=True)
class Home:
    """What a partial needs of its store.

    Attributes:
        keep_reserve: raises StorageFullError when so many more bytes would not leave the reserve.
        closed: told when the partial's user is done with it.
    """

    paths: Paths
    index: Index
    keep_reserve: Callable[[int], None]
    closed: Callable[[Partial], None]


class Partial:
    """An open partial blob; made by `BlobStore.begin`, closed by its user. Usable from any thread.

    Attributes:
        ref: the blob that it will be.
        table: its proved piece table.
    """

    def __init__(self, home: Home, ref: BlobRef, table: PieceTable, fd: int, row: int | None) -> None:
        self.ref = ref
        self.table = table
        self._home = home
        self._file = HeldFile(fd)
        self._row = row  # None: the blob is whole
        self._lock = threading.Lock()
        self._have = bytearray((b"\x01" if row is None else b"\x00") * len(table))
        self._marks = bytearray(MARK_BYTES * len(table))

    @property
    def is_whole(self) -> bool:
        """Whether the blob has its name, as far as is known here."""
        return self._row is None

    @property
    def identity(self) -> tuple[int, int]:
        """Device and inode of its file: a reader that opens it by name compares them."""
        with self._file.use() as fd:
            stat = os.fstat(fd)
        return stat.st_dev, stat.st_ino

    def missing(self) -> list[int]:
        """Numbers of the pieces that are not proved yet, ascending."""
        return [n for n, have in enumerate(self._have) if not have]

    def proved_bytes(self) -> int:
        """Bytes of the pieces that are proved."""
        short = self.table.size - (len(self.table) - 1) * self.table.piece_size if self._have else 0
        full = sum(self._have[:-1]) * self.table.piece_size
        return full + (short if self._have and self._have[-1] else 0)

    def write_pieces(self, first: int, data: bytes | memoryview) -> list[int]:
        """Prove and store the pieces from number `first` on, as they stand end to end in `data`.

        Good pieces are stored although others are bad; one commit per call. Hashing holds no lock, so calls from
        several threads hash beside each other.

        Returns:
            Numbers of the pieces that do not prove; they were not stored.

        Raises:
            ValueError: caller's mistake; the data goes past the end of the blob.
            StorageError: environment; nothing of this call is marked.
        """
        good, bad = self._prove(first, memoryview(data))
        new = {n: piece for n, piece in good.items() if not self._have[n]}
        if not new or self._is_finished_elsewhere():
            return bad
        with storage_faults(*_act("writing", "写入", self.ref)), self._file.use() as fd:
            for n, piece in new.items():
                write_at(fd, piece, self.table.bounds(n)[0])
            start_writeback(fd, self.table.bounds(min(new))[0], self.table.bounds(max(new))[1])
        reach("partial:written")
        self._mark({n: mark_of(piece) for n, piece in new.items()})
        reach("partial:marked")
        return bad

    def look(self, first: int, last: int) -> list[int]:
        """Take note of pieces that another process proved meanwhile; returns them.

        Raises:
            StorageError: environment.
        """
        with self._lock:
            if self._row is None:
                return []
            marks: dict[int, bytes] = dict(
                self._home.index.read(
                    "SELECT piece, mark FROM pieces WHERE partial = ? AND piece BETWEEN ? AND ?",
                    (self._row, first, last),
                )
            )
            new = {n: mark for n, mark in marks.items() if n < len(self.table) and not self._have[n]}
            if new and not self._is_ours(self._home.paths.partial(self.ref.digest)):
                return []  # the next writing finds out what became of it
            self._take(new)
            return list(new)

    def read(self, start: int, stop: int) -> bytes:
        """Read proved bytes.

        Raises:
            NotFoundError: a piece of the range is not proved yet.
            ValueError: caller's mistake; the range lies outside of the blob.
        """
        if not 0 <= start <= stop <= self.ref.size:
            raise ValueError(f"range {start}-{stop} of {self.ref.size} bytes")
        if not all(self._have[n] for n in pieces_of_range(start, stop, self.ref.piece_size)):
            raise NotFoundError(f"bytes {start}-{stop} of blob {self.ref.digest[:16]} are not here yet")
        with storage_faults(*_act("reading", "读取", self.ref)), self._file.use() as fd:
            data = read_at(fd, start, stop)
        if len(data) != stop - start:
            raise StorageDamagedError(f"partial blob {self.ref.digest[:16]} ends before its end")
        return data

    def finish(self) -> None:
        """All pieces are proved, so the blob is: give it its name and tell the index.

        Raises:
            DigestError: caller's mistake; pieces are missing.
            StorageError: environment; nothing is lost, call again.
        """
        with self._lock:
            if self._row is None:
                return
            lacking = len(self.missing())
            if lacking:
                raise DigestError(f"blob {self.ref.digest[:16]}: {lacking} pieces are not proved")
            with storage_faults(*_act("finishing", "保存", self.ref)), self._file.use() as fd:
                os.fdatasync(fd)
            reach("finish:synced")
            # One transaction with the rename: another process must not find a whole file that the index does not know.
            # Not durable: when a power cut takes the row, the next `begin` proves the file by its table.
            with self._home.index.write() as db:
                if _is_servable(db, self.ref):  # another process was quicker; with this very file?
                    self._check_ours(self._home.paths.blob(self.ref.digest))
                else:
                    with storage_faults(*_act("finishing", "保存", self.ref)):
                        self._rename()
                    reach("finish:renamed")
                    insert_blob(db, self.ref, self._marks)
            reach("finish:indexed")
            self._row = None

    def close(self) -> None:
        """Give the descriptor back; what is marked stays and is resumed by the next `begin`."""
        self._home.closed(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def shut(self) -> None:
        """Close the descriptor; the store calls it when the last user is done."""
        self._file.close()

    def resume(self, marks: Mapping[int, bytes] | None) -> None:
        """Find out which pieces of the file are good, before anybody else uses this object.

        Args:
            marks: marks of the pieces stored before; None: unknown, so every piece is proved by the table.
        """
        found: dict[int, bytes] = {}
        with storage_faults(*_act("resuming", "续传", self.ref)), self._file.use() as fd:
            for n in range(len(self.table)) if marks is None else marks:
                data = read_readable(fd, *self.table.bounds(n))
                if self.table.is_piece(n, data) if marks is None else mark_of(data) == marks[n]:
                    found[n] = mark_of(data)
        if marks is not None and len(found) < len(marks):
            bad = sorted(marks.keys() - found.keys())
            log.warning("partial_pieces_lost", digest=self.ref.digest, pieces=len(bad))
            with self._home.index.write() as db:
                db.executemany("DELETE FROM pieces WHERE partial = ? AND piece = ?", ((self._row, n) for n in bad))
        if marks is None:
            self._mark(found)
        else:
            self._take(found)

    def _prove(self, first: int, view: memoryview) -> tuple[dict[int, memoryview], list[int]]:
        size = self.table.piece_size
        if first < 0 or first * size + len(view) > self.table.size:
            raise ValueError(f"{len(view)} bytes from piece {first} go past the end of the blob")
        good: dict[int, memoryview] = {}
        bad = []
        for i, start in enumerate(range(0, len(view), size)):
            piece = view[start : start + size]
            if self.table.is_piece(first + i, piece):
                good[first + i] = piece
            else:
                bad.append(first + i)
        return good, bad

    def _is_finished_elsewhere(self) -> bool:
        """Look before writing whether another process finished the blob (then all of it is proved) or dropped it.

        Its file must not be written to then: viewers are sent from it, and it may be another file by now.

        Raises:
            DroppedError: environment; begin anew.
        """
        with self._lock:
            if self._row is None:
                return True
            with self._home.index.snapshot() as db:
                is_begun = _is_row(db, self._row, self.ref)
                if not is_begun and not _is_servable(db, self.ref):
                    raise dropped(self.ref)
            if is_begun and self._is_ours(self._home.paths.partial(self.ref.digest)):
                return False
            # It has its name already, though its finisher may not have told the index yet.
            self._check_ours(self._home.paths.blob(self.ref.digest))
            self._row = None
            self._have = bytearray(b"\x01" * len(self.table))
            return True

    def _mark(self, marks: Mapping[int, bytes]) -> None:
        # Two threads may bring the same piece, and a third may finish between: the late one finds the blob whole.
        with self._lock:
            if self._row is not None and marks:
                with self._home.index.write() as db:
                    # Gone when another process finished or dropped the blob just now; the next call finds out which.
                    if _is_row(db, self._row, self.ref):
                        insert_pieces(db, self._row, marks)
                self._take(marks)

    def _take(self, marks: Mapping[int, bytes]) -> None:
        for n, mark in marks.items():
            self._marks[n * MARK_BYTES : (n + 1) * MARK_BYTES] = mark
            self._have[n] = 1

    def _rename(self) -> None:
        source, target = self._home.paths.partial(self.ref.digest), self._home.paths.blob(self.ref.digest)
        if source.exists():
            self._check_ours(source)
            move_file(source, target)
        else:
            # An earlier call came this far and the index was full.
            self._check_ours(target)

    def _check_ours(self, path: Path) -> None:
        if not self._is_ours(path):
            raise dropped(self.ref)

    def _is_ours(self, path: Path) -> bool:
        """Whether the name means our file: another process may have dropped it and begun a new one under it."""
        try:
            stat = path.stat()
        except FileNotFoundError:
            return False
        return (stat.st_dev, stat.st_ino) == self.identity


def open_whole(home: Home, ref: BlobRef, table: PieceTable) -> Partial:
    """A partial of which nothing is missing: the blob is here."""
    with storage_faults(*_act("opening", "打开", ref)):
        return Partial(home, ref, table, os.open(home.paths.blob(ref.digest), os.O_RDONLY | os.O_CLOEXEC), None)


def open_partial(home: Home, ref: BlobRef, table: PieceTable) -> Partial:
    """Create or resume a partial blob.

    Raises:
        StorageFullError: environment; the space can not be set aside.
        StorageError: environment; any other fault of the disk.
    """
    path, whole = home.paths.partial(ref.digest), home.paths.blob(ref.digest)
    with storage_faults(*_act("opening", "打开", ref)):
        if whole.exists():  # yet the index does not call it whole: it is rotten, or its row was lost
            with home.index.write() as db:  # or another process has just finished it: looked at again under the lock
                if _is_servable(db, ref):
                    return open_whole(home, ref, table)
                move_file(whole, path)
            reach("partial:demoted")
        is_new = not path.exists()
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        _allocate(home, fd, ref.size)
        reach("partial:allocated")
        row, marks = _record(home.index, ref)
        partial = Partial(home, ref, table, fd, row)
        partial.resume({} if is_new and marks is None else marks)
    except BaseException:  # the descriptor and a useless empty file are given back whatever ends this
        os.close(fd)
        if is_new:
            with suppress(OSError):
                path.unlink()
        raise
    return partial


def dropped(ref: BlobRef) -> DroppedError:
    """The error of a blob whose file or record is gone."""
    return DroppedError(
        f"partial blob {ref.digest[:16]} was dropped by another process",
        zh=f"未完成的数据块 {ref.digest[:16]} 已被删除",
    )


def _is_row(db: sqlite3.Connection, row: int, ref: BlobRef) -> bool:
    return db.execute("SELECT 1 FROM partials WHERE id = ? AND digest = ?", (row, ref.digest)).fetchone() is not None


def _is_servable(db: sqlite3.Connection, ref: BlobRef) -> bool:
    return db.execute(f"SELECT 1 {SERVABLE}", (ref.digest,)).fetchone() is not None


def _act(verb: str, verb_zh: str, ref: BlobRef) -> tuple[str, str]:
    return f"{verb} blob {ref.digest[:16]}", f"{verb_zh}数据块 {ref.digest[:16]}"


def _allocate(home: Home, fd: int, size: int) -> None:
    stat = os.fstat(fd)
    home.keep_reserve(max(0, size - stat.st_blocks * 512))
    with storage_faults("setting space aside for a blob", "为数据块预留空间"):
        if stat.st_size > size:
            os.ftruncate(fd, size)
        if size:
            os.posix_fallocate(fd, 0, size)


def _record(index: Index, ref: BlobRef) -> tuple[int, dict[int, bytes] | None]:
    """The row of a partial and the marks of its pieces; None when they are unknown."""
    wanted = (ref.size, ref.piece_size, ref.table)
    for row, *had in index.read(
        "SELECT id, size, piece_size, piece_table FROM partials WHERE digest = ?", (ref.digest,)
    ):
        if tuple(had) == wanted:
            return row, dict(index.read("SELECT piece, mark FROM pieces WHERE partial = ?", (row,)))
    with index.write() as db:
        return insert_partial(db, ref), None
