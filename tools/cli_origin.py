"""Commands for the province: origin init, serve, enroll; keys rotate."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from manifests.errors import ConfigurationError, InputError
from tools.cli_common import Call, check_new, command, command_options, group, run

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

    from origin.app import Origin

    Opening = AbstractAsyncContextManager[Origin]

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


@group("签名密钥", "Signing keys")
def keys() -> None:
    """Signing keys."""


@command(
    "更换一个角色的密钥；各边缘自动跟随，无须到场", "Replace the key of one role; edges follow without a visit", keys
)
@click.argument("role", metavar="root|targets|snapshot|timestamp|cities-CODE")
@click.option("--origin", "where", required=True, metavar="DIR", help=ORIGIN_HELP)
@keys_option
@command_options(reports=True, changes=True)
def rotate(call: Call, role: str, where: str, keys_dir: Path | None) -> None:
    """Replace the key of one role; edges follow without a visit."""
    run(_rotate(call, opened_origin(where, keys_dir), role))


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
            f"{where[:120]!r} is an address: this needs the origin's directory",
            zh=f"{where[:120]!r} 是网址：此命令需要源站目录",
            hint="run the command on the origin's machine with --origin DIR",
            hint_zh="请在源站服务器上用 --origin 目录 运行该命令",
        )
    return Path(where)


def opened_origin(where: str, keys_dir: Path | None) -> Opening:
    """An origin by its directory, with the keys that it takes to sign.

    Raises:
        ConfigurationError: caller's mistake; an address was given.
    """
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
    for one in (origin, keys):
        cli.add_command(one)
