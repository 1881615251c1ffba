"""Blobs, courseware and catalogs made small, and an edge's store under attack."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from edge.paths import Paths
from edge.store.blobs import BlobStore
from edge.store.library import Library
from manifests.catalog import encode_catalog
from manifests.digests import Digest, digest_of
from manifests.model import FORMAT, MAJOR, Catalog, Column, Courseware, File, Recall
from manifests.pieces import MIN_PIECE_SIZE, BlobRef, PieceTable, TableBuilder, parse_table

PIECE = MIN_PIECE_SIZE
ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Made:
    """A blob with its bytes, its table and the table's bytes."""

    data: bytes
    ref: BlobRef
    table: PieceTable
    table_data: bytes

    @property
    def digest(self) -> Digest:
        return self.ref.digest

    def piece(self, n: int) -> bytes:
        return self.data[slice(*self.table.bounds(n))]


def make_blob(size: int, seed: object = 0, piece_size: int = PIECE) -> Made:
    data = random.Random(f"{seed}/{size}").randbytes(size)
    builder = TableBuilder(piece_size)
    builder.update(data)
    table_data = builder.finish()
    table = digest_of(table_data) if size > piece_size else None
    ref = BlobRef(digest_of(data), size, table, piece_size)
    return Made(data, ref, parse_table(table_data, size, piece_size), table_data)


def store_blob(store: BlobStore, blob: Made) -> None:
    """As a sync does: table first, then pieces in spans of three, then finish."""
    if blob.ref.table_ref is None:
        store.put(blob.ref, blob.data)
        return
    store.put(blob.ref.table_ref, blob.table_data)
    with store.begin(blob.ref, blob.table) as partial:
        for first in range(0, len(blob.table), 3):
            start = first * blob.ref.piece_size
            assert partial.write_pieces(first, blob.data[start : start + 3 * blob.ref.piece_size]) == []
        partial.finish()


def make_item(courseware_id: str, *blobs: Made, version: int = 1, title: str = "小麦春季管理") -> Courseware:
    files = tuple(
        File(
            "video" if n == 0 else "poster",
            f"file-{n}.bin",
            "video/mp4",
            blob.digest,
            blob.ref.size,
            blob.ref.table,
            blob.ref.piece_size,
        )
        for n, blob in enumerate(blobs)
    )
    return Courseware(courseware_id, version, title, "video", ("410000",), "2026-11-24T02:56:09Z", files)


def make_catalog(version: int, *items: Courseware, recalls: tuple[Recall, ...] = ()) -> tuple[BlobRef, bytes]:
    catalog = Catalog(
        FORMAT,
        MAJOR,
        "410000",
        version,
        "2026-11-24T02:56:09Z",
        columns=(Column("nongye", "农业技术"),),
        courseware=items,
        recalls=recalls,
    )
    data = encode_catalog(catalog)
    return BlobRef(digest_of(data), len(data)), data


def recall_of(courseware_id: str, version: int = 1) -> Recall:
    return Recall(courseware_id, version, "内容有误", "2026-11-24T02:56:09Z")


COLUMNS = (Column("nongye", "农业技术"),)


def install(
    store: BlobStore,
    library: Library,
    version: int,
    *items: Courseware,
    removed: tuple[str, ...] = (),
    recalls: tuple[Recall, ...] = (),
    offered: tuple[Courseware, ...] | None = None,
) -> BlobRef:
    """Store the catalog and install; `offered` is what the catalog has when it is more than what is installed."""
    whole = offered if offered is not None else items
    ref, data = make_catalog(version, *sorted(whole, key=lambda item: item.id), recalls=recalls)
    store.put(ref, data)
    library.install(items, removed, recalls, COLUMNS, version, ref)
    return ref


def flip(path: Path, offset: int) -> None:
    """Rot: one bit of a file changes without anybody writing it."""
    with path.open("r+b") as file:
        file.seek(offset)
        byte = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([byte ^ 0x10]))


def run_killed(code: str, root: Path, failpoint: str) -> None:
    """Run `code` (with `paths` in scope) in a process that must die at the fail point."""
    done = run_code(code, root, failpoint)
    assert done.returncode == -9, f"{failpoint} was not reached: {done.stderr}"


def run_code(code: str, root: Path, failpoint: str = "") -> subprocess.CompletedProcess[str]:
    head = (
        "from pathlib import Path\nfrom edge.paths import Paths\nfrom edge.store.blobs import BlobStore\n"
        "from edge.store.library import Library\nfrom support.edge_store import *\n"
        f"paths = Paths(Path({str(root)!r}))\n"
    )
    env = {**os.environ, "YUANJIAO_FAILPOINT": failpoint, "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"}
    return subprocess.run(
        [sys.executable, "-c", head + code], env=env, capture_output=True, text=True, timeout=60, check=False
    )


@contextmanager
def no_leaks() -> Iterator[None]:
    """As many descriptors after the block as before."""
    before = _open_files()
    yield
    assert _open_files() == before


def _open_files() -> list[str]:
    found = []
    for fd in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):  # the descriptor of the listing itself
            found.append(str(fd.readlink()))
    return sorted(name for name in found if not name.startswith("/proc/"))


@contextmanager
def opened_store(root: Path, *, reserve_bytes: int = 0, read_only: bool = False) -> Iterator[BlobStore]:
    store = BlobStore.open(Paths(root), reserve_bytes=reserve_bytes, read_only=read_only, wait_s=5)
    try:
        yield store
    finally:
        store.close()
