"""The editor of a draft: its page, saving by hand and by itself, and what is shown when two people saved."""

from __future__ import annotations

from typing import Any, Final
from urllib.parse import quote

import msgspec
from aiohttp import web

from manifests.errors import InputError
from origin.drafts.document import FIELDS
from origin.drafts.markup import with_addresses
from origin.drafts.store import ConflictError
from origin.drafts.themes import themes_in
from origin.stations.regions import load_regions
from origin.web.api.draft_views import conflict_of
from origin.web.api.drafts import MOST_DRAFT_BYTES
from origin.web.api.models_drafts import DraftView
from origin.web.console import draft_form
from origin.web.console.draft_form import choices_of, marks_of, show_beijing
from origin.web.console.pages import go
from origin.web.console.shell import Fields, Shell, Visit

# Percent-encoded, a Chinese character takes nine bytes.
_MOST_BYTES: Final = 4 * MOST_DRAFT_BYTES
_MOST_FIELDS: Final = 2000


class DraftEditing:
    """Handlers of the editor."""

    def __init__(self, shell: Shell) -> None:
        self._shell = shell

    def routes(self) -> list[web.RouteDef]:
        """The routes to add to an application."""

        def form(take: Any) -> Any:
            return self._shell.form(take, _MOST_BYTES, _MOST_FIELDS)

        return [
            web.get("/console/drafts/{number}", self._shell.page(self.edit)),
            web.post("/console/drafts/{number}", form(self.save)),
            web.post("/console/drafts/{number}/merge", form(self.merge)),
        ]

    async def edit(self, visit: Visit) -> web.StreamResponse:
        """The editor; whoever may not edit is shown what there is."""
        view: DraftView = await visit.ask("drafts.get", number=visit.request.match_info["number"])
        if not view.may_edit:
            return go(f"/console/drafts/{view.number}/review")
        return await self._editor(visit, view)

    async def save(self, visit: Visit, fields: Fields) -> web.StreamResponse:
        """Save, and go on to what the button said. With `auto`, answer in a few bytes for the script that saves."""
        number = visit.request.match_info["number"]
        is_auto = fields.get("auto") == "1"
        view: DraftView = await visit.ask("drafts.get", number=number)
        wanted: dict[str, Any] = {}
        try:
            wanted = draft_form.read_wanted(fields, view, await self._titles(visit))
            saved: DraftView = await visit.ask("drafts.save", wanted, number=number)
            if fields.get("then") == "submit":
                await visit.ask("drafts.step", {"step": "submit", "revision": saved.revision}, number=number)
        except ConflictError as error:
            return _told(error.http_status, visit, error) if is_auto else _merge_page(visit, view, error, fields)
        except InputError as error:
            if is_auto or error.http_status in {403, 404}:
                if is_auto:
                    return _told(error.http_status, visit, error)
                raise
            view = await visit.ask("drafts.get", number=number)
            typed = draft_form.shown(wanted, view) if wanted else view
            return await self._editor(visit, typed, error, fields.get("seen", ""))
        if is_auto:
            seen = marks_of(saved.document, saved.files, saved.publish_at)
            return web.json_response({"revision": saved.revision, "state": saved.state, "seen": seen})
        then = fields.get("then", "")
        if then in {"submit", "preview"}:
            return go(f"/console/drafts/{number}/{'review' if then == 'submit' else 'preview'}", _done(then))
        return go(f"/console/drafts/{number}", "draft_saved")

    async def merge(self, visit: Visit, fields: Fields) -> web.StreamResponse:
        """Save what was chosen of two versions, over the one that is there."""
        number = visit.request.match_info["number"]
        view: DraftView = await visit.ask("drafts.get", number=number)
        try:
            wanted = _merged(fields, view)
            await visit.ask("drafts.save", wanted, number=number)
            for text in draft_form.left_out(fields, _mine(fields)[0], view.document, visit.words):
                await visit.ask("drafts.comment", {"text": text}, number=number)
        except ConflictError as error:
            return _merge_page(visit, view, error, fields)
        return go(f"/console/drafts/{number}", "draft_merged")

    async def _editor(
        self, visit: Visit, view: DraftView, problem: InputError | None = None, seen: str = ""
    ) -> web.StreamResponse:
        columns = (await visit.ask("columns.list")).columns
        plain = [one for one in columns if one.month is None]
        titles = {one.id: one.title for one in columns}
        chosen = [titles.get(one, one) for one in view.document.columns]
        known = [one.title for one in plain]
        shown = [*chosen, *[title for title in known if title not in chosen]][: draft_form.MOST_COLUMNS_SHOWN]
        rows = load_regions().rows
        values = {
            "one": view,
            "columns": shown,
            "chosen": chosen,
            "themes": themes_in(one.title for one in columns),
            "tree": draft_form.audience_tree(rows, view, visit.account.region),
            "homes": draft_form.homes_of(view),
            "publish_at": show_beijing(view.publish_at),
            "expires": show_beijing(view.document.expires),
            "article": editable_article(view),
            "seen": seen or marks_of(view.document, view.files, view.publish_at),
        }
        status = problem.http_status if problem else 200
        return visit.render("draft.html", status=status, problem=problem, **values)

    async def _titles(self, visit: Visit) -> list[str]:
        return [one.title for one in (await visit.ask("columns.list")).columns]


def editable_article(view: DraftView) -> str:
    """The article with addresses by which the editor's pictures can be seen."""
    return with_addresses(view.document.article, addresses(view))


def addresses(view: DraftView) -> dict[str, str]:
    """Where a draft's files are to be had, by name."""
    names = [*(one.name for one in view.files), *(one.name for one in view.base_files)]
    return {name: f"/console/drafts/{view.number}/files/{quote(name, safe='')}" for name in names}


def _done(then: str) -> str:
    return "draft_submitted" if then == "submit" else ""


def _told(status: int, visit: Visit, error: InputError) -> web.Response:
    return web.json_response({"problem": visit.words.error(error), "hint": visit.words.hint(error)}, status=status)


def _merge_page(visit: Visit, view: DraftView, error: ConflictError, fields: Fields) -> web.StreamResponse:
    both = conflict_of(error)
    chosen = choices_of(both, fields.get("seen", ""))
    mine = {"document": both.mine, "files": both.mine_files, "publish_at": both.mine_publish_at}
    told = msgspec.json.encode(mine).decode()
    return visit.render("draft_merge.html", status=409, problem=error, one=view, both=both, mine=told, chosen=chosen)


def _merged(fields: Fields, view: DraftView) -> dict[str, Any]:
    """What to save: of each field the version that was chosen, else one's own."""
    document, files, publish_at = _mine(fields)
    theirs = msgspec.to_builtins(view.document)
    for name in FIELDS:
        if fields.get(f"take-{name}") == "theirs":
            document.pop(name, None)
            document |= {name: theirs[name]} if name in theirs else {}
    if fields.get("take-files") == "theirs":
        files = [{"upload": one.upload, "name": one.name, "role": one.role} for one in view.files]
    if fields.get("take-publish_at") == "theirs":
        publish_at = view.publish_at
    return {"revision": fields.get("revision", ""), "document": document, "files": files, "publish_at": publish_at}


def _mine(fields: Fields) -> tuple[dict[str, Any], Any, Any]:
    """One's own version, as the merge page carried it along: its words, files and hour."""
    try:
        mine = msgspec.json.decode(fields.get("mine", ""))
        return dict(mine["document"]), mine["files"], mine["publish_at"]
    except (msgspec.DecodeError, UnicodeError, KeyError, TypeError, ValueError) as error:
        raise InputError("the form cannot be read", zh="表单内容无法读取") from error
