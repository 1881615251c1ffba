"""Trust: follow the province's signed word, and keep the last one that was verified whole.

python-tuf checks signatures, versions and expiry. Around it stands what thin lines and old machines need: trusted time
that does not run behind the highest signed time seen; several upstreams, of which a lagging one is no alarm while
another is current; and a state of our own, written atomically, because tuf's client neither fsyncs its files nor keeps
what it verified. Damage to any of these files costs a few kilobytes to fetch again and is never the end of an edge.
"""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable
from functools import partial
from pathlib import Path

import msgspec
import structlog

from edge.clock import Clock
from edge.store.ballast import Ballast
from edge.store.disk import remove_tree, replace_file
from edge.store.faults import storage_error
from edge.sync.bridge import Bridge
from edge.sync.citystate import is_news
from edge.sync.freshness import TrustState, trusted_now
from edge.sync.state_file import STATE_FILE, load_state
from edge.sync.verify import Reader, check_not_older, check_progress, verify_release
from edge.upstream.source import Source
from edge.upstream.sources import Sources
from manifests.bundle import Bundle
from manifests.errors import TransferError, UntrustedError
from manifests.instants import Instant, parse_instant
from manifests.names import Region

# Oldest signed time with which a source still counts as current, if there is another one to ask. The origin renews
# its timestamp hourly; a sibling that last heard from it longer ago may not know of a recall.
LAGGING_S = 2 * 3600
# Names that make a directory unusable for tuf's client although nothing is wrong with the disk.
_TANGLED = frozenset({errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENOTEMPTY, errno.ELOOP})
_FILE_DEADLINE_S = 120.0

_log = structlog.get_logger(__name__)


class Trust:
    """The edge's side of TUF. One refresh at a time; the caller holds sync.lock.

    Args:
        directory: tuf's files and our state.
        bundle: holds the root to start from and the first floor of trusted time.
        ballast: thrown overboard when there is no room for signed metadata, since they may carry a recall.
    """

    def __init__(self, directory: Path, bundle: Bundle, clock: Clock, ballast: Ballast) -> None:
        self._directory = directory
        self._ballast = ballast
        self._reader = Reader(bundle.root.encode(), Region(bundle.region))
        self._least_floor = parse_instant(bundle.issued)
        self._clock = clock

    def load(self) -> TrustState | None:
        """The last verified state."""
        return load_state(self._directory)

    def now(self) -> Instant:
        """Trusted time: this machine's, but never behind the highest signed time seen."""
        state = self.load()
        return trusted_now(self._clock(), max(self._least_floor, state.floor if state else self._least_floor))

    async def refresh(self, sources: Sources, least_catalog_version: int = 0, grace_s: int = 0) -> TrustState:
        """Ask the sources in turn until one is current; verify; keep the newest release that was verified.

        Args:
            sources: whom to ask.
            least_catalog_version: version of the catalog that is installed; guards against rollback when the state
                file was lost.
            grace_s: a timestamp may have expired for less than this: a courier's, which travels for days.

        Raises:
            UntrustedError: bad data; no source gave a release that may be accepted. The kept state is as it was.
            TransferError: environment; no source could be reached.
            StorageError: environment.
        """
        best: TrustState | None = None
        before = self.load()
        asked: list[str] = []
        while len(asked) < len(sources.upstreams):
            act = partial(self._ask, asked, least_catalog_version, grace_s)
            try:
                # A second opinion is worth one attempt, not a minute of waiting for a dead sibling.
                found = await sources.fetch("signed metadata", act, without=asked, attempts=1 if best else None)
            except (UntrustedError, TransferError):
                if best is None:
                    raise
                break
            if best is None or _rank(found) > _rank(best):
                best = found
            # An older program passes the province's files on and no city's: somebody else may.
            lacks = any(is_news(fault, before.city_faults if before else ()) for fault in found.city_faults)
            if self.now() - found.floor <= LAGGING_S and not lacks:
                break
        if best is None:
            raise TransferError("no upstream is configured", zh="没有配置上游")
        return await asyncio.to_thread(self._keep, best)

    async def _ask(self, asked: list[str], least_catalog_version: int, grace_s: int, upstream: Source) -> TrustState:
        clock_at = self._clock()
        at = self.now()
        loop = asyncio.get_running_loop()
        bridge = Bridge(loop, upstream.get_bytes, _FILE_DEADLINE_S)
        old = self.load()
        work = partial(verify_release, self._directory, self._reader, bridge, at, clock_at, grace_s, old)
        running = loop.run_in_executor(None, self._ballast.spend, partial(self._tolerant, work))
        try:
            found = await asyncio.shield(running)
        except asyncio.CancelledError:
            # The thread writes to trust/; it must have ended before this process lets go of sync.lock.
            bridge.stop()
            await asyncio.wait([running])
            running.exception()  # that it was stopped is no news
            raise
        check_progress(old, found)
        if old is None:
            check_not_older("catalog", least_catalog_version, found.catalog_version)
        asked.append(upstream.url)
        return msgspec.structs.replace(found, source=upstream.url)

    def _tolerant(self, work: Callable[[], TrustState]) -> TrustState:
        """Run `work`; when tuf's directory is tangled, empty it once and run again from the bundle's root."""
        try:
            try:
                self._directory.mkdir(exist_ok=True)
                return work()
            except OSError as error:
                if error.errno not in _TANGLED:
                    raise
                _log.warning("trust directory is tangled; emptying it", reason=str(error))
                _empty(self._directory)
                return work()
        except OSError as error:
            raise storage_error(error, "keeping signed metadata", "保存签名清单") from error

    def _keep(self, best: TrustState) -> TrustState:
        old = self.load()
        floor = max(self._least_floor, best.floor, old.floor if old else self._least_floor)
        kept = msgspec.structs.replace(best, floor=floor)
        self._ballast.spend(lambda: replace_file(self._directory / STATE_FILE, msgspec.json.encode(kept)))
        return kept


def _rank(state: TrustState) -> tuple[int, int]:
    return state.timestamp.version, -sum(fault.is_followed for fault in state.city_faults)


def _empty(directory: Path) -> None:
    """Remove all but the state: it was written whole and holds the floor."""
    for path in directory.iterdir():
        if path.name == STATE_FILE and path.is_file():
            continue
        remove_tree(path)
