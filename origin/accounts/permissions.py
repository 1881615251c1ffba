"""Who may do what, and where: role × region × action → yes or no. Pure; every page and every API answer asks here.

A role says which acts somebody does at all; a region says where. What is published stands in the public catalog, so it
may be read by everybody who has an account, wherever they are; all else belongs to a region and is invisible outside.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from manifests.names import Region, is_within, region_level


class Role(StrEnum):
    """What somebody is here for."""

    PROVINCE_ADMIN = "province_admin"
    CITY_ADMIN = "city_admin"
    COUNTY_OPERATOR = "county_operator"
    REVIEWER = "reviewer"
    CONTRIBUTOR = "contributor"
    VIEWER = "viewer"


class Action(StrEnum):
    """What can be done; also the scopes of API tokens."""

    LESSONS_READ = "lessons:read"
    LESSONS_RECALL = "lessons:recall"
    LESSONS_PUBLISH = "lessons:publish"
    DRAFTS_READ = "drafts:read"
    DRAFTS_WRITE = "drafts:write"
    DRAFTS_REVIEW = "drafts:review"
    EDGES_READ = "edges:read"
    RELEASES_READ = "releases:read"
    RELEASES_MANAGE = "releases:manage"
    ACCOUNTS_READ = "accounts:read"
    ACCOUNTS_MANAGE = "accounts:manage"
    AUDIT_READ = "audit:read"


@dataclass(frozen=True, slots=True)
class Grant:
    """A role within a region, and whatever lies inside it."""

    role: Role
    region: Region


_PUBLISHED: Final = frozenset({Action.LESSONS_READ, Action.RELEASES_READ})
_WATCHES: Final = _PUBLISHED | {Action.EDGES_READ}
_ANSWERS_FOR_PEOPLE: Final = frozenset({Action.ACCOUNTS_READ, Action.ACCOUNTS_MANAGE, Action.AUDIT_READ})

RIGHTS: Final[Mapping[Role, frozenset[Action]]] = {
    Role.PROVINCE_ADMIN: frozenset(Action),
    Role.CITY_ADMIN: frozenset(Action),
    Role.COUNTY_OPERATOR: _WATCHES,
    Role.REVIEWER: _WATCHES | {Action.DRAFTS_READ, Action.DRAFTS_REVIEW, Action.LESSONS_RECALL},
    Role.CONTRIBUTOR: _PUBLISHED | {Action.DRAFTS_READ, Action.DRAFTS_WRITE},
    Role.VIEWER: _WATCHES,
}

LEVELS: Final[Mapping[Role, frozenset[str]]] = {
    Role.PROVINCE_ADMIN: frozenset({"province"}),
    Role.CITY_ADMIN: frozenset({"city"}),
    Role.COUNTY_OPERATOR: frozenset({"county"}),
    Role.REVIEWER: frozenset({"province", "city"}),
    Role.CONTRIBUTOR: frozenset({"province", "city", "county"}),
    Role.VIEWER: frozenset({"province", "city", "county"}),
}

_GIVES: Final[Mapping[Role, frozenset[Role]]] = {
    Role.PROVINCE_ADMIN: frozenset(Role),
    # Nobody makes their own equal but the province: else one careless city would be many.
    Role.CITY_ADMIN: frozenset({Role.COUNTY_OPERATOR, Role.REVIEWER, Role.CONTRIBUTOR, Role.VIEWER}),
}

_NEEDS_SECOND_FACTOR: Final = frozenset(
    {
        *(Action.LESSONS_RECALL, Action.LESSONS_PUBLISH, Action.DRAFTS_REVIEW),
        *(Action.RELEASES_MANAGE, Action.ACCOUNTS_MANAGE),
    }
)


def is_allowed(grant: Grant, action: Action, region: Region) -> bool:
    """Tell whether somebody may do this to what belongs to `region`."""
    if action not in RIGHTS[grant.role]:
        return False
    return action in _PUBLISHED or is_within(region, grant.region)


def is_fitting(grant: Grant) -> bool:
    """Tell whether the role exists at this level: a county has no province admin."""
    return region_level(grant.region) in LEVELS[grant.role]


def may_grant(who: Grant, what: Grant) -> bool:
    """Tell whether somebody may give, or take away, this role in this region."""
    return (
        is_allowed(who, Action.ACCOUNTS_MANAGE, what.region)
        and is_fitting(what)
        and what.role in _GIVES.get(who.role, frozenset())
    )


def needs_second_factor(role: Role) -> bool:
    """Tell whether this role's word reaches screens or people, so that a password alone is too little for it."""
    return bool(RIGHTS[role] & _NEEDS_SECOND_FACTOR)
