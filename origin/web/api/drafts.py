"""Drafts: lists, one at length, making, saving, steps, comments, what one changes, and the columns there are."""

from __future__ import annotations

from typing import Final

from manifests.errors import FormatError, InputError, NotFoundError
from manifests.instants import Instant, parse_instant
from manifests.model import Courseware
from manifests.names import Region, parse_courseware_id
from origin.accounts.people import Actor
from origin.accounts.permissions import Action
from origin.database.engine import reading
from origin.database.library import known
from origin.database.listings import column_titles
from origin.drafts.document import Document, document_of
from origin.drafts.lifecycle import State, Step
from origin.drafts.revising import read_article_of
from origin.drafts.rows import Draft, DraftFilter, count_states, list_drafts, read_notes, sees_others
from origin.drafts.store import Wanted
from origin.drafts.themes import read_theme
from origin.publish.pilot_plan import PilotWish
from origin.stations.regions import load_regions
from origin.web.api.draft_views import changes_of, row_of, view_of
from origin.web.api.models import PAGE
from origin.web.api.models_drafts import (
    ByDraft,
    ColumnList,
    ColumnRow,
    DraftBody,
    DraftChanges,
    DraftList,
    DraftsWhere,
    DraftView,
    NoteBody,
    SaveBody,
    StepBody,
)
from origin.web.api.operations import Desk, Nothing, Operation
from origin.web.api.pilots import read_waves
from origin.web.api.texts import RegionNames

MOST_DRAFT_BYTES: Final = 2 * 1024 * 1024


