"""Drafts on their way out: what a release would mean for the province, how far one is, pictures for the poster."""

from __future__ import annotations

import asyncio
import secrets
import shutil

from manifests.errors import InputError
from origin.accounts.people import Actor
from origin.accounts.permissions import Action
from origin.drafts.document import FRAMES
from origin.drafts.gather import gather
from origin.drafts.releasing import due_in
from origin.drafts.rows import Draft
from origin.drafts.uploads import Upload
from origin.publish.promise import ProvincePromise
from origin.publish.promising import promise
from origin.web.api.drafts import base_of
from origin.web.api.models_drafts import ByDraft, DraftFrames, DraftProgress, PromiseWhere
from origin.web.api.operations import Desk, Nothing, Operation


async def _promise(desk: Desk, actor: Actor, where: PromiseWhere, _body: Nothing) -> ProvincePromise:
    draft, standing = await desk.drafts.store.get(actor, where.number)
    if standing.why_not[0]:
        raise InputError(standing.why_not[0], zh=standing.why_not[1])
    publishing = desk.drafts.publishing
    folder = publishing.staging / f"promise-{secrets.token_hex(6)}"
    async with desk.drafts.promising:
        await asyncio.to_thread(folder.mkdir)
        try:
            request = await gather(draft, await base_of(desk, draft), desk.drafts.sources, folder)
            return await promise(publishing, desk.engine, request, where.by)
        finally:
            await asyncio.to_thread(shutil.rmtree, folder, True)


async def _progress(desk: Desk, actor: Actor, where: ByDraft, _body: Nothing) -> DraftProgress:
    draft, _ = await desk.drafts.store.get(actor, where.number)
    found = desk.drafts.releasing.progress_of(draft.id)
    return DraftProgress(
        state=draft.state,
        wait_s=due_in(draft.publish_at, desk.clock()),
        is_here=found is not None,
        stage=found.stage if found else "",
        done_bytes=found.done if found else 0,
        total_bytes=found.total if found else 0,
        version=draft.version,
    )


async def _frames(desk: Desk, actor: Actor, where: ByDraft, _body: Nothing) -> DraftFrames:
    draft, _ = await desk.drafts.store.get(actor, where.number)
    video = first_video(draft)
    if video is None:
        return DraftFrames("", ())
    await desk.drafts.sources.frames.of(video.id, desk.drafts.sources.path_of(video))
    return DraftFrames(video.id, tuple(range(1, FRAMES + 1)))


def first_video(draft: Draft) -> Upload | None:
    """The video whose pictures a poster is chosen from."""
    for one in draft.files:
        upload = draft.uploads.get(one.upload)
        if upload is not None and upload.state == "ready" and upload.finding and upload.finding.kind == "video":
            return upload
    return None


OPERATIONS = (
    Operation(
        "drafts.promise",
        "GET",
        "/drafts/{number}/promise",
        "Which counties would hold it by a time of day, were it released now",
        "若现在发布，到某一时刻有多少县可看到",
        _promise,
        where=PromiseWhere,
        answer=ProvincePromise,
        action=Action.DRAFTS_READ,
    ),
    Operation(
        "drafts.progress",
        "GET",
        "/drafts/{number}/progress",
        "How far the release of a draft is",
        "稿件发布进度",
        _progress,
        where=ByDraft,
        answer=DraftProgress,
        action=Action.DRAFTS_READ,
    ),
    Operation(
        "drafts.frames",
        "GET",
        "/drafts/{number}/frames",
        "Pictures out of a draft's first video, for its poster",
        "从稿件首个视频中截取的候选封面",
        _frames,
        where=ByDraft,
        answer=DraftFrames,
        action=Action.DRAFTS_READ,
    ),
)
