"""What the night did and will do, for /healthz and for the operator's page."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlencode

import msgspec
from aiohttp import web

from edge.metrics import Cell, Counters, cell_of
from edge.reasons import UpstreamReason
from edge.report.backlog import Backlog, read_backlog
from edge.serve.absences import Asked, Found
from edge.serve.pages import Pages
from edge.serve.portal import Pager, make_pager
from edge.serve.query import read_number
from edge.serve.stock import Stock
from edge.serve.words import Words, show_duration, show_size
from edge.sync.lines import schedule_of
from edge.sync.report import SyncReport
from edge.sync.whynot import Cause
from edge.sync.window import nights_from
from manifests.errors import ConfigurationError, FormatError, StorageError, YuanjiaoError
from manifests.instants import dump_instant, parse_instant
from manifests.line import Span

# A page stays a page, whatever the catalog holds.
MOST_ROWS = 100
MOST_WORDS = 80


@dataclass(frozen=True, slots=True)
class Figure:
    """A line of a table."""

    name: str
    value: str
    note: str = ""


@dataclass(frozen=True, slots=True)
class CauseLink:
    """The way to the absences of one cause, or of all."""

    name: str
    count: int
    url: str
    is_chosen: bool


@dataclass(frozen=True, slots=True)
class Absent:
    """Why lessons are not here, as the page shows it.

    Attributes:
        words: what was searched for.
        cause: the one that was chosen; empty for all.
        rows: of this page.
        text: what to say when there is no row.
        more: what links to other pages have to carry on.
    """

    words: str
    cause: str
    causes: Sequence[CauseLink]
    rows: Sequence[Figure]
    text: str
    pager: Pager
    more: str


@dataclass(frozen=True, slots=True)
class Notes:
    """What runs left behind, as plain values; None before the first.

    Attributes:
        last_sync: the report of the last run, polls included.
        last_work: that of the last run which changed or fetched something.
    """

    last_sync: object = None
    last_work: object = None


def read_notes(stock: Stock) -> Notes:
    """Read what the last runs left behind; in a thread.

    Raises:
        StorageError: environment.
    """
    return Notes(stock.library.get_meta("last_sync"), stock.library.get_meta("last_work"))


def next_night(stock: Stock) -> Span | None:
    """The time for bulk that runs now, or else the next; None when the settings say no sensible one."""
    try:
        schedule = schedule_of(stock.settings.sync, stock.region or "")
    except ConfigurationError:
        return None
    return next(nights_from(schedule, stock.clock()))


def night_body(stock: Stock, counters: Counters) -> dict[str, object]:
    """The night as /healthz tells it."""
    night = next_night(stock)
    return {
        "keepers": counters.total(Cell.KEEPERS),
        "is_open": night is not None and night.start <= stock.clock(),
        "starts_at": dump_instant(night.start) if night else None,
        "ends_at": dump_instant(night.stop) if night else None,
        "upstream_bytes": {str(reason): counters.total(cell_of(reason)) for reason in UpstreamReason},
    }


async def operator_page(stock: Stock, pages: Pages, request: web.BaseRequest, counters: Counters) -> web.Response:
    """The operator's page: what the night did, does and will do, and what is not here."""
    words = pages.words(request)
    try:
        notes = await asyncio.to_thread(read_notes, stock)
        free_bytes = await asyncio.to_thread(stock.store.free_bytes)
        backlog = await asyncio.to_thread(read_backlog, stock.paths.outbox)
    except StorageError:  # the banner says so
        notes, free_bytes, backlog = Notes(), 0, None
    work, last = _report(notes.last_work), _report(notes.last_sync)
    return pages.page(
        stock,
        request,
        "operator.html",
        night=[*_next(stock, counters, words), *_work(words, work)],
        state=[*_state(stock, words, last, free_bytes), *_reports(words, backlog)],
        sources=_sources(words, last, work),
        reasons=_reasons(counters, words),
        absent=await _absent(stock, words, request),
        back="/",
    )


def _report(note: object) -> SyncReport | None:
    """A report that a run left; None when there is none, or another version of this program wrote it."""
    try:
        return msgspec.convert(note, SyncReport)
    except msgspec.ValidationError:
        return None


def _next(stock: Stock, counters: Counters, words: Words) -> list[Figure]:
    night = next_night(stock)
    found = []
    if night is not None:
        key = "operator.runs" if night.start <= stock.clock() else "operator.next"
        span = words("operator.span", start=words.at(night.start), stop=words.at(night.stop))
        found.append(Figure(words(key), span))
    is_kept = counters.total(Cell.KEEPERS) > 0
    found.append(Figure(words("operator.keeper"), words("operator.keeper.yes" if is_kept else "operator.keeper.no")))
    return found


