"""What strangers, other sites, other regions and patient guessers can do to the console: nothing."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
from pathlib import Path
from urllib.parse import quote

import aiohttp
import pytest
from sqlalchemy import select
from support.console import CITY, COUNTY, PASSWORD, PROVINCE, Console, console_at
from support.raw_http import Connection
from support.receipts import article

from origin.accounts import credentials
from origin.accounts.credentials import Passwords, secret_digest
from origin.accounts.guesses import address_group
from origin.accounts.permissions import Role
from origin.database.engine import reading
from origin.database.tables import accounts, invitations, recovery_codes, sessions, tokens
from origin.web.console.people import csv_line
from origin.web.console.shell import inside

MARKUP = "\"'><script>alert(1)</script><img src=x onerror=alert(1)>{{7*7}}"


async def test_markup_is_text_wherever_it_is_shown(console: Console, tmp_path: Path) -> None:
    await article(console.origin, tmp_path, "markup", summary=MARKUP, tags=("<i>tag",), columns=("<b>column",))
    admin = await console.person("admin", Role.PROVINCE_ADMIN, PROVINCE)
    name = MARKUP[:60]
    await console.invitation(Role.VIEWER, COUNTY, name)
    shown = await admin.get(await console.invitation(Role.VIEWER, COUNTY, name))
    admin.session.headers["User-Agent"] = MARKUP
    await admin.sign_in("admin")
    await admin.submit("/console/lessons/markup", "/console/lessons/markup/recall", reason=MARKUP)
    await admin.submit("/console/me", "/console/me/tokens", name=name, scopes="edges:read", days="9")
    asked = quote(MARKUP)
    pages = [
        await admin.get(path)
        for path in (
            *("/console/lessons/markup", "/console/people", "/console/me", "/console/audit", "/console/releases"),
            *(f"/console/lessons?text={asked}", f"/console/lessons?column={quote(MARKUP[:60])}"),
            *(f"/console/audit?actor={quote(MARKUP[:60])}", f"/console/edges/{quote('<script>')}", "/console/login"),
            *(f"/console/lessons/{quote('<script>')}", f"/console?done={asked}", f"/console/{asked}"),
        )
    ]
    guest = console.browser()
    pages += [shown, await guest.submit("/console/login", "/console/login", login=MARKUP, password="x", next=MARKUP)]
    pages.append(await guest.get(f"/console/login?next={asked}"))
    for page in pages:
        assert page.status < 500
        assert "<script>" not in page.text
        assert "<img src=x" not in page.text
        assert "<i>tag" not in page.text
        assert "<b>column" not in page.text


async def test_every_answer_has_the_policy_and_no_page_has_inline_script_or_style(console: Console) -> None:
    admin = await console.person("admin", Role.PROVINCE_ADMIN, PROVINCE)
    paths = ["/console", "/console/lessons", "/console/people", "/console/me", "/console/nowhere", "/api/v1/me"]
    paths += ["/api/v1/openapi.json", "/api/v1/nowhere", "/console/static/console.css", "/console/static/../app.py"]
    nonces = set()
    for path in paths:
        page = await admin.get(path, follow=False)
        policy = page.headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert "frame-ancestors 'none'" in policy
        assert "base-uri 'none'" in policy
        assert "form-action 'self'" in policy
        assert page.headers["X-Content-Type-Options"] == "nosniff"
        assert page.headers["Referrer-Policy"] == "same-origin"
        assert "style=" not in page.text
        assert re.search(r"\son\w+=", page.text) is None or path.endswith((".css", "openapi.json"))
        nonces |= set(re.findall(r"'nonce-([\w-]+)'", policy))
        scripts = re.findall(r"<script[^>]*>", page.text)
        assert all(
            f'nonce="{nonce}"' in script for script in scripts for nonce in re.findall(r"nonce-([\w-]+)", policy)
        )
    assert len(nonces) == 6, "each page has its own"
    for method in ("PUT", "DELETE", "TRACE"):
        async with admin.session.request(method, f"{console.url}/console/people") as answer:
            assert answer.status in {404, 405}
            assert "Content-Security-Policy" in answer.headers


async def test_a_form_is_taken_only_from_our_own_pages(console: Console) -> None:
    admin = await console.person("admin", Role.PROVINCE_ADMIN, PROVINCE)
    token = (await admin.get("/console/people")).field("form_token")
    good = {"name": "某", "role": "viewer", "region": COUNTY, "form_token": token}
    path = "/console/people/invite"
    evil: list[tuple[dict[str, str], dict[str, str]]] = [
        (good, {"Origin": "http://evil.example"}),
        (good, {"Origin": "null"}),
        (good, {"Origin": console.url.replace("127.0.0.1", "127.0.0.1.evil.example")}),
        (good, {"Sec-Fetch-Site": "cross-site"}),
        (good, {"Sec-Fetch-Site": "same-site", "Origin": console.url}),
        (good | {"form_token": ""}, {"Origin": console.url, "Sec-Fetch-Site": "same-origin"}),
        (good | {"form_token": secret_digest("x")}, {}),
        ({"name": "某", "role": "viewer", "region": COUNTY}, {}),
    ]
    for fields, headers in evil:
        assert (await admin.post(path, fields, **headers)).status == 403, headers
    stolen = console.browser()
    other = (await stolen.get("/console/login")).field("form_token")
    assert (await admin.post(path, good | {"form_token": other}, Origin=console.url)).status == 403
    for body, kind in ((json.dumps(good), "application/json"), ("a=b", "text/plain")):
        async with admin.session.post(console.url + path, data=body, headers={"Content-Type": kind}) as answer:
            assert answer.status == 400
    async with admin.session.post(console.url + path, data="a=b") as answer:
        assert answer.status in {400, 403}
    assert (await admin.post(path, good)).status == 200, "an old browser says neither, but has the token"
    assert (await admin.post("/console/login", {"login": "x"}, Origin="http://evil.example")).status == 403


async def test_the_api_takes_changes_by_cookie_only_from_our_own_pages(console: Console) -> None:
    admin = await console.person("admin", Role.PROVINCE_ADMIN, PROVINCE)
    url, body = f"{console.url}/api/v1/invitations", {"name": "某", "role": "viewer", "region": COUNTY}
    for headers in ({}, {"Origin": "http://evil.example"}, {"Sec-Fetch-Site": "cross-site"}):
        async with admin.session.post(url, json=body, headers=headers) as answer:
            assert answer.status == 403
    plain = {"Origin": console.url, "Content-Type": "text/plain"}
    async with admin.session.post(url, data=json.dumps(body), headers=plain) as answer:
        assert answer.status == 400, "only a type that other sites cannot send unasked"
    async with admin.session.post(url, json=body, headers={"Origin": console.url}) as answer:
        assert answer.status == 200
    async with admin.session.get(f"{console.url}/api/v1/me", headers={"Origin": "http://evil.example"}) as answer:
        assert "Access-Control-Allow-Origin" not in answer.headers


async def test_cookies_are_for_this_server_only_and_the_database_opens_nothing(console: Console) -> None:
    browser = console.browser()
    await browser.join(await console.invitation(Role.VIEWER, COUNTY), "viewer")
    page = await browser.sign_in("viewer")
    made = [text for text in page.cookies if text.startswith(("yj_session=", "yj_device="))]
    assert len(made) == 2
    for text in made:
        assert {"HttpOnly", "SameSite=Lax", "Path=/"} <= set(text.split("; "))
        assert "Domain" not in text
        assert "Secure" not in text, "this is http"
    async with reading(console.origin.engine) as connection:
        for table in (sessions, accounts, invitations, recovery_codes, tokens):
            text = str((await connection.execute(select(table))).all())
            for secret in (browser.cookie("yj_session"), browser.cookie("yj_device"), PASSWORD):
                assert secret
                assert secret not in text


async def test_behind_a_proxy_cookies_are_secure_and_addresses_are_the_visitors(founded: Path, tmp_path: Path) -> None:
    root = Path(shutil.copytree(founded, tmp_path / "origin"))
    async with console_at(root, console_behind_proxy="true") as console:
        browser = await console.person("viewer", Role.VIEWER, COUNTY)
        told = {"X-Forwarded-Proto": "https", "X-Forwarded-For": "1.2.3.4, 10.9.8.7"}
        browser.session.headers.update(told)
        page = await browser.sign_in("viewer")
        assert all("Secure" in text for text in page.cookies if "yj_" in text)
        async with reading(console.origin.engine) as connection:
            rows = (await connection.execute(select(sessions.c.address).order_by(sessions.c.id.desc()))).all()
        assert rows[0].address == "10.9.8.7", "the last entry is the proxy's own word"


async def test_a_session_that_somebody_planted_never_comes_to_mean_anything(console: Console) -> None:
    viewer = await console.person("viewer", Role.VIEWER, COUNTY)
    victim = console.browser()
    planted = "planted-by-somebody-else-0123456789abcdef"
    victim.session.cookie_jar.update_cookies({"yj_session": planted, "yj_device": "x"}, aiohttp.client.URL(victim.base))
    await victim.sign_in("viewer")
    assert victim.cookie("yj_session") not in {"", planted, viewer.cookie("yj_session")}
    thief = console.browser()
    thief.session.cookie_jar.update_cookies({"yj_session": planted}, aiohttp.client.URL(victim.base))
    assert (await thief.get("/console")).path == "/console/login"
    before = viewer.cookie("yj_session")
    await viewer.submit("/console/me", "/console/logout")
    thief.session.cookie_jar.update_cookies({"yj_session": before}, aiohttp.client.URL(victim.base))
    assert (await thief.get("/console")).path == "/console/login", "signing out ends it here, not only in the browser"


async def test_half_a_sign_in_becomes_a_new_session_with_the_second_factor(console: Console) -> None:
    admin = await console.person("admin", Role.PROVINCE_ADMIN, PROVINCE)
    await admin.submit("/console/me", "/console/logout")
    await admin.sign_in("admin", second=False)
    half = admin.cookie("yj_session")
    assert (await admin.get("/api/v1/me")).status == 401
    await admin.sign_in("admin")
    assert admin.cookie("yj_session") != half
    thief = console.browser()
    thief.session.cookie_jar.update_cookies({"yj_session": half}, aiohttp.client.URL(admin.base))
    assert (await thief.get("/console/second")).path == "/console/login"


async def test_guessing_is_slowed_and_the_owner_still_comes_in(console: Console) -> None:
    owner = await console.person("owner", Role.VIEWER, COUNTY)
    await owner.submit("/console/me", "/console/logout")
    guesser = console.browser()
    answers = [(await guesser.sign_in("owner", f"wrong-{n}")).status for n in range(8)]
    assert answers == [401] * 5 + [429] * 3, "refused attempts are not looked at"
    page = await guesser.sign_in("owner", PASSWORD)
    assert page.status == 429, "not even the right one, until the wait is over"
    assert int(page.headers["Retry-After"]) <= 900
    assert (await owner.sign_in("owner")).path == "/console", "a device that the account knows does not wait"
    for _ in range(20):
        console.clock.now += 900
        await guesser.sign_in("owner", "wrong again")
    console.clock.now += 900
    fresh = console.browser()
    assert (await fresh.sign_in("owner")).path == "/console", "and nobody is locked out for ever"


async def test_an_account_that_does_not_exist_cannot_be_told_from_one_that_does(console: Console) -> None:
    await console.person("exists", Role.VIEWER, COUNTY)
    told = []
    for login in ("exists", "nobody-at-all"):
        browser = console.browser()
        console.clock.now += 4000
        seen = []
        for n in range(7):
            page = await browser.sign_in(login, f"wrong-{n}")
            text = re.sub(r'value="[^"]*"|nonce="[^"]*"', "", page.text)
            seen.append((page.status, text))
        told.append(seen)
    assert told[0] == told[1]


async def test_a_hundred_guesses_at_once_are_not_a_hundred_guesses(console: Console) -> None:
    await console.person("owner", Role.VIEWER, COUNTY)
    guesser = console.browser()
    token = (await guesser.get("/console/login")).field("form_token")
    fields = {"login": "owner", "password": "wrong", "form_token": token}
    pages = await asyncio.gather(*(guesser.post("/console/login", fields, Origin=console.url) for _ in range(100)))
    looked_at = [page for page in pages if page.status == 401]
    assert len(looked_at) <= 5 + 2
    assert {page.status for page in pages} <= {401, 429, 503}


async def test_codes_are_guessed_no_faster_than_passwords(console: Console) -> None:
    admin = await console.person("admin", Role.PROVINCE_ADMIN, PROVINCE)
    thief = console.browser()
    await thief.sign_in("admin", second=False)
    page = "/console/second"
    answers = [(await thief.submit(page, page, code=f"{n:06}")).status for n in range(7)]
    assert answers == [401] * 5 + [429] * 2
    within = [
        (await admin.submit("/console/me", "/console/me/second-factor/codes", code=f"{n:06}")).status for n in range(7)
    ]
    assert within == [403] * 5 + [429] * 2, "nor from a session that was left open"
    assert (await admin.submit("/console/me", "/console/me/second-factor", code="")).status == 429


async def test_the_way_back_after_signing_in_stays_inside(console: Console) -> None:
    await console.person("viewer", Role.VIEWER, COUNTY)
    for path in (
        "//evil.example",
        "https://evil.example/console",
        "/\\evil.example",
        "/console/../x?\r\nSet-Cookie: a=b",
    ):
        browser = console.browser()
        page = await browser.submit("/console/login", "/console/login", login="viewer", password=PASSWORD, next=path)
        assert page.path == "/console", path
    browser = console.browser()
    first = await browser.get("/console/lessons?text=%E5%B0%8F%E9%BA%A6&page=2", follow=False)
    assert first.headers["Location"].startswith("/console/login?next=/console/lessons%3Ftext%3D")
    assert inside("/console/lessons?text=%E5%B0%8F&page=2") == "/console/lessons?text=%E5%B0%8F&page=2"
    assert inside("/consoleX") == inside("javascript:alert(1)") == inside("/console//evil") == "/console"


async def test_header_fields_cannot_be_smuggled_in(console: Console) -> None:
    port = int(console.url.rpartition(":")[2])
    for path in (
        "/console/login?next=%0d%0aSet-Cookie:%20a=b",
        "/console/lessons/a%0d%0ax:y",
        "/console?lang=%0d%0aX:y",
    ):
        connection = await Connection.open(port)
        reply = await connection.request(path)
        assert "x" not in reply.headers
        assert reply.headers.get("set-cookie", "yj_form").startswith("yj_form")
        await connection.close()
    connection = await Connection.open(port)
    reply = await connection.request("/console", Cookie="yj_session=" + "é" * 20, User_Agent="\xff")
    assert reply.status == 303
    await connection.close()


@pytest.mark.parametrize("cell", ["=1+1", "+1", "-1", "@x", "\t=1", "\r=1", "  =1", "＝1", "\n=1", "\u3000＠x"])
def test_a_spreadsheet_takes_no_cell_for_a_formula(cell: str) -> None:
    line = csv_line([cell, '中文, 与“引号”"', "ordinary"])
    assert line.lstrip('"').startswith("'")
    assert line.endswith('"中文, 与“引号”"""' + ",ordinary\r\n")


