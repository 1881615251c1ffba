"""The connections of one run: those that the kernel tunes, and those that are held back from their first byte on."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

import aiohttp
from aiohttp.abc import AbstractCookieJar

from edge.upstream.progress import Limits
from edge.upstream.tls import tls_of

USER_AGENT = "yuanjiao"
# Above one socket read of asyncio (256 KiB), so that reading is not paused and resumed around each of them.
_READ_BUFFER_BYTES = 1024 * 1024

# Between whoever holds bulk back and whoever makes the socket lies the HTTP client, which passes nothing on.
_WINDOW: ContextVar[int | None] = ContextVar("window_bytes", default=None)


@dataclass(frozen=True, slots=True)
class Sessions:
    """Two pools of connections to the same places, so that a request that is held back never meets a wide buffer.

    A connection's buffer can be made small later, but what was under way by then arrives at the line's full speed.

    Attributes:
        free: for what no gate holds back.
        held: each connection takes in no more at once than it was made for.
    """

    free: aiohttp.ClientSession
    held: aiohttp.ClientSession

    @contextmanager
    def for_window(self, window_bytes: int | None) -> Iterator[tuple[aiohttp.ClientSession, int]]:
        """The session for a request whose connection may have `window_bytes` under way, and how much to buffer."""
        if window_bytes is None:
            yield self.free, _READ_BUFFER_BYTES
            return
        token = _WINDOW.set(window_bytes)
        try:
            yield self.held, min(window_bytes, _READ_BUFFER_BYTES)
        finally:
            _WINDOW.reset(token)


def bound(raw: socket.socket, window_bytes: int) -> bool:
    """Bound what the kernel takes in for a socket; tells whether that changed anything.

    `SO_RCVBUF`, since the kernel's own tuning overrides `TCP_WINDOW_CLAMP`; setting it ends that tuning for good.
    The kernel takes twice what is asked for.
    """
    before = raw.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, window_bytes // 2)
    return raw.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) != before


@asynccontextmanager
async def open_sessions(
    urls: tuple[str, ...], limits: Limits, ca_file: str, fields: tuple[tuple[str, str], ...] = ()
) -> AsyncIterator[Sessions]:
    """Open both and close them at the end; a pool that nobody asks opens no connection.

    Args:
        urls: base addresses.
        limits: of each request.
        ca_file: certificate authorities for https, beside the system's.
        fields: header fields of every request.

    Raises:
        ConfigurationError: `ca_file` cannot be read, or holds no certificate.
    """
    tls = tls_of(urls, ca_file)
    jar = aiohttp.DummyCookieJar()

    def pool(factory: aiohttp.connector.SocketFactoryType | None) -> aiohttp.TCPConnector:
        return aiohttp.TCPConnector(limit=64, ttl_dns_cache=60, keepalive_timeout=30, ssl=tls, socket_factory=factory)

    headers = dict((("User-Agent", USER_AGENT), *fields))
    free_pool, held_pool = pool(None), pool(_make_bounded)
    async with _open(free_pool, limits, jar, headers) as free, _open(held_pool, limits, jar, headers) as held:
        yield Sessions(free, held)


def _open(
    pool: aiohttp.TCPConnector, limits: Limits, jar: AbstractCookieJar, headers: dict[str, str]
) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        connector=pool,
        cookie_jar=jar,
        headers=headers,
        skip_auto_headers=("Accept", "Accept-Encoding"),
        # The read timeout ends a silent wait for an answer early; dripping heads and all bodies have `_request`
        # and `Pace`.
        timeout=aiohttp.ClientTimeout(
            total=None, sock_connect=limits.connect_s, sock_read=max(limits.answer_s, limits.window_s)
        ),
        auto_decompress=False,
        read_bufsize=_READ_BUFFER_BYTES,
        trust_env=False,
    )


def _make_bounded(address: aiohttp.AddrInfoType) -> socket.socket:
    """A socket that announces a small window from its first packet on."""
    family, kind, protocol = address[:3]
    made = socket.socket(family, kind, protocol)
    window_bytes = _WINDOW.get()
    if window_bytes is not None:
        bound(made, window_bytes)
    return made
