"""How far the province's last word reaches: trusted time, and fresh → stale → expired.

Pure: the clock's reading is an argument. Two rules: trusted time never runs behind the highest signed time seen, so a
dead clock battery neither freezes nor bricks an edge; and no state ever takes a proved lesson off the screen.
"""

from __future__ import annotations

from enum import StrEnum

from msgspec import Struct

from edge.sync.citystate import CityFault, CityState
from manifests.digests import Digest
from manifests.instants import Instant
from manifests.model import Hex64, Patch
from manifests.pieces import PIECE_SIZE, BlobRef


class Freshness(StrEnum):
    """What the edge may do. Serving what was proved is allowed in all three."""

    FRESH = "fresh"
    STALE = "stale"
    EXPIRED = "expired"


class RoleState(Struct, frozen=True):
    """One verified TUF role: its version, its expiry, and the keys that the root gave it then."""

    version: int
    expires: Instant
    keys: tuple[str, ...]


class TrustState(Struct, frozen=True, omit_defaults=True):
    """The newest release that was verified whole, as kept in trust/state.json.

    Attributes:
        catalog_version: the catalog's own version.
        digest, size, table, piece_size, patches: the catalog as a blob to fetch and prove.
        root, timestamp, snapshot, targets: the four roles as verified.
        floor: highest signed time seen; trusted time never runs behind it.
        checked_at: this machine's clock at the last successful check, for people only.
        source: address of the upstream that gave it.
        cities: catalogs of cities that this edge reads beside the province's.
        city_faults: cities that could not be followed with this release.
    """

    catalog_version: int
    digest: Hex64
    size: int
    root: RoleState
    timestamp: RoleState
    snapshot: RoleState
    targets: RoleState
    floor: Instant
    checked_at: Instant
    table: Hex64 | None = None
    piece_size: int = PIECE_SIZE
    patches: tuple[Patch, ...] = ()
    source: str = ""
    cities: tuple[CityState, ...] = ()
    city_faults: tuple[CityFault, ...] = ()

    @property
    def catalogs(self) -> tuple[str, ...]:
        """Digests of all catalogs, the province's first: differs when there is anything new to read."""
        return (self.digest, *(f"{one.city} {one.digest}" for one in self.cities))

    @property
    def catalog(self) -> BlobRef:
        """The catalog as a blob to fetch."""
        return BlobRef(Digest(self.digest), self.size, Digest(self.table) if self.table else None, self.piece_size)


def trusted_now(now: Instant, floor: Instant) -> Instant:
    """This machine's time, but never behind the highest signed time seen."""
    return max(now, floor)


def shown_at(state: TrustState | None, now: Instant, expired_after_s: int) -> Instant:
    """The time by which what is here is shown or has ended: trusted time, but not far beyond the last signed word.

    Without a line nothing tells a clock that runs ahead from time that has passed. A wrong year must not empty the
    portal: from when nothing new is accepted any more, nothing ends either.
    """
    if state is None:
        return now
    return min(trusted_now(now, state.floor), max(state.floor, Instant(state.timestamp.expires + expired_after_s)))


def freshness_of(state: TrustState | None, now: Instant, stale_after_s: int, expired_after_s: int) -> Freshness:
    """Judge the newest verified release at this machine's time.

    Args:
        state: None when nothing was ever verified here: stale, since the first sync is still allowed.
        now: what the clock says; the floor is applied here.
        stale_after_s: seconds past the timestamp's expiry at which *fresh* ends.
        expired_after_s: seconds past the timestamp's expiry at which nothing new is accepted any more.
    """
    if state is None:
        return Freshness.STALE
    at = trusted_now(now, state.floor)
    overdue_s = at - state.timestamp.expires
    if overdue_s >= expired_after_s or at >= min(state.root.expires, state.targets.expires):
        return Freshness.EXPIRED
    return Freshness.STALE if overdue_s >= stale_after_s else Freshness.FRESH
