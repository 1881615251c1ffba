"""What was watched here, by hour and lesson, until the province has been told: a small SQLite file of its own.

Counting and the place in the log that it came from move in one transaction, so a line is counted once whatever is
killed when. Telling is idempotent: an hour that is told again only grows. Bounded: terminals and beginnings are
remembered for as long as they can matter, hours for `KEPT_S`.

Blocking; one thread at a time. Losing it costs the hours that were not told yet.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, NamedTuple, Self

import msgspec
import structlog

from edge.report.logtail import Place
from edge.report.watching import PAUSE_S, Counted, Terminal
from edge.store.faults import index_faults, is_index_damage
from edge.store.transactions import transaction
from manifests.instants import Instant, dump_instant
from manifests.reports import HOUR_S, MAX_WATCHED, LessonWatched, Watched

KEPT_S: Final = 45 * 86400
# A running hour is told again so often.
AGAIN_S: Final = 900
MOST_TERMINALS: Final = 200_000
MOST_HOURS_TOLD: Final = 200
_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS place (one INTEGER PRIMARY KEY CHECK (one = 1), value BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS hours (hour INTEGER NOT NULL, courseware TEXT NOT NULL, plays INTEGER NOT NULL,
    terminals INTEGER NOT NULL, bytes INTEGER NOT NULL, PRIMARY KEY (hour, courseware)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS terminals (hour INTEGER NOT NULL, courseware TEXT NOT NULL, address TEXT NOT NULL,
    PRIMARY KEY (hour, courseware, address)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS seen (address TEXT NOT NULL, courseware TEXT NOT NULL, at INTEGER NOT NULL,
    PRIMARY KEY (address, courseware)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS untold (hour INTEGER PRIMARY KEY, due_at INTEGER NOT NULL) WITHOUT ROWID;
PRAGMA user_version = 1;
"""

log = structlog.get_logger(__name__)


class Hour(NamedTuple):
    """An hour to be told, as the report's body."""

    hour: int
    body: Watched


class WatchFile:
    """An open file; made by `WatchFile.open`."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open the file, made when there is none; a damaged one is begun anew.

        Raises:
            StorageError: environment.
        """
        with index_faults("opening"):
            try:
                return cls(_connect(path))
            except sqlite3.Error as error:
                if not is_index_damage(error):
                    raise
                log.warning("watching_damaged", reason=str(error))
                for suffix in ("", "-wal", "-shm"):
                    path.with_name(path.name + suffix).unlink(missing_ok=True)
                return cls(_connect(path))

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def place(self) -> Place:
        """How far the log was counted.

        Raises:
            StorageError: environment.
        """
        with index_faults("reading"):
            row = self._db.execute("SELECT value FROM place").fetchone()
        with suppress(msgspec.DecodeError):
            return msgspec.json.decode(row[0], type=Place) if row else Place()
        return Place()

    def seen(self, who: Iterable[Terminal]) -> dict[Terminal, Instant]:
        """When each of these last took something of its lesson, as far as is remembered.

        Raises:
            StorageError: environment.
        """
        found = {}
        with index_faults("reading"):
            for one in set(who):
                row = self._db.execute("SELECT at FROM seen WHERE address = ? AND courseware = ?", one).fetchone()
                if row:
                    found[one] = Instant(row[0])
        return found

    def take(self, counted: Counted, place: Place) -> None:
        """Add what was counted, up to this place of the log.

        Raises:
            StorageError: environment; nothing was changed.
        """
        with self._write() as db:
            db.execute("INSERT OR REPLACE INTO place VALUES (1, ?)", (msgspec.json.encode(place),))
            for (hour, id_), (plays, size) in counted.figures.items():
                _add(db, hour, id_, plays, 0, size)
            for hour, who in counted.terminals.items():
                _add_terminals(db, hour, who)
                db.execute("INSERT OR IGNORE INTO untold VALUES (?, 0)", (hour,))
            db.executemany(
                "INSERT INTO seen VALUES (?, ?, ?) ON CONFLICT (address, courseware) DO UPDATE "
                "SET at = max(at, excluded.at)",
                [(*who, at) for who, at in counted.seen.items()],
            )
            if counted.seen:
                _prune(db, max(counted.seen.values()))

    def to_tell(self, now: Instant) -> list[Hour]:
        """Hours that changed since they were told, oldest first; a running one only every quarter of an hour.

        Raises:
            StorageError: environment.
        """
        with index_faults("reading"):
            rows = self._db.execute(
                "SELECT hour FROM untold WHERE due_at <= ? OR hour + ? <= ? ORDER BY hour LIMIT ?",
                (now, HOUR_S, now, MOST_HOURS_TOLD),
            ).fetchall()
            return [Hour(hour, self._body(hour)) for (hour,) in rows]

    def told(self, hour: int, now: Instant) -> None:
        """An hour stands in the outbox; while it runs, it is not told again too soon.

        Raises:
            StorageError: environment.
        """
        with self._write() as db:
            db.execute("DELETE FROM untold WHERE hour = ?", (hour,))
            if hour + HOUR_S > now:
                db.execute("INSERT INTO untold VALUES (?, ?)", (hour, now + AGAIN_S))

    def _body(self, hour: int) -> Watched:
        rows = self._db.execute(
            "SELECT courseware, plays, terminals, bytes FROM hours WHERE hour = ? ORDER BY bytes DESC LIMIT ?",
            (hour, MAX_WATCHED),
        ).fetchall()
        lessons = {id_: LessonWatched(plays, terminals, size) for id_, plays, terminals, size in rows if id_}
        everybody = next((terminals for id_, _, terminals, _ in rows if not id_), 0)
        return Watched(dump_instant(Instant(hour)), everybody, lessons)

    @contextmanager
    def _write(self) -> Iterator[sqlite3.Connection]:
        with index_faults("writing"), transaction(self._db):
            yield self._db


