"""Bans of sources outlive the run: a note in the index says until when each lasts."""

from __future__ import annotations

from contextlib import suppress

from edge.store.library import Library
from edge.sync.report import BANS_NOTE
from edge.upstream.sources import Sources
from manifests.errors import BusyError, StorageError
from manifests.instants import Instant


def read_bans(library: Library, now: Instant, most_s: float) -> dict[str, float]:
    """Seconds that bans of earlier runs still have to go; a clock that jumped can only shorten or drop them.

    Raises:
        StorageError: environment.
    """
    note = library.get_meta(BANS_NOTE)
    if not isinstance(note, dict):
        return {}
    return {url: float(until - now) for url, until in note.items() if 0 < until - now <= most_s}


def keep_bans(library: Library, now: Instant, sources: Sources) -> None:
    """Note the bans of this run, if they are not those that are noted.

    Raises:
        StorageError: environment; the note cannot be read.
    """
    bans = {url: now + round(seconds) for url, seconds in sources.bans().items()}
    if bans != (library.get_meta(BANS_NOTE) or {}):
        with suppress(StorageError, BusyError):  # a full disk must not hide what ended the sync
            library.set_meta(BANS_NOTE, bans)
