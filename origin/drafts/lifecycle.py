"""The life of a draft: editing → review → approved → publishing → released, and the ways back and out. Pure.

Two people stand behind every release: whoever changed a draft last does not approve it, nor does its author; and an
approval is worth something only for the revision that it was given to. Saving is a step like the others, so that
taking an approval away by editing cannot be forgotten anywhere.

A draft with a hour of its own waits in `publishing`. It gets there without anybody only when one of the two, who edited
it or who approved it, could have released it by hand: a reviewer's word alone puts nothing on screens.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from manifests.instants import Instant


class State(StrEnum):
    """Where a draft stands. `returned` is being edited, after somebody said why it cannot go out like this."""

    EDITING = "editing"
    RETURNED = "returned"
    REVIEW = "review"
    APPROVED = "approved"
    PUBLISHING = "publishing"
    RELEASED = "released"
    REJECTED = "rejected"
    DROPPED = "dropped"


class Step(StrEnum):
    """What somebody wants with it. The last two are the origin's own words about a release that it carried out."""

    SAVE = "save"
    SUBMIT = "submit"
    WITHDRAW = "withdraw"
    APPROVE = "approve"
    RETURN = "return"
    REJECT = "reject"
    DROP = "drop"
    RELEASE = "release"
    SCHEDULE = "schedule"
    HOLD = "hold"
    FINISH = "finish"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Standing:
    """What a step depends on.

    Attributes:
        author, editor: numbers of accounts; the editor is whoever changed it last.
        publish_at: when it shall go out; None for when somebody says so.
        editor_may_publish: whether the editor could release it.
        why_not: what it lacks to be published, in English and Chinese; empty when it lacks nothing.
    """

    state: State
    revision: int
    author: int
    editor: int
    publish_at: Instant | None = None
    editor_may_publish: bool = False
    why_not: tuple[str, str] = ("", "")


@dataclass(frozen=True, slots=True)
class Who:
    """Whoever takes a step, with the rights that they have where this draft belongs."""

    account: int
    may_write: bool = False
    may_review: bool = False
    may_publish: bool = False


ORIGIN: Final = Who(0)


@dataclass(frozen=True, slots=True)
class StepPlan:
    """What happens: the next state, or why nothing does.

    Attributes:
        to: None when the step is refused.
        is_denied: refused for who asks, not for how things stand.
        drops_date: it goes out at once, whatever its hour was.
    """

    to: State | None
    reason: str
    reason_zh: str
    is_denied: bool = False
    drops_date: bool = False


_OPEN: Final = frozenset({State.EDITING, State.RETURNED})
_FROM: Final[Mapping[Step, frozenset[State]]] = {
    Step.SAVE: _OPEN | {State.REVIEW, State.APPROVED},
    Step.SUBMIT: _OPEN,
    Step.WITHDRAW: frozenset({State.REVIEW}),
    Step.APPROVE: frozenset({State.REVIEW}),
    Step.RETURN: frozenset({State.REVIEW, State.APPROVED}),
    Step.REJECT: frozenset({State.REVIEW, State.APPROVED}),
    Step.DROP: _OPEN,
    Step.RELEASE: frozenset({State.APPROVED, State.PUBLISHING}),
    Step.SCHEDULE: frozenset({State.APPROVED}),
    Step.HOLD: frozenset({State.PUBLISHING}),
    Step.FINISH: frozenset({State.PUBLISHING}),
    Step.FAIL: frozenset({State.PUBLISHING}),
}
_WRITES: Final = frozenset({Step.SAVE, Step.SUBMIT, Step.WITHDRAW, Step.DROP})
_REVIEWS: Final = frozenset({Step.APPROVE, Step.RETURN, Step.REJECT})
_PUBLISHES: Final = frozenset({Step.RELEASE, Step.SCHEDULE, Step.HOLD})
_OWN: Final = frozenset({Step.FINISH, Step.FAIL})
# Of those that need no further thought.
_TO: Final[Mapping[Step, State]] = {
    Step.SUBMIT: State.REVIEW,
    Step.WITHDRAW: State.EDITING,
    Step.RETURN: State.RETURNED,
    Step.REJECT: State.REJECTED,
    Step.DROP: State.DROPPED,
    Step.SCHEDULE: State.PUBLISHING,
    Step.HOLD: State.APPROVED,
    Step.FINISH: State.RELEASED,
    Step.FAIL: State.APPROVED,
}
NEEDS_REASON: Final = frozenset({Step.RETURN, Step.REJECT})
STEPS: Final = tuple(step for step in Step if step not in _OWN and step is not Step.SAVE)


