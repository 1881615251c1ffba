"""All that is offered here as one, and what is known of cities, read from what was proved and lies on the disk.

Apart from `offering`, so that whoever only looks needs no cryptography in memory. Blocking.
"""

from __future__ import annotations

from collections.abc import Iterable

import structlog

from edge.store.blobs import BlobStore
from edge.store.breadcrumb import KeptCatalog, kept_catalog
from edge.store.library import Library
from edge.sync.citystate import CityFault
from edge.sync.freshness import TrustState
from manifests.catalog import decode_catalog, resolve
from manifests.cities import check_city, merge_catalogs
from manifests.errors import TransferError, UntrustedError, YuanjiaoError
from manifests.model import Catalog
from manifests.names import Region

# Of a city's catalog that was refused: not fetched again for each poll while nothing of it changes.
REFUSED_NOTE = "refused_cities"

_log = structlog.get_logger(__name__)


def known_faults(library: Library, state: TrustState) -> list[YuanjiaoError]:
    """Cities that cannot be followed, by what is known without asking anybody.

    Raises:
        StorageError: environment.
    """
    refused = refused_cities(library)
    found = [error_of(fault) for fault in state.city_faults if fault.is_followed]
    for one in state.cities:
        note = refused.get(one.city)
        if note is not None and note[:2] == [one.digest, state.digest]:
            found.append(city_error(one.city, note[2], note[3], is_untrusted=True))
    return found


def city_versions(library: Library) -> dict[str, int]:
    """By city, the version of its catalog that is installed.

    Raises:
        StorageError: environment.
    """
    return {city: kept.version for city, kept in library.city_catalogs().items()}


def error_of(fault: CityFault) -> YuanjiaoError:
    """A fault of a city as an error of ours."""
    return city_error(fault.city, fault.message, fault.zh, is_untrusted=fault.is_untrusted)


def installed_offering(store: BlobStore, library: Library, region: Region) -> Catalog | None:
    """What the installed catalogs offer to a region, in one; None before the first. Blocking.

    Raises:
        StorageError: environment; the province's catalog is damaged.
        FormatError: bad data; the same.
    """
    kept = next(iter(library.catalogs()), None)
    if kept is None:
        return None
    province = resolve(decode_catalog(store.load(kept.ref.digest)), region)
    found = (read_city(store, city, one) for city, one in library.city_catalogs().items())
    return merge_catalogs(province, [resolve(one, region) for one in found if one is not None])


def verified_offering(store: BlobStore, state: TrustState) -> Catalog:
    """What the newest verified catalogs offer to anybody, in one; nothing of a city whose catalog is away. Blocking.

    Raises:
        NotFoundError: environment; the province's catalog is not here yet.
        StorageError: environment; it is damaged.
        FormatError: bad data; the same.
    """
    province = decode_catalog(store.load(state.catalog.digest))
    found = [read_city(store, one.city, kept_catalog(one.catalog_version, one.catalog)) for one in state.cities]
    return merge_catalogs(province, [one for one in found if one is not None])


def read_city(store: BlobStore, city: str, kept: KeptCatalog) -> Catalog | None:
    """The catalog of a city that is here; None for one that is not, is damaged or breaks a rule."""
    try:
        catalog = decode_catalog(store.load(kept.ref.digest))
        check_city(catalog, Region(city))
    except YuanjiaoError as error:
        _log.warning("city_catalog_not_readable", city=city, reason=error.message)
        return None
    return catalog


def city_error(city: str, message: str, zh: str, *, is_untrusted: bool) -> YuanjiaoError:
    """What went wrong with a city, as an error of ours."""
    kind = UntrustedError if is_untrusted else TransferError
    return kind(
        f"city {city} is not followed: {message}",
        zh=f"未能跟随 {city} 的目录：{zh}",
        hint="the province's lessons are not affected; tell the province, which can replace or revoke the city's key",
        hint_zh="省级课件不受影响；请上报省级源站，由其更换或撤销该市密钥",
    )


def refused_cities(library: Library) -> dict[str, list[str]]:
    """By city, digests of its catalog and of the province's with which that was refused, and the reason twice."""
    note = library.get_meta(REFUSED_NOTE)
    listed = note.items() if isinstance(note, dict) else ()
    return {city: one for city, one in listed if isinstance(one, list) and len(one) == 4}


def faults_at_end(found: Iterable[YuanjiaoError], state: TrustState) -> list[YuanjiaoError]:
    """Faults of catalogs, and of cities whose files could not be verified, each once."""
    return [*found, *(error_of(fault) for fault in state.city_faults if fault.is_followed)]
