"""Making drafts, saving them, taking steps with them, speaking about them; each change with its row in the audit.

Whoever saves names the revision that they saw. When somebody else saved meanwhile nothing is written: the answer holds
both versions, so that nobody's work is lost.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec
from sqlalchemy import delete, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from manifests.errors import DeniedError, InputError, NotFoundError
from manifests.instants import Instant
from manifests.names import Region, is_within, parse_summary
from origin.accounts.people import Actor, account_of
from origin.accounts.permissions import Action, is_allowed
from origin.clock import Clock
from origin.database.audit import note_change
from origin.database.engine import reading, writing
from origin.database.library import all_columns
from origin.database.listings import current_version
from origin.database.tables import accounts
from origin.database.tables_drafts import draft_files, draft_notes, drafts
from origin.drafts.document import (
    Document,
    DraftFile,
    check_document,
    check_files,
    differing,
    encode_document,
    kind_of,
    why_unfinished,
)
from origin.drafts.gather import audience_of
from origin.drafts.lifecycle import NEEDS_REASON, Standing, State, Step, StepPlan, Who, plan_step
from origin.drafts.markup import pictures_in, sanitise, words_in
from origin.drafts.owners import PROVINCE, check_move, owner_of_new
from origin.drafts.rows import Draft, find_draft, read_draft
from origin.drafts.themes import plan_theme, read_theme
from origin.drafts.uploads import Upload, get_uploads
from origin.drafts.uploads import release as let_go
from origin.publish.cities import CityRight
from origin.publish.pilot_plan import PilotWish, check_waves

_SHOWN_CHARS: Final = 200
MOST_NOTE_CHARS: Final = 2000


class StaleError(InputError):
    """Somebody changed it meanwhile, or it is in no state for this; nothing was changed."""

    http_status = 409
    family = "changed meanwhile"
    family_zh = "内容已被他人修改"


class ConflictError(StaleError):
    """Two people saved the same draft; carries both versions.

    Attributes:
        mine: the document that was not saved.
        theirs: the draft as it is.
    """

    def __init__(self, mine: Wanted, theirs: Draft) -> None:
        super().__init__(
            f"draft {theirs.id} was changed by {theirs.editor.login} meanwhile; your version was not saved",
            zh=f"稿件在此期间已被 {theirs.editor.name} 修改，您的改动尚未保存",
            hint=f"look at both versions, then save again with revision {theirs.revision}",
            hint_zh="请对照两个版本后再次保存",
        )
        self.mine = mine
        self.theirs = theirs


@dataclass(frozen=True, slots=True)
class Wanted:
    """What somebody wants to save. `publish_at`: when it shall go out; None for when somebody says so."""

    document: Document
    files: tuple[DraftFile, ...] = ()
    publish_at: Instant | None = None


@dataclass(frozen=True, slots=True)
class Drafts:
    """The store.

    Attributes:
        province: whose catalog drafts go to, unless a city publishes them.
        rights: tells which cities may publish.
    """

    engine: AsyncEngine
    clock: Clock
    province: Region
    rights: Callable[[], Awaitable[tuple[CityRight, ...]]]

    def publisher_of(self, draft: Draft) -> Region:
        """Into whose catalog a draft goes: the province's or a city's."""
        return draft.city or self.province

    async def publishers(self, actor: Actor, draft: Draft) -> tuple[str, ...]:
        """Whose somebody may make a draft, as a document says it; empty when they have no choice."""
        if draft.courseware or not actor.may(Action.LESSONS_PUBLISH, self.province):
            return ()
        return (PROVINCE, *(right.city for right in await self.rights()))

    def _area(self, owner: str) -> Region:
        return self.province if owner == PROVINCE else Region(owner)

    def who(self, actor: Actor, draft: Draft) -> Who:
        """An actor's rights over a draft. Publishing is a right over the catalog that it goes to."""
        return Who(
            account=actor.account.id,
            may_write=actor.may(Action.DRAFTS_WRITE, draft.region),
            may_review=actor.may(Action.DRAFTS_REVIEW, draft.region),
            may_publish=actor.may(Action.LESSONS_PUBLISH, self.publisher_of(draft)),
        )

    async def standing(self, connection: AsyncConnection, draft: Draft, now: Instant) -> Standing:
        """What the next step of a draft depends on."""
        editor = account_of((await connection.execute(select(accounts).where(accounts.c.id == draft.editor.id))).one())
        return Standing(
            state=draft.state,
            revision=draft.revision,
            author=draft.author.id,
            editor=draft.editor.id,
            publish_at=draft.publish_at,
            editor_may_publish=editor.disabled_at is None
            and is_allowed(editor.grant, Action.LESSONS_PUBLISH, self.publisher_of(draft)),
            why_not=_why_not(draft, now),
        )

    async def create(
        self,
        actor: Actor,
        document: Document,
        *,
        region: Region | None = None,
        source: str = "console",
        courseware: str | None = None,
        base_version: int | None = None,
    ) -> Draft:
        """Make a draft, blank or with the words that it begins with.

        A lesson's next version goes where the lesson is; a new one into the catalog of its author's city when that
        publishes, else into the province's.

        Raises:
            DeniedError: caller's mistake; the region is not theirs.
            InputError: bad data.
        """
        home = region or actor.account.region
        if not actor.may(Action.DRAFTS_WRITE, home):
            raise DeniedError("drafts of that region are not yours to make", zh="无权在该地区新建稿件")
        owner = owner_of_new(actor.account.region, courseware, await self.rights())
        clean = check_document(_sanitised(document, owner), self._area(owner))
        now = self.clock()
        who = actor.account.id
        values = _of_document(clean, ()) | {"source": source, "state": State.EDITING, "revision": 1, "region": home}
        values |= {"author": who, "editor": who, "created_at": now, "changed_at": now}
        values |= {"courseware": courseware, "base_version": base_version}
        async with writing(self.engine) as connection:
            done = await connection.execute(insert(drafts).values(**values))
            number = int((done.inserted_primary_key or (0,))[0])
            after = {"title": clean.title} | ({"courseware": courseware} if courseware else {})
            await note_change(connection, now, actor.did("draft.create", home, str(number), after=after))
            return await _present(connection, number)

    async def save(self, actor: Actor, number: int, revision: int, wanted: Wanted) -> Draft:
        """Save a draft over the revision that whoever saves has seen. What is the same already changes nothing.

        Raises:
            NotFoundError: bad data; no such draft in the actor's region.
            ConflictError: somebody saved meanwhile.
            StaleError: it is in no state to be edited.
            InputError: bad data.
        """
        now = self.clock()
        async with writing(self.engine) as connection:
            draft = await find_draft(connection, actor, number)
            plan = plan_step(await self.standing(connection, draft, now), Step.SAVE, self.who(actor, draft), now)
            _check_granted(plan)
            clean = await self._checked(connection, actor, draft, wanted)
            present = Wanted(draft.document, draft.files, draft.publish_at)
            if clean == present:
                return draft
            if revision != draft.revision:
                raise ConflictError(clean, draft)
            found = await get_uploads(connection, {one.upload for one in clean.files})
            values = _of_document(clean.document, _kinds(clean.files, found))
            values |= {"state": plan.to, "revision": draft.revision + 1, "editor": actor.account.id, "changed_at": now}
            values |= {"publish_at": clean.publish_at, "reviewer": None, "approved_at": None}
            await connection.execute(update(drafts).where(drafts.c.id == number).values(**values))
            await _put_files(connection, number, clean.files)
            await let_go(connection, {one.upload for one in draft.files} - {one.upload for one in clean.files}, now)
            before, after = _changes(present, clean)
            if draft.state is not plan.to:
                before, after = before | {"state": draft.state}, after | {"state": str(plan.to)}
            change = actor.did("draft.save", draft.region, str(number), before=before, after=after)
            await note_change(connection, now, change)
            return await _present(connection, number)

    async def step(
        self, actor: Actor, number: int, step: Step, revision: int, reason: str = "", pilot: PilotWish | None = None
    ) -> Draft:
        """Take a step with a draft, as it was seen at `revision`; what goes out may go to some regions first.

        Raises:
            NotFoundError: bad data; no such draft in the actor's region.
            DeniedError: caller's mistake; not theirs to do.
            StaleError: somebody changed it meanwhile, or it is in no state for this.
            InputError: bad data; a reason is missing.
        """
        now, why = self.clock(), _clean_note(reason)
        async with writing(self.engine) as connection:
            draft = await find_draft(connection, actor, number)
            standing = await self.standing(connection, draft, now)
            plan = plan_step(standing, step, self.who(actor, draft), now, revision)
            _check_granted(plan)
            if step in NEEDS_REASON and not why:
                raise InputError("a reason is needed: its author has to know", zh="请填写原因，以便作者了解")
            values: dict[str, Any] = {"state": plan.to}
            if step is Step.SUBMIT:
                current = await current_version(connection, draft.courseware) if draft.courseware else None
                # From here on it is compared with what is offered now, whatever it was begun from.
                values |= {"submitted_at": now, "base_version": current}
            if step is Step.APPROVE:
                values |= {"approved_at": now, "reviewer": actor.account.id}
            if plan.drops_date:
                values |= {"publish_at": None}
            if pilot is not None:
                check_waves(pilot.waves, audience_of(draft))
            values |= {"pilot": None if pilot is None else msgspec.json.encode(pilot).decode()}
            await connection.execute(update(drafts).where(drafts.c.id == number).values(**values))
            await add_note(connection, draft, now, actor.account.id, step, why)
            before, after = {"state": draft.state}, {"state": str(plan.to), "revision": draft.revision}
            after |= {"reason": why} if why else {}
            change = actor.did(f"draft.{step}", draft.region, str(number), before=before, after=after)
            await note_change(connection, now, change)
            return await _present(connection, number)

    async def comment(self, actor: Actor, number: int, text: str) -> None:
        """Say something about a draft.

        Raises:
            NotFoundError: bad data; no such draft in the actor's region.
            InputError: bad data; nothing is said.
        """
        now, said = self.clock(), _clean_note(text)
        if not said:
            raise InputError("the comment is empty", zh="意见内容不能为空")
        async with writing(self.engine) as connection:
            draft = await find_draft(connection, actor, number)
            await add_note(connection, draft, now, actor.account.id, "comment", said)
            change = actor.did("draft.comment", draft.region, str(number), after={"text": said[:_SHOWN_CHARS]})
            await note_change(connection, now, change)

    async def get(self, actor: Actor, number: int) -> tuple[Draft, Standing]:
        """One draft, and what its next step depends on.

        Raises:
            NotFoundError: bad data; no such draft in the actor's region.
        """
        async with reading(self.engine) as connection:
            draft = await find_draft(connection, actor, number)
            return draft, await self.standing(connection, draft, self.clock())

    async def _checked(self, connection: AsyncConnection, actor: Actor, draft: Draft, wanted: Wanted) -> Wanted:
        """What is to be saved, tidied; audience within the actor's word, uploads within their reach."""
        before = set(draft.document.audience)
        choice = await self.publishers(actor, draft)
        owner = check_move(draft.document.publisher, wanted.document.publisher, choice)
        document = check_document(_sanitised(wanted.document, owner), self._area(owner))
        for region in set(document.audience) - before:
            if not is_within(Region(region), actor.account.region):
                raise DeniedError(
                    f"audience {region} lies outside your region", zh=f"面向地区 {region} 不在您的管理范围内"
                )
        files = check_files(wanted.files)
        had = {one.upload for one in draft.files}
        found = await get_uploads(connection, {one.upload for one in files})
        for one in files:
            upload = found.get(one.upload)
            if upload is None or not (one.upload in had or _is_within_reach(actor, upload)):
                raise NotFoundError(f"there is no upload {one.upload}", zh=f"没有编号为 {one.upload} 的上传文件")
        theme = read_theme(document.theme) if document.theme else None
        if document.theme and theme is None:
            raise InputError("a theme is named like 2026年12月主题：…", zh="主题专栏应形如“2026年12月主题：……”")
        if theme is not None and document.theme != draft.document.theme:
            titles = [column.title for column in await all_columns(connection)]
            plan_theme(theme.month, theme.title, titles)
        return Wanted(document, files, wanted.publish_at)


