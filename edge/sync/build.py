"""Build one blob as its plan says: it is here, or a patch, or pieces, or whole. Proved in every case.

A patch is only ever a short cut. Whatever goes wrong with it (it does not prove, its old blob has rotted, no source
has it), it is dropped and what is still missing is fetched as pieces.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import structlog

from edge.store.blobs import BlobStore
from edge.store.partial import Partial
from edge.sync.planner import FilePlan, How
from edge.sync.transfer import Transfer
from edge.threads import run_stoppable, run_to_end
from manifests.digests import Digest, check_bytes
from manifests.errors import (
    DigestError,
    FormatError,
    NotFoundError,
    StorageDamagedError,
    TransferError,
    UntrustedError,
)
from manifests.model import File, Patch
from manifests.patches import apply_patch
from manifests.pieces import BlobRef

T = TypeVar("T")
Read = Callable[[int, int], bytes]

_log = structlog.get_logger(__name__)


class Builder:
    """Builds blobs; one per run.

    Attributes:
        bytes_from_patches: bytes of result that patches built so far.
    """

    def __init__(self, store: BlobStore, transfer: Transfer) -> None:
        self.bytes_from_patches = 0
        self._store = store
        self._transfer = transfer
        # Decoding holds up to 60 MiB (segment, region, frame), so one patch at a time.
        self._patching = asyncio.Lock()
        self._locks: dict[Digest, asyncio.Lock] = {}

    @property
    def bytes_proved(self) -> int:
        """Bytes from the line that proved, so far."""
        return self._transfer.bytes_proved

    def take_bytes(self, files: Sequence[File]) -> int:
        """Bytes from the line that proved for these files, their tables and patches; each is told once."""
        digests = {Digest(name) for file in files for name in (file.blob, file.table) if name}
        for file in files:
            for patch in file.patches:
                digests |= {Digest(name) for name in (patch.blob, patch.table) if name}
        return self._transfer.take_bytes(digests)

    async def build(self, ref: BlobRef, plan: FilePlan, patches: Sequence[Patch]) -> None:
        """Bring the blob here.

        Args:
            ref: the blob.
            plan: how; `HAVE` and `COPY` are looked at again: the disk may have lost it, or its lesson not begun yet.
            patches: those that the catalog lists; the plan names one of them by its digest.

        Raises:
            UntrustedError: bad data; no source sent it rightly.
            TransferError: environment.
            StorageError: environment.
        """
        # Two lessons may share a file: the second waits here and then finds it.
        async with self._locks.setdefault(ref.digest, asyncio.Lock()):
            size = await asyncio.to_thread(self._store.size, ref.digest)
            if size is None:
                await self._build(ref, await self._choose(plan, patches))
            elif size != ref.size:
                raise FormatError(
                    f"the catalog says {ref.size} bytes of blob {ref.digest[:16]}, which has {size}",
                    zh=f"目录称数据块 {ref.digest[:16]} 为 {ref.size} 字节，实际为 {size} 字节",
                )
            elif ref.table_ref is not None:
                await self._transfer.store_whole(ref.table_ref)  # siblings and the scrub need it; it may be lost alone

    async def _choose(self, plan: FilePlan, patches: Sequence[Patch]) -> Patch | None:
        """The planned patch; where none was planned because the blob was to be here, the first that can be applied."""
        if plan.how is How.PATCH:
            return _chosen(plan, patches)
        if plan.how in {How.HAVE, How.COPY}:
            for patch in patches:
                if await asyncio.to_thread(self._store.has, Digest(patch.source)):
                    return patch
        return None

    async def _build(self, ref: BlobRef, patch: Patch | None) -> None:
        if ref.table is None:
            if patch is None or not await self._store_patched(ref, patch):
                await self._transfer.store_whole(ref)
            return
        partial = await self._transfer.begin(ref)
        try:
            if patch is not None:
                await self._patch_pieces(partial, patch)
            await self._transfer.store_pieces(partial)
            await run_to_end(partial.finish)
        finally:
            partial.close()

    async def read(self, ref: BlobRef, plan: FilePlan, patches: Sequence[Patch], *, keep: bool) -> bytes | None:
        """Bring a blob into memory, proved whole, as its plan says.

        Args:
            ref: the blob.
            plan: with PATCH, the patch is tried first.
            patches: those that are listed for it.
            keep: store it, and the patch; and give None when it fails, for the caller to fetch pieces that are kept.
                Without, nothing on the disk changes and the blob is fetched whole instead.
        """
        patch = _chosen(plan, patches)
        data = await self._read_patched(ref, patch, keep=keep) if patch is not None else None
        if data is None and not keep:
            return await self._transfer.fetch_whole(ref)
        if data is not None and keep:
            await self._transfer.keep(ref, data)
        return data

    async def _store_patched(self, ref: BlobRef, patch: Patch) -> bool:
        data = await self._read_patched(ref, patch, keep=True)
        if data is not None:
            await self._transfer.keep(ref, data)
            self.bytes_from_patches += ref.size
        return data is not None

    async def _read_patched(self, ref: BlobRef, patch: Patch, *, keep: bool) -> bytes | None:
        """Apply a patch in memory and prove the result; None when it did not work out."""

        def join(segments: Iterator[bytes]) -> bytes:
            data = b"".join(segments)
            check_bytes(data, ref.digest, ref.size, f"result of patch {patch.blob[:16]}")
            return data

        return await self._apply(ref, patch, join, keep=keep)

    async def _patch_pieces(self, partial: Partial, patch: Patch) -> None:
        """Apply a patch to a partial blob; pieces that it does not bring stay missing."""
        before = partial.proved_bytes()

        def write(segments: Iterator[bytes]) -> None:
            bad = _write_pieces(partial, segments)
            if bad:
                raise DigestError(f"{bad} pieces of the result of patch {patch.blob[:16]} do not prove")

        try:
            await self._apply(partial.ref, patch, write, keep=True)
        finally:
            self.bytes_from_patches += partial.proved_bytes() - before

    async def _apply(self, ref: BlobRef, patch: Patch, take: Callable[[Iterator[bytes]], T], *, keep: bool) -> T | None:
        """Run `take` over the patch's segments in a thread; None when the patch turns out to be of no use."""
        try:
            read_patch = await self._open(patch, keep=keep)
            async with self._patching:
                return await run_stoppable(lambda stop: take(self._segments(ref, patch, read_patch, stop)))
        except (UntrustedError, TransferError, StorageDamagedError, NotFoundError) as error:
            _log.warning("patch dropped", blob=ref.digest, patch=patch.blob, source=patch.source, reason=error.message)
            return None

    async def _open(self, patch: Patch, *, keep: bool) -> Read:
        """Bring the patch here (or into memory only) and return a reader of it."""
        if not keep and not await asyncio.to_thread(self._store.has, Digest(patch.blob)):
            data = await self._transfer.fetch_whole(patch.ref)
            return lambda start, stop: data[start:stop]
        await self.build(patch.ref, FilePlan("patch", How.PIECES, patch.size, patch.size, 0), ())
        return lambda start, stop: self._store.read(Digest(patch.blob), start, stop)

    def _segments(self, ref: BlobRef, patch: Patch, read_patch: Read, stop: threading.Event) -> Iterator[bytes]:
        source = Digest(patch.source)
        old_size = self._store.size(source)
        if old_size is None:
            raise NotFoundError(f"blob {source[:16]}, which the patch starts from, is not here")

        def read_old(start: int, end: int) -> bytes:
            return self._store.read(source, start, end)

        for segment in apply_patch(read_old, read_patch, patch.size, old_size=old_size, new_size=ref.size):
            if stop.is_set():
                return
            yield segment


def _chosen(plan: FilePlan, patches: Sequence[Patch]) -> Patch | None:
    if plan.how is not How.PATCH:
        return None
    return next((patch for patch in patches if patch.blob == plan.patch and patch.source == plan.source), None)


def _write_pieces(partial: Partial, segments: Iterator[bytes]) -> int:
    """Cut segments into whole pieces, prove and store them; returns how many did not prove."""
    size = partial.table.piece_size
    rest = b""
    first = bad = 0
    for segment in segments:
        data = rest + segment
        whole = len(data) // size * size
        bad += len(partial.write_pieces(first, memoryview(data)[:whole]))
        first += whole // size
        rest = data[whole:]
    # A shorter rest is the blob's last piece; when the run was stopped it is half a piece, and does not prove.
    return bad + (len(partial.write_pieces(first, rest)) if rest else 0)
