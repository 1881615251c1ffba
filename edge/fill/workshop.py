"""What filling needs open: store, library, usage record, sources. Open while there is something to fill.

Not for longer: a damaged index can be rebuilt only while nobody has it open for writing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from typing import Any, TypeVar

from edge.fill.desk import Desk
from edge.fill.parts import FillParts
from edge.metrics import Counters, cell_of
from edge.reasons import UpstreamReason
from edge.store.blobs import BlobStore
from edge.store.evicting import limits_of, make_room
from edge.store.eviction import Standing
from edge.store.library import Library
from edge.store.partial import Partial
from edge.store.usage import Usage
from edge.threads import run_to_end
from edge.upstream.sources import Sources
from manifests.digests import Digest
from manifests.errors import StorageFullError, YuanjiaoError
from manifests.instants import Instant
from manifests.pieces import BlobRef, PieceTable

T = TypeVar("T")

# Threads that hash and write beside the loop, which reads sockets; more would only queue for the same two cores.
_WRITERS = 3
# What is being filled must not be evicted for something else; renewed whenever it is opened again.
_LEASE_S = 3600


@dataclass(frozen=True, slots=True)
class Tools:
    """What is open."""

    store: BlobStore
    library: Library
    usage: Usage
    sources: Sources
    desk: Desk


class Workshop:
    """Opens and closes the tools. For one event loop."""

    def __init__(self, parts: FillParts, counters: Counters) -> None:
        self._parts = parts
        self._counters = counters
        self._stack: AsyncExitStack | None = None
        self._tools: Tools | None = None
        self._turn = asyncio.Lock()

    @property
    def tools(self) -> Tools | None:
        """What is open now."""
        return self._tools

    async def open(self) -> Tools:
        """The tools, opened if need be.

        Raises:
            StorageError: environment; the store cannot be opened for writing.
            BusyError: environment; its index must be rebuilt, and somebody else has it open.
        """
        async with self._turn:
            if self._tools is None:
                async with AsyncExitStack() as stack:
                    self._tools = await self._open(stack)
                    self._stack = stack.pop_all()
            return self._tools

    async def close(self) -> None:
        """Close what is open; partial blobs must have been closed before."""
        async with self._turn:
            tools, stack = self._tools, self._stack
            self._tools = self._stack = None
            if tools is not None and stack is not None:
                with suppress(YuanjiaoError):  # a disk that takes no note of bans must not keep the tools open
                    await asyncio.to_thread(self._parts.keep_bans, tools.library, tools.sources)
                await stack.aclose()

    async def _open(self, stack: AsyncExitStack) -> Tools:
        parts = self._parts
        reserve = parts.settings.store.reserve_bytes

        def open_store() -> BlobStore:
            return BlobStore.open(parts.paths, reserve_bytes=reserve, wait_s=1.0)

        store = await run_to_end(open_store, undo=BlobStore.close)
        stack.push_async_callback(asyncio.to_thread, store.close)
        library = Library(store)
        usage = await asyncio.to_thread(Usage.open, parts.paths.usage)
        stack.callback(usage.close)
        sources = await stack.enter_async_context(parts.sources(library, self._count))
        executor = ThreadPoolExecutor(_WRITERS, "yuanjiao-fill")
        stack.callback(executor.shutdown)

        async def run(work: Callable[..., Any], *args: Any) -> Any:
            return await asyncio.get_running_loop().run_in_executor(executor, work, *args)

        desk = Desk(sources, run, self._counters, parts.settings.fill.requests_in_flight)
        return Tools(store, library, usage, sources, desk)

    def _count(self, reason: UpstreamReason, count: int) -> None:
        self._counters.add(cell_of(reason), count)

    def begin(self, tools: Tools, ref: BlobRef, table: PieceTable, courseware: str, reason: UpstreamReason) -> Partial:
        """Set room aside for a blob, others' room if need be, and open it to be filled; blocking.

        Raises:
            StorageFullError: environment; there is no room, and none can be made.
            StorageError: environment.
            ConfigurationError: bad data; the watermarks, which are read when room must be made.
        """
        now = self._parts.clock()
        tools.usage.lease([ref.digest], Instant(now + _LEASE_S))
        try:
            partial = self._begin(tools, ref, table)
        except StorageFullError:
            limits = limits_of(self._parts.settings.store)
            standing = Standing.PULLED if reason is UpstreamReason.NOT_PLANNED else Standing.PLANNED
            if not make_room(tools.store, tools.library, tools.usage, limits, ref.size, now, standing=standing):
                raise
            partial = self._begin(tools, ref, table)
        self.note(tools, ref, courseware, reason)
        return partial

    def note(self, tools: Tools, ref: BlobRef, courseware: str, reason: UpstreamReason) -> None:
        """Record that a terminal's wish brings a blob here, unless it only mends what a plan brought; blocking."""
        if reason is not UpstreamReason.DAMAGED:
            tools.usage.note_pulled(ref.digest, courseware, ref.size, self._parts.clock())

    def _begin(self, tools: Tools, ref: BlobRef, table: PieceTable) -> Partial:
        quota = self._parts.settings.store.quota_bytes
        if quota and not tools.store.paths.partial(ref.digest).exists():
            stats = tools.store.stats()
            if stats.blob_bytes + stats.partial_bytes + ref.size > quota:
                raise StorageFullError(
                    f"{ref.size} bytes do not fit into the quota of {quota}",
                    zh=f"{ref.size} 字节超出课件占用上限 {quota}",
                )
        return tools.store.begin(ref, table)

    def is_here(self, tools: Tools, ref: BlobRef) -> bool:
        """Whether the blob is whole on the disk; one that only the index has is marked as rotten; blocking.

        Raises:
            StorageError: environment.
        """
        if not tools.store.has(ref.digest):
            return False
        try:
            is_long_enough = tools.store.path(ref.digest).stat().st_size == ref.size
        except OSError:
            is_long_enough = False
        if not is_long_enough:
            tools.store.mark_rotten(ref.digest, range(ref.piece_count))
        return is_long_enough

    def reason(self, tools: Tools, digest: Digest, *, is_installed: bool) -> UpstreamReason:
        """Why a blob that is not here must be fetched; blocking."""
        if not is_installed:
            return UpstreamReason.NOT_PLANNED
        return UpstreamReason.EVICTED if tools.usage.was_evicted(digest) else UpstreamReason.DAMAGED
