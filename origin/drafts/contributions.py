"""What studios and DV observers hand in: a draft that is written, filled and handed in with one form.

Everything goes the way of all drafts; here it is only made short for somebody with a phone, and for whoever has a
pile of them to look through.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any, Final

import msgspec
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from manifests.errors import DeniedError, InputError, NotFoundError
from manifests.names import MAX_FILE_NAME_BYTES
from origin.accounts.people import Actor
from origin.accounts.permissions import Action
from origin.database.engine import reading
from origin.database.tables_drafts import draft_notes, drafts
from origin.drafts.document import Document, DraftFile
from origin.drafts.lifecycle import State, Step
from origin.drafts.rows import Draft
from origin.drafts.store import Drafts, Wanted
from origin.drafts.uploads import Upload, get_uploads

SOURCE: Final = "contribution"
MOST_SHOWN: Final = 100


@dataclass(frozen=True, slots=True)
class Words:
    """The words of a contribution; whoever accepts it may mend them."""

    title: str
    summary: str = ""
    columns: tuple[str, ...] = ()
    credit: str = ""

    def put_into(self, document: Document) -> Document:
        """The document with these words."""
        return msgspec.structs.replace(
            document, title=self.title, summary=self.summary, columns=self.columns, credit=self.credit
        )


class Contributions:
    """Handing in, handing in again, accepting.

    Args:
        store: of drafts.
    """

    def __init__(self, store: Drafts) -> None:
        self._store = store

    async def hand_in(self, actor: Actor, words: Words, ids: Sequence[str]) -> int:
        """Make a contribution out of uploads and hand it in for review; its number.

        Raises:
            DeniedError: caller's mistake; contributing is not theirs.
            NotFoundError: bad data; no such upload of theirs.
            InputError: bad data; a word that is refused, or a file that is not ready.
        """
        files = await self._files(actor, ids)
        if not words.title.strip():
            raise InputError("it has no title", zh="请填写标题")
        draft = await self._store.create(actor, words.put_into(Document()), source=SOURCE)
        try:
            draft = await self._store.save(actor, draft.id, draft.revision, Wanted(draft.document, files))
            await self._store.step(actor, draft.id, Step.SUBMIT, draft.revision)
        except InputError:
            # It was refused as a whole: nothing of it stays in anybody's list.
            await self._store.step(actor, draft.id, Step.DROP, draft.revision)
            raise
        return draft.id

    async def hand_in_again(self, actor: Actor, number: int, revision: int, words: Words, ids: Sequence[str]) -> None:
        """Change a contribution of one's own and hand it in once more.

        Raises:
            NotFoundError: bad data; no such contribution of theirs.
            StaleError: somebody changed it meanwhile, or it is in no state for this.
            InputError: bad data; as for `hand_in`.
        """
        draft = await self.own(actor, number)
        files = await self._files(actor, ids, draft.files)
        wanted = Wanted(words.put_into(draft.document), files, draft.publish_at)
        draft = await self._store.save(actor, number, revision, wanted)
        if draft.state is not State.REVIEW:
            await self._store.step(actor, number, Step.SUBMIT, draft.revision)

    async def own(self, actor: Actor, number: int) -> Draft:
        """A contribution of the actor's own.

        Raises:
            NotFoundError: bad data; there is none, or it is somebody else's, which is not told.
        """
        draft, _ = await self._store.get(actor, number)
        if draft.author.id != actor.account.id or draft.source != SOURCE:
            raise NotFoundError(f"there is no contribution {number}", zh=f"没有编号为 {number} 的投稿")
        return draft

    async def accept(self, actor: Actor, number: int, revision: int, words: Words) -> bool:
        """Accept a contribution. As it is: it is approved. With edits: they are saved, and somebody else approves them.

        Returns:
            Whether it is approved now.

        Raises:
            NotFoundError: bad data; no such contribution in the actor's region.
            DeniedError: caller's mistake; reviewing is not theirs.
            StaleError: somebody changed it meanwhile, or it is in no state for this.
            InputError: bad data; a word that is refused.
        """
        draft, _ = await self._store.get(actor, number)
        if draft.source != SOURCE:
            raise NotFoundError(f"there is no contribution {number}", zh=f"没有编号为 {number} 的投稿")
        if not actor.may(Action.DRAFTS_REVIEW, draft.region):
            raise DeniedError("reviewing is not yours", zh="没有审核权限")
        wanted = Wanted(words.put_into(draft.document), draft.files, draft.publish_at)
        saved = draft
        if wanted.document != draft.document:
            # Saving checks and tidies: what comes out the same was no edit.
            saved = await self._store.save(actor, number, revision, wanted)
        if saved.revision == draft.revision:
            await self._store.step(actor, number, Step.APPROVE, revision)
            return True
        await self._store.step(actor, number, Step.SUBMIT, saved.revision)
        return False

    async def _files(
        self, actor: Actor, ids: Sequence[str], present: Sequence[DraftFile] = ()
    ) -> tuple[DraftFile, ...]:
        """Uploads as files of a draft, each by a name of its own: nobody with a phone is asked to rename anything."""
        async with reading(self._store.engine) as connection:
            found = await get_uploads(connection, set(ids))
        had = {one.upload: one for one in present}
        names = {one.name.casefold() for one in present}
        files = []
        for id_ in dict.fromkeys(ids):
            if id_ in had:
                files.append(had[id_])
                continue
            upload = found.get(id_)
            if upload is None or upload.account != actor.account.id:
                raise NotFoundError(f"there is no upload {id_[:40]}", zh="没有这个上传文件，可能已过期或已删除")
            name = _free_name(upload, names)
            names.add(name.casefold())
            files.append(DraftFile(upload=id_, name=name))
        return tuple(files)


def _free_name(upload: Upload, taken: set[str]) -> str:
    """The upload's name, with a number in it when another file has that name."""
    path, number = PurePath(upload.name), 1
    name = upload.name
    while name.casefold() in taken:
        number += 1
        mark = f"-{number}{path.suffix}"
        stem = path.stem.encode()[: MAX_FILE_NAME_BYTES - len(mark.encode())].decode("utf-8", "ignore")
        name = stem.rstrip(" .") + mark
    return name


