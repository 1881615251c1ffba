"""Drafts as the API shows them: from values of the store to models."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from sqlalchemy.engine import Row

from manifests.instants import Instant, dump_instant
from manifests.model import STREAM_ROLES, Courseware
from origin.accounts.people import Actor
from origin.accounts.permissions import Action
from origin.drafts.document import FIELDS, Document, differing, kind_of
from origin.drafts.lifecycle import Standing, State, Step, plan_step, possible_steps
from origin.drafts.markup import words_in
from origin.drafts.rows import Draft, Note
from origin.drafts.store import ConflictError
from origin.web.api.models import LessonFile
from origin.web.api.models_drafts import (
    Conflict,
    DraftChanges,
    DraftFileInfo,
    DraftRow,
    DraftView,
    FieldChange,
    FileChange,
    NoteRow,
)
from origin.web.api.operations import Desk
from origin.web.api.texts import RegionNames, instant_text


def row_of(row: Row[Any], names: RegionNames) -> DraftRow:
    """A draft in a list."""
    return DraftRow(
        number=row.id,
        title=row.title,
        kind=row.kind,
        source=row.source,
        state=State(row.state),
        revision=row.revision,
        region=row.region,
        region_name=names.path(row.region),
        author=row.author_name,
        editor=row.editor_name,
        changed=dump_instant(Instant(row.changed_at)),
        publish_at=instant_text(row.publish_at),
        courseware=row.courseware,
        version=row.version,
    )


def view_of(
    desk: Desk,
    actor: Actor,
    draft: Draft,
    standing: Standing,
    notes: Sequence[Note],
    base: Courseware | None,
    *,
    keys_are_away: bool,
    publishers: tuple[str, ...],
) -> DraftView:
    """A draft as somebody may see it."""
    who, now = desk.drafts.store.who(actor, draft), desk.clock()
    is_writer = actor.may(Action.DRAFTS_WRITE, draft.region)
    return DraftView(
        number=draft.id,
        source=draft.source,
        state=draft.state,
        revision=draft.revision,
        region=draft.region,
        author=draft.author.name,
        editor=draft.editor.name,
        reviewer=draft.reviewer.name if draft.reviewer else None,
        courseware=draft.courseware,
        base_version=draft.base_version,
        kind=kind_of(draft.document, draft.kinds),
        document=draft.document,
        files=tuple(file_infos(draft)),
        base_files=base_files(base),
        publish_at=instant_text(draft.publish_at),
        created=dump_instant(draft.created_at),
        changed=dump_instant(draft.changed_at),
        submitted=instant_text(draft.submitted_at),
        approved=instant_text(draft.approved_at),
        version=draft.version,
        catalog_version=draft.catalog_version,
        notes=tuple(map(_note, notes)),
        steps=possible_steps(standing, who, now),
        may_edit=is_writer and plan_step(standing, Step.SAVE, who, now).to is not None,
        why_not=standing.why_not[0],
        why_not_zh=standing.why_not[1],
        keys_are_away=keys_are_away,
        publisher=desk.drafts.store.publisher_of(draft),
        publishers=publishers,
    )


def file_infos(draft: Draft) -> list[DraftFileInfo]:
    """The files of a draft; one whose upload is gone is shown as missing."""
    found = []
    for one in draft.files:
        upload = draft.uploads.get(one.upload)
        finding = upload.finding if upload is not None else None
        info = DraftFileInfo(
            upload=one.upload,
            name=one.name,
            role=one.role,
            kind=finding.kind if finding else "",
            media_type=finding.media_type if finding else "",
            size_bytes=upload.size_bytes if upload else 0,
            duration_s=finding.duration_s if finding else 0.0,
            sha256=(upload.digest or "") if upload else "",
            state=upload.state if upload else "missing",
            reason=upload.reason if upload else "",
            reason_zh=upload.reason_zh if upload else "",
        )
        found.append(info)
    return found


def base_files(base: Courseware | None) -> tuple[LessonFile, ...]:
    """Files of the version that a draft revises, streams aside: those are made anew."""
    if base is None:
        return ()
    shown = (one for one in base.files if one.role not in STREAM_ROLES)
    return tuple(LessonFile(one.role, one.name, one.media_type, one.size, one.blob) for one in shown)


def changes_of(draft: Draft, base: Courseware | None, offered: Document) -> DraftChanges:
    """What a draft changes; `offered` are the words of the version that it revises, blank for none."""
    names = [name for name in differing(offered, draft.document) if name not in {"kept", "poster"}]
    fields = [
        FieldChange(name, _shown(name, offered), _shown(name, draft.document)) for name in FIELDS if name in names
    ]
    if draft.publish_at is not None:
        fields.append(FieldChange("publish_at", "", dump_instant(draft.publish_at)))
    files = _file_changes(draft, base, is_rewritten="article" in names)
    return DraftChanges(draft.base_version, tuple(fields), tuple(files))


def _file_changes(draft: Draft, base: Courseware | None, *, is_rewritten: bool) -> list[FileChange]:
    old = {one.name: one for one in base.files if one.role not in STREAM_ROLES} if base is not None else {}
    found = []
    for info in file_infos(draft):
        was = old.pop(info.name, None)
        what: Literal["replaced", "added"] = "replaced" if was is not None else "added"
        found.append(FileChange(info.name, what, was.size if was else None, info.size_bytes, info.kind))
    for name, file in old.items():
        has_article = file.role == "article" and bool(draft.document.article)
        stays = name in draft.document.kept or has_article
        fate: Literal["kept", "removed", "replaced"] = "kept" if stays else "removed"
        if has_article and is_rewritten:
            fate = "replaced"
        found.append(FileChange(name, fate, file.size, file.size if fate == "kept" else None, file.role))
    return found


def _shown(name: str, document: Document) -> str:
    value = getattr(document, name)
    if name == "article":
        return words_in(value)
    if isinstance(value, tuple):
        return "、".join(map(str, value))
    return "" if value is None else str(value)


def conflict_of(error: ConflictError) -> Conflict:
    """Both versions of a draft that two people saved."""
    mine, theirs = error.mine, error.theirs
    names = differing(mine.document, theirs.document)
    names += ("files",) if mine.files != theirs.files else ()
    names += ("publish_at",) if mine.publish_at != theirs.publish_at else ()
    return Conflict(
        revision=theirs.revision,
        editor=theirs.editor.name,
        changed=dump_instant(theirs.changed_at),
        differing=names,
        mine=mine.document,
        mine_files=mine.files,
        mine_publish_at=instant_text(mine.publish_at),
        theirs=theirs.document,
        theirs_files=theirs.files,
        theirs_publish_at=instant_text(theirs.publish_at),
    )


def _note(note: Note) -> NoteRow:
    return NoteRow(dump_instant(note.at), note.by.name if note.by else None, note.kind, note.revision, note.text)
