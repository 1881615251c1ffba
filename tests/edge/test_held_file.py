"""A descriptor is not closed under the hands of a thread that uses it."""

from __future__ import annotations

import os
import random
import threading
from pathlib import Path

import pytest

from edge.paths import Paths
from edge.store.blobs import BlobStore
from edge.store.held_file import HeldFile
from manifests.digests import digest_of
from manifests.pieces import BlobRef, TableBuilder, parse_table


def is_open(number: int) -> bool:
    return Path(f"/proc/self/fd/{number}").exists()


def test_it_is_closed_when_its_last_user_is_done(tmp_path: Path) -> None:
    number = os.open(tmp_path, os.O_RDONLY)
    held = HeldFile(number)
    with held.use() as first:
        with held.use() as second:
            assert (first, second) == (number, number)
            held.close()
            held.close()
            assert is_open(number)
        assert is_open(number)
    assert not is_open(number)
    with pytest.raises(OSError, match="closed"), held.use():
        pass


def test_a_late_thread_writes_to_no_other_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = random.Random(3).randbytes(600_000)
    builder = TableBuilder()
    builder.update(data)
    table_data = builder.finish()
    ref = BlobRef(digest_of(data), len(data), digest_of(table_data))
    reached, go_on = threading.Event(), threading.Event()

    def slow_write(number: int, piece: memoryview, at: int) -> None:
        reached.set()
        assert go_on.wait(60)
        os.pwrite(number, piece, at)

    monkeypatch.setattr("edge.store.partial.write_at", slow_write)
    with BlobStore.open(Paths(tmp_path / "edge")) as store:
        partial = store.begin(ref, parse_table(table_data, ref.size, ref.piece_size))
        thread = threading.Thread(target=partial.write_pieces, args=(0, data))
        thread.start()
        assert reached.wait(60)
        partial.close()  # its task was cancelled
        others = [os.open(tmp_path / f"other-{n}", os.O_RDWR | os.O_CREAT) for n in range(20)]
        go_on.set()
        thread.join(60)
        assert [os.fstat(other).st_size for other in others] == [0] * 20
        for other in others:
            os.close(other)