@dataclass(frozen=True, slots=True)
class OwnRow:
    """A contribution as its author sees it in a list; `reason`: why it was returned or rejected."""

    number: int
    title: str
    state: State
    changed_at: int
    reason: str
    courseware: str | None
    version: int | None


async def list_own(connection: AsyncConnection, account: int) -> list[OwnRow]:
    """The contributions of an account, the last changed first; those that were given up are left out."""
    mine = (drafts.c.author == account) & (drafts.c.source == SOURCE) & (drafts.c.state != State.DROPPED)
    query = select(drafts).where(mine).order_by(drafts.c.changed_at.desc(), drafts.c.id.desc()).limit(MOST_SHOWN)
    rows = list(await connection.execute(query))
    reasons = await _reasons(connection, [row.id for row in rows])
    return [
        OwnRow(
            number=row.id,
            title=row.title,
            state=State(row.state),
            changed_at=row.changed_at,
            reason=reasons.get(row.id, "") if row.state in {State.RETURNED, State.REJECTED, State.EDITING} else "",
            courseware=row.courseware,
            version=row.version,
        )
        for row in rows
    ]


async def _reasons(connection: AsyncConnection, numbers: Sequence[int]) -> Mapping[int, str]:
    """What was said last when each was returned or rejected."""
    judged = draft_notes.c.kind.in_((Step.RETURN, Step.REJECT)) & draft_notes.c.draft.in_(numbers)
    last = select(func.max(draft_notes.c.id)).where(judged).group_by(draft_notes.c.draft)
    rows: Any = await connection.execute(select(draft_notes).where(draft_notes.c.id.in_(last)))
    return {row.draft: row.text for row in rows}
