"""All operations of the API, in the order in which the document shows them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from origin.web.api import (
    boards,
    contributions,
    draft_releases,
    drafts,
    edges,
    lessons,
    own,
    people,
    pilots,
    proof,
    publishing,
    releases,
    uploads,
)
from origin.web.api.operations import Operation

OPERATIONS: Final[tuple[Operation, ...]] = (
    *own.OPERATIONS,
    *edges.OPERATIONS,
    *lessons.OPERATIONS,
    *proof.OPERATIONS,
    *boards.OPERATIONS,
    *drafts.OPERATIONS,
    *draft_releases.OPERATIONS,
    *contributions.OPERATIONS,
    *releases.OPERATIONS,
    *pilots.OPERATIONS,
    *people.OPERATIONS,
    *uploads.OPERATIONS,
    *publishing.OPERATIONS,
)

BY_NAME: Final[Mapping[str, Operation]] = {one.name: one for one in OPERATIONS}
