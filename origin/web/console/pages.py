"""Making pages: templates, words, form tokens, static files, and the page that tells of an error."""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode

from aiohttp import web
from jinja2 import Environment, PackageLoader, StrictUndefined

from manifests.errors import InputError, ThrottledError, YuanjiaoError
from origin.accounts.people import Account
from origin.accounts.permissions import Action, Role, is_allowed
from origin.stations.regions import load_regions
from origin.web.api.texts import RegionNames
from origin.web.console.words import COOKIE, Words, choose_language, load_words
from origin.web.gate import NONCE, Gate, policy_of

_STATIC: Final = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
_YEAR_S: Final = 365 * 86400
# Where to go, and what right shows the way there.
_NAVIGATION: Final = (
    ("overview", "/console", Action.RELEASES_READ),
    ("lessons", "/console/lessons", Action.LESSONS_READ),
    ("drafts", "/console/drafts", Action.DRAFTS_READ),
    ("contribute", "/console/contribute", Action.DRAFTS_WRITE),
    ("inbox", "/console/inbox", Action.DRAFTS_REVIEW),
    ("uploads", "/console/uploads", Action.DRAFTS_WRITE),
    ("edges", "/console/edges", Action.EDGES_READ),
    ("boards", "/console/boards", Action.EDGES_READ),
    ("releases", "/console/releases", Action.RELEASES_READ),
    ("people", "/console/people", Action.ACCOUNTS_READ),
    ("audit", "/console/audit", Action.AUDIT_READ),
)
# Who contributes with a phone needs one way in, and an administrator writes drafts.
_NOT_FOR: Final = {
    Role.CONTRIBUTOR: frozenset({"drafts", "releases"}),
    Role.PROVINCE_ADMIN: frozenset({"contribute"}),
    Role.CITY_ADMIN: frozenset({"contribute"}),
}


@dataclass(frozen=True, slots=True)
class Static:
    """A file of ours; its address names its content, so it may be kept for ever."""

    data: bytes
    media_type: str
    mark: str


class Pages:
    """Makes pages.

    Args:
        gate: makes form tokens.
        name: of the origin, shown on every page.
    """

    def __init__(self, gate: Gate, name: str) -> None:
        self._gate = gate
        self._words = load_words()
        self._static = _load_static()
        self._templates = Environment(
            loader=PackageLoader("origin.web.console"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
        )
        regions = RegionNames(load_regions())
        marks = {file: f"/console/static/{file}?v={one.mark}" for file, one in self._static.items()}
        self._templates.globals.update(site=name, static=marks, region=regions.path, query=_query, can=_can)

    def words(self, request: web.Request) -> Words:
        """The reader's language."""
        return self._words[choose_language(request)]

    def render(
        self,
        request: web.Request,
        template: str,
        account: Account | None = None,
        *,
        status: int = 200,
        problem: YuanjiaoError | None = None,
        **values: Any,
    ) -> web.Response:
        """Make a page.

        Args:
            request: what it answers.
            template: its name.
            account: whoever is signed in, for the frame around it.
            status: of the answer.
            problem: what went wrong with a form, shown on top of the page.
            values: for the template.
        """
        nonce = request[NONCE] = secrets.token_urlsafe(16)
        token, fresh = self._gate.form_token(request)
        words = self.words(request)
        done = request.query.get("done", "")
        frame = {
            "t": words,
            "nonce": nonce,
            "form_token": token,
            "account": account,
            "navigation": _navigation(account),
            "here": request.path,
            "other_language": _in_other_language(request, words),
            "done": words.texts.get(f"done.{done}", "") if done.isascii() else "",
            "problem": None if problem is None else _told(words, problem),
        }
        text = self._templates.get_template(template).render(frame | values)
        response = web.Response(text=text, content_type="text/html", status=status)
        self._gate.keep_form(request, response, fresh)
        asked = request.query.get("lang", "")
        if asked in self._words:
            response.set_cookie(COOKIE, asked, max_age=_YEAR_S, path="/", samesite="Lax", httponly=True)
        if isinstance(problem, ThrottledError):
            response.headers["Retry-After"] = str(problem.wait_s)
        return response

    def allow(self, request: web.Request, response: web.Response, more: str) -> None:
        """Let one page do more than the others may: `more` is added to its policy."""
        response.headers["Content-Security-Policy"] = f"{policy_of(request.get(NONCE))}; {more}"

    def error(self, request: web.Request, error: YuanjiaoError, account: Account | None = None) -> web.Response:
        """A page that says what happened and what to do."""
        return self.render(request, "error.html", account, status=error.http_status, problem=error)

    async def static(self, request: web.Request) -> web.StreamResponse:
        """One of our files, by a name that is in the list."""
        found = self._static.get(request.match_info["name"])
        if found is None:
            return web.Response(status=404)
        is_named = request.query.get("v") == found.mark
        caching = f"public, max-age={_YEAR_S}, immutable" if is_named else "no-cache"
        headers = {"Cache-Control": caching}
        return web.Response(body=found.data, content_type=found.media_type, charset="utf-8", headers=headers)


def go(path: str, done: str = "") -> web.Response:
    """Send the browser to a page of ours with a GET; `done` is the word for what was done."""
    return web.Response(status=303, headers={"Location": f"{path}?done={done}" if done else path})


def _told(words: Words, error: YuanjiaoError) -> dict[str, str]:
    """An error for a page. What is not the reader's fault may name paths of this machine: its family only."""
    if isinstance(error, InputError | ThrottledError):
        return {"text": words.error(error), "hint": words.hint(error)}
    family = error.family_zh if words.is_chinese else error.family
    return {"text": family, "hint": error.default_hint_zh if words.is_chinese else error.default_hint}


def _can(account: Account, action: str) -> bool:
    """Tell whether an account's role has a right in its own region, for buttons that lead somewhere."""
    return is_allowed(account.grant, Action(action), account.region)


def _navigation(account: Account | None) -> list[tuple[str, str]]:
    if account is None:
        return []
    left_out = _NOT_FOR.get(account.grant.role, frozenset())
    return [
        (name, path)
        for name, path, action in _NAVIGATION
        if is_allowed(account.grant, action, account.region) and name not in left_out
    ]


def _in_other_language(request: web.Request, words: Words) -> str:
    # A page that answered a form has no address of its own to come back to.
    path = request.path if request.method in {"GET", "HEAD"} else "/console"
    kept = {key: value for key, value in request.query.items() if key not in {"lang", "done"}}
    return f"{path}?{urlencode(kept | {'lang': 'en' if words.is_chinese else 'zh-CN'})}"


def _query(path: str, **fields: object) -> str:
    """An address with those fields that say something."""
    kept = {key: str(value) for key, value in fields.items() if value not in (None, "", 1)}
    return f"{path}?{urlencode(kept)}" if kept else path


def _load_static() -> dict[str, Static]:
    """Our own files by name, and `vendor/NAME` for those that the build brought."""
    folder = Path(__file__).parent / "static"
    found = {}
    for path in sorted((*folder.iterdir(), *folder.glob("vendor/*"))):
        if path.suffix in _STATIC:
            data = path.read_bytes()
            mark = hashlib.sha256(data).hexdigest()[:16]
            found[path.relative_to(folder).as_posix()] = Static(data, _STATIC[path.suffix], mark)
    return found
