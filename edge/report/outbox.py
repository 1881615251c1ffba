"""The outbox: reports that the province has not received yet, in a file of its own that survives days without a line.

    append (number given in the same transaction) → unsent, in order → sent, signed as they leave → received → pruned

Numbers rise by one and never come back. A new file begins at the hour of its making (epoch seconds), above all that a
lost one can have given out, and asks the origin before it sends for the first time, in case the clock stood wrong.
Reports that were received are kept for a while: an origin that comes back from a backup asks for them again.

What waits stays bounded: a newer state replaces one that was not sent; above `most_rows` the oldest
runs and hours of watching go first.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, Self

import msgspec
import structlog

from edge.store.faults import index_faults, is_index_damage
from edge.store.transactions import transaction
from manifests.errors import StorageDamagedError
from manifests.instants import Instant
from manifests.model import MAX_INT
from manifests.reports import Kind

GENERATION = 1
KEPT_RECEIVED = 256
MOST_ROWS = 200_000
MOST_BYTES = 64 * 1024 * 1024
# Bounds are looked at once in so many appends: counting reads all that waits.
_LOOK_EVERY = 256

_SCHEMA = f"""
CREATE TABLE IF NOT EXISTS reports (number INTEGER PRIMARY KEY, kind TEXT NOT NULL, at INTEGER NOT NULL,
    body BLOB NOT NULL);
