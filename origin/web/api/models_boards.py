"""What the operations behind the boards take and give: promises against facts, tonight's spread, what was watched."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

from manifests.model import MAX_INT, IdText, RegionText
from origin.publish.delays import Delay
from origin.publish.promise import ProvincePromise
from origin.stations.coverage import Proof, Straggler
from origin.web.api.models import EdgeRow, Where

__all__ = ["ProvincePromise"]

ClockText = Annotated[str, Meta(pattern=r"^([01][0-9]|2[0-3]):[0-5][0-9]\Z")]
DayText = Annotated[str, Meta(pattern=r"^[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])\Z")]


class ForetellBody(Struct, frozen=True, forbid_unknown_fields=True):
    """A lesson that may be published: its size on the line, and what decides its turn and its audience.

    `replaces`: the id of which it is a new version; `by`: the local time of day that is asked about.
    """

    bytes: Annotated[int, Meta(ge=0, le=1 << 50)]
    audience: Annotated[tuple[RegionText, ...], Meta(max_length=400)] = ()
    columns: Annotated[tuple[IdText, ...], Meta(max_length=100)] = ()
    priority: Annotated[int, Meta(ge=0, le=9)] = 5
    replaces: IdText | None = None
    by: ClockText = "06:00"


class Pledged(Struct, frozen=True):
    """What was promised of a release when it was published, for the edges of one's own region.

    `counties_in_time` of `counties`, `in_time` of `edges`, by `due`; `last`: the last instant that could be promised.
    """

    made: str
    by: str
    due: str
    edges: int
    in_time: int
    counties: int
    counties_in_time: int
    last: str | None
    delays: tuple[Delay, ...]


Outcome = Literal["kept", "late", "unpromised", "waiting", "broken", "lacking"]


class Verdict(Struct, frozen=True):
    """One edge: what was promised of it and what came.

    `kept`: proved when promised, or before it was due; `late`: proved later; `unpromised`: proved, though nothing
    could be promised; `waiting`: not due yet; `broken`: due and not proved; `lacking`: neither promised nor proved.
    """

    edge: str
    name: str
    region: str
    promised: str | None
    proved: str | None
    verdict: Outcome
    reason: str
    reason_zh: str


class CurvePoint(Struct, frozen=True):
    """How many edges had proved it, and how many were promised to have it, from this instant on."""

    at: str
    proved: int
    promised: int


class RecallProof(Struct, frozen=True):
    """How a recall went: its curve and who was slowest."""

    version: int
    recalled: str
    meant: int
    proved: int
    curve: tuple[CurvePoint, ...]
    slowest: tuple[Proof, ...]
    tail: tuple[Straggler, ...]


class LessonProof(Struct, frozen=True):
    """Promise against fact of one lesson, for the edges of one's own region.

    `by_due`: how many had proved it when the promise was due; None while it is not.
    """

    id: str
    title: str
    version: int
    published: str
    meant: int
    proved: int
    pledge: Pledged | None
    by_due: int | None
    curve: tuple[CurvePoint, ...]
    edges: tuple[Verdict, ...]
    recall: RecallProof | None


class BoardWhere(Where, frozen=True):
    """One's own region, or a part of it."""

    region: RegionText | None = None


class CityTonight(Struct, frozen=True):
    """One city tonight; `pairs` are lessons times edges that tonight is about, `proved` how many are there.

    `column` and `row` are its place on the tile map, 0 where it has none.
    """

    code: str
    name: str
    column: int
    row: int
    edges: int
    done: int
    silent: int
    faults: int
    pairs: int
    proved: int


class EdgeTonight(Struct, frozen=True):
    """One edge tonight.

    `outcome`: all of tonight's lessons are there (`done`), some wait (`going`), nothing was heard for a day (`silent`),
    or ever (`never`). `last`: when its newest lesson of tonight was proved.
    """

    edge: EdgeRow
    pairs: int
    proved: int
    outcome: Literal["done", "going", "silent", "never"]
    last: str | None
    why: str


class TonightPoint(Struct, frozen=True):
    """How many of tonight's pairs were proved from this instant on."""

    at: str
    proved: int


class Tonight(Struct, frozen=True):
    """How far tonight's lessons have come.

    `since`: when the night began; `lessons`: how many were published since a day before it; `more`: there were too
    many, these are the newest.
    """

    region: str
    region_name: str
    since: str
    now: str
    catalog_version: int
    lessons: int
    more: bool
    pairs: int
    proved: int
    cities: tuple[CityTonight, ...]
    edges: tuple[EdgeTonight, ...]
    curve: tuple[TonightPoint, ...]


class WatchingWhere(Where, frozen=True):
    """What was watched in a region from one day to another (both inclusive; without them, the last 30 days)."""

    region: RegionText | None = None
    first: DayText | None = None
    last: DayText | None = None
    column: Annotated[str, Meta(max_length=64)] = ""


class Watched(Struct, frozen=True):
    """Figures of something: times begun, how long all terminals together watched (hours), bytes that they took."""

    key: str
    name: str
    plays: int
    terminal_hours: int
    bytes: int


class HourWatched(Struct, frozen=True):
    """An hour of the week: 0 is Monday 00:00 to 01:00."""

    hour: Annotated[int, Meta(ge=0, le=167)]
    plays: int
    terminals: int


class Watching(Struct, frozen=True):
    """What was watched.

    `total` is of the region; `areas` are its parts, `days` its days; `lessons` and `columns` the most watched first. A
    lesson of several columns counts in each. `hours` sums each hour of the week up, and is empty for a single column.
    """

    region: str
    region_name: str
    first: str
    last: str
    total: Watched
    lessons: tuple[Watched, ...]
    columns: tuple[Watched, ...]
    areas: tuple[Watched, ...]
    days: tuple[Watched, ...]
    hours: tuple[HourWatched, ...]


Count = Annotated[int, Meta(ge=0, le=MAX_INT)]
