"""Lessons: lists, one at length with its coverage, and recalling one."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import structlog
from sqlalchemy.engine import Row

from manifests.errors import DeniedError, InputError, NotFoundError, YuanjiaoError
from manifests.instants import Instant, dump_instant
from manifests.model import Courseware
from manifests.names import Region, parse_courseware_id, parse_reason
from origin.accounts.people import Actor
from origin.accounts.permissions import Action
from origin.database import listings
from origin.database.audit import note_change
from origin.database.engine import reading, writing
from origin.database.library import read_document
from origin.stations.coverage import coverage_of
from origin.web.api.models import (
    PAGE,
    ByLesson,
    Lesson,
    LessonFile,
    LessonRecall,
    LessonRow,
    Lessons,
    LessonsWhere,
    LessonVersion,
    RecallBody,
    Recalled,
)
from origin.web.api.operations import Desk, Nothing, Operation
from origin.web.api.texts import instant_text

log = structlog.get_logger(__name__)


class KeysAwayError(InputError):
    """The keys that a release takes are in a drawer, as they should be; somebody must bring them."""

    http_status = 409


async def _list(desk: Desk, _actor: Actor, where: LessonsWhere, _body: Nothing) -> Lessons:
    publisher = ("" if where.publisher == desk.publisher else where.publisher) if where.publisher else None
    wanted = listings.LessonFilter(where.text, where.kind, where.column, where.state, publisher)
    async with reading(desk.engine) as connection:
        rows, total = await listings.list_lessons(connection, wanted, (where.page - 1) * PAGE, PAGE)
        columns = await listings.column_titles(connection)
        cities = await listings.publishers(connection)
    shown = tuple(_row(row, desk.publisher) for row in rows)
    return Lessons(total, where.page, max(1, -(-total // PAGE)), shown, columns, (desk.publisher, *cities))


def _row(row: Row[Any], province: Region) -> LessonRow:
    return LessonRow(
        id=row.courseware,
        version=row.number,
        title=row.title,
        kind=row.kind,
        priority=row.priority,
        duration_s=row.duration_s,
        size_bytes=row.size_bytes,
        published=dump_instant(Instant(row.published_at)),
        expires=instant_text(row.expires_at),
        publisher=row.publisher or province,
    )


async def owner_of_lesson(desk: Desk, id_: str) -> Region:
    """To whom a lesson belongs: the province, or the city whose own it is."""
    return Region(await desk.releases.owner(id_) or desk.publisher)


async def _can_sign(desk: Desk, owner: Region) -> bool:
    """Whether a recall can be signed here: into the owner's catalog, or else into the province's."""
    return (owner != desk.publisher and await desk.releases.can_sign(owner)) or await desk.releases.can_sign()


async def _get(desk: Desk, actor: Actor, where: ByLesson, _body: Nothing) -> Lesson:
    id_ = parse_courseware_id(where.id)
    async with reading(desk.engine) as connection:
        rows = await listings.lesson_versions(connection, id_)
        current = await listings.current_version(connection, id_)
        wanted = where.version or current or (rows[0].number if rows else None)
        chosen = next((row for row in rows if row.number == wanted), None)
        if chosen is None:
            raise NotFoundError(f"there is no lesson {id_!r} of that version", zh=f"没有课件 {id_}（或没有这个版本）")
        files, originals = await listings.lesson_files(connection, id_, chosen.number)
        recalls = await listings.lesson_recalls(connection, id_)
        columns = await listings.column_titles(connection)
    document = await asyncio.to_thread(read_document, chosen.document)
    spread, back = None, None
    if actor.may(Action.EDGES_READ, actor.account.region):
        is_past = where.version is not None and where.version != current
        told = await coverage_of(desk.engine, id_, chosen.number if is_past else None, actor.account.region)
        spread, back = told.spread, told.recall
    owner = await owner_of_lesson(desk, id_)
    may_recall = current is not None and actor.may(Action.LESSONS_RECALL, owner)
    return Lesson(
        id=id_,
        version=chosen.number,
        offered_version=current,
        **_described(document, columns),
        published=document.published,
        expires=document.expires,
        files=_files(files, originals),
        versions=tuple(_version(row) for row in rows),
        recalls=tuple(LessonRecall(row.version, row.reason, dump_instant(Instant(row.at))) for row in recalls),
        coverage=spread,
        recall_coverage=back,
        may_recall=may_recall,
        keys_are_away=may_recall and not await _can_sign(desk, owner),
        publisher=owner,
    )


def _described(document: Courseware, columns: dict[str, str]) -> dict[str, Any]:
    return {
        "title": document.title,
        "kind": document.kind,
        "summary": document.summary,
        "columns": tuple(columns.get(one, one) for one in document.columns),
        "audience": tuple(document.audience),
        "tags": document.tags,
        "credit": document.credit,
        "priority": document.priority,
        "duration_s": document.duration_s,
        "size_bytes": document.size,
    }


def _files(files: Sequence[Row[Any]], originals: Sequence[Row[Any]]) -> tuple[LessonFile, ...]:
    offered = {row.blob for row in files}
    return (
        *(LessonFile(row.role, row.name, row.media_type, row.size_bytes, row.blob) for row in files),
        *(LessonFile("original", "", "", row.size_bytes, row.blob) for row in originals if row.blob not in offered),
    )


def _version(row: Row[Any]) -> LessonVersion:
    at = dump_instant(Instant(row.published_at))
    return LessonVersion(row.number, row.title, at, row.size_bytes, row.catalog_version)


async def _recall(desk: Desk, actor: Actor, where: ByLesson, body: RecallBody) -> Recalled:
    """The wish is written down before it is carried out: a recall that fails half-way still says who wanted it."""
    id_, reason = parse_courseware_id(where.id), parse_reason(body.reason)
    owner = await owner_of_lesson(desk, id_)
    if not actor.may(Action.LESSONS_RECALL, owner):
        raise DeniedError(
            "a lesson is recalled by whoever published it, or by the province",
            zh="课件只能由发布它的一级或省级人员撤回",
        )
    async with reading(desk.engine) as connection:
        current = await listings.current_version(connection, id_)
    if not await _can_sign(desk, owner):
        raise KeysAwayError(
            "the key that signs the catalog is not on this machine, or is under a passphrase",
            zh="目录签名密钥不在本机，或设有口令，控制台无法直接撤回",
            hint=f"on the origin's machine, with the keys: yuanjiao recall {id_} --origin DIR --keys DIR",
            hint_zh=f"请携带密钥，在源站服务器上运行 yuanjiao recall {id_} --origin 目录 --keys 介质目录",
        )
    asked = actor.did("recall.ask", owner, id_, before={"version": current}, after={"reason": reason})
    async with writing(desk.engine) as connection:
        await note_change(connection, desk.clock(), asked)
    try:
        done = await desk.releases.recall(id_, reason)
    except YuanjiaoError as error:
        failed = actor.did("recall.fail", owner, id_, after={"why": error.family})
        async with writing(desk.engine) as connection:
            await note_change(connection, desk.clock(), failed)
        raise
    after = {"version": done.version, "catalog_version": done.catalog_version, "reason": reason}
    async with writing(desk.engine) as connection:
        change = actor.did("recall.done", owner, id_, before={"version": current}, after=after)
        await note_change(connection, desk.clock(), change)
    log.info("recalled", id=id_, by=actor.account.login, catalog_version=done.catalog_version)
    return Recalled(done.id, done.version, done.catalog_version, done.changed)


OPERATIONS = (
    Operation(
        "lessons.list",
        "GET",
        "/lessons",
        "A page of lessons, newest first, found by words in their titles",
        "课件列表，按发布时间倒序，可按标题搜索",
        _list,
        where=LessonsWhere,
        answer=Lessons,
        action=Action.LESSONS_READ,
    ),
    Operation(
        "lessons.get",
        "GET",
        "/lessons/{id}",
        "One lesson: files, versions, recalls, and how far it has come in one's own region",
        "单个课件：文件、版本、撤回记录和本地区覆盖情况",
        _get,
        where=ByLesson,
        answer=Lesson,
        action=Action.LESSONS_READ,
    ),
    Operation(
        "lessons.recall",
        "POST",
        "/lessons/{id}/recall",
        "Recall a lesson: gone within minutes of each edge next hearing from the origin",
        "撤回课件：各边缘下次联系源站后几分钟内即不可见",
        _recall,
        where=ByLesson,
        body=RecallBody,
        answer=Recalled,
        action=Action.LESSONS_RECALL,
    ),
)
