"""What all pages of the console share: who is looking, where else they are sent, how forms and errors go.

A page asks `Visit.ask` for an operation of the API and shows the value that comes back. There is no other way from a
page to the data, so a page cannot show what the API would not give.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote

import structlog
from aiohttp import web

from manifests.errors import NotFoundError, SignInError, YuanjiaoError
from origin.accounts.people import Account, Actor
from origin.accounts.permissions import needs_second_factor
from origin.web.api.operations import MAX_BODY_BYTES, Desk, convert, perform
from origin.web.api.table import BY_NAME
from origin.web.bodies import MOST_FIELDS, read_form, refuse_nul
from origin.web.console.pages import Pages, go
from origin.web.console.words import Words
from origin.web.gate import FORM_FIELD, Gate, check_sent_from_here

LOGIN: Final = "/console/login"
OWN: Final = "/console/me"
# Ours, and nothing that a browser would read as another host (`//x`, `/\x`).
_INSIDE = re.compile(r"/console(?:/[A-Za-z0-9._~%-]+)*(?:\?[A-Za-z0-9._~%&=+-]*)?")

log = structlog.get_logger(__name__)

Fields = Mapping[str, str]
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True)
class Visit:
    """One request of somebody who is signed in."""

    request: web.Request
    actor: Actor
    desk: Desk
    pages: Pages
    words: Words

    @property
    def account(self) -> Account:
        """Whoever is looking."""
        return self.actor.account

    async def ask(self, name: str, body: Mapping[str, Any] | None = None, **where: Any) -> Any:
        """Run an operation of the API for whoever is looking.

        Raises:
            YuanjiaoError: as the operation does.
        """
        operation = BY_NAME[name]
        # As from the address line: texts become numbers where numbers are due.
        fields = convert(
            {key: value for key, value in where.items() if value is not None}, operation.where, strict=False
        )
        posted = None if operation.body is None else convert(dict(body or {}), operation.body, strict=False)
        return await perform(operation, self.desk, self.actor, fields, posted)

    def render(self, template: str, **values: Any) -> web.Response:
        """Make a page with the frame around it."""
        return self.pages.render(self.request, template, self.account, **values)


PageMaker = Callable[[Visit], Awaitable[web.StreamResponse]]
FormTaker = Callable[[Visit, Fields], Awaitable[web.StreamResponse]]


class Shell:
    """Turns makers of pages and takers of forms into handlers."""

    def __init__(self, desk: Desk, gate: Gate, pages: Pages) -> None:
        self.desk = desk
        self.gate = gate
        self.pages = pages

    def page(self, make: PageMaker) -> Handler:
        """A page for those who are signed in; others are sent to sign in and come back."""

        async def handle(request: web.Request) -> web.StreamResponse:
            return await self._for_visit(request, make)

        return handle

    def form(self, take: FormTaker, most: int = MAX_BODY_BYTES, most_fields: int = MOST_FIELDS) -> Handler:
        """A form of those who are signed in, sent from one of our own pages."""

        async def handle(request: web.Request) -> web.StreamResponse:
            async def checked(visit: Visit) -> web.StreamResponse:
                return await take(visit, await self.read(request, most, most_fields))

            return await self._for_visit(request, checked)

        return handle

    async def read(self, request: web.Request, most: int = MAX_BODY_BYTES, most_fields: int = MOST_FIELDS) -> Fields:
        """The fields of a form that was sent from one of our own pages.

        Raises:
            DeniedError: caller's mistake; it was not.
            InputError: caller's mistake; it cannot be read.
        """
        fields = await read_form(request, most, most_fields)
        check_sent_from_here(request, fields.get(FORM_FIELD, ""), always_token=True)
        return fields

    async def _for_visit(self, request: web.Request, make: PageMaker) -> web.StreamResponse:
        account = None
        try:
            session = await self.gate.session(request)
            if session is None or not session.is_full:
                back = request.path_qs if request.method == "GET" and request.path != "/console" else ""
                return go(f"{LOGIN}?next={quote(back)}" if back else LOGIN)
            account = session.account
            lacks = needs_second_factor(account.grant.role) and not account.has_second_factor
            if lacks and not request.path.startswith(OWN):
                return go(OWN)
            refuse_nul((*request.query.values(), *request.match_info.values()))
            actor = Actor(account, None, session.id, self.gate.visitor(request).address)
            return await make(Visit(request, actor, self.desk, self.pages, self.pages.words(request)))
        except SignInError:
            return go(LOGIN)
        except YuanjiaoError as error:
            log.info("page_refused", path=request.path, family=error.family, reason=error.message)
            return self.pages.error(request, error, account)

    async def unknown(self, request: web.Request) -> web.StreamResponse:
        """There is no such page."""
        error = NotFoundError(
            "there is no such page", zh="没有这个页面", hint="go to the overview", hint_zh="请返回总览"
        )
        return self.pages.error(request, error)


def inside(path: str) -> str:
    """A path of the console to go on to; the overview for everything else."""
    return path if len(path) <= 500 and _INSIDE.fullmatch(path) else "/console"
