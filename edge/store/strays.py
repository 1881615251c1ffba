"""Stray files: under `blobs/`, yet unknown to the index. A process killed between two steps leaves them.

Whoever calls holds sync.lock: a writer at work has given a file its name a moment before it gives it its row.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import structlog

from edge.store.blobs import BlobStore
from edge.store.disk import remove_file
from edge.store.faults import storage_faults
from edge.store.library import Library
from edge.store.quarantine import quarantine
from edge.store.rebuild import prove_file, stored_files
from edge.store.rows import insert_blob
from manifests.digests import Digest, is_digest
from manifests.pieces import BlobRef

log = structlog.get_logger(__name__)


def find_strays(store: BlobStore) -> list[Path]:
    """All of them.

    Raises:
        StorageError: environment.
    """
    with storage_faults("looking for stray files", "查找游离文件"):
        found = {name: folder for folder, name in stored_files(store.paths)}
    known = {row[0] for row in store.index.read("SELECT digest FROM blobs")}
    return [store.paths.blobs / found[name] / name for name in sorted(found.keys() - known)]


def adopt_strays(store: BlobStore, library: Library) -> None:
    """Give those that prove their row; others leave `blobs/`.

    Raises:
        StorageError: environment.
    """
    for path in find_strays(store):
        digest = Digest(path.name)
        with storage_faults(f"proving stray file {digest[:16]}", f"验证游离文件 {digest[:16]}"):
            ref = library.ref_of(digest) or BlobRef(digest, path.stat().st_size)
            marks = prove_file(path, ref) if is_digest(digest) else None
        if marks is None:
            quarantine(store.paths, path)
            continue
        with store.index.write() as db:
            insert_blob(db, ref, marks)


def delete_strays(store: BlobStore, keep: Collection[str]) -> int:
    """Delete those that nobody will ask for; returns the bytes freed.

    Args:
        store: opened for writing.
        keep: digests that may still be wanted: the next fill proves such a file instead of fetching it.

    Raises:
        StorageError: environment.
    """
    freed = 0
    for path in find_strays(store):
        if is_digest(path.name) and path.name not in keep:
            with storage_faults(f"removing stray file {path.name[:16]}", f"删除游离文件 {path.name[:16]}"):
                freed += remove_file(path)
            log.info("stray_deleted", digest=path.name)
    return freed
