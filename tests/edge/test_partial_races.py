"""Two processes at one begun blob: whoever finishes or drops it, no file is called whole that is not."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.edge_store import PIECE, make_blob, opened_store, run_code

from edge.store.partial import DroppedError

BLOB = make_blob(5 * PIECE + 100, "raced")
_OTHER = (
    "BLOB = make_blob(5 * PIECE + 100, 'raced')\n"
    "with BlobStore.open(paths) as store:\n"
    "    {drop}\n"
    "    with store.begin(BLOB.ref, BLOB.table) as partial:\n"
    "        partial.write_pieces({first}, BLOB.data[{first} * PIECE:{stop} * PIECE])\n"
    "        {finish}\n"
)


def other(root: Path, *, drop: bool = False, first: int = 0, stop: int = 6, finish: bool = False) -> None:
    """Another process writes pieces of the blob."""
    acts = {
        "drop": "store.drop_partial(BLOB.digest)" if drop else "pass",
        "finish": "partial.finish()" if finish else "",
    }
    done = run_code(_OTHER.format(first=first, stop=stop, **acts), root)
    assert done.returncode == 0, done.stderr


def test_another_process_finishes_it(tmp_path: Path) -> None:
    with opened_store(tmp_path) as store, store.begin(BLOB.ref, BLOB.table) as partial:
        partial.write_pieces(0, BLOB.piece(0))
        other(tmp_path, finish=True)
        before = store.path(BLOB.digest).stat()
        assert partial.write_pieces(1, BLOB.piece(1)) == []
        assert partial.is_whole
        assert partial.missing() == []
        partial.finish()
        assert partial.identity == (before.st_dev, before.st_ino)
        assert store.path(BLOB.digest).stat().st_mtime_ns == before.st_mtime_ns, "viewers are sent from it"
        assert store.load(BLOB.digest) == BLOB.data


def test_another_process_brings_pieces(tmp_path: Path) -> None:
    with opened_store(tmp_path) as store, store.begin(BLOB.ref, BLOB.table) as partial:
        other(tmp_path, first=2, stop=4)
        assert partial.look(0, 2) == [2]
        assert partial.look(0, 5) == [3]
        assert partial.missing() == [0, 1, 4, 5]
        assert partial.read(2 * PIECE, 4 * PIECE) == BLOB.data[2 * PIECE : 4 * PIECE]


@pytest.mark.parametrize("finish", [False, True])
def test_another_process_drops_it_and_begins_anew(tmp_path: Path, finish: bool) -> None:
    """The record has the same number and the file the same name: only the file's identity tells."""
    with opened_store(tmp_path) as store, store.begin(BLOB.ref, BLOB.table) as partial:
        partial.write_pieces(0, BLOB.data[: 5 * PIECE])
        other(tmp_path, drop=True, first=0, stop=6 if finish else 1, finish=finish)
        with pytest.raises(DroppedError):
            partial.write_pieces(5, BLOB.piece(5))
    with opened_store(tmp_path) as store:
        assert store.has(BLOB.digest) is finish
        with store.begin(BLOB.ref, BLOB.table) as partial:
            assert partial.missing() == ([] if finish else [1, 2, 3, 4, 5])


def test_all_proved_but_dropped_is_not_called_whole(tmp_path: Path) -> None:
    with opened_store(tmp_path) as store, store.begin(BLOB.ref, BLOB.table) as partial:
        partial.write_pieces(0, BLOB.data)
        other(tmp_path, drop=True, first=0, stop=1)
        with pytest.raises(DroppedError):
            partial.finish()
        assert not store.has(BLOB.digest)
        assert not store.path(BLOB.digest).exists()