async def _list(desk: Desk, actor: Actor, where: DraftsWhere, _body: Nothing) -> DraftList:
    wanted = DraftFilter(
        area=actor.account.region,
        states=(State(where.state),) if where.state else (),
        author=actor.account.id if where.mine or not sees_others(actor) else None,
        source=where.source,
        text=where.text,
        city=where.city,
    )
    async with reading(desk.engine) as connection:
        rows = await list_drafts(connection, wanted, (where.page - 1) * PAGE, PAGE)
        counts = await count_states(connection, wanted)
    total = counts.get(State(where.state), 0) if where.state else sum(counts.values())
    names = RegionNames(load_regions())
    found = tuple(row_of(row, names) for row in rows)
    told = {str(state): count for state, count in counts.items()}
    return DraftList(total, where.page, max(1, -(-total // PAGE)), found, told)


async def _create(desk: Desk, actor: Actor, _where: Nothing, body: DraftBody) -> DraftView:
    region = Region(body.region) if body.region else None
    document, courseware, base_version = Document(title=body.title), None, None
    if body.courseware:
        item = await offered(desk, parse_courseware_id(body.courseware))
        if item is None:
            raise NotFoundError(f"lesson {body.courseware!a} is not offered", zh=f"没有在播课件 {body.courseware}")
        document = await words_of(desk, item)
        courseware, base_version = item.id, item.version
    draft = await desk.drafts.store.create(
        actor, document, region=region, courseware=courseware, base_version=base_version
    )
    return await view(desk, actor, draft.id)


async def _get(desk: Desk, actor: Actor, where: ByDraft, _body: Nothing) -> DraftView:
    return await view(desk, actor, where.number)


async def _save(desk: Desk, actor: Actor, where: ByDraft, body: SaveBody) -> DraftView:
    publish_at = _instant(body.publish_at)
    wanted = Wanted(body.document, body.files, publish_at)
    await desk.drafts.store.save(actor, where.number, body.revision, wanted)
    return await view(desk, actor, where.number)


async def _step(desk: Desk, actor: Actor, where: ByDraft, body: StepBody) -> DraftView:
    goes_out = body.step in {Step.RELEASE, Step.SCHEDULE} and body.pilot
    wish = PilotWish(read_waves(desk, body.pilot), desk.pilot_terms, actor.account.login) if goes_out else None
    draft = await desk.drafts.store.step(actor, where.number, Step(body.step), body.revision, body.reason, wish)
    if draft.state is State.PUBLISHING:
        desk.drafts.releasing.wake()
    return await view(desk, actor, where.number)


async def _comment(desk: Desk, actor: Actor, where: ByDraft, body: NoteBody) -> DraftView:
    await desk.drafts.store.comment(actor, where.number, body.text)
    return await view(desk, actor, where.number)


async def _changes(desk: Desk, actor: Actor, where: ByDraft, _body: Nothing) -> DraftChanges:
    draft, _ = await desk.drafts.store.get(actor, where.number)
    base = await base_of(desk, draft)
    words = await words_of(desk, base) if base is not None else Document()
    return changes_of(draft, base, words)


async def _columns(desk: Desk, _actor: Actor, _where: Nothing, _body: Nothing) -> ColumnList:
    async with reading(desk.engine) as connection:
        titles = await column_titles(connection)
    themes = {id_: read_theme(title) for id_, title in titles.items()}
    return ColumnList(
        tuple(
            ColumnRow(id_, title, theme.month if theme else None, theme.title if theme else None)
            for (id_, title), theme in zip(titles.items(), themes.values(), strict=True)
        )
    )


async def view(desk: Desk, actor: Actor, number: int) -> DraftView:
    """One draft as somebody may see it.

    Raises:
        NotFoundError: bad data; no such draft in the actor's region.
    """
    draft, standing = await desk.drafts.store.get(actor, number)
    async with reading(desk.engine) as connection:
        notes = await read_notes(connection, number)
    base = await base_of(desk, draft)
    store = desk.drafts.store
    may_release = draft.state is State.APPROVED and actor.may(Action.LESSONS_PUBLISH, store.publisher_of(draft))
    away = may_release and not await desk.releases.can_sign(draft.city or "")
    choice = await store.publishers(actor, draft)
    return view_of(desk, actor, draft, standing, notes, base, keys_are_away=away, publishers=choice)


async def base_of(desk: Desk, draft: Draft) -> Courseware | None:
    """What is offered under a draft's id now, which is what it would replace."""
    return await offered(desk, draft.courseware) if draft.courseware else None


async def offered(desk: Desk, id_: str) -> Courseware | None:
    """The document of a lesson that is offered."""
    async with reading(desk.engine) as connection:
        found = (await known(connection, [id_])).get(id_)
    return found.current if found is not None else None


async def words_of(desk: Desk, item: Courseware) -> Document:
    """What an offered lesson says, as a draft would say it."""
    async with reading(desk.engine) as connection:
        titles = await column_titles(connection)
    return document_of(item, titles, await read_article_of(item, desk.drafts.sources.storage))


def _instant(text: str | None) -> Instant | None:
    if text is None:
        return None
    try:
        return parse_instant(text)
    except FormatError as error:
        raise InputError(str(error), zh="发布时间不存在") from error


OPERATIONS = (
    Operation(
        "drafts.list",
        "GET",
        "/drafts",
        "A page of drafts in one's region, the last changed first",
        "本地区稿件列表，按修改时间倒序",
        _list,
        where=DraftsWhere,
        answer=DraftList,
        action=Action.DRAFTS_READ,
    ),
    Operation(
        "drafts.create",
        "POST",
        "/drafts",
        "A new draft, blank or for the next version of an offered lesson",
        "新建稿件，可为空白稿或在播课件的新版本",
        _create,
        body=DraftBody,
        answer=DraftView,
        action=Action.DRAFTS_WRITE,
    ),
    Operation(
        "drafts.get",
        "GET",
        "/drafts/{number}",
        "One draft: words, files, what was said, and what one may do with it",
        "单个稿件：内容、文件、意见和可进行的操作",
        _get,
        where=ByDraft,
        answer=DraftView,
        action=Action.DRAFTS_READ,
    ),
    Operation(
        "drafts.save",
        "PATCH",
        "/drafts/{number}",
        "Save a draft over the revision that was seen; 409 with both versions when somebody saved meanwhile",
        "按所见修订号保存稿件；期间他人已保存时返回 409 和两个版本",
        _save,
        where=ByDraft,
        body=SaveBody,
        answer=DraftView,
        action=Action.DRAFTS_WRITE,
        most_bytes=MOST_DRAFT_BYTES,
    ),
    Operation(
        "drafts.step",
        "POST",
        "/drafts/{number}/step",
        "Hand in, take back, approve, return, reject, drop, release, schedule or hold a draft",
        "提交、撤回、通过、退回、拒绝、作废、发布、定时或暂缓稿件",
        _step,
        where=ByDraft,
        body=StepBody,
        answer=DraftView,
        action=Action.DRAFTS_READ,
    ),
    Operation(
        "drafts.comment",
        "POST",
        "/drafts/{number}/notes",
        "Say something about a draft",
        "对稿件发表意见",
        _comment,
        where=ByDraft,
        body=NoteBody,
        answer=DraftView,
        action=Action.DRAFTS_READ,
    ),
    Operation(
        "drafts.changes",
        "GET",
        "/drafts/{number}/changes",
        "What a draft changes about the version that is offered, field by field and file by file",
        "稿件与在播版本的差异，逐项列出内容和文件",
        _changes,
        where=ByDraft,
        answer=DraftChanges,
        action=Action.DRAFTS_READ,
    ),
    Operation(
        "columns.list",
        "GET",
        "/columns",
        "All columns in their order, with the months' themes",
        "全部专栏（含每月主题），按顺序",
        _columns,
        answer=ColumnList,
        action=Action.LESSONS_READ,
    ),
)
