"""What the API takes and gives about publishing from uploads."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

from manifests.model import MAX_FILES, RegionText
from origin.drafts.publish_jobs import JobProblem, JobResult
from origin.publish.pilot_plan import MAX_WAVES
from origin.web.api.models import Where
from origin.web.api.models_uploads import UploadIdText

_Short = Annotated[str, Meta(max_length=200)]
PilotWave = Annotated[tuple[RegionText, ...], Meta(min_length=1, max_length=400)]


class PublishBody(Struct, frozen=True, forbid_unknown_fields=True):
    """A courseware: its words, and the uploads that are its files. The rules are those of `yuanjiao publish`.

    `publisher`: code of the city into whose catalog it goes; without one: into the province's. `pilot`: region codes of
    the waves that get it first; without, all get it at once.
    """

    title: Annotated[str, Meta(min_length=1, max_length=400)]
    uploads: Annotated[tuple[UploadIdText, ...], Meta(min_length=1, max_length=MAX_FILES)]
    id: _Short | None = None
    columns: Annotated[tuple[_Short, ...], Meta(max_length=50)] = ()
    audience: Annotated[tuple[_Short, ...], Meta(max_length=4000)] = ()
    priority: Annotated[int, Meta(ge=0, le=9)] = 5
    summary: Annotated[str, Meta(max_length=8000)] = ""
    tags: Annotated[tuple[_Short, ...], Meta(max_length=50)] = ()
    expires: Annotated[str, Meta(max_length=40)] | None = None
    hls: bool = True
    credit: Annotated[str, Meta(max_length=200)] = ""
    publisher: RegionText | None = None
    pilot: Annotated[tuple[PilotWave, ...], Meta(max_length=MAX_WAVES)] = ()


class ByPublish(Where, frozen=True):
    """One publish by its id."""

    id: UploadIdText


class PublishState(Struct, frozen=True):
    """How a publish stands: `result` when it is done, `problem` when it failed, else its stage and progress."""

    id: str
    state: Literal["waiting", "working", "done", "failed"]
    stage: str
    done_bytes: int
    total_bytes: int
    asked: str
    result: JobResult | None
    problem: JobProblem | None
