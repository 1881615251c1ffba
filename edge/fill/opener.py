"""From a blob's name to a fill of it: is it allowed, is it here, why not, is there room.

All who open the same blob at once share one opening, and its failure; nothing of a failure is kept for the next.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import structlog

from edge.fill.blob_fill import BlobFill
from edge.fill.messages import FillError, Open
from edge.fill.offers import Offers, refs_of
from edge.fill.parts import FillParts
from edge.fill.passing import Passing
from edge.fill.workshop import Tools, Workshop
from edge.reasons import UpstreamReason, because
from edge.store.partial import Partial
from edge.store.usage import Usage
from edge.threads import run_to_end
from edge.upstream.client import blob_path
from edge.upstream.source import Source
from manifests.digests import Digest, check_bytes
from manifests.errors import ConfigurationError, StorageDamagedError, StorageError, YuanjiaoError
from manifests.pieces import BlobRef, PieceTable, parse_table

_log = structlog.get_logger(__name__)


class Opener:
    """Keeps one fill per blob. For one event loop."""

    def __init__(self, parts: FillParts, workshop: Workshop, offers: Offers) -> None:
        self._parts = parts
        self._workshop = workshop
        self._offers = offers
        self._fills: dict[str, BlobFill] = {}
        self._opening: dict[str, asyncio.Task[BlobFill | None]] = {}

    @property
    def is_busy(self) -> bool:
        """Whether a blob is open or being opened."""
        return bool(self._fills or self._opening)

    def retry_s(self) -> float:
        """When a source may be asked again, at the earliest; 0 while nothing is known of them."""
        return self._workshop.tools.desk.retry_s() if self._workshop.tools is not None else 0.0

    def fills(self) -> tuple[BlobFill, ...]:
        """All that go on."""
        return tuple(self._fills.values())

    async def open(self, ask: Open) -> BlobFill | None:
        """The fill of a blob, begun if need be; None when the blob is here whole.

        Raises:
            FillError: environment; it is not offered any more.
            TransferError, UntrustedError: its piece table, or a blob without one, cannot be had.
            StorageError: environment; the store cannot be opened.
        """
        if not await self.is_allowed(ask.courseware, Digest(ask.digest)):
            raise FillError(f"blob {ask.digest[:16]} is not offered any more", zh="该课件已被撤回或更新", retry_s=1.0)
        while True:
            fill = self._fills.get(ask.digest)
            if fill is not None and fill.fault is None:
                return fill if not fill.is_whole else None
            if fill is not None:
                await self.drop(fill)
                continue
            task = self._opening.get(ask.digest)
            if task is None:
                task = self._opening[ask.digest] = asyncio.create_task(self._begin(ask))
                task.add_done_callback(self._opened)
            await asyncio.wait({task})
            if task.cancelled():
                raise FillError("the filler stops", zh="填充进程正在停止", retry_s=1.0)
            return task.result()

    def _opened(self, task: asyncio.Task[BlobFill | None]) -> None:
        for digest, one in list(self._opening.items()):
            if one is task:
                del self._opening[digest]
        if not task.cancelled():
            task.exception()  # told to those who wait; they may all have left

    async def is_allowed(self, courseware: str, digest: Digest) -> bool:
        """Whether a lesson with this blob is offered here, or installed and not recalled.

        Raises:
            StorageError: environment.
        """
        if await self._offers.offers(courseware, digest):
            return True
        tools = await self._workshop.open()
        installed = await asyncio.to_thread(tools.library.get, courseware)
        if installed is None or await self._offers.is_recalled(courseware, installed.version):
            return False
        return any(ref.digest == digest for ref in refs_of(installed))

    async def drop(self, fill: BlobFill) -> None:
        """Close a fill; what was proved stays."""
        for digest, one in list(self._fills.items()):
            if one is fill:
                del self._fills[digest]
                await fill.close()

    async def close(self, error: YuanjiaoError | None = None) -> None:
        """Close all fills; whoever waits is told."""
        tasks = set(self._opening.values())
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        for fill in self.fills():
            fill.end(error or FillError("the filler stops", zh="填充进程正在停止", retry_s=1.0))
            await self.drop(fill)

    def note_used(self, counts: Mapping[Digest, int]) -> None:
        """Record how often blobs were begun to be served; blocking. It works while the store is closed."""
        with Usage.open(self._parts.paths.usage) as usage:
            usage.note_used(counts, self._parts.clock())

    async def _begin(self, ask: Open) -> BlobFill | None:
        tools, ref = await self._workshop.open(), ask.ref
        if await asyncio.to_thread(self._workshop.is_here, tools, ref):
            return None
        reason = await asyncio.to_thread(self._workshop.reason, tools, ref.digest, is_installed=ask.is_installed)
        with because(reason):
            table, data = await self._table(tools, ref)
        try:
            if ref.table_ref is None:
                with because(reason):
                    await self._store_whole(tools, ref)
                await asyncio.to_thread(self._workshop.note, tools, ref, ask.courseware, reason)
                return None
            if data is not None:
                await run_to_end(tools.store.put, ref.table_ref, data)
            partial = await run_to_end(
                self._workshop.begin, tools, ref, table, ask.courseware, reason, undo=Partial.close
            )
        except (StorageError, ConfigurationError) as error:
            _log.warning("fill_bypasses", blob=ref.digest, reason=error.message, hint=error.hint)
            passing = Passing(ref, table, self._parts.settings.fill.bypass_bytes)
            fill = BlobFill(passing, tools.desk, UpstreamReason.BYPASS)
        else:
            fill = BlobFill(partial, tools.desk, reason)
        self._fills[ref.digest] = fill
        return fill

    async def _table(self, tools: Tools, ref: BlobRef) -> tuple[PieceTable, bytes | None]:
        """The piece table of a blob, and its bytes when they are not kept yet; a short blob is its own only piece.

        Raises:
            FormatError: bad data; it proves but does not fit the blob.
        """
        table_ref = ref.table_ref
        if table_ref is None:
            return PieceTable(ref.size, max(ref.piece_size, ref.size), bytes.fromhex(ref.digest)), None
        try:
            if await asyncio.to_thread(tools.store.has, table_ref.digest):
                return await asyncio.to_thread(tools.store.table, ref), None
        except StorageDamagedError as error:
            _log.warning("stored piece table is damaged; fetching it again", reason=error.message)
        data = await self._fetch(tools, table_ref)
        return parse_table(data, ref.size, ref.piece_size), data

    async def _store_whole(self, tools: Tools, ref: BlobRef) -> None:
        """Fetch and keep a blob that has no piece table."""
        await asyncio.to_thread(tools.store.keep_reserve, ref.size)
        await run_to_end(tools.store.put, ref, await self._fetch(tools, ref))

    async def _fetch(self, tools: Tools, ref: BlobRef) -> bytes:
        async def act(upstream: Source) -> bytes:
            data = await upstream.get_range(blob_path(ref.digest), 0, ref.size, ref.size)
            check_bytes(data, ref.digest, ref.size, f"blob {ref.digest[:16]} from {upstream.where(ref.digest)}")
            return data

        return await tools.sources.fetch_now(f"blob {ref.digest[:16]}", act) if ref.size else b""
