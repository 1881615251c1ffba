"""Fresh, stale, expired: a table of moments."""

from __future__ import annotations

import msgspec
import pytest
from support.province import DAY, HOUR, NOON

from edge.sync.freshness import Freshness, RoleState, TrustState, freshness_of, trusted_now
from manifests.instants import Instant

STALE_S = 24 * HOUR
EXPIRED_S = 30 * DAY


def state(**changes: object) -> TrustState:
    made = TrustState(
        catalog_version=3,
        digest="ab" * 32,
        size=1000,
        root=RoleState(1, Instant(NOON + 3650 * DAY), ("k",)),
        timestamp=RoleState(7, Instant(NOON + DAY), ("k",)),
        snapshot=RoleState(3, Instant(NOON + 30 * DAY), ("k",)),
        targets=RoleState(3, Instant(NOON + 365 * DAY), ("k",)),
        floor=NOON,
        checked_at=NOON,
    )
    return msgspec.structs.replace(made, **changes)


@pytest.mark.parametrize(
    ("after_s", "expected"),
    [
        (-3 * 365 * DAY, Freshness.FRESH),  # a dead battery: the floor stands in for the clock
        (0, Freshness.FRESH),
        (DAY, Freshness.FRESH),
        (2 * DAY - 1, Freshness.FRESH),
        (2 * DAY, Freshness.STALE),
        (31 * DAY - 1, Freshness.STALE),
        (31 * DAY, Freshness.EXPIRED),
        (3 * 365 * DAY, Freshness.EXPIRED),
    ],
)
def test_by_the_clock(after_s: int, expected: Freshness) -> None:
    assert freshness_of(state(), Instant(NOON + after_s), STALE_S, EXPIRED_S) is expected


def test_the_floor_counts_as_time() -> None:
    seen = state(floor=Instant(NOON + 2 * DAY))
    assert freshness_of(seen, NOON, STALE_S, EXPIRED_S) is Freshness.STALE


@pytest.mark.parametrize("role", ["root", "targets"])
def test_root_and_targets_end_acceptance(role: str) -> None:
    ending = state(**{role: RoleState(1, Instant(NOON + 100), ("k",))})
    assert freshness_of(ending, Instant(NOON + 99), STALE_S, EXPIRED_S) is Freshness.FRESH
    assert freshness_of(ending, Instant(NOON + 100), STALE_S, EXPIRED_S) is Freshness.EXPIRED


def test_nothing_verified_yet_allows_the_first_sync() -> None:
    assert freshness_of(None, NOON, STALE_S, EXPIRED_S) is Freshness.STALE


def test_trusted_time_never_runs_behind_the_floor() -> None:
    assert trusted_now(Instant(5), NOON) == NOON
    assert trusted_now(Instant(NOON + 5), NOON) == NOON + 5


def test_the_state_survives_its_file() -> None:
    assert msgspec.json.decode(msgspec.json.encode(state()), type=TrustState) == state()
