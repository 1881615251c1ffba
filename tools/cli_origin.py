"""Commands for the province: origin init, serve, enroll; publish; recall; keys rotate."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from manifests.errors import ConfigurationError, InputError
from tools.cli_common import Call, check_new, command, command_options, group, run
from tools.output import show_bytes, show_progress

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

    from origin.app import Origin
    from origin.publish.publish import Foresight, PublishRequest

    Opening = AbstractAsyncContextManager[Origin]

_KINDS = {"video": "视频", "article": "文章", "document": "文档", "recording": "录音录像"}
_PLANNED = ("role", "name", "media_type", "size", "treatment", "reason", "reason_zh")
PASSPHRASE = "YUANJIAO_KEYS_PASSPHRASE"  # noqa: S105 - the variable's name, not a passphrase
DIRECTORY = click.Path(path_type=Path, file_okay=False)
FILE = click.Path(path_type=Path)
ORIGIN_HELP = "源站目录 The origin's directory"

keys_option = click.option(
    "--keys",
    "keys_dir",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    default=None,
    help="离线密钥所在目录，先于 DIR/keys 查找 Where off-line keys are, looked at before DIR/keys",
)


@group("省级源站", "The province's origin")
def origin() -> None:
    """The province's origin."""


@command(
    "建立源站：密钥、配置、空课件库和首个签名版本",
    "Make an origin: keys, origin.toml, an empty library and a first signed release",
    origin,
)
@click.argument("root", metavar="DIR", type=DIRECTORY)
@click.option("--region", default="410000", show_default=True, help="发布方行政区划代码 GB/T 2260 code")
@click.option("--passphrase", is_flag=True, help="为离线密钥设置口令 Protect the offline keys by a passphrase")
@click.option("--root-keys", type=click.IntRange(1, 9), default=1, show_default=True, help="根密钥个数 Keys of root")
@click.option(
    "--root-threshold", type=click.IntRange(1, 9), default=1, show_default=True, help="根签名门限 Signatures of root"
)
@command_options(reports=True, changes=True)
def init(call: Call, root: Path, region: str, passphrase: bool, root_keys: int, root_threshold: int) -> None:
    """Make an origin: keys, origin.toml, an empty library and a first signed release."""
    from manifests.names import parse_region
    from origin import app
    from origin.clock import system_clock

    code = parse_region(region)
    if call.dry_run:
        check_new(root, "origin.toml")
    else:
        secret = _new_passphrase() if passphrase else os.environ.get(PASSPHRASE)
        made = app.init_origin(
            root,
            code,
            passphrase=secret or None,
            clock=system_clock,
            root_keys=root_keys,
            root_threshold=root_threshold,
        )
        run(made)
    call.output.emit({"dir": str(root), "region": code, "dry_run": call.dry_run})
    if call.dry_run:
        call.output.say(f"将在 {root} 建立源站（{code}）", f"would make an origin in {root} ({code})")
        return
    call.output.say(
        f"源站已建立：{root}。请将 keys/root.pem 和 keys/targets.pem 另存到离线介质。",
        f"origin made in {root}. Keep keys/root.pem and keys/targets.pem on a medium that is off line.",
    )


@command(
    "对外提供课件和元数据，直到 Ctrl-C 或 SIGTERM",
    "Serve blobs and metadata until Ctrl-C or SIGTERM; signatures that run out are renewed",
    origin,
)
@click.argument("root", metavar="DIR", type=DIRECTORY)
@click.option("--host", default=None, help="监听地址 Address to listen on")
@click.option("--port", type=click.IntRange(0, 65535), default=None, help="监听端口，0 为任选 TCP port, 0 for any")
@command_options(serves=True)
def serve(_call: Call, root: Path, host: str | None, port: int | None) -> None:
    """Serve blobs and metadata until Ctrl-C or SIGTERM; signatures that run out are renewed."""
    import asyncio

    from origin import app
    from origin.clock import system_clock

    asyncio.run(app.serve(root, host, port, os.environ, system_clock, _say_address))