def _connect(path: Path) -> sqlite3.Connection:
    db = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=5)
    try:
        db.execute("PRAGMA busy_timeout = 5000")
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = NORMAL")
        db.execute("PRAGMA journal_size_limit = 4194304")
        if db.execute("PRAGMA user_version").fetchone()[0] != 1:
            db.executescript(_SCHEMA)
        db.execute("SELECT 1 FROM place, hours, terminals, seen, untold LIMIT 1").fetchone()
    except sqlite3.Error:
        db.close()
        raise
    return db


def _add(db: sqlite3.Connection, hour: int, id_: str, plays: int, terminals: int, size: int) -> None:
    db.execute(
        "INSERT INTO hours VALUES (?, ?, ?, ?, ?) ON CONFLICT (hour, courseware) DO UPDATE SET "
        "plays = plays + excluded.plays, terminals = terminals + excluded.terminals, bytes = bytes + excluded.bytes",
        (hour, id_, plays, terminals, size),
    )


def _add_terminals(db: sqlite3.Connection, hour: int, who: set[Terminal]) -> None:
    """Those that were not there yet in this hour; beyond what is remembered nobody is told apart any more."""
    here = db.execute("SELECT count(*) FROM terminals WHERE hour = ?", (hour,)).fetchone()[0]
    for address, id_ in sorted(who)[: max(0, MOST_TERMINALS - here)]:
        new = db.execute("INSERT OR IGNORE INTO terminals VALUES (?, ?, ?)", (hour, id_, address)).rowcount
        if new:
            _add(db, hour, id_, 0, 1, 0)


def _prune(db: sqlite3.Connection, newest: Instant) -> None:
    # By the log's own time: after a night without counting, its hours come one after another.
    db.execute("DELETE FROM seen WHERE at < ?", (newest - 2 * PAUSE_S,))
    db.execute("DELETE FROM terminals WHERE hour < ?", (newest - 2 * HOUR_S,))
    db.execute("DELETE FROM hours WHERE hour < ?", (newest - KEPT_S,))
    db.execute("DELETE FROM untold WHERE hour < ?", (newest - KEPT_S,))
