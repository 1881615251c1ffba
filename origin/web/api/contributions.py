"""Contributions: handing in, handing in again, one's own with their state; accepting one, with edits or without.

Looking through them, returning and rejecting are operations of drafts (`drafts.list` with `source=contribution`).
"""

from __future__ import annotations

from manifests.instants import Instant, dump_instant
from origin.accounts.people import Actor
from origin.accounts.permissions import Action
from origin.database.engine import reading
from origin.drafts.contributions import Contributions, Words, list_own
from origin.drafts.lifecycle import State
from origin.web.api.drafts import view
from origin.web.api.models_contributions import (
    AcceptBody,
    Accepted,
    ContributionAgainBody,
    ContributionBody,
    ContributionList,
    ContributionRow,
)
from origin.web.api.models_drafts import ByDraft, DraftView
from origin.web.api.operations import Desk, Nothing, Operation


async def _list(desk: Desk, actor: Actor, _where: Nothing, _body: Nothing) -> ContributionList:
    async with reading(desk.engine) as connection:
        rows = await list_own(connection, actor.account.id)
    return ContributionList(
        tuple(
            ContributionRow(
                number=row.number,
                title=row.title,
                state=row.state,
                changed=dump_instant(Instant(row.changed_at)),
                reason=row.reason,
                courseware=row.courseware,
                version=row.version,
            )
            for row in rows
        )
    )


async def _create(desk: Desk, actor: Actor, _where: Nothing, body: ContributionBody) -> DraftView:
    number = await Contributions(desk.drafts.store).hand_in(actor, _words(body), body.uploads)
    return await view(desk, actor, number)


async def _get(desk: Desk, actor: Actor, where: ByDraft, _body: Nothing) -> DraftView:
    await Contributions(desk.drafts.store).own(actor, where.number)
    return await view(desk, actor, where.number)


async def _again(desk: Desk, actor: Actor, where: ByDraft, body: ContributionAgainBody) -> DraftView:
    contributions = Contributions(desk.drafts.store)
    await contributions.hand_in_again(actor, where.number, body.revision, _words(body), body.uploads)
    return await view(desk, actor, where.number)


async def _accept(desk: Desk, actor: Actor, where: ByDraft, body: AcceptBody) -> Accepted:
    is_approved = await Contributions(desk.drafts.store).accept(actor, where.number, body.revision, _words(body))
    draft, _ = await desk.drafts.store.get(actor, where.number)
    if draft.state is State.PUBLISHING:
        desk.drafts.releasing.wake()
    return Accepted(where.number, draft.state, is_approved)


def _words(body: ContributionBody | ContributionAgainBody | AcceptBody) -> Words:
    return Words(body.title, body.summary, body.columns, body.credit)


OPERATIONS = (
    Operation(
        "contributions.list",
        "GET",
        "/contributions",
        "One's own contributions and how they stand",
        "自己的投稿及状态",
        _list,
        answer=ContributionList,
        action=Action.DRAFTS_WRITE,
    ),
    Operation(
        "contributions.create",
        "POST",
        "/contributions",
        "Hand in a contribution made of uploads",
        "用已上传的文件投稿",
        _create,
        body=ContributionBody,
        answer=DraftView,
        action=Action.DRAFTS_WRITE,
    ),
    Operation(
        "contributions.get",
        "GET",
        "/contributions/{number}",
        "One contribution of one's own",
        "自己的单个投稿",
        _get,
        where=ByDraft,
        answer=DraftView,
        action=Action.DRAFTS_WRITE,
    ),
    Operation(
        "contributions.again",
        "POST",
        "/contributions/{number}",
        "Change a contribution of one's own and hand it in once more",
        "修改自己的投稿并重新提交",
        _again,
        where=ByDraft,
        body=ContributionAgainBody,
        answer=DraftView,
        action=Action.DRAFTS_WRITE,
    ),
    Operation(
        "contributions.accept",
        "POST",
        "/contributions/{number}/accept",
        "Accept a contribution as it is, or with edits, which somebody else approves",
        "采用投稿；如有修改，须由另一人审核通过",
        _accept,
        where=ByDraft,
        body=AcceptBody,
        answer=Accepted,
        action=Action.DRAFTS_REVIEW,
    ),
)
