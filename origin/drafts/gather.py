"""A draft's files put side by side under the names that they will have, ready to be published.

Nothing is copied where a second name for the same bytes will do. Publishing only reads what lies here.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import os
import shutil
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Final

from manifests.digests import Digest
from manifests.errors import InputError
from manifests.model import Courseware, File
from manifests.names import CoursewareId, Region, parse_courseware_id, parse_file_name
from origin.drafts.frames import Frames
from origin.drafts.markup import to_markdown
from origin.drafts.owners import home_of
from origin.drafts.rows import Draft
from origin.drafts.shelf import Shelf
from origin.drafts.uploads import Upload
from origin.publish.request import PublishRequest
from origin.storage.base import BlobStorage
from origin.storage.faults import storage_faults

ARTICLE: Final = "article.md"
POSTER: Final = "poster"


@dataclass(frozen=True, slots=True)
class Sources:
    """Where the bytes of drafts come from; `uploads` is the directory of uploads."""

    uploads: Path
    frames: Frames
    storage: BlobStorage

    def path_of(self, upload: Upload) -> Path:
        """The file with an upload's bytes. Blocking, for an instant.

        Raises:
            ElsewhereError: environment; it lies on another machine.
            StorageError: environment.
        """
        return Shelf(self.uploads).path_of(upload)


def courseware_id_of(draft: Draft) -> CoursewareId:
    """The id that a draft is or will be published under: always the same, so that it is published once.

    A city's ids begin with its code.
    """
    if draft.courseware:
        return parse_courseware_id(draft.courseware)
    digest = hashlib.sha256(f"draft {draft.id} of {draft.created_at}".encode()).digest()
    own = f"{draft.city}-" if draft.city else ""
    return CoursewareId(f"{own}kj-" + base64.b32encode(digest).decode("ascii")[:10].lower())


async def gather(draft: Draft, base: Courseware | None, sources: Sources, folder: Path) -> PublishRequest:
    """Put the files of a draft into a directory, which is empty, and say what is to be published.

    Args:
        draft: what is published.
        base: the version that it revises, whose files it may keep.
        sources: where files come from.
        folder: in the file system of the uploads; the caller removes it.

    Raises:
        InputError: bad data; a file that it keeps is not there any more.
        StorageError: environment.
    """
    document = draft.document
    # Of two posters the one that was chosen last counts, and a lesson has no use for the other.
    is_framed = document.poster.startswith("frame-")
    files = [one for one in draft.files if not (is_framed and one.role == "poster")]
    given = {named(one.name, one.role): sources.path_of(draft.uploads[one.upload]) for one in files}
    kept = kept_files(draft, base)
    for name, file in kept.items():
        await _fetch(file, folder / name, sources.storage)
    if is_framed:
        given[f"{POSTER}.jpg"] = await _frame(draft, sources)
    for name, source in given.items():
        await asyncio.to_thread(_link, source, folder / name)
    names = [*kept, *given]
    if document.article:
        name = article_name(base)
        text = to_markdown(document.article)
        await asyncio.to_thread((folder / name).write_text, text + "\n", "utf-8")
        names.append(name)
    return PublishRequest(
        files=tuple(folder / name for name in names),
        title=document.title,
        id=courseware_id_of(draft),
        columns=document.all_columns,
        audience=audience_of(draft),
        priority=document.priority,
        summary=document.summary,
        tags=document.tags,
        expires=document.expires,
        hls=document.hls,
        credit=document.credit,
        publisher=draft.city or "",
        pilot=draft.pilot,
    )


def named(name: str, role: str) -> str:
    """The name that a file is published under: what is the poster is known by its name."""
    return f"{POSTER}{PurePath(name).suffix.lower()}" if role == "poster" else parse_file_name(name)


def article_name(base: Courseware | None) -> str:
    """The name of the article: the one that it has on screens, so that edges fetch only what changed."""
    there = [one.name for one in base.files if one.role == "article"] if base is not None else []
    return there[0] if len(there) == 1 else ARTICLE


def kept_files(draft: Draft, base: Courseware | None) -> Mapping[str, File]:
    """Files of the earlier version that stay, by name; a new file of the same name replaces the old one."""
    document = draft.document
    new = {named(one.name, one.role).casefold() for one in draft.files} | (
        {article_name(base).casefold()} if document.article else set()
    )
    there = {one.name: one for one in base.files} if base is not None else {}
    missing = [name for name in document.kept if name not in there]
    if missing:
        raise InputError(
            f"{missing[0]!a} is not in the version that is offered now",
            zh=f"当前在播版本中没有文件 {missing[0]}",
            hint="look through the files again, then hand the draft in anew",
            hint_zh="请重新核对稿件文件后再提交",
        )
    chosen = {name: there[name] for name in document.kept if name.casefold() not in new}
    has_own_poster = document.poster != "auto"
    return {name: one for name, one in chosen.items() if not (one.role == "poster" and has_own_poster)}


async def _frame(draft: Draft, sources: Sources) -> Path:
    number = int(draft.document.poster.removeprefix("frame-"))
    for one in draft.files:
        upload = draft.uploads[one.upload]
        if upload.finding is not None and upload.finding.kind == "video":
            return (await sources.frames.of(upload.id, sources.path_of(upload)))[number - 1]
    raise InputError("there is no video to take the poster from", zh="没有可截取封面的视频")


async def _fetch(file: File, to: Path, storage: BlobStorage) -> None:
    digest = Digest(file.blob)
    local = storage.local_path(digest)
    if local is not None:
        await asyncio.to_thread(_link, local, to)
        return
    with storage_faults(f"fetching {file.name}"), to.open("wb") as out:
        async for portion in storage.read(digest, 0, file.size):
            await asyncio.to_thread(out.write, portion)


def _link(source: Path, to: Path) -> None:
    with storage_faults(f"gathering {to.name}"):
        # On another file system, or one without links, the bytes are copied.
        with suppress(OSError):
            os.link(source, to)
            return
        shutil.copyfile(source, to)


def audience_of(draft: Draft) -> tuple[Region, ...]:
    """Whom a draft is meant for: when it does not say, its own region, as far as its publisher's word counts there."""
    named = tuple(Region(code) for code in draft.document.audience)
    return named or (home_of(draft.region, draft.city),)
