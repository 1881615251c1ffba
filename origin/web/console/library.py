"""Pages that show how things stand: overview, lessons, edges; and the form that recalls a lesson."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Any, Final

from aiohttp import web

from manifests.errors import InputError
from manifests.names import Region
from origin.accounts.permissions import Action, is_allowed
from origin.web.api.models import Edge, EdgeRow, Edges, Lesson
from origin.web.console.pages import go
from origin.web.console.shell import Fields, Shell, Visit

_LESSON_FIELDS: Final = ("text", "kind", "column", "state", "publisher", "page")
_LEVELS: Final = 5
_TAIL_SHOWN: Final = 200


class Library:
    """Handlers of the pages that read."""

    def __init__(self, shell: Shell) -> None:
        self._shell = shell

    def routes(self) -> list[web.RouteDef]:
        """The routes to add to an application."""
        page, form = self._shell.page, self._shell.form
        return [
            web.get("/console", page(self.overview)),
            web.get("/console/lessons", page(self.lessons)),
            web.get("/console/lessons/{id}", page(self.lesson)),
            web.post("/console/lessons/{id}/recall", form(self.recall)),
            web.get("/console/edges", page(self.edges)),
            web.get("/console/edges/{code}", page(self.edge)),
        ]

    async def overview(self, visit: Visit) -> web.StreamResponse:
        """How things stand, and what somebody should look after."""
        told = await visit.ask("overview")
        edges: Edges | None = None
        if told.edges.enrolled:
            edges = await visit.ask("edges.list", state="silent")
        latest = await visit.ask("lessons.list")
        silent = edges.edges if edges else ()
        waiting = await self._waiting(visit)
        running = [one for one in (await visit.ask("pilots.list")).pilots if one.state == "running"]
        values = {"told": told, "silent": silent, "latest": latest.lessons[:8], "waiting": waiting, "pilots": running}
        return visit.render("overview.html", **values)

    async def _waiting(self, visit: Visit) -> dict[str, int]:
        """How many drafts wait for whoever is looking: for their judgement, to be released, or sent back to them."""
        grant, region = visit.account.grant, visit.account.region
        found: dict[str, int] = {}
        if is_allowed(grant, Action.DRAFTS_REVIEW, region):
            counts = (await visit.ask("drafts.list")).counts
            found["review"] = counts.get("review", 0)
            if is_allowed(grant, Action.LESSONS_PUBLISH, visit.desk.publisher):
                found["approved"] = counts.get("approved", 0)
            elif is_allowed(grant, Action.LESSONS_PUBLISH, region):
                own = (await visit.ask("drafts.list", city=region)).counts
                found["approved"] = own.get("approved", 0)
        if is_allowed(grant, Action.DRAFTS_WRITE, region):
            found["returned"] = (await visit.ask("drafts.list", mine="true")).counts.get("returned", 0)
        return {state: count for state, count in found.items() if count}

    async def lessons(self, visit: Visit) -> web.StreamResponse:
        """A page of the list; with `part=list`, the list alone, for the search that answers while one types."""
        query = visit.request.query
        fields: dict[str, Any] = {name: query[name] for name in _LESSON_FIELDS if query.get(name)}
        found = await visit.ask("lessons.list", **fields)
        template = "lessons_list.html" if query.get("part") == "list" else "lessons.html"
        return visit.render(template, found=found, asked={name: fields.get(name, "") for name in _LESSON_FIELDS})

    async def lesson(self, visit: Visit) -> web.StreamResponse:
        """One lesson."""
        version = visit.request.query.get("version") or None
        return await self._lesson(visit, visit.request.match_info["id"], version)

    async def recall(self, visit: Visit, fields: Fields) -> web.StreamResponse:
        """Recall it."""
        id_ = visit.request.match_info["id"]
        try:
            await visit.ask("lessons.recall", {"reason": fields.get("reason", "")}, id=id_)
        except InputError as error:
            if error.http_status == 404:
                raise
            return await self._lesson(visit, id_, None, error, fields.get("reason", ""))
        return go(f"/console/lessons/{id_}", "recalled")

    async def edges(self, visit: Visit) -> web.StreamResponse:
        """Edges by city and county."""
        query = visit.request.query
        state, region = query.get("state", ""), query.get("region") or None
        found = await visit.ask("edges.list", state=state, region=region)
        return visit.render("edges.html", found=found, cities=_cities(found.edges), state=state, only=region or "")

    async def edge(self, visit: Visit) -> web.StreamResponse:
        """One edge."""
        one = await visit.ask("edges.get", code=visit.request.match_info["code"])
        return visit.render("edge.html", one=one, week=_week(one), day=_day(one))

    async def _lesson(
        self, visit: Visit, id_: str, version: str | None, problem: InputError | None = None, reason: str = ""
    ) -> web.StreamResponse:
        one: Lesson = await visit.ask("lessons.get", id=id_, version=version)
        status = problem.http_status if problem else 200
        # Who may not see edges is not told what was promised of them.
        may = one.coverage is not None or one.recall_coverage is not None
        proof = await visit.ask("lessons.proof", id=id_, version=version) if may else None
        pilots = (await visit.ask("pilots.list", courseware=one.id)).pilots
        is_manager = visit.actor.may(Action.RELEASES_MANAGE, Region(one.publisher))
        may_pilot = is_manager and not any(pilot.state == "running" for pilot in pilots)
        values = {"one": one, "proof": proof, "reason": reason, "tail_shown": _TAIL_SHOWN}
        values |= {"pilots": pilots, "may_pilot": may_pilot}
        return visit.render("lesson.html", status=status, problem=problem, **values)


def _cities(edges: Sequence[EdgeRow]) -> list[tuple[str, str, list[EdgeRow]]]:
    """Edges by city: its code, its name, its edges."""
    found = []
    for city, rows in groupby(sorted(edges, key=lambda one: (one.city, one.region, one.code)), lambda one: one.city):
        every = list(rows)
        found.append((city, every[0].city_name, every))
    return found


def _day(edge: Edge) -> list[tuple[float | None, int | None]]:
    """The line through the day: the mean rate of the days on which an hour was measured, and the hour's cap."""
    found: list[tuple[float | None, int | None]] = []
    for hour in range(24):
        rates = [rate for rate in edge.rates_bytes_per_s[hour::24] if rate > 0]
        cap = edge.caps_bytes_per_s[hour] if edge.caps_bytes_per_s else 0
        found.append((sum(rates) / len(rates) if rates else None, cap or None))
    return found if any(rate or cap for rate, cap in found) else []


def _week(edge: Edge) -> list[list[tuple[int, float]]]:
    """The line's week as seven rows of 24 hours, each with a level of 0 (never measured) to 5 and its rate."""
    rates = edge.rates_bytes_per_s
    if not any(rates):
        return []
    most = max(rates)
    cells = [(0 if rate <= 0 else max(1, round(rate / most * _LEVELS)), rate) for rate in rates]
    return [cells[day * 24 : day * 24 + 24] for day in range(7)]
