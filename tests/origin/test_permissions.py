"""Who may do what where, for every role, region and action; and the arithmetic of codes and waits."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from manifests.instants import Instant
from manifests.names import Region, is_within, region_level
from origin.accounts.permissions import (
    LEVELS,
    Action,
    Grant,
    Role,
    is_allowed,
    is_fitting,
    may_grant,
    needs_second_factor,
)
from origin.accounts.throttling import (
    ACCOUNT,
    ADDRESS,
    DEVICE,
    PAIR,
    WINDOW_S,
    Failures,
    Limit,
    buckets_of,
    plan_wait,
)
from origin.accounts.totp import STEP_S, code_at, matching_step
from origin.stations.regions import load_regions

REGIONS = tuple(row.code for row in load_regions().rows)
PUBLISHED = {Action.LESSONS_READ, Action.RELEASES_READ}

roles = st.sampled_from(Role)
actions = st.sampled_from(Action)
regions = st.sampled_from(REGIONS)
grants = st.builds(Grant, roles, regions).filter(is_fitting)


@given(who=grants, action=actions, region=regions)
def test_nobody_reaches_beyond_their_region(who: Grant, action: Action, region: Region) -> None:
    if is_allowed(who, action, region) and action not in PUBLISHED:
        assert is_within(region, who.region)


@given(county=regions.filter(lambda one: region_level(one) == "county"), action=actions, region=regions)
def test_a_county_operator_never_reaches_another_county(county: Region, action: Action, region: Region) -> None:
    allowed = is_allowed(Grant(Role.COUNTY_OPERATOR, county), action, region)
    assert not (allowed and action not in PUBLISHED and region != county)


@given(region=regions, other=regions, action=st.sampled_from([Action.DRAFTS_READ, Action.DRAFTS_WRITE]))
def test_a_contributor_never_reads_another_citys_draft(region: Region, other: Region, action: Action) -> None:
    if region_level(region) != "province" and region[:4] != other[:4]:
        assert not is_allowed(Grant(Role.CONTRIBUTOR, region), action, other)


@given(who=grants, what=st.builds(Grant, roles, regions), action=actions, region=regions)
def test_what_somebody_grants_never_exceeds_what_they_have(
    who: Grant, what: Grant, action: Action, region: Region
) -> None:
    if may_grant(who, what):
        assert is_within(what.region, who.region)
        assert is_allowed(who, action, region) or not is_allowed(what, action, region)


@given(who=grants, role=roles)
def test_only_the_province_makes_its_own_equals(who: Grant, role: Role) -> None:
    if who.role is not Role.PROVINCE_ADMIN:
        assert not may_grant(who, who)
        assert not may_grant(who, Grant(Role.PROVINCE_ADMIN, Region("410000")))


@given(who=grants, action=actions, region=regions)
def test_viewers_and_operators_change_nothing(who: Grant, action: Action, region: Region) -> None:
    if who.role in {Role.VIEWER, Role.COUNTY_OPERATOR} and is_allowed(who, action, region):
        assert action.value.endswith(":read")


def test_every_role_has_a_level_and_whoever_acts_on_others_a_second_factor() -> None:
    assert set(LEVELS) == set(Role)
    with_factor = {role for role in Role if needs_second_factor(role)}
    assert with_factor == {Role.PROVINCE_ADMIN, Role.CITY_ADMIN, Role.REVIEWER}


# RFC 6238, appendix B: SHA-1, the last six of its eight digits.
@pytest.mark.parametrize(
    ("at", "code"),
    [
        *((59, "287082"), (1111111109, "081804"), (1111111111, "050471")),
        *((1234567890, "005924"), (2000000000, "279037"), (20000000000, "353130")),
    ],
)
def test_codes_are_those_of_the_rfc(at: int, code: str) -> None:
    secret = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ"
    assert code_at(secret, at // STEP_S) == code
    assert matching_step(secret, code, Instant(at), 0) == at // STEP_S
    assert matching_step(secret, code, Instant(at + STEP_S), 0) == at // STEP_S
    assert matching_step(secret, code, Instant(at), at // STEP_S) is None, "a code opens once"
    assert matching_step(secret, code, Instant(at + 3 * STEP_S), 0) is None
    assert matching_step(secret, "１２３４５６", Instant(at), 0) is None


limits = st.sampled_from([DEVICE, PAIR, ADDRESS, ACCOUNT])


@given(limit=limits, count=st.integers(0, 10**6), last=st.integers(0, 10**9), later=st.integers(-WINDOW_S, WINDOW_S))
def test_no_wait_is_longer_than_its_limit_and_each_ends(limit: Limit, count: int, last: int, later: int) -> None:
    def wait(now: int) -> int:
        return plan_wait({"b": Failures(count, Instant(last))}, {"b": limit}, Instant(now))

    waited = wait(last + later)
    assert 0 <= waited <= limit.most_s <= 900
    assert not (waited and count < limit.free)
    assert wait(last + limit.most_s) == 0, "refused attempts are not counted, so the wait runs out by itself"


@given(counts=st.dictionaries(st.integers(0, 2), st.integers(0, 10**4), min_size=1))
def test_a_device_that_is_known_cannot_be_made_to_wait_by_others(counts: dict[int, int]) -> None:
    strangers = list(buckets_of("password", "a" * 64, "10.0.0.1", ""))
    failures = {strangers[n]: Failures(count, Instant(1000)) for n, count in counts.items()}
    own = buckets_of("password", "a" * 64, "10.0.0.1", "d" * 64)
    assert plan_wait(failures, own, Instant(1000)) == 0
