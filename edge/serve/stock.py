"""One worker's view of the edge's disk, renewed several times a second: shelf, trust state, open files.

Readers never wait for it. A look runs in a thread; its result is swapped in by the event loop. Library changes made by
another process are noticed within a second, and what was recalled, or has had its time, is broken off in the middle of
a file.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Mapping
from dataclasses import dataclass

import msgspec
import structlog

from edge.clock import Clock
from edge.paths import Paths
from edge.serve.absences import Absences
from edge.serve.entries import Entry, EntryCache, stamp_of
from edge.serve.shelf import Offered, Shelf, make_offered, make_shelf
from edge.settings import Settings
from edge.store.blobs import BlobStore
from edge.store.library import Library
from edge.store.usage import Usage
from edge.sync.freshness import Freshness, TrustState, freshness_of, shown_at, trusted_now
from edge.sync.offered import verified_offering
from manifests.bundle import Bundle, decode_bundle
from manifests.errors import StorageDamagedError, StorageError, YuanjiaoError
from manifests.instants import Instant
from manifests.names import Region

LOOK_S = 0.25
MEND_S = 5.0
# Up to so many changed lessons are read one by one.
MOST_SINGLE = 500
# A catalog that could not be read is tried again so often at most, however many misses ask for it.
OFFER_RETRY_S = 1.0
# Signed lists kept in memory: a root per year, and the newest of the others.
MOST_DOCUMENTS = 32
LONGEST_DOCUMENT = 64 * 1024

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Look:
    """What one look found.

    Attributes:
        shelf: None when the library did not change.
        checked: entries whose blobs were asked of the index as it is now.
        gone: entries that must not be sent from any more.
    """

    shelf: Shelf | None
    trust: TrustState | None
    checked: tuple[Entry, ...]
    gone: tuple[Entry, ...]
    fault: YuanjiaoError | None


class Stock:
    """See the module's words. Everything but `_read` and `_offer` runs in the event loop's thread."""

    def __init__(self, paths: Paths, settings: Settings, store: BlobStore, library: Library, clock: Clock) -> None:
        self.paths = paths
        self.settings = settings
        self.store = store
        self.library = library
        self.usage = Usage(paths.usage)
        self.clock = clock
        self.entries = EntryCache(settings.serve.open_files)
        self.documents = EntryCache(MOST_DOCUMENTS)
        self.shelf = Shelf()
        self.trust: TrustState | None = None
        self.fault: YuanjiaoError | None = None
        self.changes = 0  # differs after every look that found something; what was found before may be recalled
        self.bundle = _read_bundle(paths)
        self.absences = Absences(paths, settings, store, library, self.usage)
        self._marks: Mapping[str, bytes] = {}  # of the lessons on the shelf; touched by looks only
        self._offered: tuple[tuple[str, ...], Offered] = ((), Offered())
        self._offered_at = 0.0
        self._offering = asyncio.Lock()
        self._looking = asyncio.Lock()
        self._looks = 0  # begun

    @property
    def region(self) -> Region | None:
        """The county this edge stands in; None when its bundle cannot be read."""
        return Region(self.bundle.region) if self.bundle else None

    def now(self) -> Instant:
        """Trusted time."""
        now = self.clock()
        return trusted_now(now, self.trust.floor) if self.trust else now

    def freshness(self) -> Freshness:
        """How far the province's word reaches now."""
        trust = self.settings.trust
        return freshness_of(self.trust, self.clock(), trust.stale_after_hours * 3600, trust.expired_after_days * 86400)

    async def watch(self) -> None:
        """Look again and again until cancelled."""
        while True:
            try:
                await self.look()
            except Exception as error:  # noqa: BLE001 - whatever a look stumbles over, what stands is served on
                self._tell(YuanjiaoError(f"internal error: {error!r}", zh="服务器内部错误"))
            await asyncio.sleep(LOOK_S)

    async def mend(self) -> None:
        """Have a damaged index rebuilt, until cancelled; serving goes on from the shelf that stands."""
        while True:
            await asyncio.sleep(MEND_S)
            if isinstance(self.fault, StorageDamagedError):
                try:
                    await asyncio.to_thread(_rebuild, self.paths)
                except YuanjiaoError as error:  # another process is at it, or the disk takes no writing
                    _log.info("index_not_rebuilt", error=error.message)

    async def look(self) -> None:
        """Take one look that begins from now on, and let requests see what it found."""
        looks = self._looks
        async with self._looking:
            if self._looks == looks:  # otherwise whoever was before us began after we asked
                self._looks += 1
                await self._look()

    async def _look(self) -> None:
        found = await asyncio.to_thread(self._read, self.shelf, self.entries.alive())
        is_new_release = _digest_of(found.trust) != _digest_of(self.trust)
        self.trust = found.trust
        self._tell(found.fault)
        if found.shelf is not None:
            shelf = self.shelf = found.shelf
            self.entries.revoke(lambda entry: bool(entry.courseware) and entry.courseware not in shelf.lessons)
        for entry in found.checked:
            entry.token = self.shelf.token
        for entry in found.gone:
            entry.revoked = True
        if found.shelf is not None or found.gone or is_new_release:
            self.changes += 1
            self.entries.clear()

    async def offered(self) -> Offered:
        """What the newest verified catalogs offer; read once per release, when the first miss asks."""
        async with self._offering:
            trust, region, now = self.trust, self.region, asyncio.get_running_loop().time()
            is_due = trust is not None and self._offered[0] != trust.catalogs and now >= self._offered_at
            if trust is not None and region is not None and is_due:
                read = await asyncio.to_thread(self._offer, trust, region)
                # A catalog that is not here yet may come any moment: only what was read is kept.
                self._offered = (trust.catalogs, read) if read is not None else ((), Offered())
                self._offered_at = now + OFFER_RETRY_S if read is None else 0.0
        return self._offered[1]

    def keep(self, key: str, entry: Entry) -> None:
        """Have an entry ready for the next request for the same path; a long document is read each time instead."""
        if entry.data is None:
            self.entries.put(key, entry)
        elif len(entry.data) <= LONGEST_DOCUMENT:
            self.documents.put(key, entry)

    def close(self) -> None:
        """Give all descriptors back."""
        self.entries.clear()
        self.usage.close()

    def _read(self, before: Shelf, entries: tuple[Entry, ...]) -> _Look:
        trust = _read_trust(self.paths, self.trust)
        now = shown_at(trust, self.clock(), self.settings.trust.expired_after_days * 86400)
        shelf: Shelf | None = None
        fault: YuanjiaoError | None = None
        checked: list[Entry] = []
        gone = [entry for entry in entries if _is_gone(entry)]
        try:
            newest = self.library.change_token()
            if newest != before.token:
                shelf, self._marks = _reshelve(self.library, newest, before, self._marks, now)
            elif not before.is_right_at(now):
                installed = {**before.lessons, **before.ended}
                shelf = make_shelf(newest, before.catalog_version, before.columns, installed, now)
            # An entry may have been found just before a change and be first seen here after it.
            checked = [entry for entry in entries if entry.token != newest]
            gone += [entry for entry in checked if self.store.size(entry.digest) is None]
        except StorageError as error:
            fault, checked = error, []  # the shelf that stands goes on being served
        return _Look(shelf, trust, tuple(checked), tuple(gone), fault)

    def _offer(self, trust: TrustState, region: Region) -> Offered | None:
        try:
            return make_offered(verified_offering(self.store, trust), region)
        except YuanjiaoError as error:
            _log.info("catalog_not_readable", digest=trust.digest, error=error.message)
            return None

    def _tell(self, fault: YuanjiaoError | None) -> None:
        """Log a fault when it begins and when it ends, not four times a second."""
        before = self.fault.message if self.fault else None
        if fault is not None and fault.message != before:
            # Within `except` the traceback goes with it: that is a bug.
            _log.error("index_unreadable", error=fault.message, hint=fault.hint, exc_info=sys.exc_info()[0] is not None)
        elif fault is None and before is not None:
            _log.info("index_readable_again")
        self.fault = fault


