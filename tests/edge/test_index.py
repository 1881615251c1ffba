"""The index file itself: transactions, snapshots, tokens, faults in our own words."""

from __future__ import annotations

import sqlite3
import threading
from contextlib import suppress
from pathlib import Path

import pytest
from support.edge_store import make_blob, no_leaks, opened_store
from support.small_disk import fill, small_disk

from edge.paths import Paths
from edge.store.blobs import BlobStore
from edge.store.failpoints import POINTS, reach
from edge.store.faults import index_faults, storage_error
from edge.store.locks import FileLock
from edge.store.rows import bump, set_meta
from manifests.errors import BusyError, StorageDamagedError, StorageError, StorageFullError

BLOB = make_blob(10)


@pytest.fixture
def store(tmp_path: Path):
    with no_leaks(), opened_store(tmp_path / "edge") as one:
        yield one


def test_a_transaction_is_all_or_nothing(store: BlobStore) -> None:
    count = "SELECT count(*) FROM meta WHERE key = 'k1'"
    with pytest.raises(KeyError):
        _write(store, KeyError)
    assert store.index.read(count) == [(0,)]
    _write(store)
    assert store.index.read(count) == [(1,)]


def test_a_snapshot_does_not_move(store: BlobStore) -> None:
    count = "SELECT count(*) FROM meta WHERE key LIKE 'k%'"
    with store.index.snapshot() as db:
        assert db.execute(count).fetchone() == (0,)
        writer = threading.Thread(target=_write, args=(store,))
        writer.start()
        writer.join(10)
        assert db.execute(count).fetchone() == (0,)
    assert store.index.read(count) == [(1,)]


def _write(store: BlobStore, fault: type[Exception] | None = None) -> None:
    with store.index.write() as db:
        set_meta(db, "k1", b"")
        if fault:
            raise fault


def test_the_token_moves_with_bumps_only(store: BlobStore) -> None:
    token = store.index.change_token()
    _write(store)
    assert store.index.change_token() == token
    with store.index.write() as db:
        bump(db)
    assert store.index.change_token() == token + 1


def test_sqlite_errors_are_told_in_our_words() -> None:
    cases = {
        sqlite3.SQLITE_FULL: StorageFullError,
        sqlite3.SQLITE_BUSY: BusyError,
        sqlite3.SQLITE_CORRUPT: StorageDamagedError,
        sqlite3.SQLITE_NOTADB: StorageDamagedError,
        sqlite3.SQLITE_READONLY: StorageError,
    }
    for code, family in cases.items():
        error = sqlite3.OperationalError("x")
        error.sqlite_errorcode = code
        with pytest.raises(family), index_faults("testing"):
            raise error


def test_disk_errors_are_told_in_our_words() -> None:
    assert isinstance(storage_error(OSError(28, "full"), "x"), StorageFullError)
    assert isinstance(storage_error(OSError(122, "quota"), "x"), StorageFullError)
    for number in (5, 13, 30):
        error = storage_error(OSError(number, "no"), "x")
        assert type(error) is StorageError
        assert error.family_zh == "本地存储故障"
        assert "no" not in error.zh, "the system's English reason is told in Chinese"


def test_a_locked_index_ends_in_a_busy_error(store: BlobStore) -> None:
    other = sqlite3.connect(store.paths.index, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with store.index._write_lock:
        store.index._writer.execute("PRAGMA busy_timeout = 10")
    with pytest.raises(BusyError):
        store.put(BLOB.ref, BLOB.data)
    other.execute("ROLLBACK")
    other.close()
    store.put(BLOB.ref, BLOB.data)


def test_file_locks(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with no_leaks():
        with FileLock(path).acquire() as lock:
            with pytest.raises(BusyError) as caught:
                FileLock(path).acquire(wait_s=0.1)
            assert "held by another process (" in caught.value.message
            lock.acquire(exclusive=False)
            with FileLock(path).acquire(exclusive=False):
                pass
        with FileLock(path):
            pass


def test_a_lock_needs_no_room(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", "1m") as disk:
        with (disk / "hog").open("wb", buffering=0) as file, suppress(OSError):
            while file.write(bytes(4096)):
                pass
        with FileLock(disk / "sync.lock"), pytest.raises(BusyError):
            FileLock(disk / "sync.lock").acquire()


def test_a_reader_that_began_on_a_full_disk_sees_what_a_short_sync_wrote(tmp_path: Path) -> None:
    """The writer's WAL is gone again before the reader looks: the file itself tells."""
    with small_disk(tmp_path / "disk", "8m") as disk:
        root = disk / "edge"
        with opened_store(root, reserve_bytes=0):
            pass
        fill(disk / "filler")
        with opened_store(root, read_only=True) as reader:
            assert not reader.has(BLOB.digest)
            (disk / "filler").unlink()
            with opened_store(root, reserve_bytes=0) as writer:
                writer.put(BLOB.ref, BLOB.data)
            assert not Path(f"{Paths(root).index}-wal").exists()
            assert reader.has(BLOB.digest)


def test_fail_points_are_listed() -> None:
    with pytest.raises(ValueError, match="not listed"):
        reach("nowhere")
    for point in POINTS:
        reach(point)


def test_names_that_sqlite_would_read_otherwise(tmp_path: Path) -> None:
    root = tmp_path / "100% 县级?边缘#1"
    root.mkdir()
    with opened_store(root) as store:
        store.put(BLOB.ref, BLOB.data)
    assert Paths(root).index.exists()
    with opened_store(root, read_only=True) as store:
        assert store.has(BLOB.digest)
