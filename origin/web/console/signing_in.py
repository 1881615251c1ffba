"""Pages for those who are not signed in yet: login, second factor, invitation; and the way out."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from manifests.errors import YuanjiaoError
from origin.accounts.invitations import accept, look_at_invitation
from origin.accounts.sessions import Opened
from origin.web.console.pages import go
from origin.web.console.shell import LOGIN, Shell, inside
from origin.web.gate import SESSION

SECOND = "/console/second"


class SigningIn:
    """Handlers around the door."""

    def __init__(self, shell: Shell) -> None:
        self._shell = shell
        self._desk = shell.desk
        self._pages = shell.pages

    def routes(self) -> list[web.RouteDef]:
        """The routes to add to an application."""
        return [
            web.get(LOGIN, self.login),
            web.post(LOGIN, self.sign_in),
            web.get(SECOND, self.second),
            web.post(SECOND, self.sign_in_second),
            web.post("/console/logout", self.sign_out),
            web.get("/console/invitation", self.invitation),
            web.post("/console/invitation", self.join),
        ]

    async def login(self, request: web.Request) -> web.StreamResponse:
        """The form; whoever is signed in goes on."""
        on = inside(request.query.get("next", ""))
        session = await self._shell.gate.session(request)
        if session is not None and session.is_full:
            return go(on)
        return self._pages.render(request, "login.html", on=on, login="")

    async def sign_in(self, request: web.Request) -> web.StreamResponse:
        """Take login and password."""
        login, on = "", "/console"
        try:
            fields = await self._shell.read(request)
            login, on = fields.get("login", "")[:200], inside(fields.get("next", ""))
            visitor = self._shell.gate.visitor(request)
            old = request.cookies.get(SESSION, "")
            opened = await self._desk.signins.sign_in(login, fields.get("password", ""), visitor, old)
        except YuanjiaoError as error:
            return self._pages.render(
                request, "login.html", status=error.http_status, problem=error, on=on, login=login
            )
        return self._opened(request, opened, on if opened.is_full else f"{SECOND}?next={on}")

    async def second(self, request: web.Request) -> web.StreamResponse:
        """The form for the code."""
        session = await self._shell.gate.session(request)
        on = inside(request.query.get("next", ""))
        if session is None:
            return go(LOGIN)
        return go(on) if session.is_full else self._pages.render(request, "second.html", on=on)

    async def sign_in_second(self, request: web.Request) -> web.StreamResponse:
        """Take the code."""
        on = "/console"
        try:
            fields = await self._shell.read(request)
            on = inside(fields.get("next", ""))
            session = await self._shell.gate.session(request)
            if session is None or session.is_full:
                return go(LOGIN)
            secret, visitor = request.cookies.get(SESSION, ""), self._shell.gate.visitor(request)
            opened = await self._desk.signins.second(session, secret, fields.get("code", ""), visitor)
        except YuanjiaoError as error:
            return self._pages.render(request, "second.html", status=error.http_status, problem=error, on=on)
        return self._opened(request, opened, on)

    async def sign_out(self, request: web.Request) -> web.StreamResponse:
        """End the session."""
        try:
            await self._shell.read(request)
            await self._desk.signins.sign_out(request.cookies.get(SESSION, ""))
        except YuanjiaoError as error:
            return self._pages.error(request, error)
        response = go(LOGIN, "signed_out")
        self._shell.gate.leave(request, response)
        return response

    async def invitation(self, request: web.Request) -> web.StreamResponse:
        """What a link offers."""
        try:
            return await self._offer(request, request.query.get("code", ""), "")
        except YuanjiaoError as error:
            return self._pages.error(request, error)

    async def join(self, request: web.Request) -> web.StreamResponse:
        """Use a link up."""
        fields = {}
        try:
            fields = dict(await self._shell.read(request))
            if fields.get("password", "") != fields.get("again", ""):
                return await self._offer(request, fields.get("code", ""), fields.get("login", ""), differ=True)
            address = self._shell.gate.visitor(request).address
            desk, login, password = self._desk, fields.get("login", ""), fields.get("password", "")
            code = fields.get("code", "")
            await accept(desk.engine, desk.passwords, code, login, password, desk.clock, address)
        except YuanjiaoError as error:
            return await self._offer_again(request, error, fields)
        response = go(LOGIN, "joined")
        self._shell.gate.leave(request, response)
        return response

    async def _offer(
        self,
        request: web.Request,
        code: str,
        login: str,
        *,
        differ: bool = False,
        problem: YuanjiaoError | None = None,
    ) -> web.StreamResponse:
        offered = await look_at_invitation(self._desk.engine, code, self._desk.clock)
        status = problem.http_status if problem else 400 if differ else 200
        values: dict[str, Any] = {"offered": offered, "code": code, "login": login[:64], "differ": differ}
        return self._pages.render(request, "invitation.html", status=status, problem=problem, **values)

    async def _offer_again(
        self, request: web.Request, error: YuanjiaoError, fields: dict[str, str]
    ) -> web.StreamResponse:
        try:
            return await self._offer(request, fields.get("code", ""), fields.get("login", ""), problem=error)
        except YuanjiaoError as worse:
            return self._pages.error(request, worse if fields else error)

    def _opened(self, request: web.Request, opened: Opened, path: str) -> web.StreamResponse:
        response = go(path)
        self._shell.gate.keep(request, response, opened)
        return response
