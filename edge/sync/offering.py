"""All that is offered here, as one: the province's catalog with those of cities beside it, each proved for itself.

A city's catalog that cannot be had, or that breaks a rule, is left out of what is new: the one installed before counts
on, and the province's goes its way. The fault stands in the report, which then is not complete.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field

import structlog

from edge.store.breadcrumb import KeptCatalog, kept_catalog
from edge.sync.build import Builder
from edge.sync.citystate import CityState
from edge.sync.follow import catalog_bytes, load_catalog
from edge.sync.freshness import TrustState
from edge.sync.offered import REFUSED_NOTE, city_error, read_city, refused_cities
from edge.sync.parts import Parts
from manifests.catalog import decode_catalog, resolve
from manifests.cities import check_beside, check_city, merge_catalogs, target_of
from manifests.errors import FormatError, RollbackError, UntrustedError, YuanjiaoError
from manifests.model import Catalog, Patch
from manifests.names import Region
from manifests.pieces import BlobRef

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Offering:
    """What a run works by.

    Attributes:
        catalog: everything that is offered, in one.
        ref: the province's catalog as a blob; the version is its own too.
        cities: by city, the catalog that is part of it.
        patches: those that lead to all these catalogs.
        faults: of cities whose newest catalog is not part of it.
        is_final: whether nothing but a new release can change that.
    """

    catalog: Catalog
    ref: BlobRef
    cities: Mapping[str, KeptCatalog] = field(default_factory=dict)
    patches: tuple[Patch, ...] = ()
    faults: tuple[YuanjiaoError, ...] = ()
    is_final: bool = True


async def load_offering(parts: Parts, builder: Builder, state: TrustState, *, keep: bool) -> Offering:
    """Bring all catalogs of a verified release here and read them as one.

    Args:
        parts: what the run works with.
        builder: fetches and proves.
        state: the verified release.
        keep: store the catalogs and what they were made from; otherwise nothing on the disk changes.

    Raises:
        UntrustedError: bad data of the province; of a city it stands among the faults.
        TransferError: environment; the province's catalog cannot be had.
        StorageError: environment; the same.
    """
    province = await load_catalog(parts, builder, state, keep=keep)
    gathered = _Gathered(parts, builder, province, state.digest, keep=keep)
    for city in sorted({one.city for one in state.cities} | {one.city for one in state.city_faults if one.is_followed}):
        await gathered.take(Region(city), next((one for one in state.cities if one.city == city), None))
    if keep:
        await gathered.note()
    return Offering(
        await asyncio.to_thread(merge_catalogs, province, list(gathered.catalogs.values())),
        state.catalog,
        gathered.kept,
        (*state.patches, *(patch for one in state.cities for patch in one.patches)),
        tuple(gathered.faults),
        gathered.is_final,
    )


class _Gathered:
    """Catalogs of cities, one after the other."""

    def __init__(self, parts: Parts, builder: Builder, province: Catalog, digest: str, *, keep: bool) -> None:
        self.catalogs: dict[str, Catalog] = {}
        self.kept: dict[str, KeptCatalog] = {}
        self.faults: list[YuanjiaoError] = []
        self.is_final = True
        self._parts = parts
        self._builder = builder
        self._province = province
        self._digest = digest
        self._keep = keep
        self._before = parts.library.city_catalogs()
        self._refused = refused_cities(parts.library)
        self._refusals: dict[str, list[str]] = {}

    async def take(self, city: Region, state: CityState | None) -> None:
        """Take the newest catalog of a city in, else the one that is installed."""
        if state is not None:
            try:
                await self._take_newest(city, state)
            except YuanjiaoError as error:
                is_untrusted = isinstance(error, UntrustedError)
                _log.error("city_not_followed", city=city, reason=error.message)
                self.faults.append(city_error(city, error.message, error.zh, is_untrusted=is_untrusted))
                if is_untrusted:
                    self._refusals[city] = [state.digest, self._digest, error.message, error.zh]
                self.is_final = self.is_final and is_untrusted
            else:
                return
        kept = self._before.get(city)
        catalog = await asyncio.to_thread(read_city, self._parts.store, city, kept) if kept is not None else None
        if catalog is not None and kept is not None:
            self.catalogs[city], self.kept[city] = resolve(catalog, self._parts.wanted.region), kept

    async def note(self) -> None:
        """Keep which catalogs were refused, for the next polls."""
        if self._refusals != self._refused:
            await asyncio.to_thread(self._parts.library.set_meta, REFUSED_NOTE, self._refusals)

    async def _take_newest(self, city: Region, state: CityState) -> None:
        before = self._refused.get(city)
        if before is not None and before[:2] == [state.digest, self._digest]:
            raise UntrustedError(before[2], zh=before[3])
        data = await catalog_bytes(
            self._parts, self._builder, target_of(city), state.catalog, state.patches, keep=self._keep
        )
        catalog = await asyncio.to_thread(decode_catalog, data)
        check_city(catalog, city)
        if catalog.version != state.catalog_version:
            raise FormatError(
                f"catalog has version {catalog.version} where {state.catalog_version} was signed",
                zh=f"目录内容为第 {catalog.version} 版，与签名的第 {state.catalog_version} 版不符",
            )
        _check_not_older(self._before.get(city), catalog.version, state.digest)
        check_beside(catalog, self._province)
        self.catalogs[city] = resolve(catalog, self._parts.wanted.region)
        self.kept[city] = kept_catalog(catalog.version, state.catalog)


def _check_not_older(kept: KeptCatalog | None, version: int, digest: str) -> None:
    if kept is not None and (version < kept.version or (version == kept.version and digest != kept.digest)):
        raise RollbackError(
            f"catalog version {version} offered after {kept.version}",
            zh=f"已安装目录第 {kept.version} 版，却收到较旧或内容不同的第 {version} 版",
        )
