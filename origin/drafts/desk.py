"""All that drafts are worked on with, put together once by the origin's wiring."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from origin.drafts.gather import Sources
from origin.drafts.releasing import Releasing
from origin.drafts.store import Drafts
from origin.publish.publish import Publishing


@dataclass(frozen=True, slots=True)
class DraftDesk:
    """What the console and the API need for drafts.

    Attributes:
        promising: room for so many questions of what a release would mean: each looks into files by its own processes.
    """

    store: Drafts
    releasing: Releasing
    publishing: Publishing
    sources: Sources
    promising: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(2))
