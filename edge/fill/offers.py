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
from manifests.catalog import check_catalog, is_for, item_for, join_streams, variants_of
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
        """The lesson of that id in the version for this region, if it is offered here and has not expired."""
        found = await self._entry(courseware)
        if found is None:
            return None
        item = item_for(found[0], self._region)
        return item if self._is_offered(item, found[1]) else None

    async def offers(self, courseware: str, digest: Digest) -> bool:
        """Whether a blob belongs to a lesson that is offered here; in a pilot, to either of its versions."""
        found = await self._entry(courseware)
        return found is not None and any(
            self._is_offered(item, found[1]) and any(ref.digest == digest for ref in refs_of(item))
            for item in variants_of(found[0])
        )

    async def lesson_of(self, digest: Digest) -> Courseware | None:
        """A lesson offered here that has this blob among its files, their piece tables and patches.

        It may be of a pilot that goes on elsewhere, or not here any more: whoever syncs from here wants it.
        """
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

    async def _entry(self, courseware: str) -> tuple[Courseware, Instant] | None:
        """The entry of that id, whomever it is for, and trusted time."""
        current = await self._current()
        if current is None:
            return None
        (_, catalog, ids), now = current
        at = bisect_left(ids, courseware)
        if at == len(ids) or ids[at] != courseware:
            return None
        item = _checked(catalog, catalog.courseware[at])
        return (item, now) if item is not None else None

    def _find(self, catalog: _Catalog, digest: Digest, now: Instant) -> Courseware | None:
        needle = digest.encode("ascii")
        for raw in catalog.courseware:
            entry = _checked(catalog, raw) if needle in bytes(raw) else None
            for item in variants_of(entry) if entry is not None else ():
                if self._is_offered(item, now) and any(ref.digest == digest for ref in refs_of(item)):
                    return item
        return None

    def _is_offered(self, item: Courseware, now: Instant) -> bool:
        has_ended = item.expires is not None and item.expires <= dump_instant(now)
        return not has_ended and is_for(item, self._region)


def _checked(catalog: _Catalog, raw: Raw) -> Courseware | None:
    """One entry, read as strictly as the whole catalog would be; None when it breaks a rule."""
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
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, FormatError) as error:
        _log.warning("offer_not_readable", error=str(error))
        return None
    return alone.courseware[0]


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
