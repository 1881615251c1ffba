"""From request to answer: one small table, and a short way for files that are open already.

The hot path touches no middleware and no router: the request's own path is the key of the entry cache.
"""

from __future__ import annotations

import asyncio

import structlog
from aiohttp import web
from aiohttp.hdrs import HOST

from edge.metrics import Cell, Counters, Result
from edge.serve import api, content, health, night, portal
from edge.serve.accesslog import Asked
from edge.serve.answers import answer_limited, answer_problem
from edge.serve.begun import PieceBits, open_half
from edge.serve.entries import Entry
from edge.serve.express import Express
from edge.serve.fills import Fills
from edge.serve.hosts import is_host
from edge.serve.pages import Pages
from edge.serve.problems import LimitedError, MethodError, NotHereError, not_here, unknown
from edge.serve.protocol import SERVER
from edge.serve.response import BlobResponse, Lane
from edge.serve.sending import Sending
from edge.serve.shapes import Shape, Span
from edge.serve.stock import Stock
from edge.store.begun import find_begun
from manifests.digests import Digest, is_digest
from manifests.errors import InputError, NotFoundError, YuanjiaoError

METHODS = frozenset({"GET", "HEAD"})
ALLOW = "GET, HEAD"
MOST_SEARCHES = 3
# What a page takes from its client's allowance beside a file: about that much more processor.
PAGE_COST = 4.0
HOLD_S = 1.0
_FILES = ("/media/", "/blobs/", "/targets/", "/metadata/", "/pieces/", "/static/")

_log = structlog.get_logger(__name__)


