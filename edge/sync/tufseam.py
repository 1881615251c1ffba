"""The two places where this program reaches inside python-tuf, kept narrow and watched by a test.

`tuf.ngclient.Updater` takes the wall clock by itself and keeps what it verified to itself. An edge with a dead clock
battery needs another time, and the edge's own state needs the verified roles. Should a new tuf move these attributes,
the functions here fail at once and by name, rather than quietly trusting the wall clock again.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from tuf.api.metadata import Root, Signed, Snapshot, TargetFile, Targets, Timestamp
from tuf.ngclient._internal.trusted_metadata_set import TrustedMetadataSet
from tuf.ngclient.updater import Updater

from manifests.instants import Instant

__all__ = ["Roles", "Signed", "TargetFile", "Updater", "pin_time", "verified_city", "verified_roles"]


@dataclass(frozen=True, slots=True)
class Roles:
    """The top-level roles, each verified."""

    root: Root
    timestamp: Timestamp
    snapshot: Snapshot
    targets: Targets


def pin_time(updater: Updater, at: Instant) -> None:
    """Make the updater judge expiry at `at`; call before its refresh.

    Raises:
        TypeError: caller's mistake; the installed tuf keeps its reference time elsewhere.
    """
    inside = _inside(updater)
    if not isinstance(getattr(inside, "reference_time", None), datetime):
        raise TypeError("this tuf does not keep reference_time where pin_time expects it")
    inside.reference_time = datetime.fromtimestamp(at, UTC)


def verified_roles(updater: Updater) -> Roles:
    """The roles that a finished refresh verified.

    Raises:
        TypeError: caller's mistake; the installed tuf keeps them elsewhere, or the refresh did not finish.
    """
    inside = _inside(updater)
    found = Roles(inside.root, inside.timestamp, inside.snapshot, inside.targets)
    for role, kind in ((found.root, Root), (found.timestamp, Timestamp), (found.targets, Targets)):
        if not isinstance(role, kind):
            raise TypeError(f"this tuf does not keep {kind.__name__} where verified_roles expects it")
    return found


def verified_city(updater: Updater, role: str) -> Targets:
    """A delegated role that the updater verified when it looked a target up.

    Raises:
        TypeError: caller's mistake; the installed tuf keeps it elsewhere, or the target was not found by this role.
    """
    inside = _inside(updater)
    found = inside.get(role)
    if not isinstance(found, Targets):
        raise TypeError("this tuf does not keep delegated roles where verified_city expects them")
    return found


def _inside(updater: Updater) -> TrustedMetadataSet:
    inside = getattr(updater, "_trusted_set", None)
    if not isinstance(inside, TrustedMetadataSet):
        raise TypeError("this tuf does not keep its trusted set where tufseam expects it")
    return inside
