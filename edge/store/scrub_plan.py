"""Which blobs to read again tonight. Pure: values in, a plan out."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from manifests.digests import Digest
from manifests.instants import Instant
from manifests.pieces import piece_count


class Reason(StrEnum):
    """Why a blob is read."""

    ROTTEN = "rotten"
    NEVER_READ = "never-read"
    LONGEST_UNREAD = "longest-unread"


@dataclass(frozen=True, slots=True)
class Candidate:
    """One whole blob as the index knows it.

    Attributes:
        scrubbed_at: when it was last read and found good, or stored and not read since (0).
        is_rotten: a piece of it is known to be wrong.
    """

    digest: Digest
    size: int
    piece_size: int
    scrubbed_at: Instant
    is_rotten: bool


@dataclass(frozen=True, slots=True)
class ScrubItem:
    """One blob to read from its first piece to its last."""

    digest: Digest
    size: int
    pieces: int
    reason: Reason


@dataclass(frozen=True, slots=True)
class ScrubPlan:
    """What to read, in order.

    Attributes:
        left: blobs that wait for another night.
    """

    items: tuple[ScrubItem, ...]
    bytes: int
    pieces: int
    left: int


def plan_scrub(candidates: Iterable[Candidate], budget_bytes: int) -> ScrubPlan:
    """Choose rotten blobs first, then the longest unread; small ones before large ones of the same age.

    Args:
        candidates: all whole blobs.
        budget_bytes: most to read, but at least one blob is read; 0 means all.
    """
    ordered = sorted(candidates, key=lambda one: (not one.is_rotten, one.scrubbed_at, one.size, one.digest))
    items: list[ScrubItem] = []
    total = 0
    for one in ordered:
        if budget_bytes and items and total + one.size > budget_bytes:
            break
        # An empty blob has no piece, but its file must still be there.
        items.append(ScrubItem(one.digest, one.size, max(1, piece_count(one.size, one.piece_size)), _reason(one)))
        total += one.size
    return ScrubPlan(tuple(items), total, sum(item.pieces for item in items), len(ordered) - len(items))


def _reason(one: Candidate) -> Reason:
    if one.is_rotten:
        return Reason.ROTTEN
    return Reason.LONGEST_UNREAD if one.scrubbed_at else Reason.NEVER_READ
