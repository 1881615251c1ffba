"""The pages of those who contribute: one form that fits a phone, and how their contributions stand."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from aiohttp import web

from manifests.errors import InputError
from origin.drafts.lifecycle import State
from origin.web.api.models_drafts import DraftView
from origin.web.api.models_uploads import UploadRow
from origin.web.console.pages import go
from origin.web.console.shell import Fields, Shell, Visit

CONTRIBUTE: Final = "/console/contribute"
# Sound and pictures too, but above all what a phone or a camera films.
ACCEPTED: Final = "video/*,audio/*,image/*,.pdf,.md,.txt,.srt,.vtt"
_OPEN: Final = frozenset({State.EDITING, State.RETURNED, State.REVIEW})


class ContributePages:
    """Handlers of the pages below /console/contribute."""

    def __init__(self, shell: Shell) -> None:
        self._shell = shell

    def routes(self) -> list[web.RouteDef]:
        """The routes to add to an application."""
        page, form = self._shell.page, self._shell.form
        return [
            web.get(CONTRIBUTE, page(self.contribute)),
            web.post(CONTRIBUTE, form(self.hand_in)),
            web.get(f"{CONTRIBUTE}/{{number}}", page(self.one)),
            web.post(f"{CONTRIBUTE}/{{number}}", form(self.hand_in_again)),
        ]

    async def contribute(self, visit: Visit) -> web.StreamResponse:
        """The form, and what was handed in so far."""
        return await self._form(visit, {"credit": visit.account.name})

    async def hand_in(self, visit: Visit, fields: Fields) -> web.StreamResponse:
        """Take a contribution."""
        try:
            await visit.ask("contributions.create", _body(fields))
        except InputError as error:
            return await self._form(visit, fields, error)
        return go(CONTRIBUTE, "contributed")

    async def one(self, visit: Visit) -> web.StreamResponse:
        """One contribution: how it stands, what was said; and the form again while it may be changed."""
        view = await self._own(visit)
        doc = view.document
        words = {"title": doc.title, "summary": doc.summary, "credit": doc.credit, "column": "、".join(doc.columns)}
        return await self._one(visit, view, words)

    async def hand_in_again(self, visit: Visit, fields: Fields) -> web.StreamResponse:
        """Take it once more."""
        view = await self._own(visit)
        try:
            body = {**_body(fields), "revision": fields.get("revision", "")}
            await visit.ask("contributions.again", body, number=view.number)
        except InputError as error:
            return await self._one(visit, view, fields, error)
        return go(CONTRIBUTE, "contributed")

    async def _own(self, visit: Visit) -> DraftView:
        view: DraftView = await visit.ask("contributions.get", number=visit.request.match_info["number"])
        return view

    async def _form(
        self, visit: Visit, words: Mapping[str, str], problem: InputError | None = None
    ) -> web.StreamResponse:
        found = await visit.ask("contributions.list")
        values = {"found": found, "one": None, **await self._parts(visit, words)}
        return visit.render("contribute.html", problem=problem, status=_status(problem), **values)

    async def _one(
        self, visit: Visit, view: DraftView, words: Mapping[str, str], problem: InputError | None = None
    ) -> web.StreamResponse:
        named = {one.upload for one in view.files}
        values: dict[str, Any] = {"one": view, "may_change": view.may_edit and view.state in _OPEN, "named": named}
        values |= await self._parts(visit, words)
        return visit.render("contribution.html", problem=problem, status=_status(problem), **values)

    async def _parts(self, visit: Visit, words: Mapping[str, str]) -> dict[str, Any]:
        columns = await visit.ask("columns.list")
        kept: list[UploadRow] = []
        for id_ in words.get("uploads", "").split():
            try:
                kept.append(await visit.ask("uploads.get", id=id_))
            except InputError:
                continue  # the form says what is wrong with it
        return {
            "words": words,
            "columns": [one.title for one in columns.columns if not one.theme],
            "kept": kept,
            "accepted": ACCEPTED,
        }


def _body(fields: Fields) -> dict[str, Any]:
    return {
        "title": fields.get("title", ""),
        "summary": fields.get("summary", "").replace("\r\n", "\n"),
        "columns": split_columns(fields.get("column", "")),
        "credit": fields.get("credit", ""),
        "uploads": fields.get("uploads", "").split(),
    }


def split_columns(text: str) -> list[str]:
    """Columns as people write several in one line."""
    return [part.strip() for part in re.split(r"[、,，;；\n]", text) if part.strip()]


def _status(problem: InputError | None) -> int:
    return problem.http_status if problem else 200
