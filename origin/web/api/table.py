"""All operations of the API, in the order in which the document shows them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from origin.web.api import edges, lessons, own, people, pilots, releases
from origin.web.api.operations import Operation

OPERATIONS: Final[tuple[Operation, ...]] = (
    *own.OPERATIONS,
    *edges.OPERATIONS,
    *lessons.OPERATIONS,
    *releases.OPERATIONS,
    *pilots.OPERATIONS,
    *people.OPERATIONS,
)

BY_NAME: Final[Mapping[str, Operation]] = {one.name: one for one in OPERATIONS}
