"""The index made again from what lies on the disk. Everything is proved again; nothing is believed.

    catalogs.json → catalogs that prove → what each blob is
    blobs/        → SHA-256 against the name; marks recorded on the way; what differs becomes partial when a piece
                    table can tell its good pieces from the bad, else it goes to quarantine
    partial/      → each piece proved, when its piece table is here
    courseware    → items whose blobs are all here, from the newest catalog that has them complete

The new index is made beside the old one and takes its place in one rename; killed before, the old state stands.
"""

from __future__ import annotations

import hashlib
import logging
import os
import sqlite3
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import structlog

from edge.paths import Paths
from edge.store.breadcrumb import KeptCatalog, read_breadcrumb, read_cities
from edge.store.disk import mark_of, move_file, opened, portions, read_readable, remove_tree, sync_dir
from edge.store.failpoints import reach
from edge.store.faults import index_faults, is_lost, storage_faults
from edge.store.index import create
from edge.store.quarantine import quarantine
from edge.store.rows import (
    bump,
    encode,
    insert_blob,
    insert_catalog,
    insert_partial,
    insert_pieces,
    put_items,
    set_meta,
)
from manifests.bundle import decode_bundle
from manifests.catalog import decode_catalog, item_for, items_of, variants_of
from manifests.cities import check_city, merge_catalogs
from manifests.digests import Digest, digest_of, is_digest
from manifests.errors import ConfigurationError, FormatError
from manifests.model import Catalog, Courseware
from manifests.names import Region
from manifests.pieces import BlobRef, PieceTable, parse_table

log = structlog.get_logger(__name__)

Refs = dict[str, BlobRef]


def rebuild(paths: Paths) -> None:
    """Make the index again; the caller holds `index.lock` exclusively.

    Raises:
        StorageError: environment; the old index, if any, is untouched.
    """
    fresh = paths.index.with_name(paths.index.name + ".new")
    with storage_faults("rebuilding the index", "重建索引"), index_faults("rebuilding"):
        fresh.unlink(missing_ok=True)
        kept = [one for one in read_breadcrumb(paths.catalogs) if _proved_catalog(paths, one) is not None]
        theirs = {city: one for city, one in read_cities(paths.catalogs).items() if _proved_city(paths, city, one)}
        every = [*kept, *theirs.values()]
        db = create(fresh)
        try:
            db.execute("BEGIN")
            here = _blobs(paths, db, _refs(paths, every))
            partials = _partials(paths, db, _refs(paths, every), here)
            courseware = _courseware(paths, db, kept, theirs, here)
            bump(db)
            db.execute("COMMIT")
        finally:
            db.close()
        with opened(fresh) as fd:
            os.fsync(fd)
        reach("rebuild:proved")
        _set_aside(paths.index)
        reach("rebuild:aside")
        fresh.replace(paths.index)
        paths.index_suspect.unlink(missing_ok=True)
        sync_dir(paths.root)
    log.log(
        logging.INFO if here else logging.DEBUG,
        "index_rebuilt",
        blobs=len(here),
        partials=partials,
        courseware=courseware,
    )


def prove_file(path: Path, ref: BlobRef) -> bytes | None:
    """Hash a whole file; its marks when it is the blob that `ref` names; None when it is not, or unreadable.

    Raises:
        OSError: environment; anything but lost bytes.
    """
    whole = hashlib.sha256()
    marks = bytearray()
    try:
        with opened(path) as fd:
            if os.fstat(fd).st_size != ref.size:
                return None
            for piece in portions(fd, ref.size, ref.piece_size):
                whole.update(piece)
                marks += mark_of(piece)
    except OSError as error:
        if not is_lost(error):
            raise
        log.warning("blob_unreadable", digest=ref.digest, reason=str(error))
        return None
    return bytes(marks) if whole.hexdigest() == ref.digest else None


def stored_files(paths: Paths) -> Iterator[tuple[str, str]]:
    """Folder and name of everything in the folders under `blobs/`, whatever it is; quick for 200,000 files."""
    for folder in _names(paths.blobs):
        with suppress(NotADirectoryError):
            yield from ((folder, name) for name in _names(paths.blobs / folder))


def _names(folder: Path) -> list[str]:
    with os.scandir(folder) as entries:  # a Path for each of 200,000 names would cost seconds
        return sorted(entry.name for entry in entries)


def _proved_catalog(paths: Paths, kept: KeptCatalog) -> Catalog | None:
    try:
        data = paths.blob(kept.ref.digest).read_bytes()
    except OSError as error:
        if not is_lost(error):
            raise
        return None
    if digest_of(data) != kept.digest:
        return None
    try:
        return decode_catalog(data)
    except FormatError as error:
        log.warning("catalog_unreadable", version=kept.version, reason=str(error))
        return None


def _proved_city(paths: Paths, city: str, kept: KeptCatalog) -> Catalog | None:
    catalog = _proved_catalog(paths, kept)
    try:
        if catalog is not None:
            check_city(catalog, Region(city))
    except FormatError as error:
        log.warning("catalog_unreadable", city=city, reason=str(error))
        return None
    return catalog


