"""What the API takes and gives about releases that are restored."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from manifests.model import IdText
from origin.web.api.models import ByNumber, Number

MOST_BACK: int = 200
MOST_SHOWN: int = 1000


class RestoreWhere(ByNumber, frozen=True):
    """A release, and ids of lessons whose recall is to be undone, joined by commas."""

    recalled: Annotated[str, Meta(max_length=MOST_BACK * 65)] = ""


class RestoreBody(Struct, frozen=True, forbid_unknown_fields=True):
    """What to restore with.

    `newest`: the release that was the newest in the plan; refused when another came out since. `recalled`: lessons
    whose recall is undone. `partly`: go on without the lessons whose files are gone.
    """

    newest: Number | None = None
    recalled: Annotated[tuple[IdText, ...], Meta(max_length=MOST_BACK)] = ()
    partly: bool = False


class RestoreItem(Struct, frozen=True):
    """A lesson that differs. `fate`: back, change, away; recalled and refused stay as they are.

    `version` is offered now, `then` was; 0 for none. `new` is the version that it will have; 0 for none.
    """

    id: str
    title: str
    fate: str
    reason: str
    reason_zh: str
    version: int
    then: int
    new: int


class RestorePlan(Struct, frozen=True):
    """What restoring a release changes, up to 1,000 lessons; `counts` has all of them by fate."""

    number: int
    newest: int
    unchanged: int
    counts: dict[str, int]
    items: tuple[RestoreItem, ...]
    may_restore: bool
    keys_are_away: bool


class Restored(Struct, frozen=True):
    """What was restored; `changed` is false when all was as it was then."""

    number: int
    catalog_version: int
    changed: bool
    counts: dict[str, int]
