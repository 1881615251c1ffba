"""What the newest verified catalogs offer here: looked up one lesson at a time, so that fifty thousand cost little.

The province's catalog, and those of cities beside it, are read once per release. Of each lesson its bytes are kept, not
its values; what is looked up is decoded and checked then, as strictly as a sync would.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_left
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field

import msgspec
import structlog
from msgspec import Raw, Struct

from edge.store.blobs import BlobStore
from manifests.catalog import check_catalog, decode_catalog, is_for, join_streams
from manifests.cities import check_city, city_of_id
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
        cities: by city, the catalog that it offers from beside.
    """

    catalog: BlobRef
    now: Instant
    cities: Mapping[str, BlobRef] = field(default_factory=dict)


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


@dataclass(frozen=True, slots=True)
class _Listed:
    """A catalog with the ids of its lessons in order; `city` is empty for the province's."""

    city: str
    catalog: _Catalog
    ids: list[str]


_CATALOG = msgspec.json.Decoder(_Catalog)
_ID = msgspec.json.Decoder(_Id)
_ITEM = msgspec.json.Decoder(Courseware)


class Offers:
    """Looks things up in the newest catalogs. For one event loop; the reading is done in threads.

    Args:
        newest: the newest verified release, read anew at each call; blocking.
        store: gives the store, where the catalogs are.
        region: the county that this edge stands in.
    """

    def __init__(self, newest: Newest, store: Callable[[], Awaitable[BlobStore]], region: Region) -> None:
        self._newest = newest
        self._store = store
        self._region = region
        self._read: dict[str, _Listed] = {}  # by digest of the catalog
        self._failed: dict[str, float] = {}
        self._reading = asyncio.Lock()

    async def digest(self) -> str:
        """Names of the newest catalogs; empty before the first."""
        release = await asyncio.to_thread(self._newest)
        if release is None:
            return ""
        return " ".join([release.catalog.digest, *(release.cities[city].digest for city in sorted(release.cities))])

    async def is_readable(self) -> bool:
        """Whether the province's newest catalog is here, so that what it does not offer is not offered."""
        return await self._current() is not None

    async def lesson(self, courseware: str) -> Courseware | None:
        """The lesson of that id, if it is offered here and has not expired."""
        current = await self._current()
        if current is None:
            return None
        listed, now = current
        for one in listed:
            at = bisect_left(one.ids, courseware)
            if at < len(one.ids) and one.ids[at] == courseware:
                return self._checked(one, one.catalog.courseware[at], now, listed[0])
        return None

    async def lesson_of(self, digest: Digest) -> Courseware | None:
        """A lesson offered here that has this blob among its files, their piece tables and patches."""
        current = await self._current()
        if current is None:
            return None
        listed, now = current
        for one in listed:
            item = await asyncio.to_thread(self._find, one, digest, now, listed[0])
            if item is not None:
                return item
        return None

    async def is_recalled(self, courseware: str, version: int) -> bool:
        """Whether a newest catalog whose word counts for it recalls this version of a lesson."""
        current = await self._current()
        return current is not None and any(
            recall.id == courseware and recall.version >= version
            for one in current[0]
            for recall in one.catalog.recalls
            if not one.city or city_of_id(courseware) == one.city
        )

    async def _current(self) -> tuple[list[_Listed], Instant] | None:
        """The catalogs, the province's first; None when that one cannot be read."""
        async with self._reading:
            release = await asyncio.to_thread(self._newest)
            if release is None:
                return None
            wanted = {release.catalog.digest: ("", release.catalog)}
            wanted |= {ref.digest: (city, ref) for city, ref in release.cities.items()}
            self._read = {name: one for name, one in self._read.items() if name in wanted}
            for name, (city, ref) in wanted.items():
                if name not in self._read:
                    await self._load(name, city, ref)
            listed = [self._read[name] for name in wanted if name in self._read]
            return (listed, release.now) if listed and not listed[0].city else None

    async def _load(self, name: str, city: str, ref: BlobRef) -> None:
        now_s = asyncio.get_running_loop().time()
        if now_s < self._failed.get(name, 0.0):
            return
        try:
            self._read[name] = await asyncio.to_thread(_load, await self._store(), ref, city)
            self._failed.pop(name, None)
        except YuanjiaoError as error:
            _log.info("catalog_not_readable", digest=name, error=error.message)
            self._failed = {name: now_s + _RETRY_S, **{k: v for k, v in self._failed.items() if v > now_s}}

    def _find(self, listed: _Listed, digest: Digest, now: Instant, province: _Listed) -> Courseware | None:
        needle = digest.encode("ascii")
        for raw in listed.catalog.courseware:
            if needle in bytes(raw):
                item = self._checked(listed, raw, now, province)
                if item is not None and any(ref.digest == digest for ref in refs_of(item)):
                    return item
        return None

    def _checked(self, listed: _Listed, raw: Raw, now: Instant, province: _Listed) -> Courseware | None:
        catalog = listed.catalog
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
        if listed.city and not _stands_beside(item, province):
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


def _stands_beside(item: Courseware, province: _Listed) -> bool:
    """Whether a city's lesson counts: the province offers none of its id, and does not recall it."""
    at = bisect_left(province.ids, item.id)
    is_taken = at < len(province.ids) and province.ids[at] == item.id
    recalls = (one for one in province.catalog.recalls if one.id == item.id)
    return not is_taken and all(one.version < item.version for one in recalls)


def _load(store: BlobStore, ref: BlobRef, city: str) -> _Listed:
    data = store.load(ref.digest)
    if city:
        check_city(decode_catalog(data), Region(city))  # what is wrong with one lesson of it is wrong with all of it
    try:
        catalog = _CATALOG.decode(data)
        ids = [_ID.decode(raw).id for raw in catalog.courseware]
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise FormatError(f"catalog breaks a rule: {error}") from error
    if (catalog.format, catalog.major) != (FORMAT, MAJOR) or ids != sorted(ids):
        raise FormatError("catalog is of another format, or its lessons are not in order")
    return _Listed(city, catalog, ids)
