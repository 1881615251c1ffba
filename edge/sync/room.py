"""The room that a plan gives out: to each lesson in its turn, first what is free, then what others give way for it.

Pure. It changes while a plan is made and goes with it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from edge.store.eviction import Holding, Standing, Victim, Wish, choose, may_displace, victim_of
from manifests.instants import Instant


class Room:
    """What may still be taken.

    Args:
        left: bytes that may be taken; less than nothing on a disk that is over its limits.
        spare: bytes below the low watermark: only these are for lessons that were evicted before.
        holdings: what may give way, the first to go first.
        needed: blobs that the plan itself builds from or brings; who has one of these does not give way.
        now: wall clock.
    """

    def __init__(
        self, left: int, spare: int, holdings: Iterable[Holding], needed: Collection[str], now: Instant
    ) -> None:
        self.left = left
        self._spare = spare
        self._now = now
        self._order = {one.ids: one for one in holdings if not any(blob in needed for blob in one.blobs)}
        self._most: dict[int, int] = {}  # by priority: all that gives way, once that was too little

    def take(self, need: int, priority: int) -> tuple[Victim, ...] | None:
        """Give a planned lesson its room.

        Returns:
            Who gives way for it, mostly nobody; None when there is no room all the same.
        """
        over = need - self.left
        victims = self._displace(over, priority) if need and over > 0 else []
        if need and over > 0 and not victims:
            return None
        gone = sum(one.size for one in victims)
        self.left += gone - need
        self._spare += gone - need
        return tuple(victim_of(one, self._now) for one in victims)

    def take_spare(self, need: int) -> bool:
        """Give a lesson that was evicted its room again, if there is some that nobody else is about to want."""
        if need > min(self._spare, self.left):
            return False
        self.left -= need
        self._spare -= need
        return True

    def _displace(self, over: int, priority: int) -> list[Holding]:
        if over > self._most.get(priority, over):
            return []
        wish = Wish(Standing.PLANNED, priority)
        chosen = choose((one for one in self._order.values() if may_displace(one, wish, self._now)), over)
        if not chosen:
            allowed = (one for one in self._order.values() if may_displace(one, wish, self._now))
            self._most[priority] = sum(one.size for one in allowed)
        for one in chosen:
            del self._order[one.ids]
        return chosen