def _why_not(draft: Draft, now: Instant) -> tuple[str, str]:
    """What a draft lacks to be reviewed, in English and Chinese; empty when it lacks nothing."""
    for one in draft.files:
        upload = draft.uploads.get(one.upload)
        if upload is None or upload.state != "ready":
            return f"{one.name} is not whole or not checked yet", f"文件 {one.name} 尚未传完或未通过检查"
    there = {one.name for one in draft.files} | set(draft.document.kept)
    missing = set(pictures_in(draft.document.article)) - there
    if missing:
        name = min(missing)
        return f"the article shows {name!a}, which is not there", f"图文引用的图片 {name} 不在稿件文件中"
    kinds = (*draft.kinds, *("document" for _ in draft.document.kept))
    return why_unfinished(draft.document, kinds, draft.publish_at, now)


async def add_note(
    connection: AsyncConnection, draft: Draft, now: Instant, account: int | None, kind: str, text: str
) -> None:
    """Write down what was said or done; by nobody: by the origin itself."""
    values = {"draft": draft.id, "at": now, "account": account, "kind": str(kind), "revision": draft.revision}
    await connection.execute(insert(draft_notes).values(text=text, **values))


async def _present(connection: AsyncConnection, number: int) -> Draft:
    draft = await read_draft(connection, number)
    if draft is None:
        raise NotFoundError(f"there is no draft {number}", zh=f"没有编号为 {number} 的稿件")
    return draft


