"""Pages of one's own account: password, second factor, devices, tokens."""

from __future__ import annotations

from typing import Any

import segno
from aiohttp import web

from manifests.errors import InputError, NotFoundError, ThrottledError, YuanjiaoError
from origin.web.api.models_people import Enrolment, Me
from origin.web.api.table import OPERATIONS
from origin.web.console.pages import go
from origin.web.console.shell import OWN, Fields, Shell, Visit


class Own:
    """Handlers of the pages below /console/me."""

    def __init__(self, shell: Shell) -> None:
        self._shell = shell

    def routes(self) -> list[web.RouteDef]:
        """The routes to add to an application."""
        form = self._shell.form
        return [
            web.get(OWN, self._shell.page(self.own)),
            web.post(f"{OWN}/password", form(self.password)),
            web.post(f"{OWN}/second-factor", form(self.begin)),
            web.post(f"{OWN}/second-factor/confirm", form(self.confirm)),
            web.post(f"{OWN}/second-factor/codes", form(self.codes)),
            web.post(f"{OWN}/second-factor/off", form(self.off)),
            web.post(f"{OWN}/devices/{{number}}/end", form(self.end_device)),
            web.post(f"{OWN}/tokens", form(self.make_token)),
            web.post(f"{OWN}/tokens/{{number}}/end", form(self.end_token)),
        ]

    async def own(self, visit: Visit) -> web.StreamResponse:
        """Everything about oneself."""
        return await self._own(visit)

    async def password(self, visit: Visit, fields: Fields) -> web.StreamResponse:
        """Set a new password."""
        new = fields.get("new", "")
        if new != fields.get("again", ""):
            differ = InputError("the two passwords differ", zh="两次输入的新密码不一致")
            return await self._own(visit, differ)
        return await self._done(visit, "password", "me.password", {"present": fields.get("present", ""), "new": new})

    async def begin(self, visit: Visit, fields: Fields) -> web.StreamResponse:
        """Show the QR code."""
        try:
            told = await visit.ask("me.totp.begin", {"code": fields.get("code", "")})
        except (InputError, ThrottledError) as error:
            return await self._own(visit, error)
        return _enrolment(visit, told)

    async def confirm(self, visit: Visit, fields: Fields) -> web.StreamResponse:
        """Take the first code and show the recovery codes."""
        try:
            told = await visit.ask("me.totp.confirm", {"code": fields.get("code", "")})
        except InputError as error:
            # The same secret again: the person has it in the app by now.
            secret, uri = fields.get("secret", "")[:64], fields.get("uri", "")[:500]
            return _enrolment(visit, Enrolment(secret, uri), error)
        return visit.render("codes.html", codes=told.codes)

    async def codes(self, visit: Visit, fields: Fields) -> web.StreamResponse:
        """New recovery codes."""
        try:
            told = await visit.ask("me.totp.codes", {"code": fields.get("code", "")})
        except (InputError, ThrottledError) as error:
            return await self._own(visit, error)
        return visit.render("codes.html", codes=told.codes)

    async def off(self, visit: Visit, fields: Fields) -> web.StreamResponse:
        """Turn the second factor off."""
        return await self._done(visit, "second_off", "me.totp.off", {"code": fields.get("code", "")})

    async def end_device(self, visit: Visit, _fields: Fields) -> web.StreamResponse:
        """End a session."""
        await visit.ask("me.devices.end", number=visit.request.match_info["number"])
        return go(OWN, "device")

    async def make_token(self, visit: Visit, fields: Fields) -> web.StreamResponse:
        """Make a token and show it once."""
        body = {
            "name": fields.get("name", ""),
            "scopes": fields.get("scopes", "").split(),
            "days": fields.get("days", "90"),
        }
        try:
            told = await visit.ask("me.tokens.create", body)
        except InputError as error:
            return await self._own(visit, error)
        return visit.render("token.html", told=told)

    async def end_token(self, visit: Visit, _fields: Fields) -> web.StreamResponse:
        """Make a token worthless."""
        await visit.ask("me.tokens.end", number=visit.request.match_info["number"])
        return go(OWN, "token")

    async def _done(self, visit: Visit, word: str, operation: str, body: dict[str, Any]) -> web.StreamResponse:
        try:
            await visit.ask(operation, body)
        except NotFoundError:
            raise
        except (InputError, ThrottledError) as error:
            return await self._own(visit, error)
        return go(OWN, word)

    async def _own(self, visit: Visit, problem: YuanjiaoError | None = None) -> web.StreamResponse:
        me: Me = await visit.ask("me")
        devices = await visit.ask("me.devices")
        tokens = await visit.ask("me.tokens")
        status = problem.http_status if problem else 200
        # Rights to what has no operation yet would be scopes without a meaning.
        known = {one.action for one in OPERATIONS}
        offered = [scope for scope in me.scopes if scope in known]
        values = {"me": me, "devices": devices.devices, "tokens": tokens.tokens, "offered": offered}
        return visit.render("own.html", status=status, problem=problem, **values)


def _enrolment(visit: Visit, told: Enrolment, problem: InputError | None = None) -> web.StreamResponse:
    picture = segno.make(told.uri, error="m", micro=False).svg_data_uri(scale=5, border=3, dark="#111", light="#fff")
    status = problem.http_status if problem else 200
    return visit.render("enrol.html", status=status, problem=problem, told=told, picture=picture)
