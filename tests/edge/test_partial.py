"""Blobs with missing pieces: proved before written, marked after, resumed from what is really on the disk."""

from __future__ import annotations

import os
import random
import sqlite3
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from support.edge_store import PIECE, flip, make_blob, no_leaks, opened_store, run_killed, store_blob
from support.small_disk import small_disk

from edge.store.blobs import BlobStore
from manifests.errors import DigestError, NotFoundError, StorageError, StorageFullError

BLOB = make_blob(5 * PIECE + 100, "partial")
WRITE = (
    "blob = make_blob(5 * PIECE + 100, 'partial')\nwith BlobStore.open(paths) as store:\n"
    "    store.put(blob.ref.table_ref, blob.table_data)\n"
    "    partial = store.begin(blob.ref, blob.table)\n"
    "    partial.write_pieces(0, blob.data[:2 * PIECE])\n"
)
FINISH = WRITE + "    partial.write_pieces(2, blob.data[2 * PIECE:])\n    partial.finish()\n"


@pytest.fixture
def store(tmp_path: Path):
    with no_leaks(), opened_store(tmp_path / "edge") as one:
        yield one


def test_from_nothing_to_whole(store: BlobStore) -> None:
    with store.begin(BLOB.ref, BLOB.table) as partial:
        assert partial.missing() == [0, 1, 2, 3, 4, 5]
        path = store.paths.partial(BLOB.digest)
        assert path.stat().st_blocks * 512 >= BLOB.ref.size
        assert partial.write_pieces(4, BLOB.data[4 * PIECE :]) == []
        assert partial.write_pieces(1, BLOB.piece(1)) == []
        assert partial.missing() == [0, 2, 3]
        assert partial.proved_bytes() == 2 * PIECE + 100
        assert store.partials() == {BLOB.digest: 3 * PIECE}
        assert partial.read(4 * PIECE + 7, BLOB.ref.size) == BLOB.data[4 * PIECE + 7 :]
        with pytest.raises(NotFoundError):
            partial.read(4 * PIECE - 1, 4 * PIECE + 1)
        with pytest.raises(DigestError):
            partial.finish()
        assert partial.write_pieces(0, memoryview(BLOB.data)) == []
        assert not store.has(BLOB.digest)
        partial.finish()
        partial.finish()
    assert store.has(BLOB.digest)
    assert store.partials() == {}
    assert store.path(BLOB.digest).read_bytes() == BLOB.data
    assert store.ref(BLOB.digest) == BLOB.ref


def test_bad_pieces_are_told_and_not_stored(store: BlobStore) -> None:
    data = bytearray(BLOB.data[: 4 * PIECE])
    data[PIECE + 5] ^= 1
    data[3 * PIECE] ^= 1
    with store.begin(BLOB.ref, BLOB.table) as partial:
        assert partial.write_pieces(0, bytes(data)) == [1, 3]
        assert partial.missing() == [1, 3, 4, 5]
        assert partial.write_pieces(4, BLOB.data[4 * PIECE : 5 * PIECE - 1]) == [4]
        assert partial.write_pieces(5, BLOB.data[5 * PIECE :][:50]) == [5]
        with pytest.raises(ValueError, match="past the end"):
            partial.write_pieces(5, BLOB.data[:PIECE])
    raw = store.paths.partial(BLOB.digest).read_bytes()
    assert raw[PIECE : 2 * PIECE] == bytes(PIECE)


def test_a_whole_blob_misses_nothing(store: BlobStore) -> None:
    store_blob(store, BLOB)
    with store.begin(BLOB.ref, BLOB.table) as partial:
        assert partial.missing() == []
        assert partial.write_pieces(0, BLOB.piece(0)) == []
        assert partial.read(0, 9) == BLOB.data[:9]
        partial.finish()
    assert store.path(BLOB.digest).read_bytes() == BLOB.data


def test_a_table_of_another_blob_is_refused(store: BlobStore) -> None:
    with pytest.raises(ValueError, match="does not fit"):
        store.begin(BLOB.ref, make_blob(3 * PIECE).table)


def test_resume_after_closing(tmp_path: Path) -> None:
    root = tmp_path / "edge"
    with opened_store(root) as store, store.begin(BLOB.ref, BLOB.table) as partial:
        partial.write_pieces(0, BLOB.data[: 3 * PIECE])
    with no_leaks(), opened_store(root) as store, store.begin(BLOB.ref, BLOB.table) as partial:
        assert partial.missing() == [3, 4, 5]
        partial.write_pieces(3, BLOB.data[3 * PIECE :])
        partial.finish()
        assert store.load(BLOB.digest) == BLOB.data


