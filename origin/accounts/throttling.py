"""How long the next sign-in must wait after failures. Pure: counts and instants in, seconds out.

Each attempt counts in several buckets; the longest wait holds:

    a device that signed in to this account before   its own bucket only: nobody else can make it wait
    else   account and address together              tight: somebody guesses
           address alone                             looser: an office sits behind one address
           account alone                             a short wait only, so that guesses from everywhere slow down, and
                                                     the owner on a new device still comes through

No wait is longer than a quarter of an hour, and none grows while attempts are refused: an account is never locked.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from manifests.instants import Instant

WINDOW_S: Final = 3600


@dataclass(frozen=True, slots=True)
class Limit:
    """So many failures are free; then a wait that doubles with each, up to `most_s`."""

    free: int
    first_s: int
    most_s: int


DEVICE: Final = Limit(free=5, first_s=5, most_s=900)
PAIR: Final = Limit(free=5, first_s=5, most_s=900)
ADDRESS: Final = Limit(free=30, first_s=5, most_s=900)
ACCOUNT: Final = Limit(free=50, first_s=5, most_s=30)


@dataclass(frozen=True, slots=True)
class Failures:
    """What one bucket holds of the last hour."""

    count: int
    last_at: Instant


def buckets_of(purpose: str, account: str, address: str, device: str) -> Mapping[str, Limit]:
    """The buckets that one attempt counts in.

    Args:
        purpose: `password` or `second`: the two are counted apart.
        account: digest of the login, whether there is such an account or not.
        address: of the visitor.
        device: digest of the device's own secret when the account knows it, else empty.
    """
    if device:
        return {f"{purpose}:device:{device}": DEVICE}
    return {
        f"{purpose}:pair:{account[:32]}:{address}": PAIR,
        f"{purpose}:address:{address}": ADDRESS,
        f"{purpose}:account:{account}": ACCOUNT,
    }


def plan_wait(failures: Mapping[str, Failures], limits: Mapping[str, Limit], now: Instant) -> int:
    """Seconds until the next attempt is looked at; 0 for at once."""
    return max((_wait(failures[name], limit, now) for name, limit in limits.items() if name in failures), default=0)


def _wait(failures: Failures, limit: Limit, now: Instant) -> int:
    beyond = failures.count - limit.free
    if beyond < 0:
        return 0
    delay = min(limit.first_s << min(beyond, 16), limit.most_s)
    # A clock that was set back must not turn into a wait of days.
    return max(0, min(delay, failures.last_at + delay - now))
