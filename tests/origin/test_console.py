"""The console as people use it: joining, signing in, looking, changing, recalling; and what each may see."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from support.console import CITY, COUNTY, OTHER_CITY, OTHER_COUNTY, PASSWORD, PROVINCE, Console
from support.receipts import article

from manifests.reports import Run, State, inventory_digest
from origin.accounts.permissions import Action, Role
from origin.web.api.table import OPERATIONS
from origin.web.console.words import load_words

ROOT = Path(__file__).parents[2] / "origin" / "web" / "console"


def test_both_languages_say_the_same_things_and_pages_use_words_that_exist() -> None:
    chinese, english = (words.texts for words in load_words().values())
    assert list(chinese) == list(english)
    for key in chinese:
        assert (
            re.findall(r"{\w+}", chinese[key]) == re.findall(r"{\w+}", english[key]) or key == "lesson.recall_confirm"
        )
    texts = [path.read_text("utf-8") for path in (ROOT / "templates").glob("*.html")]
    used = {key for text in texts for key in re.findall(r"""\bt\(["']([\w.]+)["'][,)]""", text)}
    assert used
    assert used - set(chinese) == set()
    for group, values in (("role", Role), ("scope", Action)):
        assert {f"{group}.{one.value}" for one in values} <= set(chinese)


async def test_the_first_admin_joins_sets_up_a_second_factor_and_signs_in_with_it(console: Console) -> None:
    path = await console.invitation(Role.PROVINCE_ADMIN, PROVINCE, "张三")
    browser = console.browser()
    assert "张三" in (await browser.get(path)).text
    assert (await browser.get(path)).status == 200, "looking uses nothing up"
    assert (await browser.join(path, "admin")).path == "/console/login"
    assert (await console.browser().get(path)).status == 401, "a link works once"
    page = await browser.sign_in("admin")
    assert page.path == "/console/me", "nothing else opens before the second factor is set up"
    assert (await browser.get("/console/people")).path == "/console/me"
    await browser.enrol()
    assert len(browser.codes) == 10
    assert (await browser.get("/console")).path == "/console"
    other = console.browser()
    assert (await other.sign_in("admin", second=False)).path == "/console/second"
    assert (await other.get("/console")).path == "/console/login", "half-way in is not in"
    other.secret = browser.secret
    assert (await other.sign_in("admin")).path == "/console"
    third = console.browser()
    await third.sign_in("admin", second=False)
    code = browser.codes[0].upper()
    assert (await third.submit("/console/second", "/console/second", code=code)).path == "/console"
    fourth = console.browser()
    await fourth.sign_in("admin", second=False)
    assert (await fourth.submit("/console/second", "/console/second", code=code)).status == 401, "works once"


async def test_passwords_that_anybody_would_try_are_refused_and_the_link_stays_good(console: Console) -> None:
    path = await console.invitation(Role.VIEWER, COUNTY, "王小明")
    browser = console.browser()
    for weak in ("短", "12345678901234", "aaaaaaaaaaaaaaa", "mypassword99", "viewer-2026-x", "王小明王小明王小明2"):
        assert (await browser.join(path, "viewer", weak)).status == 400, weak
    assert (await browser.join(path, "不 行")).status == 400
    assert (await browser.join(path, "Viewer")).path == "/console/login"
    assert (await browser.sign_in("VIEWER")).path == "/console", "capitals are folded"
    again = await console.invitation(Role.VIEWER, COUNTY, "王小红")
    assert (await console.browser().join(again, "viewer")).status == 400, "the login is taken"


async def test_a_lesson_is_found_read_and_recalled_and_the_audit_tells_who(console: Console, tmp_path: Path) -> None:
    for id_ in ("xiaomai", "yumi"):
        await article(console.origin, tmp_path, id_, columns=("农业技术",), summary="春管 <b>要点</b>")
    admin = await console.person("admin", Role.PROVINCE_ADMIN, PROVINCE)
    assert "课件 xiaomai" in (await admin.get("/console")).text
    found = await admin.get("/console/lessons?text=%E8%AF%BE%E4%BB%B6+xiao")
    assert "xiaomai" in found.text
    assert "yumi" not in found.text
    part = await admin.get("/console/lessons?text=%E6%B2%A1%E6%9C%89&part=list")
    assert "没有符合条件" in part.text
    assert "<html" not in part.text
    lesson = await admin.get("/console/lessons/xiaomai")
    assert "春管 &lt;b&gt;要点" in lesson.text
    empty = await admin.submit("/console/lessons/xiaomai", "/console/lessons/xiaomai/recall", reason="")
    assert empty.status == 400
    done = await admin.submit("/console/lessons/xiaomai", "/console/lessons/xiaomai/recall", reason="内容有误")
    assert "已撤回" in done.text
    _, catalog = await console.origin.releases.current_catalog()
    assert [one.id for one in catalog.courseware] == ["yumi"]
    assert "xiaomai" in (await admin.get("/console/lessons?state=recalled")).text
    rows = json.loads((await admin.get("/api/v1/audit?subject=xiaomai")).text)["changes"]
    assert [(one["actor"], one["action"]) for one in rows] == [("admin", "recall.done"), ("admin", "recall.ask")]
    assert "内容有误" in rows[0]["after"]


async def test_where_the_signing_key_is_away_the_console_says_how_to_recall(console: Console, tmp_path: Path) -> None:
    await article(console.origin, tmp_path, "xiaomai")
    admin = await console.person("admin", Role.PROVINCE_ADMIN, PROVINCE)
    (console.origin.paths.keys / "targets.pem").rename(tmp_path / "targets.pem")
    page = await admin.get("/console/lessons/xiaomai")
    assert "yuanjiao recall xiaomai" in page.text
    headers = {"Origin": console.url}
    async with admin.session.post(
        f"{console.url}/api/v1/lessons/xiaomai/recall", json={"reason": "错"}, headers=headers
    ) as answer:
        assert answer.status == 409
        assert "yuanjiao recall" in (await answer.json())["hint"]
    _, catalog = await console.origin.releases.current_catalog()
    assert len(catalog.courseware) == 1


async def _reported(console: Console, tmp_path: Path) -> None:
    """Two counties' edges: one has reported, one never."""
    from support.receipts import make_edge, post, sign, signer_of

    from manifests.line import Line
    from manifests.reports import Inventory, make_report

    signer = signer_of(await make_edge(console.origin, console.url, tmp_path / "one", COUNTY))
    await make_edge(console.origin, console.url, tmp_path / "two", OTHER_COUNTY)
    now = console.clock()
    held = {"xiaomai": 1}
    run = Run(2, False, "2026-11-18T14:00:00Z", "2026-11-18T15:00:00Z", 5, deferred={"yumi": "no room <i>"})
    line = Line(rates=tuple(range(168)))
    bodies = (
        ("inventory", Inventory(2, inventory_digest(held), 1, held=held)),
        ("run", run),
        ("state", State(COUNTY, 2, line, 10**9, faults=("disk decays",))),
    )
    reports = [
        make_report(COUNTY, n, kind, now, body, after=n - 1)  # type: ignore[arg-type]
        for n, (kind, body) in enumerate(bodies, 1)
    ]
    assert (await post(console.url, sign(signer, *reports)))[0] == 200


async def test_edges_are_shown_as_they_reported_and_to_their_own_region_only(console: Console, tmp_path: Path) -> None:
    await article(console.origin, tmp_path, "xiaomai")
    await _reported(console, tmp_path)
    admin = await console.person("admin", Role.PROVINCE_ADMIN, PROVINCE)
    overview = json.loads((await admin.get("/api/v1/overview")).text)
    assert overview["edges"] == {"enrolled": 2, "heard": 1, "silent": 0, "never": 1, "current": 1, "with_faults": 1}
    page = await admin.get("/console/edges")
    assert "中牟县" in page.text
    assert "兰考县" in page.text
    detail = await admin.get(f"/console/edges/{COUNTY}-1")
    for told in ("disk decays", "yumi", "no room &lt;i&gt;", "22:00-06:00", "level5"):
        assert told in detail.text
    lesson = json.loads((await admin.get("/api/v1/lessons/xiaomai")).text)
    assert (lesson["coverage"]["meant"], lesson["coverage"]["proved"]) == (2, 1)
    assert [one["edge"] for one in lesson["coverage"]["tail"]] == [f"{OTHER_COUNTY}-1"]

    operator = await console.person("zhongmu", Role.COUNTY_OPERATOR, COUNTY)
    assert "兰考县" not in (await operator.get("/console/edges")).text
    assert "兰考县" not in (await operator.get("/console/lessons/xiaomai")).text
    assert json.loads((await operator.get(f"/api/v1/edges?region={OTHER_COUNTY}")).text)["edges"] == []
    for path in (f"/console/edges/{OTHER_COUNTY}-1", f"/api/v1/edges/{OTHER_COUNTY}-1"):
        away, nowhere = await operator.get(path), await operator.get(path.replace(OTHER_COUNTY, "410999"))
        assert (away.status, nowhere.status) == (404, 404), "whether it exists is not told"


async def test_people_are_managed_within_ones_region_and_below_ones_role(console: Console) -> None:
    admin = await console.person("admin", Role.PROVINCE_ADMIN, PROVINCE)
    city = await console.person("zhengzhou", Role.CITY_ADMIN, CITY)
    await console.person("kaifeng", Role.CITY_ADMIN, OTHER_CITY, enrol=False)
    shown = (await city.get("/console/people")).text
    assert "kaifeng" not in shown
    assert ">admin<" not in shown
    invited = await city.submit("/console/people", "/console/people/invite", name="赵六", role="viewer", region=COUNTY)
    path = re.search(r"/console/invitation\?code=[\w-]+", invited.text)
    assert path
    assert (await console.browser().join(path[0], "zhaoliu")).path == "/console/login"
    for role, region in (("viewer", OTHER_COUNTY), ("city_admin", CITY), ("province_admin", PROVINCE)):
        page = await city.submit("/console/people", "/console/people/invite", name="某", role=role, region=region)
        assert page.status == 403, role
    assert (
        await city.submit("/console/people", "/console/people/invite", name="某", role="county_operator", region=CITY)
    ).status == 400, "a city has no county operator"
    rows = {one["login"]: one["number"] for one in json.loads((await admin.get("/api/v1/accounts")).text)["accounts"]}
    for number in (rows["kaifeng"], rows["admin"], 999):
        page = await city.submit("/console/people", f"/console/people/{number}", disabled="true")
        assert page.status == 404
    away = await admin.submit("/console/people", f"/console/people/{rows['zhaoliu']}", disabled="true")
    assert "已停用" in away.text
    own = await admin.submit("/console/people", f"/console/people/{rows['admin']}", role="viewer")
    assert own.status == 403, "nobody changes their own role"
    moved = await admin.submit("/console/people", f"/console/people/{rows['zhengzhou']}", role="viewer", region=COUNTY)
    assert "账号已变更" in moved.text
    assert (await city.get("/console/people")).status == 403, "works at once on what is open"
    audit = json.loads((await admin.get("/api/v1/audit?subject=zhengzhou&action=account.change")).text)["changes"]
    assert json.loads(audit[0]["before"]) == {"region": CITY, "role": "city_admin"}
    assert json.loads(audit[0]["after"]) == {"region": COUNTY, "role": "viewer"}


async def test_a_disabled_account_is_out_at_once_and_a_reset_lets_it_back_without_its_old_secrets(
    console: Console,
) -> None:
    admin = await console.person("admin", Role.PROVINCE_ADMIN, PROVINCE)
    viewer = await console.person("viewer", Role.VIEWER, COUNTY)
    await admin.submit("/console/people", "/console/people/2", disabled="true")
    assert (await viewer.get("/console")).path == "/console/login"
    assert (await console.browser().sign_in("viewer")).status == 401
    link = await admin.submit("/console/people/2", "/console/people/2/reset")
    path = re.search(r"/console/invitation\?code=[\w-]+", link.text)
    assert path
    fresh = console.browser()
    new = PASSWORD + "新"
    assert (await fresh.join(path[0], "someone-else", new)).path == "/console/login"
    assert (await fresh.sign_in("viewer", PASSWORD)).status == 401
    assert (await fresh.sign_in("viewer", new)).path == "/console"
    assert (await console.browser().join(await console.reset("admin"), "", new)).path == "/console/login"
    assert (await admin.get("/console")).path == "/console/login"
    assert (await admin.sign_in("admin", new)).path == "/console/me", "the second factor is set up anew"


async def test_disabling_somebody_makes_their_links_worthless_too(console: Console) -> None:
    admin = await console.person("admin", Role.PROVINCE_ADMIN, PROVINCE)
    city = await console.person("zhengzhou", Role.CITY_ADMIN, CITY)
    back = await console.reset("zhengzhou")
    page = await city.submit("/console/people", "/console/people/invite", name="赵六", role="viewer", region=COUNTY)
    sent = re.search(r"/console/invitation\?code=[\w-]+", page.text)
    assert sent
    await admin.submit("/console/people", "/console/people/2", disabled="true")
    for path in (back, sent[0]):
        assert (await console.browser().get(path)).status == 401
    new = PASSWORD + "新"
    fields = {"code": back.partition("=")[2], "login": "", "password": new, "again": new}
    assert (await city.submit("/console/login", "/console/invitation", **fields)).status == 401
    assert (await city.sign_in("zhengzhou", new)).status == 401


async def test_the_last_province_admin_stays(console: Console) -> None:
    first = await console.person("first", Role.PROVINCE_ADMIN, PROVINCE)
    second = await console.person("second", Role.PROVINCE_ADMIN, PROVINCE)
    assert (await second.submit("/console/people", "/console/people/1", disabled="true")).status == 200
    assert (await first.get("/console")).path == "/console/login"
    assert (await second.submit("/console/people", "/console/people/2", disabled="true")).status == 403


async def test_devices_are_listed_and_ended_and_a_new_password_ends_the_others(console: Console) -> None:
    one = await console.person("viewer", Role.VIEWER, COUNTY)
    two = console.browser()
    await two.sign_in("viewer")
    devices = json.loads((await one.get("/api/v1/me/devices")).text)["devices"]
    other = next(device["number"] for device in devices if not device["is_this"])
    await one.submit("/console/me", f"/console/me/devices/{other}/end")
    assert (await two.get("/console")).path == "/console/login"
    await two.sign_in("viewer")
    new = PASSWORD + "新"
    fields = {"present": PASSWORD, "new": new, "again": new}
    assert (await one.submit("/console/me", "/console/me/password", **fields | {"present": "x"})).status == 403
    assert "密码已修改" in (await one.submit("/console/me", "/console/me/password", **fields)).text
    assert (await two.get("/console")).path == "/console/login"
    assert (await one.get("/console")).path == "/console"
    stranger = await console.person("stranger", Role.VIEWER, COUNTY)
    number = json.loads((await one.get("/api/v1/me/devices")).text)["devices"][0]["number"]
    assert (await stranger.submit("/console/me", f"/console/me/devices/{number}/end")).status == 404


async def test_a_session_ends_when_it_is_idle_and_at_its_last_day(console: Console) -> None:
    viewer = await console.person("viewer", Role.VIEWER, COUNTY)
    console.clock.now += 11 * 3600
    assert (await viewer.get("/console")).path == "/console"
    console.clock.now += 11 * 3600
    assert (await viewer.get("/console")).path == "/console", "it was used meanwhile"
    console.clock.now += 13 * 3600
    assert (await viewer.get("/console")).path == "/console/login"
    await viewer.sign_in("viewer")
    for _ in range(16):
        console.clock.now += 11 * 3600
        page = await viewer.get("/console")
    assert page.path == "/console/login"


async def test_english_on_request_and_it_is_remembered(console: Console) -> None:
    browser = console.browser()
    assert "Sign in" in (await browser.get("/console/login?lang=en")).text
    assert "Sign in" in (await browser.get("/console/login")).text
    assert "登录" in (await browser.get("/console/login?lang=zh-CN")).text
    assert "登录" in (await browser.get("/console/login?lang=xx")).text


async def test_the_audit_is_filtered_paged_and_cut_to_ones_region(console: Console, tmp_path: Path) -> None:
    admin = await console.person("admin", Role.PROVINCE_ADMIN, PROVINCE)
    city = await console.person("zhengzhou", Role.CITY_ADMIN, CITY)
    for n in range(60):
        await console.invitation(Role.VIEWER, OTHER_COUNTY, f"某{n}")
    first = json.loads((await admin.get("/api/v1/audit?action=invitation.create")).text)
    rest = json.loads((await admin.get(f"/api/v1/audit?action=invitation.create&before={first['next']}")).text)
    assert len(first["changes"]) == 50
    assert rest["next"] is None
    assert len(rest["changes"]) == 12
    assert (await admin.get("/console/audit?since=2000-01-01&until=2000-01-02")).text.count("<tr>") == 0
    assert (await admin.get("/console/audit?since=2026-02-31")).status == 400
    seen = json.loads((await city.get("/api/v1/audit")).text)["changes"]
    assert seen
    assert {one["region"] for one in seen} == {CITY}
    table = await city.get("/console/audit.csv")
    assert table.headers["Content-Type"] == "text/csv; charset=utf-8"
    assert "某1" not in table.text
    assert len((await admin.get("/console/audit.csv")).text.splitlines()) == len(table.text.splitlines()) + 65


@pytest.mark.parametrize("role", [Role.VIEWER, Role.COUNTY_OPERATOR, Role.CONTRIBUTOR])
async def test_pages_that_a_role_has_no_right_to_are_neither_shown_nor_opened(console: Console, role: Role) -> None:
    browser = await console.person("somebody", role, COUNTY)
    frame = (await browser.get("/console/lessons")).text
    closed = {"/console/people", "/console/audit", "/console/audit.csv"}
    closed |= {"/console/edges"} if role is Role.CONTRIBUTOR else set()
    for path in closed:
        assert f'href="{path}"' not in frame
        assert (await browser.get(path)).status == 403
    assert (await browser.get("/console")).status == 200


def test_every_operation_has_its_own_name_and_words_in_both_languages() -> None:
    assert len({one.name for one in OPERATIONS}) == len(OPERATIONS)
    assert len({(one.method, one.path) for one in OPERATIONS}) == len(OPERATIONS)
    assert all(one.summary and one.summary_zh for one in OPERATIONS)
