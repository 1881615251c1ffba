"""Carrying out a planned answer: header fields as planned, body parts by sendfile or streamed.

`manifests.ranges` decides what is answered; here it is only sent. A client must take each portion within the stall
deadline, because neither aiohttp nor sendfile ever gives up on one that stops reading; the slower the client, the
smaller the portions. An answer that cannot be completed ends with a broken connection, never with a short body that
looks whole.
"""

from __future__ import annotations

import asyncio
import socket
from dataclasses import dataclass
from io import FileIO
from typing import assert_never

import structlog
from aiohttp import web

from manifests.digests import Digest
from manifests.errors import StorageDamagedError, YuanjiaoError
from manifests.ranges import Answer, ByteRange, Representation, plan_answer
from origin.metrics import Metrics
from origin.storage.base import PORTION_BYTES, BlobStorage

log = structlog.get_logger(__name__)

# A slow line must get about this much through within the stall deadline: 1 to 2 kB/s where that is a minute.
LEAST_BYTES = 64 * 1024
_SWALLOWED_BYTES = 1024 * 1024  # by the sockets' buffers, however slow the line: no measure of it


@dataclass(frozen=True, slots=True)
class Stored:
    """Bytes of a blob that has no file on this machine."""

    storage: BlobStorage
    digest: Digest


Body = bytes | FileIO | Stored


class Answerer:
    """Sends answers and counts them."""

    def __init__(self, metrics: Metrics, stall_s: float) -> None:
        self._metrics = metrics
        self._stall_s = stall_s

    async def answer(self, request: web.Request, resource: str, what: Representation, body: Body) -> web.StreamResponse:
        """Answer a GET or HEAD of `what`, whose bytes are `body`."""
        planned = plan_answer(request.method, request.headers, what)
        self._metrics.count("answers", resource=resource, status=str(planned.status))
        self._metrics.add("answers_in_flight", 1, resource=resource)
        response = _head(planned, body)
        broken = "stopped"  # stays so when this task is cancelled: the server goes down
        try:
            await self._send(response, request, resource, planned, body)
            broken = ""
        except TimeoutError:
            broken = "stalled"
        except ConnectionError:
            broken = "left"
        except (YuanjiaoError, OSError) as error:
            broken = "storage"
            log.warning("answer_broken", resource=resource, path=request.path, reason=str(error))
        finally:
            self._metrics.add("answers_in_flight", -1, resource=resource)
            if broken:
                self._metrics.count("answers_broken", resource=resource, reason=broken)
            else:
                self._metrics.count("answers_completed", resource=resource)
        if broken and request.transport is not None:
            request.transport.abort()
        return response

    async def _send(
        self, response: web.StreamResponse, request: web.Request, resource: str, planned: Answer, body: Body
    ) -> None:
        async with asyncio.timeout(self._stall_s):
            await response.prepare(request)
        if isinstance(response, web.Response):  # the body went out with the header block
            async with asyncio.timeout(self._stall_s):
                await response.write_eof()
            self._metrics.count("sent_bytes", response.body_length, resource=resource)
            return
        _wake_early(request)
        for part in planned.parts:
            if part.literal:
                await self._write(response, part.literal, resource)
            if part.range is not None:
                await self._send_range(response, request, resource, body, part.range)
        async with asyncio.timeout(self._stall_s):
            await response.write_eof()

    async def _send_range(
        self, response: web.StreamResponse, request: web.Request, resource: str, body: Body, wanted: ByteRange
    ) -> None:
        match body:
            case bytes():
                await self._write(response, body[wanted.start : wanted.stop], resource)
            case FileIO():
                await self._sendfile(request, resource, body, wanted)
            case Stored():
                async for portion in body.storage.read(body.digest, wanted.start, wanted.stop):
                    await self._write(response, portion, resource)
            case _:
                assert_never(body)

    async def _write(self, response: web.StreamResponse, data: bytes, resource: str) -> None:
        for at in range(0, len(data), LEAST_BYTES):
            portion = data[at : at + LEAST_BYTES]
            async with asyncio.timeout(self._stall_s):
                await response.write(portion)
            self._metrics.count("sent_bytes", len(portion), resource=resource)

    async def _sendfile(self, request: web.Request, resource: str, file: FileIO, wanted: ByteRange) -> None:
        loop = asyncio.get_running_loop()
        at, portion = wanted.start, LEAST_BYTES
        while at < wanted.stop:
            if request.transport is None:
                raise ConnectionResetError("the client left")
            count = min(portion, wanted.stop - at)
            began_s = loop.time()
            async with asyncio.timeout(self._stall_s):
                sent = await loop.sendfile(request.transport, file, at, count)
            self._metrics.count("sent_bytes", sent, resource=resource)
            if sent != count:
                raise StorageDamagedError(f"a stored file ends {wanted.stop - at - sent} bytes early")
            at += sent
            if at - wanted.start > _SWALLOWED_BYTES:
                can_take = sent / max(loop.time() - began_s, 1e-6) * self._stall_s / 8
                portion = max(LEAST_BYTES, min(2 * portion, PORTION_BYTES, int(can_take)))


def _wake_early(request: web.Request) -> None:
    """Have the kernel tell of room for little more, not only when a third of a buffer of megabytes has drained."""
    found = request.transport.get_extra_info("socket") if request.transport is not None else None
    if found is not None:
        found.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, 2 * LEAST_BYTES)


def _head(planned: Answer, body: Body) -> web.StreamResponse:
    if isinstance(body, bytes) and planned.parts:
        # Small and in memory: one write, so that header block and body share a packet.
        parts = (p.literal + (body[p.range.start : p.range.stop] if p.range else b"") for p in planned.parts)
        return web.Response(status=planned.status, headers=planned.fields, body=b"".join(parts))
    return web.StreamResponse(status=planned.status, headers=planned.fields)
