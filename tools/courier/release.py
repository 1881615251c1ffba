"""The signed release that a disk carries: role files and the catalog that they name, all of one moment."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass

from manifests.errors import BusyError
from manifests.model import Catalog
from manifests.pieces import BlobRef
from origin.app import Origin
from origin.publish.metadata import MetadataDir
from origin.storage.faults import storage_faults

_CHAIN_TRIES = 5


@dataclass(frozen=True, slots=True)
class Release:
    """A signed release as files, and the catalog that it names."""

    files: Mapping[str, bytes]
    catalog_ref: BlobRef
    catalog: Catalog


async def read_release(origin: Origin) -> Release:
    """The signed release and its catalog, of one moment.

    Raises:
        ConfigurationError: environment; nothing was ever released.
        BusyError: environment; it changed at every look.
        StorageError: environment.
    """
    for _ in range(_CHAIN_TRIES):
        ref, catalog = await origin.releases.current_catalog()
        files = await asyncio.to_thread(_release_files, origin, ref)
        if files is not None:
            return Release(files, ref, catalog)
    raise BusyError("the release changed at every look; try again", zh="发布正在进行，请稍后重试")


def _release_files(origin: Origin, ref: BlobRef) -> dict[str, bytes] | None:
    directory = origin.paths.metadata
    with storage_faults("reading the signed release"):
        timestamp = (directory / "timestamp.json").read_bytes()
        chain = MetadataDir(directory).chain()
        if chain is None or chain.target.hashes["sha256"] != ref.digest:
            return None
        names = [f"{number}.root.json" for number in range(1, chain.root.signed.version + 1)]
        names += [f"{one.signed.version}.{one.signed.type}.json" for one in (chain.snapshot, chain.targets)]
        files = {name: (directory / name).read_bytes() for name in names if (directory / name).exists()}
        if timestamp != (directory / "timestamp.json").read_bytes():
            return None
    return files | {"timestamp.json": timestamp}
