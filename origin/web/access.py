"""The origin's access log: an event for each request, among the others of this program.

160 edges and some consoles ask little, so it needs no file of its own; the log's own form escapes what a client sent,
and takes secrets out of it.
"""

from __future__ import annotations

import structlog
from aiohttp import hdrs, web
from aiohttp.abc import AbstractAccessLogger

# Longer texts are cut: a line stays a line.
MOST_TEXT = 1024

log = structlog.get_logger(__name__)


class RequestLog(AbstractAccessLogger):
    """Logs requests that have ended; aiohttp makes one for each connection."""

    def log(self, request: web.BaseRequest, response: web.StreamResponse, time: float) -> None:
        """Log one; the bytes are those that were promised, whether or not the client took them all."""
        # aiohttp gives a request that it could not read this method.
        is_readable = request.method != "UNKNOWN"
        log.info(
            "request",
            address=request.remote,
            method=request.method if is_readable else None,
            target=request.raw_path[:MOST_TEXT] if is_readable else None,
            status=response.status,
            bytes=response.content_length or 0,
            seconds=round(time, 6),
            agent=request.headers.get(hdrs.USER_AGENT, "")[:MOST_TEXT],
        )
