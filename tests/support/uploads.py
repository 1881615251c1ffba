"""A client that speaks tus 1.0.0, one request at a time, so that a test can go wrong wherever it wants to."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
from support.console import PROVINCE, Browser, Console, console_at
from yarl import URL

from origin.accounts.permissions import Role
from origin.app import _upload_terms
from origin.drafts.intake import Intake

OCTETS = "application/offset+octet-stream"
TUS = {"Tus-Resumable": "1.0.0"}
ROUNDS = 600


@dataclass(frozen=True)
class Told:
    """An answer."""

    status: int
    headers: dict[str, str]
    text: str

    @property
    def offset(self) -> int:
        """Where the upload stands."""
        return int(self.headers["Upload-Offset"])


@dataclass(frozen=True)
class Sender:
    """Somebody who sends files: with a session's cookie, or with a token."""

    session: aiohttp.ClientSession
    base: str
    token: str = ""

    def fields(self, more: dict[str, str]) -> dict[str, str]:
        """Header fields of a page of ours, or of a script."""
        own = {"Authorization": f"Bearer {self.token}"} if self.token else {"Origin": self.base}
        return {**TUS, **own, **more}

    async def ask(self, method: str, path: str, data: Any = None, **more: str) -> Told:
        """One request, with `Upload_Offset="0"` for header fields."""
        named = self.fields({name.replace("_", "-"): value for name, value in more.items()})
        url = URL(self.base + path, encoded=True)
        async with self.session.request(method, url, data=data, headers=named) as answer:
            return Told(answer.status, dict(answer.headers), await answer.text())

    async def create(self, name: str, size: int) -> Told:
        """Begin an upload."""
        told = base64.b64encode(name.encode()).decode()
        metadata = f"filename {told}"
        return await self.ask("POST", "/api/v1/uploads", Upload_Length=str(size), Upload_Metadata=metadata)

    async def begin(self, name: str, size: int) -> str:
        """Begin an upload that is let in; gives its path."""
        told = await self.create(name, size)
        assert told.status == 201, told
        return told.headers["Location"]

    async def head(self, path: str) -> Told:
        """Where it stands."""
        return await self.ask("HEAD", path)

    async def send(self, path: str, offset: int, data: bytes | AsyncIterable[bytes], **more: str) -> Told:
        """Send bytes."""
        return await self.ask("PATCH", path, data, Upload_Offset=str(offset), Content_Type=OCTETS, **more)

    async def whole(self, name: str, data: bytes) -> str:
        """Send a whole file; gives its path."""
        path = await self.begin(name, len(data))
        told = await self.send(path, 0, data)
        assert told.status == 204, told
        return path

    async def look(self, path: str) -> dict[str, Any]:
        """What the API says of it."""
        told = await self.ask("GET", path)
        assert told.status == 200, told
        found: dict[str, Any] = json.loads(told.text)
        return found

    async def checked(self, path: str) -> dict[str, Any]:
        """Wait until it was looked into."""
        for _ in range(ROUNDS):
            found = await self.look(path)
            if found["state"] in {"ready", "refused"}:
                return found
            await asyncio.sleep(0.05)
        raise AssertionError(found)


def sender(browser: Browser, token: str = "") -> Sender:
    """Somebody who is signed in, or a script with a token."""
    return Sender(browser.session, browser.base, token)


async def make_token(browser: Browser, *scopes: str) -> str:
    """A token of somebody who is signed in."""
    fields = {"name": "脚本", "scopes": " ".join(scopes), "days": 30}
    page = await browser.submit("/console/me", "/console/me/tokens", **fields)
    return page.text.partition('<input readonly value="')[2].partition('"')[0]


async def script_at(
    root: Path, *scopes: str, role: Role = Role.PROVINCE_ADMIN, region: str = PROVINCE, login: str = "script"
) -> str:
    """A token of somebody new at an origin that nobody serves at this moment."""
    async with console_at(root) as console:
        return await make_token(await console.person(login, role, region), *scopes)


def intake_of(console: Console) -> Intake:
    """The door of a running origin, once more, for what the origin does by itself now and then."""
    origin = console.origin
    return Intake(origin.engine, origin.clock, origin.paths.uploads, _upload_terms(origin.settings))
