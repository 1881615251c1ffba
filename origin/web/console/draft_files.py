"""The bytes of a draft's files, for those who may see the draft: played in ranges, and never as a page of ours.

What a stranger handed in is given out under the type that was found in it, only if that is one which shows and does
not act, and with a policy that lets nothing in it run, should a browser think otherwise.
"""

from __future__ import annotations

import asyncio
from io import FileIO
from pathlib import Path
from typing import Final
from urllib.parse import quote

from aiohttp import web

from manifests.digests import Digest, dump_etag
from manifests.errors import NotFoundError
from manifests.model import File
from manifests.ranges import Representation
from origin.drafts.uploads import Upload
from origin.publish.subtitles import MAX_SUBTITLE_BYTES, to_webvtt
from origin.storage.faults import storage_faults
from origin.web.answers import Answerer, Body, Stored
from origin.web.api.draft_releases import first_video
from origin.web.api.drafts import base_of
from origin.web.console.shell import Shell, Visit

_SHOWN: Final = frozenset(
    {
        *("video/mp4", "video/webm", "video/quicktime", "video/x-matroska", "audio/mp4", "audio/mpeg", "audio/wav"),
        *("audio/aac", "audio/flac", "audio/ogg", "video/mpeg", "video/mp2t", "video/ogg"),
        *("image/jpeg", "image/png", "image/webp", "image/gif", "application/pdf", "text/vtt"),
    }
)
_RESOURCE: Final = "drafts"
_POLICY: Final = "default-src 'none'; img-src 'self'; media-src 'self'; style-src 'unsafe-inline'; sandbox"


class DraftFiles:
    """Handlers that give out bytes."""

    def __init__(self, shell: Shell, answerer: Answerer) -> None:
        self._shell = shell
        self._answerer = answerer

    def routes(self) -> list[web.RouteDef]:
        """The routes to add to an application."""
        page = self._shell.page
        return [
            web.get("/console/drafts/{number}/files/{name}", page(self.file)),
            web.get("/console/drafts/{number}/frames/{frame}", page(self.frame)),
        ]

    async def file(self, visit: Visit) -> web.StreamResponse:
        """One file by its name: an upload, or one of the version that the draft revises."""
        draft, _ = await visit.desk.drafts.store.get(visit.actor, _number(visit))
        name = visit.request.match_info["name"]
        for one in draft.files:
            upload = draft.uploads.get(one.upload)
            if one.name == name and upload is not None and upload.state == "ready" and upload.finding is not None:
                return await self._upload(visit, upload, name)
        base = await base_of(visit.desk, draft)
        found = next((one for one in base.files if one.name == name), None) if base is not None else None
        if found is None:
            raise NotFoundError(f"draft {draft.id} has no file {name[:60]!a}", zh="稿件中没有这个文件")
        return await self._stored(visit, found)

    async def frame(self, visit: Visit) -> web.StreamResponse:
        """One of the pictures for the poster."""
        draft, _ = await visit.desk.drafts.store.get(visit.actor, _number(visit))
        video, number = first_video(draft), visit.request.match_info["frame"]
        sources = visit.desk.drafts.sources
        frames = await sources.frames.of(video.id, sources.path_of(video)) if video is not None else ()
        if not number.isascii() or not number.isdigit() or not 1 <= int(number[:3]) <= len(frames):
            raise NotFoundError("there is no such picture", zh="没有这张截图")
        path = frames[int(number[:3]) - 1]
        data = await asyncio.to_thread(path.read_bytes)
        headers = {"Content-Security-Policy": _POLICY, "Cache-Control": "private, max-age=3600"}
        return web.Response(body=data, content_type="image/jpeg", headers=headers)

    async def _upload(self, visit: Visit, upload: Upload, name: str) -> web.StreamResponse:
        path = visit.desk.drafts.sources.path_of(upload)
        finding = upload.finding
        if finding is not None and finding.kind == "subtitle":
            data = await asyncio.to_thread(_webvtt, path)
            what = Representation(
                len(data), dump_etag(Digest(upload.digest or "0" * 64)), "text/vtt", _fields(name, "")
            )
            return await self._answerer.answer(visit.request, _RESOURCE, what, data)
        media_type = finding.media_type if finding is not None else ""
        file = await asyncio.to_thread(_open, path)
        try:
            size = upload.size_bytes
            shown = media_type if media_type in _SHOWN else "application/octet-stream"
            etag = dump_etag(Digest(upload.digest or "0" * 64))
            what = Representation(size, etag, shown, _fields(name, media_type))
            return await self._answerer.answer(visit.request, _RESOURCE, what, file)
        finally:
            file.close()

    async def _stored(self, visit: Visit, file: File) -> web.StreamResponse:
        digest, storage = Digest(file.blob), visit.desk.drafts.sources.storage
        shown = file.media_type if file.media_type in _SHOWN else "application/octet-stream"
        what = Representation(file.size, dump_etag(digest), shown, _fields(file.name, file.media_type))
        path = storage.local_path(digest)
        body: Body = Stored(storage, digest) if path is None else await asyncio.to_thread(_open, path)
        try:
            return await self._answerer.answer(visit.request, _RESOURCE, what, body)
        finally:
            if isinstance(body, FileIO):
                body.close()


def _number(visit: Visit) -> int:
    text = visit.request.match_info["number"]
    if not (text.isascii() and text.isdigit() and len(text) <= 15):
        raise NotFoundError("there is no such draft", zh="没有这份稿件")
    return int(text)


def _fields(name: str, media_type: str) -> tuple[tuple[str, str], ...]:
    """Header fields; a name in RFC 8187's form holds no character that a header could be broken with."""
    # A PDF's reader does not start within a sandbox; it is opened from where the browser put it.
    is_shown = not media_type or (media_type in _SHOWN and media_type != "application/pdf")
    kind = "inline" if is_shown else "attachment"
    return (
        ("Content-Disposition", f"{kind}; filename*=UTF-8''{quote(name, safe='')}"),
        ("Content-Security-Policy", _POLICY),
        ("X-Content-Type-Options", "nosniff"),
        ("Cache-Control", "private, no-cache"),
    )


def _open(path: Path) -> FileIO:
    with storage_faults("opening a draft's file"):
        return FileIO(path)


def _webvtt(path: Path) -> bytes:
    with storage_faults("reading subtitles"), path.open("rb") as file:
        data = file.read(MAX_SUBTITLE_BYTES)
    return data if data.startswith(b"WEBVTT") else to_webvtt(data).encode()