def plan_step(draft: Standing, step: Step, who: Who, now: Instant, seen: int | None = None) -> StepPlan:
    """Decide what a step comes to.

    Args:
        draft: as it stands.
        step: what is wanted.
        who: whoever wants it; `ORIGIN` for what the origin itself has to say.
        now: for drafts with an hour of their own.
        seen: the revision that whoever asks has looked at; None for the present one.
    """
    if not _has_right(step, who):
        return _denied("the right to do this is missing", "没有此项权限")
    if draft.state not in _FROM[step]:
        return _refused(f"a draft in state {draft.state} cannot take step {step}", "稿件当前状态下不能进行此操作")
    if seen is not None and seen != draft.revision:
        return _refused("somebody changed the draft meanwhile", "稿件在此期间已被他人修改，请重新查看")
    match step:
        case Step.SAVE:
            return _saved(draft)
        case Step.APPROVE:
            return _approved(draft, who)
        case Step.SUBMIT if draft.why_not[0]:
            return _refused(*draft.why_not)
        case Step.RELEASE | Step.SCHEDULE | Step.HOLD:
            return _timed(draft, step, now)
    return StepPlan(_TO[step], f"{step} by the rules", "按规则进行")


def possible_steps(draft: Standing, who: Who, now: Instant) -> tuple[Step, ...]:
    """The steps that would be granted now, for a page's buttons."""
    return tuple(step for step in STEPS if plan_step(draft, step, who, now).to is not None)


def is_due(state: State, publish_at: Instant | None, now: Instant) -> bool:
    """Tell whether the origin has to publish it now."""
    return state is State.PUBLISHING and (publish_at is None or publish_at <= now)


def _has_right(step: Step, who: Who) -> bool:
    if step in _OWN:
        return who == ORIGIN
    if step in _WRITES:
        return who.may_write
    return who.may_review if step in _REVIEWS else who.may_publish


def _saved(draft: Standing) -> StepPlan:
    """A draft that was returned stays so until it is handed in again: its author looks for it there."""
    if draft.state is State.RETURNED:
        return StepPlan(State.RETURNED, "still to be handed in again", "修改后请重新提交")
    if draft.state is State.APPROVED:
        return StepPlan(State.EDITING, "the approval was given to an earlier revision", "内容有改动，原审核通过作废")
    return StepPlan(State.EDITING, "being edited", "编辑中")


def _approved(draft: Standing, who: Who) -> StepPlan:
    if who.account in {draft.author, draft.editor}:
        return _denied("nobody approves their own work", "不能审核自己撰写或最后修改的稿件")
    if draft.publish_at is not None and (who.may_publish or draft.editor_may_publish):
        return StepPlan(State.PUBLISHING, "approved; it goes out at its hour", "审核通过，将按设定时间发布")
    return StepPlan(State.APPROVED, "approved", "审核通过")


def _timed(draft: Standing, step: Step, now: Instant) -> StepPlan:
    waits = draft.publish_at is not None and draft.publish_at > now
    if step is Step.SCHEDULE and draft.publish_at is None:
        return _refused("it has no hour to wait for", "未设定发布时间")
    if step is Step.RELEASE:
        if draft.state is State.PUBLISHING and not waits:
            return _refused("it is being published already", "正在发布")
        return StepPlan(State.PUBLISHING, "it goes out now", "立即发布", drops_date=waits)
    if step is Step.HOLD and not waits:
        return _refused("it is being published already", "正在发布，不能撤下")
    return StepPlan(_TO[step], f"{step} by the rules", "按规则进行")


def _refused(reason: str, reason_zh: str) -> StepPlan:
    return StepPlan(None, reason, reason_zh)


def _denied(reason: str, reason_zh: str) -> StepPlan:
    return StepPlan(None, reason, reason_zh, is_denied=True)
