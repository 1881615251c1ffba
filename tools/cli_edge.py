"""Commands for a county: edge init, sync, why, serve, scrub."""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from manifests.errors import (
    ConfigurationError,
    NotFoundError,
    StorageDamagedError,
    StorageError,
    TransferError,
    UntrustedError,
    YuanjiaoError,
)
from tools.cli_common import Call, check_new, command, command_options, group, run
from tools.output import show_bytes, show_progress

if TYPE_CHECKING:
    from edge.app import Edge
    from edge.sync.report import SyncReport

DIRECTORY = click.Path(path_type=Path, file_okay=False)
_FAMILIES: dict[int, type[YuanjiaoError]] = {
    family.exit_code: family for family in (ConfigurationError, UntrustedError, TransferError, StorageError)
}


@group("县级边缘服务器", "A county's edge server")
def edge() -> None:
    """A county's edge server."""


@command("用省级源站的开通文件建立边缘服务器", "Make an edge from the bundle that the province handed out", edge)
@click.argument("root", metavar="DIR", type=DIRECTORY)
@click.option("--bundle", required=True, type=click.Path(path_type=Path), help="省级源站的开通文件 The bundle")
@command_options(reports=True, changes=True)
def init(call: Call, root: Path, bundle: Path) -> None:
    """Make an edge from the bundle that the province handed out."""
    from edge import app
    from edge.clock import system_clock
    from manifests.bundle import MAX_BUNDLE_BYTES, decode_bundle

    try:
        with bundle.open("rb") as file:
            data = file.read(MAX_BUNDLE_BYTES + 1)
    except OSError as error:
        raise ConfigurationError(
            f"bundle {bundle} cannot be read: {error.strerror}", zh=f"无法读取开通文件 {bundle}:{error.strerror}"
        ) from error
    read, made = decode_bundle(data), None
    if call.dry_run:
        if not (root / "edge.toml").exists():  # an edge that is there may be given a newer bundle
            check_new(root, "edge.toml")
    else:
        made = app.init_edge(root, data, system_clock)
    identity = made.identity if made is not None else read.identity
    # The origin knows the key that came in the bundle; one that was made here must be told to it.
    is_own = made is not None and read.identity is None
    call.output.emit(
        {
            "dir": str(root),
            "region": read.region,
            "region_name": read.region_name,
            "upstreams": read.upstreams,
            "key_id": identity.key_id if identity else None,
            "public_key": identity.public_key if identity else None,
            "dry_run": call.dry_run,
        }
    )
    if call.dry_run:
        call.output.say(
            f"将在 {root} 建立{read.region_name}边缘服务器", f"would make the edge of {read.region} in {root}"
        )
    else:
        call.output.say(
            f"{read.region_name}（{read.region}）边缘服务器已建立：{root}", f"edge of {read.region} made in {root}"
        )
    if is_own and identity is not None:
        way = f"yuanjiao origin accept-key DIR {read.region} {identity.public_key}"
        call.output.say(
            f"本机自行生成了密钥。请在源站登记公钥，否则上报不被接受：\n  {way}",
            f"this edge made its own key. Tell the origin its public half, or its reports are refused:\n  {way}",
        )


@command(
    "同步：检查信任链，取回变化的部分，逐片验证后安装",
    "Sync: poll trust, fetch what changed, prove it piece by piece, install it",
    edge,
)
@click.argument("root", metavar="DIR", type=DIRECTORY)
@click.option("--now", is_flag=True, help="不等夜间窗口，立即同步 Ignore the nightly window")
@click.option(
    "--wait",
    "wait_s",
    type=click.FloatRange(0, 86400),
    default=4.0,
    show_default=True,
    help="另一个同步正在运行时最多等待的秒数 Seconds to wait for another sync to end",
)
@command_options(reports=True, changes=True)
def sync(call: Call, root: Path, now: bool, wait_s: float) -> None:
    """Sync: poll trust, fetch what changed, prove it piece by piece, install it."""
    run(_sync(call, root, now, wait_s))


async def _sync(call: Call, root: Path, now: bool, wait_s: float) -> None:
    from edge import app
    from edge.clock import system_clock
    from tools.plan_table import fact_table, plan_table, say_left

    report: Any
    async with app.open_edge(root, os.environ, system_clock) as opened:
        before = app.last_report(opened)
        try:
            with show_progress(call.output) as progress:
                if call.dry_run:
                    report = await app.sync(opened, dry_run=True, now=now, progress=progress, wait_s=wait_s)
                else:
                    report = await app.sync_in_window(opened, ignore_window=now, progress=progress, wait_s=wait_s)
        except YuanjiaoError:
            kept = app.last_report(opened)
            if kept != before:
                call.output.emit(kept)
            raise
        zone = app.zone(opened)
    call.output.emit(report)
    if call.dry_run:
        call.output.show(lambda: plan_table(report, call.output, system_clock(), zone))
        say_left(len(report.items), call.output)
        call.output.say(report.promise.summary_zh, report.promise.summary)
        return
    if report.promised and sys.stdout.isatty():
        call.output.show(lambda: fact_table(report, call.output, system_clock(), zone))
        say_left(len(report.promised), call.output)
    call.output.say(*report_line(report))
    if report.exit_code:
        raise outcome(report)


