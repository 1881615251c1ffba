"""The API over HTTP: from a request to an operation and back; every refusal has the same form."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

import msgspec
import structlog
from aiohttp import web
from msgspec import Struct

from manifests.errors import InputError, SignInError, ThrottledError, YuanjiaoError
from origin.drafts.store import ConflictError
from origin.web.api.document import make_document
from origin.web.api.draft_views import conflict_of
from origin.web.api.models_drafts import Problem
from origin.web.api.operations import API, Desk, Operation, perform, read_where, refused
from origin.web.api.table import OPERATIONS
from origin.web.bodies import TooLongError, read_body, refuse_nul
from origin.web.gate import Gate

VERSION: Final = "1"

log = structlog.get_logger(__name__)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Api:
    """Handlers of `/api/v1/…`."""

    def __init__(self, desk: Desk, gate: Gate) -> None:
        self._desk = desk
        self._gate = gate
        self._document = msgspec.json.encode(make_document(OPERATIONS, VERSION))

    def routes(self) -> list[web.RouteDef]:
        """The routes to add to an application."""
        made = [web.route(one.method, API + one.path, self._handler(one)) for one in OPERATIONS if not one.by_hand]
        return [web.get(f"{API}/openapi.json", self.document), *made]

    async def document(self, _request: web.Request) -> web.StreamResponse:
        """What there is, for programs that read such documents; holds nothing secret, so it is for everybody."""
        return web.Response(body=self._document, content_type="application/json")

    def _handler(self, operation: Operation) -> Handler:
        async def handle(request: web.Request) -> web.StreamResponse:
            try:
                return await self._run(operation, request)
            except YuanjiaoError as error:
                return problem(request, error)

        return handle

    async def _run(self, operation: Operation, request: web.Request) -> web.StreamResponse:
        actor = await self._gate.actor(request)
        fields = {**dict(request.query), **request.match_info}
        refuse_nul(fields.values())
        where = read_where(operation, fields)
        body = await self._body(operation, request)
        answer = await perform(operation, self._desk, actor, where, body)
        if answer is None:
            return web.Response(status=204)
        return web.Response(body=msgspec.json.encode(answer), content_type="application/json")

    async def _body(self, operation: Operation, request: web.Request) -> Struct | None:
        if operation.body is None:
            return None
        # A form cannot be made to send this type across sites without the browser asking first.
        if request.content_type != "application/json":
            raise InputError("this takes application/json", zh="请求内容须为 application/json")
        data = await read_body(request, operation.most_bytes)
        # As JSON spells it; a backslash before it would be a harmless text, which nobody needs here either.
        if b"\\u0000" in data:
            refuse_nul(("\0",))
        try:
            return msgspec.json.decode(data, type=operation.body)
        except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
            raise refused(error) from error


def problem(request: web.Request, error: YuanjiaoError) -> web.Response:
    """A refusal as JSON. What a person did wrong is said; what this machine suffers from, by its family only."""
    is_theirs = isinstance(error, InputError | ThrottledError)
    if not is_theirs:
        log.warning("api_failed", path=request.path, family=error.family, reason=error.message)
    told = Problem(
        error=error.message if is_theirs else error.family,
        error_zh=error.zh if is_theirs else error.family_zh,
        hint=error.hint if is_theirs else error.default_hint,
        hint_zh=error.hint_zh if is_theirs else error.default_hint_zh,
        wait_s=error.wait_s if isinstance(error, ThrottledError) else 0,
        conflict=conflict_of(error) if isinstance(error, ConflictError) else None,
    )
    headers = {}
    if isinstance(error, SignInError):
        headers["WWW-Authenticate"] = "Bearer"
    if isinstance(error, ThrottledError):
        headers["Retry-After"] = str(error.wait_s)
    body = msgspec.json.encode(told)
    response = web.Response(status=error.http_status, body=body, content_type="application/json", headers=headers)
    if isinstance(error, TooLongError):
        response.force_close()
    return response
