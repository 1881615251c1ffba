"""What was verified of cities that publish, beside the province's release; and what is kept when a city fails. Pure.

A city's fault is its own: the province's release stands without it, and what the city offered before goes on.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TypeVar

from msgspec import Struct

from manifests.digests import Digest
from manifests.instants import Instant
from manifests.model import Hex64, Patch
from manifests.pieces import PIECE_SIZE, BlobRef

T = TypeVar("T")


class CityState(Struct, frozen=True, omit_defaults=True):
    """The newest catalog of a city that was verified.

    Attributes:
        role_version, expires, keys: of the city's role, and the keys that the province gave it then.
        catalog_version: the catalog's own version.
        digest, size, table, piece_size, patches: the catalog as a blob to fetch and prove.
    """

    city: str
    role_version: int
    expires: Instant
    keys: tuple[str, ...]
    catalog_version: int
    digest: Hex64
    size: int
    table: Hex64 | None = None
    piece_size: int = PIECE_SIZE
    patches: tuple[Patch, ...] = ()

    @property
    def catalog(self) -> BlobRef:
        """The catalog as a blob to fetch."""
        return BlobRef(Digest(self.digest), self.size, Digest(self.table) if self.table else None, self.piece_size)


class CityFault(Struct, frozen=True, omit_defaults=True):
    """Why a city could not be followed.

    Attributes:
        snapshot: version of the snapshot with which it was so.
        is_followed: this edge reads that city's catalog; otherwise it only passes its files on.
        is_untrusted: what came is wrong; otherwise nothing came.
    """

    city: str
    snapshot: int
    message: str
    zh: str
    is_followed: bool
    is_untrusted: bool


def settle_cities(
    before: Iterable[CityState], found: Iterable[CityState], faults: Iterable[CityFault], snapshot: int
) -> tuple[tuple[CityState, ...], tuple[CityFault, ...]]:
    """What stands after a look: what was found, and of a city that failed what stood before.

    A city that is neither found nor at fault may not publish any more: nothing of it stands.

    Args:
        before: what stood.
        found: verified now.
        faults: of this look.
        snapshot: its version.
    """
    old = {one.city: one for one in before}
    stands: dict[str, CityState] = {}
    failed: dict[str, CityFault] = {one.city: one for one in faults}
    for one in found:
        fault = _older(old.get(one.city), one, snapshot)
        if fault is None:
            stands[one.city] = one
        else:
            failed[one.city] = fault
    stands |= {city: old[city] for city in failed if city in old}
    return _in_order(stands), _in_order(failed)


def _older(old: CityState | None, new: CityState, snapshot: int) -> CityFault | None:
    """Keys that the province replaced begin anew, as those of its own roles."""
    if old is None:
        return None
    is_older = old.keys == new.keys and new.role_version < old.role_version
    if not is_older and new.catalog_version >= old.catalog_version:
        return None
    pair = (old.role_version, new.role_version) if is_older else (old.catalog_version, new.catalog_version)
    message, zh = (
        f"version {pair[1]} offered after {pair[0]}",
        f"收到旧版本：第 {pair[1]} 版，此前已验证第 {pair[0]} 版",
    )
    return CityFault(new.city, snapshot, message, zh, is_followed=True, is_untrusted=True)


def _in_order(values: Mapping[str, T]) -> tuple[T, ...]:
    return tuple(values[key] for key in sorted(values))


def is_news(fault: CityFault, known: Iterable[CityFault]) -> bool:
    """Tell whether another source is worth asking: not when the same release had the same fault before."""
    return fault.is_followed and not (fault.is_untrusted and fault in tuple(known))
