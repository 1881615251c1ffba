"""One upstream over HTTP: exact bytes or a clear error.

Every read has a ceiling and an expected size, every wait a deadline. Redirects are not followed, since an upstream's
word is worth nothing here and a captive portal's even less; but for blobs, and to places that the settings name (see
`redirects`). Requests carry `Host`, a short `User-Agent` and perhaps `Range`, because a poll with nothing new must fit
in a few hundred bytes.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass

import aiohttp
from yarl import URL

from edge.upstream.body import Arrived, Body, Count, Traffic
from edge.upstream.gate import Gate, Throttle
from edge.upstream.progress import Limits, Pace
from edge.upstream.redirects import ASKS, FOLLOWED, REFUSALS, Redirects, without_query
from edge.upstream.sessions import Sessions, open_sessions
from edge.upstream.words import reason_zh
from manifests.digests import Digest
from manifests.errors import StalledError, TransferError
from manifests.ranges import parse_content_range

# An error page is read to its end up to here, to keep the connection; a longer one costs the connection.
_ERROR_PAGE_BYTES = 4096


class MissingError(TransferError):
    """This upstream does not have the thing (404 or 410); it may be well otherwise."""


class NotYetError(TransferError):
    """This upstream knows of the thing and does not have it now (503); it may be well otherwise."""


@dataclass(slots=True)
class _Way:
    """The way of one request: to the upstream itself, or from there elsewhere.

    Attributes:
        shown: the path as messages show it, without what only the other place may know.
    """

    path: str
    shown: str = ""
    is_elsewhere: bool = False
    response: aiohttp.ClientResponse | None = None

    def show(self, address: URL | None) -> None:
        self.is_elsewhere = address is not None
        self.shown = self.path if address is None else f"{self.path} (by way of {address.authority})"


class Upstream:
    """One base address.

    Args:
        url: such as `http://10.1.2.3:8080`, without a slash at its end.
        sessions: shared by all upstreams of one run.
        count: told of what arrives.
        places: to which it may redirect requests for blobs.
    """

    def __init__(
        self, url: str, sessions: Sessions, limits: Limits, count: Count | None = None, places: tuple[str, ...] = ()
    ) -> None:
        self.url = url
        self.traffic = Traffic()
        self._sessions = sessions
        self._limits = limits
        self._count = count
        self._redirects = Redirects(url, places)

    def where(self, digest: str) -> str:
        """Where a blob lies there, for messages: the address, since all have the same path."""
        del digest
        return self.url

    async def get_bytes(self, path: str, limit: int, expected_size: int | None = None) -> bytes:
        """Fetch a whole small resource.

        Args:
            path: from the first slash on, already percent-encoded.
            limit: refuse more than this many bytes.
            expected_size: refuse any other length, when it is known.

        Raises:
            MissingError: environment; 404 or 410.
            TransferError: environment; unreachable, broke off, or answered with something else.
        """
        parts: list[bytes] = []
        async with self._request(path, {}) as (response, pace, path):
            await self._check_status(response, path, (200,))
            self._check_length(response, path, expected_size, limit)
            got = 0
            while chunk := await self._read(response, pace, path):
                got += len(chunk)
                if got > (limit if expected_size is None else expected_size):
                    raise self._too_long(path)
                parts.append(chunk)
            if expected_size is not None and got != expected_size:
                raise self._fault(f"{path}: {got} bytes where {expected_size} were expected", "返回的长度不符")
        return b"".join(parts)

    async def get_range(self, path: str, start: int, stop: int, total: int) -> bytes:
        """Fetch a byte range; see `fill`."""
        body = Body(start, stop, total)
        await self.fill(path, body)
        return bytes(body.buffer)

    async def fill(self, path: str, body: Body, arrived: Arrived | None = None, gate: Gate | None = None) -> None:
        """Fetch a byte range into `body`, from where it stands to its end.

        Args:
            path: from the first slash on.
            body: may be filled in part already; then only the rest is asked for.
            arrived: awaited after each portion; its time does not count against the upstream.
            gate: what bulk must pass; neither does the time spent waiting there.

        Raises:
            MissingError: environment; 404 or 410.
            TransferError: environment; `body.filled` says how far it came.
        """
        first = body.start + body.filled
        ranged = not (body.is_whole and body.filled == 0)
        fields = {"Range": f"bytes={first}-{body.stop - 1}"} if ranged else {}
        view = memoryview(body.buffer)
        window_bytes = gate.window_bytes if gate is not None else None
        async with self._request(path, fields, window_bytes) as (response, pace, path):
            await self._check_status(response, path, (206,) if ranged else (200,))
            if ranged:
                self._check_range(response, path, first, body)
            self._check_length(response, path, body.stop - first, body.stop - first)
            throttle = Throttle(gate, response) if gate is not None else None
            while chunk := await self._read(response, pace, path, throttle):
                end = body.filled + len(chunk)
                if end > len(view):
                    raise self._too_long(path)
                view[body.filled : end] = chunk
                body.filled = end
                if arrived is not None:
                    await _timed(arrived, body, pace)
        if body.filled != len(view):
            raise self._fault(f"{path}: the body ended {len(view) - body.filled} bytes early", "数据提前中断")

    async def exchange(self, path: str, data: bytes | None, limit: int, total_s: float) -> tuple[int, bytes]:
        """Post a document, or with None only ask, and read the short answer, whatever its status.

        Args:
            path: from the first slash on, already percent-encoded.
            data: JSON to post.
            limit: refuse an answer of more bytes.
            total_s: deadline of all of it. Sending has no deadline of its own: only an answer says that it arrived.

        Raises:
            TransferError: environment; unreachable, no answer in time, a redirect or a web page.
        """
        self.traffic.requests += 1
        timeout = aiohttp.ClientTimeout(total=total_s, sock_connect=self._limits.connect_s)
        fields = {"Content-Type": "application/json"} if data is not None else {}
        with self._mapped(path):
            async with self._sessions.free.request(
                "GET" if data is None else "POST",
                URL(self.url + path, encoded=True),
                data=data,
                headers=fields,
                allow_redirects=False,
                timeout=timeout,
            ) as response:
                if 300 <= response.status < 400:
                    raise self._fault(f"{path}: redirect refused (status {response.status})", "拒绝跳转")
                if response.status == 200 and response.content_type != "application/json":
                    kind = response.content_type
                    raise self._fault(f"{path}: {kind} came where JSON was expected", "返回的不是上报应答")
                body = b""
                while len(body) <= limit and (chunk := await response.content.read(limit + 1 - len(body))):
                    body += chunk
                self.traffic.bytes_received += len(body)
                if len(body) > limit:
                    raise self._too_long(path)
                return response.status, body

    @asynccontextmanager
    async def _request(
        self, path: str, fields: dict[str, str], window_bytes: int | None = None
    ) -> AsyncIterator[tuple[aiohttp.ClientResponse, Pace, str]]:
        """Ask; gives the answer, what watches its pace, and the path as messages show it."""
        loop = asyncio.get_running_loop()
        way = _Way(path)
        clean = False
        try:
            way.response = await self._open(way, fields, window_bytes)
            yield way.response, Pace(self._limits, loop.time()), way.shown
            clean = True
        except TransferError as error:
            if way.is_elsewhere:
                self._redirects.distrust(loop.time())
                if isinstance(error, MissingError):  # the upstream has it: only the way there is wrong
                    raise TransferError(error.message, zh=error.zh) from error
            raise
        finally:
            if way.response is not None and clean:
                way.response.release()
            elif way.response is not None:  # bytes may still be under way on this connection: it cannot be used again
                way.response.close()

    async def _open(self, way: _Way, fields: dict[str, str], window_bytes: int | None) -> aiohttp.ClientResponse:
        loop = asyncio.get_running_loop()
        for is_last in (False, True):
            way.show(None)
            address = self._redirects.known(way.path, loop.time())
            if address is None:
                asks = dict([ASKS]) if self._redirects.is_asked_for(way.path, loop.time()) else {}
                url = URL(self.url + way.path, encoded=True)
                response = await self._get(url, fields | asks, window_bytes, way.shown)
                if not asks or response.status != FOLLOWED:
                    return response
                response.release()
                way.is_elsewhere = True
                address = self._redirects.take(way.path, response.headers.get("Location", ""))
            way.show(address)
            response = await self._get(address, fields, window_bytes, way.shown)
            if is_last or response.status not in REFUSALS:
                return response
            response.release()
            self._redirects.forget(way.path, address)
        raise AssertionError("the last round returns")

    async def _get(
        self, url: URL, fields: dict[str, str], window_bytes: int | None, shown: str
    ) -> aiohttp.ClientResponse:
        self.traffic.requests += 1
        # Wherever it leads: the socket is made for what this request may have under way.
        with self._mapped(shown), self._sessions.for_window(window_bytes) as (session, buffer_bytes):
            async with asyncio.timeout(self._limits.connect_s + self._limits.answer_s):
                return await session.get(url, headers=fields, allow_redirects=False, read_bufsize=buffer_bytes)

    async def _read(
        self, response: aiohttp.ClientResponse, pace: Pace, path: str, throttle: Throttle | None = None
    ) -> bytes:
        loop = asyncio.get_running_loop()
        portion = throttle.portion_bytes() if throttle is not None else None
        with self._mapped(path):
            async with asyncio.timeout_at(pace.due_s):
                content = response.content
                chunk = await (content.readany() if portion is None else content.read(portion))
        reason = self.traffic.receive(len(chunk))
        if self._count is not None:
            self._count(reason, len(chunk))
        pace.arrive(len(chunk), loop.time())
        if throttle is not None and chunk:
            pace.pause(await throttle.admit(len(chunk)))
        return chunk

    @contextmanager
    def _mapped(self, path: str) -> Iterator[None]:
        try:
            yield
        except TimeoutError as error:
            raise StalledError(
                f"{self.url}{path}: no progress within the deadline", zh=f"上游 {self.url} 在期限内没有进展"
            ) from error
        except aiohttp.ClientConnectorCertificateError as error:
            raise TransferError(
                f"{self.url}: {error.host}'s certificate is not trusted: {error.certificate_error}",
                zh=f"上游 {self.url}：{error.host} 的证书不受信任",
                hint="name the file of its certificate authority in upstream.ca_file, and check this machine's clock",
                hint_zh="请在 upstream.ca_file 中填写其 CA 证书文件，并检查本机时钟",
            ) from error
        except (aiohttp.ClientError, OSError, ValueError) as error:
            # ValueError: aiohttp lets some malformed headers through as one.
            reason = without_query(str(error)) or type(error).__name__
            fault = self._fault(f"{path}: {reason[:200]}", reason_zh(error))
            # A cause that quotes an address would show its signature in a traceback.
            raise fault from (None if "?" in str(error) else error)

    async def _check_status(self, response: aiohttp.ClientResponse, path: str, wanted: tuple[int, ...]) -> None:
        status = response.status
        if status in wanted:
            coding = response.headers.get("Content-Encoding", "identity")
            if coding.lower() != "identity":
                raise self._fault(f"{path}: content coding {coding[:20]!r} was not asked for", "返回了未请求的压缩编码")
            if response.content_type == "text/html":
                # No upstream serves one under these paths: it is the line that answers, not the upstream.
                raise self._fault(
                    f"{path}: a web page came instead (a login portal on the way?)", "返回的是网页（登录页？）"
                )
            return
        if 300 <= status < 400:
            raise self._fault(f"{path}: redirect refused (status {status})", "拒绝跳转")
        if status == 200:
            kind = response.content_type
            raise self._fault(
                f"{path}: the whole resource ({kind}) came where a range was asked for; an upstream or a proxy "
                "on the way does not do ranges",
                "上游或中间代理不支持按区间传输",
            )
        if response.content_length is not None and response.content_length <= _ERROR_PAGE_BYTES:
            await self._read_page(response, path)
        if status in {404, 410}:
            raise MissingError(f"{self.url}{path}: not there (status {status})", zh=f"上游 {self.url} 没有该内容")
        if status == 503:
            raise NotYetError(f"{self.url}{path}: not there now (status 503)", zh=f"上游 {self.url} 暂无该内容")
        raise self._fault(f"{path}: status {status}", f"返回状态 {status}")

    async def _read_page(self, response: aiohttp.ClientResponse, path: str) -> None:
        """Read a short error page to its end and release its connection for the next request."""
        pace = Pace(self._limits, asyncio.get_running_loop().time())
        while await self._read(response, pace, path):
            pass
        response.release()

    def _check_range(self, response: aiohttp.ClientResponse, path: str, first: int, body: Body) -> None:
        value = response.headers.get("Content-Range", "")
        found = parse_content_range(value)
        if found is None or (found[0].start, found[0].stop, found[1]) != (first, body.stop, body.total):
            raise self._fault(
                f"{path}: Content-Range {value[:80]!r} where bytes {first}-{body.stop - 1}/{body.total} were asked for",
                "返回的区间与请求不符",
            )

    def _check_length(self, response: aiohttp.ClientResponse, path: str, wanted: int | None, limit: int) -> None:
        length = response.content_length
        if length is None or (length == wanted if wanted is not None else length <= limit):
            return
        least = f"{wanted} were" if wanted is not None else f"at most {limit} were"
        raise self._fault(f"{path}: {length} bytes where {least} expected", "返回的内容不是所请求的内容")

    def _too_long(self, path: str) -> TransferError:
        return self._fault(f"{path}: the body is longer than expected", "返回的内容过长")

    def _fault(self, text: str, zh: str) -> TransferError:
        return TransferError(f"{self.url}{text}", zh=f"上游 {self.url}：{zh}")


async def _timed(arrived: Arrived, body: Body, pace: Pace) -> None:
    loop = asyncio.get_running_loop()
    began_s = loop.time()
    await arrived(body)
    pace.pause(loop.time() - began_s)


def blob_path(digest: Digest | str) -> str:
    """Path of a blob on any upstream."""
    return f"/blobs/{digest}"


def pieces_path(digest: Digest) -> str:
    """Path of the bits that tell which pieces of a blob an edge has."""
    return f"/pieces/{digest}"


@asynccontextmanager
async def open_upstreams(
    urls: tuple[str, ...],
    limits: Limits,
    ca_file: str = "",
    count: Count | None = None,
    *,
    are_siblings: bool = False,
    places: tuple[str, ...] = (),
) -> AsyncIterator[tuple[Upstream, ...]]:
    """Open connections for all upstreams of a run and close them at the end.

    Args:
        urls: base addresses.
        limits: of each request.
        ca_file: certificate authorities for https, beside the system's.
        count: told of what arrives.
        are_siblings: they are asked for what they have, and not to fetch anything for us.
        places: to which they may redirect requests for blobs, each `host` or `host:port`.

    Raises:
        ConfigurationError: `ca_file` cannot be read, or holds no certificate.
    """
    asked = (*urls, *(f"https://{place}" for place in places))
    async with open_sessions(asked, limits, ca_file, are_siblings=are_siblings) as sessions:
        yield tuple(Upstream(url, sessions, limits, count, places) for url in dict.fromkeys(urls))
