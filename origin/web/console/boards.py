"""Pages that people look at rather than read: tonight on the tile map, what was watched, the wall; and their tables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from aiohttp import web

from manifests.errors import NotFoundError
from origin.web.api.models_boards import CityTonight, Tonight, Watching
from origin.web.console import books
from origin.web.console.sheets import Book, download
from origin.web.console.shell import Shell, Visit

_LEVELS: Final = 5
_WALL_TAIL: Final = 40
_WATCHING_FIELDS: Final = ("region", "first", "last", "column")
_KIND: Final = "{kind:(?:xlsx|csv)}"


class Boards:
    """Handlers of the boards."""

    def __init__(self, shell: Shell) -> None:
        self._shell = shell

    def routes(self) -> list[web.RouteDef]:
        """The routes to add to an application."""
        page = self._shell.page
        return [
            web.get("/console/boards", page(self.tonight)),
            web.get(f"/console/boards/tonight.{_KIND}", page(self.tonight_file)),
            web.get("/console/boards/watching", page(self.watching)),
            web.get(f"/console/boards/watching.{_KIND}", page(self.watching_file)),
            web.get(f"/console/boards/edges.{_KIND}", page(self.edges_file)),
            web.get(f"/console/boards/edge/{{code}}.{_KIND}", page(self.edge_file)),
            web.get(f"/console/boards/proof/{{id}}.{_KIND}", page(self.proof_file)),
            web.get("/console/wall", page(self.wall)),
        ]

    async def tonight(self, visit: Visit) -> web.StreamResponse:
        """How far tonight's lessons have come: the province's cities, or one city's counties."""
        told: Tonight = await visit.ask("boards.tonight", region=visit.request.query.get("region") or None)
        tiles = _city_tiles(told) if len(told.cities) > 1 else _edge_tiles(told)
        return visit.render(
            "board_tonight.html", told=told, tiles=tiles, region_asked=visit.request.query.get("region")
        )

    async def tonight_file(self, visit: Visit) -> web.StreamResponse:
        """The same as a table."""
        told = await visit.ask("boards.tonight", region=visit.request.query.get("region") or None)
        return await _send(visit, books.tonight_book(visit.words, told))

    async def watching(self, visit: Visit) -> web.StreamResponse:
        """What was watched."""
        asked = _asked(visit)
        told: Watching = await visit.ask("boards.watching", **asked)
        columns = (await visit.ask("lessons.list")).columns
        fields = {name: asked.get(name, "") for name in _WATCHING_FIELDS}
        return visit.render("board_watching.html", told=told, asked=fields, columns=columns, week=_week(told))

    async def watching_file(self, visit: Visit) -> web.StreamResponse:
        """The same as a table."""
        return await _send(visit, books.watching_book(visit.words, await visit.ask("boards.watching", **_asked(visit))))

    async def edges_file(self, visit: Visit) -> web.StreamResponse:
        """All edges as a table."""
        found = await visit.ask("edges.list", region=visit.request.query.get("region") or None)
        overview = await visit.ask("overview")
        return await _send(visit, books.edges_book(visit.words, found.edges, overview.now))

    async def edge_file(self, visit: Visit) -> web.StreamResponse:
        """One edge as tables."""
        one = await visit.ask("edges.get", code=visit.request.match_info["code"])
        return await _send(visit, books.edge_book(visit.words, one))

    async def proof_file(self, visit: Visit) -> web.StreamResponse:
        """Promise against fact of one lesson as tables."""
        version = visit.request.query.get("version") or None
        proof = await visit.ask("lessons.proof", id=visit.request.match_info["id"], version=version)
        return await _send(visit, books.proof_book(visit.words, proof))

    async def wall(self, visit: Visit) -> web.StreamResponse:
        """All of it on one large screen that nobody touches."""
        told: Tonight = await visit.ask("boards.tonight")
        overview = await visit.ask("overview")
        tail = [one for one in told.edges if one.outcome != "done"]
        tiles = _city_tiles(told) if len(told.cities) > 1 else _edge_tiles(told)
        values = {"told": told, "overview": overview, "tiles": tiles, "tail": tail[:_WALL_TAIL], "late": len(tail)}
        return visit.render("wall.html", **values)


def _asked(visit: Visit) -> dict[str, Any]:
    query = visit.request.query
    return {name: query[name] for name in _WATCHING_FIELDS if query.get(name)}


async def _send(visit: Visit, book: Book) -> web.StreamResponse:
    kind = visit.request.match_info["kind"]
    if kind not in {"xlsx", "csv"}:
        raise NotFoundError("there is no such table", zh="没有这种格式的表格")
    return await download(book, "xlsx" if kind == "xlsx" else "csv")


def _city_tiles(told: Tonight) -> list[dict[str, Any]]:
    """The cities as tiles: where each stands, what it says, how full it is."""
    return [
        {
            "name": one.name,
            "path": f"/console/boards?region={one.code}",
            "column": one.column,
            "row": one.row,
            "level": _level(one.proved, one.pairs, one.edges),
            "share": _percent(one.proved, one.pairs),
            "note": (one.done, one.edges),
            "mark": _city_mark(one),
        }
        for one in told.cities
        if one.column
    ]


def _city_mark(one: CityTonight) -> str:
    return "silent" if one.silent else "faults" if one.faults else ""


def _edge_tiles(told: Tonight) -> list[dict[str, Any]]:
    """A city's edges as tiles, row by row."""
    rows = sorted(told.edges, key=lambda one: one.edge.code)
    width = max(3, min(6, -(-len(rows) // 2)))
    return [
        {
            "name": one.edge.name,
            "path": f"/console/edges/{one.edge.code}",
            "column": number % width + 1,
            "row": number // width + 1,
            "level": _level(one.proved, one.pairs, 1),
            "share": _percent(one.proved, one.pairs),
            "note": (one.proved, one.pairs),
            "mark": "silent" if one.outcome in {"silent", "never"} else "faults" if one.edge.faults else "",
        }
        for number, one in enumerate(rows)
    ]


def _level(proved: int, pairs: int, edges: int) -> str:
    """How full: 0 to 5; nothing to do tonight, or nobody there to do it, are their own."""
    if not edges:
        return "empty"
    if not pairs:
        return "rest"
    return str(proved * _LEVELS // pairs)


def _percent(proved: int, pairs: int) -> int | None:
    """Whole percent, rounded down: 100 only when all is there."""
    return proved * 100 // pairs if pairs else None


def _week(told: Watching) -> list[Sequence[tuple[int, int, int]]]:
    """Seven days of 24 hours, each with a level of 0 to 5, times begun and terminals."""
    if not told.hours:
        return []
    by_hour = {one.hour: one for one in told.hours}
    most = max(one.terminals for one in told.hours) or 1
    cells = []
    for hour in range(168):
        one = by_hour.get(hour)
        level = max(1, round(one.terminals / most * _LEVELS)) if one and one.terminals else 0
        cells.append((level, one.plays if one else 0, one.terminals if one else 0))
    return [cells[day * 24 : day * 24 + 24] for day in range(7)]
