"""The inbox: contributions of one's region, looked at and listened to in place, accepted, returned or rejected."""

from __future__ import annotations

from typing import Any, Final

from aiohttp import web

from manifests.errors import DeniedError, InputError
from origin.accounts.permissions import Action
from origin.drafts.contributions import SOURCE
from origin.web.api.models_drafts import DraftView
from origin.web.console.contribute import split_columns
from origin.web.console.pages import go
from origin.web.console.shell import Fields, Shell, Visit

INBOX: Final = "/console/inbox"
STATES: Final = ("review", "approved", "returned", "rejected", "released")
# What browsers play; of other kinds there is nothing to look at before they are converted.
PLAYED: Final = frozenset({"video/mp4", "video/webm", "audio/mp4", "audio/mpeg", "audio/wav", "audio/ogg"})


class InboxPages:
    """Handlers of the pages below /console/inbox."""

    def __init__(self, shell: Shell) -> None:
        self._shell = shell

    def routes(self) -> list[web.RouteDef]:
        """The routes to add to an application."""
        page, form = self._shell.page, self._shell.form
        return [
            web.get(INBOX, page(self.inbox)),
            web.get(f"{INBOX}/{{number}}", page(self.one)),
            web.post(f"{INBOX}/{{number}}/accept", form(self.accept)),
            web.post(f"{INBOX}/{{number}}/step", form(self.step)),
        ]

    async def inbox(self, visit: Visit) -> web.StreamResponse:
        """The list, those that wait first."""
        _check(visit)
        state = visit.request.query.get("state", "review")
        asked = state if state in STATES else "review"
        page = visit.request.query.get("page") or None
        found = await visit.ask("drafts.list", source=SOURCE, state=asked, page=page)
        return visit.render("inbox.html", found=found, state=asked, states=STATES)

    async def one(self, visit: Visit) -> web.StreamResponse:
        """One contribution."""
        return await self._one(visit, {})

    async def accept(self, visit: Visit, fields: Fields) -> web.StreamResponse:
        """Accept it as it is, or with edits."""
        body = {
            "revision": fields.get("revision", ""),
            "title": fields.get("title", ""),
            "summary": fields.get("summary", "").replace("\r\n", "\n"),
            "columns": split_columns(fields.get("column", "")),
            "credit": fields.get("credit", ""),
        }
        try:
            done = await visit.ask("contributions.accept", body, number=visit.request.match_info["number"])
        except InputError as error:
            return await self._one(visit, fields, error)
        return go(INBOX, "accepted" if done.approved else "accepted_edited")

    async def step(self, visit: Visit, fields: Fields) -> web.StreamResponse:
        """Return or reject it."""
        body = {name: fields.get(name, "") for name in ("step", "revision", "reason")}
        try:
            await visit.ask("drafts.step", body, number=visit.request.match_info["number"])
        except InputError as error:
            return await self._one(visit, fields, error)
        return go(INBOX, "contribution_judged")

    async def _one(self, visit: Visit, typed: Fields, problem: InputError | None = None) -> web.StreamResponse:
        _check(visit)
        if problem is not None and problem.http_status == 404:
            raise problem
        view: DraftView = await visit.ask("drafts.get", number=visit.request.match_info["number"])
        doc = view.document
        words = {"title": doc.title, "summary": doc.summary, "credit": doc.credit, "column": "、".join(doc.columns)}
        columns = await visit.ask("columns.list")
        values: dict[str, Any] = {
            "one": view,
            "words": {**words, **typed},
            "columns": [one.title for one in columns.columns if not one.theme],
            "played": PLAYED,
        }
        status = problem.http_status if problem else 200
        return visit.render("inbox_item.html", problem=problem, status=status, **values)


def _check(visit: Visit) -> None:
    """Refuse those who contribute and do not judge.

    Raises:
        DeniedError: caller's mistake.
    """
    if not visit.actor.may(Action.DRAFTS_REVIEW, visit.account.region):
        raise DeniedError("the inbox is for those who review", zh="没有审核权限")
