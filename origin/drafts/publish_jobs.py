"""Publishes that scripts ask for: written down, carried out one after another by this process, resumed after a crash.

Who carries a job out holds a lock on a file of its own, which the kernel gives back when the process dies: then the
next process of the same place begins it again. That makes no second version, because what equals what is offered
changes nothing.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import secrets
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import msgspec
import structlog
from msgspec import Struct
from sqlalchemy import delete, insert, select, update

from manifests.errors import DeniedError, InputError, NotFoundError, YuanjiaoError
from manifests.instants import Instant
from manifests.names import Region, parse_region
from origin.accounts.people import Actor, find_account_by_number
from origin.accounts.permissions import Action
from origin.chores import keep_doing
from origin.database.audit import note_change
from origin.database.engine import reading, writing
from origin.database.tables_jobs import publish_jobs
from origin.drafts import uploads
from origin.drafts.intake import Intake, may_see
from origin.publish.pilot_plan import PilotWish, Terms
from origin.publish.publish import Publishing, PublishRequest
from origin.publish.release import Released
from origin.publish.request import check_request
from origin.publish.together import outlast

State = Literal["waiting", "working", "done", "failed"]

_LOOK_AGAIN_S: Final = 10.0
_TELL_S: Final = 1.0
_KEPT_S: Final = 30 * 86400

log = structlog.get_logger(__name__)


class Wanted(Struct, frozen=True):
    """What is to be published: the words of a request, and the uploads that are its files."""

    uploads: tuple[str, ...]
    title: str
    id: str | None = None
    columns: tuple[str, ...] = ()
    audience: tuple[str, ...] = ()
    priority: int = 5
    summary: str = ""
    tags: tuple[str, ...] = ()
    expires: str | None = None
    hls: bool = True
    credit: str = ""
    publisher: str = ""
    pilot: tuple[tuple[str, ...], ...] = ()
    pilot_terms: Terms = Terms()
    pilot_by: str = ""

    def request(self, files: tuple[Path, ...]) -> PublishRequest:
        """The same as the command line hands it in."""
        waves = tuple(tuple(parse_region(area) for area in wave) for wave in self.pilot)
        return PublishRequest(
            files=files,
            title=self.title,
            id=self.id,
            columns=self.columns,
            audience=self.audience,
            priority=self.priority,
            summary=self.summary,
            tags=self.tags,
            expires=self.expires,
            hls=self.hls,
            credit=self.credit,
            publisher=self.publisher,
            pilot=PilotWish(waves, self.pilot_terms, self.pilot_by) if waves else None,
        )


class JobFile(Struct, frozen=True):
    """A file of what was published."""

    role: str
    name: str
    sha256: str
    size: int
    media_type: str


class JobResult(Struct, frozen=True):
    """What was published: the same as `yuanjiao publish --json` prints."""

    id: str
    version: int
    catalog_version: int
    files: tuple[JobFile, ...]


class JobProblem(Struct, frozen=True):
    """Why it failed, what to do, and the exit status that the command line ends with."""

    error: str
    error_zh: str
    hint: str
    hint_zh: str
    exit_code: int


@dataclass(frozen=True, slots=True)
class Job:
    """One publish that was asked for."""

    id: str
    account: int
    state: State
    place: str
    wanted: Wanted
    stage: str
    done_bytes: int
    total_bytes: int
    result: JobResult | None
    problem: JobProblem | None
    created_at: Instant


class PublishJobs:
    """Takes jobs and carries them out.

    Args:
        intake: where the uploads are.
        publishing: how it is done.
    """

    def __init__(self, intake: Intake, publishing: Publishing) -> None:
        self._intake = intake
        self._engine = intake.engine
        self._clock = intake.clock
        self._publishing = publishing
        self._woken = asyncio.Event()

    async def ask(self, actor: Actor, wanted: Wanted) -> Job:
        """Write a publish down; it begins as soon as those before it are done.

        Raises:
            InputError: bad data; a word that is refused, or an upload that is not ready.
            NotFoundError: bad data; there is no such upload.
        """
        now = self._clock()
        files = await self._files(actor, wanted.uploads)
        head = check_request(wanted.request(files), self._publishing.region, now)
        id_ = secrets.token_hex(16)
        values = {
            "id": id_,
            "account": actor.account.id,
            "state": "waiting",
            "place": self._intake.shelf.place,
            "request": msgspec.json.encode(wanted).decode(),
            "stage": "",
            "done_bytes": 0,
            "total_bytes": 0,
            "created_at": now,
            "touched_at": now,
        }
        after = {"title": head.title, "id": head.id, "uploads": len(wanted.uploads)}
        async with writing(self._engine) as connection:
            await connection.execute(insert(publish_jobs).values(**values))
            await uploads.release(connection, wanted.uploads, now)  # they do not expire before it is their turn
            old = (publish_jobs.c.touched_at < now - _KEPT_S) & publish_jobs.c.state.in_(("done", "failed"))
            await connection.execute(delete(publish_jobs).where(old))
            change = actor.did(
                "publish.ask", Region(head.publisher or self._publishing.region), head.id or id_, after=after
            )
            await note_change(connection, now, change)
        self._woken.set()
        return await self.get(actor, id_)

    async def _files(self, actor: Actor, ids: Sequence[str]) -> tuple[Path, ...]:
        async with reading(self._engine) as connection:
            found = await uploads.get_uploads(connection, ids)
        paths = []
        for id_ in ids:
            one = found.get(id_)
            if one is None or not may_see(actor, one):
                raise NotFoundError(f"there is no upload {id_[:40]!a}", zh="没有这个上传文件，可能已过期或已删除")
            if one.state != "ready":
                raise InputError(
                    f"upload {one.name!a} is {one.state}, not ready: {one.reason}",
                    zh=f"上传文件 {one.name} 尚不可用：{one.reason_zh or '未传完或正在校验'}",
                )
            paths.append(self._intake.shelf.path_of(one))
        return tuple(paths)

    async def get(self, actor: Actor, id_: str) -> Job:
        """One of the actor's own jobs.

        Raises:
            NotFoundError: bad data; there is none, or it is somebody else's.
        """
        async with reading(self._engine) as connection:
            row = (await connection.execute(select(publish_jobs).where(publish_jobs.c.id == id_))).one_or_none()
        if row is None or row.account != actor.account.id:
            raise NotFoundError("there is no such publish", zh="没有这个发布任务")
        return _job_of(row)

    async def run(self) -> None:
        """Carry out what is written down, and what comes, until cancelled."""
        await keep_doing("publish jobs", self._look, _LOOK_AGAIN_S, woken=self._woken)

    async def _look(self) -> None:
        for id_ in await self._open_ones():
            await self._run_alone(id_)

    async def _open_ones(self) -> list[str]:
        mine = (publish_jobs.c.place == self._intake.shelf.place) & publish_jobs.c.state.in_(("waiting", "working"))
        async with reading(self._engine) as connection:
            rows = await connection.execute(
                select(publish_jobs.c.id).where(mine).order_by(publish_jobs.c.created_at, publish_jobs.c.id)
            )
            return list(rows.scalars())

    async def _run_alone(self, id_: str) -> None:
        lock = self._intake.shelf.lock_path(id_)
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            async with reading(self._engine) as connection:
                row = (await connection.execute(select(publish_jobs).where(publish_jobs.c.id == id_))).one_or_none()
            if row is not None and row.state in {"waiting", "working"}:
                await self._run(_job_of(row))
            lock.unlink(missing_ok=True)
        except BlockingIOError:
            return  # another process is at it
        finally:
            os.close(descriptor)

    async def _run(self, job: Job) -> None:
        async with reading(self._engine) as connection:
            account = await find_account_by_number(connection, job.account)
        actor = Actor(account, None, None, "")
        told = _Progress()
        await self._set(job.id, state="working")
        teller = asyncio.create_task(self._keep_told(job.id, told))
        try:
            _check_still_may(actor, Region(job.wanted.publisher or self._publishing.region))
            request = job.wanted.request(await self._files(actor, job.wanted.uploads))
            done = await self._publishing.publish(request, told)
        except YuanjiaoError as error:
            await self._fail(job, actor, error)
        except Exception as error:
            # A fault of ours ends this job, not those after it.
            log.exception("publish_job_broke", job=job.id)
            await self._fail(job, actor, YuanjiaoError(f"{type(error).__name__}"))
        else:
            await outlast(asyncio.ensure_future(self._finish(job, actor, done)))
        finally:
            teller.cancel()
            await asyncio.wait({teller})

    async def _finish(self, job: Job, actor: Actor, done: Released) -> None:
        result = _result_of(done)
        region, now = Region(job.wanted.publisher or self._publishing.region), self._clock()
        after = {"version": done.version, "catalog_version": done.catalog_version, "title": job.wanted.title}
        async with writing(self._engine) as connection:
            values: dict[str, Any] = {"state": "done", "result": msgspec.json.encode(result).decode()}
            await connection.execute(
                update(publish_jobs).where(publish_jobs.c.id == job.id).values(touched_at=now, **values)
            )
            await note_change(connection, now, actor.did("publish.done", region, done.id, after=after))
            # They are in the library now.
            gone = [one for one in job.wanted.uploads if await uploads.forget(connection, one)]
        for id_ in gone:
            await asyncio.to_thread(self._intake.shelf.remove, id_)
        log.info("publish_job_done", job=job.id, id=done.id, version=done.version)

    async def _fail(self, job: Job, actor: Actor, error: YuanjiaoError) -> None:
        log.warning("publish_job_failed", job=job.id, family=error.family, reason=error.message)
        problem, now = _problem_of(error), self._clock()
        async with writing(self._engine) as connection:
            values = {"state": "failed", "problem": msgspec.json.encode(problem).decode(), "touched_at": now}
            await connection.execute(update(publish_jobs).where(publish_jobs.c.id == job.id).values(**values))
            change = actor.did(
                "publish.fail",
                Region(job.wanted.publisher or self._publishing.region),
                job.id,
                after={"why": error.family},
            )
            await note_change(connection, now, change)

    async def _keep_told(self, id_: str, told: _Progress) -> None:
        shown: tuple[str, int, int] | None = None
        while True:
            if told.now != shown:
                shown = told.now
                stage, done, total = shown
                with suppress(YuanjiaoError):
                    await self._set(id_, stage=stage[:300], done_bytes=done, total_bytes=total)
            await asyncio.sleep(_TELL_S)

    async def _set(self, id_: str, **values: Any) -> None:
        async with writing(self._engine) as connection:
            changed = update(publish_jobs).where(publish_jobs.c.id == id_)
            await connection.execute(changed.values(touched_at=self._clock(), **values))


class _Progress:
    """Takes what a publish tells, from whatever thread."""

    def __init__(self) -> None:
        self.now = ("", 0, 0)

    def __call__(self, stage: str, done: int, total: int) -> None:
        self.now = (stage, done, total)


def _check_still_may(actor: Actor, publisher: Region) -> None:
    """Between the asking and the turn, somebody may have been told that this is no longer theirs to do."""
    if actor.account.disabled_at is not None or not actor.may(Action.LESSONS_PUBLISH, publisher):
        raise DeniedError("whoever asked for it may no longer publish", zh="提交者已无发布权限")


def _result_of(done: Released) -> JobResult:
    files = tuple(JobFile(one.role, one.name, one.blob, one.size, one.media_type) for one in done.files)
    return JobResult(done.id, done.version, done.catalog_version, files)


def _problem_of(error: YuanjiaoError) -> JobProblem:
    """What a person did wrong is said; what this machine suffers from, by its family only."""
    if isinstance(error, InputError):
        return JobProblem(error.message, error.zh, error.hint, error.hint_zh, error.exit_code)
    return JobProblem(error.family, error.family_zh, error.default_hint, error.default_hint_zh, error.exit_code)


def _job_of(row: Any) -> Job:
    return Job(
        id=row.id,
        account=row.account,
        state=row.state,
        place=row.place,
        wanted=msgspec.json.decode(row.request, type=Wanted),
        stage=row.stage,
        done_bytes=row.done_bytes,
        total_bytes=row.total_bytes,
        result=None if row.result is None else msgspec.json.decode(row.result, type=JobResult),
        problem=None if row.problem is None else msgspec.json.decode(row.problem, type=JobProblem),
        created_at=Instant(row.created_at),
    )
