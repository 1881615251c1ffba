"""The index lost or damaged in every way: what is on the disk is proved again and plays on."""

from __future__ import annotations

import os
import sqlite3
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from support.edge_store import (
    COLUMNS,
    PIECE,
    flip,
    install,
    make_blob,
    make_catalog,
    make_item,
    no_leaks,
    opened_store,
    recall_of,
    run_code,
    run_killed,
    store_blob,
)
from support.small_disk import small_disk

from edge.paths import Paths
from edge.store.blobs import BlobStore
from edge.store.disk import mark_of
from edge.store.library import Library
from edge.store.quarantine import MAX_FILES, quarantine
from edge.store.schema import GENERATION
from manifests.errors import BusyError, ConfigurationError, StorageDamagedError

VIDEO = make_blob(3 * PIECE + 5, "video")
NEWER = make_blob(4 * PIECE, "newer")
POSTER = make_blob(300, "poster")
ONE = make_item("kj-1", VIDEO, POSTER)
TWO = make_item("kj-2", POSTER)


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    """An edge with two courseware, a partial with two proved pieces, and everything closed."""
    with no_leaks(), opened_store(tmp_path / "edge") as store:
        for blob in (VIDEO, POSTER):
            store_blob(store, blob)
        two = make_item("kj-2", NEWER, version=2)
        install(store, Library(store), 1, ONE, TWO)
        install(store, Library(store), 2, ONE, offered=(ONE, two))
        assert NEWER.ref.table_ref
        store.put(NEWER.ref.table_ref, NEWER.table_data)
        with store.begin(NEWER.ref, NEWER.table) as partial:
            partial.write_pieces(1, NEWER.data[PIECE : 3 * PIECE])
    return Paths(tmp_path / "edge")


def _delete(paths: Paths) -> None:
    paths.index.unlink()


