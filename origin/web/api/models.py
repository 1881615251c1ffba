"""What the API takes and gives. Instants are text of one form (`2026-11-24T02:56:09Z`), sizes are bytes."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

from manifests.model import MAX_INT, IdText, Kind, RegionText
from origin.stations.coverage import Spread

PAGE: int = 50
Number = Annotated[int, Meta(ge=1, le=MAX_INT)]


class Where(Struct, frozen=True, forbid_unknown_fields=True):
    """Parent of the fields of path and query."""


class ByNumber(Where, frozen=True):
    """One thing by its number."""

    number: Number


class ByLesson(Where, frozen=True):
    """One lesson, at its current version or another."""

    id: IdText
    version: Number | None = None


class ByEdge(Where, frozen=True):
    """One edge by its code."""

    code: Annotated[str, Meta(min_length=1, max_length=16)]


class LessonsWhere(Where, frozen=True):
    """Which lessons: words in the title or id, kind, column id, state, code of who published; page 1 is the newest."""

    text: Annotated[str, Meta(max_length=100)] = ""
    kind: Kind | Literal[""] = ""
    column: Annotated[str, Meta(max_length=64)] = ""
    state: Literal["offered", "recalled"] = "offered"
    publisher: RegionText | None = None
    page: Annotated[int, Meta(ge=1, le=100_000)] = 1


class EdgesWhere(Where, frozen=True):
    """Which edges: those of a region, and of it those that were heard lately or not."""

    region: RegionText | None = None
    state: Literal["", "heard", "silent"] = ""


class ReleasesWhere(Where, frozen=True):
    """Releases with smaller numbers than `before`; without it, the newest."""

    before: Number | None = None


class EdgeCounts(Struct, frozen=True):
    """Enrolled edges; `heard` within the last 24 hours, `silent` before that, `never` not yet."""

    enrolled: int
    heard: int
    silent: int
    never: int
    current: int
    with_faults: int


class Overview(Struct, frozen=True):
    """How things stand: the release, the edges of one's region, signatures, disk."""

    publisher: str
    release: int
    catalog_version: int
    lessons: int
    edges: EdgeCounts
    expires: dict[str, str]
    findings: tuple[str, ...]
    findings_zh: tuple[str, ...]
    disk_free_bytes: int
    now: str


class LessonRow(Struct, frozen=True):
    """A lesson in a list; `publisher` is the code of the province, or of the city whose own it is."""

    id: str
    version: int
    title: str
    kind: str
    priority: int
    duration_s: float
    size_bytes: int
    published: str
    expires: str | None
    publisher: str


class Lessons(Struct, frozen=True):
    """A page of lessons; `columns` are all columns by id, `publishers` all whose lessons there are."""

    total: int
    page: int
    pages: int
    lessons: tuple[LessonRow, ...]
    columns: dict[str, str]
    publishers: tuple[str, ...]


class LessonVersion(Struct, frozen=True):
    """One version that was published."""

    version: int
    title: str
    published: str
    size_bytes: int
    catalog_version: int


class LessonFile(Struct, frozen=True):
    """A file; `sha256` names its blob. Role `original`: what was handed in, kept here only."""

    role: str
    name: str
    media_type: str
    size_bytes: int
    sha256: str


class LessonRecall(Struct, frozen=True):
    """A recall of this version and all before it."""

    version: int
    reason: str
    at: str


class Lesson(Struct, frozen=True):
    """A lesson at one version. `coverage` and `recall_coverage` tell of the edges in one's own region.

    `publisher`: the code of the province, or of the city whose own it is.

    `keys_are_away`: whoever asks may recall it, but not from here: the signing key is not on this machine.
    """

    id: str
    version: int
    offered_version: int | None
    title: str
    kind: str
    summary: str
    columns: tuple[str, ...]
    audience: tuple[str, ...]
    tags: tuple[str, ...]
    credit: str
    priority: int
    duration_s: float
    size_bytes: int
    published: str
    expires: str | None
    files: tuple[LessonFile, ...]
    versions: tuple[LessonVersion, ...]
    recalls: tuple[LessonRecall, ...]
    coverage: Spread | None
    recall_coverage: Spread | None
    may_recall: bool
    keys_are_away: bool
    publisher: str


class RecallBody(Struct, frozen=True, forbid_unknown_fields=True):
    """Why; edges and the audit show it."""

    reason: Annotated[str, Meta(min_length=1, max_length=500)]


class Recalled(Struct, frozen=True):
    """The recall that is out now."""

    id: str
    version: int
    catalog_version: int
    changed: bool


class RunRow(Struct, frozen=True):
    """The outcome of one sync run; `deferred` are lessons that were planned and wait, with the reason."""

    number: int
    started: str
    finished: str
    complete: bool
    catalog_version: int
    bytes_fetched: int
    bytes_by_reason: dict[str, int]
    deferred_count: int
    deferred: dict[str, str]
    banned: tuple[str, ...]
    error: str


class EdgeRow(Struct, frozen=True):
    """An edge in a list. `heard`: instant of its newest report; `run`: its newest run, without reasons."""

    code: str
    name: str
    region: str
    region_name: str
    city: str
    city_name: str
    state: Literal["heard", "silent", "never"]
    heard: str | None
    catalog_version: int
    is_current: bool
    room_bytes: int | None
    waiting_bytes: int | None
    faults: tuple[str, ...]
    run: RunRow | None


class Edges(Struct, frozen=True):
    """All edges that were asked for."""

    catalog_version: int
    edges: tuple[EdgeRow, ...]


class Edge(Struct, frozen=True):
    """One edge: what it holds, what it plans with, and how its runs went."""

    edge: EdgeRow
    enrolled: str
    has_key: bool
    held: int
    inventory: str | None
    want_full: bool
    state_at: str | None
    columns: tuple[str, ...]
    window: str
    zone: str
    rates_bytes_per_s: tuple[float, ...]
    caps_bytes_per_s: tuple[int, ...]
    runs: tuple[RunRow, ...]


class ReleaseRow(Struct, frozen=True):
    """A release; `lessons` are the versions that it brought, `publisher` is the code of the province or a city."""

    number: int
    publisher: str
    kind: str
    state: str
    note: str
    catalog_version: int
    lessons: int
    begun: str
    ended: str | None


class ReleaseList(Struct, frozen=True):
    """A page of releases; `next` for the following page's `before`."""

    releases: tuple[ReleaseRow, ...]
    next: int | None