@command(
    "为一个县制作开通文件：信任根、上游地址和身份，一个文件带到县里即可",
    "Make the one file to carry to a county: root of trust, upstreams, identity",
    origin,
)
@click.argument("root", metavar="DIR", type=DIRECTORY)
@click.argument("county")
@click.option("--upstream", "upstreams", multiple=True, help="上游地址，可多次 Base address of an upstream; repeatable")
@click.option("--out", type=FILE, default=None, help="输出文件，默认 COUNTY.bundle.json Where to write the bundle")
@click.option("--no-key", is_flag=True, help="不含私钥，由边缘自行生成 Leave the key pair to the edge")
@click.option("--force", is_flag=True, help="覆盖已有文件 Overwrite an existing file")
@command_options(reports=True, changes=True)
def enroll(
    call: Call, root: Path, county: str, upstreams: tuple[str, ...], out: Path | None, no_key: bool, force: bool
) -> None:
    """Make the one file to carry to a county: root of trust, upstreams, identity."""
    from manifests.bundle import check_upstream, encode_bundle
    from origin.stations.regions import load_regions
    from tools.files import write_private

    code = load_regions().find(county).code
    path = out or Path(f"{code}.bundle.json")
    if path.exists() and not force:
        raise InputError(
            f"{path} exists already",
            zh=f"{path} 已存在",
            hint="choose another --out, or --force to replace it",
            hint_zh="请用 --out 另选文件名，或用 --force 覆盖",
        )
    urls = tuple(check_upstream(url) for url in upstreams)
    if call.dry_run:
        call.output.emit({"bundle": str(path), "region": code, "dry_run": True})
        call.output.say(f"将为 {code} 制作 {path}", f"would make {path} for {code}")
        return
    bundle = run(_enroll(root, code, urls, not no_key))
    write_private(path, encode_bundle(bundle))
    call.output.emit(
        {
            "bundle": str(path),
            "region": bundle.region,
            "region_name": bundle.region_name,
            "upstreams": bundle.upstreams,
            "key_id": bundle.identity.key_id if bundle.identity else None,
            "dry_run": False,
        }
    )
    secret = bundle.identity is not None
    call.output.say(
        f"{bundle.region_name}（{bundle.region}）的开通文件：{path}" + ("，内含私钥，请妥善保管。" if secret else ""),
        f"bundle for {bundle.region_name} ({bundle.region}): {path}" + ("; it holds a private key." if secret else ""),
    )


async def _enroll(root: Path, county: Any, upstreams: tuple[str, ...], with_key: bool) -> Any:
    from origin import app
    from origin.clock import system_clock

    async with app.open_origin(root, os.environ, system_clock) as opened:
        return await app.enroll(opened, county, upstreams, with_key)


@command(
    "发布一个课件（一个或多个文件），或发布其新版本",
    "Publish one courseware made of any number of files, or a new version of it",
)
@click.argument("files", metavar="FILE...", nargs=-1, required=True, type=FILE)
@click.option("--origin", "where", required=True, metavar="DIR|URL", help=ORIGIN_HELP)
@click.option("--title", required=True, help="标题 Title, one line of up to 200 characters")
@click.option("--id", "courseware_id", default=None, help="课件编号，默认由内容得出 Courseware id")
@click.option("--column", "columns", multiple=True, help="专栏名称或编号，可多次 Column, title or id; repeatable")
@click.option("--audience", multiple=True, metavar="CODE", help="面向的行政区划，默认全省 Regions it is meant for")
@click.option("--priority", type=click.IntRange(0, 9), default=5, show_default=True, help="优先级 0–9，大者先传")
@click.option("--summary", default="", help="简介 Summary")
@click.option("--tag", "tags", multiple=True, help="标签，可多次 Tag; repeatable")
@click.option("--expires", default=None, metavar="INSTANT", help="到期时间，如 2027-01-01T00:00:00Z Expiry")
@click.option("--pilot", multiple=True, metavar="CODES", help="试点：先面向这些地区，可多次（逐批） A wave of a pilot")
@click.option("--no-hls", is_flag=True, help="视频不提供 HLS No renditions: videos play as MP4 only")
@keys_option
@command_options(reports=True, changes=True)
def publish(call: Call, where: str, keys_dir: Path | None, **fields: Any) -> None:
    """Publish one courseware made of any number of files, or a new version of it."""
    from tools.cli_releases import pilot_wish

    wish = pilot_wish(local_origin(where), fields.pop("pilot"))
    run(_publish(call, _opened(where, keys_dir), _request(pilot=wish, **fields)))


