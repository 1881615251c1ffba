"""Tables for people of what a sync will do and has done: plan, promise, fact, and why not. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import tzinfo
from typing import TYPE_CHECKING

from rich.markup import escape
from rich.table import Table

from manifests.instants import Instant, parse_instant
from manifests.words import show_bytes, show_moment
from tools.output import Output

if TYPE_CHECKING:
    from edge.store.eviction import EvictionPlan, Victim
    from edge.sync.planner import FilePlan, ItemPlan
    from edge.sync.promise import PromisedPlan
    from edge.sync.report import SyncReport
    from edge.sync.whynot import WhyNot
    from origin.publish.promise import EdgePromise

# A terminal has no use for more; --json has them all.
MOST_ROWS = 500
_ACTIONS = {"add": "新增", "update": "更新", "remove": "移除", "recall": "撤回", "defer": "推迟"}
_WAYS = {"have": "已有", "copy": "同文件", "patch": "补丁", "pieces": "分片", "whole": "整份", "evicted": "不取"}


def plan_table(plan: PromisedPlan, output: Output, now: Instant, zone: tzinfo) -> Table:
    """A plan in the order of its execution."""
    table = _table(output, ("#", "#"), ("操作", "action"), ("课件", "lesson"), ("获取方式", "how"))
    table.add_column(output.pick("传输", "bytes"), justify="right")
    table.add_column(output.pick("预计完成", "expected"))
    table.add_column(output.pick("说明", "why"))
    for n, item in enumerate(plan.items[:MOST_ROWS], 1):
        why = output.pick(item.late_zh, item.late) or output.pick(item.reason_zh, item.reason)
        why += "".join(_goes(one, output) for one in item.evicts)
        table.add_row(
            str(n),
            output.pick(_ACTIONS[item.action], item.action),
            escape(_lesson(item.id, item.title)),
            escape("\n".join(_way(file, output) for file in item.files)),
            show_bytes(item.bytes_expected) if item.files else "–",
            _expected(item, output, now, zone),
            escape(why),
        )
    return table


def fact_table(report: SyncReport, output: Output, now: Instant, zone: tzinfo) -> Table:
    """What a run promised, and what became of it."""
    table = _table(output, ("课件", "lesson"))
    for zh, en in (("计划传输", "promised"), ("实际传输", "fetched")):
        table.add_column(output.pick(zh, en), justify="right")
    for zh, en in (("预计完成", "expected"), ("实际完成", "done"), ("说明", "why")):
        table.add_column(output.pick(zh, en))
    reasons = {one.id: output.pick(one.reason_zh or one.reason, one.reason) for one in report.deferred}
    for id_, promised in list(report.promised.items())[:MOST_ROWS]:
        fact = report.fact.get(id_)
        table.add_row(
            escape(_lesson(id_, promised.title)),
            show_bytes(promised.bytes),
            show_bytes(fact.bytes) if fact else "–",
            _moment(promised.expected, output, now, zone),
            _moment(fact.done if fact else None, output, now, zone),
            escape("" if fact else reasons.get(id_, "")),
        )
    return table


def why_table(absent: Sequence[WhyNot], output: Output) -> Table:
    """One sentence per lesson that is not here."""
    table = _table(output, ("课件", "lesson"), ("不在本地的原因", "why it is not here"))
    for one in absent[:MOST_ROWS]:
        table.add_row(escape(_lesson(one.id, one.title)), escape(output.pick(one.text_zh, one.text)))
    return table


def eviction_table(plan: EvictionPlan, output: Output) -> Table:
    """What goes for want of room, the first to go first."""
    table = _table(output, ("课件", "lesson"))
    table.add_column(output.pick("腾出", "bytes"), justify="right")
    table.add_column(output.pick("说明", "why"))
    for one in plan.victims[:MOST_ROWS]:
        why = output.pick(one.reason_zh, one.reason)
        table.add_row(escape(", ".join(one.ids)), show_bytes(one.size), escape(why))
    return table


def tail_table(tail: Sequence[EdgePromise], output: Output) -> Table:
    """The edges that would not hold a courseware in time, by name."""
    table = Table(title=output.pick("不能按时具备的边缘服务器", "Edges that would not hold it in time"))
    for zh, en in (("编号", "code"), ("名称", "name"), ("原因", "why")):
        table.add_column(output.pick(zh, en))
    for one in tail[:MOST_ROWS]:
        table.add_row(one.code, escape(one.name), escape(output.pick(one.reason_zh, one.reason)))
    return table


def say_left(count: int, output: Output) -> None:
    """Tell how many rows a table left out."""
    if count > MOST_ROWS:
        left = count - MOST_ROWS
        output.say(f"另有 {left} 项未列出，完整内容请用 --json", f"{left} more are not shown; --json has them all")


def _table(output: Output, *titles: tuple[str, str]) -> Table:
    table = Table()
    for zh, en in titles:
        table.add_column(output.pick(zh, en))
    return table


def _lesson(id_: str, title: str) -> str:
    return f"{id_} 《{title}》" if title else id_


def _way(file: FilePlan, output: Output) -> str:
    how = output.pick(_WAYS[file.how], file.how)
    return f"{file.name} {how} {show_bytes(file.bytes_expected)}"


def _goes(victim: Victim, output: Output) -> str:
    ids = "、".join(victim.ids)
    return output.pick(f"\n先淘汰 {ids}：{victim.reason_zh}", f"\nevicts {ids}: {victim.reason}")


def _expected(item: ItemPlan, output: Output, now: Instant, zone: tzinfo) -> str:
    if item.fits is None:
        return "–" if item.action == "defer" else output.pick("立即", "at once")
    return _moment(item.expected, output, now, zone)


def _moment(text: str | None, output: Output, now: Instant, zone: tzinfo) -> str:
    return "–" if text is None else output.pick(*show_moment(parse_instant(text), now, zone))
