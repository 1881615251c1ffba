"""Cities that publish: delegations of the province's targets, each with its own keys, paths and threshold.

The province's `targets` names who may sign for `cities/CODE/*`; the role is terminating, so nobody else can. What a
city signs is a targets file of its own with one entry, its catalog. Snapshot and timestamp are the province's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from securesystemslib.signer import Key
from tuf.api.metadata import DelegatedRole, Delegations, Root, Targets

from manifests.cities import city_of_role, paths_of, role_of, target_of
from manifests.errors import ConfigurationError
from manifests.names import Region
from origin.publish.metadata import TARGET

TARGETS: Final = "targets"
_TOP: Final = frozenset({"root", TARGETS, "snapshot", "timestamp"})


def role_for(publisher: str) -> str:
    """The targets role of a publisher; empty for the province."""
    return role_of(Region(publisher)) if publisher else TARGETS


def path_for(publisher: str) -> str:
    """The path of a publisher's catalog; empty for the province."""
    return target_of(Region(publisher)) if publisher else TARGET


def publisher_of(role: str) -> str:
    """The other way round: empty for `targets`."""
    return city_of_role(role) or ""


def above(role: str, root: Root, targets: Targets | None) -> Root | Targets:
    """Who says which keys sign for a role.

    Raises:
        ConfigurationError: caller's mistake; a city that may not publish.
    """
    if role in _TOP:
        return root
    if targets is None or not is_delegated(targets, role):
        city = city_of_role(role) or role
        raise ConfigurationError(
            f"city {city} may not publish here",
            zh=f"{city} 尚未获得发布授权，或授权已撤销",
            hint=f"the province gives it the right with `yuanjiao origin city DIR {city}`",
            hint_zh=f"请由省级运行 `yuanjiao origin city DIR {city}` 授权",
        )
    return targets


def is_delegated(targets: Targets, role: str) -> bool:
    """Tell whether a city's role is named."""
    return targets.delegations is not None and role in (targets.delegations.roles or {})


def keyids_of(targets: Targets, role: str) -> tuple[str, ...]:
    """Ids of the keys that sign for a city's role; none when it has no right."""
    return tuple(targets.get_delegated_role(role).keyids) if is_delegated(targets, role) else ()


def with_city(targets: Targets, city: Region, keys: Sequence[Key]) -> Delegations:
    """Delegations in which exactly these keys sign for a city, one signature being enough; the others stay."""
    role = role_of(city)
    roles = _roles(targets)
    roles[role] = DelegatedRole(role, [key.keyid for key in keys], 1, terminating=True, paths=[paths_of(city)])
    known = targets.delegations.keys if targets.delegations is not None else {}
    return _with_keys(roles, {**known, **{key.keyid: key for key in keys}})


def without_city(targets: Targets, city: Region) -> Delegations | None:
    """Delegations without a city; None when none is left."""
    roles = _roles(targets)
    roles.pop(role_of(city), None)
    known = targets.delegations.keys if targets.delegations is not None else {}
    return _with_keys(roles, known) if roles else None


def _roles(targets: Targets) -> dict[str, DelegatedRole]:
    return dict(targets.delegations.roles or {}) if targets.delegations is not None else {}


def _with_keys(roles: dict[str, DelegatedRole], keys: Mapping[str, Key]) -> Delegations:
    used = {keyid for role in roles.values() for keyid in role.keyids}
    return Delegations({keyid: key for keyid, key in keys.items() if keyid in used}, roles)
