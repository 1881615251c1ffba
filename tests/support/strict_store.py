"""A guard before a store that speaks S3: it checks signed addresses as such a store would, by a clock of its own.

The test server behind it takes any address. The rules are those of Signature Version 4 in a query.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from urllib.parse import quote

import aiohttp
from aiohttp import web

_SECRET = "not-a-secret"  # of `object_store`


class StrictStore:
    """Passes on what is signed for this host and has not ended.

    Attributes:
        url: its address.
        ahead_s: how far its clock is ahead.
        passed: path and range of what was answered with bytes.
        refused: why others were refused.
    """

    def __init__(self, behind: str) -> None:
        self.url = ""
        self.ahead_s = 0
        self.passed: list[tuple[str, str]] = []
        self.refused: list[str] = []
        self._behind = behind

    @asynccontextmanager
    async def running(self) -> AsyncIterator[StrictStore]:
        """Guard until the block ends."""
        async with aiohttp.ClientSession() as session:

            async def answer(request: web.Request) -> web.Response:
                why = self._fault(request)
                if why:
                    self.refused.append(why)
                    return web.Response(status=403, body=f"<Error><Code>{why}</Code></Error>".encode())
                self.passed.append((request.path, request.headers.get("Range", "")))
                asked = {name: value for name, value in request.headers.items() if name == "Range"}
                async with session.get(self._behind + request.path_qs, headers=asked) as found:
                    body = await found.read()
                    named = {name: value for name, value in found.headers.items() if name == "Content-Range"}
                    return web.Response(status=found.status, headers=named, body=body)

            app = web.Application()
            app.router.add_get("/{name:.*}", answer)
            runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
            await runner.setup()
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
            try:
                yield self
            finally:
                await runner.cleanup()

    def _fault(self, request: web.Request) -> str:
        if "Authorization" in request.headers:
            return "InvalidArgument"  # S3 refuses a request that is signed in two ways
        fields = dict(request.query)
        signature = fields.pop("X-Amz-Signature", "")
        if not signature:
            return "AccessDenied"
        made = datetime.strptime(fields["X-Amz-Date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC).timestamp()
        if datetime.now(UTC).timestamp() + self.ahead_s > made + int(fields["X-Amz-Expires"]):
            return "RequestHasExpired"
        wanted = _sign(request.method, request.path, fields, request.headers["Host"])
        return "" if hmac.compare_digest(wanted, signature) else "SignatureDoesNotMatch"


def _sign(method: str, path: str, fields: dict[str, str], host: str) -> str:
    query = "&".join(f"{quote(name, safe='')}={quote(value, safe='')}" for name, value in sorted(fields.items()))
    canonical = "\n".join((method, quote(path), query, f"host:{host}", "", "host", "UNSIGNED-PAYLOAD"))
    scope = fields["X-Amz-Credential"].partition("/")[2]
    hashed = hashlib.sha256(canonical.encode()).hexdigest()
    text = "\n".join(("AWS4-HMAC-SHA256", fields["X-Amz-Date"], scope, hashed))
    key = b"AWS4" + _SECRET.encode()
    for part in scope.split("/"):
        key = hmac.digest(key, part.encode(), "sha256")
    return hmac.digest(key, text.encode(), "sha256").hex()
