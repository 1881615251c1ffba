"""Transactions of SQLite that end as a whole, for connections that begin none by themselves."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress


@contextmanager
def transaction(db: sqlite3.Connection, *, is_writing: bool = True) -> Iterator[sqlite3.Connection]:
    """One transaction: committed at the end of the block, rolled back when it raises."""
    db.execute("BEGIN IMMEDIATE" if is_writing else "BEGIN")
    try:
        yield db
        db.execute("COMMIT")
    except BaseException:  # whatever ends the block, also a cancelled thread, must not leave it half done
        with suppress(sqlite3.Error):
            db.execute("ROLLBACK")
        raise
