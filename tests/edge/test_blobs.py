"""Whole blobs: proved before they are named, found again after every kind of end."""

from __future__ import annotations

import errno
import os
import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from support.edge_store import PIECE, flip, make_blob, no_leaks, opened_store, run_code, run_killed, store_blob

from edge.paths import Paths
from edge.store import disk
from edge.store.blobs import BlobStore
from manifests.digests import Digest
from manifests.errors import (
    ConfigurationError,
    DigestError,
    NotFoundError,
    StorageDamagedError,
    StorageError,
    StorageFullError,
)
from manifests.pieces import BlobRef

SMALL = make_blob(1000, "small")
BIG = make_blob(4 * PIECE + 17, "big")
PUT = "blob = make_blob(1000, 'small')\nwith BlobStore.open(paths) as store:\n    store.put(blob.ref, blob.data)\n"


@pytest.fixture
def store(tmp_path: Path):
    with no_leaks(), opened_store(tmp_path / "edge") as one:
        yield one


def test_put_has_read_delete(store: BlobStore) -> None:
    assert not store.has(SMALL.digest)
    assert store.size(SMALL.digest) is None
    store.put(SMALL.ref, SMALL.data)
    store.put(SMALL.ref, SMALL.data)
    assert store.has(SMALL.digest)
    assert store.size(SMALL.digest) == 1000
    assert store.read(SMALL.digest, 10, 20) == SMALL.data[10:20]
    assert store.load(SMALL.digest) == SMALL.data
    assert store.path(SMALL.digest).read_bytes() == SMALL.data
    assert store.digests() == {SMALL.digest}
    assert store.delete([SMALL.digest, BIG.digest]) == 1000
    assert store.digests() == set()
    assert not store.path(SMALL.digest).exists()


def test_an_empty_blob_is_a_blob(store: BlobStore) -> None:
    empty = make_blob(0)
    store.put(empty.ref, b"")
    assert store.size(empty.digest) == 0
    assert store.load(empty.digest) == b""


def test_wrong_bytes_are_refused_and_leave_nothing(store: BlobStore) -> None:
    with pytest.raises(DigestError):
        store.put(SMALL.ref, SMALL.data[:-1] + b"x")
    with pytest.raises(DigestError):
        store.put(SMALL.ref, SMALL.data[:-1])
    assert store.digests() == set()
    assert [path for path in store.paths.root.rglob("*") if path.is_file() and SMALL.digest in path.name] == []


def test_reading_what_is_not_here_or_outside(store: BlobStore) -> None:
    with pytest.raises(NotFoundError):
        store.read(SMALL.digest, 0, 1)
    with pytest.raises(NotFoundError):
        store.load(SMALL.digest)
    store.put(SMALL.ref, SMALL.data)
    with pytest.raises(ValueError, match="range"):
        store.read(SMALL.digest, 0, 1001)


def test_a_table_is_proved_again_when_it_is_loaded(store: BlobStore) -> None:
    store_blob(store, BIG)
    assert store.table(BIG.ref) == BIG.table
    assert BIG.ref.table is not None
    flip(store.path(BIG.ref.table), 40)
    before = store.index.change_token()
    with pytest.raises(StorageDamagedError):
        store.table(BIG.ref)
    assert not store.has(BIG.ref.table)
    assert store.index.change_token() != before
    with pytest.raises(NotFoundError):
        store.table(BIG.ref)
    store.put(BIG.ref.table_ref or BIG.ref, BIG.table_data)
    assert store.table(BIG.ref) == BIG.table
    assert store.stats().rotten == 0


def _cut(path: Path) -> None:
    os.truncate(path, 10)


def _replace_by_a_directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize("hurt", [_cut, Path.unlink, _replace_by_a_directory])
@pytest.mark.parametrize("how", ["read", "load"])
def test_a_file_that_lost_its_bytes_counts_as_missing(store: BlobStore, hurt: Callable[[Path], None], how: str) -> None:
    store.put(SMALL.ref, SMALL.data)
    hurt(store.path(SMALL.digest))
    with pytest.raises(StorageDamagedError) as caught:
        store.read(SMALL.digest, 0, 1000) if how == "read" else store.load(SMALL.digest)
    assert "edge sync" in caught.value.hint
    assert not store.has(SMALL.digest)
    assert store.rotten() == {SMALL.digest: 0}
    if hurt is not _replace_by_a_directory:
        store.put(SMALL.ref, SMALL.data)
        assert store.load(SMALL.digest) == SMALL.data


def test_folders_on_several_disks_are_refused(tmp_path: Path) -> None:
    with opened_store(tmp_path / "edge"):
        pass
    other = Path("/dev/shm") / f"yuanjiao-test-{os.getpid()}"
    if not other.parent.is_dir() or other.parent.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("this machine has one disk only")
    other.mkdir()
    try:
        (tmp_path / "edge" / "partial").rmdir()
        (tmp_path / "edge" / "partial").symlink_to(other)
        with no_leaks(), pytest.raises(ConfigurationError, match="another disk"), opened_store(tmp_path / "edge"):
            pass
    finally:
        other.rmdir()


