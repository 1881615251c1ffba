"""Pages of pilots: those that run and ran, one at length, and starting one from a lesson's version."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import groupby
from typing import Any, Final

from aiohttp import web

from manifests.errors import InputError
from manifests.names import Region
from origin.accounts.permissions import Action
from origin.stations.regions import RegionRow, load_regions
from origin.web.api.models_pilots import Pilot, PilotPlan
from origin.web.api.releases import name_of
from origin.web.api.texts import city_of
from origin.web.console.pages import go
from origin.web.console.shell import Fields, Shell, Visit

WAVES: Final = 3
_TERMS: Final = ("enough_percent", "most_failed", "deadline_hours")


class PilotPages:
    """Handlers of these pages."""

    def __init__(self, shell: Shell) -> None:
        self._shell = shell

    def routes(self) -> list[web.RouteDef]:
        """The routes to add to an application."""
        page, form = self._shell.page, self._shell.form
        return [
            web.get("/console/pilots", page(self.pilots)),
            web.get("/console/pilots/{number}", page(self.pilot)),
            web.post("/console/pilots/{number}/go-on", form(self.go_on)),
            web.post("/console/pilots/{number}/stop", form(self.stop)),
            web.get("/console/lessons/{id}/pilot", page(self.new)),
            web.post("/console/lessons/{id}/pilot", form(self.start)),
        ]

    async def pilots(self, visit: Visit) -> web.StreamResponse:
        """Pilots, newest first."""
        before = visit.request.query.get("before") or None
        return visit.render("pilots.html", found=await visit.ask("pilots.list", before=before), before=before)

    async def pilot(self, visit: Visit) -> web.StreamResponse:
        """One pilot: its waves with their edges."""
        return await self._pilot(visit)

    async def go_on(self, visit: Visit, fields: Fields) -> web.StreamResponse:
        """Send it on."""
        return await self._change(visit, "pilots.go_on", {"wave": fields.get("wave", "")}, "pilot_on")

    async def stop(self, visit: Visit, fields: Fields) -> web.StreamResponse:
        """Stop it."""
        return await self._change(visit, "pilots.stop", {"reason": fields.get("reason", "")}, "pilot_stopped")

    async def new(self, visit: Visit) -> web.StreamResponse:
        """The form; with waves in the address, what they would come to, and the button."""
        return await self._new(visit, dict(visit.request.query))

    async def start(self, visit: Visit, fields: Fields) -> web.StreamResponse:
        """Start it."""
        id_ = visit.request.match_info["id"]
        body: dict[str, Any] = {"version": fields.get("version", ""), "waves": waves_of(fields)}
        body |= {name: fields[name] for name in _TERMS if fields.get(name)}
        try:
            done = await visit.ask("pilots.start", body, id=id_)
        except InputError as error:
            if error.http_status in {403, 404}:
                raise
            return await self._new(visit, dict(fields), error)
        found = await visit.ask("pilots.list", courseware=done.id)
        return go(f"/console/pilots/{found.pilots[0].number}", "pilot_started")

    async def _pilot(self, visit: Visit, problem: InputError | None = None) -> web.StreamResponse:
        one: Pilot = await visit.ask("pilots.get", number=visit.request.match_info["number"])
        edges = [[edge for edge in one.edges if edge.wave == wave + 1] for wave in range(len(one.pilot.waves))]
        status = problem.http_status if problem else 200
        return visit.render("pilot.html", status=status, problem=problem, one=one, edges=edges)

    async def _change(self, visit: Visit, name: str, body: Mapping[str, Any], done: str) -> web.StreamResponse:
        number = visit.request.match_info["number"]
        try:
            await visit.ask(name, body, number=number)
        except InputError as error:
            if error.http_status in {403, 404}:
                raise
            return await self._pilot(visit, error)
        return go(f"/console/pilots/{number}", done)

    async def _new(
        self, visit: Visit, fields: Mapping[str, str], problem: InputError | None = None
    ) -> web.StreamResponse:
        id_ = visit.request.match_info["id"]
        lesson = await visit.ask("lessons.get", id=id_)
        version = fields.get("version") or str(lesson.versions[0].version)
        plan: PilotPlan | None = None
        if waves := waves_of(fields):
            try:
                text = ";".join(" ".join(wave) for wave in waves)
                plan = await visit.ask("pilots.plan", id=id_, version=version, waves=text)
            except InputError as error:
                problem = problem or error
        values = {
            "lesson": lesson,
            "version": version,
            "waves": [fields.get(f"wave{n + 1}", "") for n in range(WAVES)],
            "terms": {name: fields.get(name) or getattr(visit.desk.pilot_terms, name) for name in _TERMS},
            "plan": plan,
            "may": visit.actor.may(Action.RELEASES_MANAGE, Region(lesson.publisher)),
            "keys_are_away": not await visit.desk.releases.can_sign(name_of(visit.desk, Region(lesson.publisher))),
            "cities": _cities(visit, await self._counties(visit)),
        }
        return visit.render("pilot_new.html", status=problem.http_status if problem else 200, problem=problem, **values)

    async def _counties(self, visit: Visit) -> frozenset[str]:
        """Counties with an enrolled edge: elsewhere a pilot proves nothing."""
        if not visit.actor.may(Action.EDGES_READ, visit.account.region):
            return frozenset()
        return frozenset(row.region for row in (await visit.ask("edges.list")).edges)


def waves_of(fields: Mapping[str, str]) -> list[list[str]]:
    """Regions of each wave that has some, as they were typed: by blanks, commas or Chinese ones."""
    texts = (fields.get(f"wave{n + 1}", "") for n in range(WAVES))
    found = [text.replace("、", " ").replace("，", " ").replace(",", " ").split() for text in texts]
    return [wave for wave in found if wave]


def _cities(visit: Visit, counties: frozenset[str]) -> list[tuple[RegionRow, list[tuple[RegionRow, bool]]]]:
    """The region tree: cities with their counties, each with whether an edge is enrolled there."""
    regions = load_regions()
    rows = regions.within(visit.desk.publisher, "county")
    by_city = {city: list(found) for city, found in groupby(rows, key=lambda row: city_of(Region(row.code)))}
    cities = regions.within(visit.desk.publisher, "city")
    return [(city, [(row, row.code in counties) for row in by_city.get(city.code, [])]) for city in cities]
