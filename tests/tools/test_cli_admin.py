"""`yuanjiao origin admin`: the way in, and back in."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

from support.console import console_at
from support.program import run


def test_the_first_admin_gets_a_link_and_whoever_lost_everything_another(tmp_path: Path) -> None:
    root = tmp_path / "origin"
    assert run("origin", "init", root).code == 0
    told = run("origin", "admin", root, "--name", "张三", "--url", "http://10.1.0.1:8080/", "--json").json
    assert re.fullmatch(r"http://10\.1\.0\.1:8080/console/invitation\?code=[\w-]{40,}", told["link"])
    assert run("origin", "admin", root, "--name", "张三", "--dry-run", "--json").json["dry_run"]
    shown = run("origin", "admin", root, "--name", "李四")
    assert "http://127.0.0.1:8080/console/invitation?code=" in shown.out
    for wrong in ((), ("--name", "张三", "--reset", "admin"), ("--reset", "nobody"), ("--name", " ")):
        assert run("origin", "admin", root, *wrong).code == 2
    assert run("origin", "admin", root, "--name", "x", "--url", "ftp://x").code == 2
    assert run("origin", "admin", tmp_path / "none", "--name", "x").code == 2

    async def joined() -> str:
        async with console_at(root) as console:
            path = told["link"].partition("8080")[2]
            return (await console.browser().join(path, "admin")).path

    assert asyncio.run(joined()) == "/console/login"
    assert run("origin", "admin", root, "--reset", "Admin", "--json").json["reset"] == "Admin"
