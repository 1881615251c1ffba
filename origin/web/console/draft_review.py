"""Looking at a draft that others wrote: what it changes, what was said, and the steps that one may take with it."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from manifests.errors import InputError, YuanjiaoError
from origin.web.api.models_drafts import DraftView
from origin.web.console.draft_form import show_beijing
from origin.web.console.pages import go
from origin.web.console.pilots import waves_of
from origin.web.console.shell import Fields, Shell, Visit


class DraftReview:
    """Handlers of the review page."""

    def __init__(self, shell: Shell) -> None:
        self._shell = shell

    def routes(self) -> list[web.RouteDef]:
        """The routes to add to an application."""
        page, form = self._shell.page, self._shell.form
        return [
            web.get("/console/drafts/{number}/review", page(self.review)),
            web.get("/console/drafts/{number}/promise", page(self.promise)),
            web.post("/console/drafts/{number}/step", form(self.step)),
            web.post("/console/drafts/{number}/notes", form(self.comment)),
        ]

    async def review(self, visit: Visit) -> web.StreamResponse:
        """What there is to be judged."""
        return await self._review(visit)

    async def promise(self, visit: Visit) -> web.StreamResponse:
        """What a release would mean: a part of the review page, which is fetched while that is read already."""
        number = visit.request.match_info["number"]
        try:
            told = await visit.ask("drafts.promise", number=number, by=visit.request.query.get("by") or None)
        except InputError as error:
            if error.http_status == 404:
                raise
            return visit.render("draft_promise.html", told=None, why=visit.words.error(error))
        return visit.render("draft_promise.html", told=told, why="")

    async def step(self, visit: Visit, fields: Fields) -> web.StreamResponse:
        """Take a step."""
        number = visit.request.match_info["number"]
        body: dict[str, Any] = {name: fields.get(name, "") for name in ("step", "revision", "reason")}
        body["pilot"] = waves_of(fields)
        try:
            view: DraftView = await visit.ask("drafts.step", body, number=number)
        except InputError as error:
            if error.http_status == 404:
                raise
            return await self._review(visit, error, fields)
        if view.may_edit and body["step"] == "withdraw":
            return go(f"/console/drafts/{number}", "draft_step")
        return go(f"/console/drafts/{number}/review", "draft_step")

    async def comment(self, visit: Visit, fields: Fields) -> web.StreamResponse:
        """Say something."""
        number = visit.request.match_info["number"]
        try:
            await visit.ask("drafts.comment", {"text": fields.get("text", "")}, number=number)
        except InputError as error:
            if error.http_status == 404:
                raise
            return await self._review(visit, error, fields)
        return go(f"/console/drafts/{number}/review", "draft_comment")

    async def _review(
        self, visit: Visit, problem: YuanjiaoError | None = None, fields: Fields | None = None
    ) -> web.StreamResponse:
        number = visit.request.match_info["number"]
        view: DraftView = await visit.ask("drafts.get", number=number)
        changes = await visit.ask("drafts.changes", number=number)
        progress = await visit.ask("drafts.progress", number=number) if view.state == "publishing" else None
        told: Any = None
        if visit.request.query.get("promise") == "1":
            told = await visit.ask("drafts.promise", number=number)
        values = {
            "one": view,
            "changes": changes,
            "progress": progress,
            "told": told,
            "typed": fields or {},
            "publish_at": show_beijing(view.publish_at),
        }
        status = problem.http_status if problem else 200
        return visit.render("draft_review.html", status=status, problem=problem, **values)
