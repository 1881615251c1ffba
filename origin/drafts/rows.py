"""Drafts as values and rows: reading one, and lists. Whoever asks sees their own region's, and of others nothing."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec
from sqlalchemy import ColumnElement, Select, and_, func, or_, select
from sqlalchemy.engine import Row
from sqlalchemy.ext.asyncio import AsyncConnection

from manifests.errors import NotFoundError
from manifests.instants import Instant
from manifests.names import Region, region_level
from origin.accounts.people import Actor
from origin.accounts.permissions import Action, Role
from origin.database.tables import accounts
from origin.database.tables_drafts import draft_files, draft_notes, drafts
from origin.drafts.document import Document, DraftFile, decode_document
from origin.drafts.lifecycle import State
from origin.drafts.owners import PROVINCE, owner_of
from origin.drafts.uploads import Upload, get_uploads
from origin.publish.pilot_plan import PilotWish

_PILOTS: Final = msgspec.json.Decoder(PilotWish)
_MOST_WORDS: Final = 8
MOST_NOTES: Final = 500


@dataclass(frozen=True, slots=True)
class Person:
    """An account as it is named to others."""

    id: int
    login: str
    name: str


@dataclass(frozen=True, slots=True)
class Note:
    """A comment, or a step with its reason; by nobody: by the origin itself."""

    at: Instant
    by: Person | None
    kind: str
    revision: int
    text: str


@dataclass(frozen=True, slots=True)
class Draft:
    """One draft with its files.

    Attributes:
        source: `console`, or `contribution`.
        courseware, base_version: what it revises; the id is given to a new one when it is released.
        uploads: those of its files, by id.
        pilot: to whom it goes first when it is released; None: to all at once.
    """

    id: int
    source: str
    state: State
    revision: int
    region: Region
    author: Person
    editor: Person
    reviewer: Person | None
    courseware: str | None
    base_version: int | None
    document: Document
    files: tuple[DraftFile, ...]
    uploads: dict[str, Upload]
    publish_at: Instant | None
    created_at: Instant
    changed_at: Instant
    submitted_at: Instant | None
    approved_at: Instant | None
    version: int | None
    catalog_version: int | None
    pilot: PilotWish | None

    @property
    def city(self) -> Region | None:
        """The city into whose catalog it goes; None for the province's."""
        return Region(self.document.publisher) if self.document.publisher not in {"", PROVINCE} else None

    @property
    def kinds(self) -> tuple[str, ...]:
        """What its files are; `poster` for the picture that is one."""
        found = []
        for one in self.files:
            upload = self.uploads.get(one.upload)
            kind = upload.finding.kind if upload is not None and upload.finding is not None else ""
            found.append("poster" if one.role == "poster" and kind == "picture" else kind)
        return tuple(found)


@dataclass(frozen=True, slots=True)
class DraftFilter:
    """Which drafts are wanted; empty values do not filter.

    Attributes:
        author: number of an account.
        city: whose catalog they go into.
    """

    area: Region
    states: tuple[State, ...] = ()
    author: int | None = None
    source: str = ""
    text: str = ""
    city: str = ""


async def read_draft(connection: AsyncConnection, number: int) -> Draft | None:
    """One draft, whoever asks."""
    row = (await connection.execute(select(drafts).where(drafts.c.id == number))).one_or_none()
    if row is None:
        return None
    query = select(draft_files).where(draft_files.c.draft == number).order_by(draft_files.c.position)
    files = tuple(DraftFile(one.upload, one.name, one.role) for one in await connection.execute(query))
    people = await _people(connection, {row.author, row.editor, row.reviewer})
    found = await get_uploads(connection, {one.upload for one in files})
    return _draft_of(row, files, people, found)


def sees_others(actor: Actor) -> bool:
    """Tell whether somebody sees more than their own drafts: a studio's work is its own until somebody judges it."""
    return actor.account.grant.role is not Role.CONTRIBUTOR


async def find_draft(connection: AsyncConnection, actor: Actor, number: int) -> Draft:
    """One draft of the actor's region; of those who contribute, their own.

    Raises:
        NotFoundError: bad data; there is none, or it is not theirs to see, which is not told.
    """
    draft = await read_draft(connection, number)
    is_theirs = draft is not None and draft.author.id == actor.account.id
    if draft is None or not actor.may(Action.DRAFTS_READ, draft.region) or not (is_theirs or sees_others(actor)):
        raise NotFoundError(f"there is no draft {number}", zh=f"没有编号为 {number} 的稿件")
    return draft


