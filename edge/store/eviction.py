"""What goes when the disk is full, as a value: which lessons' big blobs, in what order, and why each.

Pure. Three standings: what is *pinned* never goes; what was *pulled* through for a terminal goes before what the plan
brought (*planned*). Within a standing the least valuable goes first (see `value`): GDSF, greedy-dual size frequency,
which the trace benchmark chose, with a count that outlives a lesson's absence. Nobody's bytes are taken from under
them: what is leased, or was watched within the last minutes, stays whatever it is worth. What goes can be fetched
again, piece by piece, when somebody opens it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum

from msgspec import Struct

from manifests.digests import Digest
from manifests.instants import Instant
from manifests.words import show_bytes

# While a lesson is not here, the uses it had count half as much after so long; chosen by the trace benchmark.
HALF_LIFE_S = 7 * 86400
# What nobody has watched yet has come for somebody: it counts as watched once.
NEW_USES = 1.0
# A planned lesson gives way to another of its own priority only when nobody has wanted it for so long; to a higher
# priority at once.
IDLE_S = 14 * 86400
# Smaller blobs (posters, subtitles, piece tables) stay: they are what the portal's pages are made of.
BIG_BYTES = 1024 * 1024

_NEVER = Instant(0)


class Standing(IntEnum):
    """By what right a lesson is here; the lower goes first."""

    PULLED = 0
    PLANNED = 1
    PINNED = 2

    @property
    def word(self) -> str:
        """As it stands in plans, metrics and logs."""
        return self.name.lower()


# Those whose lessons may go.
STANDINGS = (Standing.PLANNED.word, Standing.PULLED.word)


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


@dataclass(frozen=True, slots=True)
class Holding:
    """The big blobs of one lesson, whole or begun; `ids` are several where lessons share them.

    Attributes:
        size: bytes that go with them.
        priority: of the lesson in the catalog, the highest where several share them.
        since: when it came here or was published, whichever is later.
        used_at: when it was last watched; 0 for never.
        heat: uses, those of earlier stays cooled.
        floor: what the last victim was worth when this was last watched or came.
        leased_until: it stays until then.
    """

    ids: tuple[str, ...]
    standing: Standing
    blobs: tuple[Digest, ...]
    size: int
    priority: int = 5
    since: Instant = _NEVER
    used_at: Instant = _NEVER
    heat: float = 0.0
    floor: float = 0.0
    leased_until: Instant = _NEVER


@dataclass(frozen=True, slots=True)
class EvictionState:
    """What is here.

    Attributes:
        taken_bytes: space that blobs take, begun ones with all of theirs.
        free_bytes: space left in the file system.
    """

    holdings: tuple[Holding, ...]
    taken_bytes: int
    free_bytes: int


@dataclass(frozen=True, slots=True)
class Wish:
    """For whose sake something goes: lessons of a higher standing or priority do not."""

    standing: Standing = Standing.PULLED
    priority: int = 0


class Victim(Struct, frozen=True):
    """The big blobs of one lesson that go; `ids` are several where lessons share them.

    Attributes:
        worth: the floor under what is watched from now on, see `value`.
    """

    ids: tuple[str, ...]
    standing: str
    blobs: tuple[Digest, ...]
    size: int
    reason: str
    reason_zh: str
    worth: float = 0.0


class EvictionPlan(Struct, frozen=True):
    """What goes, in order.

    Attributes:
        need_bytes: space asked for.
        room_bytes: space that may be taken once this is done; less than nothing where even that is too little.
        bytes: what goes.
        is_enough: the need fits then.
    """

    victims: tuple[Victim, ...]
    need_bytes: int
    room_bytes: int
    bytes: int
    is_enough: bool


def plan_eviction(
    state: EvictionState, limits: EvictionLimits, need_bytes: int, now: Instant, wish: Wish | None = None
) -> EvictionPlan:
    """Make the plan.

    For a need, only as much goes as makes it fit; nothing when it would not fit all the same. When the high watermark
    would be passed, pulled lessons go on until the low one is reached, so that the next need finds room at once.
    Planned lessons do not go for a watermark.

    Args:
        state: what is here.
        limits: how much may be.
        need_bytes: space asked for; 0 keeps to the limits only.
        now: wall clock.
        wish: for whose sake; without one, for pulling another lesson through.
    """
    wish = wish or Wish()
    most = most_bytes(state, limits)
    room = most - state.taken_bytes
    order = in_order(state.holdings, limits, now)
    pulled = [one for one in order if one.standing is Standing.PULLED]
    chosen: list[Holding] = []
    if need_bytes > room:
        allowed = [one for one in order if room < 0 or may_displace(one, wish, now)]
        chosen = choose(allowed, need_bytes - room)
        if not chosen and room < 0:  # the quota was lowered, or others fill the disk: at least keep to the limits
            chosen = choose(allowed, -room) or allowed
    if not is_easy(state, limits, need_bytes):
        rest = [one for one in pulled if one not in chosen]
        over = state.taken_bytes + need_bytes - sum(one.size for one in chosen) - round(most * limits.low)
        is_vain = need_bytes > room and not chosen
        chosen += [] if over <= 0 or is_vain else choose(rest, over) or rest
    gone = sum(one.size for one in chosen)
    victims = tuple(victim_of(one, now) for one in chosen)
    return EvictionPlan(victims, need_bytes, room + gone, gone, need_bytes <= room + gone)


def most_bytes(state: EvictionState, limits: EvictionLimits) -> int:
    """What blobs may take in all."""
    most = state.taken_bytes + state.free_bytes - limits.reserve_bytes
    return max(min(most, limits.quota_bytes) if limits.quota_bytes else most, 0)


def is_easy(state: EvictionState, limits: EvictionLimits, need_bytes: int) -> bool:
    """Whether so many more bytes fit below the high watermark, so that nothing has to go whatever is here."""
    return state.taken_bytes + need_bytes <= most_bytes(state, limits) * limits.high


def spare_bytes(taken_bytes: int, free_bytes: int, limits: EvictionLimits) -> int:
    """What may be taken below the low watermark; less than nothing above it."""
    most = most_bytes(EvictionState((), taken_bytes, free_bytes), limits)
    return round(most * limits.low) - taken_bytes


def in_order(holdings: Iterable[Holding], limits: EvictionLimits, now: Instant) -> list[Holding]:
    """Those that may go at all, the first to go first."""
    free = [one for one in holdings if one.size and not is_held(one, limits, now)]
    return sorted(free, key=_rank)


def is_held(one: Holding, limits: EvictionLimits, now: Instant) -> bool:
    """Tell what stays whatever it is worth."""
    return one.standing is Standing.PINNED or is_held_row(one.leased_until, one.used_at, limits, now)


def is_held_row(leased_until: Instant, used_at: Instant, limits: EvictionLimits, now: Instant) -> bool:
    """Whether somebody needs it now: it is leased, or was watched within the last minutes."""
    return leased_until > now or (bool(used_at) and now - used_at < limits.keep_used_s)


def may_displace(one: Holding, wish: Wish, now: Instant) -> bool:
    """Whether a lesson gives way to a wish."""
    if one.standing is not Standing.PLANNED or wish.standing is not Standing.PLANNED:
        return one.standing < wish.standing or one.standing is wish.standing is Standing.PULLED
    is_idle = now - max(one.since, one.used_at) >= IDLE_S
    return one.priority < wish.priority or (one.priority == wish.priority and is_idle)


def choose(order: Iterable[Holding], bytes_over: int) -> list[Holding]:
    """The first ones that make so much room, but for those that turn out not to be needed; none when all do not."""
    chosen: list[Holding] = []
    gone = 0
    for one in order:
        if gone >= bytes_over:
            break
        chosen.append(one)
        gone += one.size
    if gone < bytes_over:
        return []
    # A large one taken last may make earlier ones superfluous; the more valuable of those stay first.
    for one in chosen[-2::-1]:
        if gone - one.size >= bytes_over:
            chosen.remove(one)
            gone -= one.size
    return chosen


def value(heat: float, size: int, floor: float) -> float:
    """What a lesson is worth: its uses per byte, above what the last victim was worth when it was last watched.

    That floor rises with each victim, so what nobody watches any more is overtaken in the end, however popular it was.
    """
    return floor + max(heat, NEW_USES) / max(size, 1)


def worth(one: Holding) -> float:
    """The value of a holding."""
    return value(one.heat, one.size, one.floor)


def cooled(heat: float, since_s: float) -> float:
    """What earlier uses count for when a lesson comes back so long after the last of them."""
    return heat * math.pow(0.5, max(since_s, 0) / HALF_LIFE_S)


def victim_of(one: Holding, now: Instant) -> Victim:
    """A lesson that goes, with the reason in both languages."""
    last, last_zh = "never watched here", "本机从未观看"
    if one.used_at:
        days = max(now - one.used_at, 0) // 86400
        last, last_zh = f"last watched {days} days ago", f"{days} 天前最后观看"
    how, how_zh = "pulled through for a terminal", "终端点播时取得"
    if one.standing is not Standing.PULLED:
        how, how_zh = f"planned, priority {one.priority}", f"计划内，优先级 {one.priority}"
    size = show_bytes(one.size)
    reason, reason_zh = f"no room: {how}, {last}, {size}", f"空间不足：{how_zh}，{last_zh}，{size}"
    return Victim(one.ids, one.standing.word, one.blobs, one.size, reason, reason_zh, worth(one))


def _rank(one: Holding) -> tuple[int, int, float, tuple[str, ...]]:
    """Pulled lessons are told apart by what they are worth only: nobody planned them, so no priority was meant."""
    priority = one.priority if one.standing is Standing.PLANNED else 0
    return one.standing, priority, worth(one), one.ids
