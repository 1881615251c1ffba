"""The search for rot: every piece is read from the disk again and compared with the mark made when it was stored.

A mark that differs is only a suspicion: SHA-256 decides, by the piece table or over the whole blob. What is rotten is
not served from that moment on. A repair fetches the piece, proves it and writes it, by the same steps as a sync.
"""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace

import msgspec
import structlog

from edge.store.blobs import BlobStore
from edge.store.decay import ScrubRecord
from edge.store.disk import MARK_BYTES, ask_ahead, forget_cached, mark_of, opened, read_cold, read_into
from edge.store.failpoints import reach
from edge.store.library import Library
from edge.store.locks import FileLock, Turns
from edge.store.partial import Partial
from edge.store.rebuild import prove_file
from edge.store.rows import bump
from edge.store.scrub_log import note_scrub
from edge.store.scrub_plan import Candidate, ScrubItem, ScrubPlan
from edge.store.strays import adopt_strays
from edge.threads import run_to_end
from manifests.digests import Digest
from manifests.errors import FormatError, NotFoundError, StorageDamagedError, TransferError, UntrustedError
from manifests.instants import Instant
from manifests.pieces import BlobRef, PieceTable

# Fetches one piece of a blob; with table None, the whole (small) blob. It need not prove what it brings.
Fetch = Callable[[BlobRef, PieceTable | None, int], Awaitable[bytes]]
Progress = Callable[[str, int, int], None]

# Read at a time: after each portion a scrub can be stopped, and gives way to a sync.
_PORTION_BYTES = 16 * 1024 * 1024
# A poll ends within seconds; a night's sync is not waited for.
_LOCK_WAIT_S = 4.0

log = structlog.get_logger(__name__)


class BadPiece(msgspec.Struct, frozen=True):
    """A piece that is not what was stored.

    Attributes:
        names: what it belongs to, such as `kj-abc/lesson.mp4`.
    """

    digest: str
    piece: int
    names: tuple[str, ...]
    repaired: bool


class ScrubReport(msgspec.Struct, frozen=True):
    """What a scrub found.

    Attributes:
        repaired: how many of `bad` are good again.
        left: blobs that were beyond the budget.
    """

    pieces_checked: int
    bad: tuple[BadPiece, ...]
    repaired: int
    left: int


def seasoned(store: BlobStore, found: Sequence[Candidate], now: Instant) -> list[Candidate]:
    """The same, where a blob that was never read counts as read when it was stored: it was proved then.

    One that is lost, or stored by a clock that ran ahead, keeps no date and is read first.
    """
    return [one if one.scrubbed_at else replace(one, scrubbed_at=_stored_at(store, one, now)) for one in found]


def _stored_at(store: BlobStore, one: Candidate, now: Instant) -> Instant:
    with suppress(OSError):
        stored = Instant(int(store.path(one.digest).stat().st_mtime))
        return stored if stored <= now else Instant(0)
    return Instant(0)


def candidates(store: BlobStore) -> list[Candidate]:
    """All whole blobs, for `plan_scrub`."""
    rows = store.index.read(
        "SELECT digest, size, piece_size, scrubbed_at, EXISTS (SELECT 1 FROM rot WHERE rot.digest = blobs.digest) "
        "FROM blobs"
    )
    return [Candidate(Digest(row[0]), row[1], row[2], Instant(row[3]), bool(row[4])) for row in rows]


async def run_scrub(
    store: BlobStore,
    library: Library,
    plan: ScrubPlan,
    now: Instant,
    fetch: Fetch | None = None,
    progress: Progress | None = None,
) -> ScrubReport:
    """Read what the plan says. Stopped at any point, it is simply run again.

    Args:
        store: opened for writing.
        library: of the same store.
        plan: from `plan_scrub`.
        now: recorded with each blob that was read.
        fetch: repairs with it; None only reports.
        progress: told stage, bytes done, bytes in all.

    Raises:
        BusyError: environment; a sync is at work. What was read until then is recorded.
        StorageDamagedError: environment; the index itself is damaged; it is rebuilt at the next opening.
        StorageError: environment.
    """
    with await FileLock(store.paths.sync_lock).wait(_LOCK_WAIT_S) as lock:
        await asyncio.to_thread(store.index.check)
        await asyncio.to_thread(adopt_strays, store, library)
        scrub = _Scrub(store, library, now, fetch, Turns(lock))
        done = 0
        try:
            for item in plan.items:
                await scrub.read(item)
                done += item.size
                if progress is not None:
                    progress("scrub", done, plan.bytes)
        finally:
            # Also when the night ends it: what was read counts, and what was found must not be forgotten.
            await run_to_end(note_scrub, store.paths.scrubs, scrub.record())
    bad = tuple(scrub.bad)
    return ScrubReport(scrub.pieces, bad, sum(one.repaired for one in bad), plan.left)


