"""The door for uploads: who may begin one, whose it is, what becomes of those that nobody wants any more."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import structlog
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from manifests.errors import DeniedError, InputError, NotFoundError, StorageFullError
from manifests.instants import Instant
from manifests.names import parse_file_name
from origin.accounts.people import Actor
from origin.accounts.permissions import Action
from origin.chores import keep_doing
from origin.clock import Clock
from origin.database.audit import note_change
from origin.database.engine import reading, writing
from origin.drafts import uploads
from origin.drafts.admission import Held, Limits, plan_admission
from origin.drafts.shelf import Shelf
from origin.drafts.uploads import Upload, UploadId

_STRANGER_S: Final = 86400.0  # an upload is on the disk before it is in the database; never for so long
_SWEEP_S: Final = 3600.0

log = structlog.get_logger(__name__)


class TooMuchError(InputError):
    """The file is longer than is taken here, or beyond the quota."""

    http_status = 413


class InUseError(InputError):
    """A draft is made of it."""

    http_status = 409


@dataclass(frozen=True, slots=True)
class Terms:
    """What the settings say of uploads.

    Attributes:
        kept_s: an upload that no draft uses is kept for so long.
        probe_s: looking into a file may take so long.
    """

    limits: Limits
    kept_s: int
    probe_s: float


def may_upload(actor: Actor) -> bool:
    """Tell whether somebody may hand files in at all."""
    region = actor.account.region
    return actor.may(Action.DRAFTS_WRITE, region) or actor.may(Action.LESSONS_PUBLISH, region)


def may_see(actor: Actor, upload: Upload) -> bool:
    """Tell whether somebody may see an upload: their own, or one that they may be asked to review."""
    is_own = upload.account == actor.account.id and may_upload(actor)
    return is_own or actor.may(Action.DRAFTS_REVIEW, upload.region)


class Intake:
    """Begins, finds and ends uploads.

    Args:
        engine: the database.
        clock: where now comes from.
        folder: the directory of uploads; made when it is first used.
        terms: limits and times.
    """

    def __init__(self, engine: AsyncEngine, clock: Clock, folder: Path, terms: Terms) -> None:
        self.engine = engine
        self.clock = clock
        self.terms = terms
        self.shelf = Shelf(folder)

    async def begin(self, actor: Actor, name: str, size_bytes: int) -> Upload:
        """Let a file in, or refuse it before its first byte.

        Raises:
            DeniedError: caller's mistake; they may not hand files in.
            InputError: bad data; a name that is refused, or an empty file.
            TooMuchError: bad data; the file or the account's files are over a limit.
            StorageFullError: environment; the disk has no room for it.
        """
        if not may_upload(actor):
            raise DeniedError("handing in files is not yours", zh="没有上传文件的权限")
        checked = parse_file_name(name)
        now = self.clock()
        upload = Upload(
            id=UploadId(secrets.token_hex(16)),
            account=actor.account.id,
            region=actor.account.region,
            name=checked,
            size_bytes=size_bytes,
            received_bytes=0,
            state="receiving",
            digest=None,
            place=self.shelf.place,
            finding=None,
            reason="",
            reason_zh="",
            created_at=now,
            touched_at=now,
        )
        # A writer's turn: of two that are begun at once, the second sees what the first will need.
        async with writing(self.engine) as connection:
            await self._admit(connection, upload)
            await uploads.add_upload(connection, upload)
            after = {"name": checked, "size_bytes": size_bytes}
            await note_change(connection, now, actor.did("upload.begin", upload.region, upload.id, after=after))
            await asyncio.to_thread(self.shelf.make, upload)
        return upload

    async def _admit(self, connection: AsyncConnection, upload: Upload) -> None:
        files, account_bytes = await uploads.held_by(connection, upload.account)
        promised = await uploads.promised(connection, self.shelf.place)
        free = await asyncio.to_thread(self.shelf.free_bytes)
        plan = plan_admission(upload.size_bytes, Held(files, account_bytes, promised, free), self.terms.limits)
        match plan.verdict:
            case "admitted":
                return
            case "disk":
                raise StorageFullError(plan.reason, zh=plan.reason_zh)
            case "empty":
                raise InputError(plan.reason, zh=plan.reason_zh)
        raise TooMuchError(
            plan.reason,
            zh=plan.reason_zh,
            hint="delete uploads that are no longer needed, or ask the province",
            hint_zh="请删除不再需要的上传文件，或联系省级管理员",
        )

    async def find(self, actor: Actor, id_: str) -> Upload:
        """An upload that the actor may see.

        Raises:
            NotFoundError: bad data; there is none, or it is not theirs to see, which is not told.
        """
        async with reading(self.engine) as connection:
            found = await uploads.get_upload(connection, id_)
        if found is None or not may_see(actor, found):
            raise _unknown()
        return found

    async def find_own(self, actor: Actor, id_: str) -> Upload:
        """An upload of the actor's own.

        Raises:
            NotFoundError: bad data; there is none, or it is somebody else's, which is not told.
        """
        async with reading(self.engine) as connection:
            found = await uploads.get_upload(connection, id_)
        if found is None or found.account != actor.account.id or not may_upload(actor):
            raise _unknown()
        return found

    async def drop(self, actor: Actor, id_: str) -> None:
        """Remove an upload of the actor's own.

        Raises:
            NotFoundError: bad data; there is none, or it is somebody else's.
            InUseError: bad data; a draft is made of it.
        """
        upload = await self.find_own(actor, id_)
        async with writing(self.engine) as connection:
            if not await uploads.forget(connection, upload.id):
                raise InUseError("a draft is made of this upload", zh="该文件正用于稿件，不能删除")
            before = {"name": upload.name, "size_bytes": upload.size_bytes, "sha256": upload.digest}
            change = actor.did("upload.delete", upload.region, upload.id, before=before)
            await note_change(connection, self.clock(), change)
        if upload.place == self.shelf.place:
            await asyncio.to_thread(self.shelf.remove, upload.id)

    def expires_at(self, upload: Upload) -> Instant:
        """When it is given up unless something comes, or a draft uses it."""
        return Instant(upload.touched_at + self.terms.kept_s)

    async def sweep(self, wall: Callable[[], float] = time.time) -> int:
        """Give up uploads that nobody wants any more, and bytes that nobody knows; returns how many.

        Raises:
            StorageError: environment.
        """
        now = self.clock()
        before, elsewhere = Instant(now - self.terms.kept_s), Instant(now - 3 * self.terms.kept_s)
        async with writing(self.engine) as connection:
            known = await uploads.all_ids(connection, self.shelf.place)
            stale = await uploads.list_stale(connection, self.shelf.place, before, elsewhere)
            gone = [one.id for one in stale if await uploads.forget(connection, one.id)]
        # The disk's own time for the disk's own stamps.
        strangers = await asyncio.to_thread(self.shelf.strangers, known, wall() - _STRANGER_S)
        for id_ in (*gone, *strangers):
            await asyncio.to_thread(self.shelf.remove, id_)
        return len(gone) + len(strangers)

    async def keep_swept(self) -> None:
        """Sweep now and every hour, until cancelled."""

        async def sweep() -> None:
            count = await self.sweep()
            if count:
                log.info("uploads_expired", count=count)

        await keep_doing("sweep of uploads", sweep, _SWEEP_S)


def _unknown() -> NotFoundError:
    return NotFoundError("there is no such upload", zh="没有这个上传文件，可能已过期或已删除")
