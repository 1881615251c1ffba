"""Resumable uploads by tus 1.0.0 below `/api/v1/uploads`: creation, bytes, where it stands, termination.

Bytes are streamed, which the table of operations cannot do, so these few handlers stand beside it; who may do what is
asked in the same way. Listing uploads and what was found in them are operations like all others.
"""

from __future__ import annotations

import asyncio
import email.utils
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final

import structlog
from aiohttp import ClientError, HttpVersion11, web
from aiohttp.http_exceptions import HttpProcessingError

from manifests.errors import InputError, NotFoundError, TransferError, YuanjiaoError
from origin.accounts.people import Actor
from origin.drafts.checking import Checks
from origin.drafts.intake import Intake
from origin.drafts.publish_jobs import PublishJobs
from origin.drafts.receiving import ChecksumError, Receiving, Writer
from origin.drafts.uploads import Upload
from origin.web.api.http import problem
from origin.web.api.operations import API, check_second_factor
from origin.web.gate import Gate
from origin.web.tus_fields import (
    ALGORITHMS,
    EXTENSIONS,
    OCTETS,
    VERSION,
    Checksum,
    check_version,
    dump_metadata,
    parse_checksum,
    parse_length,
    parse_metadata,
)

UPLOADS: Final = f"{API}/uploads"
_PORTION_BYTES: Final = 1 << 20  # of one write; smaller ones are slower than the network
_LEAST_BYTES: Final = 64 * 1024  # so much must come within the stall deadline
_COUNT_BYTES: Final = 32 << 20  # so often, or so often in time, the bytes are made durable and counted
_COUNT_S: Final = 2.0
_BROKEN_OFF: Final = (TimeoutError, ConnectionError, ClientError, HttpProcessingError, web.RequestPayloadError)
_OVERRIDE: Final = "X-HTTP-Method-Override"

log = structlog.get_logger(__name__)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class WrongTypeError(InputError):
    """The body is of another type."""

    http_status = 415


class TooManyBytesError(InputError):
    """More bytes come than were announced."""

    http_status = 413


class CutShortError(TransferError):
    """Nothing came for too long, or the sender must make way; what came is kept."""

    http_status = 408