def test_a_directory_of_another_user_is_told(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can become somebody else")
    with opened_store(tmp_path / "edge"):
        pass
    os.seteuid(65534)
    try:
        with no_leaks(), pytest.raises(StorageError) as caught:
            BlobStore.open(Paths(tmp_path / "edge"))
    finally:
        os.seteuid(0)
    assert "权限不足" in caught.value.zh
    assert "chown" in caught.value.hint_zh


def test_junk_in_tmp_does_not_stop_an_edge(tmp_path: Path) -> None:
    junk = tmp_path / "edge" / "tmp" / "unpacked" / "by hand"
    junk.mkdir(parents=True)
    with opened_store(tmp_path / "edge") as store:
        assert list(store.paths.tmp.iterdir()) == []


def test_stats_count_what_is_here(store: BlobStore) -> None:
    store_blob(store, BIG)
    other = make_blob(2 * PIECE, "other")
    store.begin(other.ref, other.table).close()
    stats = store.stats()
    assert (stats.blobs, stats.blob_bytes) == (2, BIG.ref.size + len(BIG.table_data))
    assert (stats.partials, stats.partial_bytes) == (1, 2 * PIECE)
    assert stats.free_bytes > 0


def test_the_reserve_stops_writing_not_reading(tmp_path: Path) -> None:
    with opened_store(tmp_path / "edge") as store:
        store.put(SMALL.ref, SMALL.data)
    with no_leaks(), opened_store(tmp_path / "edge", reserve_bytes=1 << 60) as store:
        with pytest.raises(StorageFullError):
            store.put(make_blob(10).ref, make_blob(10).data)
        with pytest.raises(StorageFullError):
            store.begin(BIG.ref, BIG.table)
        assert store.load(SMALL.digest) == SMALL.data
        assert store.partials() == {}
        assert list(store.paths.partials.iterdir()) == []


def test_a_short_write_is_not_taken_for_a_whole_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    real = os.pwrite
    room = [600]

    def pwrite(fd: int, data: bytes, offset: int) -> int:
        if not room[0]:
            raise OSError(errno.ENOSPC, "full")
        count = min(room[0], len(data))
        room[0] -= count
        return real(fd, bytes(data[:count]), offset)

    with opened_store(tmp_path / "edge") as store:
        monkeypatch.setattr(disk.os, "pwrite", pwrite)
        with no_leaks(), pytest.raises(StorageFullError):
            store.put(SMALL.ref, SMALL.data)
        monkeypatch.undo()
        assert not store.has(SMALL.digest)
        assert list(store.paths.tmp.iterdir()) == []
        store.put(SMALL.ref, SMALL.data)
        assert store.load(SMALL.digest) == SMALL.data


@pytest.mark.parametrize("point", ["put:written", "put:renamed"])
def test_killed_while_putting(tmp_path: Path, point: str) -> None:
    run_killed(PUT, tmp_path / "edge", point)
    with opened_store(tmp_path / "edge") as store:
        assert not store.has(SMALL.digest)
        assert list(store.paths.tmp.iterdir()) == []
        store.put(SMALL.ref, SMALL.data)
        assert store.load(SMALL.digest) == SMALL.data


def test_killed_while_deleting(tmp_path: Path) -> None:
    run_killed(PUT + "    store.delete([blob.digest])\n", tmp_path / "edge", "delete:unindexed")
    with opened_store(tmp_path / "edge") as store:
        assert not store.has(SMALL.digest)
        store.put(SMALL.ref, SMALL.data)
        assert store.has(SMALL.digest)


def test_threads_put_the_same_blobs(store: BlobStore) -> None:
    blobs = [make_blob(500 + n, n) for n in range(20)]
    barrier = threading.Barrier(4)

    def work() -> None:
        barrier.wait(10)
        for blob in blobs:
            store.put(blob.ref, blob.data)

    with ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(work) for _ in range(4)]:
            done.result(30)
    assert store.digests() == {blob.digest for blob in blobs}


def test_another_process_reads_while_this_one_writes(tmp_path: Path) -> None:
    root = tmp_path / "edge"
    with opened_store(root) as writer, opened_store(root, read_only=True) as reader:
        writer.put(SMALL.ref, SMALL.data)
        assert reader.load(SMALL.digest) == SMALL.data
        code = (
            "import sys\nstore = BlobStore.open(paths, read_only=True)\n"
            "print(sorted(store.digests()), flush=True)\nstore.close()\n"
        )
        done = run_code(code, root)
        assert done.stdout == f"['{SMALL.digest}']\n", done.stderr
        done = run_code(PUT.replace("1000, 'small'", "77, 'other'"), root)
        assert done.returncode == 0, done.stderr
        assert writer.digests() == reader.digests() == {SMALL.digest, make_blob(77, "other").digest}


def test_a_reader_can_not_write(tmp_path: Path) -> None:
    with opened_store(tmp_path / "edge") as store:
        store.put(SMALL.ref, SMALL.data)
        flip(store.path(SMALL.digest), 5)
    with opened_store(tmp_path / "edge", read_only=True) as reader:
        assert reader.index.is_read_only
        with pytest.raises(StorageDamagedError):
            reader.load(SMALL.digest)
        with pytest.raises(RuntimeError):
            reader.delete([SMALL.digest])
        with pytest.raises(sqlite3.OperationalError):
            reader.index._reading().execute("DELETE FROM blobs")


def test_names_are_made_of_digests_only(store: BlobStore) -> None:
    ref = BlobRef(Digest("f" * 64), 3)
    with pytest.raises(DigestError):
        store.put(ref, b"abc")
    assert store.path(ref.digest) == store.paths.blobs / "ff" / ("f" * 64)
