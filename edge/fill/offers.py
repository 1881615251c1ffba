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
from manifests.catalog import check_catalog, decode_catalog, is_for, item_for, join_streams, variants_of
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

    async def _entry(self, courseware: str) -> tuple[Courseware, Instant] | None:
        """The entry of that id, whomever it is for, and trusted time."""
        current = await self._current()
        if current is None:
            return None
        listed, now = current
        for one in listed:
            at = bisect_left(one.ids, courseware)
            if at < len(one.ids) and one.ids[at] == courseware:
                item = _checked(one, one.catalog.courseware[at], listed[0])
                return (item, now) if item is not None else None
        return None

    def _find(self, listed: _Listed, digest: Digest, now: Instant, province: _Listed) -> Courseware | None:
        needle = digest.encode("ascii")
        for raw in listed.catalog.courseware:
            entry = _checked(listed, raw, province) if needle in bytes(raw) else None
            for item in variants_of(entry) if entry is not None else ():
                if self._is_offered(item, now) and any(ref.digest == digest for ref in refs_of(item)):
                    return item
        return None

    def _is_offered(self, item: Courseware, now: Instant) -> bool:
        has_ended = item.expires is not None and item.expires <= dump_instant(now)
        return not has_ended and is_for(item, self._region)


def _checked(listed: _Listed, raw: Raw, province: _Listed) -> Courseware | None:
    """One entry, read as strictly as the whole catalog would be; None when it breaks a rule, or the province stands."""
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
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, FormatError) as error:
        _log.warning("offer_not_readable", error=str(error))
        return None
    entry = alone.courseware[0]
    return entry if not listed.city or _stands_beside(entry, province) else None


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
