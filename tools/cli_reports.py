"""Commands about what edges reported: coverage; origin accept-key."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tools.cli_common import Call, command, command_options, run
from tools.cli_origin import DIRECTORY, ORIGIN_HELP, local_origin, origin

if TYPE_CHECKING:
    from origin.stations.coverage import Coverage, Spread, Straggler

MOST_TAIL = 50  # names for people; --json has all


@command(
    "查看一个课件已在多少个县验证完成、何时完成、哪些县尚未完成；撤回同理",
    "How many edges have proved a courseware, when, and the tail by name; the same for its recall",
)
@click.argument("courseware_id", metavar="ID")
@click.option("--origin", "where", required=True, metavar="DIR", help=ORIGIN_HELP)
@click.option(
    "--version", type=click.IntRange(1), default=None, help="版本号，默认当前版本 Version, the current one if not given"
)
@command_options(reports=True)
def coverage(call: Call, courseware_id: str, where: str, version: int | None) -> None:
    """How many edges have proved a courseware, when, and the tail by name; the same for its recall."""
    found = run(_coverage(local_origin(where), courseware_id, version))
    call.output.emit(found)
    for zh, en in coverage_lines(found):
        call.output.say(zh, en)


async def _coverage(root: Path, courseware_id: str, version: int | None) -> Coverage:
    from manifests.names import parse_courseware_id
    from origin import app
    from origin.clock import system_clock
    from origin.stations.coverage import coverage_of

    name = parse_courseware_id(courseware_id)
    async with app.open_origin(root, os.environ, system_clock) as opened:
        return await coverage_of(opened.engine, name, version)


def coverage_lines(found: Coverage) -> Iterator[tuple[str, str]]:
    """A coverage as lines for people."""
    if found.spread is not None:
        one = found.spread
        yield (
            f"《{found.title}》第 {one.version} 版：{one.meant} 台边缘服务器中 {one.proved} 台已验证",
            f"{found.id} version {one.version}: {one.proved} of {one.meant} edges have proved it",
        )
        yield from _instants(one)
        yield from _tail(one)
    if found.recall is not None:
        one = found.recall
        slow = f"；最慢 {one.slowest}({one.last})" if one.slowest else ""
        slow_en = f"; slowest {one.slowest} ({one.last})" if one.slowest else ""
        zh = f"《{found.title}》第 {one.version} 版及以前已于 {found.recalled_at} 撤回："
        en = f"{found.id} version {one.version} and before recalled at {found.recalled_at}: "
        yield (
            f"{zh}{one.meant} 台中 {one.proved} 台已证实清除{slow}",
            f"{en}{one.proved} of {one.meant} proved gone{slow_en}",
        )
        yield from _tail(one)


def _instants(one: Spread) -> Iterator[tuple[str, str]]:
    if one.first is not None:
        yield (
            f"  最早 {one.first}，中位 {one.median}，最晚 {one.last}({one.slowest})",
            f"  first {one.first}, median {one.median}, last {one.last} ({one.slowest})",
        )


def _tail(one: Spread) -> Iterator[tuple[str, str]]:
    for late in one.tail[:MOST_TAIL]:
        yield _straggler(late)
    rest = len(one.tail) - MOST_TAIL
    if rest > 0:
        yield f"  ……另有 {rest} 台（--json 列出全部）", f"  ... and {rest} more (--json lists all)"


def _straggler(late: Straggler) -> tuple[str, str]:
    why_zh = f";{late.why}" if late.why else ""
    why = f"; {late.why}" if late.why else ""
    heard_zh = f"最近上报 {late.heard}" if late.heard else "从未上报"
    heard = f"last heard {late.heard}" if late.heard else "never heard"
    holds_zh = f"，现有第 {late.held} 版" if late.held else ""
    holds = f", holds version {late.held}" if late.held else ""
    return (
        f"  未完成：{late.name}({late.edge}),{heard_zh}{holds_zh}{why_zh}",
        f"  missing: {late.name} ({late.edge}), {heard}{holds}{why}",
    )


@command(
    "登记自行生成密钥的边缘服务器的公钥，此后接受其上报",
    "Write down the public key of an edge that made its own; its reports are taken from then on",
    origin,
    name="accept-key",
)
@click.argument("root", metavar="DIR", type=DIRECTORY)
@click.argument("code", metavar="CODE")
@click.argument("public_key", metavar="KEY")
@click.option("--replace", is_flag=True, help="替换已登记的公钥 Replace a key that is there")
@command_options(reports=True, changes=True)
def accept_key(call: Call, root: Path, code: str, public_key: str, replace: bool) -> None:
    """Write down the public key of an edge that made its own; its reports are taken from then on."""
    from manifests.signing import key_id_of, parse_public_key

    key = parse_public_key(public_key)
    if call.dry_run:
        call.output.emit({"edge": code, "key_id": key_id_of(key), "dry_run": True})
        call.output.say(f"将为 {code} 登记公钥 {key_id_of(key)}", f"would accept key {key_id_of(key)} for {code}")
        return
    edge = run(_accept_key(root, code, key, replace))
    call.output.emit({"edge": edge, "key_id": key_id_of(key), "dry_run": False})
    call.output.say(f"已为 {edge} 登记公钥 {key_id_of(key)}", f"accepted key {key_id_of(key)} for {edge}")


async def _accept_key(root: Path, code: str, key: str, replace: bool) -> str:
    from origin import app
    from origin.clock import system_clock
    from origin.stations.registry import accept_key

    async with app.open_origin(root, os.environ, system_clock) as opened:
        return await accept_key(opened.engine, code, key, opened.clock, replace=replace)


def register(cli: click.Group) -> None:
    """Add these commands to the program."""
    cli.add_command(coverage)