@command(
    "说明课件为何不在本地：逐个给出一句原因（不联网）",
    "Say why a lesson of the catalog is not here, in one sentence each; asks nobody",
    edge,
)
@click.argument("root", metavar="DIR", type=DIRECTORY)
@click.argument("courseware_id", metavar="[ID]", required=False)
@command_options(reports=True)
def why(call: Call, root: Path, courseware_id: str | None) -> None:
    """Say why a lesson of the catalog is not here, in one sentence each; asks nobody."""
    run(_why(call, root, courseware_id))


async def _why(call: Call, root: Path, courseware_id: str | None) -> None:
    from edge import app
    from edge.clock import system_clock
    from manifests.names import parse_courseware_id
    from tools.plan_table import say_left, why_table

    wanted = parse_courseware_id(courseware_id) if courseware_id else None
    async with app.open_edge(root, os.environ, system_clock) as opened:
        absent = [one for one in await app.why_not(opened) if wanted in {None, one.id}]
        has_catalog = opened.library.catalog_version() > 0
        if wanted is not None and not absent:
            _check_here(wanted, opened)
    call.output.emit({"absent": absent})
    if wanted is not None:
        for one in absent:
            call.output.say(one.text_zh, one.text)
    elif absent:
        call.output.show(lambda: why_table(absent, call.output))
        say_left(len(absent), call.output)
    if not has_catalog:
        call.output.say("尚无目录：本边缘服务器还没有完成过同步", "no catalog is here yet: no sync has been completed")
    elif not absent:
        call.output.say(f"{wanted or '全部课件'} 已在本地", f"{wanted or 'every lesson'} is here")


def _check_here(wanted: str, opened: Edge) -> None:
    if opened.library.get(wanted) is None:
        raise NotFoundError(
            f"courseware {wanted!r} is not in the catalog that this edge has",
            zh=f"本边缘服务器现有目录中没有课件 {wanted!r}",
            hint="run `yuanjiao edge sync DIR` to fetch the newest catalog, and check the id",
            hint_zh="请核对课件编号，或运行 `yuanjiao edge sync DIR` 获取最新目录",
        )


@command(
    "向终端提供门户页面和课件，并按时段自动同步，直到 Ctrl-C 或 SIGTERM",
    "Serve the portal and courseware to terminals, and sync in the nightly window, until Ctrl-C or SIGTERM",
    edge,
)
@click.argument("root", metavar="DIR", type=DIRECTORY)
@click.option("--host", default=None, help="监听地址 Address to listen on")
@click.option("--port", type=click.IntRange(0, 65535), default=None, help="监听端口，0 为任选 TCP port, 0 for any")
@click.option("--workers", type=click.IntRange(1, 64), default=None, help="进程数，默认每核一个 Processes")
@command_options(serves=True)
def serve(_call: Call, root: Path, host: str | None, port: int | None, workers: int | None) -> None:
    """Serve the portal and courseware to terminals until Ctrl-C or SIGTERM."""
    import asyncio

    from edge.clock import system_clock
    from edge.serve import server

    # Workers, keeper and filler are processes of their own: their log has this one's form and level.
    level = str(logging.getLogger().level)
    names = ("worker", "keeper", "filler")
    worker, keeper, filler = ((sys.executable, "-P", "-m", f"tools.edge_{name}", level) for name in names)
    asyncio.run(
        server.serve(
            root,
            host,
            port,
            workers,
            os.environ,
            system_clock,
            click.echo,
            worker_command=worker,
            keeper_command=keeper,
            filler_command=filler,
        )
    )


@command(
    "重读磁盘上的全部分片，找出（并修复）损坏", "Read every stored piece again, find what rotted, and repair it", edge
)
@click.argument("root", metavar="DIR", type=DIRECTORY)
@click.option("--repair", is_flag=True, help="从上游取回坏片 Fetch bad pieces again")
@command_options(reports=True, changes=True)
def scrub(call: Call, root: Path, repair: bool) -> None:
    """Read every stored piece again, find what rotted, and repair it."""
    run(_scrub(call, root, repair))


