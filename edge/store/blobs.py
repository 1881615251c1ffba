"""Whole blobs and the beginnings of others. What has its blob's name under `blobs/` was proved before it got it.

Synchronous and usable from any thread; asynchronous callers use a bounded executor. One process writes at a time by
convention (`sync.lock`); two that write the same blob do no harm, because both write the same proved bytes.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Self

import structlog

from edge.paths import Paths
from edge.store.ballast import Ballast
from edge.store.disk import free_bytes, mark_of, opened, place_file, read_at, remove_file, write_new
from edge.store.failpoints import reach
from edge.store.faults import is_lost, storage_error, storage_faults
from edge.store.index import Index
from edge.store.locks import FileLock
from edge.store.opening import check_one_disk, open_index
from edge.store.partial import Home, Partial, open_partial, open_whole
from edge.store.rows import SERVABLE, bump, drop_blob, insert_blob
from manifests.digests import Digest, check_bytes, digest_of, is_digest
from manifests.errors import BusyError, NotFoundError, StorageDamagedError, StorageError, StorageFullError
from manifests.pieces import BlobRef, PieceTable, parse_table, piece_count

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class StoreStats:
    """What is here.

    Attributes:
        blobs: whole, servable blobs.
        blob_bytes: their bytes.
        rotten: blobs with a known rotten piece; not served until repaired.
        partials: blobs of which pieces are missing.
        partial_bytes: space set aside for them.
        free_bytes: space left in the file system.
    """

    blobs: int
    blob_bytes: int
    rotten: int
    partials: int
    partial_bytes: int
    free_bytes: int


class BlobStore:
    """The blobs of one edge; made by `BlobStore.open`."""

    def __init__(self, paths: Paths, index: Index, lock: FileLock | None, reserve_bytes: int) -> None:
        self.paths = paths
        self.index = index
        self.ballast = Ballast(paths.ballast)
        self._lock_file = lock
        self._reserve_bytes = reserve_bytes
        self._home = Home(paths, index, self.keep_reserve, self._closed)
        self._active_lock = threading.Lock()
        self._active: dict[Digest, tuple[Partial, int]] = {}
        # Resuming reads a whole file: begins of different blobs go on beside each other, of the same blob in turn.
        self._begin_locks = tuple(threading.Lock() for _ in range(16))

    @classmethod
    def open(cls, paths: Paths, *, reserve_bytes: int = 0, read_only: bool = False, wait_s: float = 30.0) -> Self:
        """Open the store of an edge; a missing, damaged or foreign index is rebuilt from the disk first.

        Args:
            paths: where.
            reserve_bytes: free space that writing never uses up.
            read_only: for processes that serve; works on a read-only file system with a sound index.
            wait_s: how long to wait for others when the index must be rebuilt.

        Raises:
            ConfigurationError: the directory was laid out by another version of this program.
            BusyError: environment; the index must be rebuilt, and another process has it open for writing.
            StorageError: environment.
        """
        if read_only:
            return cls(paths, *open_index(paths, read_only=True, wait_s=wait_s), reserve_bytes)
        ballast = Ballast(paths.ballast)
        with storage_faults("creating directories", "创建目录"):
            paths.make()
            check_one_disk(paths)
        opened_index = ballast.spend(lambda: open_index(paths, read_only=False, wait_s=wait_s))
        store = cls(paths, *opened_index, reserve_bytes)
        try:
            ballast.spend(store.finish_renamed)
            ballast.take(*store.index.read("SELECT coalesce(max(size), 0) FROM catalogs")[0])
        except BaseException:  # a lock kept after any failure would shut out the next attempt
            store.close()
            raise
        return store

    def close(self) -> None:
        """Close the index; partials must have been closed before."""
        self.index.close()
        if self._lock_file is not None:
            self._lock_file.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def has(self, digest: Digest) -> bool:
        """Tell whether the blob is here whole, proved, and without known rot."""
        return bool(self.index.read(f"SELECT 1 {SERVABLE}", (digest,)))

    def size(self, digest: Digest) -> int | None:
        """Its length in bytes; None when it is not here (see `has`)."""
        rows = self.index.read(f"SELECT size {SERVABLE}", (digest,))
        return int(rows[0][0]) if rows else None

    def path(self, digest: Digest) -> Path:
        """Where it lies, when it is here."""
        return self.paths.blob(digest)

    def digests(self) -> set[Digest]:
        """All blobs that are here (see `has`)."""
        rows = self.index.read("SELECT digest FROM blobs WHERE digest NOT IN (SELECT digest FROM rot)")
        return {Digest(row[0]) for row in rows}

    def rotten(self) -> dict[Digest, int]:
        """Blobs of which pieces are known to be wrong, and how many of their bytes are not."""
        rows = self.index.read(
            "SELECT digest, max(0, size - piece_size * (SELECT count(*) FROM rot WHERE rot.digest = blobs.digest)) "
            "FROM blobs WHERE digest IN (SELECT digest FROM rot)"
        )
        return {Digest(row[0]): row[1] for row in rows}

    def ref(self, digest: Digest) -> BlobRef | None:
        """Size and piece table of a blob that is here, rotten or not."""
        for row in self.index.read("SELECT size, piece_table, piece_size FROM blobs WHERE digest = ?", (digest,)):
            return BlobRef(digest, row[0], Digest(row[1]) if row[1] else None, row[2])
        return None

    def stats(self) -> StoreStats:
        """Counts for metrics, health and quota."""
        with self.index.snapshot() as db:
            blobs, size = db.execute("SELECT count(*), coalesce(sum(size), 0) FROM blobs").fetchone()
            rotten = db.execute("SELECT count(DISTINCT digest) FROM rot").fetchone()[0]
            partials, aside = db.execute("SELECT count(*), coalesce(sum(size), 0) FROM partials").fetchone()
        return StoreStats(blobs - rotten, size, rotten, partials, aside, self.free_bytes())

    def free_bytes(self) -> int:
        """Space left in the file system."""
        with storage_faults("asking for free space", "查询剩余空间"):
            return free_bytes(self.paths.blobs)

    def keep_reserve(self, need_bytes: int) -> None:
        """Check that so many more bytes leave the reserve untouched.

        Raises:
            StorageFullError: environment; they do not.
        """
        free = self.free_bytes()
        if need_bytes and free - need_bytes < self._reserve_bytes:
            raise StorageFullError(
                f"{need_bytes} bytes do not fit: {free} are free, {self._reserve_bytes} of them reserved",
                zh=f"磁盘空间不足：需要 {need_bytes} 字节，剩余 {free} 字节，其中 {self._reserve_bytes} 字节为保留空间",
            )

    def read(self, digest: Digest, start: int, stop: int) -> bytes:
        """Read bytes of a whole blob, as they lie on the disk.

        Raises:
            NotFoundError: the blob is not here.
            ValueError: caller's mistake; the range lies outside of the blob.
            StorageDamagedError: environment; the file is gone, too short, or its disk cannot read it. It counts as
                missing from now on.
            StorageError: environment; any other fault.
        """
        size = self.size(digest)
        if size is None:
            raise NotFoundError(f"blob {digest[:16]} is not here")
        if not 0 <= start <= stop <= size:
            raise ValueError(f"range {start}-{stop} of {size} bytes")
        try:
            with opened(self.path(digest)) as fd:
                data = read_at(fd, start, stop)
        except OSError as error:
            if not is_lost(error):
                raise storage_error(error, f"reading blob {digest[:16]}", f"读取数据块 {digest[:16]}") from error
            raise self._rotten(digest, f"cannot be read: {error.strerror}") from error
        if len(data) != stop - start:
            raise self._rotten(digest, f"ends at {start + len(data)} of {size} bytes")
        return data

    def load(self, digest: Digest) -> bytes:
        """Read a whole blob (a catalog, a piece table, a patch) and prove it again.

        Raises:
            NotFoundError: the blob is not here.
            StorageDamagedError: environment; it is rotten. It counts as missing from now on.
        """
        size = self.size(digest)
        if size is None:
            raise NotFoundError(f"blob {digest[:16]} is not here")
        data = self.read(digest, 0, size)
        if digest_of(data) != digest:
            raise self._rotten(digest, "is not what was stored")
        return data

    def table(self, ref: BlobRef) -> PieceTable:
        """The piece table of a blob, proved again; the table must be here.

        Raises:
            NotFoundError: the table is not here, or the blob has none.
            StorageDamagedError: environment; the table is rotten.
            FormatError: bad data; the table does not fit the blob.
        """
        if ref.table is None:
            raise NotFoundError(f"blob {ref.digest[:16]} has no piece table")
        return parse_table(self.load(ref.table), ref.size, ref.piece_size)

    def put(self, ref: BlobRef, data: bytes, *, urgent: bool = False) -> None:
        """Prove and store a small blob; does nothing when it is here.

        Args:
            ref: what it must be.
            data: all of it.
            urgent: may use the reserve; for catalogs, because a recall must act on a full disk too.

        Raises:
            DigestError: bad data; nothing was stored.
            StorageFullError: environment; no space left, or not without the reserve.
            StorageError: environment; any other fault.
        """
        check_bytes(data, ref.digest, ref.size, f"blob {ref.digest[:16]}")
        if self.has(ref.digest):
            return
        if urgent:
            self.ballast.spend(lambda: self._put(ref, data))
        else:
            self.keep_reserve(len(data))
            self._put(ref, data)

    def begin(self, ref: BlobRef, table: PieceTable, *, urgent: bool = False) -> Partial:
        """Create or resume a partial blob. Marked pieces are read again; those that changed are missing again.

        A blob that is here gives a partial of which nothing is missing. Two users of one blob share one object.

        Args:
            ref: what it must become.
            table: its proved piece table.
            urgent: may use the reserve, see `put`.

        Raises:
            ValueError: caller's mistake; the table is not this blob's.
            StorageFullError: environment; the space for the whole blob can not be set aside.
            StorageError: environment; any other fault.
        """
        if (table.size, table.piece_size, len(table)) != (ref.size, ref.piece_size, ref.piece_count):
            raise ValueError(f"piece table does not fit blob {ref.digest[:16]}")
        with self._begin_locks[int(ref.digest[0], 16)]:
            with self._active_lock:
                if ref.digest in self._active:
                    partial, users = self._active[ref.digest]
                    self._active[ref.digest] = (partial, users + 1)
                    return partial
            if self.has(ref.digest):
                partial = open_whole(self._home, ref, table)
            elif urgent:
                home = replace(self._home, keep_reserve=lambda _: None)
                partial = self.ballast.spend(lambda: open_partial(home, ref, table))
            else:
                partial = open_partial(self._home, ref, table)
            with self._active_lock:
                self._active[ref.digest] = (partial, 1)
            return partial

    def drop_partial(self, digest: Digest) -> int:
        """Forget a partial blob; returns the bytes freed.

        Raises:
            StorageError: environment.
        """
        self.ballast.spend(lambda: self._forget_partial(digest))
        with storage_faults(f"removing partial blob {digest[:16]}", f"删除未完成的数据块 {digest[:16]}"):
            return remove_file(self.paths.partial(digest))

    def partials(self) -> dict[Digest, int]:
        """Partial blobs and how many of their bytes are marked; 0 for files that the index does not know."""
        with storage_faults("listing partial blobs", "列出未完成的数据块"):
            found = {Digest(path.name): 0 for path in self.paths.partials.iterdir() if is_digest(path.name)}
        rows = self.index.read(
            "SELECT digest, min(size, piece_size * (SELECT count(*) FROM pieces WHERE partial = partials.id)) "
            "FROM partials"
        )
        return {**found, **{Digest(row[0]): row[1] for row in rows}}

    def delete(self, digests: Iterable[Digest]) -> int:
        """Remove whole blobs; those being sent keep their bytes until the sender closes them.

        Returns:
            Bytes freed.

        Raises:
            StorageError: environment; what was not removed stays or is found by the scrub.
        """
        wanted = list(digests)
        self.ballast.spend(lambda: self._forget(wanted))
        reach("delete:unindexed")
        freed = 0
        for digest in wanted:
            with storage_faults(f"removing blob {digest[:16]}", f"删除数据块 {digest[:16]}"):
                freed += remove_file(self.path(digest))
        return freed

    def _rotten(self, digest: Digest, how: str) -> StorageDamagedError:
        """The error of a blob that is not on the disk as it was stored; its repair is left to the next sync."""
        with suppress(StorageError, BusyError):  # a note that cannot be kept now must not hide what it is about
            if not self.index.is_read_only:
                self.mark_rotten(digest, [0])
        return StorageDamagedError(
            f"blob {digest[:16]} on the disk {how}",
            zh=f"磁盘上的数据块 {digest[:16]} 已损坏",
            hint="run `yuanjiao edge sync DIR` again; it fetches what is damaged",
            hint_zh="请重新运行 `yuanjiao edge sync DIR`，损坏的内容会重新获取",
        )

    def mark_rotten(self, digest: Digest, pieces: Iterable[int]) -> None:
        """Record pieces of a whole blob that are wrong on the disk; it is not served from now on."""
        log.error("blob_rotten", digest=digest, courseware=[row[0] for row in self._users(digest)])
        with self.index.write(durable=True) as db:
            db.executemany(
                "INSERT OR IGNORE INTO rot SELECT digest, ? FROM blobs WHERE digest = ?",
                ((n, digest) for n in pieces),
            )
            bump(db)

    def finish_renamed(self) -> None:
        """Tell the index of blobs that got their name just before the last writer was killed."""
        for row, digest, size, piece_size, table in self.index.read(
            "SELECT id, digest, size, piece_size, piece_table FROM partials"
        ):
            if self.paths.partial(digest).exists() or not self.paths.blob(digest).exists():
                continue
            marks = self.index.read("SELECT mark FROM pieces WHERE partial = ? ORDER BY piece", (row,))
            if len(marks) == piece_count(size, piece_size):
                # Its bytes were synced before the rename; the row is all that is lacking.
                with self.index.write(durable=True) as db:
                    insert_blob(db, BlobRef(digest, size, table, piece_size), b"".join(mark for (mark,) in marks))

    def _put(self, ref: BlobRef, data: bytes) -> None:
        temporary = self.paths.tmp / f"{ref.digest}.{os.getpid()}.{threading.get_ident()}"
        with storage_faults(f"storing blob {ref.digest[:16]}", f"保存数据块 {ref.digest[:16]}"):
            write_new(temporary, data)
            reach("put:written")
            place_file(temporary, self.path(ref.digest))
            self.paths.partial(ref.digest).unlink(missing_ok=True)
        reach("put:renamed")
        marks = b"".join(mark_of(data[at : at + ref.piece_size]) for at in range(0, len(data), ref.piece_size))
        with self.index.write() as db:
            insert_blob(db, ref, marks)

    def _forget(self, digests: list[Digest]) -> None:
        with self.index.write() as db:
            for digest in digests:
                drop_blob(db, digest)
            if digests:
                bump(db)

    def _forget_partial(self, digest: Digest) -> None:
        with self.index.write() as db:
            db.execute("DELETE FROM partials WHERE digest = ?", (digest,))

    def _users(self, digest: Digest) -> list[tuple[str]]:
        return self.index.read("SELECT id FROM refs WHERE digest = ?", (digest,))

    def _closed(self, partial: Partial) -> None:
        with self._active_lock:
            kept, users = self._active.get(partial.ref.digest, (partial, 1))
            if kept is partial and users > 1:
                self._active[partial.ref.digest] = (partial, users - 1)
                return
            if kept is partial:
                self._active.pop(partial.ref.digest, None)
        partial.shut()