class Tus:
    """Handlers of uploads.

    Args:
        gate: says who asks.
        intake: begins, finds and ends uploads.
        receiving: takes their bytes.
        checks: is told when one is whole.
        stall_s: a sender from whom so little comes for so long is cut off.
    """

    def __init__(self, gate: Gate, intake: Intake, receiving: Receiving, checks: Checks, stall_s: float) -> None:
        self._gate = gate
        self._intake = intake
        self._receiving = receiving
        self._checks = checks
        self._stall_s = stall_s

    def routes(self) -> list[web.RouteDef]:
        """The routes to add to an application."""
        one = f"{UPLOADS}/{{id}}"
        return [
            web.options(UPLOADS, self.options),
            web.options(one, self.options),
            web.post(UPLOADS, self._told(self.create)),
            web.head(one, self._told(self.head)),
            web.patch(one, self._told(self.patch), expect_handler=_later),
            web.delete(one, self._told(self.delete)),
            web.post(one, self._told(self.overridden)),
        ]

    def _told(self, handle: Handler) -> Handler:
        async def told(request: web.Request) -> web.StreamResponse:
            try:
                response = await handle(request)
            except YuanjiaoError as error:
                log.info("upload_refused", path=request.path, family=error.family, reason=error.message)
                response = problem(request, error)
                if isinstance(error, ChecksumError):
                    response.set_status(460, "Checksum Mismatch")
                if request.body_exists and not request.content.is_eof():
                    response.force_close()  # the rest of the body is not worth waiting for
            response.headers["Tus-Resumable"] = VERSION
            if response.status == 412:
                response.headers["Tus-Version"] = VERSION
            return response

        return told

    async def options(self, _request: web.Request) -> web.StreamResponse:
        """What this server can do; for everybody."""
        fields = {
            "Tus-Resumable": VERSION,
            "Tus-Version": VERSION,
            "Tus-Extension": EXTENSIONS,
            "Tus-Max-Size": str(self._intake.terms.limits.file_bytes),
            "Tus-Checksum-Algorithm": ",".join(ALGORITHMS),
        }
        return web.Response(status=204, headers=fields)

    async def create(self, request: web.Request) -> web.StreamResponse:
        """Let a file in; its bytes come later."""
        check_version(request.headers)
        actor = await self._actor(request)
        if "Upload-Defer-Length" in request.headers or "Upload-Concat" in request.headers:
            raise InputError("the length must be told at once, and of the whole file", zh="须一次说明整个文件的长度")
        size = parse_length(request.headers, "Upload-Length")
        name = parse_metadata(request.headers.get("Upload-Metadata", "")).get("filename", "")
        upload = await self._intake.begin(actor, name, size)
        fields = {"Location": f"{UPLOADS}/{upload.id}", "Upload-Expires": self._expires(upload), "Upload-Offset": "0"}
        return web.Response(status=201, headers=fields)

    async def head(self, request: web.Request) -> web.StreamResponse:
        """Where an upload stands."""
        check_version(request.headers)
        upload = await self._own(request)
        if upload.state == "receiving" and not await asyncio.to_thread(self._intake.shelf.has, upload):
            # As after a restore: whoever sends begins anew, instead of going on with what nobody has.
            raise NotFoundError("the bytes of the upload are gone", zh="已上传的部分已丢失，请重新上传")
        fields = {
            "Upload-Offset": str(upload.received_bytes),
            "Upload-Length": str(upload.size_bytes),
            "Upload-Metadata": dump_metadata({"filename": upload.name}),
            "Cache-Control": "no-store",
        }
        if upload.state == "receiving":
            fields["Upload-Expires"] = self._expires(upload)
        return web.Response(status=200, headers=fields)

    async def patch(self, request: web.Request) -> web.StreamResponse:
        """Take bytes from where the upload stands."""
        check_version(request.headers)
        upload = await self._own(request)
        if request.content_type != OCTETS:
            raise WrongTypeError(f"this takes {OCTETS}", zh="上传内容的类型不对")
        # The server would unpack it on the way, and nobody knows into how much.
        if request.headers.get("Content-Encoding", "identity").lower() != "identity":
            raise WrongTypeError("the body is encoded", zh="上传内容不能压缩")
        offset = parse_length(request.headers, "Upload-Offset")
        checksum = parse_checksum(request.headers.get("Upload-Checksum"))
        length = request.content_length
        if length is not None and offset == upload.received_bytes and offset + length > upload.size_bytes:
            raise _too_many()
        if upload.state != "receiving" and offset == upload.size_bytes and length == 0:
            return web.Response(status=204, headers={"Upload-Offset": str(offset)})
        hasher = None if checksum is None else checksum.hasher()
        async with self._receiving.writing_to(upload, offset, hasher) as writer:
            await _go_on(request)
            await self._take(request, writer, checksum)
        return await self._taken(upload, writer)

    async def delete(self, request: web.Request) -> web.StreamResponse:
        """Remove an upload; scripts that speak no tus may ask for it too."""
        if "Tus-Resumable" in request.headers:
            check_version(request.headers)
        await self._intake.drop(await self._actor(request), request.match_info["id"])
        return web.Response(status=204)

    async def overridden(self, request: web.Request) -> web.StreamResponse:
        """PATCH and DELETE for clients that can only POST."""
        match request.headers.get(_OVERRIDE, "").upper():
            case "PATCH":
                return await self.patch(request)
            case "DELETE":
                return await self.delete(request)
        raise InputError(f"POST takes {_OVERRIDE} here", zh="请求方法不对")

    async def _taken(self, upload: Upload, writer: Writer) -> web.StreamResponse:
        fields = {"Upload-Offset": str(writer.offset)}
        if writer.is_whole:
            self._checks.wake()
        else:
            fields["Upload-Expires"] = self._expires(upload)
        return web.Response(status=204, headers=fields)

    async def _take(self, request: web.Request, writer: Writer, checksum: Checksum | None) -> None:
        """Read the body to its end, in portions; what came of it before it broke off is kept by the writer."""
        loop = asyncio.get_running_loop()
        counted_s = loop.time()
        while portion := await self._portion(request, writer):
            if len(portion) > writer.left:
                raise _too_many()
            await writer.write(portion)
            if checksum is None and (writer.uncounted >= _COUNT_BYTES or loop.time() - counted_s >= _COUNT_S):
                await writer.commit()
                # Hours may pass in here: who is no longer signed in, or no longer may, sends no further.
                await self._actor(request)
                counted_s = loop.time()
        if checksum is not None:
            await writer.confirm(checksum.digest)
        else:
            await writer.commit()

    async def _portion(self, request: web.Request, writer: Writer) -> bytes:
        """The next bytes of the body; none at its end. What came before it broke off is given first."""
        if writer.must_stop:
            raise CutShortError("the sender must make way", zh="上传中断，可稍后继续")
        parts: list[bytes] = []
        size, since = 0, 0
        try:
            while size < _PORTION_BYTES and not request.content.at_eof():
                async with writer.waiting(self._stall_s):
                    while since < _LEAST_BYTES and (part := await request.content.readany()):
                        writer.heard()
                        parts.append(part)
                        size, since = size + len(part), since + len(part)
                since = 0
        except _BROKEN_OFF as error:
            if parts:
                return b"".join(parts)  # the next call meets the same end with empty hands
            raise CutShortError("nothing more came", zh="上传中断，可稍后继续") from error
        return b"".join(parts)

    async def _actor(self, request: web.Request) -> Actor:
        actor = await self._gate.actor(request)
        check_second_factor(actor)
        return actor

    async def _own(self, request: web.Request) -> Upload:
        return await self._intake.find_own(await self._actor(request), request.match_info["id"])

    def _expires(self, upload: Upload) -> str:
        return email.utils.formatdate(self._intake.expires_at(upload), usegmt=True)


async def _later(_request: web.Request) -> None:
    """Who asks before they send (`Expect: 100-continue`) hears it once it is clear that the bytes are wanted."""


async def _go_on(request: web.Request) -> None:
    if request.version == HttpVersion11 and request.headers.get("Expect", "").lower() == "100-continue":
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.writer.output_size = 0  # nothing of the answer itself is out yet


def _too_many() -> TooManyBytesError:
    return TooManyBytesError("more bytes than the file was said to have", zh="发送的数据超出文件长度")


def add_uploads(app: web.Application, gate: Gate, intake: Intake, jobs: PublishJobs, stall_s: float) -> None:
    """Add the handlers of uploads to an application, and what goes on behind them while it runs."""
    receiving, checks = Receiving(intake), Checks(intake)
    app.add_routes(Tus(gate, intake, receiving, checks, stall_s).routes())

    async def working(_app: web.Application) -> AsyncIterator[None]:
        chores = [asyncio.create_task(one) for one in (checks.run(), intake.keep_swept(), jobs.run())]
        yield
        for chore in chores:
            chore.cancel()
        await asyncio.wait(chores)

    async def close(_app: web.Application) -> None:
        await receiving.close()

    app.cleanup_ctx.append(working)
    # Before connections are closed: who is sending is told at once, and what came is kept.
    app.on_shutdown.append(close)
