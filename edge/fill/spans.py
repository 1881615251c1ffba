"""One span of pieces on its way: each complete piece is proved and stored while the rest still arrives.

Whatever ends a transfer (a cut line, a stall, Ctrl-C), the complete pieces that had arrived are stored first.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection
from typing import Any, Protocol

from edge.upstream.body import Body
from edge.upstream.client import blob_path
from edge.upstream.gate import Gate
from edge.upstream.source import Source
from manifests.errors import DigestError
from manifests.pieces import BlobRef, PieceTable, Span, piece_count, plan_spans

Run = Callable[..., Awaitable[Any]]
Stored = Callable[[set[int]], None]

# Pieces are handed over by the megabyte when they come fast, so that a commit is not paid for each one, and by the
# second when they come slowly, so that a killed process loses little.
_PORTION_BYTES = 1024 * 1024
_PORTION_S = 1.0


class Pieces(Protocol):
    """Where pieces go; `edge.store.partial.Partial` is one."""

    @property
    def ref(self) -> BlobRef:
        """The blob that they make."""
        ...

    @property
    def table(self) -> PieceTable:
        """What each must hash to."""
        ...

    def write_pieces(self, first: int, data: bytes | memoryview) -> list[int]:
        """Prove pieces and keep the good ones; see `Partial.write_pieces`."""
        ...


class SpanFetch:
    """The pieces of one span that are still missing, fetched from one source after another.

    Args:
        partial: the blob.
        span: which of its pieces.
        run: runs blocking work in a thread.
        tick: told whenever bytes have come.
        stored: somebody waits for each piece: it is handed over when it is complete, and told here when it is stored.

    Attributes:
        refused: addresses of sources that sent a piece of this span which did not prove.
        bytes_stored: bytes that came and proved.
    """

    def __init__(
        self,
        partial: Pieces,
        span: Span,
        run: Run,
        tick: Callable[[], None],
        gate: Gate | None = None,
        stored: Stored | None = None,
    ) -> None:
        self._tick = tick
        self._stored = stored
        self._rest: dict[str, tuple[int, bytes]] = {}
        self.refused: set[str] = set()
        self.bytes_stored = 0
        self._partial = partial
        self._left = set(span.numbers())
        self._run = run
        self._gate = gate

    @property
    def what(self) -> str:
        """Names it, for messages."""
        return f"blob {self._partial.ref.digest[:16]}"

    def missing(self) -> list[int]:
        """Numbers of the span's pieces that are not stored yet."""
        return sorted(self._left)

    def skip(self, numbers: Collection[int]) -> None:
        """Leave pieces out that came by another way."""
        self._left.difference_update(numbers)

    async def run(self, upstream: Source) -> None:
        """Fetch what is missing from one source; good pieces are stored whatever happens to the others.

        Raises:
            DigestError: bad data; some pieces did not prove.
            TransferError: environment.
        """
        table = self._partial.table
        bad: list[int] = []
        for part in plan_spans(self.missing(), len(table)):
            body = Body(*part.bounds(table), table.size)
            self._go_on(body, upstream.url)
            writer = _Writer(self._partial, part.first, body, self._run, self._tick, self._stored)
            try:
                await upstream.fill(blob_path(self._partial.ref.digest), body, writer.arrived, self._gate)
            finally:
                try:
                    await writer.finish()
                finally:
                    self._left -= writer.stored
                    self._rest[upstream.url] = writer.rest()
                    self.bytes_stored += sum(stop - start for start, stop in map(table.bounds, writer.stored))
            bad += writer.bad
        if bad:
            digest = self._partial.ref.digest
            self.refused.add(upstream.url)
            raise DigestError(
                f"blob {digest[:16]} from {upstream.where(digest)}: piece {bad[0]} does not prove"
                + (f" (and {len(bad) - 1} more)" if len(bad) > 1 else ""),
                zh=f"上游 {upstream.where(digest)} 发送的数据块 {digest[:16]} 第 {bad[0]} 分片未通过验证",
            )

    def _go_on(self, body: Body, url: str) -> None:
        """Begin with what this source had sent of the first piece when it broke off: bytes of one source only."""
        start, rest = self._rest.pop(url, (-1, b""))
        if start == body.start:
            body.buffer[: len(rest)] = rest
            body.filled = len(rest)


class _Writer:
    """Hands the complete pieces of one body to the store, one portion at a time."""

    def __init__(
        self, partial: Pieces, first: int, body: Body, run: Run, tick: Callable[[], None], told: Stored | None
    ) -> None:
        self._tick = tick
        self._told = told
        self.bad: list[int] = []
        self.stored: set[int] = set()
        self._partial = partial
        self._first = first
        self._body = body
        self._run = run
        self._taken = 0  # bytes handed over
        self._taken_s = asyncio.get_running_loop().time()
        self._storing: tuple[range, asyncio.Future[list[int]]] | None = None

    async def arrived(self, _: Body) -> None:
        """Take what is complete, when it is worth it; waits only while the portion before is still being stored."""
        self._tick()
        ready = self._ready()
        now_s = asyncio.get_running_loop().time()
        # With somebody waiting a piece goes at once, unless the one before is still at the disk: then they go together.
        is_awaited = self._told is not None and (self._storing is None or self._storing[1].done())
        if ready >= _PORTION_BYTES or (ready and (is_awaited or now_s - self._taken_s >= _PORTION_S)):
            await self._take(ready)
            self._taken_s = now_s

    async def finish(self) -> None:
        """Store all that is complete; afterwards no thread uses the body any more."""
        if ready := self._ready():
            await self._take(ready)
        await self._join()

    def rest(self) -> tuple[int, bytes]:
        """Where in the blob the first piece that did not come whole begins, and what came of it."""
        body = self._body
        return body.start + self._taken, bytes(memoryview(body.buffer)[self._taken : body.filled])

    def _ready(self) -> int:
        """Bytes of complete pieces not handed over yet; the body's last piece may be short."""
        body = self._body
        if body.filled == len(body.buffer):
            return body.filled - self._taken
        size = self._partial.table.piece_size
        return body.filled // size * size - self._taken

    async def _take(self, ready: int) -> None:
        await self._join()
        size = self._partial.table.piece_size
        start = self._taken
        self._taken += ready
        first = self._first + start // size
        view = memoryview(self._body.buffer)[start : start + ready]
        numbers = range(first, first + piece_count(ready, size))
        storing = asyncio.ensure_future(self._run(self._partial.write_pieces, first, view))
        self._storing = numbers, storing
        if self._told is not None:
            storing.add_done_callback(lambda done: self._tell(numbers, done))

    def _tell(self, numbers: range, done: asyncio.Future[list[int]]) -> None:
        if self._told is not None and not done.cancelled() and done.exception() is None:
            self._told(set(numbers).difference(done.result()))

    async def _join(self) -> None:
        if self._storing is None:
            return
        numbers, storing = self._storing
        # Not cancelled with us: the thread reads the body's memory and writes to the partial's descriptor.
        await asyncio.wait([storing])
        self._storing = None
        bad = storing.result()
        self.bad += bad
        self.stored |= set(numbers).difference(bad)
