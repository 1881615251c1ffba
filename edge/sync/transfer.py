"""Bring one blob here, proved: whole when it is small, otherwise by pieces in coalesced range requests.

Several requests are in flight, over several sources when one is busy; memory is bounded by requests × span. Pieces are
proved and stored while the rest of their span arrives, so a broken line or a killed process costs at most the pieces
under way. A piece that does not prove costs its source a ban and is asked of another one; the good pieces around it
are kept.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from concurrent.futures import Executor
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

import structlog

from edge.fill.spans import SpanFetch
from edge.store.blobs import BlobStore
from edge.store.partial import Partial
from edge.sync.city import City
from edge.sync.inflight import InFlight
from edge.sync.shares import GROUP_BYTES, Shares
from edge.sync.slots import Slots
from edge.sync.swarm import SwarmFill
from edge.threads import run_to_end
from edge.upstream.body import Body
from edge.upstream.client import MissingError, NotYetError, blob_path
from edge.upstream.gate import Gate
from edge.upstream.source import Source
from edge.upstream.sources import Sources
from manifests.digests import Digest, check_bytes
from manifests.errors import StorageDamagedError, StorageError, TransferError, UntrustedError
from manifests.pieces import BlobRef, PieceTable, Span, parse_table, plan_spans

T = TypeVar("T")

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class TransferLimits:
    """Bounds of what is under way at once.

    Attributes:
        requests_in_flight: most to above, over all blobs; how many there are follows the line.
        span_bytes: longest range request; memory is this × requests_in_flight, and as much again in socket buffers.
    """

    requests_in_flight: int = 8
    span_bytes: int = 4 * 1024 * 1024


class Transfer:
    """Fetches blobs into a store. One per run; not for two event loops.

    Args:
        executor: small; its threads hash and write.
        urgent: what is stored may use the reserve (see `BlobStore.put`).
        bulk: told when spans are under way and when none is any more.
        gate: what bulk must pass; without one nothing holds it back.
        slots: places for requests to above, shared with the other transfers of the run.
        city: edges to share the work with; None: all comes from above.

    Attributes:
        bytes_proved: bytes that came and proved.
    """

    def __init__(
        self,
        store: BlobStore,
        sources: Sources,
        limits: TransferLimits,
        executor: Executor,
        *,
        urgent: bool,
        bulk: Callable[[bool], None] | None = None,
        gate: Gate | None = None,
        slots: Slots | None = None,
        city: City | None = None,
    ) -> None:
        self.bytes_proved = 0
        self._bulk = bulk
        self._spans = 0
        self._bytes_by_blob: dict[Digest, int] = {}
        self._store = store
        self._urgent = urgent
        self._sources = sources
        self._limits = limits
        self._executor = executor
        self._slots = slots or make_slots(sources, limits)
        self._city = city
        self._gate = gate

    async def fetch_whole(self, ref: BlobRef) -> bytes:
        """Fetch a blob into memory and prove it by its digest; resumes within this call.

        Raises:
            UntrustedError: bad data; every source that has it sent it wrongly.
            TransferError: environment.
        """
        if not ref.size:
            return b""
        bodies: dict[str, Body] = {}

        async def act(upstream: Source) -> bytes:
            # One body per source: bytes of two sources in one body could not be blamed on either.
            body = bodies.setdefault(upstream.url, Body(0, ref.size, ref.size))
            await upstream.fill(blob_path(ref.digest), body, gate=self._gate)
            check_bytes(body.buffer, ref.digest, ref.size, f"blob {ref.digest[:16]} from {upstream.where(ref.digest)}")
            self._proved(ref.digest, ref.size)
            return bytes(body.buffer)

        keeper = self._city.keeper(ref.digest) if self._city else None
        if keeper is not None:
            with suppress(TransferError, UntrustedError):  # remembered by `Sources`; above has it as well
                return await self._sources.ask(keeper, act)

        async def act_above(upstream: Source) -> bytes:
            async with self._slots:
                return await act(upstream)

        return await self._sources.fetch(f"blob {ref.digest[:16]}", act_above)

    async def store_whole(self, ref: BlobRef) -> None:
        """Fetch, prove and store a small blob, unless it is here."""
        if not await self._run(self._store.has, ref.digest):
            await self.keep(ref, await self.fetch_whole(ref))

    async def keep(self, ref: BlobRef, data: bytes) -> None:
        """Prove and store bytes that are in hand.

        Raises:
            DigestError: bad data; nothing was stored.
            StorageError: environment.
        """
        await run_to_end(partial(self._store.put, ref, data, urgent=self._urgent))

    async def begin(self, ref: BlobRef) -> Partial:
        """Fetch the piece table if need be, and open the blob to be filled; the caller closes it.

        Raises:
            UntrustedError: bad data.
            TransferError: environment.
            StorageError: environment.
        """
        table = await self.table(ref)
        return await run_to_end(partial(self._store.begin, ref, table, urgent=self._urgent), undo=Partial.close)

    async def table(self, ref: BlobRef) -> PieceTable:
        """The piece table of a blob, from here or from a source.

        Raises:
            FormatError: bad data; it proves but does not fit the blob.
        """
        table_ref = ref.table_ref
        if table_ref is None:
            raise ValueError(f"blob {ref.digest[:16]} has no piece table")
        if await self._run(self._store.has, table_ref.digest):
            try:
                return await self._run(self._store.table, ref)
            except StorageDamagedError as error:
                _log.warning("stored piece table is damaged; fetching it again", reason=error.message)
        data = await self.fetch_whole(table_ref)
        await self.keep(table_ref, data)
        return parse_table(data, ref.size, ref.piece_size)

    async def store_pieces(self, blob: Partial) -> None:
        """Fetch the pieces that a partial blob lacks.

        Raises:
            UntrustedError: bad data; some pieces are wrong at every source. All others are stored.
            TransferError: environment; what had arrived is stored.
            StorageError: environment.
        """
        if self._city is not None and self._city.siblings and blob.ref.size > GROUP_BYTES and blob.missing():
            await self._swarm(self._city, blob)
            return
        work = _Work()
        most = max(1, self._limits.span_bytes // blob.table.piece_size)
        async with asyncio.TaskGroup() as group:
            for span in plan_spans(blob.missing(), most):
                await self._slots.acquire()
                if work.failed is not None:
                    self._slots.release()
                    break
                group.create_task(self._span(blob, span, work))
        if work.failed or work.wrong:
            raise work.failed or work.wrong[0]

    async def _span(self, blob: Partial, span: Span, work: _Work) -> None:
        """Run one span to its end; faults are kept in `work`, so that what siblings have under way is stored."""
        fetch = self._fetch(blob, span)
        self._count_spans(1)
        try:
            left = fetch.missing()
            while left:
                try:
                    await self._from_above(fetch)
                except TransferError as error:
                    # A line that drops every minute still brings pieces every minute: only standing still is failure.
                    if len(fetch.missing()) == len(left):
                        work.failed = work.failed or error
                        return
                left = fetch.missing()
        except UntrustedError as error:
            work.wrong.append(error)
        except StorageError as error:
            work.failed = error
        finally:
            self._count_spans(-1)
            self._proved(blob.ref.digest, fetch.bytes_stored)
            self._slots.release()

    def take_bytes(self, digests: Iterable[Digest]) -> int:
        """Bytes of these blobs that came and proved since they were last asked after."""
        return sum(self._bytes_by_blob.pop(digest, 0) for digest in digests)

    def _proved(self, digest: Digest, count: int) -> None:
        self.bytes_proved += count
        self._bytes_by_blob[digest] = self._bytes_by_blob.get(digest, 0) + count

    def _count_spans(self, change: int) -> None:
        before, self._spans = self._spans, self._spans + change
        if self._bulk is not None and (before > 0) != (self._spans > 0):
            self._bulk(self._spans > 0)

    async def _swarm(self, city: City, blob: Partial) -> None:
        """Fill a blob together with the siblings."""
        siblings = [one.url for one in city.siblings]
        ref = blob.ref
        shares = await self._run(Shares, ref.digest, len(blob.table), ref.piece_size, city.own, siblings)
        make, came = partial(self._fetch, blob), partial(self._proved, ref.digest)
        await SwarmFill(city, blob, shares, self._slots, self._share_from_above, make, came).run()

    async def _share_from_above(self, fetch: SpanFetch) -> None:
        self._count_spans(1)
        try:
            await self._from_above(fetch)
        finally:
            self._count_spans(-1)

    def _fetch(self, blob: Partial, span: Span) -> SpanFetch:
        return SpanFetch(blob, span, self._run, self._slots.tick, self._gate)

    async def _from_above(self, fetch: SpanFetch) -> None:
        async def act(upstream: Source) -> None:
            try:
                await fetch.run(upstream)
            except TransferError as error:
                if not isinstance(error, MissingError | NotYetError):
                    self._slots.hurt()
                raise

        await self._sources.fetch(fetch.what, act, fetch.refused)

    async def _run(self, work: Callable[..., T], *args: Any) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._executor, work, *args)


def make_slots(sources: Sources, limits: TransferLimits) -> Slots:
    """Places for the requests of one run to above."""
    return Slots(InFlight(limits.requests_in_flight), lambda: sources.bytes_from_above)


@dataclass(slots=True)
class _Work:
    """Faults met while the spans of one blob were under way; `failed` ends the work, `wrong` does not."""

    failed: TransferError | StorageError | None = None
    wrong: list[UntrustedError] = field(default_factory=list)
