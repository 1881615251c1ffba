"""What the API takes and gives about pilots: versions that go to some regions first."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from manifests.model import IdText
from origin.publish.pilot_plan import MAX_WAVES, Terms
from origin.web.api.models import Number, Where

RegionName = Annotated[str, Meta(min_length=1, max_length=20)]
Wave = Annotated[tuple[RegionName, ...], Meta(min_length=1, max_length=400)]
Percent = Annotated[int, Meta(ge=1, le=100)]
Count = Annotated[int, Meta(ge=0, le=1000)]
Minutes = Annotated[int, Meta(ge=0, le=10080)]
Hours = Annotated[int, Meta(ge=1, le=720)]


class PilotsWhere(Where, frozen=True):
    """Pilots with smaller numbers than `before`, of one lesson or of all."""

    before: Number | None = None
    courseware: IdText | None = None


class PilotPlanWhere(Where, frozen=True):
    """A lesson, the version whose content would be tried, and the waves: regions by blanks, waves by semicolons."""

    id: IdText
    version: Number
    waves: Annotated[str, Meta(min_length=1, max_length=8000)]


class PilotBody(Struct, frozen=True, forbid_unknown_fields=True):
    """A pilot to start: the version whose content is tried, regions (codes or full names) of each wave.

    What a wave must come to is that of the settings where nothing is said.
    """

    version: Number
    waves: Annotated[tuple[Wave, ...], Meta(min_length=1, max_length=MAX_WAVES)]
    enough_percent: Percent | None = None
    most_failed: Count | None = None
    failed_minutes: Minutes | None = None
    deadline_hours: Hours | None = None


class GoOnBody(Struct, frozen=True, forbid_unknown_fields=True):
    """The wave that it goes on from, as it was seen; the first is 1. Nothing happens when it has gone on already."""

    wave: Annotated[int, Meta(ge=1, le=MAX_WAVES)]


class StopBody(Struct, frozen=True, forbid_unknown_fields=True):
    """Why; the audit shows it."""

    reason: Annotated[str, Meta(min_length=1, max_length=500)]


class PilotRow(Struct, frozen=True):
    """A pilot in a list. `state`: running, done, stopped, superseded; `wave` is the one at work, the first is 1.

    `base`: what all others have meanwhile; none: the lesson is new. `reason` says why it went on last, or ended.
    """

    number: int
    courseware: str
    title: str
    version: int
    base: int | None
    state: str
    wave: int
    waves: tuple[tuple[str, ...], ...]
    started: str
    started_by: str
    wave_at: str
    ended: str | None
    by_itself: bool
    reason: str
    reason_zh: str


class PilotList(Struct, frozen=True):
    """A page of pilots; `next` for the following page's `before`."""

    pilots: tuple[PilotRow, ...]
    next: int | None


class PilotEdge(Struct, frozen=True):
    """An edge of a wave. `standing`: proved, waits, failed."""

    edge: str
    name: str
    region: str
    wave: int
    standing: str
    held: int
    heard: str | None
    reason: str
    reason_zh: str


class Pilot(Struct, frozen=True):
    """A pilot with the verdict on it: `step` is what the origin does at its next look (wait, go_on, finish, stop).

    `edges` are those of one's own region; `meant`, `proved` and `failed` count all.
    """

    pilot: PilotRow
    terms: Terms
    deadline: str
    step: str
    reason: str
    reason_zh: str
    meant: int
    proved: int
    failed: int
    edges: tuple[PilotEdge, ...]
    may_manage: bool
    keys_are_away: bool


class PlannedEdge(Struct, frozen=True):
    """An edge that a wave would reach; `faults` are there already, and would not stop the pilot."""

    edge: str
    name: str
    region: str
    held: int
    heard: str | None
    faults: tuple[str, ...]


class PilotPlan(Struct, frozen=True):
    """What starting a pilot would come to: the new version, what all others keep, and the edges of each wave."""

    id: str
    title: str
    source: int
    version: int
    base: int | None
    waves: tuple[tuple[str, ...], ...]
    edges: tuple[tuple[PlannedEdge, ...], ...]
    terms: Terms


class PilotStarted(Struct, frozen=True):
    """The version that went out."""

    id: str
    version: int
    catalog_version: int


class PilotStepped(Struct, frozen=True):
    """What was done; `catalog_version` is 0 when that was nothing."""

    step: str
    catalog_version: int
