"""Why is a lesson not here? One sentence for each lesson that the province offers and this edge does not show.

Pure: catalog, plan and the last run's word in, sentences out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import tzinfo
from enum import StrEnum

from msgspec import Struct

from edge.sync.planner import Action, ItemPlan, SyncPlan
from edge.sync.wanting import Wanted, reason_against
from manifests.errors import FormatError
from manifests.instants import Instant, dump_instant, parse_instant
from manifests.model import Catalog, Courseware, Recall
from manifests.words import show_bytes, show_moment


class Cause(StrEnum):
    """Why a lesson is not here; the operator's page groups by it."""

    RECALLED = "recalled"
    AUDIENCE = "audience"
    COLUMNS = "columns"
    EXPIRED = "expired"
    NOT_YET = "not-yet"
    NO_ROOM = "no-room"
    EVICTED = "evicted"
    FAILED = "failed"
    WAITS = "waits"


class WhyNot(Struct, frozen=True):
    """One lesson that is not here.

    Attributes:
        expected: when it will be, as far as that is promised.
        text, text_zh: one sentence.
    """

    id: str
    title: str
    version: int
    cause: Cause
    text: str
    text_zh: str
    expected: str | None = None


class Failure(Struct, frozen=True):
    """What the last run said of a lesson that it could not complete."""

    reason: str
    reason_zh: str


def why_not(
    catalog: Catalog,
    plan: SyncPlan,
    installed: Mapping[str, int],
    wanted: Wanted,
    failures: Mapping[str, Failure],
    now: Instant,
    zone: tzinfo,
) -> tuple[WhyNot, ...]:
    """Explain every absence, in the order of ids.

    Args:
        catalog: what the province offers.
        plan: made from it, with promises if there are to be any.
        installed: id → version of what is shown here; these are passed over.
        wanted: what of the catalog is for this edge.
        failures: from the last run's report.
        now: trusted time.
        zone: the county's, to say when.
    """
    return tuple(sorted(_absences(catalog, plan, installed, wanted, failures, now, zone), key=lambda one: one.id))


def failures_of(report: object) -> dict[str, Failure]:
    """What a kept report (plain JSON values) says of lessons that were not completed; nothing when it is none."""
    listed = report.get("deferred") if isinstance(report, dict) else None
    return {
        str(one["id"]): Failure(str(one.get("reason", "")), str(one.get("reason_zh") or one.get("reason", "")))
        for one in (listed if isinstance(listed, list) else ())
        if isinstance(one, dict) and "id" in one
    }


def _absences(
    catalog: Catalog,
    plan: SyncPlan,
    installed: Mapping[str, int],
    wanted: Wanted,
    failures: Mapping[str, Failure],
    now: Instant,
    zone: tzinfo,
) -> Iterator[WhyNot]:
    planned = {item.id: item for item in plan.of(Action.ADD, Action.UPDATE, Action.DEFER)}
    recalls = {recall.id: recall for recall in catalog.recalls}
    areas, now_text = wanted.areas, dump_instant(now)
    for item in catalog.courseware:
        recalls.pop(item.id, None)  # a later version is offered: that one counts
        against = reason_against(item, wanted, areas, now_text)
        # What has expired is not shown, and may lie here until the next sync.
        if item.id in installed and (against is None or against[0] != Cause.EXPIRED):
            if item.id in planned and (planned[item.id].is_evicted or planned[item.id].is_back):
                yield _planned(item, planned[item.id], failures.get(item.id), now, zone)
            continue
        if against is not None:
            cause = Cause(against[0])
            yield _not_wanted(item, cause, now, zone)
        elif item.id in planned:
            yield _planned(item, planned[item.id], failures.get(item.id), now, zone)
    for recall in recalls.values():
        if recall.id not in installed:
            yield _recalled(recall, now, zone)


def _not_wanted(item: Courseware, cause: Cause, now: Instant, zone: tzinfo) -> WhyNot:
    if cause is Cause.AUDIENCE:
        zh, en = "不面向本地区", "It is not meant for this region"
    elif cause is Cause.COLUMNS:
        zh, en = "所属专栏未在本地订阅", "None of its columns is subscribed to here"
    else:
        when_zh, when = _moment(item.expires or "", now, zone)
        zh, en = f"已于{when_zh} 到期", f"It expired: {when}"
    return WhyNot(item.id, item.title, item.version, cause, f"{en}.", f"{zh}。")


def _planned(item: Courseware, plan: ItemPlan, failure: Failure | None, now: Instant, zone: tzinfo) -> WhyNot:
    if plan.action is Action.DEFER and plan.for_room:
        need_zh = f"需要 {show_bytes(plan.need)}，可用 {show_bytes(max(plan.room, 0))}"
        need = f"it needs {show_bytes(plan.need)}, {show_bytes(max(plan.room, 0))} may be used"
        return WhyNot(
            item.id, item.title, item.version, Cause.NO_ROOM, f"No room: {need}.", f"磁盘空间不足：{need_zh}。"
        )
    if plan.is_evicted:
        text, text_zh = (
            "Evicted: no room. It is still listed, and fetched when somebody opens it.",
            "因空间不足已淘汰：仍在列表中，点播时再取回。",
        )
        return WhyNot(item.id, item.title, item.version, Cause.EVICTED, text, text_zh)
    if plan.action is Action.DEFER:
        when_zh, when = _moment(item.published, now, zone)
        text, text_zh = f"It is not to be shown before {when}.", f"{when_zh} 才开放。"
        return WhyNot(item.id, item.title, item.version, Cause.NOT_YET, text, text_zh)
    when_zh, when = ("", "") if plan.expected is None else _moment(plan.expected, now, zone)
    then_zh = f"预计{when_zh} 完成" if when else "按目前线路速率短期内无法完成"
    then = f"expected {when}" if when else "not in sight on this line"
    size = show_bytes(plan.bytes_expected)
    cause = Cause.WAITS
    text, text_zh = f"It waits for its turn on the line ({size}), {then}.", f"等待传输（{size}），{then_zh}。"
    if failure is not None:
        cause = Cause.FAILED
        text, text_zh = (
            f"The last attempt failed: {failure.reason}; {then}.",
            f"上次获取失败：{failure.reason_zh}；{then_zh}。",
        )
    return WhyNot(item.id, item.title, item.version, cause, text, text_zh, plan.expected)


def _recalled(recall: Recall, now: Instant, zone: tzinfo) -> WhyNot:
    when_zh, when = _moment(recall.at, now, zone)
    text = f"The province recalled it ({when}): {recall.reason}."
    return WhyNot(
        recall.id, "", recall.version, Cause.RECALLED, text, f"省级源站已撤回（{when_zh}）：{recall.reason}。"
    )


def _moment(text: str, now: Instant, zone: tzinfo) -> tuple[str, str]:
    """An instant of the wire as people read it; a catalog may hold one that exists in no calendar."""
    try:
        return show_moment(parse_instant(text), now, zone)
    except (FormatError, ValueError, OverflowError, OSError):
        return text, text
