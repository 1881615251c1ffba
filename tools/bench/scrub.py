"""The search for rot beside `xxhsum -H3` on the same files, both from the disk: the page cache is dropped for both."""

from __future__ import annotations

import asyncio
import os
import shutil
import time
from collections.abc import Sequence
from pathlib import Path

from edge.paths import Paths
from edge.store.blobs import BlobStore
from edge.store.disk import opened
from edge.store.library import Library
from edge.store.scrub import candidates, run_scrub
from edge.store.scrub_plan import plan_scrub
from manifests.digests import digest_of
from manifests.instants import Instant
from manifests.pieces import PIECE_SIZE, BlobRef, TableBuilder, parse_table
from tools.bench.measure import Bench, has, run_measured
from tools.bench.table import Row, median, show_rate
from tools.output import show_bytes

_FILES = 8
_LONG_AGO = Instant(1_800_000_000)


def run(bench: Bench) -> list[Row]:
    """Measure."""
    root = bench.fresh("edge-scrub")
    try:
        return [_row(bench, Paths(root))]
    finally:
        shutil.rmtree(root, ignore_errors=True)


def _row(bench: Bench, paths: Paths) -> Row:
    paths.make()
    ours, theirs = [], []
    with BlobStore.open(paths, reserve_bytes=0) as store:
        files = [_fill(store, bench.size_bytes // _FILES) for _ in range(_FILES)]
        size = sum(file.stat().st_size for file in files)
        for _ in range(bench.rounds):
            ours.append(size / asyncio.run(_scrub(store, files)))
            if has("xxhsum"):
                _forget(files)
                measured = run_measured(("xxhsum", "-q", "-H3", *map(str, files)))
                theirs.append(size / measured.seconds)
    speed = median(ours)
    return Row(
        f"scrub of {show_bytes(size)} in {_FILES} files",
        show_rate(speed),
        f"xxhsum -H3 {show_rate(median(theirs))}" if theirs else "xxhsum: not installed",
        speed / median(theirs) if theirs else None,
        "≥ 0.8 ×",
        "from the disk, page cache dropped before each; ours also checks the index and records each blob",
    )


async def _scrub(store: BlobStore, files: Sequence[Path]) -> float:
    _forget(files)
    plan = plan_scrub(candidates(store), 0)
    began_s = time.monotonic()
    report = await run_scrub(store, Library(store), plan, _LONG_AGO)
    seconds = time.monotonic() - began_s
    if report.bad:
        raise RuntimeError("what was just stored is rotten: the figure would mean nothing")
    return seconds


def _fill(store: BlobStore, size: int) -> Path:
    """Store one blob of random bytes, by the steps of a sync."""
    data = os.urandom(size)
    builder = TableBuilder(PIECE_SIZE)
    builder.update(data)
    text = builder.finish()
    if size <= PIECE_SIZE:
        ref = BlobRef(digest_of(data), size)
        store.put(ref, data)
        return store.path(ref.digest)
    ref = BlobRef(digest_of(data), size, digest_of(text))
    table_ref = ref.table_ref
    if table_ref is not None:
        store.put(table_ref, text)
    with store.begin(ref, parse_table(text, size, PIECE_SIZE)) as partial:
        for first in range(0, ref.piece_count, 16):
            partial.write_pieces(first, data[first * PIECE_SIZE : (first + 16) * PIECE_SIZE])
        partial.finish()
    return store.path(ref.digest)


def _forget(files: Sequence[Path]) -> None:
    """Have the system drop these files from its page cache."""
    for file in files:
        with opened(file) as fd:
            os.fsync(fd)
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
