"""Who a request is from, and whether it may change anything: cookies, tokens, where it was sent from, header fields.

A change with a cookie is taken only when the browser says that it comes from a page of this server (`Sec-Fetch-Site`,
else `Origin`), or, for browsers that say neither, when it carries the token that only our own pages know.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from typing import Final

from aiohttp import web

from manifests.errors import DeniedError, SignInError
from origin.accounts.people import Actor
from origin.accounts.profile import find_token
from origin.accounts.sessions import Opened, Session, Visitor, find_session
from origin.web.api.operations import Desk

SESSION: Final = "yj_session"
DEVICE: Final = "yj_device"
FORM: Final = "yj_form"
FORM_FIELD: Final = "form_token"
FORM_HEADER: Final = "X-Form-Token"
_DEVICE_S: Final = 400 * 86400
_MOST_SECRET: Final = 128
NONCE: Final = web.RequestKey("nonce", str)
_GUARDED: Final = ("/console", "/api/")


class Gate:
    """Looks at requests; makes and takes cookies.

    Args:
        desk: what sessions and tokens are looked up with.
        behind_proxy: whether a proxy in front says where requests come from.
    """

    def __init__(self, desk: Desk, behind_proxy: bool) -> None:
        self._desk = desk
        self._behind_proxy = behind_proxy

    def visitor(self, request: web.Request) -> Visitor:
        """Where a request comes from, and from which browser."""
        address = request.remote or ""
        if self._behind_proxy:
            # The last entry is the proxy's own word; those before it are the client's.
            address = request.headers.get("X-Forwarded-For", "").rpartition(",")[2].strip() or address
        agent = "".join(char for char in request.headers.get("User-Agent", "") if char.isprintable())
        return Visitor(address[:64], agent[:200], _secret(request, DEVICE))

    def is_secure(self, request: web.Request) -> bool:
        """Tell whether the browser came over TLS."""
        if self._behind_proxy:
            return request.headers.get("X-Forwarded-Proto", "").strip().lower() == "https"
        return request.secure

    async def session(self, request: web.Request) -> Session | None:
        """The open session of a request, full or not."""
        secret = _secret(request, SESSION)
        if not secret:
            return None
        return await find_session(self._desk.engine, secret, self._desk.clock, self._desk.terms)

    async def actor(self, request: web.Request) -> Actor:
        """Whoever asks, by token or full session.

        Raises:
            SignInError: caller's mistake; nobody.
            DeniedError: caller's mistake; a change that was not sent from one of our pages.
        """
        kind, _, secret = request.headers.get("Authorization", "").partition(" ")
        address = self.visitor(request).address
        if kind:
            is_bearer = kind.lower() == "bearer" and 0 < len(secret) <= _MOST_SECRET
            found = await find_token(self._desk.engine, secret, address, self._desk.clock) if is_bearer else None
            if found is None:
                raise SignInError("the token opens nothing", zh="令牌无效", hint="make one in the console")
            return found
        session = await self.session(request)
        if session is None or not session.is_full:
            raise SignInError("nobody is signed in", zh="尚未登录")
        if request.method not in {"GET", "HEAD"}:
            check_sent_from_here(request, request.headers.get(FORM_HEADER, ""))
        return Actor(session.account, None, session.id, address)

    def keep(self, request: web.Request, response: web.StreamResponse, opened: Opened) -> None:
        """Give the browser the cookies of a new session."""
        self._set(request, response, SESSION, opened.secret, None)
        if opened.is_full:
            self._set(request, response, DEVICE, opened.device, _DEVICE_S)

    def leave(self, request: web.Request, response: web.StreamResponse) -> None:
        """Take the session's cookie back."""
        self._set(request, response, SESSION, "", 0)

    def form_token(self, request: web.Request) -> tuple[str, str]:
        """The token for the forms of a page, and the secret to put into a cookie when the browser has none yet."""
        secret = _secret(request, SESSION) or _secret(request, FORM)
        fresh = "" if secret else secrets.token_urlsafe(32)
        return _token_of(secret or fresh), fresh

    def keep_form(self, request: web.Request, response: web.StreamResponse, fresh: str) -> None:
        """Give the browser the secret that `form_token` made."""
        if fresh:
            self._set(request, response, FORM, fresh, None)

    def _set(
        self, request: web.Request, response: web.StreamResponse, name: str, value: str, max_age: int | None
    ) -> None:
        secure = self.is_secure(request)
        response.set_cookie(name, value, max_age=max_age, path="/", httponly=True, samesite="Lax", secure=secure)


def check_sent_from_here(request: web.Request, token: str, *, always_token: bool = False) -> None:
    """Refuse a change that another site made the browser send.

    Args:
        request: the request.
        token: what the form or the header carries.
        always_token: our own forms carry it whatever the browser says.

    Raises:
        DeniedError: caller's mistake.
    """
    site, origin = request.headers.get("Sec-Fetch-Site"), request.headers.get("Origin")
    is_told, is_ours = site is not None or origin is not None, True
    if site is not None:
        is_ours = site in {"same-origin", "none"}
    if is_ours and origin is not None:
        is_ours = origin.partition("://")[2] == request.host
    if is_ours and (always_token or not is_told):
        secret = _secret(request, SESSION) or _secret(request, FORM)
        is_ours = bool(secret) and hmac.compare_digest(_token_of(secret).encode(), token.encode("utf-8", "replace"))
    if not is_ours:
        raise DeniedError(
            "this was not sent from a page of the console",
            zh="请求不是从控制台页面发出的，或页面已过期",
            hint="open the page again and repeat it",
            hint_zh="请刷新页面后重试",
        )


async def guard(request: web.Request, response: web.StreamResponse) -> None:
    """Put the header fields on every answer below /console and /api; connected to `on_response_prepare`."""
    if not request.path.startswith(_GUARDED):
        return
    response.headers.setdefault("Content-Security-Policy", policy_of(request.get(NONCE)))
    response.headers.setdefault("X-Content-Type-Options", "nosniff")
    # Not `no-referrer`: with it browsers say `Origin: null` of our own forms.
    response.headers.setdefault("Referrer-Policy", "same-origin")
    response.headers.setdefault("Cross-Origin-Opener-Policy", "same-origin")
    response.headers.setdefault("Cross-Origin-Resource-Policy", "same-origin")
    response.headers.setdefault("Cache-Control", "no-store")


def policy_of(nonce: str | None) -> str:
    """What a page may do: its own styles and pictures, and scripts that carry the nonce, which a page has."""
    script = f"script-src 'nonce-{nonce}'; " if nonce else ""
    return (
        f"default-src 'none'; {script}style-src 'self'; img-src 'self' data:; connect-src 'self'; font-src 'self'; "
        "media-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    )


def _secret(request: web.Request, cookie: str) -> str:
    text = request.cookies.get(cookie, "")
    return text if len(text) <= _MOST_SECRET else ""


def _token_of(secret: str) -> str:
    return hashlib.sha256(b"form token of " + secret.encode("utf-8", "replace")).hexdigest()