class _Scrub:
    """One run: what was read and found so far."""

    def __init__(self, store: BlobStore, library: Library, now: Instant, fetch: Fetch | None, turns: Turns) -> None:
        self.pieces = 0
        self.bad: list[BadPiece] = []
        self._bytes = 0
        self._rotten = 0
        self._unreadable = 0
        self._store = store
        self._library = library
        self._now = now
        self._fetch = fetch
        self._turns = turns

    def record(self) -> ScrubRecord:
        """What this run has come to so far."""
        repaired = sum(one.repaired for one in self.bad)
        return ScrubRecord(self._now, self._bytes, self._rotten, self._unreadable, repaired)

    async def read(self, item: ScrubItem) -> None:
        """Read one blob, record its rot, repair it when that is asked for."""
        ref = await asyncio.to_thread(_ref, self._store, self._library, item.digest)
        if ref is None:
            return  # removed since the plan was made
        portion = max(1, _PORTION_BYTES // ref.piece_size)
        found = _Look()
        for first in range(0, item.pieces, portion):
            numbers = range(first, min(first + portion, item.pieces))
            await asyncio.to_thread(_look, self._store, ref, numbers, found)
            if await self._turns.give_way() and self._store.ref(item.digest) is None:
                return  # removed while others had the lock
        self.pieces += item.pieces
        self._bytes += item.size
        bad = await asyncio.to_thread(self._judge, ref, found.suspects) if found.suspects else []
        fresh = await asyncio.to_thread(_record, self._store, ref.digest, bad, self._now)
        if not found.is_lost:  # a file that is gone or cut was somebody's hand, not the disk's decay
            self._unreadable += len(fresh & found.unreadable)
            self._rotten += len(fresh - found.unreadable)
        if bad:
            reach("scrub:marked")
            repaired = await self._repair(ref, bad)
            names = names_of(self._library, ref.digest)
            self.bad += [BadPiece(ref.digest, n, names, n in repaired) for n in bad]

    def _judge(self, ref: BlobRef, suspects: list[int]) -> list[int]:
        """Which of the suspects are wrong by SHA-256; the marks of the others are corrected."""
        path = self._store.path(ref.digest)
        table = _table(self._store, ref)
        marks: dict[int, bytes] = {}
        try:
            if path.stat().st_size > ref.size:
                os.truncate(path, ref.size)  # what was stored may be whole before the bytes that nobody stored
            if table is None:
                proved = prove_file(path, ref)
                marks = dict.fromkeys(suspects, b"") if proved is not None else {}
            with opened(path) as fd:
                for n in suspects if table is not None else tuple(marks):
                    data = read_cold(fd, *_bounds(ref, n))
                    if table is None or table.is_piece(n, data):
                        marks[n] = mark_of(data)
        except OSError as error:
            log.warning("blob_unreadable", digest=ref.digest, reason=str(error))
        _correct_marks(self._store, ref, marks)
        return [n for n in suspects if n not in marks]

    async def _repair(self, ref: BlobRef, bad: list[int]) -> set[int]:
        """Fetch, prove and store what is bad; returns the pieces that are good again."""
        if self._fetch is None:
            return set()
        try:
            if ref.table_ref is None:
                data = await self._fetch(ref, None, 0)
                await asyncio.to_thread(self._store.put, ref, data)
                return set(bad)
            return await self._repair_pieces(ref, ref.table_ref, bad, self._fetch)
        except (TransferError, UntrustedError) as error:
            log.warning("repair_failed", digest=ref.digest, reason=str(error))
            return set()

    async def _repair_pieces(self, ref: BlobRef, table_ref: BlobRef, bad: list[int], fetch: Fetch) -> set[int]:
        table = await asyncio.to_thread(_table, self._store, ref)
        if table is None:
            await asyncio.to_thread(self._store.put, table_ref, await fetch(table_ref, None, 0))
            table = await asyncio.to_thread(self._store.table, ref)
        # The first replacement is in hand before the blob is touched: without a line it stays as it is.
        ready = {bad[0]: await fetch(ref, table, bad[0])}
        table.check_piece(bad[0], ready[bad[0]])
        partial = await run_to_end(self._store.begin, ref, table, undo=Partial.close)
        try:
            for n in partial.missing():
                data = ready.pop(n, None) or await fetch(ref, table, n)
                if await run_to_end(partial.write_pieces, n, data):
                    table.check_piece(n, data)
                if await self._turns.give_way() and not self._store.paths.partial(ref.digest).exists():
                    return set()  # a sync brought the blob meanwhile, or dropped it
            await run_to_end(partial.finish)
        finally:
            partial.close()
        return set(bad)


def names_of(library: Library, digest: Digest) -> tuple[str, ...]:
    """What a blob belongs to, in words for a person."""
    names = [f"catalog {one.version}" for one in library.catalogs() if digest in {one.digest, one.table}]
    for one in library.users_of(digest):
        item = library.get(one)
        for file in item.files if item else ():
            if file.blob == digest:
                names.append(f"{one}/{file.name}")
            elif file.table == digest:
                names.append(f"{one}/{file.name} (piece table)")
    return tuple(names)


def _ref(store: BlobStore, library: Library, digest: Digest) -> BlobRef | None:
    """The blob as the index has it; the table's name from the library when the index was rebuilt without it."""
    ref = store.ref(digest)
    if ref is None or ref.table is not None or ref.piece_count < 2:
        return ref
    known = library.ref_of(digest)
    return known if known is not None and (known.size, known.piece_size) == (ref.size, ref.piece_size) else ref


def _table(store: BlobStore, ref: BlobRef) -> PieceTable | None:
    try:
        return store.table(ref)
    except (NotFoundError, StorageDamagedError, FormatError):
        return None


def _bounds(ref: BlobRef, n: int) -> tuple[int, int]:
    return n * ref.piece_size, min((n + 1) * ref.piece_size, ref.size)


@dataclass(slots=True)
class _Look:
    """What reading one blob has shown so far.

    Attributes:
        suspects: pieces that cannot be read, or whose mark differs.
        unreadable: those of them that the disk cannot read.
        is_lost: the file is gone, or of another length.
    """

    suspects: list[int] = field(default_factory=list)
    unreadable: set[int] = field(default_factory=set)
    is_lost: bool = False


def _look(store: BlobStore, ref: BlobRef, numbers: range, found: _Look) -> None:
    """Read some pieces from the disk itself and compare them with their marks."""
    rows = store.index.read("SELECT marks FROM marks WHERE digest = ?", (ref.digest,))
    marks: bytes = rows[0][0] if rows else b""
    try:
        with opened(store.path(ref.digest)) as fd:
            if os.fstat(fd).st_size != ref.size:
                found.is_lost = True
                found.suspects += numbers
            elif ref.size:
                _compare(fd, ref, numbers, marks, found)
    except OSError as error:
        log.warning("blob_unreadable", digest=ref.digest, reason=str(error))
        found.is_lost = found.is_lost or error.errno != errno.EIO
        found.unreadable.update(numbers if error.errno == errno.EIO else ())
        found.suspects += numbers


def _compare(fd: int, ref: BlobRef, numbers: range, marks: bytes, found: _Look) -> None:
    """Rot is on the platter, and the page cache would hide it; afterwards viewers have the cache to themselves.

    While this portion is compared the disk reads the next one. The cache is dropped once for the whole blob: later
    it would throw away what was read ahead.
    """
    start, stop = numbers.start * ref.piece_size, min(numbers.stop * ref.piece_size, ref.size)
    if not start:
        forget_cached(fd, 0, ref.size)
        ask_ahead(fd, start, stop)
    ask_ahead(fd, stop, min(stop + len(numbers) * ref.piece_size, ref.size))
    # One buffer for all: a fresh one per piece costs as much as hashing it.
    buffer = memoryview(bytearray(ref.piece_size))
    for n in numbers:
        try:
            data = read_into(fd, *_bounds(ref, n), buffer)
            is_same = mark_of(data) == marks[n * MARK_BYTES : (n + 1) * MARK_BYTES]
        except OSError as error:  # a sector that can not be read is as bad as one that lies
            log.warning("piece_unreadable", digest=ref.digest, piece=n, reason=str(error))
            found.unreadable.add(n)
            is_same = False
        if not is_same:
            found.suspects.append(n)
    forget_cached(fd, start, stop)


def _correct_marks(store: BlobStore, ref: BlobRef, found: dict[int, bytes]) -> None:
    if not found:
        return
    with store.index.write() as db:
        row = db.execute("SELECT marks FROM marks WHERE digest = ?", (ref.digest,)).fetchone()
        marks = bytearray(row[0] if row else b"").ljust(MARK_BYTES * ref.piece_count, b"\x00")
        for n, mark in found.items():
            marks[n * MARK_BYTES : (n + 1) * MARK_BYTES] = mark
        db.execute("INSERT OR REPLACE INTO marks VALUES (?, ?)", (ref.digest, bytes(marks)))


def _record(store: BlobStore, digest: Digest, bad: list[int], now: Instant) -> set[int]:
    """Make what the index calls rotten exactly what was found; returns what was not known before.

    A blob that is good again is served again.
    """
    known = {row[0] for row in store.index.read("SELECT piece FROM rot WHERE digest = ?", (digest,))}
    if bad:
        store.mark_rotten(digest, bad)
    with store.index.write() as db:
        healed = known.difference(bad)
        if healed:
            db.executemany("DELETE FROM rot WHERE digest = ? AND piece = ?", ((digest, n) for n in healed))
            bump(db)
        if not bad:
            db.execute("UPDATE blobs SET scrubbed_at = ? WHERE digest = ?", (now, digest))
    return set(bad) - known