def test_a_byte_that_flipped_on_the_disk_is_fetched_again(tmp_path: Path) -> None:
    root = tmp_path / "edge"
    with opened_store(root) as store:
        with store.begin(BLOB.ref, BLOB.table) as partial:
            partial.write_pieces(0, BLOB.data[: 3 * PIECE])
        flip(store.paths.partial(BLOB.digest), PIECE + 77)
        with store.begin(BLOB.ref, BLOB.table) as partial:
            assert partial.missing() == [1, 3, 4, 5]
        # What was found missing stays so for the next run, although the mark was once there.
        with store.begin(BLOB.ref, BLOB.table) as partial:
            assert partial.missing() == [1, 3, 4, 5]


def test_a_power_cut_that_kept_marks_and_lost_bytes(tmp_path: Path) -> None:
    root = tmp_path / "edge"
    with opened_store(root) as store:
        with store.begin(BLOB.ref, BLOB.table) as partial:
            partial.write_pieces(0, BLOB.data[: 3 * PIECE])
        path = store.paths.partial(BLOB.digest)
        os.truncate(path, PIECE)
        with store.begin(BLOB.ref, BLOB.table) as partial:
            assert partial.missing() == [1, 2, 3, 4, 5]
        path.unlink()
        with store.begin(BLOB.ref, BLOB.table) as partial:
            assert partial.missing() == [0, 1, 2, 3, 4, 5]


def test_a_file_without_a_row_is_proved_by_its_table(store: BlobStore) -> None:
    data = bytearray(BLOB.data)
    data[2 * PIECE + 9] ^= 4
    store.paths.partial(BLOB.digest).write_bytes(data)
    assert store.partials() == {BLOB.digest: 0}
    with store.begin(BLOB.ref, BLOB.table) as partial:
        assert partial.missing() == [2]
        partial.write_pieces(2, BLOB.piece(2))
        partial.finish()
    assert store.load(BLOB.digest) == BLOB.data


def test_a_whole_file_without_a_row_is_proved_and_adopted(store: BlobStore) -> None:
    path = store.path(BLOB.digest)
    path.parent.mkdir()
    path.write_bytes(BLOB.data + b"too long")
    with store.begin(BLOB.ref, BLOB.table) as partial:
        assert not path.exists()
        assert partial.missing() == []
        partial.finish()
    assert path.read_bytes() == BLOB.data
    assert store.has(BLOB.digest)


def test_a_rotten_blob_lacks_only_its_rotten_piece(store: BlobStore) -> None:
    store_blob(store, BLOB)
    flip(store.path(BLOB.digest), 3 * PIECE)
    store.mark_rotten(BLOB.digest, [3])
    assert not store.has(BLOB.digest)
    with store.begin(BLOB.ref, BLOB.table) as partial:
        assert partial.missing() == [3]
        partial.write_pieces(3, BLOB.piece(3))
        partial.finish()
    assert store.load(BLOB.digest) == BLOB.data


def test_dropping(store: BlobStore) -> None:
    with store.begin(BLOB.ref, BLOB.table) as partial:
        partial.write_pieces(0, BLOB.piece(0))
        store.drop_partial(BLOB.digest)
        store.drop_partial(BLOB.digest)
        assert store.partials() == {}
        with pytest.raises(StorageError):
            partial.write_pieces(1, BLOB.piece(1))
    with store.begin(BLOB.ref, BLOB.table) as partial:
        assert partial.missing() == [0, 1, 2, 3, 4, 5]


def test_two_users_share_one_partial(store: BlobStore) -> None:
    with store.begin(BLOB.ref, BLOB.table) as one:
        with store.begin(BLOB.ref, BLOB.table) as two:
            assert one is two
        one.write_pieces(0, BLOB.data)
        one.finish()
    assert store.has(BLOB.digest)


def test_two_stores_write_the_same_blob(tmp_path: Path) -> None:
    root = tmp_path / "edge"
    with no_leaks(), opened_store(root) as a, opened_store(root) as b:
        with a.begin(BLOB.ref, BLOB.table) as one, b.begin(BLOB.ref, BLOB.table) as two:
            one.write_pieces(0, BLOB.data)
            two.write_pieces(0, BLOB.data)
            one.finish()
            two.finish()
        assert a.load(BLOB.digest) == b.load(BLOB.digest) == BLOB.data
        assert a.partials() == {}


def test_threads_fill_one_blob_in_any_order(store: BlobStore) -> None:
    blob = make_blob(40 * PIECE + 3, "threads")
    barrier = threading.Barrier(4)

    def work(seed: int) -> None:
        order = list(range(len(blob.table)))
        random.Random(seed).shuffle(order)
        with store.begin(blob.ref, blob.table) as partial:
            barrier.wait(10)
            for n in order[:25]:
                assert partial.write_pieces(n, blob.piece(n)) == []
            barrier.wait(20)
            for n in partial.missing():
                partial.write_pieces(n, blob.piece(n))
            partial.finish()

    with ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(work, seed) for seed in range(4)]:
            done.result(30)
    assert store.load(blob.digest) == blob.data


