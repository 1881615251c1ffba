"""What the province publishes day by day, as real catalogs: new lessons, revisions with patches, recalls, expiries."""

from __future__ import annotations

import hashlib
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, field

import msgspec

from manifests.instants import Instant, dump_instant
from manifests.model import FORMAT, MAJOR, Catalog, Column, Courseware, File, Patch, Recall
from manifests.pieces import PIECE_SIZE
from tools.simulate.scenario import DAY_S, HOUR_S, PROVINCE, START, EdgeSpec, Scenario, rng_of

BASE_LESSONS = 400  # in the library before the first day
_LEAST_NEW, _MOST_NEW = 3, 30
_LEAST_BYTES, _MOST_BYTES = 20e6, 800e6
_BITRATE_BPS = 1_500_000
_REVISED, _RECALLED = 0.04, 0.4  # revisions per new lesson; recalls per day
_MOST_REVISED_BYTES = 0.03  # of a revised lesson's size travels as its patch
_FOR_CITY = 0.12
_EXPIRES = 0.3
_COLUMNS = (Column("nongye", "农业技术", 1), Column("dangyuan", "党员教育", 2), Column("weisheng", "卫生健康", 3))


@dataclass(frozen=True, slots=True)
class Day:
    """One day of publishing; times are seconds since `START`.

    Attributes:
        catalog: the release of the evening.
        recalls: id → when it was recalled.
    """

    number: int
    catalog: Catalog
    recalls: dict[str, float]


@dataclass
class Publisher:
    """Publishes from one seed; `library` is what is offered now."""

    scenario: Scenario
    edges: Sequence[EdgeSpec]
    base_lessons: int = BASE_LESSONS
    library: dict[str, Courseware] = field(default_factory=dict)
    recalled: dict[str, Recall] = field(default_factory=dict)
    _version: int = 0

    def __post_init__(self) -> None:
        """Fill the library with what earlier months have left."""
        rng = rng_of(self.scenario.seed, "library")
        for number in range(self.base_lessons):
            self._new(rng, f"kj-base-{number:04}", -DAY_S * (1 + rng.random() * 200))

    def catalog(self, at: float) -> Catalog:
        """The release at a time; what has expired is taken out of it."""
        now = dump_instant(_instant(at))
        self._version += 1
        self.library = {item.id: item for item in self.library.values() if item.expires is None or item.expires > now}
        return Catalog(
            FORMAT,
            MAJOR,
            PROVINCE,
            self._version,
            now,
            columns=_COLUMNS,
            courseware=tuple(self.library[id_] for id_ in sorted(self.library)),
            recalls=tuple(self.recalled[id_] for id_ in sorted(self.recalled)),
        )

    def day(self, number: int) -> Day:
        """Publish a day's work; its release is out before the evening."""
        rng = rng_of(self.scenario.seed, "day", number)
        begin = number * DAY_S
        recalls = self._recall(rng, begin)
        fresh = rng.randint(_LEAST_NEW, _MOST_NEW)
        for one in range(sum(rng.random() < _REVISED for _ in range(fresh)) + 1):
            self._revise(rng, begin, one)
        for one in range(fresh):
            self._new(rng, f"kj-{number:02}-{one:02}", begin + rng.uniform(9, 17) * HOUR_S)
        return Day(number, self.catalog(begin + 18 * HOUR_S), recalls)

    def _new(self, rng: random.Random, id_: str, at: float) -> None:
        size = round(math.exp(rng.uniform(math.log(_LEAST_BYTES), math.log(_MOST_BYTES))))
        audience = str(PROVINCE)
        if rng.random() < _FOR_CITY:
            audience = f"{rng.choice(self.edges).city}00"
        expires = None
        if rng.random() < _EXPIRES:
            expires = dump_instant(_instant(max(at, 0.0) + rng.uniform(1, 30) * DAY_S))
        self.library[id_] = Courseware(
            id=id_,
            version=1,
            title=f"课件 {id_}",
            kind="video",
            audience=(audience,),
            published=dump_instant(_instant(at)),
            files=(_video(id_, 1, size), _poster(id_, rng)),
            columns=(rng.choice(_COLUMNS).id,),
            expires=expires,
            duration_s=size * 8 / _BITRATE_BPS,
            priority=rng.choice((3, 5, 5, 5, 7, 9)),
        )

    def _revise(self, rng: random.Random, begin: float, _one: int) -> None:
        old = self.library[rng.choice(sorted(self.library))]
        video = old.files[0]
        size = max(PIECE_SIZE + 1, round(video.size * rng.uniform(0.9, 1.05)))
        patch = Patch(
            video.blob,
            name_of(old.id, old.version + 1, "patch"),
            patch_size := round(10_000 + size * rng.uniform(0, _MOST_REVISED_BYTES)),
            name_of(old.id, old.version + 1, "patch-table") if patch_size > PIECE_SIZE else None,
        )
        files = (_video(old.id, old.version + 1, size, (patch,)), *old.files[1:])
        published = dump_instant(_instant(begin + rng.uniform(9, 17) * HOUR_S))
        self.library[old.id] = msgspec.structs.replace(
            old, version=old.version + 1, files=files, published=published, duration_s=size * 8 / _BITRATE_BPS
        )

    def _recall(self, rng: random.Random, begin: float) -> dict[str, float]:
        if rng.random() >= _RECALLED or not self.library:
            return {}
        item = self.library.pop(rng.choice(sorted(self.library)))
        at = begin + rng.uniform(9, 17) * HOUR_S
        self.recalled[item.id] = Recall(item.id, item.version, "内容有误", dump_instant(_instant(at)))
        return {item.id: at}


def name_of(*parts: object) -> str:
    """A digest for bytes that nobody made."""
    return hashlib.sha256("/".join(map(str, parts)).encode()).hexdigest()


def _instant(at: float) -> Instant:
    return Instant(START + round(at))


def _video(id_: str, version: int, size: int, patches: tuple[Patch, ...] = ()) -> File:
    digest, table = name_of(id_, version, "video"), name_of(id_, version, "table")
    table_name = table if size > PIECE_SIZE else None
    return File("video", "lesson.mp4", "video/mp4", digest, size, table_name, patches=patches)


def _poster(id_: str, rng: random.Random) -> File:
    return File("poster", "poster.jpg", "image/jpeg", name_of(id_, "poster"), rng.randint(20_000, 200_000))
