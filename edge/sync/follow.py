"""Follow the province: its newest signed release, and the catalog that the release names, proved and decoded."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

import structlog

from edge.sync.build import Builder
from edge.sync.carried import Carried
from edge.sync.freshness import Freshness, TrustState, freshness_of
from edge.sync.parts import Parts
from edge.sync.planner import Here, How, plan_blob
from edge.sync.stocktaking import take_stock
from edge.sync.verify import CATALOG_TARGET
from edge.threads import run_to_end
from manifests.catalog import decode_catalog, resolve
from manifests.errors import (
    FormatError,
    RollbackError,
    StorageDamagedError,
    StorageError,
    TransferError,
    UntrustedError,
)
from manifests.instants import Instant
from manifests.model import Catalog, Patch
from manifests.pieces import BlobRef

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Followed:
    """The release to work by.

    Attributes:
        now: trusted time to plan by.
        lag: why the province could not be followed further than `state`; None when it could.
    """

    state: TrustState
    now: Instant
    lag: UntrustedError | None = None


async def follow(parts: Parts) -> Followed:
    """Verify the newest release; when no source has an acceptable one, go on with the last that was verified.

    With the older release, time stands still at its signed hour: a clock that runs years ahead must not make lessons
    expire, and it is such a clock that most often leads here.

    Raises:
        UntrustedError: bad data; and nothing was verified before, or so long ago that nothing new is accepted.
        TransferError: environment; no source could be reached, so nothing can be completed either.
        StorageError: environment.
    """
    before = await asyncio.to_thread(parts.trust.load)
    try:
        state = await parts.trust.refresh(parts.sources, parts.library.catalog_version(), _grace(parts))
    except UntrustedError as error:
        if before is None or _freshness(parts, before) is Freshness.EXPIRED:
            raise
        if parts.carried is not None and _is_older(parts.carried, before, error):
            _log.info("older courier disk; only its blobs are taken", catalog_version=before.catalog_version)
            is_fresh = _freshness(parts, before) is Freshness.FRESH
            return Followed(before, parts.trust.now() if is_fresh else before.floor)
        _log.error("province not followed", reason=error.message, catalog_version=before.catalog_version)
        return Followed(before, before.floor, error)
    return Followed(state, parts.trust.now())


async def follow_on(parts: Parts, state: TrustState) -> Followed:
    """Ask every few minutes until there is a newer catalog than that of `state`.

    A night's bulk takes hours, and a recall must not wait for its end. Whoever cannot be reached now, or lies, is
    asked again at the next turn: the release at work stands meanwhile.
    """
    while True:
        await asyncio.sleep(parts.poll_s)
        try:
            newest = await parts.trust.refresh(parts.sources, parts.library.catalog_version(), _grace(parts))
        except (UntrustedError, TransferError, StorageError) as error:
            _log.info("newer release not learnt", reason=error.message)
        else:
            if newest.catalogs != state.catalogs:
                return Followed(newest, parts.trust.now())


def _grace(parts: Parts) -> int:
    """A courier travels for days: its timestamp may be as old as one that this edge would still work by."""
    return parts.expired_after_s if parts.carried is not None else 0


def _is_older(carried: Carried, before: TrustState, error: UntrustedError) -> bool:
    """Tell an old disk, whose release this edge has left behind over the line, from one whose files do not agree."""
    return isinstance(error, RollbackError) and 0 < carried.timestamp_version < before.timestamp.version


def _freshness(parts: Parts, state: TrustState) -> Freshness:
    return freshness_of(state, parts.clock(), parts.stale_after_s, parts.expired_after_s)


async def load_catalog(parts: Parts, builder: Builder, state: TrustState, *, keep: bool) -> Catalog:
    """Bring the province's catalog of a verified release here and read it, as it is for this edge's region.

    Args:
        parts: what the run works with.
        builder: fetches and proves.
        state: the verified release.
        keep: store the catalog and what it was made from; otherwise nothing on the disk changes.

    Raises:
        UntrustedError: bad data; it does not prove, or breaks a rule of the format.
        TransferError: environment.
        StorageError: environment.
    """
    data = await catalog_bytes(parts, builder, CATALOG_TARGET, state.catalog, state.patches, keep=keep)
    catalog = await asyncio.to_thread(decode_catalog, data)
    if catalog.publisher != parts.publisher:
        raise FormatError(
            f"catalog of publisher {catalog.publisher} offered where {parts.publisher} is expected",
            zh=f"收到发布者 {catalog.publisher} 的目录，应为 {parts.publisher}",
        )
    if catalog.version != state.catalog_version:
        raise FormatError(
            f"catalog has version {catalog.version} where {state.catalog_version} was signed",
            zh=f"目录内容为第 {catalog.version} 版，与签名的第 {state.catalog_version} 版不符",
        )
    kept = next(iter(parts.library.catalogs()), None)
    if kept is not None and kept.version == catalog.version and kept.digest != state.digest:
        raise RollbackError(
            f"another catalog of version {catalog.version} is installed already",
            zh=f"本机已安装内容不同的同版本（第 {catalog.version} 版）目录",
        )
    return resolve(catalog, parts.wanted.region)


async def catalog_bytes(
    parts: Parts, builder: Builder, name: str, ref: BlobRef, patches: Sequence[Patch], *, keep: bool
) -> bytes:
    """Bring a catalog here, proved; see `load_catalog`."""
    store = parts.store
    if await asyncio.to_thread(store.has, ref.digest):
        try:
            return await asyncio.to_thread(store.load, ref.digest)
        except StorageDamagedError as error:
            _log.warning("stored catalog is damaged; fetching it again", reason=error.message)
    here = Here({}, await asyncio.to_thread(store.digests), await asyncio.to_thread(store.partials), 0)
    plan = plan_blob(name, ref, patches, here)
    # Decoding needs all of it in memory anyway; so a patched catalog is proved whole, and its piece table (5 kB for
    # 50,000 lessons) need not cross the line.
    if plan.how is How.PATCH or not keep:
        data = await builder.read(ref, plan, patches, keep=keep)
        if data is not None:
            return data
    await builder.build(ref, plan, ())
    return await asyncio.to_thread(store.load, ref.digest)


async def look(parts: Parts, catalog: Catalog) -> Here:
    """Take stock of what is here, for the planner."""
    return await run_to_end(_look, parts, catalog)


def _look(parts: Parts, catalog: Catalog) -> Here:
    return take_stock(parts.store, parts.library, parts.usage, catalog, parts.room, parts.clock())