async def test_bodies_have_a_limit_and_odd_forms_are_refused_politely(console: Console) -> None:
    guest = console.browser()
    token = (await guest.get("/console/login")).field("form_token")
    for fields in ({"login": "x" * 70_000}, {f"f{n}": "x" for n in range(200)}):
        page = await guest.post("/console/login", {**fields, "form_token": token}, Origin=console.url)
        assert page.status in {400, 413}
    for data in (b"a=%ff%fe", b"\xff\xfe", b"login=%00&password=%00"):
        kind = {"Content-Type": "application/x-www-form-urlencoded"}
        async with guest.session.post(f"{console.url}/console/login", data=data, headers=kind) as answer:
            assert answer.status in {400, 403}
    page = await guest.submit("/console/login", "/console/login", login="\ud7ff" * 20, password="x" * 5000)
    assert page.status == 401
    assert (await guest.submit("/console/login", "/console/login", login="a\0", password="x")).status == 400
    viewer = await console.person("viewer", Role.VIEWER, COUNTY)
    for path in ("/console/lessons?text=%00", "/api/v1/lessons?text=%00", "/api/v1/edges/%00", "/console/edges/%00"):
        assert (await viewer.get(path)).status in {400, 404}, path
    headers = {"Origin": console.url, "Content-Type": "application/json"}
    data = b'{"present": "\\u0000", "new": "x"}'
    async with viewer.session.post(f"{console.url}/api/v1/me/password", data=data, headers=headers) as answer:
        assert answer.status == 400


