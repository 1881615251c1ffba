"""Blobs that are begun, as processes that only read see them: which pieces are proved, and their bytes.

The writer works in another process, so the index is asked: a marked piece is on the disk, and is never written again
while the blob is partial. Marks are compared before a byte is given out, because a power cut may keep a mark and lose
the bytes.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

from edge.store.blobs import BlobStore
from edge.store.disk import mark_of, read_readable
from edge.store.faults import storage_faults
from edge.store.rows import SERVABLE
from manifests.digests import Digest
from manifests.errors import NotFoundError
from manifests.pieces import BlobRef, dump_bits, piece_count

# Work and waiting of one answer stay bounded; no edge asks for more in one request (`upstream.span_pieces`).
MOST_PIECES = 256


@dataclass(frozen=True, slots=True)
class Begun:
    """A blob of which pieces are missing; `row` is its record in the index."""

    row: int
    ref: BlobRef


def find_begun(store: BlobStore, digest: Digest) -> Begun | None:
    """The begun blob of that name; None when it is whole or unknown.

    Raises:
        StorageError: environment.
    """
    rows = store.index.read("SELECT id, size, piece_table, piece_size FROM partials WHERE digest = ?", (digest,))
    for row, size, table, piece_size in rows:
        return Begun(row, BlobRef(digest, size, Digest(table) if table else None, piece_size))
    return None


def open_begun(store: BlobStore, begun: Begun, wanted: Sequence[range]) -> int:
    """Open a begun blob for reading, once the wanted pieces were found marked and on the disk as marked.

    Args:
        store: where.
        begun: which.
        wanted: numbers of the pieces that will be read.

    Returns:
        A descriptor that the caller closes.

    Raises:
        NotFoundError: environment; a piece is not proved yet, or more than `MOST_PIECES` are wanted.
        StorageError: environment.
    """
    what = f"blob {begun.ref.digest[:16]}"
    if sum(map(len, wanted)) > MOST_PIECES:
        raise NotFoundError(f"{what}: more than {MOST_PIECES} pieces are given out only when it is whole")
    try:
        file = os.open(store.paths.partial(begun.ref.digest), os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError as error:  # finished or dropped just now
        raise NotFoundError(f"{what} is not begun any more") from error
    try:
        for numbers in wanted:
            _check_marks(store, begun, file, numbers)
    except BaseException:  # whatever it was, the descriptor is ours until the caller has it
        os.close(file)
        raise
    return file


def proved_bits(store: BlobStore, digest: Digest) -> bytes | None:
    """One bit for each piece, set when it is proved here; None for a blob that is neither whole nor begun.

    Raises:
        StorageError: environment.
    """
    with store.index.snapshot() as db:
        for size, piece_size in db.execute(f"SELECT size, piece_size {SERVABLE}", (digest,)):
            count = piece_count(size, piece_size)
            return dump_bits(range(count), count)
        for row, size, piece_size in db.execute(
            "SELECT id, size, piece_size FROM partials WHERE digest = ?", (digest,)
        ):
            found = db.execute("SELECT piece FROM pieces WHERE partial = ?", (row,))
            return dump_bits((n for (n,) in found), piece_count(size, piece_size))
    return None


def _check_marks(store: BlobStore, begun: Begun, file: int, numbers: range) -> None:
    found = store.index.read(
        "SELECT piece, mark FROM pieces WHERE partial = ? AND piece BETWEEN ? AND ?",
        (begun.row, numbers.start, numbers.stop - 1),
    )
    size = begun.ref.piece_size
    with storage_faults(f"reading blob {begun.ref.digest[:16]}", f"读取数据块 {begun.ref.digest[:16]}"):
        is_proved = len(found) == len(numbers) and all(
            mark_of(read_readable(file, n * size, min((n + 1) * size, begun.ref.size))) == mark for n, mark in found
        )
    if not is_proved:
        raise NotFoundError(f"pieces {numbers.start}-{numbers.stop - 1} of blob {begun.ref.digest[:16]} are not here")