def _work(words: Words, work: SyncReport | None) -> list[Figure]:
    if work is None:
        return [Figure(words("operator.last"), words("operator.never"))]
    did = words(
        "operator.did",
        added=len(work.added),
        updated=len(work.updated),
        removed=len(work.removed),
        size=show_size(work.bytes_fetched),
        duration=show_duration(max(work.seconds, 1)),
    )
    return [
        Figure(words("operator.last"), _at(words, work.finished), did),
        Figure(words("operator.outcome"), _outcome(words, work)),
    ]


def _outcome(words: Words, report: SyncReport) -> str:
    if report.complete:
        return words("operator.complete")
    count = len(report.deferred) + report.more_deferred
    return words("operator.left", count=count, reason=_pick(words, report.error_zh, report.error))


def _state(stock: Stock, words: Words, last: SyncReport | None, free_bytes: int) -> list[Figure]:
    trust = stock.trust
    checked = words.at(trust.checked_at) if trust else words("operator.never")
    found = [
        Figure(words("operator.freshness"), words(f"operator.{stock.freshness().value}"), checked),
        Figure(
            words("operator.disk"),
            show_size(free_bytes),
            words("operator.reserve", size=show_size(stock.settings.store.reserve_bytes)),
        ),
    ]
    if last is not None:
        found.append(Figure(words("operator.poll"), _at(words, last.finished), _outcome(words, last)))
    return found


def _reports(words: Words, backlog: Backlog | None) -> list[Figure]:
    if backlog is None:
        return []
    since = words("operator.reports.since", at=words.at(backlog.oldest_at)) if backlog.oldest_at is not None else ""
    return [Figure(words("operator.reports"), str(backlog.waiting), since)]


def _sources(words: Words, last: SyncReport | None, work: SyncReport | None) -> list[Figure]:
    sources, banned = work.sources if work else {}, last.banned if last else {}
    return [
        Figure(
            url,
            show_size(sources.get(url, 0)),
            words("operator.banned", duration=show_duration(banned[url])) if url in banned else "",
        )
        for url in sorted({*sources, *banned})
    ]


def _reasons(counters: Counters, words: Words) -> list[Figure]:
    return [
        Figure(_pick(words, reason.zh, reason.en), show_size(counters.total(cell_of(reason))))
        for reason in UpstreamReason
    ]


async def _absent(stock: Stock, words: Words, request: web.BaseRequest) -> Absent:
    text = request.query.get("q", "").strip()[:MOST_WORDS]
    cause = next((one for one in Cause if one == request.query.get("cause")), None)
    asked = Asked(text, cause, read_number(request, "page", 1), MOST_ROWS)
    try:
        found, say = await _find_absent(stock, asked), ""
    except YuanjiaoError as error:
        found, say = Found(), words("operator.unknown", reason=_pick(words, error.zh, error.message))
    if not say:
        key = "none_found" if text or cause else "all_here" if stock.shelf.catalog_version else "no_catalog"
        say = words(f"operator.{key}")
    return Absent(
        words=text,
        cause=cause or "",
        causes=_cause_links(found, asked, words),
        rows=[Figure(one.title or one.id, _pick(words, one.text_zh, one.text), one.id) for one in found.rows],
        text=say,
        pager=make_pager(request, found.count, MOST_ROWS),
        more="".join(f"&{part}" for part in (_query(text, cause),) if part),
    )


async def _find_absent(stock: Stock, asked: Asked) -> Found:
    if stock.region is None:
        return Found()
    key = (stock.trust.digest if stock.trust else "", stock.shelf.token)
    return await stock.absences.find(key, stock.region, stock.now(), asked)


def _cause_links(found: Found, asked: Asked, words: Words) -> list[CauseLink]:
    """The ways to all and to each cause; none where there is nothing to choose."""
    if len(found.by_cause) < 2 and asked.cause is None:
        return []
    return [
        CauseLink(
            words("operator.all") if one is None else words(f"cause.{one}"),
            count,
            f"/operator?{_query(asked.words, one)}#absent",
            one is asked.cause,
        )
        for one, count in [(None, found.by_cause.total()), *found.by_cause.items()]
    ]


def _query(words: str, cause: Cause | None) -> str:
    pairs = [("q", words), ("cause", str(cause or ""))]
    return urlencode([(name, value) for name, value in pairs if value])


def _pick(words: Words, zh: str, en: str) -> str:
    return (zh or en) if words.code == "zh-CN" else en


def _at(words: Words, text: str) -> str:
    try:
        return words.at(parse_instant(text))
    except FormatError:
        return ""
