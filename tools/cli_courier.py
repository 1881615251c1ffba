"""Commands of the courier: export at the province, import in the county, return at the province."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec

from manifests.errors import BusyError, ConfigurationError, FormatError, InputError, StorageDamagedError, YuanjiaoError
from tools.cli_common import Call, command, command_options, group, run
from tools.output import show_bytes, show_progress

if TYPE_CHECKING:
    from edge.app import Edge
    from edge.sync.report import SyncReport
    from edge.upstream.disk import Disk
    from origin.app import Origin
    from tools.courier.back import Carried
    from tools.courier.export import ExportReport, Packing
    from tools.courier.planner import ExportPlan
    from tools.courier.stations import Target

DIRECTORY = click.Path(path_type=Path, file_okay=False)
_SIZE = re.compile(r"([0-9]{1,15})\s*(?:([KMGT])(I?)B?|B)?", re.IGNORECASE)
_POWERS = {"": 0, "K": 1, "M": 2, "G": 3, "T": 4}
_LISTED = 20


@group("递送盘：用 U 盘或移动硬盘送课件下乡、带回执回省", "The courier: lessons by disk, and reports home")
def courier() -> None:
    """The courier: lessons by disk, and reports home."""


def parse_size(text: str) -> int:
    """Read `32G` (as sold: powers of ten), `30GiB` (powers of two) or plain bytes.

    Raises:
        InputError: bad data.
    """
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise InputError(f"size {text[:40]!r} is not of the form 32G", zh=f"容量 {text[:40]!r} 应形如 32G 或 500M")
    number, prefix, binary = match.groups(default="")
    return int(number) * int((1024 if binary else 1000) ** _POWERS[prefix.upper()])


@command(
    "装盘：只写入县里缺少的内容，最急的在前；中断后重新运行即可继续",
    "Pack a disk with what counties lack, most urgent first; run again to go on after a break",
    courier,
)
@click.option("--origin", "where", required=True, metavar="DIR", type=DIRECTORY, help="源站目录 The origin's directory")
@click.option(
    "--edge-report",
    "report",
    type=click.Path(path_type=Path, dir_okay=False),
    default=None,
    help="某县的状态报告（由 edge report 生成），只为该县装盘 State report of the one edge to pack for",
)
@click.option("--all", "for_all", is_flag=True, help="为全部边缘服务器装盘 Pack for all enrolled edges")
@click.option("--to", "place", required=True, metavar="DIR", type=DIRECTORY, help="盘的挂载目录 Where it is mounted")
@click.option(
    "--max-size", default=None, metavar="SIZE", help="最多写入，如 32G，默认为可用空间 Take at most this much"
)
@click.option("--next", "follow", is_flag=True, help="接着上一张盘，装其余内容 The next disk: what the last ones lack")
@click.option("--check", is_flag=True, help="重读盘上已有的文件并核对 Read again what is on the disk already")
@command_options(reports=True, changes=True)
def export(
    call: Call,
    where: Path,
    report: Path | None,
    for_all: bool,
    place: Path,
    max_size: str | None,
    follow: bool,
    check: bool,
) -> None:
    """Pack a disk with what counties lack, most urgent first."""
    from tools.courier.export import Options

    if (report is None) == (not for_all):
        raise click.UsageError("--edge-report FILE 与 --all 须且只须给出一个 give one of --edge-report FILE and --all")
    options = Options(parse_size(max_size) if max_size is not None else 0, follow, check)
    run(_export(call, where, report, place, options))


async def _export(call: Call, where: Path, report: Path | None, place: Path, options: Any) -> None:
    from origin import app
    from origin.clock import system_clock
    from tools.courier.export import plan_disk, run_export
    from tools.courier.medium import Medium

    medium = Medium(place)
    async with app.open_origin(where, os.environ, system_clock) as origin:
        target = await _target(origin, report)
        if call.dry_run:
            _show_plan(call, await plan_disk(origin, medium, target, options))
            return
        await origin.releases.renew()
        with medium.locked():
            packing = await plan_disk(origin, medium, target, options)
            with show_progress(call.output) as progress:
                done = await run_export(origin, medium, packing, progress)
    _show_export(call, packing.plan, done)


async def _target(origin: Origin, report: Path | None) -> Target:
    from tools.courier.stations import all_stations, reported_station

    return await all_stations(origin) if report is None else await reported_station(origin, report)


def _show_plan(call: Call, packing: Packing) -> None:
    plan = packing.plan
    call.output.emit({"part": packing.part, "target": packing.target.name, "dry_run": True, "plan": plan})
    for item in plan.items:
        call.output.say(
            f"装入 {item.id} 《{item.title}》：{item.reason_zh}，{show_bytes(item.bytes)}",
            f"pack {item.id} {item.title}: {item.reason}, {show_bytes(item.bytes)}",
        )
    _show_left(call, plan)
    total, room = show_bytes(plan.bytes), show_bytes(plan.room_bytes)
    call.output.say(
        f"第 {packing.part} 张盘：{len(plan.items)} 个课件，共 {total}（可用 {room}）",
        f"disk {packing.part}: {len(plan.items)} lessons, {total} of {room}",
    )


def _show_left(call: Call, plan: ExportPlan) -> None:
    for item in plan.left[:_LISTED]:
        call.output.say(
            f"未装入 {item.id} 《{item.title}》：{item.reason_zh}，{show_bytes(item.bytes)}",
            f"left {item.id} {item.title}: {item.reason}, {show_bytes(item.bytes)}",
        )
    if len(plan.left) > _LISTED:
        more = len(plan.left) - _LISTED
        call.output.say(f"……另有 {more} 个未装入", f"… and {more} more left")


def _show_export(call: Call, plan: ExportPlan, done: ExportReport) -> None:
    call.output.emit(done)
    written, kept = show_bytes(done.bytes_written), show_bytes(done.bytes_kept)
    call.output.say(
        f"第 {done.part} 张盘（共约 {done.parts} 张）已装好：{len(done.lessons)} 个课件，"
        f"目录第 {done.catalog_version} 版，写入 {written}，沿用 {kept}",
        f"disk {done.part} of about {done.parts} is ready: {len(done.lessons)} lessons, catalog version "
        f"{done.catalog_version}; {written} written, {kept} kept",
    )
    _show_left(call, plan)
    if done.left:
        size = show_bytes(done.left_bytes)
        call.output.say(
            f"还有 {len(done.left)} 个课件（{size}）未装入：换上下一张盘，加 --next 再次运行",
            f"{len(done.left)} lessons ({size}) are left: put in the next disk and run again with --next",
        )
    if done.failed:
        names = "、".join(list(done.failed)[:_LISTED])
        raise StorageDamagedError(
            f"{len(done.failed)} lessons were not packed, their files at the origin are damaged: {names}",
            zh=f"有 {len(done.failed)} 个课件因源站文件损坏未装盘：{names}",
            hint="publish them again from the original files",
            hint_zh="请用原始文件重新发布这些课件",
        )


@command(
    "导入：逐片验证盘上的内容并安装，并把本机的上报数据写到盘上带回",
    "Import: prove what is on the disk and install it; put this edge's reports on it for the way back",
    courier,
    "import",
)
@click.argument("place", metavar="DIR", type=DIRECTORY)
@click.option("--edge", "root", required=True, metavar="DIR", type=DIRECTORY, help="边缘目录 The edge's directory")
@command_options(reports=True, changes=True)
def import_(call: Call, place: Path, root: Path) -> None:
    """Prove what is on the disk and install it."""
    run(_import(call, place, root))


async def _import(call: Call, place: Path, root: Path) -> None:
    import asyncio

    from edge import app
    from edge.clock import system_clock
    from edge.sync.telling import noted_report
    from edge.upstream.disk import open_disk
    from tools.cli_edge import outcome, report_line
    from tools.plan_table import plan_table, say_left

    async with app.open_edge(root, os.environ, system_clock) as edge:
        disk = await asyncio.to_thread(open_disk, place)
        zone = app.zone(edge)
        with show_progress(call.output) as progress:
            try:
                report: Any = await app.import_disk(edge, disk, dry_run=call.dry_run, progress=progress)
            except YuanjiaoError as error:
                # That a disk was refused is news for the province too, and so is all that happened before.
                if not call.dry_run and not isinstance(error, BusyError | ConfigurationError):
                    await asyncio.to_thread(_carry, edge, disk, noted_report(edge.library))
                raise
        if not call.dry_run:
            carried = await asyncio.to_thread(_carry, edge, disk, report)
    if call.dry_run:
        call.output.emit(report)
        call.output.show(lambda: plan_table(report, call.output, system_clock(), zone))
        say_left(len(report.items), call.output)
        return
    call.output.emit({**msgspec.to_builtins(report), "carried": msgspec.to_builtins(carried)})
    mine = disk.courier
    if mine.catalog_version < report.catalog_version:
        call.output.say(
            f"盘上的目录为第 {mine.catalog_version} 版，本机已有更新的第 {report.catalog_version} 版，只取用盘上的文件",
            f"the disk's catalog is version {mine.catalog_version}, this edge has {report.catalog_version}: "
            "only files were taken from it",
        )
    if not mine.complete:
        call.output.say(
            "这张盘没有装完，已导入其中可用的部分", "this disk was not finished; what is on it was imported"
        )
    call.output.say(*report_line(report))
    _say_carried(call, carried)
    if report.exit_code:
        raise outcome(report)


def _carry(edge: Edge, disk: Disk, report: SyncReport | None) -> Carried:
    """Whatever keeps the reports here, the lessons are installed: it is told, and they wait in the outbox."""
    from edge import app
    from tools.courier.back import Carried, write_return
    from tools.courier.medium import Medium

    try:
        envelopes = app.seal_reports(edge, report)
        key_id = envelopes[0].key_id if envelopes else ""
    except YuanjiaoError as error:
        return Carried(error=error.message, error_zh=error.zh)
    if not envelopes:
        return Carried()
    return write_return(Medium(disk.folder.parent), edge.bundle.region, key_id, envelopes)


def _say_carried(call: Call, carried: Carried) -> None:
    if carried.error:
        call.output.say(
            f"上报数据未能写到盘上，仍保存在本机：{carried.error_zh}",
            f"the reports could not be put on the disk, they wait here: {carried.error}",
        )
    else:
        call.output.say(
            f"已将 {carried.reports} 条上报数据写到盘上，请把盘带回省里",
            f"{carried.reports} reports are on the disk; have it carried back to the province",
        )


@command(
    "收回：读取带回的盘，登记各县的上报和回执；可重复运行",
    "Take in the reports and receipts that a disk brings home; may be run twice",
    courier,
    "return",
)
@click.argument("place", metavar="DIR", type=DIRECTORY)
@click.option("--origin", "where", required=True, metavar="DIR", type=DIRECTORY, help="源站目录 The origin's directory")
@command_options(reports=True, changes=True)
def return_(call: Call, place: Path, where: Path) -> None:
    """Take in the reports and receipts that a disk brings home."""
    run(_return(call, place, where))


async def _return(call: Call, place: Path, where: Path) -> None:
    import asyncio

    from edge.upstream.disk import open_disk
    from origin import app
    from origin.clock import system_clock
    from tools.courier.back import run_return
    from tools.courier.medium import Medium

    disk = await asyncio.to_thread(open_disk, place)
    async with app.open_origin(where, os.environ, system_clock) as origin:
        brought = await run_return(origin, Medium(disk.folder.parent), dry_run=call.dry_run)
    refused = {f"{one.folder}/{name}": reason for one in brought for name, reason in one.refused.items()}
    applied = sum(one.applied for one in brought)
    call.output.emit({"edges": brought, "applied": applied, "refused": refused, "dry_run": call.dry_run})
    head, head_zh = ("would take in ", "将登记 ") if call.dry_run else ("", "")
    for one in brought:
        call.output.say(
            f"{head_zh}{one.edge or one.folder}：新登记 {one.applied} 条，已有 {one.repeated} 条，待补 {one.left} 条",
            f"{head}{one.edge or one.folder}: {one.applied} reports new, {one.repeated} known, {one.left} out of turn",
        )
    if not brought:
        call.output.say("盘上没有带回的上报数据", "no reports are on this disk")
    if refused:
        name, reason = next(iter(refused.items()))
        raise FormatError(
            f"{len(refused)} files of reports are refused: {name}: {reason}",
            zh=f"有 {len(refused)} 个上报文件未被接受：{name}（{reason}）",
            hint="all others were taken; have the edge write them again with the next disk",
            hint_zh="其余均已登记；请随下一张盘由该县重新带回",
        )


def register(cli: click.Group) -> None:
    """Add these commands to the program."""
    cli.add_command(courier)
