"""Running the HTTP side: limits, silence of headers, a stop that lets answers end.

aiohttp closes idle connections only after their first request, so one that never asks anything would stay for ever;
the watch here closes it. An edge sends a few short header fields, hence the small limits.
"""

from __future__ import annotations

import asyncio
import errno
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

import structlog
from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from manifests.errors import ConfigurationError, YuanjiaoError
from origin.metrics import Metrics
from origin.settings import Serve
from origin.web.access import RequestLog

MAX_LINE_BYTES = 4096
MAX_FIELD_BYTES = 4096
MAX_BODY_BYTES = 1024  # nothing here takes a body
FIRST_REQUEST_S = 20.0

_LISTEN_ZH = {
    errno.EADDRINUSE: "端口已被其他程序占用",
    errno.EADDRNOTAVAIL: "不是本机的地址",
    errno.EACCES: "没有权限（1024 以下的端口需要管理员权限）",
}

log = structlog.get_logger(__name__)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


ASKED: web.AppKey[set[object]] = web.AppKey("asked")
"""Connections that have asked something."""


def new_application() -> web.Application:
    """An application with the manners of this server."""
    asked: set[object] = set()

    @web.middleware
    async def tell_errors(request: web.Request, handler: Handler) -> web.StreamResponse:
        asked.add(request.protocol)
        try:
            return await handler(request)
        except YuanjiaoError as error:
            # Details may name paths of this machine; whoever asks over the network gets the family only.
            log.warning("request_failed", path=request.path, family=error.family, reason=error.message)
            return web.Response(status=error.http_status, text=f"{error.family}\n")

    async def shorten(_request: web.Request, response: web.StreamResponse) -> None:
        response.headers.popall("Server", None)

    app = web.Application(middlewares=[tell_errors], client_max_size=MAX_BODY_BYTES)
    app[ASKED] = asked
    app.on_response_prepare.append(shorten)
    return app


class _OurFaultsOnly(logging.Filter):
    """A request that cannot be read gets its 400; a traceback for each would let anybody fill the log."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Keep what is not the client's fault."""
        return not (record.exc_info and isinstance(record.exc_info[1], HttpProcessingError))


_OUR_FAULTS_ONLY = _OurFaultsOnly()


@asynccontextmanager
async def running(
    app: web.Application,
    host: str,
    port: int,
    settings: Serve,
    metrics: Metrics,
    first_request_s: float = FIRST_REQUEST_S,
) -> AsyncIterator[int]:
    """Listen; gives the port. At the end, answers under way get `shutdown_s` to finish.

    Raises:
        ConfigurationError: environment; the address cannot be listened on.
    """
    reports = logging.getLogger(__name__)  # aiohttp takes a logger of the standard library only
    reports.addFilter(_OUR_FAULTS_ONLY)
    runner = web.AppRunner(
        app,
        access_log=reports if settings.access_log else None,
        access_log_class=RequestLog,
        logger=reports,
        keepalive_timeout=settings.keepalive_s,
        shutdown_timeout=settings.shutdown_s,
        max_line_size=MAX_LINE_BYTES,
        max_field_size=MAX_FIELD_BYTES,
    )
    await runner.setup()
    try:
        try:
            await web.TCPSite(runner, host, port, backlog=512).start()
        except OSError as error:
            raise ConfigurationError(
                f"cannot listen on {host}:{port}: {error.strerror or error}",
                zh=f"无法监听 {host} 端口 {port}：{_LISTEN_ZH.get(error.errno or 0, '地址无法识别')}",
                hint="choose another port (--port) or stop the program that holds it",
                hint_zh="请换一个端口（--port）或停止占用该端口的程序",
            ) from error
        watch = asyncio.create_task(_close_silent(runner, metrics, first_request_s))
        try:
            yield runner.addresses[0][1]
        finally:
            watch.cancel()
            with suppress(asyncio.CancelledError):
                await watch
    finally:
        await runner.cleanup()


async def _close_silent(runner: web.AppRunner, metrics: Metrics, wait_s: float) -> None:
    """Close connections that have asked nothing from one look to the next."""
    asked = runner.app[ASKED]
    silent: set[object] = set()
    while runner.server is not None:
        connections = runner.server.connections
        asked.intersection_update(connections)
        for connection in connections:
            if connection in silent and connection not in asked:
                connection.force_close()
                metrics.count("idle_closed")
        silent = set[object](connections) - asked
        await asyncio.sleep(wait_s)
