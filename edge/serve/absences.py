"""Why is each lesson of the catalog not here? Worked out in a thread when somebody asks, and kept for a while.

It takes about a second of processor for fifty thousand lessons: one at a time, and not again for every click.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from edge.paths import Paths
from edge.settings import Settings
from edge.store.blobs import BlobStore
from edge.store.evicting import limits_of as room_limits
from edge.store.library import Library
from edge.store.usage import Usage
from edge.sync.explain import explain
from edge.sync.lines import line_of, read_rates, zone_of
from edge.sync.wanting import Wanted
from edge.sync.whynot import Cause, WhyNot
from manifests.instants import Instant
from manifests.names import Region

# What was worked out is shown again for so long; and while nothing has changed here, for so much longer.
KEEP_S = 5.0
KEEP_MOST_S = 60.0
# What somebody can do something about comes first.
_ORDER = (
    Cause.FAILED,
    Cause.NO_ROOM,
    Cause.EVICTED,
    Cause.WAITS,
    Cause.NOT_YET,
    Cause.EXPIRED,
    Cause.RECALLED,
    Cause.COLUMNS,
    Cause.AUDIENCE,
)


@dataclass(frozen=True, slots=True)
class Asked:
    """Which absences are wanted.

    Attributes:
        words: in the title or the id; empty for all.
        cause: None for all.
        page: from 1 on; beyond the end means the last.
        per_page: most of them.
    """

    words: str
    cause: Cause | None
    page: int
    per_page: int


@dataclass(frozen=True, slots=True)
class Found:
    """Some of the absences.

    Attributes:
        rows: one page of those that were asked for.
        count: how many were asked for.
        by_cause: how many there are of each cause among those whose title or id was asked for.
    """

    rows: Sequence[WhyNot] = ()
    count: int = 0
    by_cause: Counter[Cause] = field(default_factory=Counter)


class Absences:
    """For one event loop; see the module's words."""

    def __init__(self, paths: Paths, settings: Settings, store: BlobStore, library: Library, usage: Usage) -> None:
        self._paths = paths
        self._settings = settings
        self._store = store
        self._library = library
        self._usage = usage
        self._working = asyncio.Lock()
        self._all: tuple[WhyNot, ...] = ()
        self._key: tuple[object, ...] | None = None
        self._found_s = 0.0

    async def find(self, key: tuple[object, ...], region: Region, now: Instant, asked: Asked) -> Found:
        """One page of what was asked for.

        Args:
            key: differs when something changed: the catalog, or what is installed.
            region: of this edge.
            now: trusted time.
            asked: which.

        Raises:
            ConfigurationError: bad data; a setting of the line is wrong.
            StorageError: environment; index or catalog cannot be read.
        """
        async with self._working:
            now_s = asyncio.get_running_loop().time()
            age_s = now_s - self._found_s
            if self._key is None or age_s > KEEP_MOST_S or (key != self._key and age_s > KEEP_S):
                self._all = await asyncio.to_thread(self._explain, region, now)
                self._key, self._found_s = key, now_s
            everything = self._all
        return await asyncio.to_thread(_select, everything, asked)

    def _explain(self, region: Region, now: Instant) -> tuple[WhyNot, ...]:
        settings = self._settings
        found = explain(
            self._store,
            self._library,
            self._usage,
            Wanted(region, frozenset(settings.sync.columns)),
            line_of(settings.sync, read_rates(self._paths)),
            zone_of(settings.sync),
            now,
            room=room_limits(settings.store),
            at_once=settings.upstream.requests_in_flight,
        )
        return tuple(sorted(found, key=lambda one: _ORDER.index(one.cause)))  # stable: by id within a cause


def _select(everything: Sequence[WhyNot], asked: Asked) -> Found:
    if words := asked.words.casefold():
        everything = [one for one in everything if words in one.title.casefold() or words in one.id.casefold()]
    counted = Counter(one.cause for one in everything)
    wanted = everything if asked.cause is None else [one for one in everything if one.cause is asked.cause]
    page = min(asked.page, max(-(-len(wanted) // asked.per_page), 1))
    rows = wanted[(page - 1) * asked.per_page : page * asked.per_page]
    return Found(rows, len(wanted), Counter({one: counted[one] for one in _ORDER if counted[one]}))
