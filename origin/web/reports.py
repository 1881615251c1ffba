"""Reports from edges: POST /api/v1/reports takes a batch in, GET says where an edge's reports stand.

Whoever posts is a stranger until the signatures are checked. So a body has a limit, each portion of it a deadline, all
of it another, and all bodies together may take so much memory; a refusal says its family only.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import msgspec
import structlog
from aiohttp import web
from sqlalchemy.ext.asyncio import AsyncEngine

from manifests.errors import BusyError, FormatError, SignatureError, UntrustedError
from manifests.reports import MAX_BATCH_BYTES, REPORTS_PATH, WATCHING, Answer, decode_envelopes
from origin.clock import Clock
from origin.metrics import Metrics
from origin.stations.receipts import UnknownKeyError, receive, received_of

PORTION_S: Final = 20.0
BODY_S: Final = 300.0
TURN_S: Final = 30.0
MOST_HELD_BYTES: Final = 3 * MAX_BATCH_BYTES
_AT_ONCE: Final = 2
# Edges send these only to an origin that says that it takes them.
_KINDS: Final = (WATCHING,)

log = structlog.get_logger(__name__)


class _TooLongError(FormatError):
    """The body is longer than any batch may be."""

    http_status = 413


class Reports:
    """Handlers of /api/v1/reports.

    Args:
        run_days: runs are forgotten after so long.
        portion_s, body_s: deadlines of each portion of a body, and of all of it.
    """

    def __init__(
        self,
        engine: AsyncEngine,
        clock: Clock,
        metrics: Metrics,
        run_days: int,
        *,
        portion_s: float = PORTION_S,
        body_s: float = BODY_S,
    ) -> None:
        self._engine = engine
        self._clock = clock
        self._metrics = metrics
        self._run_days = run_days
        self._portion_s = portion_s
        self._body_s = body_s
        self._held_bytes = 0
        self._turns = asyncio.Semaphore(_AT_ONCE)

    def routes(self) -> list[web.RouteDef]:
        """The routes to add to an application."""
        return [web.post(REPORTS_PATH, self.take), web.get(REPORTS_PATH, self.standing)]

    async def take(self, request: web.Request) -> web.StreamResponse:
        """Take a batch in and answer what is kept for good; nothing of a batch that is refused is."""
        outcome = "failed"
        try:
            async with self._body(request) as data, self._turn():
                envelopes = await asyncio.to_thread(decode_envelopes, data)
                taken = await receive(self._engine, envelopes, self._clock(), run_days=self._run_days)
            outcome = "taken"
        except UnknownKeyError as error:
            outcome = "unknown_key"
            return self._refused(request, 403, outcome, error)
        except SignatureError as error:
            outcome = "bad_signature"
            return self._refused(request, 403, outcome, error)
        except FormatError as error:
            outcome = "malformed"
            return self._refused(request, 413 if isinstance(error, _TooLongError) else 400, outcome, error)
        except TimeoutError:
            outcome = "late"
            return _closing(web.Response(status=408, text="late\n"))
        except BusyError:
            outcome = "busy"
            raise
        finally:
            self._metrics.count("report_batches", outcome=outcome)
        for name, count in (("applied", taken.applied), ("repeated", taken.repeated), ("left", taken.left)):
            self._metrics.count("reports", count, outcome=name)
        log.info("reports_taken", edge=taken.edge, applied=taken.applied, repeated=taken.repeated, left=taken.left)
        return _answer(taken.answer)

    async def standing(self, request: web.Request) -> web.StreamResponse:
        """Where the reports of the edge with `?key=ID` stand: for one that has lost its outbox."""
        try:
            return _answer(await received_of(self._engine, request.query.get("key", "")[:64]))
        except UnknownKeyError as error:
            return self._refused(request, 403, "unknown_key", error)

    @asynccontextmanager
    async def _body(self, request: web.Request) -> AsyncIterator[bytes]:
        """The whole body; counts against the memory of all until the block ends."""
        if request.headers.get("Content-Encoding", "identity").lower() != "identity":
            raise FormatError("the body is encoded")
        if (request.content_length or 0) > MAX_BATCH_BYTES:
            raise _TooLongError(f"a body of {request.content_length} bytes")
        parts: list[bytes] = []
        size = 0
        try:
            async with asyncio.timeout(self._body_s):
                while True:
                    async with asyncio.timeout(self._portion_s):
                        part = await request.content.readany()
                    if not part:
                        break
                    size += len(part)
                    self._held_bytes += len(part)
                    if size > MAX_BATCH_BYTES:
                        raise _TooLongError("a body without end")
                    if self._held_bytes > MOST_HELD_BYTES:
                        raise BusyError("other reports are being read", zh="正在接收其他上报")
                    parts.append(part)
            yield b"".join(parts)
        finally:
            self._held_bytes -= size

    @asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        """Few batches at once are checked and written: the rest of the server goes on meanwhile."""
        try:
            async with asyncio.timeout(TURN_S):
                await self._turns.acquire()
        except TimeoutError as error:
            raise BusyError("other reports are being written", zh="正在写入其他上报") from error
        try:
            yield
        finally:
            self._turns.release()

    def _refused(self, request: web.Request, status: int, why: str, error: UntrustedError) -> web.StreamResponse:
        log.warning("reports_refused", why=why, reason=error.message, peer=request.remote)
        return _closing(web.Response(status=status, text=f"{why}\n"))


def _answer(answer: Answer) -> web.Response:
    headers = {"Cache-Control": "no-store"}
    told = msgspec.structs.replace(answer, kinds=_KINDS)
    return web.Response(body=msgspec.json.encode(told), content_type="application/json", headers=headers)


def _closing(response: web.Response) -> web.Response:
    """Part of the body may still be on its way: the connection cannot be used again."""
    response.force_close()
    return response
