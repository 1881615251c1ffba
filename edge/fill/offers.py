"""What the newest verified catalog offers here: looked up one lesson at a time, so that fifty thousand cost little.

The catalog is read once per release. Of each lesson its bytes are kept, not its values; what is looked up is decoded
and checked then, as strictly as a sync would.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_left
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass

import msgspec
import structlog
from msgspec import Raw, Struct

from edge.store.blobs import BlobStore
from manifests.catalog import check_catalog, is_for, join_streams
from manifests.digests import Digest
from manifests.errors import FormatError, YuanjiaoError
from manifests.instants import Instant, dump_instant
from manifests.model import FORMAT, MAJOR, Catalog, Column, Courseware, Recall
from manifests.names import Region
from manifests.pieces import BlobRef

# A catalog that could not be read is tried again so often at most.
_RETRY_S = 1.0

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Release:
    """The newest release that was verified whole.

    Attributes:
        catalog: its catalog as a blob.
        now: trusted time.
    """

    catalog: BlobRef
    now: Instant


# Reads it from the disk; None before the first.
Newest = Callable[[], Release | None]


class _Catalog(Struct):
    format: str
    major: int
    publisher: str
    version: int
    issued: str
    columns: tuple[Column, ...] = ()
    courseware: tuple[Raw, ...] = ()
    recalls: tuple[Recall, ...] = ()


class _Id(Struct):
    id: str


_CATALOG = msgspec.json.Decoder(_Catalog)
_ID = msgspec.json.Decoder(_Id)
_ITEM = msgspec.json.Decoder(Courseware)


class Offers:
    """Looks things up in the newest catalog. For one event loop; the reading is done in threads.

    Args:
        newest: the newest verified release, read anew at each call; blocking.
        store: gives the store, where the catalog is.
        region: the county that this edge stands in.
    """

    def __init__(self, newest: Newest, store: Callable[[], Awaitable[BlobStore]], region: Region) -> None:
        self._newest = newest
        self._store = store
        self._region = region
        self._read: tuple[str, _Catalog, list[str]] | None = None
        self._failed: tuple[str, float] = ("", 0.0)
        self._reading = asyncio.Lock()

    async def digest(self) -> str:
        """Name of the newest catalog; empty before the first."""
        release = await asyncio.to_thread(self._newest)
        return release.catalog.digest if release is not None else ""

    async def is_readable(self) -> bool:
        """Whether the newest catalog is here, so that what it does not offer is not offered."""
        return await self._current() is not None

    async def lesson(self, courseware: str) -> Courseware | None:
        """The lesson of that id, if it is offered here and has not expired."""
        current = await self._current()
        if current is None:
            return None
        (_, catalog, ids), now = current
        at = bisect_left(ids, courseware)
        if at == len(ids) or ids[at] != courseware:
            return None
        return self._checked(catalog, catalog.courseware[at], now)

    async def lesson_of(self, digest: Digest) -> Courseware | None:
        """A lesson offered here that has this blob among its files, their piece tables and patches."""
        current = await self._current()
        if current is None:
            return None
        (_, catalog, _), now = current
        return await asyncio.to_thread(self._find, catalog, digest, now)

    async def is_recalled(self, courseware: str, version: int) -> bool:
        """Whether the newest catalog recalls this version of a lesson."""
        current = await self._current()
        return current is not None and any(
            one.id == courseware and one.version >= version for one in current[0][1].recalls
        )

    async def _current(self) -> tuple[tuple[str, _Catalog, list[str]], Instant] | None:
        async with self._reading:
            release = await asyncio.to_thread(self._newest)
            if release is None:
                return None
            name = release.catalog.digest
            if self._read is None or self._read[0] != name:
                now_s = asyncio.get_running_loop().time()
                if self._failed[0] == name and now_s < self._failed[1]:
                    return None
                try:
                    self._read = (name, *await asyncio.to_thread(_load, await self._store(), release.catalog))
                except YuanjiaoError as error:
                    _log.info("catalog_not_readable", digest=name, error=error.message)
                    self._read, self._failed = None, (name, now_s + _RETRY_S)
                    return None
            return self._read, release.now

    def _find(self, catalog: _Catalog, digest: Digest, now: Instant) -> Courseware | None:
        needle = digest.encode("ascii")
        for raw in catalog.courseware:
            if needle in bytes(raw):
                item = self._checked(catalog, raw, now)
                if item is not None and any(ref.digest == digest for ref in refs_of(item)):
                    return item
        return None

    def _checked(self, catalog: _Catalog, raw: Raw, now: Instant) -> Courseware | None:
        try:
            item = _ITEM.decode(raw)
            recalls = tuple(one for one in catalog.recalls if one.id == item.id)
            alone = Catalog(
                FORMAT,
                MAJOR,
                catalog.publisher,
                catalog.version,
                catalog.issued,
                columns=catalog.columns,
                courseware=(item,),
                recalls=recalls,
            )
            alone = join_streams(alone)
            check_catalog(alone)
            item = alone.courseware[0]
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, FormatError) as error:
            _log.warning("offer_not_readable", error=str(error))
            return None
        has_ended = item.expires is not None and item.expires <= dump_instant(now)
        return None if has_ended or not is_for(item, self._region) else item


def refs_of(item: Courseware) -> Iterator[BlobRef]:
    """All blobs that a lesson brings: files, their piece tables, patches and theirs."""
    for file in item.files:
        for ref in (file.ref, *(patch.ref for patch in file.patches)):
            yield ref
            if ref.table_ref is not None:
                yield ref.table_ref


def _load(store: BlobStore, ref: BlobRef) -> tuple[_Catalog, list[str]]:
    data = store.load(ref.digest)
    try:
        catalog = _CATALOG.decode(data)
        ids = [_ID.decode(raw).id for raw in catalog.courseware]
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise FormatError(f"catalog breaks a rule: {error}") from error
    if (catalog.format, catalog.major) != (FORMAT, MAJOR) or ids != sorted(ids):
        raise FormatError("catalog is of another format, or its lessons are not in order")
    return catalog, ids
