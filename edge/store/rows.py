"""The index's rows, written in one place: the store, the library and the rebuilding all use these.

Each function works within a transaction of its caller.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping, Sequence

import msgspec

from edge.store.disk import mark_of
from manifests.digests import Digest
from manifests.model import Courseware
from manifests.pieces import BlobRef

# Whole, and without a known rotten piece: the only blobs that may leave this machine.
SERVABLE = "FROM blobs WHERE digest = ? AND NOT EXISTS (SELECT 1 FROM rot WHERE rot.digest = blobs.digest)"

_ENCODER = msgspec.json.Encoder(order="sorted")


def bump(db: sqlite3.Connection) -> None:
    """Let every reader's change token differ."""
    db.execute(
        "INSERT INTO meta VALUES ('change', CAST('1' AS BLOB)) "
        "ON CONFLICT (key) DO UPDATE SET value = CAST(CAST(value AS INTEGER) + 1 AS BLOB)"
    )


def set_meta(db: sqlite3.Connection, key: str, value: bytes) -> None:
    """Keep a small value, its mark in front."""
    db.execute(
        "INSERT INTO meta VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value",
        (key, mark_of(value) + value),
    )


def insert_blob(db: sqlite3.Connection, ref: BlobRef, marks: bytes | bytearray) -> None:
    """Call a blob whole; what was known before of this name (rot, pieces) is forgotten."""
    drop_blob(db, ref.digest)
    db.execute("DELETE FROM partials WHERE digest = ?", (ref.digest,))
    db.execute(
        "INSERT INTO blobs (digest, size, piece_size, piece_table) VALUES (?, ?, ?, ?)",
        (ref.digest, ref.size, ref.piece_size, ref.table),
    )
    db.execute("INSERT INTO marks VALUES (?, ?)", (ref.digest, bytes(marks)))


def drop_blob(db: sqlite3.Connection, digest: Digest) -> None:
    """Forget a whole blob with its marks and rot."""
    db.execute("DELETE FROM blobs WHERE digest = ?", (digest,))


def insert_partial(db: sqlite3.Connection, ref: BlobRef) -> int:
    """Begin the record of a blob whose pieces come in; returns its row."""
    drop_blob(db, ref.digest)
    db.execute("DELETE FROM partials WHERE digest = ?", (ref.digest,))
    cursor = db.execute(
        "INSERT INTO partials (digest, size, piece_size, piece_table) VALUES (?, ?, ?, ?)",
        (ref.digest, ref.size, ref.piece_size, ref.table),
    )
    return cursor.lastrowid or 0


def insert_pieces(db: sqlite3.Connection, row: int, marks: Mapping[int, bytes]) -> None:
    """Mark proved pieces of a partial."""
    db.executemany("INSERT OR REPLACE INTO pieces VALUES (?, ?, ?)", ((row, n, mark) for n, mark in marks.items()))


def insert_catalog(db: sqlite3.Connection, version: int, ref: BlobRef) -> None:
    """Record a kept catalog."""
    db.execute(
        "INSERT OR REPLACE INTO catalogs (digest, version, size, piece_size, piece_table) VALUES (?, ?, ?, ?, ?)",
        (ref.digest, version, ref.size, ref.piece_size, ref.table),
    )


def encode(value: object) -> bytes:
    """One text per value: keys sorted, defaults left out, as in a catalog."""
    return _ENCODER.encode(value)


def digests_of(item: Courseware) -> set[str]:
    """Blobs that a courseware needs: its files and their piece tables."""
    return {file.blob for file in item.files} | {file.table for file in item.files if file.table is not None}


def put_items(db: sqlite3.Connection, items: Sequence[Courseware]) -> None:
    """Install or replace courseware."""
    drop_items(db, [item.id for item in items])
    docs = [encode(item) for item in items]
    db.executemany(
        "INSERT INTO courseware VALUES (?, ?, ?)",
        ((item.id, item.version, mark_of(doc)) for item, doc in zip(items, docs, strict=True)),
    )
    db.executemany("INSERT INTO docs VALUES (?, ?)", zip((item.id for item in items), docs, strict=True))
    # Sorted, so that the tree of refs is filled from one end to the other and not at random.
    db.executemany(
        "INSERT INTO refs VALUES (?, ?)", sorted((digest, item.id) for item in items for digest in digests_of(item))
    )


def drop_items(db: sqlite3.Connection, ids: Iterable[str]) -> None:
    """Remove courseware; unknown ids are passed over."""
    for one in ids:
        row = db.execute("SELECT doc FROM docs WHERE id = ?", (one,)).fetchone()
        if row is None:
            continue
        try:
            old = msgspec.json.decode(row[0], type=Courseware)
        except (msgspec.DecodeError, UnicodeDecodeError):  # a damaged row must not be in the way of its own removal
            db.execute("DELETE FROM refs WHERE id = ?", (one,))
        else:
            db.executemany("DELETE FROM refs WHERE digest = ? AND id = ?", ((ref, one) for ref in digests_of(old)))
        db.execute("DELETE FROM courseware WHERE id = ?", (one,))
