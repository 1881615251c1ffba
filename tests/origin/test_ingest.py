"""Ingest: one read, all digests, nothing left behind."""

import asyncio
import hashlib
import os
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.small_disk import small_disk
from support.storage_contract import collect, store_bytes

from manifests.digests import digest_of
from manifests.errors import InputError, StorageFullError
from manifests.pieces import PIECE_SIZE, parse_table
from manifests.ranges import ByteRange
from origin.publish.ingest import BUFFER_BYTES, _stage, ingest
from origin.publish.source import Reader, Source, file_source, stamp_of
from origin.publish.workspace import open_workspace
from origin.storage.local import LocalStorage


@pytest.fixture
def storage(tmp_path):
    return LocalStorage(tmp_path / "blobs")


@pytest.fixture
def staging(tmp_path):
    path = tmp_path / "staging"
    path.mkdir()
    return path


def make_file(path: Path, data: bytes) -> Source:
    path.write_bytes(data)
    return file_source(path, stamp_of(path))


@pytest.mark.parametrize(
    "size",
    [1, PIECE_SIZE - 1, PIECE_SIZE, PIECE_SIZE + 1, 3 * PIECE_SIZE, BUFFER_BYTES, 6 * BUFFER_BYTES + 12345],
)
async def test_digest_table_and_bytes(tmp_path, storage, staging, size):
    data = os.urandom(size)
    seen: list[tuple[str, int, int]] = []
    ref = await ingest(make_file(tmp_path / "a.mp4", data), storage, staging, lambda *step: seen.append(step))
    assert (ref.digest, ref.size, ref.piece_size) == (hashlib.sha256(data).hexdigest(), size, PIECE_SIZE)
    assert await collect(storage, ref.digest, 0, size) == data
    assert (ref.table is not None) == (size > PIECE_SIZE)
    if ref.table_ref is not None:
        raw = await collect(storage, ref.table_ref.digest, 0, ref.table_ref.size)
        assert digest_of(raw) == ref.table
        table = parse_table(raw, size, PIECE_SIZE)
        for n in range(len(table)):
            table.check_piece(n, data[slice(*table.bounds(n))])
    assert list(staging.iterdir()) == []
    assert seen[-1] == ("a.mp4", size, size)


async def test_a_virtual_file_is_read_in_its_own_order(tmp_path, storage, staging):
    path = tmp_path / "a.mp4"
    path.write_bytes(b"0123456789")
    source = Source("a.mp4", (b"head", ByteRange(6, 10), b"mid", ByteRange(0, 3)), path, stamp_of(path))
    ref = await ingest(source, storage, staging)
    assert await collect(storage, ref.digest, 0, ref.size) == b"head6789mid012"


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(
    parts=st.lists(
        st.one_of(
            st.binary(min_size=1, max_size=40),
            st.tuples(st.integers(0, 99), st.integers(1, 100)).map(lambda t: ByteRange(t[0], min(t[0] + t[1], 100))),
        ),
        min_size=1,
        max_size=8,
    ),
    buffer=st.integers(1, 33),
)
def test_a_reader_gives_its_parts_end_to_end(tmp_path, parts, buffer):
    path = tmp_path / "file"
    if not path.exists():
        path.write_bytes(bytes(range(100)))
    data = path.read_bytes()
    wanted = b"".join(part if isinstance(part, bytes) else data[part.start : part.stop] for part in parts)
    got = bytearray()
    with Reader(Source("x", tuple(parts), path, stamp_of(path))) as reader:
        while count := reader.readinto(memoryview(portion := bytearray(buffer))):
            got += portion[:count]
    assert bytes(got) == wanted


async def test_store_bytes(storage, staging):
    ref = await store_bytes(storage, staging, b"catalog")
    assert ref.table is None
    assert await collect(storage, ref.digest, 0, 7) == b"catalog"
    with pytest.raises(InputError):
        await store_bytes(storage, staging, b"")


def test_what_cannot_be_a_source(tmp_path):
    (tmp_path / "empty").touch()
    os.mkfifo(tmp_path / "pipe")
    for path in (
        tmp_path / "empty",
        tmp_path / "missing",
        tmp_path,
        tmp_path / "pipe",
        Path("nul\0"),
        Path("/dev/zero"),
    ):
        with pytest.raises(InputError) as error:
            stamp_of(path)
        assert error.value.zh != error.value.message


