"""The signed release that a disk carries: role files and the catalog that they name, all of one moment."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass

from manifests.cities import merge_catalogs, role_of
from manifests.errors import BusyError
from manifests.model import Catalog
from manifests.pieces import BlobRef
from origin.app import Origin
from origin.publish.cities import CityRight, entries_of
from origin.publish.delegation import TARGETS
from origin.publish.metadata import Chain, MetadataDir
from origin.storage.faults import storage_faults

_CHAIN_TRIES = 5


@dataclass(frozen=True, slots=True)
class Release:
    """A signed release as files, and the catalogs that it names.

    Attributes:
        catalog_ref: of the province.
        catalog: of the province, with what cities offer beside it.
        cities: catalogs of cities as blobs.
    """

    files: Mapping[str, bytes]
    catalog_ref: BlobRef
    catalog: Catalog
    cities: tuple[BlobRef, ...] = ()

    @property
    def refs(self) -> tuple[BlobRef, ...]:
        """All catalogs as blobs."""
        return (self.catalog_ref, *self.cities)


async def read_release(origin: Origin) -> Release:
    """The signed release and its catalog, of one moment.

    Raises:
        ConfigurationError: environment; nothing was ever released.
        BusyError: environment; it changed at every look.
        StorageError: environment.
    """
    for _ in range(_CHAIN_TRIES):
        ref, catalog = await origin.releases.current_catalog()
        cities = {one.city: await origin.releases.current_catalog(one.city) for one in await _released(origin)}
        refs = {role_of(city): ref for city, (ref, _) in cities.items()} | {TARGETS: ref}
        files = await asyncio.to_thread(_release_files, origin, refs)
        if files is not None:
            merged = merge_catalogs(catalog, [one for _, one in cities.values()])
            return Release(files, ref, merged, tuple(one for one, _ in cities.values()))
    raise BusyError("the release changed at every look; try again", zh="发布正在进行，请稍后重试")


async def _released(origin: Origin) -> list[CityRight]:
    """Cities that may publish and did."""
    return [one for one in await origin.releases.rights() if one.expires is not None]


def _release_files(origin: Origin, refs: Mapping[str, BlobRef]) -> dict[str, bytes] | None:
    directory = origin.paths.metadata
    with storage_faults("reading the signed release"):
        timestamp = (directory / "timestamp.json").read_bytes()
        chain = MetadataDir(directory).chain()
        if chain is None or _named(chain) != {role: ref.digest for role, ref in refs.items()}:
            return None
        names = [f"{number}.root.json" for number in range(1, chain.root.signed.version + 1)]
        names += [f"{one.signed.version}.{one.signed.type}.json" for one in (chain.snapshot, chain.targets)]
        names += [f"{file.signed.version}.{role}.json" for role, file in chain.cities.items()]
        files = {name: (directory / name).read_bytes() for name in names if (directory / name).exists()}
        if timestamp != (directory / "timestamp.json").read_bytes():
            return None
    return files | {"timestamp.json": timestamp}


def _named(chain: Chain) -> dict[str, str]:
    """The catalogs that edges are led to, by role."""
    entries = entries_of(chain).items()
    return {role: str(next(iter(file.targets.values())).hashes["sha256"]) for role, file in entries}