def _cut(paths: Paths) -> None:
    os.truncate(paths.index, paths.index.stat().st_size // 2 + 100)


def _empty(paths: Paths) -> None:
    os.truncate(paths.index, 0)


def _scribble(paths: Paths) -> None:
    with paths.index.open("r+b") as file:
        for at in range(100, paths.index.stat().st_size, 4096):
            file.seek(at)
            file.write(b"rust" * 20)


def _replace(paths: Paths) -> None:
    paths.index.write_bytes(b"not a database at all" * 1000)


def _foreign(paths: Paths) -> None:
    db = sqlite3.connect(paths.index)
    db.execute(f"PRAGMA user_version = {GENERATION + 1}")
    db.close()


def _garbage_wal(paths: Paths) -> None:
    _scribble(paths)
    paths.index.with_name("index.sqlite-wal").write_bytes(os.urandom(50_000))


HURTS: list[Callable[[Paths], None]] = [_delete, _cut, _empty, _scribble, _replace, _foreign, _garbage_wal]


@pytest.mark.parametrize("hurt", HURTS)
@pytest.mark.parametrize("read_only", [False, True])
def test_an_index_lost_or_damaged_is_made_again(paths: Paths, hurt: Callable[[Paths], None], read_only: bool) -> None:
    hurt(paths)
    with no_leaks(), opened_store(paths.root, read_only=read_only) as store:
        library = Library(store)
        # kj-2 is incomplete in its newest version: the older kept catalog has it whole.
        assert library.installed() == {"kj-1": ONE, "kj-2": TWO}
        assert (library.catalog_version(), library.columns()) == (2, COLUMNS)
        assert [one.version for one in library.catalogs()] == [2, 1]
        assert store.load(VIDEO.digest) == VIDEO.data
        assert store.ref(VIDEO.digest) == VIDEO.ref
        assert library.unreferenced() == set()
        assert store.partials() == {NEWER.digest: 2 * PIECE}
    assert paths.root.joinpath("index.sqlite.damaged-1").exists() == (hurt is not _delete)


def test_the_rebuilt_index_works_on(paths: Paths) -> None:
    _delete(paths)
    with opened_store(paths.root) as store:
        library = Library(store)
        with store.begin(NEWER.ref, NEWER.table) as partial:
            assert partial.missing() == [0, 3]
            partial.write_pieces(0, NEWER.data)
            partial.finish()
        two = make_item("kj-2", NEWER, version=2)
        install(store, library, 2, two, offered=(ONE, two))
        assert library.versions() == {"kj-1": 1, "kj-2": 2}
        marks = store.index.read("SELECT marks FROM marks WHERE digest = ?", (VIDEO.digest,))[0][0]
        assert marks == b"".join(mark_of(VIDEO.piece(n)) for n in range(4))


def test_only_one_damaged_index_is_kept(paths: Paths) -> None:
    for _ in range(3):
        _replace(paths)
        opened = BlobStore.open(paths)
        opened.close()
    names = {path.name for path in paths.root.glob("index.sqlite.damaged-*")}
    assert names - {"index.sqlite.damaged-3-wal"} == {"index.sqlite.damaged-3"}


def test_a_blob_that_rotted_meanwhile_is_not_named_whole(paths: Paths) -> None:
    flip(paths.blob(VIDEO.digest), PIECE + 3)
    (paths.blobs / "ab").mkdir(exist_ok=True)
    (paths.blobs / "ab" / "notes.txt").write_text("what is this doing here")
    _delete(paths)
    with opened_store(paths.root) as store:
        library = Library(store)
        assert not store.has(VIDEO.digest)
        assert not paths.blob(VIDEO.digest).exists()
        assert [path.name for path in paths.quarantine.iterdir()] == ["notes.txt"]
        assert library.installed() == {"kj-2": TWO}
        with store.begin(VIDEO.ref, VIDEO.table) as partial:
            assert partial.missing() == [1], "its good pieces are kept"
        store_blob(store, VIDEO)
        install(store, library, 2, ONE, offered=(ONE, TWO))
        assert store.load(VIDEO.digest) == VIDEO.data


def test_what_cannot_be_read_does_not_stop_the_rebuilding(paths: Paths) -> None:
    for path in (paths.blob(POSTER.digest), paths.partial(NEWER.digest), paths.catalogs):
        path.unlink()
        path.mkdir()
        (path / "x").touch()
    _delete(paths)
    with opened_store(paths.root) as store:
        assert store.has(VIDEO.digest)
        assert not store.has(POSTER.digest)
        store_blob(store, POSTER)


def test_quarantine_is_bounded(paths: Paths) -> None:
    for n in range(MAX_FILES + 5):
        path = paths.tmp / f"{n:064x}"
        path.write_bytes(b"x")
        quarantine(paths, path)
    assert len(list(paths.quarantine.iterdir())) == MAX_FILES
    assert (paths.quarantine / f"{MAX_FILES + 4:064x}").exists()


def test_a_recalled_courseware_does_not_come_back(paths: Paths) -> None:
    with opened_store(paths.root) as store:
        install(store, Library(store), 3, ONE, removed=("kj-2",), recalls=(recall_of("kj-2"),))
    _delete(paths)
    with opened_store(paths.root) as store:
        assert Library(store).installed() == {"kj-1": ONE}
        assert Library(store).recalls() == (recall_of("kj-2"),)


def test_without_breadcrumb_the_blobs_are_still_proved(paths: Paths) -> None:
    _delete(paths)
    paths.catalogs.write_text("{")
    with opened_store(paths.root) as store:
        assert Library(store).installed() == {}
        assert store.load(VIDEO.digest) == VIDEO.data
        install(store, Library(store), 2, ONE, offered=(ONE, TWO))


def test_a_damaged_newest_catalog_leaves_the_one_before(paths: Paths) -> None:
    with opened_store(paths.root) as store:
        newest = Library(store).catalogs()[0]
    flip(paths.blob(newest.ref.digest), 50)
    _delete(paths)
    with opened_store(paths.root) as store:
        assert Library(store).catalog_version() == 1
        assert set(Library(store).installed()) == {"kj-1", "kj-2"}


def test_damage_met_while_running_is_mended_at_the_next_opening(paths: Paths) -> None:
    with opened_store(paths.root) as store:
        Library(store).versions()
        store.index.suspect()
    with opened_store(paths.root) as store:
        assert not paths.index_suspect.exists()
        assert Library(store).installed() == {"kj-1": ONE, "kj-2": TWO}


@pytest.mark.parametrize("point", ["rebuild:proved", "rebuild:aside"])
def test_killed_while_rebuilding(paths: Paths, point: str) -> None:
    _scribble(paths)
    run_killed("BlobStore.open(paths)", paths.root, point)
    with opened_store(paths.root) as store:
        assert Library(store).installed() == {"kj-1": ONE, "kj-2": TWO}
        assert not paths.index.with_name("index.sqlite.new").exists()


def test_a_reader_moves_to_the_rebuilt_index(paths: Paths) -> None:
    with no_leaks(), opened_store(paths.root, read_only=True) as reader:
        library = Library(reader)
        token = library.change_token()
        paths.index_suspect.touch()
        with opened_store(paths.root) as writer:
            install(writer, Library(writer), 3, ONE, removed=("kj-2",))
        assert library.change_token() != token
        assert library.versions() == {"kj-1": 1}


def test_nobody_rebuilds_under_a_writer(paths: Paths) -> None:
    with opened_store(paths.root):
        paths.index_suspect.touch()
        with no_leaks():
            with pytest.raises(BusyError):
                BlobStore.open(paths, wait_s=0.1)
            with pytest.raises(BusyError):
                BlobStore.open(paths, read_only=True, wait_s=0.1)
    BlobStore.open(paths, wait_s=0.1).close()


def test_several_processes_start_on_a_lost_index(paths: Paths) -> None:
    _delete(paths)
    code = "store = BlobStore.open(paths, read_only=True)\nprint(len(Library(store).versions()))\n"
    root = Path(__file__).resolve().parents[2]
    head = f"from pathlib import Path\nfrom edge.paths import Paths\npaths = Paths(Path({str(paths.root)!r}))\n"
    head += "from edge.store.blobs import BlobStore\nfrom edge.store.library import Library\n"
    workers = [
        subprocess.Popen(
            [os.sys.executable, "-c", head + code],
            cwd=root,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for _ in range(3)
    ]
    outs = [worker.communicate(timeout=60)[0] for worker in workers]
    assert [out.splitlines()[-1] for out in outs] == ["2", "2", "2"], outs


def test_another_layout_is_refused(paths: Paths) -> None:
    paths.generation.write_text("7\n")
    with no_leaks(), pytest.raises(ConfigurationError):
        BlobStore.open(paths)
    paths.generation.write_text("")
    BlobStore.open(paths).close()
    assert paths.generation.read_text() == "1\n"


def test_a_read_only_disk_is_read(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", "8m") as disk:
        with opened_store(disk / "edge") as store:
            store_blob(store, VIDEO)
            store_blob(store, POSTER)
            install(store, Library(store), 1, ONE)
        subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
        with no_leaks(), opened_store(disk / "edge", read_only=True) as store:
            assert store.load(VIDEO.digest) == VIDEO.data
            assert Library(store).installed() == {"kj-1": ONE}
            assert Library(store).change_token() == Library(store).change_token()


def test_a_disk_that_turns_read_only_under_a_reader(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", "8m") as disk:
        code = (
            "import os\nstore = BlobStore.open(paths)\nstore_blob(store, make_blob(300, 'poster'))\n"
            "install(store, Library(store), 1, make_item('kj-2', make_blob(300, 'poster')))\nos._exit(0)\n"
        )
        done = run_code(code, disk / "edge")  # leaves its WAL behind, as a killed process does
        assert done.returncode == 0, done.stderr
        assert (disk / "edge" / "index.sqlite-wal").stat().st_size > 0
        subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
        with no_leaks(), opened_store(disk / "edge", read_only=True) as store:
            assert Library(store).installed() == {"kj-2": TWO}
            with pytest.raises(StorageDamagedError):
                Library(store).install([TWO], (), (), COLUMNS, 1, make_catalog(9)[0])
