"""The cities of a release that was just verified: each by the province's delegation, each at its own risk.

Of all cities the files are fetched, so that other edges can ask this one for them; a catalog is read only where it is
meant (see `manifests.cities.is_followed`). Nothing of this costs a request while the snapshot stands.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass

from tuf.api.exceptions import ExpiredMetadataError
from tuf.api.metadata import Targets

from edge.sync.citystate import CityFault, CityState
from edge.sync.tufseam import Roles, TargetFile, Updater, verified_city
from manifests.catalog import MAX_CATALOG_BYTES, parse_target
from manifests.cities import city_of_role, is_followed, paths_of, role_of, target_of
from manifests.digests import parse_digest
from manifests.errors import FormatError, TransferError, UntrustedError
from manifests.instants import Instant
from manifests.names import Region


@dataclass(frozen=True, slots=True)
class Look:
    """What a look at the cities works with.

    Attributes:
        updater: after its refresh.
        roles: what that verified.
        at: trusted time.
        mapped: turns tuf's errors into ours.
        known: faults of the look before.
    """

    updater: Updater
    roles: Roles
    at: Instant
    mapped: Callable[[], AbstractContextManager[None]]
    known: tuple[CityFault, ...]


def verify_cities(look: Look, region: Region) -> tuple[list[CityState], list[CityFault]]:
    """Verify the files of all cities that may publish; returns what this edge reads, and what went wrong.

    Raises:
        OSError: environment; the caller maps it.
    """
    found: list[CityState] = []
    faults: list[CityFault] = []
    snapshot = look.roles.snapshot
    before = {one.city: one for one in look.known if not one.is_followed and one.snapshot == snapshot.version}
    for city in delegated_cities(look.roles.targets):
        if f"{role_of(city)}.json" not in snapshot.meta:
            continue  # it may publish, and never did
        is_ours = is_followed(city, region)
        if city in before and not is_ours:
            faults.append(before[city])
            continue
        try:
            target, role = _verify(look, city)
            if is_ours:
                found.append(_state_of(city, role, target, _keys(look, city)))
        except (UntrustedError, TransferError) as error:
            is_untrusted = isinstance(error, UntrustedError)
            faults.append(CityFault(city, snapshot.version, error.message, error.zh, is_ours, is_untrusted))
    return found, faults


def delegated_cities(targets: Targets) -> Iterator[Region]:
    """Cities to which the province gave the right to publish, in its order; other delegations are passed over."""
    roles = targets.delegations.roles if targets.delegations is not None else None
    for name, role in (roles or {}).items():
        city = city_of_role(name)
        if city is not None and role.paths == [paths_of(city)]:
            yield city


def _verify(look: Look, city: Region) -> tuple[TargetFile, Targets]:
    with look.mapped():
        target = look.updater.get_targetinfo(target_of(city))
        if target is None:
            raise FormatError(f"{role_of(city)} does not name {target_of(city)}", zh=f"{city} 的签名清单中没有目录")
        role = verified_city(look.updater, role_of(city))
        # No grace, whatever the timestamp has: tuf may have judged it at an earlier time than now.
        if role.expires.timestamp() <= look.at:
            raise ExpiredMetadataError(f"{role_of(city)}.json is expired")
    return target, role


def _keys(look: Look, city: Region) -> tuple[str, ...]:
    return tuple(sorted(look.roles.targets.get_delegated_role(role_of(city)).keyids))


def _state_of(city: Region, role: Targets, target: TargetFile, keys: tuple[str, ...]) -> CityState:
    custom = parse_target(target.custom, target.length)
    if not 0 < target.length <= MAX_CATALOG_BYTES:
        raise FormatError(f"catalog of {target.length} bytes passes the limit of {MAX_CATALOG_BYTES}")
    return CityState(
        city=city,
        role_version=role.version,
        expires=Instant(int(role.expires.timestamp())),
        keys=keys,
        catalog_version=custom.version,
        digest=parse_digest(target.hashes.get("sha256", "")),
        size=target.length,
        table=custom.table,
        piece_size=custom.piece_size,
        patches=custom.patches,
    )
