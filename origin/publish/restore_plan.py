"""What restoring an old release would change, decided without I/O: each lesson's fate with its reason. Pure.

A release is never taken back: edges refuse what is older than what they have. So what was offered then is offered
anew, under new numbers, in one new release. What was recalled since stays recalled unless somebody names it: a recall
is a decision about content, and must not be undone in passing.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum

import msgspec

from manifests.instants import Instant, dump_instant
from manifests.model import Courseware, Recall
from manifests.names import Region
from origin.publish.planner import substance


@dataclass(frozen=True, slots=True)
class Offer:
    """What is, or was, offered of one lesson.

    Attributes:
        document: what all got.
        areas: when it is on trial: where.
        tried: what they get there instead; None with areas: nobody else gets any.
    """

    document: Courseware
    areas: tuple[Region, ...] = ()
    tried: Courseware | None = None

    @property
    def is_narrow(self) -> bool:
        """It goes to some regions only, and to nobody else in any version."""
        return bool(self.areas) and self.tried is None


class Fate(StrEnum):
    """What becomes of a lesson; those that stay as they are have none."""

    BACK = "back"
    CHANGE = "change"
    AWAY = "away"
    RECALLED = "recalled"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class ItemFate:
    """One lesson's fate.

    Attributes:
        version: that is offered now; 0 for none.
        then: that was offered then; 0 for none.
        document: what will be offered, under its new version; None when that is nothing, or what is offered now.
    """

    id: str
    title: str
    fate: Fate
    reason: str
    reason_zh: str
    version: int
    then: int
    document: Courseware | None = None


@dataclass(frozen=True, slots=True)
class RestorePlan:
    """The fates of all lessons that differ, by id; `unchanged` counts the others.

    Attributes:
        number: the release that is to be restored.
        newest: the release that this plan starts from.
    """

    number: int
    newest: int
    items: tuple[ItemFate, ...]
    unchanged: int

    def of(self, *fates: Fate) -> tuple[ItemFate, ...]:
        """Items of these fates."""
        return tuple(item for item in self.items if item.fate in fates)

    @property
    def changed(self) -> tuple[ItemFate, ...]:
        """Items that need the release."""
        return self.of(Fate.BACK, Fate.CHANGE, Fate.AWAY)

    @property
    def note(self) -> str:
        """The new release in one line, for lists of releases."""
        counts = (len(self.of(fate)) for fate in (Fate.BACK, Fate.CHANGE, Fate.AWAY))
        back, changed, away = counts
        return f"as release {self.number}: {back} back, {changed} changed, {away} taken away"


@dataclass(frozen=True, slots=True)
class Library:
    """What a restore is planned over.

    Attributes:
        now, then: what is and was offered, by id.
        recalls: the newest of each id.
        highest: version numbers ever given out.
        same: lessons that are offered exactly as then, and stand in neither of `now` and `then`.
    """

    newest: int
    now: Mapping[str, Offer]
    then: Mapping[str, Offer]
    recalls: Mapping[str, Recall]
    highest: Mapping[str, int]
    same: int = 0


def plan_restore(
    number: int, library: Library, gone: Collection[str], bring_back: Collection[str], now: Instant
) -> RestorePlan:
    """Decide what restoring a release changes.

    Args:
        number: the release.
        library: what is offered, and what was.
        gone: blobs that the storage does not have any more.
        bring_back: ids whose recall somebody asked to undo.
        now: by which lessons have expired.
    """
    items: list[ItemFate] = []
    unchanged = library.same
    for id_ in sorted({*library.now, *library.then}):
        fate = _fate(id_, library, bring_back, now)
        if fate is None:
            unchanged += id_ in library.now
        else:
            items.append(_with_blobs(fate, gone))
    return RestorePlan(number, library.newest, tuple(items), unchanged)


def wanted_blobs(plan: RestorePlan) -> Iterator[str]:
    """Blobs that a plan offers anew, and that must be in the storage."""
    for item in plan.items:
        if item.document is not None:
            for file in item.document.files:
                yield file.blob
                if file.table is not None:
                    yield file.table


def _fate(id_: str, library: Library, bring_back: Collection[str], now: Instant) -> ItemFate | None:
    before, then = library.now.get(id_), library.then.get(id_)
    if before == then:
        return None
    if then is None or then.is_narrow:
        if before is None:
            return None
        return _away(id_, before, then)
    if before is not None and not before.areas and substance(before.document) == substance(then.document):
        return None
    recall = library.recalls.get(id_)
    version = before.document.version if before else 0
    if recall is not None and recall.version >= then.document.version and id_ not in bring_back:
        return _recalled(id_, then.document, version, recall)
    document = msgspec.structs.replace(then.document, version=library.highest[id_] + 1)
    fate = Fate.BACK if before is None else Fate.CHANGE
    reason, reason_zh = _why(before, then, recall if id_ in bring_back else None)
    if document.expires is not None and document.expires <= dump_instant(now):
        reason += "; it has expired, so nobody is shown it"
        reason_zh += "；已到期，不会展示"
    return ItemFate(id_, document.title, fate, reason, reason_zh, version, then.document.version, document)


def _why(before: Offer | None, then: Offer, recall: Recall | None) -> tuple[str, str]:
    if before is None:
        if recall is not None:
            return f"its recall is undone by request ({recall.reason})", f"按要求取消撤回（撤回原因：{recall.reason}）"
        return "it is not offered any more", "目前未提供"
    if before.tried is not None or before.areas:
        return "its pilot ends with this", "其试点随之结束"
    old, new = before.document.version, then.document.version
    return f"version {old} goes back to what version {new} was", f"由第 {old} 版改回第 {new} 版的内容"


def _away(id_: str, before: Offer, then: Offer | None) -> ItemFate:
    reason, reason_zh = "it was not offered then", "当时没有该课件"
    if then is not None:
        reason, reason_zh = "it was only on trial then, in some regions", "当时仅在部分地区试点"
    version = before.document.version
    return ItemFate(id_, before.document.title, Fate.AWAY, reason, reason_zh, version, 0)


def _recalled(id_: str, then: Courseware, version: int, recall: Recall) -> ItemFate:
    reason, reason_zh = f"recalled since: {recall.reason}", f"此后已撤回：{recall.reason}"
    if version:
        reason += f"; version {version} stays"
        reason_zh += f"；保留第 {version} 版"
    return ItemFate(id_, then.title, Fate.RECALLED, reason, reason_zh, version, then.version)


def _with_blobs(item: ItemFate, gone: Collection[str]) -> ItemFate:
    """The same, refused when a file of it is lost."""
    if item.document is None or not gone:
        return item
    lost = [file.name for file in item.document.files if file.blob in gone or file.table in gone]
    if not lost:
        return item
    shown = ", ".join(lost[:3])
    reason, reason_zh = f"gone from the storage: {shown}", f"文件已不在存储中：{shown}"
    return ItemFate(item.id, item.title, Fate.REFUSED, reason, reason_zh, item.version, item.then)