def meddle(path: Path, how: str) -> None:
    if how == "append":
        with path.open("ab") as file:
            file.write(b"x")
    elif how == "truncate":
        os.truncate(path, path.stat().st_size // 2)
    elif how == "rewrite":
        with path.open("r+b") as file:
            file.write(b"y")
        os.utime(path, ns=(1, 1))


@pytest.mark.parametrize("how", ["append", "truncate", "rewrite"])
async def test_a_source_changed_before_it_is_read_is_refused(tmp_path, storage, staging, how):
    source = make_file(tmp_path / "a.mp4", os.urandom(1000))
    meddle(tmp_path / "a.mp4", how)
    with pytest.raises(InputError, match="changed"):
        await ingest(source, storage, staging)
    assert list(staging.iterdir()) == []
    assert not list((tmp_path / "blobs").rglob("*"))


@pytest.mark.parametrize("how", ["append", "truncate", "rewrite"])
def test_a_source_changed_while_it_is_read_is_refused(tmp_path, staging, how):
    path = tmp_path / "a.mp4"
    source = make_file(path, os.urandom(6 * BUFFER_BYTES))
    done: list[int] = []

    def report(count: int) -> None:  # on the reading thread, between two portions
        if not done:
            meddle(path, how)
        done.append(count)

    with pytest.raises(InputError, match="changed"):
        _stage(source, staging, threading.Event(), report)
    assert done
    assert list(staging.iterdir()) == []


async def test_cancelling_leaves_nothing(tmp_path, storage, staging):
    source = make_file(tmp_path / "a.mp4", os.urandom(8 * BUFFER_BYTES))
    begun = asyncio.Event()
    task = asyncio.create_task(ingest(source, storage, staging, lambda *_: begun.set()))
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert list(staging.iterdir()) == []


async def test_a_full_disk_is_known_before_the_first_byte(tmp_path):
    source = make_file(tmp_path / "a.mp4", os.urandom(3 * 1024 * 1024))
    with small_disk(tmp_path / "disk", "2m") as disk:
        (disk / "staging").mkdir()
        progress: list[int] = []
        with pytest.raises(StorageFullError):
            await ingest(
                source, LocalStorage(disk / "blobs"), disk / "staging", lambda _, done, __: progress.append(done)
            )
        assert list((disk / "staging").iterdir()) == []
        assert not list((disk / "blobs").rglob("*"))
        assert progress == []


async def test_no_room_for_the_table_leaves_no_staging(tmp_path):
    size = 2 * 1024 * 1024 - 4096 * 3  # blob, and directories, but not a table of one more page
    source = make_file(tmp_path / "a.mp4", os.urandom(size))
    with small_disk(tmp_path / "disk", "2m") as disk:
        (disk / "staging").mkdir()
        (disk / "filler").write_bytes(bytes(4096 * 3))
        with pytest.raises(StorageFullError):
            await ingest(source, LocalStorage(disk / "blobs"), disk / "staging")
        assert list((disk / "staging").iterdir()) == []


async def test_memory_does_not_grow_with_the_file(tmp_path):
    """256 sparse MiB in a child process: its peak is buffers and interpreter, whatever the size."""
    script = textwrap.dedent(
        """
        import asyncio, sys
        from pathlib import Path
        from origin.publish.ingest import ingest
        from origin.publish.source import file_source, stamp_of

        class Nowhere:
            async def put(self, staged, digest, size): staged.unlink()

        root = Path(sys.argv[1]); path = root / "big"
        with path.open("wb") as file: file.truncate(256 << 20)
        asyncio.run(ingest(file_source(path, stamp_of(path)), Nowhere(), root))
        # Not getrusage: its peak is inherited from the process that this one was forked from.
        print(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1])
        """
    )
    result = subprocess.run([sys.executable, "-c", script, tmp_path], capture_output=True, text=True, check=True)
    assert int(result.stdout) < 120 * 1024


def test_what_a_killed_process_left_is_swept_and_what_a_living_one_has_is_not(tmp_path):
    script = textwrap.dedent(
        """
        import os, sys
        from pathlib import Path
        from origin.publish.workspace import open_workspace

        with open_workspace(Path(sys.argv[1])) as own:
            (own / "half").write_bytes(b"half a lesson")
            print(own, flush=True)
            sys.stdin.read()
        """
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, tmp_path], stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True
    ) as child:
        theirs = Path(child.stdout.readline().strip())
        with open_workspace(tmp_path) as own:
            assert (theirs / "half").exists()
            assert own != theirs
        assert not own.exists()
        child.kill()
        child.wait()
        assert (theirs / "half").exists()
        with open_workspace(tmp_path):
            assert not theirs.exists()
