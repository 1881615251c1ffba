"""Who of a city's edges fetches which part of a new blob from above: rendezvous hashing, so that all agree unasked.

A blob is cut into groups of adjacent pieces. Each member of the city has a score for each group; the highest fetches
it from above, the others expect it from that one. Take a member away and only its groups find new owners, the same
ones in everybody's view. Nothing here reads a clock, a socket or a disk.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import xxhash

from manifests.digests import Digest

# Small enough that twelve edges divide a small video evenly, large enough that a request is worth its head.
GROUP_BYTES = 1024 * 1024

# A sibling that brought none of its share for so many progress deadlines is not counted on, and for so many times the
# gap between this edge's own pieces, for siblings mostly have the same kind of line, or share one.
_DEADLINES = 2.5
PATIENCE_LEAST_S = 3.0  # several looks at a sibling
_GAPS = 3.0
PATIENCE_MOST_S = 60.0
# One that would need so many times as long as the fill has taken so far, and at least this, is helped out. Shares are
# uneven, some three times another's: help that comes sooner would bring over the line what is on its way already.
LATE_TIMES = 3.0
LATE_S = 30.0


def score(digest: Digest, group: int, member: str) -> int:
    """How much a group belongs to a member."""
    return xxhash.xxh3_64_intdigest(f"{digest}/{group}/{member}".encode())


def rank(digest: Digest, group: int, members: Iterable[str]) -> tuple[str, ...]:
    """Members by their claim to a group, the first one first."""
    return tuple(sorted(members, key=lambda member: (score(digest, group, member), member), reverse=True))


class Shares:
    """One blob divided among the members of a city.

    Args:
        digest: the blob.
        pieces: how many it has.
        piece_size: in bytes.
        own: this edge's address as its siblings know it.
        siblings: addresses of the others.
    """

    def __init__(self, digest: Digest, pieces: int, piece_size: int, own: str, siblings: Sequence[str]) -> None:
        self.own = own
        self.group_pieces = max(1, GROUP_BYTES // piece_size)
        self.count = -(-pieces // self.group_pieces)
        self._digest = digest
        members = sorted({own, *siblings})
        self._ranks = [rank(digest, group, members) for group in range(self.count)]

    def group_of(self, piece: int) -> int:
        """The group that a piece is in."""
        return piece // self.group_pieces

    def owner(self, group: int, absent: Collection[str] = ()) -> str:
        """Who fetches a group from above, when nobody counts on `absent`; this edge never counts itself out."""
        return next(member for member in self._ranks[group] if member == self.own or member not in absent)

    def claimants(self, group: int, absent: Collection[str]) -> Iterator[str]:
        """Members that owe a group: its owner, and before that one those whom nobody counts on any more."""
        for member in self._ranks[group]:
            yield member
            if member == self.own or member not in absent:
                return

    def own_order(self) -> list[int]:
        """This edge's share, in an order that differs from edge to edge."""
        mine = (group for group in range(self.count) if self._ranks[group][0] == self.own)
        return sorted(mine, key=self._order)

    def taken_order(self, groups: Iterable[int]) -> list[int]:
        """Groups of others in the order to take them over: each owner's last first, as that one may yet be at work."""
        return sorted(groups, key=self._order, reverse=True)

    def _order(self, group: int) -> int:
        return score(self._digest, group, f"order/{self._ranks[group][0]}")


@dataclass(frozen=True, slots=True)
class Peer:
    """What is known of a sibling while a blob is filled.

    Attributes:
        is_well: it answers, and sent nothing wrong.
        moved_s: when a piece of its share was last seen to be new, or it came to owe some.
        looked_s: when it was last looked at; what it did since cannot be known.
        watched_s: when it began to be watched.
        brought: pieces of its share that it was seen to prove since.
        owed: pieces of its share that it still lacks.
        patient_s: how long it may bring nothing.
    """

    is_well: bool
    moved_s: float
    looked_s: float
    watched_s: float
    brought: int
    owed: int
    patient_s: float


def patience_s(deadline_s: float, gap_s: float) -> float:
    """How long a sibling may bring nothing.

    Args:
        deadline_s: within which any source must make progress.
        gap_s: between pieces that come from above; what is known of it, or how long none has come yet.
    """
    return min(max(_DEADLINES * deadline_s, _GAPS * gap_s, PATIENCE_LEAST_S), PATIENCE_MOST_S)


def absent(peers: Mapping[str, Peer], now_s: float) -> frozenset[str]:
    """Siblings that are not to be counted on: gone, banned, at a standstill for too long, or far too slow."""
    return frozenset(url for url, peer in peers.items() if not _is_counted_on(peer, now_s))


def _is_counted_on(peer: Peer, now_s: float) -> bool:
    if not peer.is_well:
        return False
    if not peer.owed:
        return True
    if peer.looked_s - peer.moved_s > peer.patient_s:
        return False
    spent_s = now_s - peer.watched_s
    return not peer.brought or peer.owed * spent_s / peer.brought <= max(LATE_TIMES * spent_s, LATE_S)
