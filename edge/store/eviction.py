"""What goes when the disk is full, as a value: which lessons' big blobs, in what order, and why each.

Pure. Three standings: what is *pinned* never goes; what was *pulled* through for a terminal goes before what the plan
brought (*planned*). Within a standing the least valuable goes first. Nobody's bytes are taken from under them: what is
leased, or was watched within the last minutes, stays whatever it is worth.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from msgspec import Struct

from manifests.digests import Digest

# Each use counts half as much after so long.
HALF_LIFE_S = 14 * 86400
# Smaller blobs (posters, subtitles, piece tables) stay: they are what the portal's pages are made of.
BIG_BYTES = 1024 * 1024


class Standing(IntEnum):
    """By what right a lesson is here; the lower goes first."""

    PULLED = 0
    PLANNED = 1
    PINNED = 2


@dataclass(frozen=True, slots=True)
class EvictionLimits:
    """How much may be here.

    Attributes:
        quota_bytes: most that blobs may take; 0: no limit but the reserve.
        reserve_bytes: free space that is never used up.
        high, low: shares of what may be taken: above the first, pulled lessons go until the second is reached.
        keep_used_s: what was watched so recently stays.
    """

    quota_bytes: int
    reserve_bytes: int
    high: float
    low: float
    keep_used_s: float


class Victim(Struct, frozen=True):
    """The big blobs of one lesson that go; `ids` are several where lessons share them."""

    ids: tuple[str, ...]
    standing: str
    blobs: tuple[Digest, ...]
    size: int
    reason: str
    reason_zh: str


def cooled(heat: float, since_s: float) -> float:
    """What uses are worth so long after they were noted."""
    return heat * 0.5 ** (max(since_s, 0) / HALF_LIFE_S)
