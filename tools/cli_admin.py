"""`yuanjiao origin admin`: the first administrator, and the way back in for one who lost everything."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from manifests.errors import InputError
from tools.cli_common import Call, command, command_options, run
from tools.cli_origin import DIRECTORY, origin

if TYPE_CHECKING:
    from origin.accounts.invitations import Link


@command(
    "生成省级管理员的一次性邀请链接；或为已有账号重设密码（--reset）",
    "Make a one-time link by which a province admin joins; or, with --reset, by which an account gets a new password",
    origin,
)
@click.argument("root", metavar="DIR", type=DIRECTORY)
@click.option("--name", default=None, help="姓名 The person's name")
@click.option("--reset", "login", default=None, metavar="LOGIN", help="为该账号重设密码 The account to reset")
@click.option("--url", default=None, help="控制台地址，默认本机 Address of the console, by default this machine")
@command_options(reports=True, changes=True)
def admin(call: Call, root: Path, name: str | None, login: str | None, url: str | None) -> None:
    """Make a one-time link by which a province admin joins, or an account gets a new password."""
    from manifests.bundle import check_upstream
    from manifests.instants import dump_instant

    if (name is None) == (login is None):
        raise InputError(
            "give either --name or --reset",
            zh="请指定 --name（新管理员姓名）或 --reset（要重设的登录名）之一",
            hint="for a first administrator: yuanjiao origin admin DIR --name NAME",
            hint_zh="首位管理员请用：yuanjiao origin admin 目录 --name 姓名",
        )
    base = check_upstream(url) if url else None
    if call.dry_run:
        call.output.emit({"name": name, "reset": login, "dry_run": True})
        call.output.say(f"将为 {name or login} 生成链接", f"would make a link for {name or login}")
        return
    link, here = run(_invite(root, name, login))
    address = f"{base or here}{link.path}"
    expires = dump_instant(link.expires_at)
    call.output.emit({"name": name, "reset": login, "link": address, "expires": expires, "dry_run": False})
    call.output.say(
        f"请在浏览器中打开（一次有效，有效期至 {expires}）：\n{address}",
        f"open in a browser (works once, good until {expires}):\n{address}",
    )


async def _invite(root: Path, name: str | None, login: str | None) -> tuple[Link, str]:
    from origin import app
    from origin.accounts.invitations import invite, invite_back
    from origin.accounts.permissions import Grant, Role
    from origin.clock import system_clock

    async with app.open_origin(root, os.environ, system_clock) as opened:
        days = opened.settings.console.invitation_days
        here = f"http://127.0.0.1:{opened.settings.serve.port}"
        if login is not None:
            return await invite_back(opened.engine, None, login, system_clock, days), here
        grant = Grant(Role.PROVINCE_ADMIN, opened.region)
        return await invite(opened.engine, None, name or "", grant, system_clock, days), here


def register(_cli: click.Group) -> None:
    """The command hangs below `origin` from the moment that this file is read."""
