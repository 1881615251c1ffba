"""The press: from what shall change to a release that edges see, and back to order after a crash.

Everything here runs under the publish lock. The steps of a release, each of which may be the last:

1. One transaction gives out numbers and writes down what the release will bring, as *begun*.
2. The catalog and its patches are stored, the release is told its catalog.
3. N.targets.json, N.snapshot.json, then timestamp.json by rename. Edges see the release from here on.
4. One transaction marks it *published*.

Whether a begun release landed is read off the disk: the timestamp either leads to its targets version or it does not.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final

import msgspec
import structlog
from securesystemslib.signer import Signer
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine
from tuf.api.metadata import TargetFile

from manifests.catalog import MAX_CATALOG_BYTES, encode_catalog
from manifests.cities import city_of_role
from manifests.errors import ConfigurationError, InputError, StorageDamagedError, StorageError, StorageFullError
from manifests.instants import Instant
from manifests.model import CatalogTarget, Column, Courseware, Patch, Recall
from manifests.names import Region
from manifests.pieces import BlobRef
from origin.clock import Clock
from origin.database import library
from origin.database.engine import reading, writing
from origin.database.offerings import NewOffering, Trial, trials
from origin.database.releases import (
    NewRelease,
    NewVersion,
    allot,
    begin_release,
    mark_abandoned,
    mark_published,
    note_audit,
    record_catalog,
)
from origin.publish.collection import plan_collect, run_collect
from origin.publish.delegation import TARGETS, keyids_of, path_for, publisher_of, role_for
from origin.publish.failpoints import reach
from origin.publish.ingest import adopt, stage
from origin.publish.keys import KeyRing
from origin.publish.metadata import Chain, MetadataDir, catalog_target
from origin.publish.patching import make_patch
from origin.publish.planner import assemble_catalog, on_trial
from origin.publish.sharing import Sharing
from origin.publish.signing import ONLINE, Entrusted, Numbers, Signatory, Terms
from origin.publish.source import bytes_source
from origin.publish.together import outlast
from origin.storage.ballast import Ballast
from origin.storage.base import BlobStorage

_log: Final = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Workshop:
    """All that releases are made with; put together once, by the origin's wiring.

    Attributes:
        staging: this process's own directory within the storage's file system.
        metadata: the directory served as /metadata/.
        lock: the publish lock's file.
        ballast: space that recalls and renewals may take on a full disk.
        catalog_patches: from how many recent catalogs a new one gets patches.
        patch_max_ratio: a catalog patch larger than this share of the catalog is not kept.
        lock_deadline_s: how long to wait for another publisher.
        sharing: what is shared with origin processes of other machines; None where there can be none.
    """

    engine: AsyncEngine
    storage: BlobStorage
    staging: Path
    metadata: Path
    lock: Path
    keys: KeyRing
    clock: Clock
    publisher: Region
    ballast: Ballast
    terms: Terms = field(default_factory=Terms)
    catalog_patches: int = 5
    patch_max_ratio: float = 0.5
    lock_deadline_s: float = 600.0
    sharing: Sharing | None = None


@dataclass(frozen=True, slots=True)
class Job:
    """What one release brings. With `keeps_catalog` only signatures are new.

    Attributes:
        publisher: the city that releases; empty for the province.
        entrusted: which cities may publish from then on; None keeps that.
        skips: cities' roles that get a version without a file. After a restore edges may know higher ones than we do,
            and would refuse the whole snapshot for them; so they find a city that has nothing now, and no more.
    """

    kind: str
    note: str
    versions: Sequence[NewVersion] = ()
    columns: Sequence[Column] = ()
    recall: Recall | None = None
    offerings: Sequence[NewOffering] = ()
    keeps_catalog: bool = False
    extra: Mapping[str, Sequence[Signer]] = field(default_factory=dict)
    publisher: str = ""
    entrusted: Entrusted | None = None
    skips: Sequence[str] = ()

    @property
    def roles(self) -> tuple[str, ...]:
        """Roles that sign it."""
        return (role_for(self.publisher), *ONLINE[1:])


class Press:
    """Makes releases one after another."""

    def __init__(self, shop: Workshop) -> None:
        self.shop = shop
        self.signatory = Signatory(MetadataDir(shop.metadata, shop.sharing), shop.keys, shop.terms)

    @asynccontextmanager
    async def writing(self) -> AsyncIterator[AsyncConnection]:
        """One transaction that writes; refused when another process took over meanwhile."""
        async with writing(self.shop.engine) as connection:
            if self.shop.sharing is not None:
                await self.shop.sharing.check(connection)
            yield connection

    async def signing_time(self) -> Instant:
        """Now, checked against the last signature."""
        return await asyncio.to_thread(self.signatory.signing_time, self.shop.clock())

    async def run(self, job: Job, now: Instant) -> int:
        """Make a release; returns the version of its catalog.

        Raises:
            ConfigurationError: environment; a key is absent. Nothing was changed.
            StorageError: environment; the old release is whole, the next `repair` gives this one up.
        """
        await asyncio.to_thread(self.signatory.check_keys, job.roles)
        release, numbers = await self._begin(job, now)
        reach("publish:begun")
        target: TargetFile | None = None
        if not job.keeps_catalog:
            target = await self._store_catalog(job, release, now)
        await self._issue(numbers, now, target, job.extra, job.entrusted)
        async with self.writing() as connection:
            await mark_published(connection, release.number, now)
        reach("publish:marked")
        chain = await asyncio.to_thread(self.signatory.chain)
        await self._collect(chain)
        await asyncio.to_thread(self.shop.ballast.take, chain.target.length)
        _log.info("released", kind=job.kind, release=release.number, catalog_version=release.catalog_version)
        return release.catalog_version

    async def reissue(self, now: Instant, *, snapshot: bool, extra: Mapping[str, Sequence[Signer]]) -> None:
        """Sign the timestamp anew, and the snapshot when asked; targets and catalog stay."""
        floors = await asyncio.to_thread(self.signatory.floors)
        names = ("snapshot", "timestamp") if snapshot else ("timestamp",)
        async with self.writing() as connection:
            given = await allot(connection, {name: floors[name] for name in names})
        numbers = Numbers(given["timestamp"], given.get("snapshot"))
        await self._issue(numbers, now, None, extra)

    async def repair(self) -> tuple[str, ...]:
        """Bring database, metadata and key files to one story after a crash.

        Returns:
            What was found and done, one line each; empty when all was in order.

        Raises:
            StorageDamagedError: environment; database and metadata are of different age (one is from a backup).
        """
        lines, chain = await asyncio.to_thread(self._settle_keys)
        lines += await self._settle_releases(chain)
        if chain is not None:
            lines += await self._settle_signatures(chain)
        for line in lines:
            _log.warning("repaired", what=line)
        return tuple(lines)

    async def audit(self, action: str, detail: str) -> None:
        """Write one line into the audit table."""
        async with self.writing() as connection:
            await note_audit(connection, self.shop.clock(), action, detail)

    async def _begin(self, job: Job, now: Instant) -> tuple[NewRelease, Numbers]:
        floors = await asyncio.to_thread(self.signatory.floors)
        async with self.writing() as connection:
            newest = await library.newest_release(connection, job.publisher)
            given = await allot(connection, {"release": await library.newest_number(connection), **floors})
            skipped = {role: (await allot(connection, {TARGETS: 0}))[TARGETS] for role in job.skips}
            catalog_version, catalog = 0, None
            if job.keeps_catalog and newest is not None:
                catalog_version, catalog = newest.catalog_version, newest.catalog
            else:
                floor = newest.catalog_version if newest else 0
                name = f"catalog-{job.publisher}" if job.publisher else "catalog"
                catalog_version = (await allot(connection, {name: floor}))[name]
            release = NewRelease(
                given["release"],
                job.kind,
                job.note,
                catalog_version,
                given["targets"],
                now,
                catalog,
                job.publisher,
            )
            await begin_release(
                connection,
                release,
                new_columns=job.columns,
                new_versions=job.versions,
                recall=job.recall,
                new_offerings=job.offerings,
            )
        role = role_for(job.publisher)
        return release, Numbers(given["timestamp"], given["snapshot"], given["targets"], role, skipped)

    async def _store_catalog(self, job: Job, release: NewRelease, now: Instant) -> TargetFile:
        shop, version = self.shop, release.catalog_version
        async with reading(shop.engine) as connection:
            rows = await library.offered_documents(connection, job.publisher)
            columns = await library.all_columns(connection)
            recalls = await library.published_recalls(connection, job.publisher)
            older = await library.recent_catalogs(connection, shop.catalog_patches, job.publisher)
            tried = await trials(connection)
        if job.recall is not None:
            recalls[job.recall.id] = job.recall
        publisher = Region(job.publisher or shop.publisher)
        data = await asyncio.to_thread(_encode, job, publisher, version, now, rows, columns, recalls, tried)
        del rows
        staged = await stage(bytes_source(data, "catalog"), shop.staging)
        try:
            # Before it is stored, so that whoever gives this release up knows what to collect.
            async with self.writing() as connection:
                await record_catalog(connection, release.number, staged.ref)
            catalog = await adopt(staged, shop.storage, shop.staging)
        finally:
            staged.path.unlink(missing_ok=True)
        reach("publish:catalog-stored")
        patches = [patch for old in older if (patch := await self._patch_catalog(old, catalog)) is not None]
        reach("publish:patches-stored")
        custom = CatalogTarget(version=version, table=catalog.table, patches=tuple(patches))
        return catalog_target(catalog, msgspec.to_builtins(custom), path_for(job.publisher))

    async def _patch_catalog(self, old: BlobRef, new: BlobRef) -> Patch | None:
        shop = self.shop
        try:
            if await shop.storage.size(old.digest) == old.size:
                return await make_patch(shop.storage, shop.staging, old, new, shop.patch_max_ratio)
        except StorageFullError as error:
            _log.warning("patch_skipped", file="catalog", reason=error.message)
        # Or it was collected, or lost with a disk: an edge on that catalog fetches the pieces instead.
        return None

    async def _collect(self, chain: Chain, abandoned: Sequence[BlobRef] = ()) -> None:
        metadata, shop = self.signatory.metadata, self.shop
        try:
            plan = await asyncio.to_thread(plan_collect, metadata, chain, abandoned)
            count = await run_collect(plan, metadata, shop.storage, shop.engine)
        except StorageError as error:
            # What was asked for is done; what should go is still there to be found by the next one.
            _log.warning("collecting_failed", reason=error.message)
            return
        if count:
            _log.info("collected", blobs=count)

    async def _issue(
        self,
        numbers: Numbers,
        now: Instant,
        target: TargetFile | None,
        extra: Mapping[str, Sequence[Signer]],
        entrusted: Entrusted | None = None,
    ) -> None:
        # A second Ctrl-C must not give the publish lock back while a thread still writes role files.
        work = partial(self.signatory.issue, numbers, now, target, extra, entrusted)
        await outlast(asyncio.get_running_loop().run_in_executor(None, work))

    def _settle_keys(self) -> tuple[list[str], Chain | None]:
        root, chain = self.signatory.root().signed, self.signatory.metadata.chain()
        roles = chain.delegated if chain is not None else ()
        cities = {role: keyids_of(chain.targets.signed, role) for role in roles} if chain is not None else {}
        return self.shop.keys.settle(root, cities), chain

    async def _settle_releases(self, chain: Chain | None) -> list[str]:
        lines: list[str] = []
        abandoned: list[BlobRef] = []
        async with self.writing() as connection:
            for row in await library.begun_releases(connection):
                landed = chain.version(role_for(row.publisher)) if chain is not None else 0
                if row.targets_version == landed and row.catalog is not None:
                    await mark_published(connection, row.number, self.shop.clock())
                    lines.append(f"release {row.number} ({row.kind}) had landed and is marked published")
                else:
                    await mark_abandoned(connection, row.number, self.shop.clock())
                    lines.append(f"release {row.number} ({row.kind}) never landed and is given up")
                    abandoned += [row.catalog] if row.catalog is not None else []
            for publisher in {"", *await library.publishers(connection)}:
                newest = await library.newest_release(connection, publisher)
                _check_same_age(chain, role_for(publisher), newest.targets_version if newest else 0)
        if lines and chain is not None:
            await self._collect(chain, abandoned)
        return lines

    async def _settle_signatures(self, chain: Chain) -> list[str]:
        unproved = chain.unproved_roles()
        notes = []
        for role in (role for role in unproved if city_of_role(role)):
            notes += await self._settle_city(role)
        unproved = tuple(role for role in unproved if not city_of_role(role))
        if not unproved:
            return notes
        now = await self.signing_time()
        note = f"signed anew after the keys of {', '.join(unproved)} changed"
        if TARGETS in unproved:
            await self.run(Job("rotate", note, keeps_catalog=True), now)
        else:
            await self.reissue(now, snapshot="snapshot" in unproved, extra={})
        return [*notes, note]

    async def _settle_city(self, role: str) -> list[str]:
        """A city whose new key is not here waits until it is: nobody else waits with it."""
        note = f"signed anew after the keys of {role} changed"
        job = Job("rotate", note, keeps_catalog=True, publisher=publisher_of(role))
        try:
            await asyncio.to_thread(self.signatory.check_keys, (role,))
        except ConfigurationError as error:
            _log.warning("city_not_signed", role=role, reason=error.message)
            return []
        await self.run(job, await self.signing_time())
        return [note]


def _check_same_age(chain: Chain | None, role: str, known: int) -> None:
    landed = chain.version(role) if chain is not None else 0
    is_skipped = chain is not None and role in chain.damaged and landed > known
    if known != landed and not is_skipped:
        raise StorageDamagedError(
            f"metadata shows {role} version {landed}, the database {known}",
            zh="签名元数据与数据库不是同一时期的内容",
            hint="restore the metadata directory and origin.sqlite from the same backup",
            hint_zh="请从同一份备份恢复 metadata 目录和 origin.sqlite",
        )


def _encode(
    job: Job,
    publisher: Region,
    version: int,
    now: Instant,
    rows: Sequence[tuple[str, str]],
    columns: Sequence[Column],
    recalls: Mapping[str, Recall],
    tried: Mapping[str, Trial],
) -> bytes:
    changed: dict[str, Courseware | None] = {one.document.id: one.document for one in job.versions}
    if job.recall is not None:
        changed[job.recall.id] = None
    for one in job.offerings:
        changed[one.id] = on_trial(one.offered, one.areas, one.tried) if one.offered is not None else None
    offered = []
    for key, text in rows:
        if key not in changed:
            item, trial = library.read_document(text), tried.get(key)
            offered.append(on_trial(item, trial.areas, trial.tried) if trial is not None else item)
    offered += [item for item in changed.values() if item is not None]
    data = encode_catalog(assemble_catalog(publisher, version, now, offered, columns, tuple(recalls.values())))
    if len(data) > MAX_CATALOG_BYTES:
        raise InputError(
            f"the catalog would have {len(data)} bytes, edges accept {MAX_CATALOG_BYTES}",
            zh=f"目录将达到 {len(data)} 字节，超过上限 {MAX_CATALOG_BYTES}",
        )
    return data
