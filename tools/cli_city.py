"""`yuanjiao origin city`: which cities publish a catalog of their own, and with which keys."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from manifests.errors import InputError
from tools.cli_common import Call, command, command_options, run
from tools.cli_origin import DIRECTORY, keys_option, opened_origin, origin

if TYPE_CHECKING:
    from manifests.names import Region
    from origin.app import Origin
    from origin.publish.cities import CityRight


@command(
    "授权一个市发布自己的目录（生成其签名密钥），撤销该授权，或列出已授权的市",
    "Let a city publish its own catalog (its key is made), take that back, or list the cities that may",
    origin,
)
@click.argument("root", metavar="DIR", type=DIRECTORY)
@click.argument("city", required=False)
@click.option("--revoke", is_flag=True, help="撤销授权，该市课件随即从各边缘撤下 Take the right back")
@keys_option
@command_options(reports=True, changes=True)
def city(call: Call, root: Path, city: str | None, revoke: bool, keys_dir: Path | None) -> None:
    """Let a city publish its own catalog, take that back, or list the cities that may."""
    run(_city(call, root, city, revoke, keys_dir))


async def _city(call: Call, root: Path, named: str | None, revoke: bool, keys_dir: Path | None) -> None:
    async with opened_origin(str(root), keys_dir) as opened:
        if named is None:
            if revoke:
                raise InputError("name the city whose right is taken back", zh="请指定要撤销授权的市")
            await _list(call, opened)
            return
        code = _code(opened, named)
        before = {one.city: one for one in await opened.releases.rights()}
        if call.dry_run:
            _foretell(call, code, revoke, code in before)
            return
        done = await (opened.releases.withdraw(code) if revoke else opened.releases.entrust(code))
    call.output.emit({**_row(done), "changed": done.changed, "dry_run": False})
    if revoke:
        zh, en = f"{code} 的发布授权已撤销", f"{code} may not publish any more"
    else:
        zh = f"{code} 可发布自己的目录，签名密钥 {done.keys[0][:16]}，请备份 keys/cities-{code}.pem"
        en = f"{code} may publish its own catalog, key {done.keys[0][:16]}; back up keys/cities-{code}.pem"
    call.output.say(zh if done.changed else f"无变化：{zh}", en if done.changed else f"nothing changed: {en}")


def _code(opened: Origin, named: str) -> Region:
    from manifests.cities import parse_city
    from origin.stations.regions import load_regions

    return parse_city(load_regions().find(named).code if not named.isdigit() else named, opened.region)


def _foretell(call: Call, code: Region, revoke: bool, has_right: bool) -> None:
    changes = has_right == revoke
    call.output.emit({"city": code, "changed": changes, "revoke": revoke, "dry_run": True})
    if not changes:
        call.output.say(f"{code} 无须变更", f"nothing would change for {code}")
    elif revoke:
        call.output.say(
            f"将撤销 {code} 的发布授权；该市课件随即从各边缘撤下",
            f"would take the right of {code} back; its lessons go from every edge",
        )
    else:
        call.output.say(f"将授权 {code} 发布自己的目录", f"would let {code} publish its own catalog")


async def _list(call: Call, opened: Origin) -> None:
    rights = await opened.releases.rights()
    call.output.emit({"cities": [_row(one) for one in rights]})
    if not rights:
        call.output.say("尚未授权任何市发布", "no city may publish yet")
    for one in rights:
        key = one.keys[0][:16] if one.keys else "-"
        call.output.say(
            f"{one.city} 签名第 {one.version} 版，密钥 {key}", f"{one.city} signed version {one.version}, key {key}"
        )


def _row(right: CityRight) -> dict[str, Any]:
    from manifests.instants import dump_instant

    expires = dump_instant(right.expires) if right.expires is not None else None
    return {"city": right.city, "keys": right.keys, "version": right.version, "expires": expires}


def register(_cli: click.Group) -> None:
    """The command hangs below `origin` from the moment that this file is read."""
