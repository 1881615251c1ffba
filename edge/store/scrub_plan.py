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
        items.append(ScrubItem(one.digest, one.size, _pieces(one), _reason(one)))
        total += one.size
    return ScrubPlan(tuple(items), total, sum(item.pieces for item in items), len(ordered) - len(items))


def plan_share(candidates: Iterable[Candidate], cycle_days: float, most_bytes: int = 0) -> ScrubPlan:
    """Choose a night's share, so that a share each night reads the whole disk every `cycle_days`.

    Rotten blobs are read on top of the share: one that cannot be repaired must not use it up night after night. The
    blob that fills the share is read whole, otherwise a cycle would lag by one large blob a night.

    Args:
        candidates: all whole blobs; for one that was never read, `scrubbed_at` says when it was stored, so that what
            came last night does not go before what has waited for weeks.
        cycle_days: less than one reads all.
        most_bytes: bound of the share; 0 means none. A cycle then takes longer.
    """
    ordered = sorted(candidates, key=lambda one: (one.scrubbed_at, one.size, one.digest))
    rotten = [one for one in ordered if one.is_rotten]
    sound = [one for one in ordered if not one.is_rotten]
    share = sum(one.size for one in sound) / max(cycle_days, 1.0)
    taken, total = list(rotten), 0
    for one in sound:
        if total >= share or (most_bytes and total and total + one.size > most_bytes):
            break
        taken.append(one)
        total += one.size
    items = tuple(ScrubItem(one.digest, one.size, _pieces(one), _reason(one)) for one in taken)
    return ScrubPlan(items, sum(one.size for one in items), sum(one.pieces for one in items), len(ordered) - len(items))


def _pieces(one: Candidate) -> int:
    """An empty blob has no piece, but its file must still be there."""
    return max(1, piece_count(one.size, one.piece_size))


def _reason(one: Candidate) -> Reason:
    if one.is_rotten:
        return Reason.ROTTEN
    return Reason.LONGEST_UNREAD if one.scrubbed_at else Reason.NEVER_READ
