"""Pilots by the console and the API: planned, started, sent on, stopped; told in the audit; refused to others."""

from __future__ import annotations

import json
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from sqlalchemy import select
from support.console import CITY, PROVINCE, Browser, Console, console_at
from support.receipts import article, make_edge
from support.releases import catalog_of

from manifests.catalog import resolve
from manifests.names import Region
from origin.accounts.permissions import Role
from origin.database.engine import reading
from origin.database.tables import audit
from origin.publish.pilot_plan import PilotWish, Terms
from origin.publish.piloting import Pilots

FIRST, SECOND = "410122", "410225"
NEW = "/console/lessons/yumi/pilot"


@pytest.fixture
async def console(founded: Path, tmp_path: Path) -> AsyncIterator[Console]:
    """Two versions of a lesson, and an edge in one of two counties."""
    async with console_at(Path(shutil.copytree(founded, tmp_path / "origin"))) as opened:
        await article(opened.origin, tmp_path, "yumi", "第一版")
        await article(opened.origin, tmp_path, "yumi", "第二版")
        await make_edge(opened.origin, opened.url, tmp_path / "edge", FIRST)
        yield opened


async def _versions(console: Console) -> list[int]:
    catalog = await catalog_of(console.origin.releases)
    return [resolve(catalog, Region(one)).courseware[0].version for one in (FIRST, SECOND, "410305")]


async def _asked(person: Browser, path: str) -> dict[str, Any]:
    page = await person.get(path)
    assert page.status == 200, page.text
    return dict(json.loads(page.text))


async def test_a_pilot_is_looked_at_then_started_then_stopped(console: Console) -> None:
    admin = await console.person("admin", Role.PROVINCE_ADMIN, PROVINCE)
    assert f"{NEW}?version=2" in (await admin.get("/console/lessons/yumi")).text
    page = await admin.get(f"{NEW}?version=1&wave1={quote('中牟县、410181')}&wave2={quote('兰考县')}")
    assert page.status == 200, page.text
    assert "第 1 版的内容将以第 3 版发布" in page.text
    assert "这些地区没有已开通的边缘服务器" in page.text
    assert await _versions(console) == [2, 2, 2]
    fields = {"version": 1, "wave1": "中牟县 410181", "wave2": "兰考县", "deadline_hours": 5}
    page = await admin.submit(f"{NEW}?version=1", NEW, **fields)
    assert (page.status, page.path) == (200, "/console/pilots/1")
    assert "试点已开始" in page.text
    assert "从未上报" in page.text
    assert await _versions(console) == [3, 2, 2]
    assert "第 3 版正在试点" in (await admin.get("/console/lessons/yumi")).text
    assert "进行中的试点" in (await admin.get("/console")).text
    told = await _asked(admin, "/api/v1/pilots/1")
    assert told["terms"]["deadline_hours"] == 5
    assert [(one["edge"], one["wave"], one["standing"]) for one in told["edges"]] == [(f"{FIRST}-1", 1, "waits")]
    await admin.submit("/console/pilots/1", "/console/pilots/1/go-on", wave=1)
    assert await _versions(console) == [3, 3, 2]
    page = await admin.submit("/console/pilots/1", "/console/pilots/1/stop", reason="声音不清")
    assert "试点已停止" in page.text
    assert await _versions(console) == [4, 4, 4]
    page = await admin.submit("/console/lessons/yumi", "/console/pilots/1/stop", reason="再停")
    assert page.status == 400
    assert "该试点已经结束" in page.text
    async with reading(console.origin.engine) as connection:
        rows = (await connection.execute(select(audit).where(audit.c.actor == "admin"))).all()
    told_rows = [(row.action, row.subject) for row in rows if row.action.startswith("pilot")]
    assert told_rows == [("pilot.start", "yumi"), ("pilot.go_on", "yumi"), ("pilot.stop", "yumi")]


async def test_what_cannot_be_tried_is_said_on_the_form(console: Console) -> None:
    admin = await console.person("admin", Role.PROVINCE_ADMIN, PROVINCE)
    for query, words in (
        ("version=1&wave1=" + quote("没有的县"), "没有“没有的县”这个地区"),
        ("version=2&wave1=" + quote("中牟县"), "第 2 版的内容已面向全部地区提供"),
        ("version=1&wave1=110101", "不在本省范围内"),
    ):
        page = await admin.get(f"{NEW}?{query}")
        assert page.status == 400
        assert words in page.text
        assert 'name="wave1"' in page.text, "what was typed is still there to mend"
    page = await admin.submit(NEW, NEW, version=1, wave1="")
    assert page.status == 400
    assert await _versions(console) == [2, 2, 2]
    assert (await admin.get("/console/lessons/nothing/pilot")).status == 404
    assert (await admin.get("/console/pilots/9")).status == 404


async def test_who_may_look_and_who_may_act(console: Console) -> None:
    wish = PilotWish(((Region(FIRST),),), Terms())
    await Pilots(console.origin.releases).start("yumi", 1, wish)
    city = await console.person("city", Role.CITY_ADMIN, CITY)
    other = await console.person("other", Role.VIEWER, "410200")
    contributor = await console.person("dv", Role.CONTRIBUTOR, "410122")
    assert len((await _asked(city, "/api/v1/pilots/1"))["edges"]) == 1
    assert (await _asked(other, "/api/v1/pilots/1"))["edges"] == [], "another city's edges are not told of"
    assert (await _asked(contributor, "/api/v1/pilots/1"))["edges"] == []
    assert "人工处理" not in (await city.get("/console/pilots/1")).text
    for person in (city, other):
        page = await person.submit("/console/pilots/1", "/console/pilots/1/stop", reason="停")
        assert page.status == 403
        page = await person.submit("/console/pilots/1", "/console/pilots/1/go-on", wave=1)
        assert page.status == 403
    assert await _versions(console) == [3, 2, 2]


async def test_a_pilot_that_stopped_by_itself_is_an_alarm_for_a_week(console: Console) -> None:
    wish = PilotWish(((Region(FIRST),),), Terms(deadline_hours=1))
    await Pilots(console.origin.releases).start("yumi", 1, wish)
    console.clock.now += 3600
    await Pilots(console.origin.releases).step_all()
    admin = await console.person("admin", Role.PROVINCE_ADMIN, PROVINCE)
    page = await admin.get("/console")
    assert "第 3 版试点已自动停止：已过 1 小时" in page.text
    findings = (await _asked(admin, "/api/v1/overview"))["findings"]
    assert any("stopped by itself" in one for one in findings)
    console.clock.now += 7 * 86400
    await admin.sign_in("admin")
    assert "试点已自动停止" not in (await admin.get("/console")).text


async def test_without_the_key_a_pilot_waits_and_says_so(console: Console) -> None:
    wish = PilotWish(((Region(FIRST),),), Terms())
    await Pilots(console.origin.releases).start("yumi", 1, wish)
    (console.origin.paths.keys / "targets.pem").rename(console.origin.paths.root.parent / "targets.pem")
    admin = await console.person("admin", Role.PROVINCE_ADMIN, PROVINCE)
    assert "yuanjiao origin pilots DIR --keys" in (await admin.get("/console")).text
    assert "yuanjiao origin pilots DIR --keys DIR" in (await admin.get("/console/pilots/1")).text
    page = await admin.submit("/console/lessons/yumi", "/console/pilots/1/stop", reason="停")
    assert page.status == 409