async def _scrub(call: Call, root: Path, repair: bool) -> None:
    from edge import app
    from edge.clock import system_clock
    from edge.store.scrub_log import faults_of

    async with app.open_edge(root, os.environ, system_clock) as opened:
        if call.dry_run:
            _show_scrub_plan(call, opened)
            return
        with show_progress(call.output) as progress:
            report = await app.scrub(opened, repair, progress)
        faults = faults_of(opened.paths)
    call.output.emit(report)
    bad = len(report.bad)
    call.output.say(
        f"检查 {report.pieces_checked} 片，损坏 {bad} 片，已修复 {report.repaired} 片",
        f"{report.pieces_checked} pieces checked, {bad} bad, {report.repaired} repaired",
    )
    for fault in faults:
        call.output.say(fault.zh, fault.en)
    if bad > report.repaired:
        left = bad - report.repaired
        raise StorageDamagedError(f"{left} pieces are damaged", zh=f"有 {left} 片损坏")


@command(
    "写出本边缘服务器的签名状态报告（含全部已存课件），供快递磁盘打包或人工核对",
    "Write this edge's signed state with all that it holds, for a courier disk or a look by hand",
    edge,
)
@click.argument("root", metavar="DIR", type=DIRECTORY)
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    default=None,
    help="输出文件，默认 REGION.report.json Where to write it",
)
@command_options(reports=True, changes=True)
def report(call: Call, root: Path, out: Path | None) -> None:
    """Write this edge's signed state with all that it holds, for a courier disk or a look by hand."""
    run(_report(call, root, out))


async def _report(call: Call, root: Path, out: Path | None) -> None:
    from edge import app
    from edge.clock import system_clock
    from manifests.reports import State as EdgeState
    from manifests.reports import decode_body, decode_report, encode_envelope
    from tools.files import write_private

    async with app.open_edge(root, os.environ, system_clock) as opened:
        region = opened.bundle.region
        path = out or Path(f"{region}.report.json")
        if call.dry_run:
            call.output.emit({"report": str(path), "region": region, "dry_run": True})
            call.output.say(f"将写出 {region} 的状态报告：{path}", f"would write the state of {region} to {path}")
            return
        envelope = app.write_report(opened)
    write_private(path, encode_envelope(envelope))
    told = decode_report(envelope.text)
    state: EdgeState = decode_body(told, EdgeState)
    call.output.emit(
        {
            "report": str(path),
            "region": region,
            "number": told.number,
            "key_id": envelope.key_id,
            "catalog_version": state.catalog_version,
            "held": len(state.held),
            "partial": len(state.partial),
            "room_bytes": state.room_bytes,
            "dry_run": False,
        }
    )
    call.output.say(
        f"{region} 的状态报告：{path}（已存课件 {len(state.held)} 个，未完成的文件 {len(state.partial)} 个）",
        f"state of {region}: {path} ({len(state.held)} courseware held, {len(state.partial)} files begun)",
    )


def _show_scrub_plan(call: Call, opened: Edge) -> None:
    from edge.store.scrub import candidates
    from edge.store.scrub_plan import plan_scrub

    plan = plan_scrub(candidates(opened.store), opened.settings.scrub.budget_bytes)
    call.output.emit(
        {"blobs": len(plan.items), "pieces": plan.pieces, "bytes": plan.bytes, "left": plan.left, "dry_run": True}
    )
    size = show_bytes(plan.bytes)
    call.output.say(f"将重读 {plan.pieces} 片，共 {size}", f"would read {plan.pieces} pieces again, {size}")


def report_line(report: SyncReport) -> tuple[str, str]:
    """What a sync did, in one line."""
    added, updated = len(report.added), len(report.updated)
    removed, recalled, waiting = len(report.removed), len(report.recalled), len(report.deferred)
    fetched, patched = show_bytes(report.bytes_fetched), show_bytes(report.bytes_from_patches)
    zh = (
        f"目录第 {report.catalog_version} 版：新增 {added}、更新 {updated}、"
        f"移除 {removed}（其中撤回 {recalled}）、推迟 {waiting}；"
        f"传输 {fetched}，由补丁生成 {patched}，用时 {report.seconds:.1f} 秒"
    )
    en = (
        f"catalog version {report.catalog_version}: {added} added, {updated} updated, {removed} removed "
        f"({recalled} recalled), {waiting} deferred; {fetched} fetched, {patched} made by patches, "
        f"{report.seconds:.1f} s"
    )
    return zh, en


def outcome(report: SyncReport) -> YuanjiaoError:
    """The error that a sync with faults ends with: the family of its worst one."""
    family = _FAMILIES.get(report.exit_code, TransferError)
    left = len(report.deferred)
    return family(
        report.error or f"sync ended with {left} courseware not complete",
        zh=report.error_zh or f"本次同步有 {left} 个课件未完成",
        hint=report.hint,
        hint_zh=report.hint_zh,
    )


def register(cli: click.Group) -> None:
    """Add these commands to the program."""
    cli.add_command(edge)
