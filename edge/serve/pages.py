"""Rendering: templates, the files they load, and what every page shows (state, footer, language)."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from aiohttp import web
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from edge.serve.problems import NoSourceError, NotHereError, unknown
from edge.serve.query import with_value
from edge.serve.stock import Stock
from edge.serve.vendor import FOLDER
from edge.serve.words import COOKIE, Words, choose_language, load_words
from edge.sync.freshness import Freshness
from manifests.articles import render_article
from manifests.digests import digest_of
from manifests.errors import YuanjiaoError

_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
# No inline script, nothing from elsewhere; documents and the browser's own viewer may stand in a frame. What hls.js
# fetches from here it hands to the video as a blob.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; media-src 'self' blob:; "
    "object-src 'self'; frame-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'self'; "
    "frame-ancestors 'self'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
    "Vary": "Cookie",
}
# Rendered articles kept: the same few are read by many in a week.
KEPT_ARTICLES = 32
_YEAR_S = 365 * 86400


@dataclass(frozen=True, slots=True)
class Banner:
    """A line over every page while something is not as it should be."""

    kind: str
    text: str


@dataclass(frozen=True, slots=True)
class StaticFile:
    """A file that pages load, kept in memory."""

    data: bytes
    media_type: str
    mark: str


class Pages:
    """Templates and static files of one worker, read once at start."""

    def __init__(self) -> None:
        here = Path(__file__).parent
        self._words = load_words()
        self._files = {path.name: _read_static(path) for path in _static_files(here / "static")}
        self._templates = Environment(
            loader=FileSystemLoader(here / "templates"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            auto_reload=False,
        )
        self._templates.globals["static"] = self.static_url
        self._templates.globals["has_static"] = self._files.__contains__
        self.rendering = asyncio.Lock()
        self.article = lru_cache(KEPT_ARTICLES)(self._article)

    def words(self, request: web.BaseRequest) -> Words:
        """The words in the language of this request."""
        return self._words[choose_language(request)]

    def static_url(self, name: str) -> str:
        """Address of a static file; it changes with the file, so the answer may be kept for ever."""
        return f"/static/{name}?v={self._files[name].mark}"

    def static(self, request: web.BaseRequest, name: str) -> web.Response:
        """Answer a static file.

        Raises:
            NotFoundError: no such file.
        """
        found = self._files.get(name)
        if found is None:
            raise unknown(f"static file {name[:80]!r}")
        is_marked = request.query.get("v") == found.mark
        headers = {
            "Content-Type": found.media_type,
            "Cache-Control": "public, max-age=31536000, immutable" if is_marked else "no-cache",
            "X-Content-Type-Options": "nosniff",
            "ETag": f'"{found.mark}"',
        }
        if request.headers.get("If-None-Match") == headers["ETag"]:
            return web.Response(status=304, headers=headers)
        return web.Response(body=found.data, headers=headers)

    def page(
        self,
        stock: Stock,
        request: web.BaseRequest,
        template: str,
        status: int = 200,
        headers: Mapping[str, str] | None = None,
        **values: object,
    ) -> web.Response:
        """Render a page."""
        words = self.words(request)
        html = self._templates.get_template(template).render(
            t=words,
            banners=_banners(stock, words),
            footer=_footer(stock, words),
            other_language=with_value(request, "lang", words("language_code")),
            **values,
        )
        response = web.Response(status=status, text=html, content_type="text/html", charset="utf-8")
        response.headers.update(HEADERS)
        response.headers["Content-Language"] = words.code
        response.headers.update(headers or {})
        if "lang" in request.query:
            response.set_cookie(COOKIE, words.code, max_age=_YEAR_S, samesite="Lax", httponly=True)
        return response

    def problem(
        self, stock: Stock, request: web.BaseRequest, error: YuanjiaoError, status: int, headers: Mapping[str, str]
    ) -> web.Response:
        """The page that says why something is not shown."""
        words = self.words(request)
        kind = _kind(error, status)
        chinese = words.code == "zh-CN"
        text = words(
            f"problem.{kind}.text",
            reason=error.zh if chinese else error.message,
            hint=error.hint_zh if chinese else error.hint,
        )
        title = words(f"problem.{kind}")
        return self.page(
            stock, request, "problem.html", status, headers, title=title, number=status, text=text, back="/"
        )

    def _article(self, text: str, urls: tuple[tuple[str, str], ...], language: str, title: str) -> Markup:
        words = self._words[language]

        def absent(alt: str) -> str:
            return words("picture_absent", alt=alt) if alt else words("picture_absent_unnamed")

        html = render_article(text, dict(urls), absent, title)
        return Markup(html)  # noqa: S704 - made by our renderer with raw HTML switched off


def _kind(error: YuanjiaoError, status: int) -> str:
    if isinstance(error, NoSourceError):
        return "no_source"
    return "absent" if status == 404 else "not_here" if isinstance(error, NotHereError) else "other"


def _static_files(folder: Path) -> list[Path]:
    """Our own files, and those parts of others' that pages load."""
    return sorted(path for place in (folder, FOLDER) for path in place.glob("*.*") if path.suffix in _TYPES)


def _read_static(path: Path) -> StaticFile:
    data = path.read_bytes()
    return StaticFile(data, _TYPES[path.suffix], digest_of(data)[:12])


def _banners(stock: Stock, words: Words) -> list[Banner]:
    found: list[Banner] = []
    state = stock.freshness()
    if stock.trust is None:
        found.append(Banner("stale", words("state.never")))
    elif state is not Freshness.FRESH:
        found.append(Banner(state.value, words(f"state.{state.value}", since=words.at(stock.trust.checked_at))))
    if stock.fault is not None:
        found.append(Banner("expired", words("state.index")))
    return found


def _footer(stock: Stock, words: Words) -> list[str]:
    lines: list[str] = []
    if stock.bundle is not None:
        lines.append(words("footer.region", name=stock.bundle.region_name, code=stock.bundle.region))
    lines.append(words("footer.catalog", version=stock.shelf.catalog_version))
    trust = stock.trust
    lines.append(words("footer.checked", at=words.at(trust.checked_at)) if trust else words("footer.never"))
    return lines
