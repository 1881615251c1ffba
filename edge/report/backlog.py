"""How much waits in the outbox, for those who only look: nothing is made, changed or locked by it."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import msgspec

from manifests.instants import Instant

# Reports that wait longer than a line is commonly down are a matter for somebody.
LATE_S = 3 * 86400


class Backlog(NamedTuple):
    """Reports that the province has not received yet.

    Attributes:
        oldest_at: of when the first of them is; None when none waits.
    """

    waiting: int
    oldest_at: Instant | None

    def is_late(self, now: Instant) -> bool:
        """Whether the first has waited for longer than a broken line explains."""
        return self.oldest_at is not None and now - self.oldest_at > LATE_S


def read_backlog(path: Path) -> Backlog | None:
    """What waits in the outbox at `path`; none before there is one, and None when it cannot be read."""
    if not path.exists():
        return Backlog(0, None)
    # While somebody has it open there is a log beside it, which must be read too; a reader that makes one cannot remove
    # it again.
    how = "mode=ro" if path.with_name(f"{path.name}-wal").exists() else "immutable=1"
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?{how}", uri=True, timeout=2)) as db:
            row = db.execute("SELECT value FROM meta WHERE key = 'received'").fetchone()
            received = msgspec.json.decode(row[0], type=int) if row else 0
            waiting = db.execute("SELECT count(*) FROM reports WHERE number > ?", (received,)).fetchone()[0]
            first = db.execute(
                "SELECT at FROM reports WHERE number > ? ORDER BY number LIMIT 1", (received,)
            ).fetchone()
    except (sqlite3.Error, msgspec.DecodeError):
        return None  # the next report puts a damaged outbox aside and says so
    return Backlog(waiting, Instant(first[0]) if first else None)