def _reshelve(
    library: Library, token: int, shelf: Shelf, marks: Mapping[str, bytes], now: Instant
) -> tuple[Shelf, Mapping[str, bytes]]:
    """Read what changed since `shelf`; a night installs lesson by lesson, and fifty thousand are not read each time.

    The token was read first and the marks before the lessons: what is installed in between is read once more.
    """
    found, known = library.fingerprints(), {**shelf.lessons, **shelf.ended}
    changed = [one for one, mark in found.items() if marks.get(one) != mark or one not in known]
    if len(changed) > MOST_SINGLE:
        lessons = library.load().courseware
    else:
        lessons = {one: item for one, item in known.items() if one in found}
        for one in changed:
            item = library.get(one)
            if item is not None:
                lessons[one] = item
    return make_shelf(token, library.catalog_version(), library.columns(), lessons, now), found


def _rebuild(paths: Paths) -> None:
    # Opening rebuilds; our own reader moves to the new file by itself.
    BlobStore.open(paths, read_only=True, wait_s=0.0).close()


def _is_gone(entry: Entry) -> bool:
    """Whether the blob's name no longer means the open file: deleted, quarantined, replaced, or being repaired."""
    try:
        return stamp_of(entry.path.stat()) != entry.stamp
    except FileNotFoundError:
        return True
    except OSError:
        return False  # a failing disk is no order to stop; reading will tell


def _read_trust(paths: Paths, before: TrustState | None) -> TrustState | None:
    try:
        return msgspec.json.decode(paths.trust_state.read_bytes(), type=TrustState)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        return before


def _digest_of(trust: TrustState | None) -> tuple[str, ...]:
    return trust.catalogs if trust else ()


def _read_bundle(paths: Paths) -> Bundle | None:
    try:
        return decode_bundle(paths.bundle.read_bytes())
    except (OSError, YuanjiaoError) as error:
        _log.warning("bundle_unreadable", error=str(error))
        return None
