"""Commands for what an origin is kept in: migrate to a bucket and a server, backup, restore."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click

from manifests.errors import ConfigurationError
from tools.cli_common import Call, command, command_options, run
from tools.cli_origin import DIRECTORY, keys_option, origin, passphrase_for
from tools.output import show_bytes, show_progress

_STORAGE_OPTIONS = (
    click.option("--storage", type=click.Choice(["local", "s3"]), default=None, help="文件存放处 Where blobs are kept"),
    click.option("--bucket", default=None, help="存储桶 Name of the bucket"),
    click.option("--prefix", default=None, help="对象名前缀，以斜杠结尾 Stands before every key; ends with a slash"),
    click.option("--endpoint", default=None, help="对象存储地址 Base address of the object store"),
    click.option("--store-region", "region", default=None, help="对象存储区域 The store's region"),
    click.option("--addressing", type=click.Choice(["auto", "path", "virtual"]), default=None, help="桶名位置 Style"),
    click.option("--profile", default=None, help="账号配置名 Profile with the account"),
    click.option("--credentials", default=None, help="密钥文件，权限 600 TOML file with the keys, of mode 600"),
    click.option("--database", default=None, metavar="URL", help="数据库地址 Address of an empty database"),
)


def _storage_options(function: Any) -> Any:
    for option in reversed(_STORAGE_OPTIONS):
        function = option(function)
    return function


def _section(storage: str | None, given: dict[str, Any]) -> dict[str, Any]:
    values = {name: value for name, value in given.items() if value is not None}
    if values and storage != "s3":
        raise ConfigurationError(
            f"--{next(iter(values))} goes with --storage s3", zh=f"--{next(iter(values))} 须与 --storage s3 同用"
        )
    return {"kind": storage, **values} if storage else {}


@command(
    "把源站迁移到对象存储和数据库服务器；期间照常提供服务，中断后可重新运行",
    "Move an origin to a bucket and a database server while it serves; run again after a break, it goes on",
    origin,
)
@click.argument("root", metavar="DIR", type=DIRECTORY)
@_storage_options
@command_options(reports=True, changes=True)
def migrate(call: Call, root: Path, storage: str | None, database: str | None, **given: Any) -> None:
    """Move an origin to a bucket and a database server while it serves; run again after a break, it goes on."""
    from tools.moving import move

    section = _section(storage, given)
    with show_progress(call.output) as progress:
        work = move(
            root,
            os.environ,
            section,
            database or "",
            dry_run=call.dry_run,
            told=lambda done, total: progress("blobs", done, total),
        )
        done = run(work)
    call.output.emit(done)
    if call.dry_run:
        call.output.say(f"将复制 {done.blobs} 个数据块文件", f"would copy {done.blobs} blobs")
        return
    rows = sum(done.rows.values())
    call.output.say(
        f"迁移完成：复制并核对 {done.blobs} 个数据块文件（{show_bytes(done.bytes)}）、{rows} 条记录。"
        "运行中的 origin serve 会自动切换；确认无误后可删除旧的 blobs 和 origin.sqlite。",
        f"moved: {done.blobs} blobs ({show_bytes(done.bytes)}) and {rows} rows, each proved. A running `origin serve` "
        "switches by itself; the old blobs and origin.sqlite may be removed when you are content.",
    )


@command(
    "备份源站到一个目录；文件只存一份，期间照常提供服务",
    "Back up an origin into a directory, blobs once for all snapshots, while it serves",
    origin,
)
@click.argument("root", metavar="DIR", type=DIRECTORY)
@click.argument("target", type=DIRECTORY)
@click.option("--with-keys", "with_keys", is_flag=True, help="包含私钥 Private keys too; keep the backup locked away")
@command_options(reports=True, changes=True)
def backup(call: Call, root: Path, target: Path, with_keys: bool) -> None:
    """Back up an origin into a directory, blobs once for all snapshots, while it serves."""
    with show_progress(call.output) as progress:
        done = run(_backup(call, root, target, with_keys, lambda done, total: progress("blobs", done, total)))
    call.output.emit(done)
    if call.dry_run:
        call.output.say(f"将备份 {done.blobs} 个数据块文件", f"would back up {done.blobs} blobs")
        return
    call.output.say(
        f"备份完成：{done.snapshot}，共 {done.blobs} 个数据块文件，新增 {done.new_blobs} 个（{show_bytes(done.bytes)}）"
        + ("" if done.keys else "；不含私钥，请另行保存 keys/"),
        f"backed up as {done.snapshot}: {done.blobs} blobs, {done.new_blobs} of them new ({show_bytes(done.bytes)})"
        + ("" if done.keys else "; without private keys: keep keys/ elsewhere"),
    )


async def _backup(call: Call, root: Path, target: Path, with_keys: bool, told: Any) -> Any:
    from origin import app
    from origin.clock import system_clock
    from tools.backup import back_up

    async with app.open_origin(root, os.environ, system_clock) as opened:
        return await back_up(opened, target, keys=with_keys, told=told, dry_run=call.dry_run)


@command(
    "从备份恢复源站到新目录；各边缘自动跟随",
    "Restore an origin from a backup into a new directory; edges follow by themselves",
    origin,
)
@click.argument("target", type=DIRECTORY)
@click.argument("root", metavar="DIR", type=DIRECTORY)
@click.option("--snapshot", "name", default=None, help="备份名称，默认最新 Name of the snapshot; the newest")
@click.option("--no-release", is_flag=True, help="不立即签名发布 Leave the first release to the next publish")
@_storage_options
@keys_option
@command_options(reports=True, changes=True)
def restore(
    call: Call,
    target: Path,
    root: Path,
    name: str | None,
    no_release: bool,
    storage: str | None,
    database: str | None,
    keys_dir: Path | None,
    **given: Any,
) -> None:
    """Restore an origin from a backup into a new directory; edges follow by themselves."""
    from origin.clock import system_clock
    from tools.backup import choose
    from tools.backup import restore as work

    section = _section(storage, given)
    if call.dry_run:
        chosen, snapshot = choose(target, name)
        call.output.emit({"snapshot": chosen, "made": snapshot.made, "blobs": snapshot.blobs, "dry_run": True})
        call.output.say(
            f"将恢复 {snapshot.made} 的备份（{snapshot.blobs} 个数据块文件）到 {root}",
            f"would restore the backup of {snapshot.made} ({snapshot.blobs} blobs) into {root}",
        )
        return
    passphrase = None if no_release else passphrase_for(*_key_folders(target, keys_dir))
    with show_progress(call.output) as progress:
        done = run(
            work(
                target,
                root,
                os.environ,
                system_clock,
                name=name,
                storage=section,
                database=database,
                keys_dir=keys_dir,
                passphrase=passphrase,
                release=not no_release,
                told=lambda done, total: progress("blobs", done, total),
            )
        )
    call.output.emit(done)
    after = "" if done.released else "；放入密钥后请发布或撤回一次，各边缘才会跟随"
    after_en = "" if done.released else "; put the keys there and publish or recall once, then edges follow"
    call.output.say(
        f"已恢复 {done.made} 的备份到 {root}：{done.blobs} 个数据块文件，{sum(done.rows.values())} 条记录{after}",
        f"restored the backup of {done.made} into {root}: {done.blobs} blobs, {sum(done.rows.values())} rows{after_en}",
    )


def _key_folders(target: Path, keys_dir: Path | None) -> list[Path]:
    folders = [*([keys_dir] if keys_dir else []), *sorted((target / "snapshots").glob("*/keys"))[-1:]]
    return [folder for folder in folders if folder.is_dir()]


def register(_cli: click.Group) -> None:
    """Nothing to add at the top: these commands hang below `origin`."""