def _refs(paths: Paths, kept: list[KeptCatalog]) -> Refs:
    """What each blob is, as far as the kept catalogs tell: its size, piece size and table."""
    refs: Refs = {}
    for one in kept:
        catalog = _proved_catalog(paths, one)
        files = (file.ref for item in items_of(catalog) for file in item.files) if catalog else ()
        for ref in (one.ref, *files):
            refs.setdefault(ref.digest, ref)
            if ref.table_ref is not None:
                refs.setdefault(ref.table_ref.digest, ref.table_ref)
    return refs


def _blobs(paths: Paths, db: sqlite3.Connection, refs: Refs) -> set[str]:
    here: set[str] = set()
    for folder, digest in stored_files(paths):
        path = paths.blobs / folder / digest
        if not is_digest(digest) or folder != digest[:2]:
            quarantine(paths, path)
            continue
        ref = refs.get(digest) or BlobRef(Digest(digest), path.stat().st_size)
        marks = prove_file(path, ref)
        if marks is not None:
            insert_blob(db, ref, marks)
            here.add(digest)
        elif ref.table is not None:
            move_file(path, paths.partial(ref.digest))
        else:
            quarantine(paths, path)
    return here


def _partials(paths: Paths, db: sqlite3.Connection, refs: Refs, here: set[str]) -> int:
    count = 0
    for path in sorted(paths.partials.iterdir()):
        ref = refs.get(path.name)
        if ref is None or path.name in here or path.is_dir():
            remove_tree(path)  # nothing says what it was to become
        elif ref.table in here and path.stat().st_size == ref.size:
            table = parse_table(paths.blob(Digest(str(ref.table))).read_bytes(), ref.size, ref.piece_size)
            insert_pieces(db, insert_partial(db, ref), _proved_pieces(path, table))
            count += 1
        # Without its table it stays as it is: `begin` proves it when the table has come.
    return count


def _proved_pieces(path: Path, table: PieceTable) -> dict[int, bytes]:
    marks = {}
    with opened(path) as fd:
        for n in range(len(table)):
            data = read_readable(fd, *table.bounds(n))
            if table.is_piece(n, data):
                marks[n] = mark_of(data)
    return marks


def _courseware(
    paths: Paths, db: sqlite3.Connection, kept: list[KeptCatalog], theirs: dict[str, KeptCatalog], here: set[str]
) -> int:
    """Install what is complete: what the newest catalog offers, if need be in the version of an older one.

    The newest is that of the province with those of cities beside it.
    """
    region = _region(paths)
    wanted: set[str] | None = None
    recalled: dict[str, int] = {}
    count = 0
    for one in kept:
        catalog = _proved_catalog(paths, one)
        if catalog is None:
            continue
        if wanted is None:
            cities = (_proved_city(paths, city, theirs[city]) for city in theirs)
            catalog = merge_catalogs(catalog, [city for city in cities if city is not None])
            set_meta(db, "city_catalogs", encode(theirs))
        offered = [item_for(item, region) if region else variants_of(item)[0] for item in catalog.courseware]
        if wanted is None:
            wanted = {item.id for item in offered}
            recalled = {recall.id: recall.version for recall in catalog.recalls}
            set_meta(db, "catalog_version", encode(catalog.version))
            set_meta(db, "columns", encode(catalog.columns))
            set_meta(db, "recalls", encode(catalog.recalls))
        insert_catalog(db, catalog.version, one.ref)
        found = [item for item in offered if item.id in wanted and _is_complete(item, recalled, here)]
        put_items(db, found)
        wanted -= {item.id for item in found}
        count += len(found)
    return count


def _region(paths: Paths) -> Region | None:
    """Whose pilots this edge takes part in; None when its bundle cannot be read: then it takes part in none."""
    try:
        return Region(decode_bundle(paths.bundle.read_bytes()).region)
    except (OSError, ConfigurationError):
        return None


def _is_complete(item: Courseware, recalled: dict[str, int], here: set[str]) -> bool:
    return item.version > recalled.get(item.id, 0) and all(file.blob in here for file in item.files)


def _set_aside(index: Path) -> None:
    """Keep one damaged index for a look. The WAL goes first: left alone it would be replayed into the new index."""
    before = sorted(index.parent.glob(index.name + ".damaged-*"))
    numbers = [int(path.name.rpartition("-")[2]) for path in before if path.name.rpartition("-")[2].isdigit()]
    aside = index.with_name(f"{index.name}.damaged-{max(numbers, default=0) + 1}")
    wal, shm = index.with_name(index.name + "-wal"), index.with_name(index.name + "-shm")
    if wal.exists():
        wal.replace(aside.with_name(aside.name + "-wal"))
    shm.unlink(missing_ok=True)
    if index.exists():
        index.replace(aside)
    for path in before:
        path.unlink(missing_ok=True)