async def list_drafts(connection: AsyncConnection, wanted: DraftFilter, offset: int, most: int) -> list[Row[Any]]:
    """A page of drafts, the last changed first.

    Returns:
        Rows of `drafts` without the documents, and `author_name`, `editor_name`.
    """
    fields = [one for one in drafts.c if one.name != "document"]
    author, editor = accounts.alias("author"), accounts.alias("editor")
    order = (drafts.c.changed_at.desc(), drafts.c.id.desc())
    found = _matching(select(drafts.c.id), wanted).order_by(*order).limit(most).offset(offset).subquery()
    page: Select[Any] = (
        select(*fields, author.c.name.label("author_name"), editor.c.name.label("editor_name"))
        .join(found, found.c.id == drafts.c.id)
        .join(author, author.c.id == drafts.c.author)
        .join(editor, editor.c.id == drafts.c.editor)
        .order_by(*order)
    )
    return list((await connection.execute(page)).all())


async def count_states(connection: AsyncConnection, wanted: DraftFilter) -> dict[State, int]:
    """How many drafts stand where, whatever states were asked for: what lists are counted by, in one pass."""
    anywhere = DraftFilter(wanted.area, (), wanted.author, wanted.source, wanted.text, wanted.city)
    query = _matching(select(drafts.c.state, func.count(drafts.c.id)), anywhere).group_by(drafts.c.state)
    return {State(row[0]): row[1] for row in await connection.execute(query)}


async def read_notes(connection: AsyncConnection, number: int) -> tuple[Note, ...]:
    """What was said about a draft, in order; of very many, the last."""
    query = select(draft_notes).where(draft_notes.c.draft == number).order_by(draft_notes.c.id.desc()).limit(MOST_NOTES)
    rows: list[Row[Any]] = list((await connection.execute(query)).all())
    people = await _people(connection, {row.account for row in rows})
    return tuple(
        Note(Instant(row.at), people.get(row.account), row.kind, row.revision, row.text) for row in reversed(rows)
    )


def _matching(query: Select[Any], wanted: DraftFilter) -> Select[Any]:
    query = query.select_from(drafts)
    if wanted.states:
        query = query.where(drafts.c.state.in_(wanted.states))
    level = region_level(wanted.area)
    prefix = {"province": wanted.area[:2], "city": wanted.area[:4]}.get(level, wanted.area)
    query = query.where(drafts.c.region.startswith(prefix, autoescape=True))
    if wanted.author is not None:
        query = query.where(drafts.c.author == wanted.author)
    if wanted.source:
        query = query.where(drafts.c.source == wanted.source)
    if wanted.city:
        query = query.where(_goes_to(wanted.city))
    for word in unicodedata.normalize("NFC", wanted.text).split()[:_MOST_WORDS]:
        query = query.where(_has(word))
    return query


def _goes_to(city: str) -> ColumnElement[bool]:
    """As `_read_document` says it."""
    is_revision = drafts.c.courseware.startswith(f"{city}-", autoescape=True)
    return or_(drafts.c.publisher == city, and_(drafts.c.publisher == "", is_revision))


def _has(word: str) -> ColumnElement[bool]:
    return drafts.c.title.icontains(word, autoescape=True)


async def _people(connection: AsyncConnection, ids: set[int | None]) -> dict[int | None, Person]:
    wanted = [one for one in ids if one is not None]
    query = select(accounts.c.id, accounts.c.login, accounts.c.name).where(accounts.c.id.in_(wanted))
    return {row.id: Person(row.id, row.login, row.name) for row in await connection.execute(query)}


def _draft_of(
    row: Row[Any], files: Sequence[DraftFile], people: dict[int | None, Person], found: dict[str, Upload]
) -> Draft:
    return Draft(
        id=row.id,
        source=row.source,
        state=State(row.state),
        revision=row.revision,
        region=Region(row.region),
        author=people[row.author],
        editor=people[row.editor],
        reviewer=people.get(row.reviewer),
        courseware=row.courseware,
        base_version=row.base_version,
        document=_read_document(row),
        files=tuple(files),
        uploads=found,
        publish_at=_instant(row.publish_at),
        created_at=Instant(row.created_at),
        changed_at=Instant(row.changed_at),
        submitted_at=_instant(row.submitted_at),
        approved_at=_instant(row.approved_at),
        version=row.version,
        catalog_version=row.catalog_version,
        pilot=_PILOTS.decode(row.pilot) if row.pilot else None,
    )


def _read_document(row: Row[Any]) -> Document:
    """A document that says who publishes it: the row's city, or for the next version of a lesson whose that is."""
    owner = row.publisher or owner_of(row.courseware or "")
    return msgspec.structs.replace(decode_document(row.document), publisher=owner)


def _instant(at: int | None) -> Instant | None:
    return None if at is None else Instant(at)
