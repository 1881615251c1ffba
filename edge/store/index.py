"""The index file: one writing connection behind a lock, one reading connection per process, and whether it is sound.

Any thread may call anything here. Readers (this process or others) see the last committed state, never a mix. The
index is a convenience: what it says can be proved again from the disk, see `edge.store.rebuild`.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Self

from edge.store.faults import index_faults, is_index_damage, is_index_full
from edge.store.schema import GENERATION, READER_PRAGMAS, SCHEMA, TABLES, WRITER_PRAGMAS
from edge.store.transactions import transaction
from manifests.errors import StorageDamagedError

# Up to here every opening checks every page (measured: 1 ms per MiB in memory); larger ones are checked by the scrub,
# and rebuilt once damage was met.
FULL_CHECK_BYTES = 64 * 1024 * 1024

Params = Sequence[str | int | bytes | None]
Row = tuple[Any, ...]


class Index:
    """An open index; made by `Index.open`."""

    def __init__(self, path: Path, suspect: Path, writer: sqlite3.Connection | None) -> None:
        self._path = path
        self._suspect = suspect
        self._writer = writer
        self._write_lock = threading.RLock()
        self._read_lock = threading.RLock()
        self._reader: sqlite3.Connection | None = None
        self._inode = 0
        self._is_frozen = False
        self._stamp: tuple[int, int] | None = None  # size and time of the file that is read as it is
        self._seen: tuple[int, int] | None = None  # data_version, token

    @classmethod
    def open(cls, path: Path, suspect: Path, *, read_only: bool) -> Self:
        """Open a sound index of this generation.

        Args:
            path: the index file.
            suspect: a file whose presence tells the next opening to rebuild.
            read_only: no writing connection; works on a read-only file system.

        Raises:
            StorageDamagedError: environment; missing, damaged, or of another generation: rebuild it.
            StorageError: environment; it can not be opened now.
        """
        if not path.exists() or suspect.exists():
            raise StorageDamagedError("index is missing or was found damaged", zh="本地索引缺失或已损坏")
        writer = None
        with index_faults("opening"):
            if not read_only:
                writer = connect(f"file:{_quoted(path)}?mode=rw", WRITER_PRAGMAS)
            index = cls(path, suspect, writer)
            try:
                with index.snapshot() as db:
                    check_sound(db, full=path.stat().st_size <= FULL_CHECK_BYTES)
            except (sqlite3.Error, StorageDamagedError):
                index.close()
                raise
        return index

    def close(self) -> None:
        """Close both connections; open transactions are rolled back."""
        with self._write_lock, self._read_lock:
            # The writer last: whoever closes last brings the WAL home, and a reader could not.
            for connection in (self._reader, self._writer):
                if connection is not None:
                    connection.close()
            self._writer = self._reader = None

    @property
    def is_read_only(self) -> bool:
        """Whether writing is impossible through this object."""
        return self._writer is None

    @contextmanager
    def write(self, *, durable: bool = False) -> Iterator[sqlite3.Connection]:
        """One transaction: committed at the end of the block, rolled back when it raises.

        Args:
            durable: also survive a power cut right after; costs one sync of the disk.

        Raises:
            StorageError: environment; and its children, see `index_faults`.
            RuntimeError: caller's mistake; opened read-only, or closed.
        """
        with self._write_lock, self._faults("writing"):
            db = self._writer
            if db is None:
                raise RuntimeError("the index is not open for writing")
            db.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
            with transaction(db):
                yield db

    @contextmanager
    def snapshot(self) -> Iterator[sqlite3.Connection]:
        """Several reads of one committed state."""
        with self._read_lock, self._faults("reading"):
            db = self._reading()
            db.execute("BEGIN")
            try:
                yield db
            finally:
                with suppress(sqlite3.Error):
                    db.execute("ROLLBACK")

    def read(self, sql: str, params: Params = ()) -> list[Row]:
        """All rows of one query.

        Raises:
            StorageError: environment; and its children, see `index_faults`.
        """
        with self._read_lock, self._faults("reading"):
            return self._reading().execute(sql, params).fetchall()

    def change_token(self) -> int:
        """A number that differs when installed courseware or the set of servable blobs may have changed.

        Costs under ten microseconds when nothing was committed by anybody since the last call.
        """
        with self._read_lock, self._faults("reading"):
            db = self._reading()
            version: int = db.execute("PRAGMA data_version").fetchone()[0]
            if self._seen is None or self._seen[0] != version:
                row = db.execute("SELECT value FROM meta WHERE key = 'change'").fetchone()
                # A rebuilt index starts to count again; its inode keeps old and new numbers apart.
                self._seen = (version, (self._inode << 40) + (int(row[0]) if row else 0))
            return self._seen[1]

    def suspect(self) -> None:
        """Have the index rebuilt at the next opening for writing or reading."""
        with suppress(OSError):  # a read-only disk keeps no note; the error that led here is told anyway
            self._suspect.touch()

    def check(self) -> None:
        """Check every page; the scrub calls it.

        Raises:
            StorageDamagedError: environment; the next opening rebuilds it.
        """
        try:
            with self.snapshot() as db:
                check_sound(db, full=True)
        except StorageDamagedError:
            self.suspect()
            raise

    @contextmanager
    def _faults(self, what: str) -> Iterator[None]:
        with index_faults(what):
            try:
                yield
            except sqlite3.Error as error:
                if is_index_damage(error):
                    self.suspect()
                raise

    def _reading(self) -> sqlite3.Connection:
        """The reading connection; a rebuilt index is a new file under the old name, so the inode is compared."""
        try:
            found = self._path.stat()
        except OSError:  # deleted under us: what is open still answers
            found = None
        inode = self._inode if found is None else found.st_ino
        stamp = None if found is None else (found.st_size, found.st_mtime_ns)
        if self._reader is None or inode != self._inode or (self._is_frozen and self._is_outdated(stamp)):
            fresh, self._is_frozen = _open_reader(self._path)
            if self._reader is not None:
                self._reader.close()
            self._reader, self._inode, self._stamp, self._seen = fresh, inode, stamp, None
        return self._reader

    def _is_outdated(self, stamp: tuple[int, int] | None) -> bool:
        """Whether somebody wrote since: a short sync makes its WAL, brings it home and removes it between two looks."""
        return stamp not in {None, self._stamp} or _has_bytes(_wal(self._path))


def connect(uri: str, pragmas: Sequence[str]) -> sqlite3.Connection:
    """Open one connection with its settings; transactions are begun by hand."""
    db = sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False, timeout=10)
    try:
        for pragma in pragmas:
            db.execute(pragma)
        db.execute("SELECT 1 FROM sqlite_master").fetchone()  # opens the file and its WAL in truth
    except sqlite3.Error:
        db.close()
        raise
    return db


def create(path: Path) -> sqlite3.Connection:
    """Make an empty index of this generation; kept without WAL until it is opened under its own name."""
    db = connect(f"file:{_quoted(path)}?mode=rwc", ("PRAGMA synchronous = OFF", "PRAGMA foreign_keys = ON"))
    try:
        db.executescript(f"PRAGMA journal_mode = MEMORY; {SCHEMA} PRAGMA user_version = {GENERATION};")
    except sqlite3.Error:
        db.close()
        raise
    return db


def check_sound(db: sqlite3.Connection, *, full: bool) -> None:
    """Check generation, tables and, when `full`, every page.

    Raises:
        StorageDamagedError: environment; rebuild it.
        sqlite3.Error: environment; the file can not be read as an index at all.
    """
    generation = db.execute("PRAGMA user_version").fetchone()[0]
    if generation != GENERATION:
        raise StorageDamagedError(f"index has generation {generation}, this program has {GENERATION}")
    for table in TABLES:
        db.execute(f"SELECT 1 FROM {table} LIMIT 1").fetchone()  # noqa: S608 - names from our own tuple
    if full:
        verdict = db.execute("PRAGMA quick_check(1)").fetchone()[0]
        if verdict != "ok":
            raise StorageDamagedError(f"index is damaged: {verdict}", zh=f"本地索引已损坏：{verdict}")


def _open_reader(path: Path) -> tuple[sqlite3.Connection, bool]:
    """Open for reading; the second value says that the file is read as it is, without a look at writers."""
    uri = f"file:{_quoted(path)}?mode=ro"
    try:
        return connect(uri, READER_PRAGMAS), False
    except sqlite3.Error as error:
        # A read-only or full file system cannot give the shared memory that SQLite wants. Without a WAL file the index
        # is whole by itself and may be read as it is, until somebody writes again (`_reading` looks).
        cannot_write = is_index_full(error) or not os.access(path.parent, os.W_OK)
        if is_index_damage(error) or not cannot_write or _has_bytes(_wal(path)):
            raise
        return connect(f"{uri}&immutable=1", READER_PRAGMAS), True


def _wal(path: Path) -> Path:
    return path.with_name(path.name + "-wal")


def _has_bytes(path: Path) -> bool:
    try:
        return path.stat().st_size > 0
    except OSError:
        return False


def _quoted(path: Path) -> str:
    return str(path).replace("%", "%25").replace("?", "%3f").replace("#", "%23")
