"""Installed courseware: what this edge shows.

Only what was proved is installed, and readers see all of an install or nothing of it.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

import msgspec
import structlog

from edge.store.blobs import BlobStore
from edge.store.breadcrumb import (
    KEPT_CATALOGS,
    KeptCatalog,
    kept_catalog,
    read_breadcrumb,
    read_cities,
    write_breadcrumb,
)
from edge.store.disk import MARK_BYTES, mark_of
from edge.store.failpoints import reach
from edge.store.faults import index_damaged
from edge.store.rows import bump, drop_items, encode, insert_catalog, put_items, set_meta
from manifests.digests import Digest
from manifests.errors import RollbackError, StorageDamagedError, StorageError
from manifests.model import Column, Courseware, Recall
from manifests.pieces import BlobRef

log = structlog.get_logger(__name__)

_ITEM = msgspec.json.Decoder(Courseware)
_ITEMS = msgspec.json.Decoder(list[Courseware])
_COLUMNS = msgspec.json.Decoder(tuple[Column, ...])
_RECALLS = msgspec.json.Decoder(tuple[Recall, ...])
_CITIES = msgspec.json.Decoder(dict[str, KeptCatalog])
_NOTE = "note:"


@dataclass(frozen=True, slots=True)
class Installed:
    """One consistent state of the library.

    Attributes:
        token: the change token that belongs to it.
    """

    token: int
    catalog_version: int
    columns: tuple[Column, ...]
    courseware: dict[str, Courseware]


class Library:
    """Installed courseware, columns and recalls, in the same index as the blobs."""

    def __init__(self, store: BlobStore) -> None:
        self._store = store
        self._index = store.index

    def change_token(self) -> int:
        """A cheap number that differs after each install, in this process or another (see `Index.change_token`)."""
        return self._index.change_token()

    def load(self) -> Installed:
        """Everything at one moment; for pages, together with `change_token`."""
        # Token first: an install in between makes it older than the state, so the caller only loads once more.
        token = self.change_token()
        with self._index.snapshot() as db:
            values = dict(db.execute("SELECT key, value FROM meta WHERE key IN ('catalog_version', 'columns')"))
            rows = db.execute("SELECT c.mark, d.doc FROM courseware c JOIN docs d USING (id) ORDER BY id").fetchall()
        return Installed(
            token,
            msgspec.json.decode(self._checked(values.get("catalog_version")) or b"0", type=int),
            _COLUMNS.decode(self._checked(values.get("columns")) or b"[]"),
            {item.id: item for item in self._decode(rows)},
        )

    def installed(self) -> dict[str, Courseware]:
        """All installed courseware by id."""
        return self.load().courseware

    def get(self, courseware_id: str) -> Courseware | None:
        """One installed courseware.

        Raises:
            StorageDamagedError: environment; its row is damaged, the index will be rebuilt at the next opening.
        """
        rows = self._index.read(
            "SELECT c.mark, d.doc FROM courseware c JOIN docs d USING (id) WHERE id = ?", (courseware_id,)
        )
        return self._decode(rows)[0] if rows else None

    def versions(self) -> dict[str, int]:
        """Versions of all installed courseware; does not read the items themselves."""
        return dict(self._index.read("SELECT id, version FROM courseware"))

    def fingerprints(self) -> dict[str, bytes]:
        """Compare with `fingerprint_of` to find what differs from a catalog without reading the items."""
        return dict(self._index.read("SELECT id, mark FROM courseware"))

    def columns(self) -> tuple[Column, ...]:
        """Columns of the newest installed catalog."""
        return _COLUMNS.decode(self._meta("columns") or b"[]")

    def recalls(self) -> tuple[Recall, ...]:
        """Recalls of the newest installed catalog."""
        return _RECALLS.decode(self._meta("recalls") or b"[]")

    def catalog_version(self) -> int:
        """Version of the newest installed catalog; 0 before the first."""
        return msgspec.json.decode(self._meta("catalog_version") or b"0", type=int)

    def catalogs(self) -> tuple[KeptCatalog, ...]:
        """Kept catalogs, newest first; patches of the next one start from these."""
        return tuple(
            KeptCatalog(*row)
            for row in self._index.read(
                "SELECT version, digest, size, piece_table, piece_size FROM catalogs ORDER BY version DESC"
            )
        )

    def city_catalogs(self) -> dict[str, KeptCatalog]:
        """By city, its catalog that is installed beside the province's."""
        return _CITIES.decode(self._meta("city_catalogs") or b"{}")

    def users_of(self, digest: Digest) -> tuple[str, ...]:
        """Ids of the installed courseware that need a blob, as a file or as the piece table of one."""
        return tuple(row[0] for row in self._index.read("SELECT id FROM refs WHERE digest = ? ORDER BY id", (digest,)))

    def ref_of(self, digest: Digest) -> BlobRef | None:
        """What installed courseware says of a blob that it needs: its size and piece table."""
        for one in self.users_of(digest):
            item = self.get(one)
            for file in item.files if item else ():
                for ref in (file.ref, file.ref.table_ref):
                    if ref is not None and ref.digest == digest:
                        return ref
        return None

    def lacking(self) -> dict[Digest, tuple[str, ...]]:
        """Blobs that installed courseware needs and that are not here, or rotten; with the ids that need them."""
        rows = self._index.read(
            "SELECT digest, group_concat(id, ' ') FROM refs "
            "WHERE digest NOT IN (SELECT digest FROM blobs) OR digest IN (SELECT digest FROM rot) GROUP BY digest"
        )
        return {Digest(digest): tuple(ids.split(" ")) for digest, ids in rows}

    def install(
        self,
        items: Sequence[Courseware],
        removed: Iterable[str],
        recalls: Sequence[Recall],
        columns: Sequence[Column],
        catalog_version: int,
        catalog: BlobRef,
        left: Collection[Digest] = (),
        cities: Mapping[str, KeptCatalog] | None = None,
    ) -> None:
        """Show new state, in one transaction that survives a power cut.

        Args:
            items: new or changed courseware, all of whose files are here.
            removed: ids no longer shown; unknown ones are passed over.
            recalls: all recalls of the catalog; what they name is removed whether or not `removed` says so.
            columns: all columns of the catalog.
            catalog_version: of the catalog that all this comes from; the same one may come in several installs.
            catalog: the catalog as a blob, which is here.
            left: files that are left out for want of room.
            cities: by city, its catalog that counts beside that one, and is here; None for those that did before.

        Raises:
            RollbackError: bad data; an older catalog than the installed one.
            StorageDamagedError: environment; a file of an item is not here (any more). Nothing is changed.
            StorageError: environment; nothing is changed.
        """
        before = self.catalog_version()
        if catalog_version < before:
            raise RollbackError(
                f"catalog version {catalog_version} offered after {before}",
                zh=f"已安装目录第 {before} 版，却收到较旧的第 {catalog_version} 版",
            )
        recalled = {recall.id: recall.version for recall in recalls}
        wanted = [item for item in items if item.version > recalled.get(item.id, 0)]
        theirs = self.city_catalogs() if cities is None else dict(cities)
        needed = {*(file.blob for item in wanted for file in item.files), catalog.digest}
        self._check_here(needed.union(Digest(one.digest) for one in theirs.values()).difference(left))
        kept = self._keep(catalog_version, catalog, theirs)
        reach("install:breadcrumb")
        gone = [*removed]
        are_new = encode(recalls) != self._meta("recalls")

        def write() -> None:
            with self._index.write(durable=True) as db:
                drop_items(db, [*gone, *(_installed_recalled(db, recalled) if are_new else ())])
                put_items(db, wanted)
                db.execute("DELETE FROM catalogs")
                for one in kept:
                    insert_catalog(db, one.version, one.ref)
                set_meta(db, "catalog_version", encode(catalog_version))
                set_meta(db, "columns", encode(columns))
                set_meta(db, "recalls", encode(recalls))
                set_meta(db, "city_catalogs", encode(theirs))
                bump(db)
                reach("install:written")

        self._store.ballast.spend(write)
        reach("install:committed")

    def set_meta(self, key: str, value: object) -> None:
        """Keep a small JSON value, such as the report of the last sync."""
        with self._index.write() as db:
            set_meta(db, _NOTE + key, encode(value))

    def get_meta(self, key: str) -> object:
        """A value kept by `set_meta`, as plain dict, list, str…; None when there is none."""
        value = self._meta(_NOTE + key)
        return None if value is None else msgspec.json.decode(value)

    def unreferenced(self) -> set[Digest]:
        """Blobs that no installed courseware, kept catalog or begun blob needs."""
        rows = self._index.read(
            "SELECT digest FROM blobs EXCEPT SELECT digest FROM refs "
            "EXCEPT SELECT digest FROM catalogs EXCEPT SELECT piece_table FROM catalogs "
            "EXCEPT SELECT piece_table FROM partials"
        )
        theirs = [one.ref for one in self.city_catalogs().values()]
        return {Digest(row[0]) for row in rows}.difference(
            digest for ref in theirs for digest in (ref.digest, ref.table) if digest is not None
        )

    def _meta(self, key: str) -> bytes | None:
        rows = self._index.read("SELECT value FROM meta WHERE key = ?", (key,))
        return self._checked(rows[0][0]) if rows else None

    def _checked(self, value: bytes | None) -> bytes | None:
        """A value without the mark that stands before it."""
        if value is None:
            return None
        self._compare(value[:MARK_BYTES], value[MARK_BYTES:])
        return value[MARK_BYTES:]

    def _compare(self, mark: bytes, data: bytes) -> None:
        """A flipped bit in the index must not change a title or a digest on a screen."""
        if mark_of(data) != mark:
            self._index.suspect()
            raise index_damaged("a row of the index is damaged", "本地索引中的记录已损坏")

    def _decode(self, rows: list[tuple[bytes, bytes]]) -> list[Courseware]:
        """Decode rows of mark and doc."""
        for mark, doc in rows:
            self._compare(mark, doc)
        if len(rows) == 1:
            return [_ITEM.decode(rows[0][1])]
        return _ITEMS.decode(b"[" + b",".join(doc for _, doc in rows) + b"]")

    def _check_here(self, digests: set[str]) -> None:
        if len(digests) > 1000:
            lacking = digests - self._store.digests()
        else:
            lacking = {digest for digest in digests if not self._store.has(Digest(digest))}
        if lacking:
            raise StorageDamagedError(
                f"{len(lacking)} blobs to install are not here, such as {min(lacking)[:16]}",
                zh=f"待安装的数据块缺少 {len(lacking)} 个，例如 {min(lacking)[:16]}",
                hint="run `yuanjiao edge sync DIR` again; it fetches what is missing",
                hint_zh="请重新运行 `yuanjiao edge sync DIR`，缺少的内容会重新获取",
            )

    def _keep(self, version: int, catalog: BlobRef, cities: dict[str, KeptCatalog]) -> list[KeptCatalog]:
        """The catalogs to keep from now on; told to the breadcrumb before the index knows them.

        A breadcrumb that can not be written (disk full) must not hold up a recall: it only matters after the index
        is lost, and the next install writes it again. A night of many lessons writes it once.
        """
        older = [one for one in self.catalogs() if one.version != version]
        kept = [kept_catalog(version, catalog), *older][:KEPT_CATALOGS]
        try:
            path = self._store.paths.catalogs
            if read_breadcrumb(path) != tuple(kept) or read_cities(path) != cities:
                write_breadcrumb(path, kept, cities)
        except StorageError as error:
            log.warning("breadcrumb_not_written", reason=str(error))
        return kept


def fingerprint_of(item: Courseware) -> bytes:
    """What `Library.fingerprints` has for this very item."""
    return mark_of(encode(item))


def _installed_recalled(db: sqlite3.Connection, recalled: dict[str, int]) -> list[str]:
    return [
        one
        for one, version in recalled.items()
        if db.execute("SELECT 1 FROM courseware WHERE id = ? AND version <= ?", (one, version)).fetchone()
    ]
