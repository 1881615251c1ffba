"""Restoring a release by the API, the console and the command line: seen before, told after, refused to others."""

from __future__ import annotations

import json
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from click.testing import CliRunner
from sqlalchemy import select
from support.console import CITY, PROVINCE, Browser, Console, console_at
from support.origins import found_origin
from support.receipts import article
from support.releases import offered

from origin.accounts.permissions import Role
from origin.database.engine import reading
from origin.database.tables import audit
from tools.cli import cli


@pytest.fixture(scope="module")
def founded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Read only: release 1 is empty, 2 and 3 are two lessons, 4 a new version, 5 a recall."""
    root = tmp_path_factory.mktemp("founded")
    found_origin(root / "origin")
    return root / "origin"


@pytest.fixture
async def console(founded: Path, tmp_path: Path) -> AsyncIterator[Console]:
    async with console_at(Path(shutil.copytree(founded, tmp_path / "origin"))) as opened:
        for id_ in ("xiaomai", "yumi"):
            await article(opened.origin, tmp_path, id_)
        await article(opened.origin, tmp_path, "xiaomai", "再版")
        await opened.origin.releases.recall("yumi", "内容有误")
        yield opened


async def _asked(person: Browser, path: str) -> dict[str, object]:
    page = await person.get(path)
    assert page.status == 200, page.text
    return dict(json.loads(page.text))


async def test_the_plan_is_seen_before_the_button_and_the_audit_says_who_pressed_it(console: Console) -> None:
    admin = await console.person("admin", Role.PROVINCE_ADMIN, PROVINCE)
    assert "/console/releases/3" in (await admin.get("/console/releases")).text
    page = await admin.get("/console/releases/3")
    assert page.status == 200
    assert "由第 2 版改回第 1 版的内容" in page.text
    assert "此后已撤回：内容有误" in page.text
    assert await offered(console.origin.releases) == {"xiaomai": 2}
    page = await admin.submit(
        "/console/releases/3", "/console/releases/3/restore", newest=page.field("newest"), recalled=""
    )
    assert (page.status, page.path) == (200, "/console/releases")
    assert "已恢复" in page.text
    assert await offered(console.origin.releases) == {"xiaomai": 3}
    async with reading(console.origin.engine) as connection:
        rows = (await connection.execute(select(audit).where(audit.c.action.startswith("restore")))).all()
    assert [(row.action, row.actor, row.subject) for row in rows] == [
        ("restore.ask", "admin", "release 3"),
        ("restore", None, None),
        ("restore.done", "admin", "release 3"),
    ]
    assert "现在提供的与当时相同" in (await admin.get("/console/releases/6")).text


async def test_a_recall_is_undone_by_its_box_and_a_plan_that_is_old_is_refused(console: Console) -> None:
    admin = await console.person("admin", Role.PROVINCE_ADMIN, PROVINCE)
    page = await admin.get("/console/releases/3?recalled=yumi&recalled=xiaomai")
    assert "按要求取消撤回" in page.text
    late = await admin.submit("/console/releases/3", "/console/releases/3/restore", newest=4, recalled="yumi")
    assert late.status == 409
    assert "查看之后又有新的发布" in late.text
    assert await offered(console.origin.releases) == {"xiaomai": 2}
    await admin.submit("/console/releases/3", "/console/releases/3/restore", newest=5, recalled="yumi")
    assert await offered(console.origin.releases) == {"xiaomai": 3, "yumi": 2}
    assert (await admin.get("/console/releases/99")).status == 404
    assert (await admin.get("/console/releases/x")).status == 400


async def test_a_city_sees_no_way_to_what_all_the_province_gets(console: Console) -> None:
    city = await console.person("city", Role.CITY_ADMIN, CITY)
    viewer = await console.person("viewer", Role.VIEWER, PROVINCE)
    assert "/console/releases/3" not in (await city.get("/console/releases")).text
    assert "省级发布只能由省级人员恢复" in (await city.get("/console/releases/3")).text
    page = await city.submit("/console/releases", "/console/releases/3/restore", newest=5)
    assert page.status == 403
    assert (await viewer.get("/console/releases/3")).status == 403
    assert await offered(console.origin.releases) == {"xiaomai": 2}


async def test_without_the_key_the_page_says_which_command_to_run(console: Console) -> None:
    admin = await console.person("admin", Role.PROVINCE_ADMIN, PROVINCE)
    (console.origin.paths.keys / "targets.pem").rename(console.origin.paths.root.parent / "targets.pem")
    page = await admin.get("/console/releases/3")
    assert "yuanjiao origin restore-release DIR 3 --keys DIR" in page.text
    page = await admin.submit("/console/lessons/xiaomai", "/console/releases/3/restore", newest=5)
    assert page.status == 409
    plan = await _asked(admin, "/api/v1/releases/3/restore")
    assert plan["keys_are_away"] is True
    assert plan["counts"] == {"back": 0, "change": 1, "away": 0, "recalled": 1, "refused": 0}


def test_the_command_shows_the_plan_and_carries_it_out(founded: Path, tmp_path: Path) -> None:
    root = Path(shutil.copytree(founded, tmp_path / "origin"))
    lesson = tmp_path / "a.md"
    lesson.write_text("# 课\n\n文\n", encoding="utf-8")

    def run(*arguments: str) -> dict[str, object]:
        done = CliRunner().invoke(cli, [*arguments, "--json"])
        assert done.exit_code == 0, done.output
        return dict(json.loads(done.stdout))

    run("publish", str(lesson), "--origin", str(root), "--title", "课", "--id", "ke")
    plan = run("origin", "restore-release", str(root), "1", "--dry-run")
    assert plan["items"] == [
        {
            "id": "ke",
            "title": "课",
            "fate": "away",
            "reason": "it was not offered then",
            "reason_zh": "当时没有该课件",
            "version": 1,
            "then": 0,
            "new": 0,
        }
    ]
    done = run("origin", "restore-release", str(root), "1")
    assert (done["catalog_version"], done["dry_run"]) == (3, False)
    assert run("origin", "restore-release", str(root), "1")["items"] == []
