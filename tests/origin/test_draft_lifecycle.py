"""The life of a draft, tried in every order: no way to screens without another person's word for what goes out."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from manifests.errors import InputError
from manifests.instants import Instant
from manifests.names import Region, is_within
from origin.drafts.document import Document, fold_audience, kind_of, why_unfinished
from origin.drafts.lifecycle import (
    ORIGIN,
    STEPS,
    Standing,
    State,
    Step,
    Who,
    is_due,
    plan_step,
    possible_steps,
)
from origin.drafts.themes import Theme, plan_theme, read_theme, themes_in
from origin.stations.regions import load_regions

NOW = Instant(1_800_000_000)
REGIONS = tuple(row.code for row in load_regions().rows)

people = st.builds(Who, st.integers(1, 3), st.booleans(), st.booleans(), st.booleans()) | st.just(ORIGIN)
hours = st.none() | st.sampled_from([NOW - 1, NOW, NOW + 3600]).map(Instant)
EVERYBODY = (*(Who(n, may_write=True, may_review=True, may_publish=True) for n in (1, 2, 3)), ORIGIN)


@given(data=st.data(), publish_at=hours, may=st.booleans())
def test_nothing_is_released_without_another_persons_word_for_that_very_revision(
    data: st.DataObject, publish_at: Instant | None, may: bool
) -> None:
    """Walk through whatever is granted, by people who may do everything."""
    draft = Standing(State.EDITING, 1, 1, 1, publish_at, may)
    approved: dict[int, int] = {}
    for _ in range(14):
        granted = [
            (step, who, plan)
            for step in Step
            for who in EVERYBODY
            if (plan := plan_step(draft, step, who, NOW, draft.revision)).to is not None
        ]
        if not granted:
            break
        # The steps that lead forward are as likely as all others together, or few walks would get anywhere.
        ahead = [one for one in granted if one[0] in {Step.SUBMIT, Step.APPROVE, Step.RELEASE, Step.FINISH}]
        step, who, plan = data.draw(
            st.sampled_from(ahead) | st.sampled_from(granted) if ahead else st.sampled_from(granted)
        )
        if step is Step.SAVE:
            draft = replace(draft, revision=draft.revision + 1, editor=who.account)
        if step is Step.APPROVE:
            approved[draft.revision] = who.account
        assert plan.to is not None
        draft = replace(draft, state=plan.to, publish_at=None if plan.drops_date else draft.publish_at)
        if draft.state in {State.APPROVED, State.PUBLISHING, State.RELEASED}:
            assert draft.revision in approved
            assert approved[draft.revision] not in {draft.author, draft.editor}


@given(step=st.sampled_from(STEPS), state=st.sampled_from(State), who=people, publish_at=hours)
def test_whoever_saw_another_revision_moves_nothing(
    step: Step, state: State, who: Who, publish_at: Instant | None
) -> None:
    plan = plan_step(Standing(state, 5, 1, 2, publish_at), step, who, NOW, 4)
    assert plan.to is None
    assert plan.reason
    assert plan.reason_zh


@given(state=st.sampled_from(State), who=people, publish_at=hours)
def test_buttons_are_what_would_be_granted(state: State, who: Who, publish_at: Instant | None) -> None:
    draft = Standing(state, 3, 1, 2, publish_at)
    shown = possible_steps(draft, who, NOW)
    for step in STEPS:
        assert (step in shown) == (plan_step(draft, step, who, NOW, 3).to is not None)
    if state in {State.RELEASED, State.REJECTED, State.DROPPED}:
        assert shown == ()


@given(who=people, step=st.sampled_from(Step), state=st.sampled_from(State))
def test_rights_are_asked_before_anything_else(who: Who, step: Step, state: State) -> None:
    bare = replace(who, may_write=False, may_review=False, may_publish=False)
    plan = plan_step(Standing(state, 1, 1, 1), step, bare, NOW)
    if step in {Step.FINISH, Step.FAIL} and bare == ORIGIN:
        return
    assert plan.to is None
    assert plan.is_denied


def test_a_scheduled_draft_waits_for_its_hour_and_can_be_held() -> None:
    reviewer, publisher = Who(2, may_review=True), Who(3, may_publish=True)
    review = Standing(State.REVIEW, 1, 1, 1, Instant(NOW + 60))
    assert plan_step(review, Step.APPROVE, reviewer, NOW).to is State.APPROVED
    assert plan_step(replace(review, editor_may_publish=True), Step.APPROVE, reviewer, NOW).to is State.PUBLISHING
    waiting = replace(review, state=State.PUBLISHING)
    assert not is_due(waiting.state, waiting.publish_at, NOW)
    assert is_due(waiting.state, waiting.publish_at, Instant(NOW + 60))
    assert plan_step(waiting, Step.HOLD, publisher, NOW).to is State.APPROVED
    assert plan_step(waiting, Step.HOLD, publisher, Instant(NOW + 60)).to is None
    assert plan_step(waiting, Step.RELEASE, publisher, NOW).drops_date


@given(codes=st.lists(st.sampled_from(REGIONS), max_size=30))
def test_an_audience_is_folded_without_gaining_or_losing_anybody(codes: list[Region]) -> None:
    folded = fold_audience(codes, Region("410000"))
    for region in REGIONS:
        assert any(is_within(region, one) for one in codes) == any(is_within(region, one) for one in folded)
    assert fold_audience(folded, Region("410000")) == folded
    for one in folded:
        assert not any(is_within(one, other) for other in folded if other != one)


def test_a_month_has_one_theme() -> None:
    columns = ["农业技术", "2026年12月主题：冬季果园", "2026年3月主题：春耕"]
    assert [theme.month for theme in themes_in(columns)] == ["2026-12", "2026-03"]
    assert plan_theme("2026-12", "", columns) == Theme("2026-12", "冬季果园")
    assert plan_theme("2027-01", "备耕", columns).column == "2027年1月主题：备耕"
    for month, title in (
        ("2026-12", "别的"),
        ("2026-13", "x"),
        ("2027-01", " "),
        ("明年", "x"),
        ("2027-01", "长" * 60),
    ):
        with pytest.raises(InputError):
            plan_theme(month, title, columns)
    assert read_theme("农业技术") is None


@given(month=st.integers(1, 12), year=st.integers(2000, 2099), title=st.sampled_from(["春耕", "：", "a：b"]))
def test_a_themes_column_reads_back(year: int, month: int, title: str) -> None:
    theme = Theme(f"{year}-{month:02}", title)
    assert read_theme(theme.column) == theme


def test_what_a_draft_lacks_is_said() -> None:
    whole = Document(title="x", article="<p>x</p>")
    assert why_unfinished(whole, [], None, NOW) == ("", "")
    assert "title" in why_unfinished(Document(article="x"), [], None, NOW)[0]
    assert "learn" in why_unfinished(Document(title="x"), ["picture", "subtitle"], None, NOW)[0]
    late = Document(title="x", article="x", expires="2026-01-01T00:00:00Z")
    assert "expire" in why_unfinished(late, [], None, NOW)[0]
    assert [kind_of(whole, kinds) for kinds in ([], ["video"], ["audio"], ["document"])] == [
        *("article", "video", "recording", "article"),
    ]