CREATE INDEX IF NOT EXISTS reports_kind ON reports (kind, number);
CREATE TABLE IF NOT EXISTS told (id TEXT PRIMARY KEY NOT NULL, version INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY NOT NULL, value BLOB NOT NULL) WITHOUT ROWID;
PRAGMA user_version = {GENERATION};
"""

log = structlog.get_logger(__name__)


class Waiting(NamedTuple):
    """A report that waits; `after` is the number of the one before it that still stands."""

    number: int
    kind: Kind
    at: Instant
    body: bytes
    after: int


class Outbox:
    """An open outbox; made by `Outbox.open`. Blocking; any thread may call anything here."""

    def __init__(self, db: sqlite3.Connection, most_rows: int, most_bytes: int) -> None:
        self._db = db
        self._lock = threading.RLock()
        self._most_rows = most_rows
        self._most_bytes = most_bytes

    @classmethod
    def open(cls, path: Path, now: Instant, *, most_rows: int = MOST_ROWS, most_bytes: int = MOST_BYTES) -> Self:
        """Open the outbox, made when there is none; a damaged one is put aside and a new one begun.

        Args:
            path: its file.
            now: where the numbers of a new file begin.
            most_rows: reports that may wait.
            most_bytes: bytes of their bodies.

        Raises:
            StorageError: environment.
        """
        with index_faults("opening"):
            try:
                db = _connect(path)
            except sqlite3.Error as error:
                if not is_index_damage(error):
                    raise
                log.warning("outbox_damaged", reason=str(error))
                _put_aside(path)
                db = _connect(path)
            outbox = cls(db, most_rows, most_bytes)
            with outbox._write():
                if outbox.note("highest") is None:
                    outbox._set("highest", max(now - 1, 0))
                    outbox._set("received", max(now - 1, 0))
                    outbox._set("unasked", True)
        return outbox

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._db.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def highest(self) -> int:
        """The last number given out."""
        return self._number("highest")

    @property
    def received(self) -> int:
        """All up to here is kept by the origin for good, as far as is known."""
        return self._number("received")

    def append(self, kind: Kind, body: bytes, at: Instant, notes: Mapping[str, object] | None = None) -> int:
        """Put a report behind all others; returns its number.

        Args:
            kind: a `state` replaces the states that were not received yet.
            body: its JSON.
            at: when it was true.
            notes: kept in the same transaction, see `note`.

        Raises:
            StorageError: environment; nothing was changed, no number used.
        """
        with self._write():
            return self._append(kind, body, at, notes or {})

    def append_inventory(
        self, body: bytes, at: Instant, held: Mapping[str, int], notes: Mapping[str, object] | None = None
    ) -> int:
        """Put an inventory behind all others, and note that after it the province is told of `held`."""
        with self._write():
            number = self._append("inventory", body, at, {**(notes or {}), "told_number": None, "want_full": False})
            self._set("told_number", number)
            before = dict(self._db.execute("SELECT id, version FROM told"))
            gone = [(id_,) for id_ in before if id_ not in held]
            new = [(id_, version) for id_, version in held.items() if before.get(id_) != version]
            self._db.executemany("DELETE FROM told WHERE id = ?", gone)
            self._db.executemany("INSERT OR REPLACE INTO told (id, version) VALUES (?, ?)", new)
            return number

    def reserve(self) -> int:
        """Use a number for a report that travels another way than through here."""
        with self._write():
            return self._next()

    def told(self) -> tuple[int, dict[str, int]]:
        """Number of the newest inventory in here, and what is held after it; 0 when the next must be a full one."""
        with self._read():
            if self.note("want_full"):
                return 0, {}
            number = self.note("told_number")
            held = dict(self._db.execute("SELECT id, version FROM told"))
        return (number, held) if isinstance(number, int) else (0, {})

    def want_full(self) -> None:
        """The next inventory must be a full one."""
        with self._write():
            self._set("want_full", True)

    def unsent(self, most: int, most_bytes: int) -> list[Waiting]:
        """The first reports that wait: at most so many, and bodies of so many bytes; but one at least, if any waits."""
        found: list[Waiting] = []
        size = 0
        with self._read():
            before = self._db.execute("SELECT max(number) FROM reports WHERE number <= ?", (self.received,))
            # What went before was received, whatever its number: so nothing that stands is missing after it.
            after = before.fetchone()[0] or 0
            rows = self._db.execute(
                "SELECT number, kind, at, body FROM reports WHERE number > ? ORDER BY number LIMIT ?",
                (self.received, most),
            )
            for number, kind, at, body in rows:
                size += len(body)
                if found and size > most_bytes:
                    break
                found.append(Waiting(number, kind, Instant(at), body, after))
                after = number
        return found

    def count_unsent(self) -> int:
        """How many wait."""
        with self._read():
            row = self._db.execute("SELECT count(*) FROM reports WHERE number > ?", (self.received,)).fetchone()
        return int(row[0])

    def oldest_unsent_at(self) -> Instant | None:
        """Of when the first that waits is."""
        waiting = self.unsent(1, 0)
        return waiting[0].at if waiting else None

    def acknowledge(self, received: int) -> None:
        """The origin has all up to `received`.

        Fewer than before: it came back from a backup, and what is still kept here waits again; when that is not all,
        a full inventory makes it good. More than was ever given out: this outbox is a new or older one, and what
        waits gets numbers above.
        """
        with self._write():
            if received > self.highest:
                self._lift(received)
            elif received < self.received:
                log.warning("origin_went_back", received=received, before=self.received)
                self._set("received", received)
                if self._first() > received + 1:
                    self._set("want_full", True)
            else:
                self._set("received", received)
            self._set("unasked", False)
            self._prune()

    def start_above(self, received: int) -> None:
        """Before a new file sends for the first time: the origin has had numbers up to `received` from a lost one."""
        with self._write():
            if received >= self._first():
                self._lift(received)
            self._set("unasked", False)

    @property
    def must_ask(self) -> bool:
        """Whether the origin must be asked before anything is sent, see `start_above`."""
        return bool(self.note("unasked"))

    def discard(self, number: int) -> None:
        """Give up a report that the origin cannot read; the next inventory is a full one if it was one."""
        with self._write():
            rows = self._db.execute("SELECT kind FROM reports WHERE number = ?", (number,)).fetchall()
            self._db.execute("DELETE FROM reports WHERE number = ?", (number,))
            if rows and rows[0][0] == "inventory":
                self._set("want_full", True)

    def note(self, key: str) -> object:
        """A small value kept here, as plain JSON types; None when there is none."""
        with self._read():
            row = self._db.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        return None if row is None else msgspec.json.decode(row[0])

    def set_note(self, key: str, value: object) -> None:
        """Keep a small value."""
        with self._write():
            self._set(key, value)

    def _append(self, kind: Kind, body: bytes, at: Instant, notes: Mapping[str, object]) -> int:
        if kind == "state":
            self._db.execute("DELETE FROM reports WHERE kind = 'state' AND number > ?", (self.received,))
        number = self._next()
        self._db.execute("INSERT INTO reports (number, kind, at, body) VALUES (?, ?, ?, ?)", (number, kind, at, body))
        for key, value in notes.items():
            self._set(key, value)
        if number % _LOOK_EVERY == 0:
            self._bound()
        return number

    def _next(self) -> int:
        number = self.highest + 1
        if number > MAX_INT:
            raise StorageDamagedError("the outbox has no numbers left", zh="上报编号已用尽")
        self._set("highest", number)
        return number

    def _first(self) -> int:
        row = self._db.execute("SELECT min(number) FROM reports WHERE number > ?", (self.received,)).fetchone()
        return int(row[0]) if row[0] is not None else self.highest + 1

    def _lift(self, received: int) -> None:
        """Move what waits above `received`, in its order. The number of what was told moves along."""
        offset = received + 1 - self._first()
        # Through negative numbers: SQLite looks at each row alone, and two would meet on the way.
        self._db.execute("UPDATE reports SET number = -(number + ?) WHERE number > ?", (offset, self.received))
        self._db.execute("DELETE FROM reports WHERE number > 0")
        self._db.execute("UPDATE reports SET number = -number")
        self._set("highest", max(self.highest + offset, received))
        self._set("received", received)
        self._set("want_full", True)
        log.warning("outbox_renumbered", above=received)

    def _bound(self) -> None:
        """The oldest runs and hours go first, for they are history; then all but a new inventory, which is true."""
        rows, size = self._db.execute(
            "SELECT count(*), coalesce(sum(length(body)), 0) FROM reports WHERE number > ?", (self.received,)
        ).fetchone()
        if rows <= self._most_rows and size <= self._most_bytes:
            return
        log.warning("outbox_full", reports=rows, bytes=size)
        gone = self._db.execute(
            "DELETE FROM reports WHERE number IN (SELECT number FROM reports "
            "WHERE kind IN ('run', 'watching') AND number > ? ORDER BY number LIMIT ?)",
            (self.received, max(rows // 4, rows - self._most_rows)),
        ).rowcount
        if not gone:
            self._db.execute("DELETE FROM reports WHERE kind = 'inventory' AND number > ?", (self.received,))
            self._set("want_full", True)

    def _prune(self) -> None:
        self._db.execute(
            "DELETE FROM reports WHERE number <= (SELECT number FROM reports WHERE number <= ? "
            "ORDER BY number DESC LIMIT 1 OFFSET ?)",
            (self.received, KEPT_RECEIVED),
        )

    def _number(self, key: str) -> int:
        value = self.note(key)
        return value if isinstance(value, int) else 0

    def _set(self, key: str, value: object) -> None:
        self._db.execute("INSERT OR REPLACE INTO meta (key, value) VALUES (?, ?)", (key, msgspec.json.encode(value)))

    @contextmanager
    def _read(self) -> Iterator[None]:
        with self._lock, index_faults("reading"):
            yield

    @contextmanager
    def _write(self) -> Iterator[None]:
        """One transaction that survives a power cut: a number given out must not be given out again."""
        with self._lock, index_faults("writing"), transaction(self._db):
            yield


def _connect(path: Path) -> sqlite3.Connection:
    db = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=10)
    try:
        for pragma in _PRAGMAS:
            db.execute(pragma)
        if db.execute("PRAGMA user_version").fetchone()[0] != GENERATION:
            db.executescript(_SCHEMA)
        db.execute("SELECT 1 FROM reports, told, meta LIMIT 1").fetchone()
    except sqlite3.Error:
        db.close()
        raise
    return db


_PRAGMAS: Sequence[str] = (
    "PRAGMA busy_timeout = 10000",
    "PRAGMA journal_mode = WAL",
    "PRAGMA synchronous = FULL",
    "PRAGMA journal_size_limit = 16777216",
    "PRAGMA cache_size = -4096",
)


def _put_aside(path: Path) -> None:
    """Keep a damaged file for a look, one of them; its WAL belongs to nobody then."""
    path.replace(path.with_name(f"{path.name}.damaged"))
    for suffix in ("-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
