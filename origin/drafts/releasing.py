"""Releasing drafts: one after another, in one process of all, begun anew where a killed one stopped.

What is to be done stands in the database: drafts in state `publishing` whose hour has come. A draft has one courseware
id for ever, and publishing what is offered already changes nothing, so a release that was cut off after it landed is
found again and not made twice.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import structlog
from sqlalchemy import exists, or_, select, update

from manifests.errors import BusyError, ConfigurationError, InputError, NotFoundError, YuanjiaoError
from manifests.instants import Instant
from manifests.model import Courseware
from origin.chores import keep_doing
from origin.database.audit import Change, note_change
from origin.database.engine import reading, writing
from origin.database.library import newest_release
from origin.database.offerings import trials
from origin.database.tables_drafts import draft_notes, drafts, uploads
from origin.drafts.gather import Sources, audience_of, courseware_id_of, gather
from origin.drafts.lifecycle import ORIGIN, Standing, State, Step, Who, plan_step
from origin.drafts.rows import Draft, read_draft, read_notes
from origin.drafts.shelf import ElsewhereError
from origin.drafts.store import Drafts, StaleError, add_note
from origin.metrics import Metrics
from origin.publish.cities import check_city_may_publish
from origin.publish.failpoints import reach
from origin.publish.lock import publish_lock
from origin.publish.publish import Publishing
from origin.publish.release import Released
from origin.publish.sharing import Sharing

LOOK_S: Final = 10.0
LEASE: Final = "drafts"
_BEGIN: Final = "begin"
_KEYS: Final = (
    "the key that signs the catalog is not on this machine, or is under a passphrase",
    "目录签名密钥不在本机，或设有口令",
)

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Progress:
    """How far the release of a draft is: what is being done, and bytes of bytes."""

    stage: str
    done: int
    total: int


class Releasing:
    """Carries out the releases of drafts.

    Args:
        store: the drafts.
        publishing: what publishing is done with.
        sources: where files come from.
        lock: held by the one process of this directory that does this.
        metrics: counts what came of them.
        sharing: how several machines take turns; None where there is one.
    """

    def __init__(
        self,
        store: Drafts,
        publishing: Publishing,
        sources: Sources,
        lock: Path,
        sharing: Sharing | None,
        metrics: Metrics,
    ) -> None:
        self._store = store
        self._publishing = publishing
        self._sources = sources
        self._lock = lock
        self._sharing = sharing
        self._metrics = metrics
        self._wake = asyncio.Event()
        self._progress: dict[int, Progress] = {}

    def wake(self) -> None:
        """There may be something to do."""
        self._wake.set()

    def progress_of(self, number: int) -> Progress | None:
        """How far a draft is; None when this process is not at it."""
        return self._progress.get(number)

    async def run(self, every_s: float = LOOK_S) -> None:
        """Look for drafts whose hour has come, until cancelled."""
        await self._forget_frames()
        await keep_doing("release of drafts", self.run_due, every_s, woken=self._wake)

    async def run_due(self) -> int:
        """Release every draft whose hour has come; returns how many were looked at.

        Raises:
            BusyError: environment; another process is at it.
            StorageError: environment.
        """
        count = 0
        passed: set[int] = set()
        async with self._turn():
            while (draft := await self._next(passed)) is not None:
                passed.add(draft.id)
                count += 1
                await self._release(draft)
        return count

    async def release_now(self, number: int) -> Draft:
        """Release one draft that was approved, whatever its hour, by the word of whoever has this machine.

        Raises:
            NotFoundError: bad data; there is no such draft.
            StaleError: bad data; it is not approved.
            InputError: bad data; it could not be released, for the reason that its notes say.
            BusyError: environment; another process is at it.
            StorageError: environment.
        """
        async with self._turn():
            await self._release(await self._order(number))
            async with reading(self._store.engine) as connection:
                draft, notes = await read_draft(connection, number), await read_notes(connection, number)
        if draft is None or draft.state is not State.RELEASED:
            why = notes[-1].text if notes else ""
            raise InputError(f"draft {number} was not released: {why}"[:500], zh=f"稿件 {number} 未能发布：{why}"[:500])
        return draft

    async def _order(self, number: int) -> Draft:
        now = self._store.clock()
        async with writing(self._store.engine) as connection:
            draft = await read_draft(connection, number)
            if draft is None:
                raise NotFoundError(f"there is no draft {number}", zh=f"没有编号为 {number} 的稿件")
            standing = Standing(draft.state, draft.revision, draft.author.id, draft.editor.id, draft.publish_at)
            plan = plan_step(standing, Step.RELEASE, Who(0, may_publish=True), now)
            if plan.to is None:
                raise StaleError(plan.reason, zh=plan.reason_zh)
            values = {"state": plan.to, "publish_at": None}
            await connection.execute(update(drafts).where(drafts.c.id == number).values(**values))
            await add_note(connection, draft, now, None, Step.RELEASE, "")
            before, after = {"state": draft.state}, {"state": str(plan.to)}
            change = Change("draft.release", "", draft.region, str(number), before=before, after=after)
            await note_change(connection, now, change)
        return replace(draft, state=State.PUBLISHING, publish_at=None)

    @asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        async with publish_lock(self._lock, 0):
            if self._sharing is None:
                yield
                return
            async with self._sharing.lease(0, LEASE):
                yield

    async def _next(self, passed: set[int]) -> Draft | None:
        now = self._store.clock()
        is_due = or_(drafts.c.publish_at.is_(None), drafts.c.publish_at <= now)
        query = select(drafts.c.id).where(drafts.c.state == State.PUBLISHING, is_due, drafts.c.id.not_in(passed))
        async with reading(self._store.engine) as connection:
            query = query.order_by(drafts.c.publish_at, drafts.c.changed_at, drafts.c.id).limit(1)
            number = (await connection.execute(query)).scalar_one_or_none()
            return None if number is None else await read_draft(connection, number)

    async def _release(self, draft: Draft) -> None:
        """Publish one draft and write down what came of it."""
        folder = self._publishing.staging / f"draft-{draft.id}"
        self._progress[draft.id] = Progress("", 0, 0)
        try:
            done = await self._landed(draft) or await self._publish(draft, folder)
            reach("draft:published")
            await self._finish(draft, done)
            self._metrics.count("draft_releases", outcome="released")
            log.info("draft_released", draft=draft.id, id=done.id, version=done.version)
        except (BusyError, ElsewhereError) as error:
            # Not its fault: it stays due.
            self._metrics.count("draft_releases", outcome="waits")
            log.warning("draft_waits", draft=draft.id, reason=error.message)
        except ConfigurationError as error:
            log.warning("draft_not_released", draft=draft.id, reason=error.message)
            has_keys = await self._publishing.releases.can_sign(draft.city or "")
            await self._fail(draft, *((error.family, error.family_zh) if has_keys else _KEYS))
        except InputError as error:
            log.info("draft_not_released", draft=draft.id, reason=error.message)
            await self._fail(draft, error.message, error.zh)
        except YuanjiaoError as error:
            log.exception("draft_not_released", draft=draft.id, reason=error.message)
            await self._fail(draft, error.family, error.family_zh)
        except Exception:  # a fault of ours in one draft must not keep the others from going out
            log.exception("draft_not_released", draft=draft.id)
            await self._fail(draft, YuanjiaoError.family, YuanjiaoError.family_zh)
        finally:
            self._progress.pop(draft.id, None)
            await asyncio.to_thread(shutil.rmtree, folder, True)

    async def _publish(self, draft: Draft, folder: Path) -> Released:
        check_city_may_publish(await self._publishing.releases.rights(), draft.city or "")
        await self._publishing.releases.check_ready(draft.city or "")
        await self._begin(draft)
        base = await self._base(draft)
        await asyncio.to_thread(shutil.rmtree, folder, True)
        await asyncio.to_thread(folder.mkdir)
        request = await gather(draft, base, self._sources, folder)
        reach("draft:gathered")

        def told(stage: str, done: int, total: int) -> None:
            self._progress[draft.id] = Progress(stage, done, total)

        return await self._publishing.publish(request, told)

    async def _base(self, draft: Draft) -> Courseware | None:
        """The version that it revises, as it was reviewed against.

        Raises:
            InputError: bad data; another version is offered by now, or none.
        """
        current = await self._publishing.releases.current(courseware_id_of(draft))
        if (current.version if current else None) != draft.base_version:
            raise InputError(
                "another version was published since this one was handed in for review",
                zh="提交审核后，该课件已发布了其他版本，请重新提交审核",
            )
        return current

    async def _landed(self, draft: Draft) -> Released | None:
        """What an earlier attempt has published already, as a crash before the last line leaves it."""
        id_ = courseware_id_of(draft)
        current = await self._publishing.releases.current(id_)
        async with reading(self._store.engine) as connection:
            trial = (await trials(connection, [id_])).get(id_)
        if trial is not None and trial.tried is not None:
            current = trial.tried  # it went to some regions first
        if current is None or current.version <= (draft.base_version or 0) or not _says(current, draft):
            return None
        async with reading(self._store.engine) as connection:
            begun = exists().where(
                draft_notes.c.draft == draft.id,
                draft_notes.c.kind == _BEGIN,
                draft_notes.c.revision == draft.revision,
            )
            is_ours = bool((await connection.execute(select(begun))).scalar_one())
            newest = await newest_release(connection, draft.city or "")
        return Released(id_, current.version, newest.catalog_version, current.files) if is_ours and newest else None

    async def _begin(self, draft: Draft) -> None:
        async with writing(self._store.engine) as connection:
            await add_note(connection, draft, self._store.clock(), None, _BEGIN, "")

    async def _finish(self, draft: Draft, done: Released) -> None:
        values = {"courseware": done.id, "version": done.version, "catalog_version": done.catalog_version}
        text = f"{done.id} · {done.version}"
        await self._settle(draft, Step.FINISH, values, text, values)

    async def _fail(self, draft: Draft, reason: str, reason_zh: str) -> None:
        self._metrics.count("draft_releases", outcome="failed")
        both = reason_zh if reason == reason_zh else f"{reason_zh} / {reason}"
        await self._settle(draft, Step.FAIL, {}, both[:2000], {"why": reason[:200]})

    async def _settle(self, draft: Draft, step: Step, values: dict[str, Any], text: str, after: dict[str, Any]) -> None:
        now = self._store.clock()
        standing = Standing(draft.state, draft.revision, draft.author.id, draft.editor.id, draft.publish_at)
        plan = plan_step(standing, step, ORIGIN, now)
        values = values | {"state": plan.to} | ({"publish_at": None} if step is Step.FAIL else {})
        is_at = (drafts.c.id == draft.id) & (drafts.c.state == State.PUBLISHING)
        async with writing(self._store.engine) as connection:
            done = await connection.execute(update(drafts).where(is_at).values(**values))
            if done.rowcount == 1:
                await add_note(connection, draft, now, None, step, text)
                change = Change(f"draft.{step}", "", draft.region, str(draft.id), after=after)
                await note_change(connection, now, change)

    async def _forget_frames(self) -> None:
        try:
            async with reading(self._store.engine) as connection:
                known = set((await connection.execute(select(uploads.c.id))).scalars())
            await asyncio.to_thread(self._sources.frames.forget_but, known)
        except YuanjiaoError as error:
            log.warning("frames_not_cleared", reason=error.message)


def _says(item: Courseware, draft: Draft) -> bool:
    """Tell whether what is offered says what the draft says."""
    words = draft.document
    told = (item.title, item.summary, item.priority, item.expires, tuple(item.audience), item.tags)
    meant = (words.title, words.summary, words.priority, words.expires, tuple(sorted(audience_of(draft))), words.tags)
    return told == meant


def due_in(publish_at: Instant | None, now: Instant) -> int:
    """Seconds until a draft's hour; 0 when it has come."""
    return max(0, publish_at - now) if publish_at is not None else 0
