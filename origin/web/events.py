"""Server-sent events for the console: `GET /api/v1/events[?lesson=ID]`, for whoever is signed in.

    retry: 5000                          the browser comes back after so long, with the last id that it saw
    event: overview | edges | lesson     something changed; data is JSON, see `Stream.put`
    event: refresh                       more may have been missed than is known here: ask for everything anew
    :                                    nothing, so that proxies and browsers see that the line lives

Everything has a bound: streams of one account and of the process, news that one keeps, what a reader may leave unread.
A session that ended ends its streams; a server that stops ends them all at once.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import deque
from contextlib import suppress
from typing import Final

import msgspec
import structlog
from aiohttp import web

from manifests.errors import BusyError, SignInError, YuanjiaoError
from manifests.names import Region, is_within, parse_courseware_id
from origin.accounts.people import Account
from origin.accounts.permissions import Action, is_allowed
from origin.web.api.http import problem
from origin.web.api.operations import API, Desk
from origin.web.changes import Marks, News, compare, read_marks
from origin.web.gate import Gate

LOOK_S: Final = 1.0
HEARTBEAT_S: Final = 15.0
SESSION_S: Final = 60.0
WRITE_S: Final = 20.0
RETRY_MS: Final = 5000
MOST_OF_ACCOUNT: Final = 12
MOST: Final = 500
MOST_WAITING: Final = 64
MOST_KEPT: Final = 256
LATEST_S: Final = 10.0

log = structlog.get_logger(__name__)


class CrowdedError(BusyError):
    """So many listen already that another is refused; a page without news works all the same."""

    http_status = 429


class Stream:
    """One listener.

    Args:
        account: who listens; edges outside its region are not told of.
        lesson: id of the lesson on its page; empty for none.
    """

    def __init__(self, account: Account, lesson: str) -> None:
        self.account = account
        self.lesson = lesson
        self.waiting: deque[tuple[int, str, object]] = deque()
        self.wakes = asyncio.Event()

    def put(self, number: int, news: News) -> None:
        """Queue what of the news is this listener's; one that does not read is told later to refresh.

        `overview` has no data; `edges` has `{"edges": [code, …]}`, `lesson` `{"id": …}`.
        """
        found: list[tuple[str, object]] = []
        may = is_allowed(self.account.grant, Action.EDGES_READ, self.account.region)
        mine = [code for code, region in news.edges.items() if may and self._is_mine(region)]
        if news.is_release or mine:
            found.append(("overview", {}))
        if mine:
            found.append(("edges", {"edges": sorted(mine)}))
        if self.lesson and (news.is_release or self.lesson in news.lessons):
            found.append(("lesson", {"id": self.lesson}))
        if len(self.waiting) + len(found) > MOST_WAITING:
            self.refresh(number)
        else:
            self.waiting.extend((number, name, data) for name, data in found)
            if found:
                self.wakes.set()

    def refresh(self, number: int) -> None:
        """Tell it to ask for everything anew, in the place of all that waits."""
        self.waiting.clear()
        self.waiting.append((number, "refresh", {}))
        self.wakes.set()

    def _is_mine(self, region: str) -> bool:
        return is_within(Region(region), self.account.region)


class Events:
    """The endpoint and the look behind it.

    Args:
        desk: has the database and the clock.
        gate: knows who asks.
        look_s, heartbeat_s, session_s: how often is looked, a sign of life is given, a session is asked after.
    """

    def __init__(
        self,
        desk: Desk,
        gate: Gate,
        *,
        look_s: float = LOOK_S,
        heartbeat_s: float = HEARTBEAT_S,
        session_s: float = SESSION_S,
    ) -> None:
        self._desk = desk
        self._gate = gate
        self._look_s = look_s
        self._heartbeat_s = heartbeat_s
        self._session_s = session_s
        # Numbers of another process, or of this one before it was started anew, are told apart by it.
        self._mark = secrets.token_hex(4)
        self._number = 0
        self._kept: deque[tuple[int, News, float]] = deque(maxlen=MOST_KEPT)
        self._streams: set[Stream] = set()
        self._looking: asyncio.Task[None] | None = None
        self._has_looked = False
        self._is_ending = False

    def add_to(self, app: web.Application) -> None:
        """Add the route, and the end of all streams to the application's."""
        app.add_routes([web.get(f"{API}/events", self.listen)])
        app.on_shutdown.append(self._end)

    async def listen(self, request: web.Request) -> web.StreamResponse:
        """Tell of changes until the browser goes away."""
        try:
            stream = await self._seat(request)
        except YuanjiaoError as error:
            return problem(request, error)
        response = web.StreamResponse(
            headers={"Content-Type": "text/event-stream; charset=utf-8", "X-Accel-Buffering": "no"}
        )
        response.headers["Cache-Control"] = "no-store, no-transform"
        self._streams.add(stream)
        self._begin_looking()
        try:
            await response.prepare(request)
            self._catch_up(stream, request.headers.get("Last-Event-ID", ""))
            await self._write(response, f"retry: {RETRY_MS}\n: {self._id(self._number)}\n\n")
            await self._tell(request, response, stream)
        except (ConnectionError, TimeoutError):
            log.debug("listener_gone", login=stream.account.login)
        finally:
            self._streams.discard(stream)
        return response

    async def _seat(self, request: web.Request) -> Stream:
        """A stream for whoever asks.

        Raises:
            SignInError: caller's mistake; nobody is signed in.
            InputError: bad data; the lesson's id is none.
            CrowdedError: environment; too many listen already.
        """
        session = await self._gate.session(request)
        if session is None or not session.is_full:
            raise SignInError("nobody is signed in", zh="尚未登录")
        lesson = request.query.get("lesson", "")
        if lesson:
            parse_courseware_id(lesson)
        own = sum(one.account.id == session.account.id for one in self._streams)
        if own >= MOST_OF_ACCOUNT or len(self._streams) >= MOST or self._is_ending:
            raise CrowdedError("too many pages listen already", zh="已打开的实时页面过多")
        return Stream(session.account, lesson)

    async def _tell(self, request: web.Request, response: web.StreamResponse, stream: Stream) -> None:
        loop = asyncio.get_running_loop()
        asked_s = loop.time()
        while not self._is_ending:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._heartbeat_s):
                    await stream.wakes.wait()
            stream.wakes.clear()
            if loop.time() - asked_s >= self._session_s:
                asked_s = loop.time()
                if not await self._is_open(request):
                    return
            lines = []
            while stream.waiting:
                number, name, data = stream.waiting.popleft()
                text = msgspec.json.encode(data).decode()
                lines.append(f"id: {self._id(number)}\nevent: {name}\ndata: {text}\n\n")
            await self._write(response, "".join(lines) or ":\n\n")

    async def _is_open(self, request: web.Request) -> bool:
        try:
            session = await self._gate.session(request)
        except YuanjiaoError as error:  # the database cannot be asked now: not the listener's fault
            log.info("session_not_asked", reason=error.message)
            return True
        return session is not None and session.is_full

    async def _write(self, response: web.StreamResponse, text: str) -> None:
        async with asyncio.timeout(WRITE_S):
            await response.write(text.encode())

    def _catch_up(self, stream: Stream, last: str) -> None:
        """What came after the last that the browser saw; everything anew when that is not known here."""
        if not last:
            self._tell_latest(stream)
            return
        mark, _, text = last.partition("-")
        number = int(text) if text.isascii() and text.isdigit() and len(text) < 18 else -1
        oldest = self._kept[0][0] if self._kept else self._number + 1
        if mark != self._mark or not oldest - 1 <= number <= self._number:
            stream.refresh(self._number)
            return
        for kept, news, _ in self._kept:
            if kept > number:
                stream.put(kept, news)

    def _tell_latest(self, stream: Stream) -> None:
        """A page that has just been made may be older than the last look, or than the first there is."""
        if not self._has_looked:
            stream.refresh(self._number)
        since_s = asyncio.get_running_loop().time() - LATEST_S
        for number, news, at_s in self._kept:
            if at_s >= since_s:
                stream.put(number, news)

    def _id(self, number: int) -> str:
        return f"{self._mark}-{number}"

    def _begin_looking(self) -> None:
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._look_on())

    async def _look_on(self) -> None:
        """Look while anybody listens."""
        marks: Marks | None = None
        while self._streams:
            try:
                found = await read_marks(self._desk.engine, {one.lesson for one in self._streams if one.lesson})
            except YuanjiaoError as error:
                log.warning("changes_not_read", reason=error.message)
            except Exception as error:  # a bug in one look must not end the looks for all pages
                log.exception("bug", error=str(error))
            else:
                news = compare(marks, found) if marks is not None else None
                marks, self._has_looked = found, True
                if news:
                    self._spread(news)
            await asyncio.sleep(self._look_s)
        # Nobody saw what comes now: whoever comes back must ask for everything.
        self._mark = secrets.token_hex(4)
        self._kept.clear()
        self._has_looked = False

    def _spread(self, news: News) -> None:
        self._number += 1
        self._kept.append((self._number, news, asyncio.get_running_loop().time()))
        for stream in self._streams:
            stream.put(self._number, news)

    async def _end(self, _app: web.Application) -> None:
        self._is_ending = True
        for stream in self._streams:
            stream.wakes.set()
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.wait({self._looking})
