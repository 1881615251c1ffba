"""Making a patch: both blobs mapped, segments compressed on two threads, frames spooled, then stored as a blob.

Memory holds the segments in flight, not the blobs: pages of the two mappings are given back as the work goes on, or
the figure that operators see for this process would grow to the size of both files.
"""

from __future__ import annotations

import asyncio
import mmap
import os
import threading
from collections import deque
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path

import aiofiles

from manifests.model import Patch
from manifests.patches import PatchPlan, dump_header, encode_segment, header_size, plan_patch
from manifests.pieces import BlobRef
from manifests.ranges import ByteRange
from origin.publish.ingest import ingest, staged_path
from origin.publish.source import Source, stamp_of
from origin.publish.together import outlast
from origin.storage.base import BlobStorage
from origin.storage.faults import storage_faults

MIN_BLOB_BYTES = 16 * 1024  # below, the patch's own request costs as much as the whole file
MIN_COVERED = 0.1  # less in common than this, and compressing it all would be work for nothing
THREADS = 2
_TRIM_S = 0.005  # the planner's index scans some 2 GB/s, so about 10 MB of pages pile up in between


async def make_patch(storage: BlobStorage, staging: Path, old: BlobRef, new: BlobRef, max_ratio: float) -> Patch | None:
    """Make and store a patch that builds `new` from `old`.

    Args:
        storage: holds both blobs and takes the patch.
        staging: this process's own directory.
        old: the older blob.
        new: the newer one.
        max_ratio: a patch larger than this share of `new` is not kept.

    Returns:
        The patch, None when it is not worth it.

    Raises:
        StorageError: environment; nothing is left in staging.
    """
    if old.digest == new.digest or min(old.size, new.size) < MIN_BLOB_BYTES:
        return None
    async with AsyncExitStack() as stack:
        before = await stack.enter_async_context(_local(storage, staging, old))
        after = await stack.enter_async_context(_local(storage, staging, new))
        frames = staged_path(staging, ".frames")
        stack.callback(frames.unlink, missing_ok=True)
        stop = threading.Event()
        work = partial(_encode, before, after, frames, int(new.size * max_ratio), stop)
        # Its files may go only when the thread has ended, which it does at its next segment.
        header = await outlast(asyncio.get_running_loop().run_in_executor(None, work), stop.set)
        if header is None:
            return None
        stamp = stamp_of(frames)
        ref = await ingest(Source("patch", (header, ByteRange(0, stamp.size)), frames, stamp), storage, staging)
    return Patch(source=old.digest, blob=ref.digest, size=ref.size, table=ref.table)


@asynccontextmanager
async def _local(storage: BlobStorage, staging: Path, ref: BlobRef) -> AsyncIterator[Path]:
    """The blob as a file: its own, or a spooled copy when the storage is elsewhere."""
    path = storage.local_path(ref.digest)
    if path is not None:
        yield path
        return
    path = staged_path(staging, ".spool")
    try:
        with storage_faults("spooling a blob"):
            async with aiofiles.open(path, "xb", buffering=0) as file:
                async for portion in storage.read(ref.digest, 0, ref.size):
                    while portion:  # a disk that fills up may take a part
                        portion = portion[await file.write(portion) :]
        yield path
    finally:
        path.unlink(missing_ok=True)


def _encode(before: Path, after: Path, frames: Path, most: int, stop: threading.Event) -> bytes | None:
    """Write the frames to a file; returns the header, None when the patch is given up."""
    with storage_faults("making a patch"), _mapped(before) as old, _mapped(after) as new:
        with _trimmed(old, new):
            plan = plan_patch(old, new, lambda: _give_back(old, new))
        if plan.covered_ratio < MIN_COVERED:
            return None
        sizes: list[int] = []
        left = most - header_size(len(plan.segments))
        with frames.open("xb") as file:
            for frame in _frames(plan, old, new):
                left -= len(frame)
                if left < 0 or stop.is_set():
                    return None
                file.write(frame)
                sizes.append(len(frame))
        return dump_header(plan, sizes)


def _frames(plan: PatchPlan, old: mmap.mmap, new: mmap.mmap) -> Iterator[bytes]:
    """Compressed segments in order, with `THREADS` of them in work and as many ready at most."""
    with ThreadPoolExecutor(THREADS) as threads:
        flights: deque[Future[bytes]] = deque()
        try:
            for number in range(len(plan.segments)):
                if len(flights) == THREADS:
                    yield flights.popleft().result()
                    _give_back(old, new)
                flights.append(threads.submit(encode_segment, plan, number, old, new))
            while flights:
                yield flights.popleft().result()
        finally:
            for flight in flights:
                flight.cancel()


@contextmanager
def _mapped(path: Path) -> Iterator[mmap.mmap]:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        with mmap.mmap(fd, 0, prot=mmap.PROT_READ) as mapping:
            # Else each byte that is looked at may map 2 MiB.
            mapping.madvise(mmap.MADV_NOHUGEPAGE)
            yield mapping
    finally:
        os.close(fd)


@contextmanager
def _trimmed(*mappings: mmap.mmap) -> Iterator[None]:
    """Give pages back all along a work that scans a whole mapping in one call."""
    done = threading.Event()

    def trim() -> None:
        while not done.wait(_TRIM_S):
            _give_back(*mappings)

    thread = threading.Thread(target=trim, name="patch-trim")
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def _give_back(*mappings: mmap.mmap) -> None:
    # Drops them from this process only; they stay in the kernel's cache and come back at the next touch.
    for mapping in mappings:
        mapping.madvise(mmap.MADV_DONTNEED)
