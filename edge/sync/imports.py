"""The import of a courier disk: a sync whose one source is the disk, with the same trust, proofs, pieces and installs.

So the night goes on where the disk stopped, and a disk where the night stopped; and both survive kill -9 in the same
way. What differs: a timestamp that travelled may have expired, and what the disk does not carry is left for later.
"""

from __future__ import annotations

import asyncio
import random
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from edge.sync.carried import Carried
from edge.sync.gauge import Gauge
from edge.sync.parts import Parts, Progress
from edge.sync.planner import SyncPlan
from edge.sync.report import SyncReport
from edge.sync.runner import preview_sync, run_sync
from edge.upstream.disk import Disk
from edge.upstream.sources import Patience, Sources
from manifests.errors import ConfigurationError, FormatError, UntrustedError
from manifests.line import Line

# What a stick gives, to tell how long an import will take.
_BYTES_PER_S = 20_000_000
# A medium in the hand is asked again at once, and a rotten file on it is no reason to leave the others.
_PATIENCE = Patience(attempts=2, cool_down_s=0.0, cool_down_most_s=0.0, ban_s=0.0, most_wrong=sys.maxsize)


def sources_of(disk: Disk) -> Sources:
    """The disk as the only source."""
    rng = random.Random()  # noqa: S311 - spreads retries in time, guards nothing
    return Sources((disk,), _PATIENCE, monotonic=time.monotonic, rng=rng)


async def run_import(parts: Parts, disk: Disk, progress: Progress | None = None) -> SyncReport:
    """Prove and install what the disk carries.

    Args:
        parts: of this edge, with `sources_of(disk)`.
        disk: opened.
        progress: as of a sync.

    Raises:
        ConfigurationError: caller's mistake; the disk is another province's.
        UntrustedError: bad data; names the file that is not trusted.
        TransferError: environment; the medium cannot be read, or a sync is running.
        StorageError: environment.
    """
    with _named(disk):
        return await run_sync(await _parts(parts, disk), progress)


async def preview_import(parts: Parts, disk: Disk) -> SyncPlan:
    """What `run_import` would do; changes nothing but `trust/`. Raises as it does."""
    with _named(disk):
        return await preview_sync(await _parts(parts, disk))


async def _parts(parts: Parts, disk: Disk) -> Parts:
    if disk.courier.publisher != parts.publisher:
        raise ConfigurationError(
            f"{disk.folder} is a disk of province {disk.courier.publisher}; this edge follows {parts.publisher}",
            zh=f"该递送盘属于 {disk.courier.publisher}，本边缘服务器属于 {parts.publisher}",
        )
    blobs, version = await asyncio.to_thread(lambda: (disk.carried(), disk.said_version()))
    pace = Line(zone=parts.line.zone, default_rate=_BYTES_PER_S)
    # What a disk gives says nothing of the line: it is measured and forgotten.
    gauge = Gauge(lambda: disk.traffic.bytes_received, pace, parts.zone, parts.clock, parts.monotonic, _forget)
    return replace(parts, carried=Carried(blobs, version), line=pace, ignore_window=True, gauge=gauge)


def _forget(_rates: tuple[int, ...]) -> None:
    return


@contextmanager
def _named(disk: Disk) -> Iterator[None]:
    """Add the file to errors about role files; those about blobs name theirs."""
    try:
        yield
    except UntrustedError as error:
        is_of_roles = not isinstance(error, FormatError) or error.message.startswith("role file")
        if not is_of_roles or not disk.last_read or str(disk.folder) in error.message:
            raise
        raise type(error)(
            f"{disk.folder}/{disk.last_read}: {error.message}",
            zh=f"递送盘文件 {disk.folder}/{disk.last_read}：{error.zh}",
            hint="check this machine's clock, then ask the province for a new disk; what was proved keeps playing",
            hint_zh="请先检查本机时钟，再向省级源站索取新的递送盘；已验证的课件照常播放",
        ) from error
