"""After a change: give back the space of blobs that nothing needs any more.

Kept are the blobs of what is installed, of what the catalog still promises to this edge (they may be half here, or
the base of a patch), and the patches that the catalog lists, because a sibling may ask this edge for them.
"""

from __future__ import annotations

from collections.abc import Iterable

import structlog

from edge.store.blobs import BlobStore
from edge.store.library import Library
from edge.store.strays import delete_strays
from manifests.digests import Digest
from manifests.model import Courseware, Patch

_log = structlog.get_logger(__name__)


def collect(
    store: BlobStore,
    library: Library,
    wanted: Iterable[Courseware],
    catalog_patches: Iterable[Patch],
    keep: Iterable[Digest] = (),
) -> int:
    """Delete what is not needed; returns the bytes freed.

    Args:
        store: where from.
        library: says what the installed courseware needs.
        wanted: lessons of the catalog that are for this edge.
        catalog_patches: patches between catalogs.
        keep: blobs that a planned patch starts from.

    Raises:
        StorageError: environment.
    """
    needed = _needed(wanted, catalog_patches).union(library.lacking(), keep)
    freed = sum(store.drop_partial(digest) for digest in store.partials() if digest not in needed)
    useless = library.unreferenced() - needed
    if useless:
        freed += store.delete(useless)
    freed += delete_strays(store, needed)
    if freed:
        _log.info("collected", blobs=len(useless), bytes=freed)
    return freed


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
