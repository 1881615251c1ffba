"""Giving a city the right to publish, and taking it back.

Each is one release of the province that keeps its catalog: its targets name the city's keys, or do not any more. So it
takes the targets key, and edges follow within minutes, without a visit.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from tuf.api.metadata import Targets

from manifests.cities import city_of, city_of_role, role_of
from manifests.errors import InputError
from manifests.instants import Instant
from manifests.names import Region
from origin.publish.delegation import TARGETS, is_delegated, keyids_of, with_city, without_city
from origin.publish.metadata import Chain
from origin.publish.press import Job, Press
from origin.publish.signing import ONLINE, Entrusted

MOST_CITIES: Final = 100


@dataclass(frozen=True, slots=True)
class CityRight:
    """What a city may do here.

    Attributes:
        keys: ids of the keys that sign for it; empty when it may not publish.
        version: of its role that edges are given; 0 when it never released.
        expires: when that signature ends; None for none, or one that cannot be read.
        changed: False when all was as asked before.
    """

    city: Region
    keys: tuple[str, ...]
    version: int = 0
    expires: Instant | None = None
    changed: bool = True


def rights_of(chain: Chain) -> tuple[CityRight, ...]:
    """All cities that may publish, by code."""
    cities = sorted(city for role in chain.delegated if (city := city_of_role(role)) is not None)
    return tuple(_right(chain, city, changed=False) for city in cities)


def publisher_for(region: Region, rights: Iterable[CityRight]) -> str:
    """Into whose catalog somebody who stands for a region publishes: that of the city, if it may, else the province's.

    A county's own lesson is its city's, with the county as its audience.
    """
    city = city_of(region)
    return next((right.city for right in rights if right.city == city), "")


def check_city_may_publish(rights: Iterable[CityRight], city: str) -> None:
    """Refuse a city without the right, as bad data of whoever named it; the province, empty, may always.

    Raises:
        InputError: bad data.
    """
    if city and city not in {right.city for right in rights}:
        raise InputError(f"city {city[:6]} may not publish here", zh=f"{city[:6]} 尚未获得发布授权，或授权已撤销")


async def run_entrust(press: Press, city: Region) -> CityRight:
    """Let a city publish; its key is made unless it is here. The caller holds the publish lock and has repaired.

    Raises:
        ConfigurationError: environment; the targets key is absent. Nothing was changed.
        StorageError: environment; the old release is whole.
    """
    role, chain = role_of(city), await asyncio.to_thread(press.signatory.chain)
    if is_delegated(chain.targets.signed, role):
        return _right(chain, city, changed=False)
    if len(chain.delegated) >= MOST_CITIES:
        raise InputError(f"at most {MOST_CITIES} cities may publish", zh=f"最多授权 {MOST_CITIES} 个市发布")
    # Looked for first, so that a missing medium is told before any file is made.
    await asyncio.to_thread(press.signatory.check_keys, ONLINE)
    signer = await asyncio.to_thread(press.shop.keys.create, role)
    entrusted = Entrusted(with_city(chain.targets.signed, city, [signer.public_key]))
    await sign_targets(press, f"city {city} may publish", entrusted)
    await press.repair()  # what it released before is signed anew, when that was by another key
    return _right(await asyncio.to_thread(press.signatory.chain), city)


async def run_withdraw(press: Press, city: Region) -> CityRight:
    """Take the right back: what the city offered is gone from every edge that hears of it. See `run_entrust`."""
    chain = await asyncio.to_thread(press.signatory.chain)
    if not is_delegated(chain.targets.signed, role_of(city)):
        return _right(chain, city, changed=False)
    entrusted = Entrusted(without_city(chain.targets.signed, city))
    await sign_targets(press, f"city {city} may not publish any more", entrusted)
    return _right(await asyncio.to_thread(press.signatory.chain), city)


async def sign_targets(press: Press, note: str, entrusted: Entrusted, kind: str = "city") -> None:
    """A release of the province that keeps its catalog and changes who may publish."""
    job = Job(kind, note, keeps_catalog=True, entrusted=entrusted)
    await press.run(job, await press.signing_time())


def _right(chain: Chain, city: Region, *, changed: bool = True) -> CityRight:
    role = role_of(city)
    file = chain.cities.get(role)
    ends = Instant(int(file.signed.expires.timestamp())) if file is not None else None
    return CityRight(city, keyids_of(chain.targets.signed, role), chain.version(role), ends, changed)


def entries_of(chain: Chain) -> Mapping[str, Targets]:
    """What edges are led to: the files of the province and of all cities that may publish, by role."""
    mine = {role: chain.cities[role].signed for role in chain.delegated if role in chain.cities}
    return {TARGETS: chain.targets.signed, **mine}
