"""What the API takes and gives about contributions."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from origin.drafts.lifecycle import State
from origin.web.api.models import Number
from origin.web.api.models_uploads import UploadIdText

_Line = Annotated[str, Meta(max_length=60)]
_Columns = Annotated[tuple[_Line, ...], Meta(max_length=20)]
_Uploads = Annotated[tuple[UploadIdText, ...], Meta(min_length=1, max_length=50)]


class ContributionBody(Struct, frozen=True, forbid_unknown_fields=True):
    """A contribution: its words, and the uploads that are its files."""

    title: Annotated[str, Meta(max_length=200)]
    uploads: _Uploads
    summary: Annotated[str, Meta(max_length=4000)] = ""
    columns: _Columns = ()
    credit: _Line = ""


class ContributionAgainBody(Struct, frozen=True, forbid_unknown_fields=True):
    """A contribution as it is handed in once more, over the revision that was seen."""

    revision: Number
    title: Annotated[str, Meta(max_length=200)]
    uploads: _Uploads
    summary: Annotated[str, Meta(max_length=4000)] = ""
    columns: _Columns = ()
    credit: _Line = ""


class AcceptBody(Struct, frozen=True, forbid_unknown_fields=True):
    """A contribution's words as they are accepted, over the revision that was seen."""

    revision: Number
    title: Annotated[str, Meta(max_length=200)]
    summary: Annotated[str, Meta(max_length=4000)] = ""
    columns: _Columns = ()
    credit: _Line = ""


class ContributionRow(Struct, frozen=True):
    """A contribution of one's own; `reason`: why it was returned or rejected."""

    number: int
    title: str
    state: State
    changed: str
    reason: str
    courseware: str | None
    version: int | None


class ContributionList(Struct, frozen=True):
    """One's own contributions, the last changed first."""

    contributions: tuple[ContributionRow, ...]


class Accepted(Struct, frozen=True):
    """`approved`: it was accepted as it is; else its edits wait for somebody else's approval."""

    number: int
    state: State
    approved: bool