class Site:
    """All that one worker answers."""

    def __init__(self, stock: Stock, lane: Lane, pages: Pages, fills: Fills | None = None) -> None:
        self.stock = stock
        self.lane = lane
        self.pages = pages
        self.counters: Counters = lane.counters
        self.fills = fills
        self._bits = PieceBits(stock.store)

    @property
    def express(self) -> Express:
        """The short way, for the protocol."""
        return Express(self.begin, self.lane.tell_begun, self.lane.end)

    def begin(self, asked: Shape | Span, address: str) -> Sending | None:
        """Begin the answer from what is open already; None when it is not, or must be looked at more closely."""
        shape = asked if isinstance(asked, Shape) else asked.shape
        entry = self._open(shape.key) if shape.method in METHODS else None
        if entry is None:
            return None
        sending = self.lane.begin_known(entry, asked, address)
        if sending is not None:
            self.counters.add(Cell.REQUESTS)
        return sending

    def _open(self, key: str) -> Entry | None:
        return self.stock.entries.get(key) or self.stock.documents.get(key)

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request."""
        self.counters.add(Cell.REQUESTS)
        key, fills, asked = request.raw_path.partition("?")[0], self.fills, self.lane.asked_of(request)
        try:
            self._admit(request, asked)
            if request.method in METHODS:
                entry = self._open(key)
                if entry is not None:
                    return self._answer(entry, request)
            filled = await fills.again(request, key) if fills is not None and request.method in METHODS else None
            return filled if filled is not None else await self._find(request)
        except LimitedError as error:
            return await self._limited(error)
        except YuanjiaoError as error:
            return self._problem(request, error)
        except asyncio.CancelledError:
            self.counters.add(Cell.ABORTED)
            self.counters.add(Result.HIT)
            raise
        except ConnectionError:  # the client went away while its first piece was waited for: nobody reads this
            self.counters.add(Cell.ABORTED)
            self.counters.add(Result.FILL)
            return web.Response(status=503)
        except Exception as error:  # noqa: BLE001 - the last shell: a bug in one page is told as our fault and counted
            _log.exception("bug", path=request.raw_path[:200])
            return self._problem(request, YuanjiaoError(f"internal error: {type(error).__name__}", zh="服务器内部错误"))
        finally:
            if fills is not None:
                fills.looked(request, key)

    def _admit(self, request: web.BaseRequest, asked: Asked) -> None:
        """Look at what is the same for all requests, and take its cost from the client's allowance.

        Raises:
            LimitedError: the caller's client asks for too much.
            InputError: bad data; what it calls this host is no name of one.
        """
        if not is_host(request.headers.get(HOST, "")):
            raise InputError("the Host field names no host", zh="请求中的主机名（Host）有误")
        is_file = asked[1].target.startswith(_FILES)
        wait_s = self.lane.server.client_of(request.protocol).take(asked[-1], 1.0 if is_file else PAGE_COST)
        if wait_s:
            raise LimitedError(wait_s)

    async def _limited(self, error: LimitedError) -> web.StreamResponse:
        """Refuse, but not at once: whoever asks on as fast as it is refused would keep us as busy as before."""
        try:
            await asyncio.sleep(HOLD_S)
        finally:
            self.counters.add(Result.LIMITED)
        response = answer_limited(error)
        response.headers["Server"] = SERVER
        return response

    async def _find(self, request: web.BaseRequest) -> web.StreamResponse:
        if request.method not in METHODS:
            raise MethodError(f"method {request.method[:20]!r} is not answered here", zh="本站只接受 GET 与 HEAD 请求")
        raw_path = request.raw_path
        if not raw_path.startswith("/"):
            raw_path = request.rel_url.raw_path or "/"  # absolute form (RFC 9112 section 3.2.2)
        parts = content.split_path(raw_path)
        for _ in range(MOST_SEARCHES):
            before = self.stock.changes
            try:
                entry = await self._entry(parts)
            except (NotHereError, NotFoundError) as error:
                other = await self._otherwise(request, parts, error)
                if other is None:
                    continue
                return other
            if entry is None:
                return self._counted(request, await self._page(request, parts))
            if before == self.stock.changes:
                self.stock.keep(raw_path.partition("?")[0], entry)
                return self._answer(entry, request)
            entry.retire()  # the library changed while we looked: what was found may be recalled
        raise not_here("what was asked for keeps changing; it")

    async def _otherwise(
        self, request: web.BaseRequest, parts: list[str], error: YuanjiaoError
    ) -> web.StreamResponse | None:
        """Answer for what is not here: fill it, or give what of it is here; None to look again."""
        if self.fills is not None and isinstance(error, NotHereError):
            filled = await self.fills.answer(request, request.raw_path.partition("?")[0], parts)
            if filled is not None:
                return filled
        return await self._half(request, parts, error)

    async def _half(
        self, request: web.BaseRequest, parts: list[str], error: YuanjiaoError
    ) -> web.StreamResponse | None:
        """Answer from a half-filled blob when one was asked for that is not whole; otherwise `error` stands.

        None when the blob became whole while it was looked for: then it must be looked for again.
        """
        store, name = self.stock.store, parts[1] if parts[0] == "blobs" else ""
        if not is_digest(name):
            raise error
        begun = await asyncio.to_thread(find_begun, store, Digest(name))
        try:
            if begun is None:
                raise error
            entry = await open_half(store, begun, request.method, request.headers)
        except (NotHereError, NotFoundError):
            if await asyncio.to_thread(store.has, Digest(name)):
                return None
            raise
        try:
            return self._answer(entry, request)
        finally:
            entry.retire()  # closed by whoever sends from it last

    def _answer(self, entry: Entry, request: web.BaseRequest) -> BlobResponse:
        return BlobResponse(self.lane, self.lane.begin_for(entry, request), request)

    async def _entry(self, parts: list[str]) -> Entry | None:
        match parts:
            case ["blobs", name]:
                return await content.find_blob(self.stock, name)
            case ["media", courseware, name]:
                return await content.find_media(self.stock, courseware, name)
            case ["targets", *names]:
                return await content.find_target(self.stock, "/".join(names))
            case ["metadata", name]:
                return await content.find_metadata(self.stock, name)
        return None

    async def _page(self, request: web.BaseRequest, parts: list[str]) -> web.StreamResponse:
        match parts:
            case [""]:
                return await portal.home(self.stock, self.pages, request)
            case ["columns", column]:
                return await portal.column(self.stock, self.pages, request, column)
            case ["lessons", courseware]:
                return await portal.lesson(self.stock, self.pages, request, courseware, self.fills)
            case ["pieces", name]:
                return await self._bits.answer(name)
            case ["static", name]:
                return self.pages.static(request, name)
            case ["favicon.ico"]:
                return self.pages.static(request, "icon.svg")
            case ["api", "courseware"]:
                return await api.courseware_list(self.stock, request)
            case ["api", "courseware", courseware]:
                return await api.courseware_one(self.stock, request, courseware, self.fills)
        return await self._state(request, parts)

    async def _state(self, request: web.BaseRequest, parts: list[str]) -> web.StreamResponse:
        """What operators and their programs ask."""
        match parts:
            case ["operator"]:
                return await night.operator_page(self.stock, self.pages, request, self.counters)
            case ["healthz"]:
                return await health.healthz(self.stock, self.counters)
            case ["metrics"]:
                return await health.metrics(self.stock, self.counters)
        raise unknown(f"address {request.raw_path[:120]!r}")

    def _counted(self, request: web.BaseRequest, response: web.StreamResponse) -> web.StreamResponse:
        self.counters.add(Result.HIT)
        self.counters.add_begin(self.lane.monotonic() - self.lane.asked_of(request)[-1])
        response.headers["Server"] = SERVER
        return response

    def _problem(self, request: web.BaseRequest, error: YuanjiaoError) -> web.StreamResponse:
        self.counters.add(_result_of(error))
        self.counters.add_begin(self.lane.monotonic() - self.lane.asked_of(request)[-1])
        if _result_of(error) is Result.ERROR:
            _log.error("not_served", path=request.raw_path[:200], error=error.message)
        response = answer_problem(self.stock, self.pages, request, error)
        response.headers["Server"] = SERVER
        if isinstance(error, MethodError):
            response.headers["Allow"] = ALLOW
        return response


def _result_of(error: YuanjiaoError) -> Result:
    if isinstance(error, NotHereError):
        return Result.NOT_HERE
    if isinstance(error, NotFoundError):
        return Result.NOT_FOUND
    return Result.REFUSED if isinstance(error, InputError) else Result.ERROR