def _request(
    *,
    files: tuple[Path, ...],
    courseware_id: str | None,
    columns: tuple[str, ...],
    audience: tuple[str, ...],
    no_hls: bool,
    **rest: Any,
) -> PublishRequest:
    from manifests.names import parse_region
    from origin.publish.publish import PublishRequest

    regions = tuple(parse_region(code) for code in audience)
    return PublishRequest(files=files, id=courseware_id, columns=columns, audience=regions, hls=not no_hls, **rest)


async def _publish(call: Call, opening: Opening, request: PublishRequest) -> None:
    from origin import app

    async with opening as opened:
        if call.dry_run:
            _show_plan(call, await app.foresee(opened, request))
            return
        with show_progress(call.output) as progress:
            done = await app.publish(opened, request, progress)
    call.output.emit(
        {
            "id": done.id,
            "version": done.version,
            "catalog_version": done.catalog_version,
            "files": [
                {
                    "role": file.role,
                    "name": file.name,
                    "sha256": file.blob,
                    "size": file.size,
                    "media_type": file.media_type,
                }
                for file in done.files
            ],
        }
    )
    call.output.say(
        f"已发布《{request.title}》：编号 {done.id}，第 {done.version} 版，目录第 {done.catalog_version} 版",
        f"published {request.title!r}: id {done.id}, version {done.version}, catalog version {done.catalog_version}",
    )


def _show_plan(call: Call, seen: Foresight) -> None:
    plan, old = seen.plan, seen.replaced
    call.output.emit(
        {
            "id": seen.id,
            "replaces": {"title": old.title, "version": old.version} if old else None,
            "title": plan.headline.title,
            "kind": plan.kind,
            "columns": plan.headline.columns,
            "audience": plan.headline.audience,
            "pilot": plan.headline.pilot.waves if plan.headline.pilot else None,
            "files": [{name: getattr(file, name) for name in _PLANNED} for file in plan.all_files],
            "dry_run": True,
        }
    )
    title, kind = plan.headline.title, _KINDS[plan.kind]
    call.output.say(
        f"将发布《{title}》（{kind}），编号 {seen.id}", f"would publish {title!r} ({plan.kind}), id {seen.id}"
    )
    if old:
        call.output.say(
            f"  将替换同编号的《{old.title}》第 {old.version} 版；若是另一课，请用 --id 另取编号",
            f"  replaces {old.title!r} version {old.version} of the same id; another lesson needs another --id",
        )
    for en, zh in plan.notes:
        call.output.say(f"  {zh}", f"  {en}")
    for file in plan.all_files:
        size = show_bytes(file.size) if file.size else call.output.pick("大小待定", "size not known yet")
        call.output.say(
            f"  {file.name}({file.role},{size}):{file.reason_zh}", f"  {file.name} ({file.role}, {size}): {file.reason}"
        )


@command(
    "撤回一个课件：各边缘下次联系源站后几分钟内即不可见",
    "Recall a courseware: gone within minutes of each edge next hearing from the origin",
)
@click.argument("courseware_id", metavar="ID")
@click.option("--origin", "where", required=True, metavar="DIR|URL", help=ORIGIN_HELP)
@click.option("--reason", required=True, help="撤回原因 Why; shown to operators")
@keys_option
@command_options(reports=True, changes=True)
def recall(call: Call, courseware_id: str, where: str, reason: str, keys_dir: Path | None) -> None:
    """Recall a courseware: gone within minutes of each edge next hearing from the origin."""
    run(_recall(call, _opened(where, keys_dir), courseware_id, reason))


