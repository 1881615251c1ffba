"""Collecting what old releases leave: role files that no edge asks for any more, and the blobs of their catalogs.

Every release brings a catalog of its own, tens of megabytes for a big library, with patches to it. They go with the
last targets file that names them. Blobs of lessons are not collected here, nor is a catalog that somebody published
as a lesson's file: whatever a version refers to stays.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Final

from sqlalchemy.ext.asyncio import AsyncEngine

from manifests.digests import Digest
from manifests.pieces import BlobRef
from origin.database import library
from origin.database.engine import reading
from origin.publish.metadata import Chain, MetadataDir
from origin.storage.base import BlobStorage

# An edge reads timestamp, snapshot, targets within minutes; fifty releases are at least an evening's work.
KEPT_VERSIONS: Final = 50
_NO_CATALOG: Final = ".snapshot.json"


@dataclass(frozen=True, slots=True)
class CollectPlan:
    """What may go.

    Attributes:
        files: names of role files.
        catalogs: for each catalog, its own blob, its piece table, the patches that lead to it and their tables.
    """

    files: tuple[str, ...]
    catalogs: tuple[frozenset[Digest], ...]


def plan_collect(metadata: MetadataDir, chain: Chain, abandoned: Iterable[BlobRef] = ()) -> CollectPlan:
    """Find what no edge asks for any more: old versions, uncommitted ones, temporary files. Never a root.

    Args:
        metadata: the directory that is served.
        chain: the present release.
        abandoned: catalogs of releases that were given up; a targets file may never have named them.
    """
    present = {name.removesuffix(".json"): meta.version for name, meta in chain.snapshot.signed.meta.items()}
    present["snapshot"] = chain.snapshot.signed.version
    kept, old = list[str](), list[str]()
    places: Counter[str] = Counter()
    # Newest first: targets and cities share one count, so that it is the file's place that says how old it is.
    for version, role in sorted(metadata.versions(), reverse=True):
        if role == "root":
            continue
        is_committed = version <= present.get(role, 0)
        is_kept = is_committed and places[role] < KEPT_VERSIONS
        places[role] += is_committed
        (kept if is_kept else old).append(f"{version}.{role}.json")
    catalogs = [metadata.catalog_blobs(name) for name in old if not name.endswith(_NO_CATALOG)]
    catalogs += [_blobs_of(ref) for ref in abandoned]
    needed = set[Digest]()
    if catalogs:
        needed.update(*(metadata.catalog_blobs(name) for name in kept if not name.endswith(_NO_CATALOG)))
    return CollectPlan((*old, *metadata.temporary_files()), tuple(blobs - needed for blobs in catalogs))


async def run_collect(plan: CollectPlan, metadata: MetadataDir, storage: BlobStorage, engine: AsyncEngine) -> int:
    """Carry out a plan under the publish lock; returns how many blobs went.

    Blobs go before the role files that name them, so that what is cut off is found again.

    Raises:
        StorageError: environment; the next one goes on.
    """
    async with reading(engine) as connection:
        used = await library.used_blobs(connection, set[Digest]().union(*plan.catalogs))
    count = 0
    for blobs in plan.catalogs:
        count += 0 if blobs & used else await _delete(blobs, storage)
    await asyncio.to_thread(metadata.remove, plan.files)
    return count


async def _delete(blobs: Collection[Digest], storage: BlobStorage) -> int:
    return sum([await storage.delete(digest) for digest in sorted(blobs)])


def _blobs_of(ref: BlobRef) -> frozenset[Digest]:
    return frozenset({ref.digest} | ({ref.table} if ref.table else set()))
