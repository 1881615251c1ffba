"""What one sync did, as told to people, to the portal and (later) to the province."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice

from msgspec import Struct, structs

from edge.sync.promise import Fact, Promised
from manifests.errors import StorageError, TransferError, UntrustedError, YuanjiaoError

# Under this name the library keeps the report of the last run.
REPORT_NOTE = "last_sync"
# And the last one that changed or fetched something: polls that find nothing do not write over it.
WORK_NOTE = "last_work"
# And until when a source is banned.
BANS_NOTE = "bans"
# Of so many lessons the kept report says what was promised; the command prints all.
KEPT_PROMISES = 100
# A poll a minute by day must not write a new edge's fifty thousand waiting lessons to the disk each time.
KEPT_DEFERRED = 200
# Worst first: content that is not trusted is an alarm, a full disk needs a person, a line comes back by itself.
_WORST_FIRST = (UntrustedError, StorageError, TransferError, YuanjiaoError)


class WaitsError(TransferError):
    """Lessons that were planned wait for the window; nothing is wrong."""

    default_hint = "it goes on by itself when the window opens; `--now` does not wait for it"
    default_hint_zh = "到时段将自动继续；加 --now 可立即传输"


class Deferred(Struct, frozen=True, omit_defaults=True):
    """A lesson that was planned or wanted and is not proved here; one that was evicted waits for nothing."""

    id: str
    reason: str
    reason_zh: str = ""
    is_evicted: bool = False


class SyncReport(Struct, frozen=True, kw_only=True):
    """One run.

    Attributes:
        catalog_version: the province's catalog that this edge follows now.
        cities: of each city whose catalog it follows beside that one, its version.
        added, updated, removed: ids; `removed` includes `recalled`.
        bytes_fetched: every byte of body received, role files and wasted bytes included.
        bytes_by_reason: the same bytes by why they were asked for (see `UpstreamReason`); they add up to it.
        bytes_from_patches: bytes of result that patches built.
        bytes_reused: bytes of the lessons added or updated that were here already.
        requests: HTTP requests made.
        complete: everything that was planned is proved and installed.
        deferred: what is not, and why.
        more_deferred: how many more there are, in a report that was kept as a note; 0 in one just made.
        waits: nothing is left but what waits for the window.
        sources: bytes of body by upstream address.
        banned: upstreams that sent wrong content, with the seconds for which they are left for last.
        exit_code: 0 when complete, otherwise that of the worst fault.
        error, error_zh, hint, hint_zh: the worst fault, empty without one.
        promised: what the plan promised of each lesson to fetch, in its order.
        fact: what became of those that are installed.
    """

    catalog_version: int
    added: tuple[str, ...] = ()
    updated: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    recalled: tuple[str, ...] = ()
    bytes_fetched: int = 0
    bytes_by_reason: dict[str, int] = {}
    bytes_from_patches: int = 0
    bytes_reused: int = 0
    requests: int = 0
    seconds: float = 0.0
    complete: bool = False
    deferred: tuple[Deferred, ...] = ()
    more_deferred: int = 0
    waits: bool = False
    sources: dict[str, int] = {}
    banned: dict[str, float] = {}
    freshness: str = ""
    started: str = ""
    finished: str = ""
    exit_code: int = 0
    error: str = ""
    error_zh: str = ""
    hint: str = ""
    hint_zh: str = ""
    promised: dict[str, Promised] = {}
    fact: dict[str, Fact] = {}
    cities: dict[str, int] = {}


def brief(report: SyncReport) -> SyncReport:
    """The report as it is kept: a first sync of fifty thousand lessons must not be read anew by every /healthz."""
    promised = dict(islice(report.promised.items(), KEPT_PROMISES))
    fact = {id_: one for id_, one in report.fact.items() if id_ in promised}
    more = max(len(report.deferred) - KEPT_DEFERRED, 0)
    kept = report.deferred[:KEPT_DEFERRED]
    return structs.replace(report, promised=promised, fact=fact, deferred=kept, more_deferred=more)


def worst_of(errors: Sequence[YuanjiaoError]) -> YuanjiaoError | None:
    """The error whose family decides the exit code; the first of its family."""
    for family in _WORST_FIRST:
        for error in errors:
            if isinstance(error, family):
                return error
    return None