async def test_tokens_do_what_their_scopes_allow_and_give_out_no_secrets(console: Console) -> None:
    city = await console.person("zhengzhou", Role.CITY_ADMIN, CITY)
    made = await city.submit("/console/me", "/console/me/tokens", name="脚本", scopes="accounts:read", days="9")
    secret = re.search(r'value="(yj_[\w-]+)"', made.text)
    assert secret
    script = console.browser()
    script.session.headers["Authorization"] = f"Bearer {secret[1]}"
    assert (await script.get("/api/v1/accounts")).status == 200
    assert json.loads((await script.get("/api/v1/me")).text)["scopes"] == ["accounts:read"]
    for path in ("/audit", "/edges", "/me/tokens", "/me/devices"):
        assert (await script.get(f"/api/v1{path}")).status == 403, path
    url = f"{console.url}/api/v1"
    for path, body in (("/invitations", {"name": "x", "role": "viewer", "region": COUNTY}), ("/me/tokens", {})):
        async with script.session.post(url + path, json=body) as answer:
            assert answer.status in {400, 403}
    assert (await script.get("/console")).path == "/console/login", "pages are for people"
    number = json.loads((await city.get("/api/v1/me/tokens")).text)["tokens"][0]["number"]
    await city.submit("/console/me", f"/console/me/tokens/{number}/end")
    page = await script.get("/api/v1/accounts")
    assert page.status == 401
    assert page.headers["WWW-Authenticate"] == "Bearer"
    for value in ("Bearer", "Bearer x", "Basic YTpi", "Bearer " + "x" * 3000):
        script.session.headers["Authorization"] = value
        assert (await script.get("/api/v1/me")).status == 401
    beyond = await city.submit("/console/me", "/console/me/tokens", name="x", scopes="lessons:fly", days="9")
    assert beyond.status == 400


async def test_passwords_cost_what_they_should_and_wait_in_a_bounded_queue(monkeypatch: pytest.MonkeyPatch) -> None:
    passwords = Passwords()
    hashed = await passwords.hash(PASSWORD)
    assert hashed.startswith("$argon2id$v=19$m=19456,t=2,p=1$")
    assert await passwords.is_right(hashed, PASSWORD)
    assert not await passwords.is_right(None, PASSWORD)
    monkeypatch.setattr(credentials, "TURN_S", 0.01)
    async with passwords.turn(), passwords.turn():
        with pytest.raises(Exception, match="at once"):
            async with passwords.turn():
                pass


def test_one_customer_of_a_network_is_one_address() -> None:
    assert address_group("2001:db8:1:2:3:4:5:6") == address_group("2001:db8:1:2::1") == "2001:db8:1:2::"
    assert address_group("10.0.0.1") == "10.0.0.1"
    assert address_group("not an address" * 20) == ("not an address" * 20)[:64]
