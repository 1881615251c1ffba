"""Counting what was watched, a portion of the access log at a time, and putting whole hours into the outbox.

Serving does nothing for it: the lines stand in the log already. A portion is small, so that the keeper, who reads them,
has time for the night; what is not read today is read at night.

Blocking; callers use a thread.
"""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path
from typing import Final

import msgspec
import structlog

from edge.paths import Paths
from edge.report.logtail import read_on
from edge.report.outbox import Outbox
from edge.report.watchfile import WatchFile
from edge.report.watching import Terminal, count, parse_view
from edge.store.blobs import BlobStore
from edge.store.faults import storage_faults
from edge.store.library import Library
from manifests.errors import YuanjiaoError
from manifests.instants import Instant
from manifests.reports import WATCHING

PORTION_BYTES: Final = 2 * 1024 * 1024
KINDS_NOTE: Final = "kinds"
_MOST_KNOWN: Final = 10_000

log = structlog.get_logger(__name__)


class Watcher:
    """Counts for one edge.

    Args:
        paths: where the counts and the library are.
        folder: where the access log lies.
        portion_bytes: of the log, at most, at each look.
    """

    def __init__(self, paths: Paths, folder: Path, portion_bytes: int = PORTION_BYTES) -> None:
        self._paths = paths
        self._folder = folder
        self._portion_bytes = portion_bytes
        self._articles: OrderedDict[str, bool] = OrderedDict()

    def look(self) -> int:
        """Count what was written since; returns how many lines were read.

        Raises:
            StorageError: environment; what was not counted is counted the next time.
        """
        with WatchFile.open(self._paths.watching) as file:
            with storage_faults("reading the access log", "读取访问日志"):
                lines, place = read_on(self._folder, file.place(), self._portion_bytes)
            if lines:
                views = [view for view in map(parse_view, lines) if view is not None]
                seen = file.seen(Terminal(view.address, view.courseware) for view in views)
                self._learn({view.courseware for view in views if view.is_page})
                file.take(count(views, seen, lambda id_: self._articles.get(id_, False)), place)
        return len(lines)

    def _learn(self, ids: set[str]) -> None:
        """Which of these are articles; a lesson's kind does not change, but one may not be here yet."""
        unknown = ids - self._articles.keys()
        if not unknown:
            return
        try:
            with BlobStore.open(self._paths, read_only=True, wait_s=0.0) as store:
                library = Library(store)
                for id_ in unknown:
                    item = library.get(id_)
                    if item is not None:
                        self._articles[id_] = item.kind == "article"
        except YuanjiaoError as error:
            log.info("articles_not_known", reason=error.message)
        while len(self._articles) > _MOST_KNOWN:
            self._articles.popitem(last=False)


def tell_watching(outbox: Outbox, path: Path, now: Instant) -> int:
    """Put hours into the outbox, if the origin has said that it takes them; returns how many.

    An hour that is put there twice, because of a crash between the two files, does no harm.

    Raises:
        StorageError: environment.
    """
    kinds = outbox.note(KINDS_NOTE)
    if not isinstance(kinds, list) or WATCHING not in kinds or not path.exists():
        return 0
    with WatchFile.open(path) as file:
        hours = file.to_tell(now)
        for one in hours:
            outbox.append(WATCHING, msgspec.json.encode(one.body), now)
            file.told(one.hour, now)
    return len(hours)
