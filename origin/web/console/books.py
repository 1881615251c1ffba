"""What pages show, as tables for spreadsheets: the same values in the same words. Pure but for the words."""

from __future__ import annotations

from collections.abc import Sequence

from origin.web.api.models import Edge, EdgeRow
from origin.web.api.models_boards import LessonProof, Tonight, Watched, Watching
from origin.web.console.sheets import Book, Cell, Sheet
from origin.web.console.words import Words


def tonight_book(t: Words, told: Tonight) -> Book:
    """Tonight's spread by city and edge, and its curve."""
    cities = Sheet(
        t("board.cities"),
        [t(f"board.{name}") for name in ("city", "edges", "done", "silent", "faults", "pairs", "proved", "share")],
        [
            (
                one.name,
                one.edges,
                one.done,
                one.silent,
                one.faults,
                one.pairs,
                one.proved,
                _share(one.proved, one.pairs),
            )
            for one in told.cities
        ],
    )
    edges = Sheet(
        t("board.edges"),
        [
            *(t("board.city"), t("edge.name"), t("edge.code"), t("board.outcome"), t("board.pairs"), t("board.proved")),
            *(t("board.last"), t("edge.waiting_bytes"), t("edge.heard"), t("lesson.why")),
        ],
        [
            (
                *(one.edge.city_name, one.edge.name, one.edge.code, t(f"board.outcome.{one.outcome}")),
                *(one.pairs, one.proved, t.at(one.last), one.edge.waiting_bytes, t.at(one.edge.heard), one.why),
            )
            for one in told.edges
        ],
    )
    curve = Sheet(
        t("board.curve"), [t("board.at"), t("board.proved")], [(t.at(one.at), one.proved) for one in told.curve]
    )
    title = f"{t('board.tonight')} {told.region_name} {t.at(told.now).replace(':', '')}"
    return Book(title, [cities, edges, curve])


def watching_book(t: Words, told: Watching) -> Book:
    """What was watched."""
    sheets = [
        _watched(t, t("watching.lessons"), told.lessons, t("lesson.id"), t("lesson.name")),
        _watched(t, t("watching.columns"), told.columns, t("lesson.id"), t("lessons.column")),
        _watched(t, t("watching.areas"), told.areas, t("watching.code"), t("edge.region")),
        _watched(t, t("watching.days"), told.days, t("watching.day"), ""),
        Sheet(
            t("watching.hours"),
            [t("watching.weekday"), t("watching.hour"), t("watching.plays"), t("watching.terminals")],
            [(t(f"day.{one.hour // 24}"), f"{one.hour % 24:02}:00", one.plays, one.terminals) for one in told.hours],
        ),
    ]
    return Book(f"{t('watching.title')} {told.region_name} {told.first} {told.last}", sheets)


def edges_book(t: Words, edges: Sequence[EdgeRow], now: str) -> Book:
    """All edges with their newest report."""
    heads = (
        *("edge.city", "edge.name", "edge.code", "edge.state", "edge.heard", "edge.catalog", "edge.last_run"),
        *("run.bytes", "edge.waiting_bytes", "edge.room_bytes", "edge.faults"),
    )
    rows = [
        (
            *(one.city_name, one.name, one.code, t(f"edge_state.{one.state}"), t.at(one.heard), one.catalog_version),
            *(_outcome(t, one), one.run.bytes_fetched if one.run else None, one.waiting_bytes, one.room_bytes),
            "；".join(one.faults),
        )
        for one in edges
    ]
    return Book(f"{t('edges.title')} {t.day(now)}", [Sheet(t("edges.title"), [t(head) for head in heads], rows)])


def edge_book(t: Words, one: Edge) -> Book:
    """One edge: its runs, its line, what waits."""
    runs = Sheet(
        t("edge.runs"),
        [t(f"run.{name}") for name in ("started", "finished", "outcome", "bytes", "catalog", "error")],
        [
            (
                *(t.at(run.started), t.at(run.finished), _run(t, complete=run.complete, error=run.error)),
                *(run.bytes_fetched, run.catalog_version, run.error),
            )
            for run in one.runs
        ],
    )
    rates = one.rates_bytes_per_s
    line = Sheet(
        t("edge.week"),
        [t("watching.hour"), *(t(f"day.{day}") for day in range(7))],
        [
            (f"{hour:02}:00", *(rates[day * 24 + hour] or None for day in range(7)))
            for hour in range(24 if rates else 0)
        ],
    )
    waits = one.runs[0].deferred.items() if one.runs else ()
    deferred = Sheet(t("edge.deferred"), [t("lesson.id"), t("lesson.reason")], list(waits))
    return Book(f"{one.edge.name} {one.edge.code}", [runs, line, deferred])


def proof_book(t: Words, proof: LessonProof) -> Book:
    """Promise against fact, edge by edge."""
    edges = Sheet(
        t("proof.title"),
        [
            *(t("edge.region"), t("edge.name"), t("edge.code"), t("proof.promised"), t("proof.proved")),
            *(t("proof.verdict"), t("lesson.reason")),
        ],
        [
            (
                *(one.region, one.name, one.edge, t.at(one.promised), t.at(one.proved)),
                *(t(f"verdict.{one.verdict}"), one.reason_zh if t.is_chinese else one.reason),
            )
            for one in proof.edges
        ],
    )
    curve = Sheet(
        t("proof.curve"),
        [t("board.at"), t("proof.promised"), t("proof.proved")],
        [(t.at(one.at), one.promised, one.proved) for one in proof.curve],
    )
    sheets = [edges, curve]
    if proof.recall is not None:
        rows: list[tuple[Cell, ...]] = [(one.name, one.edge, t.at(one.at)) for one in proof.recall.slowest]
        rows += [(one.name, one.edge, one.why or "—") for one in proof.recall.tail]
        sheets.append(Sheet(t("proof.recall"), [t("edge.name"), t("edge.code"), t("proof.proved")], rows))
    return Book(f"{proof.title} {t('proof.title')}", sheets)


def _watched(t: Words, name: str, rows: Sequence[Watched], key: str, what: str) -> Sheet:
    figures = [t("watching.plays"), t("watching.terminal_hours"), t("watching.bytes")]
    if not what:
        return Sheet(name, [key, *figures], [(one.key, one.plays, one.terminal_hours, one.bytes) for one in rows])
    table = [(one.key, one.name, one.plays, one.terminal_hours, one.bytes) for one in rows]
    return Sheet(name, [key, what, *figures], table)


def _outcome(t: Words, one: EdgeRow) -> str:
    return "" if one.run is None else _run(t, complete=one.run.complete, error=one.run.error)


def _run(t: Words, *, complete: bool, error: str) -> str:
    return t("edge.complete") if complete else t("edge.failed") if error else t("board.outcome.going")


def _share(proved: int, pairs: int) -> float | None:
    return round(proved / pairs, 4) if pairs else None
