"""A draft as a terminal would show it, in a frame of its own that can run nothing and send nothing.

The article goes the way that it will go in earnest: to Markdown, and from there by the renderer that edges use.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any, Final

from aiohttp import web
from markupsafe import Markup

from manifests.articles import render_article
from origin.drafts.markup import to_markdown
from origin.publish.request import language_of
from origin.web.api.models_drafts import DraftView
from origin.web.console.draft_editing import addresses
from origin.web.console.shell import Shell, Visit

SCREENS: Final = ("tv", "pc", "phone")
_POLICY: Final = (
    "default-src 'none'; style-src 'self'; img-src 'self'; media-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'self'"
)


@dataclass(frozen=True, slots=True)
class _Part:
    """A file as the portal names it."""

    name: str
    url: str
    kind: str
    size_bytes: int
    language: str = ""


class DraftPreview:
    """Handlers of the preview and of the screen within it."""

    def __init__(self, shell: Shell) -> None:
        self._shell = shell

    def routes(self) -> list[web.RouteDef]:
        """The routes to add to an application."""
        page = self._shell.page
        return [
            web.get("/console/drafts/{number}/preview", page(self.preview)),
            web.get("/console/drafts/{number}/screen", page(self.screen)),
        ]

    async def preview(self, visit: Visit) -> web.StreamResponse:
        """The page around the screen: what kind of terminal it is."""
        view: DraftView = await visit.ask("drafts.get", number=visit.request.match_info["number"])
        on = visit.request.query.get("on", "")
        response = visit.render("draft_preview.html", one=view, on=on if on in SCREENS else SCREENS[0], screens=SCREENS)
        visit.pages.allow(visit.request, response, "frame-src 'self'")
        return response

    async def screen(self, visit: Visit) -> web.StreamResponse:
        """What the terminal shows."""
        view: DraftView = await visit.ask("drafts.get", number=visit.request.match_info["number"])
        parts = _parts(view)
        values: dict[str, Any] = {
            "one": view,
            "videos": [one for one in parts if one.kind == "video"],
            "sounds": [one for one in parts if one.kind == "audio"],
            "subtitles": [one for one in parts if one.kind == "subtitle"],
            "documents": [one for one in parts if one.kind == "document"],
            "poster": _poster(view, parts),
            "article": await asyncio.to_thread(_article, view, visit.words("preview.absent", words="{words}")),
            "duration_s": sum(one.duration_s for one in view.files),
            "size_bytes": sum(one.size_bytes for one in parts),
        }
        response = visit.render("draft_screen.html", **values)
        response.headers["Content-Security-Policy"] = _POLICY
        return response


def _parts(view: DraftView) -> list[_Part]:
    """The files that it would have: those that stay, then those that are new."""
    urls = addresses(view)
    new = {one.name for one in view.files}
    kept = [one for one in view.base_files if one.name in view.document.kept and one.name not in new]
    found = [_Part(one.name, urls[one.name], _kind(one.role), one.size_bytes, _language(one.name)) for one in kept]
    for one in view.files:
        kind = "poster" if one.role == "poster" else one.kind
        found.append(_Part(one.name, urls[one.name], kind, one.size_bytes, _language(one.name)))
    return found


def _kind(role: str) -> str:
    return "picture" if role == "picture" else role


def _language(name: str) -> str:
    return language_of(PurePath(name).name)


def _poster(view: DraftView, parts: list[_Part]) -> str:
    chosen = view.document.poster
    own = next((one.url for one in parts if one.kind == "poster"), "")
    has_video = any(one.kind == "video" and one.state == "ready" for one in view.files)
    if chosen == "file" or (own and not has_video):
        return own
    if not has_video:
        return ""
    number = chosen.removeprefix("frame-") if chosen.startswith("frame-") else "2"
    return f"/console/drafts/{view.number}/frames/{number}"


def _article(view: DraftView, absent: str) -> Markup:
    """Rendered by what edges render by, which lets no markup of the text through."""
    text = to_markdown(view.document.article)

    def missing(words: str) -> str:
        return absent.replace("{words}", words)

    return Markup(render_article(text, addresses(view), missing, view.document.title))  # noqa: S704 - see above
