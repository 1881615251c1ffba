"""Commands for releases: restoring an old one, and pilots."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tools.cli_common import Call, command, command_options, run
from tools.cli_origin import DIRECTORY, keys_option, origin, passphrase_for

if TYPE_CHECKING:
    from origin.publish.pilot_plan import PilotWish
    from origin.publish.piloting import Stepped
    from origin.publish.restore_plan import ItemFate, RestorePlan

_FATES = {
    "back": ("重新提供", "comes back"),
    "change": ("改回", "changes back"),
    "away": ("下架", "is taken away"),
    "recalled": ("保持撤回", "stays recalled"),
    "refused": ("无法恢复", "cannot be restored"),
}
_STEPS = {
    "wait": ("等待", "waits"),
    "go_on": ("进入下一批", "goes on"),
    "finish": ("面向全部地区", "goes to all"),
    "stop": ("停止", "stops"),
}
_SHOWN = 50


@command(
    "恢复某次发布：当时的课件以新版本号重新提供；先用 --dry-run 查看方案",
    "Restore a release: what was offered then is offered anew, in one new release; see the plan with --dry-run",
    origin,
    "restore-release",
)
@click.argument("root", metavar="DIR", type=DIRECTORY)
@click.argument("number", metavar="N", type=click.IntRange(1))
@click.option("--recalled", multiple=True, metavar="ID", help="取消其撤回，可多次 Undo this recall; repeatable")
@click.option("--partly", is_flag=True, help="跳过文件已缺失的课件 Go on without lessons whose files are gone")
@keys_option
@command_options(reports=True, changes=True)
def restore_release(
    call: Call, root: Path, number: int, recalled: tuple[str, ...], partly: bool, keys_dir: Path | None
) -> None:
    """Restore a release: what was offered then is offered anew, in one new release; see the plan with --dry-run."""
    run(_restore(call, root, number, recalled, partly, keys_dir))


async def _restore(
    call: Call, root: Path, number: int, recalled: tuple[str, ...], partly: bool, keys_dir: Path | None
) -> None:
    from origin import app
    from origin.clock import system_clock
    from origin.publish.release import RestoreWish

    phrase = passphrase_for(*([keys_dir] if keys_dir else []), root / "keys")
    async with app.open_origin(root, os.environ, system_clock, passphrase=phrase, keys_dir=keys_dir) as opened:
        if call.dry_run:
            plan = await opened.releases.foresee_restore(number, recalled)
            call.output.emit(_told(plan) | {"dry_run": True})
            _show(call, plan)
            return
        done = await opened.releases.restore(RestoreWish(number, recalled, None, partly))
    call.output.emit(_told(done.plan) | {"catalog_version": done.catalog_version, "dry_run": False})
    _show(call, done.plan)
    if done.changed:
        call.output.say(
            f"已恢复到第 {number} 次发布，目录第 {done.catalog_version} 版",
            f"release {number} is restored, catalog version {done.catalog_version}",
        )


def _told(plan: RestorePlan) -> dict[str, Any]:
    return {
        "release": plan.number,
        "newest": plan.newest,
        "unchanged": plan.unchanged,
        "items": [_item(one) for one in plan.items],
    }


def _item(one: ItemFate) -> dict[str, Any]:
    names = ("id", "title", "reason", "reason_zh", "version", "then")
    new = one.document.version if one.document is not None else 0
    return {name: getattr(one, name) for name in names} | {"fate": str(one.fate), "new": new}


def _show(call: Call, plan: RestorePlan) -> None:
    say = call.output.say
    if not plan.changed:
        say(f"现在提供的与第 {plan.number} 次发布时相同", f"what is offered is what release {plan.number} offered")
    for one in plan.items[:_SHOWN]:
        zh, en = _FATES[one.fate]
        say(f"  {zh}：{one.title}（{one.id}），{one.reason_zh}", f"  {one.title} ({one.id}) {en}: {one.reason}")
    if len(plan.items) > _SHOWN:
        left = len(plan.items) - _SHOWN
        say(f"  另有 {left} 个，见 --json", f"  and {left} more, see --json")
    say(f"  不变 {plan.unchanged} 个", f"  {plan.unchanged} stay as they are")


@command(
    "查看进行中的试点，并按回执推进或停止（origin serve 每分钟自动进行）",
    "Look at pilots that run, and do what their receipts ask for, as `origin serve` does each minute",
    origin,
)
@click.argument("root", metavar="DIR", type=DIRECTORY)
@keys_option
@command_options(reports=True, changes=True)
def pilots(call: Call, root: Path, keys_dir: Path | None) -> None:
    """Look at pilots that run, and do what their receipts ask for, as `origin serve` does each minute."""
    run(_pilots(call, root, keys_dir))


async def _pilots(call: Call, root: Path, keys_dir: Path | None) -> None:
    from origin import app
    from origin.clock import system_clock
    from origin.publish.piloting import Pilots, Stepped

    phrase = passphrase_for(*([keys_dir] if keys_dir else []), root / "keys")
    async with app.open_origin(root, os.environ, system_clock, passphrase=phrase, keys_dir=keys_dir) as opened:
        tries = Pilots(opened.releases)
        if call.dry_run:
            done = tuple(Stepped(one, 0) for one in await tries.look_at_all())
        else:
            done = await tries.step_all()
    call.output.emit({"pilots": [_stepped(one) for one in done], "dry_run": call.dry_run})
    if not done:
        call.output.say("没有进行中的试点", "no pilot runs")
    for one in done:
        _say_pilot(call, one)


def _stepped(one: Stepped) -> dict[str, Any]:
    pilot, plan = one.looked.pilot, one.looked.plan
    return {
        "id": pilot.id,
        "courseware": pilot.courseware,
        "title": pilot.title,
        "version": pilot.version,
        "wave": pilot.wave + 1,
        "waves": pilot.waves,
        "step": str(plan.step),
        "reason": plan.reason,
        "reason_zh": plan.reason_zh,
        "meant": plan.meant,
        "proved": plan.proved,
        "failed": plan.failed,
        "edges": [
            {"edge": row.edge.code, "name": row.edge.name, "standing": str(row.standing), "reason": row.reason}
            for row in plan.edges
        ],
        "catalog_version": one.catalog_version,
    }


def _say_pilot(call: Call, one: Stepped) -> None:
    pilot, plan = one.looked.pilot, one.looked.plan
    zh, en = _STEPS[plan.step]
    call.output.say(
        f"《{pilot.title}》第 {pilot.version} 版，第 {pilot.wave + 1}/{len(pilot.waves)} 批：{zh}，{plan.reason_zh}",
        f"{pilot.title} version {pilot.version}, wave {pilot.wave + 1} of {len(pilot.waves)}: {en}, {plan.reason}",
    )
    for row in plan.edges:
        call.output.say(f"  {row.edge.name}（{row.edge.code}）：{row.reason_zh}", f"  {row.edge.code}: {row.reason}")


def pilot_wish(root: Path | None, waves: tuple[str, ...]) -> PilotWish | None:
    """A pilot as the command line asks for it: each option a wave, its regions joined by commas, by code or name.

    Args:
        root: the origin whose settings say what a wave must come to; None: the defaults.
        waves: the options.

    Returns:
        None when no wave is asked for.

    Raises:
        InputError: bad data; a region that is none.
        ConfigurationError: bad data; no origin, or a setting is wrong.
    """
    if not waves:
        return None
    from origin.opening import load_origin_settings
    from origin.paths import Paths
    from origin.publish.pilot_plan import PilotWish, terms_of
    from origin.settings import Pilots
    from origin.stations.regions import load_regions

    regions = load_regions()
    found = tuple(tuple(regions.find(one).code for one in wave.split(",") if one.strip()) for wave in waves)
    return PilotWish(found, terms_of(load_origin_settings(Paths(root), os.environ).pilots if root else Pilots()))


def register(_cli: click.Group) -> None:
    """Add these commands to the program; they hang below `origin` already."""
