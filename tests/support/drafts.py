"""Drafts and their files for tests: uploads as they stand once they are whole and checked."""

from __future__ import annotations

import asyncio
import hashlib
import json
import secrets
from pathlib import Path
from typing import Any

from sqlalchemy import select
from support.console import Browser, Console

from manifests.digests import Digest
from manifests.instants import Instant
from manifests.names import Region
from origin.database.engine import reading, writing
from origin.database.tables import accounts
from origin.drafts.shelf import Shelf
from origin.drafts.uploads import Upload, UploadId, add_upload
from origin.publish.media import probe


async def upload(console: Console, login: str, path: Path, *, name: str = "") -> str:
    """A file that somebody handed in, whole and checked; returns its id."""
    origin = console.origin
    async with reading(origin.engine) as connection:
        account = (await connection.execute(select(accounts).where(accounts.c.login == login))).one()
    data = path.read_bytes()
    found = await probe(path)
    now = Instant(console.clock.now)
    shelf = Shelf(origin.paths.uploads)
    one = Upload(
        id=UploadId(secrets.token_hex(16)),
        account=account.id,
        region=Region(account.region),
        name=name or path.name,
        size_bytes=len(data),
        received_bytes=len(data),
        state="ready",
        digest=Digest(hashlib.sha256(data).hexdigest()),
        place=shelf.place,
        finding=found,
        reason="",
        reason_zh="",
        created_at=now,
        touched_at=now,
    )
    shelf.make(one)
    shelf.path_of(one).write_bytes(data)
    async with writing(origin.engine) as connection:
        await add_upload(connection, one)
    return one.id


async def call(browser: Browser, method: str, path: str, body: Any = None) -> tuple[int, Any]:
    """One call of the API by somebody's session; the status and what came back."""
    headers = {"Origin": browser.base, "Sec-Fetch-Site": "same-origin"}
    url = f"{browser.base}/api/v1{path}"
    async with browser.session.request(method, url, json=body, headers=headers) as answer:
        text = await answer.text()
        return answer.status, json.loads(text) if text else None


async def make_draft(browser: Browser, **document: Any) -> dict[str, Any]:
    """A draft with these words."""
    status, made = await call(browser, "POST", "/drafts", {"title": document.get("title", "小麦春管")})
    assert status == 200, made
    if set(document) - {"title"}:
        return await save(browser, made, **document)
    return made


async def save(browser: Browser, draft: dict[str, Any], **document: Any) -> dict[str, Any]:
    """Change some words of a draft, or its `files` and `publish_at`."""
    status, told = await try_save(browser, draft, **document)
    assert status == 200, told
    return told


async def try_save(browser: Browser, draft: dict[str, Any], **changes: Any) -> tuple[int, Any]:
    """The same, whatever comes of it."""
    files = changes.pop(
        "files", [{"upload": f["upload"], "name": f["name"], "role": f["role"]} for f in draft["files"]]
    )
    publish_at = changes.pop("publish_at", draft["publish_at"])
    body = {"revision": draft["revision"], "files": files, "publish_at": publish_at}
    return await call(
        browser, "PATCH", f"/drafts/{draft['number']}", body | {"document": {**draft["document"], **changes}}
    )


async def step(browser: Browser, draft: dict[str, Any], name: str, reason: str = "") -> tuple[int, Any]:
    """Take a step at the revision that was seen."""
    body = {"step": name, "revision": draft["revision"], "reason": reason}
    return await call(browser, "POST", f"/drafts/{draft['number']}/step", body)


async def get(browser: Browser, draft: dict[str, Any]) -> dict[str, Any]:
    """The draft as it is."""
    status, told = await call(browser, "GET", f"/drafts/{draft['number']}")
    assert status == 200, told
    return told


async def release_due(console: Console) -> int:
    """Have the origin release what is due, once."""
    return await asyncio.wait_for(console.origin.drafts.releasing.run_due(), 120)
