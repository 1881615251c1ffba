"""What the API takes and gives about drafts. Instants are text, sizes are bytes, as everywhere."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

from manifests.model import IdText, InstantText, RegionText
from origin.drafts.document import Document, DraftFile, FileRole
from origin.drafts.lifecycle import State, Step
from origin.publish.pilot_plan import MAX_WAVES
from origin.web.api.models import LessonFile, Number, Where
from origin.web.api.models_pilots import Wave

Title = Annotated[str, Meta(max_length=200)]
Said = Annotated[str, Meta(max_length=4000)]
AnyState = Literal["", "editing", "returned", "review", "approved", "publishing", "released", "rejected", "dropped"]
PersonsStep = Literal["submit", "withdraw", "approve", "return", "reject", "drop", "release", "schedule", "hold"]


class DraftsWhere(Where, frozen=True):
    """Which drafts: by state, words of the title, where they come from; one's own alone; page 1 changed last.

    `city`: those that go into the catalog of that city.
    """

    state: AnyState = ""
    text: Annotated[str, Meta(max_length=100)] = ""
    source: Literal["", "console", "contribution"] = ""
    mine: bool = False
    city: Annotated[str, Meta(pattern=r"^(|[1-9][0-9]{5})\Z")] = ""
    page: Annotated[int, Meta(ge=1, le=100_000)] = 1


class ByDraft(Where, frozen=True):
    """One draft by its number."""

    number: Number


class PromiseWhere(Where, frozen=True):
    """One draft, and the local time of day that is asked about."""

    number: Number
    by: Annotated[str, Meta(pattern=r"^([01][0-9]|2[0-3]):[0-5][0-9]\Z")] = "06:00"


class DraftRow(Struct, frozen=True):
    """A draft in a list."""

    number: int
    title: str
    kind: str
    source: str
    state: State
    revision: int
    region: str
    region_name: str
    author: str
    editor: str
    changed: str
    publish_at: str | None
    courseware: str | None
    version: int | None


class DraftList(Struct, frozen=True):
    """A page of drafts; `counts`: how many of those that were asked for stand in each state."""

    total: int
    page: int
    pages: int
    drafts: tuple[DraftRow, ...]
    counts: dict[str, int]


class DraftFileInfo(Struct, frozen=True):
    """A file of a draft. `kind` and `media_type` as they were found; `reason` why it was refused."""

    upload: str
    name: str
    role: FileRole
    kind: str
    media_type: str
    size_bytes: int
    duration_s: float
    sha256: str
    state: str
    reason: str
    reason_zh: str


class NoteRow(Struct, frozen=True):
    """A comment, or a step with its reason; `by` is None for the origin itself."""

    at: str
    by: str | None
    kind: str
    revision: int
    text: str


class DraftView(Struct, frozen=True):
    """A draft as whoever asks may see it.

    `steps`: what they may do now. `why_not`: what it lacks to be reviewed. `base_files`: files of the version that it
    revises. `keys_are_away`: it may be released, but not from here. `publisher`: code of the province or the city into
    whose catalog it goes; `publishers`: what whoever asks may set in the document instead, empty for no choice.
    """

    number: int
    source: str
    state: State
    revision: int
    region: str
    author: str
    editor: str
    reviewer: str | None
    courseware: str | None
    base_version: int | None
    kind: str
    document: Document
    files: tuple[DraftFileInfo, ...]
    base_files: tuple[LessonFile, ...]
    publish_at: str | None
    created: str
    changed: str
    submitted: str | None
    approved: str | None
    version: int | None
    catalog_version: int | None
    notes: tuple[NoteRow, ...]
    steps: tuple[Step, ...]
    may_edit: bool
    why_not: str
    why_not_zh: str
    keys_are_away: bool
    publisher: str
    publishers: tuple[str, ...]


class DraftBody(Struct, frozen=True, forbid_unknown_fields=True):
    """What a draft begins with: a title, or the lesson whose next version it is to be."""

    title: Title = ""
    region: RegionText | None = None
    courseware: IdText | None = None


class SaveBody(Struct, frozen=True, forbid_unknown_fields=True):
    """A draft as it shall be, over the revision that was seen."""

    revision: Number
    document: Document
    files: Annotated[tuple[DraftFile, ...], Meta(max_length=100)] = ()
    publish_at: InstantText | None = None


class StepBody(Struct, frozen=True, forbid_unknown_fields=True):
    """A step, at the revision that was seen; returning and rejecting need a reason.

    `pilot`: when it goes out, regions (codes or full names) of the waves that get it first; without, all at once.
    """

    step: PersonsStep
    revision: Number
    reason: Said = ""
    pilot: Annotated[tuple[Wave, ...], Meta(max_length=MAX_WAVES)] = ()


class NoteBody(Struct, frozen=True, forbid_unknown_fields=True):
    """A comment."""

    text: Annotated[str, Meta(min_length=1, max_length=4000)]


class FieldChange(Struct, frozen=True):
    """One field as it is offered and as the draft has it; an article by its words."""

    field: str
    before: str
    after: str


class FileChange(Struct, frozen=True):
    """One file: `added`, `replaced`, `removed` or `kept`."""

    name: str
    what: Literal["added", "replaced", "removed", "kept"]
    before_bytes: int | None
    after_bytes: int | None
    kind: str


class DraftChanges(Struct, frozen=True):
    """What a draft changes about what is offered; all of it, where nothing is."""

    base_version: int | None
    fields: tuple[FieldChange, ...]
    files: tuple[FileChange, ...]


class DraftProgress(Struct, frozen=True):
    """How far a release is. `wait_s`: until its hour; `is_here`: the process that answers is at it."""

    state: State
    wait_s: int
    is_here: bool
    stage: str
    done_bytes: int
    total_bytes: int
    version: int | None


class DraftFrames(Struct, frozen=True):
    """Pictures of a draft's first video, by number; shown at `/console/drafts/{draft}/frames/{number}`."""

    upload: str
    frames: tuple[int, ...]


class ColumnRow(Struct, frozen=True):
    """A column; `month` (`2026-12`) and `theme` where it is a month's theme."""

    id: str
    title: str
    month: str | None
    theme: str | None


class ColumnList(Struct, frozen=True):
    """All columns in their order."""

    columns: tuple[ColumnRow, ...]


class Conflict(Struct, frozen=True):
    """Both versions of a draft that two people saved: what was not saved, and what is there at `revision`."""

    revision: int
    editor: str
    changed: str
    differing: tuple[str, ...]
    mine: Document
    mine_files: tuple[DraftFile, ...]
    mine_publish_at: str | None
    theirs: Document
    theirs_files: tuple[DraftFile, ...]
    theirs_publish_at: str | None


class Problem(Struct, frozen=True, omit_defaults=True):
    """A refusal: what happened, and what to do, in English and Chinese; `conflict` where two people saved a draft."""

    error: str
    error_zh: str
    hint: str
    hint_zh: str
    wait_s: int = 0
    conflict: Conflict | None = None
