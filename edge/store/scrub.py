"""The search for rot: every piece is read from the disk again and compared with the mark made when it was stored.

A mark that differs is only a suspicion: SHA-256 decides, by the piece table or over the whole blob. What is rotten is
not served from that moment on. A repair fetches the piece, proves it and writes it, by the same steps as a sync.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable

import msgspec
import structlog

from edge.store.blobs import BlobStore
from edge.store.disk import MARK_BYTES, mark_of, opened, read_cold
from edge.store.failpoints import reach
from edge.store.library import Library
from edge.store.locks import FileLock, Turns
from edge.store.partial import Partial
from edge.store.rebuild import prove_file
from edge.store.rows import bump
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
        for item in plan.items:
            await scrub.read(item)
            done += item.size
            if progress is not None:
                progress("scrub", done, plan.bytes)
    bad = tuple(scrub.bad)
    return ScrubReport(scrub.pieces, bad, sum(one.repaired for one in bad), plan.left)


class _Scrub:
    """One run: what was read and found so far."""

    def __init__(self, store: BlobStore, library: Library, now: Instant, fetch: Fetch | None, turns: Turns) -> None:
        self.pieces = 0
        self.bad: list[BadPiece] = []
        self._store = store
        self._library = library
        self._now = now
        self._fetch = fetch
        self._turns = turns

    async def read(self, item: ScrubItem) -> None:
        """Read one blob, record its rot, repair it when that is asked for."""
        ref = await asyncio.to_thread(_ref, self._store, self._library, item.digest)
        if ref is None:
            return  # removed since the plan was made
        portion = max(1, _PORTION_BYTES // ref.piece_size)
        suspects: list[int] = []
        for first in range(0, item.pieces, portion):
            numbers = range(first, min(first + portion, item.pieces))
            suspects += await asyncio.to_thread(_suspects, self._store, ref, numbers)
            if await self._turns.give_way() and self._store.ref(item.digest) is None:
                return  # removed while others had the lock
        self.pieces += item.pieces
        bad = await asyncio.to_thread(self._judge, ref, suspects) if suspects else []
        await asyncio.to_thread(_record, self._store, ref.digest, bad, self._now)
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


def _suspects(store: BlobStore, ref: BlobRef, numbers: range) -> list[int]:
    """Pieces that can not be read, or whose mark differs."""
    rows = store.index.read("SELECT marks FROM marks WHERE digest = ?", (ref.digest,))
    marks: bytes = rows[0][0] if rows else b""
    try:
        with opened(store.path(ref.digest)) as fd:
            if os.fstat(fd).st_size != ref.size:
                return list(numbers)
            pieces = numbers if ref.size else range(0)
            return [n for n in pieces if not _matches(fd, ref, n, marks[n * MARK_BYTES : (n + 1) * MARK_BYTES])]
    except OSError as error:
        log.warning("blob_unreadable", digest=ref.digest, reason=str(error))
        return list(numbers)


def _matches(fd: int, ref: BlobRef, n: int, mark: bytes) -> bool:
    try:
        return mark_of(read_cold(fd, *_bounds(ref, n))) == mark
    except OSError:  # a sector that can not be read is as bad as one that lies
        return False


def _correct_marks(store: BlobStore, ref: BlobRef, found: dict[int, bytes]) -> None:
    if not found:
        return
    with store.index.write() as db:
        row = db.execute("SELECT marks FROM marks WHERE digest = ?", (ref.digest,)).fetchone()
        marks = bytearray(row[0] if row else b"").ljust(MARK_BYTES * ref.piece_count, b"\x00")
        for n, mark in found.items():
            marks[n * MARK_BYTES : (n + 1) * MARK_BYTES] = mark
        db.execute("INSERT OR REPLACE INTO marks VALUES (?, ?)", (ref.digest, bytes(marks)))


def _record(store: BlobStore, digest: Digest, bad: list[int], now: Instant) -> None:
    """Make what the index calls rotten exactly what was found; a blob that is good again is served again."""
    if bad:
        store.mark_rotten(digest, bad)
    with store.index.write() as db:
        known = {row[0] for row in db.execute("SELECT piece FROM rot WHERE digest = ?", (digest,))}
        healed = known.difference(bad)
        if healed:
            db.executemany("DELETE FROM rot WHERE digest = ? AND piece = ?", ((digest, n) for n in healed))
            bump(db)
        if not bad:
            db.execute("UPDATE blobs SET scrubbed_at = ? WHERE digest = ?", (now, digest))
