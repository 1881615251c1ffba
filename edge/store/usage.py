"""What is known of a blob beyond its bytes: when it was watched, how it came here, that it was evicted, who needs it.

A small SQLite file of its own beside the index: it is written all day, by several processes, and losing it costs
recency only. So whoever serves never fails for its sake: a use that cannot be noted (disk full, file locked for too
long) is told to the log and forgotten. A damaged file is begun anew; one that was deleted is noticed at the next write.

Blocking; any thread may call anything here.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import structlog

from edge.store.eviction import cooled
from edge.store.faults import index_faults, is_index_damage
from edge.store.transactions import transaction
from manifests.digests import Digest
from manifests.errors import BusyError, StorageError
from manifests.instants import Instant

# A file of another generation is begun anew.
GENERATION = 1
# Rows of blobs that were evicted are remembered so long: what comes back soon after was evicted too early.
DAY_S = 86400
REMEMBERED_S = 180 * DAY_S

_SCHEMA = """
CREATE TABLE IF NOT EXISTS blobs (
    digest TEXT PRIMARY KEY NOT NULL,
    courseware TEXT NOT NULL DEFAULT '',
    size INTEGER NOT NULL DEFAULT 0,
    arrived_at INTEGER NOT NULL DEFAULT 0,
    pulled_at INTEGER NOT NULL DEFAULT 0,
    used_at INTEGER NOT NULL DEFAULT 0,
    uses INTEGER NOT NULL DEFAULT 0,
    heat REAL NOT NULL DEFAULT 0,
    floor REAL NOT NULL DEFAULT 0,
    evicted_at INTEGER NOT NULL DEFAULT 0,
    leased_until INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS pins (courseware TEXT PRIMARY KEY NOT NULL, at INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS floors (one INTEGER PRIMARY KEY CHECK (one = 1), floor REAL NOT NULL);
INSERT OR IGNORE INTO floors VALUES (1, 0);
CREATE TABLE IF NOT EXISTS evictions (standing TEXT NOT NULL, day INTEGER NOT NULL, blobs INTEGER NOT NULL,
    bytes INTEGER NOT NULL, PRIMARY KEY (standing, day)) WITHOUT ROWID;
"""
_PRAGMAS = ("PRAGMA busy_timeout = 5000", "PRAGMA journal_mode = WAL", "PRAGMA synchronous = NORMAL")
_COLUMNS = "digest, courseware, size, arrived_at, pulled_at, used_at, uses, heat, floor, evicted_at, leased_until"

_NEVER = Instant(0)

Params = tuple[str | int | float, ...]
Row = tuple[Any, ...]

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Used:
    """One blob's row; instants are 0 where nothing is known.

    Attributes:
        courseware: the lesson it was pulled or planned for; empty when only uses are known.
        arrived_at: when it came to be here.
        pulled_at: when a terminal's wish began to bring it here; 0 for what the plan brought.
        uses: how often it was begun to be watched.
        heat: the same, but for uses of earlier stays here, which count less by the time it came back (see `cooled`).
        floor: what the last victim was worth when this was last watched or came (see `edge.store.eviction.value`).
        evicted_at: when it was removed for want of room; 0 while it is here, or when it went for another reason.
        leased_until: it must not be evicted before.
    """

    digest: Digest
    courseware: str
    size: int
    arrived_at: Instant
    pulled_at: Instant
    used_at: Instant
    uses: int
    heat: float
    floor: float
    evicted_at: Instant
    leased_until: Instant


@dataclass(frozen=True, slots=True)
class Evictions:
    """What went for want of room, and on how many days."""

    blobs: int
    bytes: int
    days: int


NOTHING = Evictions(0, 0, 0)


class Usage:
    """An open usage file; made by `Usage.open`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.RLock()
        self._db: sqlite3.Connection | None = None
        self._inode = 0
        self._told = ""

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open the file, made when there is none. Never fails: without it everything counts as never used."""
        usage = cls(path)
        usage._try("opening", lambda _: None)
        return usage

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            if self._db is not None:
                self._db.close()
                self._db = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def note_pulled(self, digest: Digest, courseware: str, size: int, now: Instant) -> bool:
        """Note that a terminal's wish brings a blob here which no plan brought.

        Returns:
            Whether it could be noted.
        """
        return self._try("writing", lambda db: _arrive(db, [(digest, courseware, size)], now, pulled_at=now))

    def note_planned(self, blobs: Iterable[tuple[Digest, str, int]], now: Instant) -> bool:
        """Note that the plan brought blobs here (digest, courseware, size); those pulled before are planned now.

        Returns:
            Whether it could be noted.
        """
        return self._try("writing", lambda db: _arrive(db, blobs, now, pulled_at=0))

    def note_used(self, counts: Mapping[Digest, int], now: Instant) -> bool:
        """Note how often each blob was begun to be watched since the last time.

        Args:
            counts: beginnings, not requests: a player asks for many ranges of one lesson. 0 says that somebody is
                still watching.
            now: wall clock.

        Returns:
            Whether it could be noted; when not, it is forgotten.
        """
        return not counts or self._try("writing", lambda db: _use(db, counts, now))

    def lease(self, digests: Iterable[Digest], until: Instant) -> bool:
        """Keep blobs from being evicted until then; an earlier instant does not shorten a lease.

        Returns:
            Whether it could be noted.
        """
        sql = (
            "INSERT INTO blobs (digest, leased_until) VALUES (?, ?) "
            "ON CONFLICT (digest) DO UPDATE SET leased_until = max(leased_until, excluded.leased_until)"
        )
        rows = [(digest, until) for digest in digests]
        return not rows or self._try("writing", lambda db: _many(db, sql, rows))

    def note_evicted(self, blobs: Mapping[Digest, int], now: Instant, standing: str = "", worth: float = 0.0) -> None:
        """Note that blobs go for want of room, before they do: what is not noted would look lost, and be fetched again.

        Args:
            blobs: these, and the bytes that go with each.
            now: wall clock.
            standing: of their lesson, for the figures; empty when they are only left out of what comes.
            worth: what it was worth; what is watched from now on is worth more.

        Raises:
            StorageError: environment; nothing was noted.
        """
        self._do("writing", lambda db: _evict(db, blobs, now, standing, worth))

    def was_evicted(self, digest: Digest) -> bool:
        """Whether a blob went for want of room and did not come back since."""
        return self.row(digest).evicted_at > 0

    def row(self, digest: Digest) -> Used:
        """What is known of one blob; a row of zeros when nothing is."""
        found = self._read(f"SELECT {_COLUMNS} FROM blobs WHERE digest = ?", (digest,))  # noqa: S608 - our own words
        return Used(*found[0]) if found else Used(digest, "", 0, _NEVER, _NEVER, _NEVER, 0, 0.0, 0.0, _NEVER, _NEVER)

    def rows(self) -> dict[Digest, Used]:
        """All that is known."""
        found = self._read(f"SELECT {_COLUMNS} FROM blobs")  # noqa: S608 - our own words
        return {row.digest: row for row in (Used(*values) for values in found)}

    def evicted(self) -> dict[Digest, Instant]:
        """Blobs that went for want of room and did not come back since, and when."""
        rows = self._read("SELECT digest, evicted_at FROM blobs WHERE evicted_at > 0")
        return {Digest(digest): Instant(at) for digest, at in rows}

    def evictions(self, since: Instant = _NEVER) -> dict[str, Evictions]:
        """What went for want of room, by standing; of whole days (UTC)."""
        rows = self._read(
            "SELECT standing, sum(blobs), sum(bytes), count(*) FROM evictions WHERE day >= ? GROUP BY standing",
            (since // DAY_S,),
        )
        return {standing: Evictions(blobs, size, days) for standing, blobs, size, days in rows}

    def pulled(self) -> dict[Digest, str]:
        """Blobs that a terminal's wish brought here, and the lesson each is of."""
        rows = self._read("SELECT digest, courseware FROM blobs WHERE pulled_at > 0")
        return {Digest(digest): courseware for digest, courseware in rows}

    def leases(self, now: Instant) -> dict[Digest, Instant]:
        """Blobs that must not be evicted now, and until when."""
        rows = self._read("SELECT digest, leased_until FROM blobs WHERE leased_until > ?", (now,))
        return {Digest(digest): Instant(until) for digest, until in rows}

    def pins(self) -> frozenset[str]:
        """Ids of the lessons that a person wants to stay."""
        return frozenset(row[0] for row in self._read("SELECT courseware FROM pins"))

    def pin(self, courseware: str, now: Instant) -> None:
        """Have a lesson stay, whoever needs the room.

        Raises:
            StorageError: environment; it is not pinned.
        """
        self._do("writing", lambda db: _many(db, "INSERT OR IGNORE INTO pins VALUES (?, ?)", [(courseware, now)]))

    def unpin(self, courseware: str) -> None:
        """Treat a lesson as any other again.

        Raises:
            StorageError: environment; it stays pinned.
        """
        self._do("writing", lambda db: _many(db, "DELETE FROM pins WHERE courseware = ?", [(courseware,)]))

    def forget(self, digests: Collection[Digest], now: Instant) -> bool:
        """Drop the rows of blobs that are gone for good, and of those evicted long ago.

        Returns:
            Whether it could be done.
        """

        def work(db: sqlite3.Connection) -> None:
            _many(db, "DELETE FROM blobs WHERE digest = ?", [(digest,) for digest in digests])
            _many(db, "DELETE FROM blobs WHERE evicted_at BETWEEN 1 AND ?", [(now - REMEMBERED_S,)])

        return self._try("writing", work)

    def _read(self, sql: str, params: Params = ()) -> list[Row]:
        """All rows of one query; none where nothing can be read."""
        found: list[Row] = []
        self._try("reading", lambda db: found.extend(db.execute(sql, params).fetchall()))
        return found

    def _try(self, what: str, act: Callable[[sqlite3.Connection], None]) -> bool:
        try:
            self._do(what, act)
        except (StorageError, BusyError) as error:
            if error.message != self._told:  # once, not at every request while a disk is full
                self._told = error.message
                log.warning("usage_not_noted", doing=what, reason=error.message)
            return False
        self._told = ""
        return True

    def _do(self, what: str, act: Callable[[sqlite3.Connection], None]) -> None:
        """One transaction; a damaged file is begun anew once."""
        with self._lock, index_faults(what):
            try:
                self._once(what, act)
            except sqlite3.Error as error:
                if not is_index_damage(error):
                    raise
                log.warning("usage_damaged", reason=str(error))
                self.close()
                _remove(self._path)
                self._once(what, act)

    def _once(self, what: str, act: Callable[[sqlite3.Connection], None]) -> None:
        db = self._current()
        with transaction(db, is_writing=what != "reading"):
            act(db)

    def _current(self) -> sqlite3.Connection:
        """The connection; made anew when the file was deleted or begun anew under us."""
        with suppress(OSError):
            if self._db is not None and self._path.stat().st_ino == self._inode:
                return self._db
        self.close()
        self._db = _connect(self._path)
        with suppress(OSError):
            self._inode = self._path.stat().st_ino
        return self._db


def _connect(path: Path) -> sqlite3.Connection:
    db = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=5)
    try:
        for pragma in _PRAGMAS:
            db.execute(pragma)
        found = db.execute("PRAGMA user_version").fetchone()[0]
        if found not in {0, GENERATION}:
            db.executescript(
                "DROP TABLE IF EXISTS blobs; DROP TABLE IF EXISTS pins; DROP TABLE IF EXISTS floors; "
                "DROP TABLE IF EXISTS evictions;"
            )
        if found != GENERATION:
            db.executescript(f"{_SCHEMA} PRAGMA user_version = {GENERATION};")
        db.execute("SELECT 1 FROM blobs, pins, floors, evictions LIMIT 1").fetchone()
    except sqlite3.Error:
        db.close()
        raise
    return db


def _remove(path: Path) -> None:
    for suffix in ("", "-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)


def _many(db: sqlite3.Connection, sql: str, rows: Iterable[Params]) -> None:
    db.executemany(sql, rows)


def _arrive(db: sqlite3.Connection, blobs: Iterable[tuple[Digest, str, int]], now: Instant, *, pulled_at: int) -> None:
    """A blob that comes back keeps what is known of its uses, cooled; one that never went keeps its place."""
    for digest, courseware, size in blobs:
        row = db.execute(
            "SELECT heat, used_at, arrived_at, evicted_at FROM blobs WHERE digest = ?", (digest,)
        ).fetchone()
        if row is not None and row[2] and not row[3]:
            db.execute(
                "UPDATE blobs SET courseware = ?, size = ?, pulled_at = ? WHERE digest = ?",
                (courseware, size, pulled_at, digest),
            )
            continue
        heat = cooled(row[0], now - row[1]) if row is not None else 0.0
        db.execute(
            "INSERT INTO blobs (digest, courseware, size, arrived_at, pulled_at, heat, floor) "
            "VALUES (?, ?, ?, ?, ?, ?, (SELECT floor FROM floors)) ON CONFLICT (digest) DO UPDATE SET "
            "courseware = excluded.courseware, size = excluded.size, arrived_at = excluded.arrived_at, "
            "pulled_at = excluded.pulled_at, heat = excluded.heat, floor = excluded.floor, evicted_at = 0",
            (digest, courseware, size, now, pulled_at, heat),
        )


def _use(db: sqlite3.Connection, counts: Mapping[Digest, int], now: Instant) -> None:
    db.executemany(
        "INSERT INTO blobs (digest, used_at, uses, heat, floor) VALUES (?, ?, ?, ?, (SELECT floor FROM floors)) "
        "ON CONFLICT (digest) DO UPDATE SET used_at = max(used_at, excluded.used_at), uses = uses + excluded.uses, "
        "heat = heat + excluded.heat, floor = max(floor, excluded.floor)",
        [(digest, now, count, float(count)) for digest, count in counts.items()],
    )


def _evict(db: sqlite3.Connection, blobs: Mapping[Digest, int], now: Instant, standing: str, worth: float) -> None:
    db.executemany(
        "INSERT INTO blobs (digest, evicted_at) VALUES (?, ?) "
        "ON CONFLICT (digest) DO UPDATE SET evicted_at = excluded.evicted_at, leased_until = 0",
        [(digest, now) for digest in blobs],
    )
    db.execute("UPDATE floors SET floor = max(floor, ?)", (worth,))
    if standing:
        db.execute(
            "INSERT INTO evictions VALUES (?, ?, ?, ?) ON CONFLICT (standing, day) DO UPDATE SET "
            "blobs = blobs + excluded.blobs, bytes = bytes + excluded.bytes",
            (standing, now // DAY_S, len(blobs), sum(blobs.values())),
        )