@pytest.mark.parametrize(
    ("point", "missing"),
    [
        ("partial:allocated", [0, 1, 2, 3, 4, 5]),
        ("partial:written", [0, 1, 2, 3, 4, 5]),
        ("partial:marked", [2, 3, 4, 5]),
    ],
)
def test_killed_while_writing_loses_only_what_was_in_flight(tmp_path: Path, point: str, missing: list[int]) -> None:
    run_killed(WRITE, tmp_path / "edge", point)
    with opened_store(tmp_path / "edge") as store, store.begin(BLOB.ref, BLOB.table) as partial:
        # A file that the index did not know yet is proved by the table; nothing of it is lost either.
        assert partial.missing() == missing
        partial.write_pieces(0, BLOB.data)
        partial.finish()
        assert store.load(BLOB.digest) == BLOB.data


@pytest.mark.parametrize("point", ["finish:synced", "finish:renamed", "finish:indexed"])
def test_killed_while_finishing_loses_nothing(tmp_path: Path, point: str) -> None:
    run_killed(FINISH, tmp_path / "edge", point)
    with opened_store(tmp_path / "edge") as store:
        assert store.has(BLOB.digest) == (point != "finish:synced")
        with store.begin(BLOB.ref, BLOB.table) as partial:
            assert partial.missing() == []
            partial.finish()
        assert store.load(BLOB.digest) == BLOB.data
        assert store.partials() == {}


def test_killed_while_a_rotten_blob_becomes_partial(tmp_path: Path) -> None:
    root = tmp_path / "edge"
    with opened_store(root) as store:
        store_blob(store, BLOB)
        flip(store.path(BLOB.digest), 3 * PIECE)
        store.mark_rotten(BLOB.digest, [3])
    run_killed(WRITE, root, "partial:demoted")
    with opened_store(root) as store:
        assert not store.has(BLOB.digest)
        with store.begin(BLOB.ref, BLOB.table) as partial:
            assert partial.missing() == [3]


def test_a_full_index_loses_nothing_that_was_renamed(store: BlobStore, monkeypatch: pytest.MonkeyPatch) -> None:
    with store.begin(BLOB.ref, BLOB.table) as partial:
        partial.write_pieces(0, BLOB.data)
        with monkeypatch.context() as patch:
            patch.setattr("edge.store.partial.insert_blob", _full)
            with pytest.raises(StorageFullError):
                partial.finish()
        assert not store.has(BLOB.digest)
        partial.finish()
    assert store.load(BLOB.digest) == BLOB.data


def _full(*_: object) -> None:
    error = sqlite3.OperationalError("database or disk is full")
    error.sqlite_errorcode = sqlite3.SQLITE_FULL
    raise error


def test_what_is_urgent_may_use_the_reserve(tmp_path: Path) -> None:
    with no_leaks(), opened_store(tmp_path / "edge", reserve_bytes=1 << 60) as store:
        with pytest.raises(StorageFullError):
            store.begin(BLOB.ref, BLOB.table)
        with store.begin(BLOB.ref, BLOB.table, urgent=True) as partial:
            partial.write_pieces(0, BLOB.data)
            partial.finish()
        assert store.load(BLOB.digest) == BLOB.data


def test_a_full_disk_is_told_before_any_byte_is_fetched(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", "3m") as root, opened_store(root) as store:
        small = make_blob(1000)
        store.put(small.ref, small.data)
        big = make_blob(60 * PIECE, "big")
        with no_leaks(), pytest.raises(StorageFullError):
            store.begin(big.ref, big.table)
        assert store.partials() == {}
        assert store.load(small.digest) == small.data
        fits = make_blob(4 * PIECE, "fits")
        store_blob(store, fits)
        assert store.load(fits.digest) == fits.data


def _fill(store: BlobStore) -> None:
    for n in range(1000):
        blob = make_blob(PIECE, n)
        store.put(blob.ref, blob.data)


def test_a_disk_that_fills_up_keeps_what_is_here_readable(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", "4m") as root, opened_store(root) as store:
        kept = make_blob(1000)
        store.put(kept.ref, kept.data)
        with pytest.raises(StorageFullError):
            _fill(store)
        assert store.load(kept.digest) == kept.data
        assert list(store.paths.tmp.iterdir()) == []
        with opened_store(root, read_only=True) as reader:
            assert reader.load(kept.digest) == kept.data
        store.delete([digest for digest in store.digests() if digest != kept.digest])
        store_blob(store, BLOB)
        assert store.load(BLOB.digest) == BLOB.data