async def _put_files(connection: AsyncConnection, number: int, files: Sequence[DraftFile]) -> None:
    await connection.execute(delete(draft_files).where(draft_files.c.draft == number))
    for position, one in enumerate(files):
        values = {"draft": number, "position": position, "upload": one.upload, "role": one.role, "name": one.name}
        await connection.execute(insert(draft_files).values(**values))


def _check_granted(plan: StepPlan) -> None:
    if plan.to is None:
        family = DeniedError if plan.is_denied else StaleError
        raise family(plan.reason, zh=plan.reason_zh)


def _is_within_reach(actor: Actor, upload: Upload) -> bool:
    return upload.account == actor.account.id or actor.may(Action.DRAFTS_WRITE, upload.region)


def _sanitised(document: Document, owner: str) -> Document:
    return msgspec.structs.replace(document, article=sanitise(document.article), publisher=owner)


def _of_document(document: Document, kinds: Sequence[str]) -> dict[str, Any]:
    # Whose it is stands in a column of its own, by which lists are made.
    city = "" if document.publisher == PROVINCE else document.publisher
    text = encode_document(msgspec.structs.replace(document, publisher=""))
    return {"title": document.title, "kind": kind_of(document, kinds), "document": text, "publisher": city}


def _kinds(files: Sequence[DraftFile], found: dict[str, Upload]) -> tuple[str, ...]:
    findings = (found[one.upload].finding for one in files if one.upload in found)
    return tuple(one.kind for one in findings if one is not None)