async def _recall(call: Call, opening: Opening, courseware_id: str, reason: str) -> None:
    from manifests.names import parse_courseware_id, parse_reason
    from origin import app

    name, why = parse_courseware_id(courseware_id), parse_reason(reason)
    async with opening as opened:
        if call.dry_run:
            _, catalog = await opened.releases.current_catalog()
            item = next((one for one in catalog.courseware if one.id == name), None)
            if item is None:
                raise InputError(f"courseware {name!r} is not in the catalog", zh=f"目录中没有课件 {name!r}")
            call.output.emit({"id": name, "version": item.version, "title": item.title, "dry_run": True})
            call.output.say(f"将撤回《{item.title}》第 {item.version} 版", f"would recall {name} {item.version}")
            return
        done = await app.recall(opened, name, why)
    call.output.emit({"id": done.id, "version": done.version, "catalog_version": done.catalog_version})
    call.output.say(
        f"已撤回 {done.id}（第 {done.version} 版及以前），目录第 {done.catalog_version} 版",
        f"recalled {done.id} (version {done.version} and before), catalog version {done.catalog_version}",
    )


@group("签名密钥", "Signing keys")
def keys() -> None:
    """Signing keys."""


@command(
    "更换一个角色的密钥；各边缘自动跟随，无须到场", "Replace the key of one role; edges follow without a visit", keys
)
@click.argument("role", type=click.Choice(["root", "targets", "snapshot", "timestamp"]))
@click.option("--origin", "where", required=True, metavar="DIR", help=ORIGIN_HELP)
@keys_option
@command_options(reports=True, changes=True)
def rotate(call: Call, role: str, where: str, keys_dir: Path | None) -> None:
    """Replace the key of one role; edges follow without a visit."""
    run(_rotate(call, _opened(where, keys_dir), role))


async def _rotate(call: Call, opening: Opening, role: str) -> None:
    async with opening as opened:
        if call.dry_run:
            call.output.emit({"role": role, "dry_run": True})
            call.output.say(f"将更换 {role} 密钥", f"would replace the key of {role}")
            return
        done = await opened.releases.rotate(role)
    call.output.emit(done)
    call.output.say(f"已更换 {role} 密钥，请备份新的 keys/{role}.pem", f"replaced the key of {role}; back it up")


def local_origin(where: str) -> Path:
    """The origin's directory out of DIR|URL.

    Raises:
        ConfigurationError: caller's mistake; an address was given.
    """
    if "://" in where:
        raise ConfigurationError(
            f"{where[:120]!r} is an address: publishing through a URL needs the console's API, which this origin lacks",
            zh=f"{where[:120]!r} 是网址：通过网址发布需要管理控制台接口，本源站尚未提供",
            hint="run the command on the origin's machine with --origin DIR",
            hint_zh="请在源站服务器上用 --origin 目录 运行该命令",
        )
    return Path(where)


def _opened(where: str, keys_dir: Path | None) -> Opening:
    from origin import app
    from origin.clock import system_clock

    root = local_origin(where)
    passphrase = passphrase_for(*([keys_dir] if keys_dir else []), root / "keys")
    return app.open_origin(root, os.environ, system_clock, passphrase=passphrase, keys_dir=keys_dir)


def passphrase_for(*directories: Path) -> str | None:
    """The passphrase from the environment; asked for on a terminal when a key in the directories is encrypted."""
    given = os.environ.get(PASSPHRASE)
    if given:
        return given
    files = [path for directory in directories for path in sorted(directory.glob("*.pem"))]
    encrypted = any(b"ENCRYPTED" in path.read_bytes()[:80] for path in files)
    if encrypted and sys.stdin.isatty():
        return str(click.prompt("密钥口令 Passphrase of the keys", hide_input=True, err=True))
    return None


def _new_passphrase() -> str:
    given = os.environ.get(PASSPHRASE)
    if given:
        return given
    if not sys.stdin.isatty():
        raise ConfigurationError(
            f"no terminal to ask for a passphrase, and {PASSPHRASE} is not set",
            zh=f"没有终端可输入口令，且未设置环境变量 {PASSPHRASE}",
        )
    text = "新口令 New passphrase"
    return str(click.prompt(text, hide_input=True, confirmation_prompt=True, err=True))


def _say_address(address: str) -> None:
    click.echo(address)


def register(cli: click.Group) -> None:
    """Add these commands to the program."""
    for one in (origin, publish, recall, keys):
        cli.add_command(one)
