"""Commands over an edge's room: edge evict, edge pin."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from manifests.errors import StorageFullError
from manifests.words import show_bytes
from tools.cli_common import Call, command, command_options, run
from tools.cli_edge import DIRECTORY, edge

if TYPE_CHECKING:
    from edge.store.eviction import EvictionPlan

# Above every lesson's own: a person who asks for room decides over planned lessons too, but not over pinned ones.
_TOP = 10


@command(
    "淘汰：按水位线或指定大小腾出磁盘空间；课件仍在列表中，点播时再取回",
    "Evict: keep to the watermarks, or make so much room; lessons stay listed and are fetched when somebody opens them",
    edge,
)
@click.argument("root", metavar="DIR", type=DIRECTORY)
@click.option("--bytes", "need", type=click.IntRange(1), default=None, help="需要的空间 Room that is needed, in bytes")
@command_options(reports=True, changes=True)
def evict(call: Call, root: Path, need: int | None) -> None:
    """Evict: keep to the watermarks, or make so much room."""
    run(_evict(call, root, need))


async def _evict(call: Call, root: Path, need: int | None) -> None:
    from edge import app
    from edge.clock import system_clock
    from edge.store.evicting import limits_of, preview_eviction, run_eviction
    from edge.store.eviction import Standing, Wish
    from edge.threads import run_to_end
    from tools.plan_table import eviction_table, say_left

    wish = Wish(Standing.PLANNED, _TOP) if need else None
    async with app.open_edge(root, os.environ, system_clock) as opened:
        store, limits, now = opened.store, limits_of(opened.settings.store), opened.clock()
        plan = preview_eviction(store, opened.library, opened.usage, limits, need or 0, now, wish=wish)
        freed = 0
        if not call.dry_run:
            freed = await run_to_end(run_eviction, store, opened.usage, plan.victims, limits, now)
    call.output.emit({"plan": plan, "freed_bytes": freed, "dry_run": call.dry_run})
    if plan.victims:
        call.output.show(lambda: eviction_table(plan, call.output))
        say_left(len(plan.victims), call.output)
    call.output.say(*_line(plan, freed, dry_run=call.dry_run))
    if not plan.is_enough:
        raise StorageFullError(
            f"{need or 0} bytes do not fit: the rest is pinned, leased, or watched just now",
            zh=f"无法腾出 {need or 0} 字节：其余课件已固定、被占用或正在播放",
            hint="unpin lessons, or add a disk",
            hint_zh="请取消固定部分课件，或增加磁盘",
        )


def _line(plan: EvictionPlan, freed: int, *, dry_run: bool) -> tuple[str, str]:
    count, room = len(plan.victims), show_bytes(max(plan.room_bytes, 0))
    if dry_run:
        size = show_bytes(plan.bytes)
        return (
            f"将淘汰 {count} 个课件，腾出 {size}，之后可用 {room}",
            f"would evict {count} lessons, {size}; {room} may be used then",
        )
    size = show_bytes(freed)
    return f"已淘汰 {count} 个课件，腾出 {size}，可用 {room}", f"{count} lessons evicted, {size}; {room} may be used"


@command(
    "固定课件：空间不足时也不淘汰；不带编号则列出已固定的课件",
    "Pin a lesson, so that it is never evicted; without an id, list those that are pinned",
    edge,
)
@click.argument("root", metavar="DIR", type=DIRECTORY)
@click.argument("courseware_id", metavar="[ID]", required=False)
@click.option("--remove", is_flag=True, help="取消固定 Unpin it")
@command_options(reports=True, changes=True)
def pin(call: Call, root: Path, courseware_id: str | None, remove: bool) -> None:
    """Pin a lesson, so that it is never evicted."""
    run(_pin(call, root, courseware_id, remove))


async def _pin(call: Call, root: Path, courseware_id: str | None, remove: bool) -> None:
    from edge import app
    from edge.clock import system_clock
    from manifests.names import parse_courseware_id

    if courseware_id is None and remove:
        raise click.UsageError("--remove 需要课件编号 --remove needs an id")
    wanted = parse_courseware_id(courseware_id) if courseware_id else None
    async with app.open_edge(root, os.environ, system_clock) as opened:
        if wanted is not None and not call.dry_run:
            if remove:
                opened.usage.unpin(wanted)
            else:
                opened.usage.pin(wanted, opened.clock())
        pins = sorted(opened.usage.pins())
    call.output.emit({"pinned": pins, "dry_run": call.dry_run})
    if wanted is None:
        call.output.say("已固定：" + ("、".join(pins) or "无"), "pinned: " + (", ".join(pins) or "none"))
    elif call.dry_run:
        act_zh, act = ("取消固定", "unpin") if remove else ("固定", "pin")
        call.output.say(f"将{act_zh} {wanted}", f"would {act} {wanted}")
    elif remove:
        call.output.say(f"{wanted} 不再固定", f"{wanted} is no longer pinned")
    else:
        call.output.say(f"{wanted} 已固定，不会被淘汰", f"{wanted} is pinned and will not be evicted")


def register(cli: click.Group) -> None:
    """Make these commands of the group `edge` known; it registers itself."""
    del cli