def _changes(before: Wanted, after: Wanted) -> tuple[dict[str, Any], dict[str, Any]]:
    """What a save changed, short enough for the audit; the article by its words."""
    names = differing(before.document, after.document)
    told = [{name: _short(name, getattr(one.document, name)) for name in names} for one in (before, after)]
    if before.files != after.files:
        for one, values in zip((before, after), told, strict=True):
            values["files"] = [file.name for file in one.files]
    if before.publish_at != after.publish_at:
        for one, values in zip((before, after), told, strict=True):
            values["publish_at"] = one.publish_at
    return told[0], told[1]


def _short(name: str, value: Any) -> Any:
    text = words_in(value) if name == "article" else value
    return text if not isinstance(text, str) or len(text) <= _SHOWN_CHARS else f"{text[:_SHOWN_CHARS]}…（{len(text)}）"


def _clean_note(text: str) -> str:
    """A comment: as a summary, without marks that hide or turn what it says.

    Raises:
        InputError: bad data.
    """
    clean = parse_summary(text.replace("\r\n", "\n").replace("\t", " "))
    if len(clean) > MOST_NOTE_CHARS:
        raise InputError(f"at most {MOST_NOTE_CHARS} characters", zh=f"内容过长，最多 {MOST_NOTE_CHARS} 字")
    return clean
