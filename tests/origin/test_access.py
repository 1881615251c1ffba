"""The origin's access log: one event for each request when it is wished for, none otherwise."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from io import StringIO

import pytest
import structlog
from aiohttp import web
from support.raw_http import Connection

from origin.metrics import Metrics
from origin.settings import Serve
from origin.web.server import new_application, running
from tools.logs import REDACTED, configure_logs

HOSTILE = 'GET /a?token=abc HTTP/1.1\r\nHost: x\r\nUser-Agent: a"}\x9b\\n\r\n\r\n'


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    root = logging.getLogger()
    before, level = list(root.handlers), root.level
    yield
    root.handlers[:] = before
    root.setLevel(level)
    structlog.reset_defaults()


async def hello(_request: web.Request) -> web.Response:
    return web.Response(text="hello")


async def events_of(*texts: str, is_on: bool) -> list[dict[str, object]]:
    stream = StringIO()
    configure_logs(stream, terminal=False)
    app = new_application()
    app.router.add_get("/a", hello)
    async with running(app, "127.0.0.1", 0, Serve(access_log=is_on), Metrics()) as port:
        for text in texts:
            connection = await Connection.open(port)
            await connection.send(text)
            await connection.reply()
            await connection.close()
    return [event for event in map(json.loads, stream.getvalue().splitlines()) if event["event"] == "request"]


async def test_each_request_is_one_event_without_secrets() -> None:
    events = await events_of(HOSTILE, "GET /nothing HTTP/1.1\r\nHost: x\r\n\r\n", "GET / HTTP/1.1\r\n\r\n", is_on=True)
    assert [event["status"] for event in events] == [200, 404, 400]
    first, _, unreadable = events
    assert (first["address"], first["method"], first["bytes"]) == ("127.0.0.1", "GET", 5)
    assert first["target"] == f"/a?token={REDACTED}"
    assert isinstance(first["seconds"], float)
    assert (unreadable["method"], unreadable["target"]) == (None, None)


@pytest.mark.parametrize("is_on", [False, Serve().access_log])
async def test_it_is_off_unless_wished_for(is_on: bool) -> None:
    assert await events_of(HOSTILE, is_on=is_on) == []
