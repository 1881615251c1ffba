"""After a change: give back the space of blobs that nothing needs any more.

Kept are the blobs of what is installed, of what the catalog still promises to this edge (they may be half here, or
the base of a patch), of what terminals had pulled through of it, and the patches that the catalog lists, because a
sibling may ask this edge for them.
"""

from __future__ import annotations

from collections.abc import Iterable

import structlog

from edge.store.blobs import BlobStore
from edge.store.library import Library
from edge.store.strays import delete_strays
from edge.store.usage import Usage
from edge.sync.parts import Parts
from manifests.catalog import is_for
from manifests.digests import Digest
from manifests.instants import Instant, dump_instant
from manifests.model import Catalog, Courseware, Patch

_log = structlog.get_logger(__name__)


def collect(
    store: BlobStore,
    library: Library,
    usage: Usage,
    wanted: Iterable[Courseware],
    catalog_patches: Iterable[Patch],
    keep: Iterable[Digest] = (),
    *,
    now: Instant,
) -> int:
    """Delete what is not needed; returns the bytes freed.

    Args:
        store: where from.
        library: says what the installed courseware needs.
        usage: forgets what is deleted.
        wanted: lessons of the catalog that are for this edge, or that terminals had pulled through.
        catalog_patches: patches between catalogs.
        keep: blobs that a planned patch starts from.
        now: wall clock.

    Raises:
        StorageError: environment.
    """
    needed = _needed(wanted, catalog_patches).union(library.lacking(), keep)
    freed = sum(store.drop_partial(digest) for digest in store.partials() if digest not in needed)
    useless = library.unreferenced() - needed
    if useless:
        freed += store.delete(useless)
    # A lesson that is offered again one day is a new one.
    usage.forget(useless | (usage.evicted().keys() - needed), now)
    freed += delete_strays(store, needed)
    if freed:
        _log.info("collected", blobs=len(useless), bytes=freed)
    return freed


def pulled_of(parts: Parts, catalog: Catalog, now: Instant) -> list[Courseware]:
    """Lessons that terminals pull or pulled through and that the catalog still offers here: not recalled, not expired.

    What is being fetched for a terminal is leased a moment before it is noted as pulled.
    """
    ids, now_text = set(parts.usage.pulled().values()), dump_instant(now)
    leased = parts.usage.leases(parts.clock())
    return [
        item
        for item in catalog.courseware
        if (item.id in ids or (leased and any(file.blob in leased for file in item.files)))
        and is_for(item, parts.wanted.region)
        and (item.expires is None or item.expires > now_text)
    ]


def _needed(wanted: Iterable[Courseware], catalog_patches: Iterable[Patch]) -> set[Digest]:
    found: set[str | None] = set()
    for patch in catalog_patches:
        found |= {patch.blob, patch.table}
    for item in wanted:
        for file in item.files:
            found.add(file.blob)
            found.add(file.table)
            for patch in file.patches:
                found.add(patch.blob)
                found.add(patch.table)
    return {Digest(digest) for digest in found if digest is not None}
