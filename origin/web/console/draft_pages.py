"""The list of drafts, and the form that begins one."""

from __future__ import annotations

from typing import Any, Final

from aiohttp import web

from manifests.errors import InputError
from origin.drafts.lifecycle import State
from origin.web.console.pages import go
from origin.web.console.shell import Fields, Shell, Visit

_FIELDS: Final = ("state", "text", "source", "mine", "city", "page")


class DraftPages:
    """Handlers of the list."""

    def __init__(self, shell: Shell) -> None:
        self._shell = shell

    def routes(self) -> list[web.RouteDef]:
        """The routes to add to an application."""
        return [
            web.get("/console/drafts", self._shell.page(self.drafts)),
            web.post("/console/drafts", self._shell.form(self.create)),
        ]

    async def drafts(self, visit: Visit) -> web.StreamResponse:
        """A page of the list; with `part=list`, the list alone, for the search that answers while one types."""
        return await self._list(visit)

    async def create(self, visit: Visit, fields: Fields) -> web.StreamResponse:
        """Begin a draft, and open it."""
        body = {"title": fields.get("title", ""), "courseware": fields.get("courseware") or None}
        try:
            made = await visit.ask("drafts.create", body)
        except InputError as error:
            return await self._list(visit, error)
        return go(f"/console/drafts/{made.number}")

    async def _list(self, visit: Visit, problem: InputError | None = None) -> web.StreamResponse:
        query = visit.request.query if problem is None else {}
        asked: dict[str, Any] = {name: query.get(name, "") for name in _FIELDS}
        found = await visit.ask("drafts.list", **{name: value for name, value in asked.items() if value})
        template = "drafts_list.html" if query.get("part") == "list" else "drafts.html"
        status = problem.http_status if problem else 200
        values = {"found": found, "asked": asked, "states": [str(state) for state in State]}
        return visit.render(template, status=status, problem=problem, **values)
