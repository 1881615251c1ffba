"""Uploads: one's own, one at length, and removing one."""

from __future__ import annotations

from typing import Final

from manifests.instants import dump_instant
from origin.accounts.people import Actor
from origin.accounts.permissions import Action
from origin.database.engine import reading
from origin.drafts import uploads
from origin.drafts.uploads import Upload
from origin.publish.media_job import Probe
from origin.web.api.models_uploads import ByUpload, UploadFinding, UploadList, UploadRow
from origin.web.api.operations import Desk, Nothing, Operation

_MOST: Final = 500


async def _list(desk: Desk, actor: Actor, _where: Nothing, _body: Nothing) -> UploadList:
    limits = desk.intake.terms.limits
    async with reading(desk.engine) as connection:
        found = await uploads.list_uploads(connection, actor.account.id, min(limits.account_files, _MOST))
        _, held = await uploads.held_by(connection, actor.account.id)
        used = await uploads.used_among(connection, [one.id for one in found])
    rows = tuple(_row(desk, one, one.id in used) for one in found)
    return UploadList(rows, held, limits.account_bytes, limits.file_bytes)


async def _get(desk: Desk, actor: Actor, where: ByUpload, _body: Nothing) -> UploadRow:
    found = await desk.intake.find(actor, where.id)
    async with reading(desk.engine) as connection:
        used = await uploads.used_among(connection, [found.id])
    return _row(desk, found, found.id in used)


async def _delete(desk: Desk, actor: Actor, where: ByUpload, _body: Nothing) -> None:
    await desk.intake.drop(actor, where.id)


def _row(desk: Desk, one: Upload, in_use: bool) -> UploadRow:
    return UploadRow(
        id=one.id,
        name=one.name,
        size_bytes=one.size_bytes,
        received_bytes=one.received_bytes,
        state=one.state,
        sha256=one.digest,
        finding=None if one.finding is None else _finding(one.finding),
        reason=one.reason,
        reason_zh=one.reason_zh,
        created=dump_instant(one.created_at),
        expires=dump_instant(desk.intake.expires_at(one)),
        in_use=in_use,
    )


def _finding(probe: Probe) -> UploadFinding:
    return UploadFinding(
        kind=probe.kind,
        media_type=probe.media_type,
        duration_s=probe.duration_s,
        width=probe.width,
        height=probe.height,
        plays=probe.plays,
        reason=probe.reason,
        reason_zh=probe.reason_zh,
    )


OPERATIONS = (
    Operation(
        "uploads.list",
        "GET",
        "/uploads",
        "One's own uploads; new ones are made by tus 1.0.0 at this address",
        "自己的上传文件；上传采用 tus 1.0.0 协议，地址相同",
        _list,
        answer=UploadList,
        action=Action.DRAFTS_WRITE,
    ),
    Operation(
        "uploads.get",
        "GET",
        "/uploads/{id}",
        "One upload: how far it is, its SHA-256, what was found in it",
        "单个上传文件：进度、SHA-256 和检查结果",
        _get,
        where=ByUpload,
        answer=UploadRow,
    ),
    Operation(
        "uploads.delete",
        "DELETE",
        "/uploads/{id}",
        "Remove an upload that no draft uses",
        "删除未用于稿件的上传文件",
        _delete,
        where=ByUpload,
        by_hand=True,
    ),
)
