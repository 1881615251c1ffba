"""People in front of the console: a browser that keeps cookies and sends forms, and an origin that answers them."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from html import unescape
from pathlib import Path
from unittest.mock import patch
from urllib.parse import urlsplit

import aiohttp
from support.releases import ManualClock
from yarl import URL

from manifests.names import Region
from origin import app as origin_app
from origin.accounts.credentials import COST
from origin.accounts.invitations import invite, invite_back
from origin.accounts.permissions import Grant, Role
from origin.accounts.totp import STEP_S, code_at
from origin.app import Origin
from origin.web.server import running

PASSWORD = "麦浪滚滚千里-2026"
PROVINCE, CITY, COUNTY, OTHER_CITY, OTHER_COUNTY = "410000", "410100", "410122", "410200", "410225"


@dataclass(frozen=True)
class Page:
    """An answer as a person sees it."""

    status: int
    path: str
    text: str
    headers: Mapping[str, str]
    cookies: list[str]

    def field(self, name: str) -> str:
        """The value of a field of a form."""
        found = re.search(rf'<input[^>]*name="{name}"[^>]*value="([^"]*)"', self.text)
        assert found, f"no field {name} in {self.text}"
        return unescape(found[1])


@dataclass
class Browser:
    """One browser; redirects are followed only when asked for."""

    session: aiohttp.ClientSession
    base: str
    clock: ManualClock
    secret: str = ""  # of the second factor
    codes: list[str] = field(default_factory=list)

    async def get(self, path: str, *, follow: bool = True, **headers: str) -> Page:
        """Open a page."""
        return await self._send("GET", path, None, follow, headers)

    async def post(self, path: str, fields: Mapping[str, object], *, follow: bool = False, **headers: str) -> Page:
        """Send a form exactly as it is."""
        return await self._send("POST", path, fields, follow, headers)

    async def submit(self, page: str, path: str, *, follow: bool = True, **fields: object) -> Page:
        """Open a page, take its form token, send a form as a browser would."""
        token = (await self.get(page)).field("form_token")
        origin = {"Origin": self.base, "Sec-Fetch-Site": "same-origin"}
        return await self.post(path, {**fields, "form_token": token}, follow=follow, **origin)

    async def sign_in(self, login: str, password: str = PASSWORD, *, second: bool = True) -> Page:
        """Sign in, with the second factor when it is asked for."""
        page = await self.submit("/console/login", "/console/login", login=login, password=password)
        if second and page.path == "/console/second":
            self.clock.now += STEP_S  # a code opens once
            page = await self.submit("/console/second", "/console/second", code=self.code())
        return page

    async def join(self, path: str, login: str, password: str = PASSWORD) -> Page:
        """Use an invitation."""
        code = path.partition("code=")[2]
        fields = {"code": code, "login": login, "password": password, "again": password}
        return await self.submit(path, "/console/invitation", **fields)

    async def enrol(self) -> Page:
        """Set up the second factor."""
        page = await self.submit("/console/me", "/console/me/second-factor", code="")
        self.secret = page.field("secret")
        self.clock.now += STEP_S
        fields = {"code": self.code(), "form_token": page.field("form_token"), "secret": self.secret, "uri": "x"}
        page = await self.post("/console/me/second-factor/confirm", fields, Origin=self.base)
        self.codes = re.findall(r"<code>([a-z0-9-]{19})</code>", page.text)
        return page

    def code(self) -> str:
        """What the app shows now."""
        return code_at(self.secret, self.clock.now // STEP_S)

    def cookie(self, name: str) -> str:
        """The value of a cookie."""
        found = self.session.cookie_jar.filter_cookies(URL(self.base)).get(name)
        return found.value if found else ""

    async def _send(
        self, method: str, path: str, fields: Mapping[str, object] | None, follow: bool, headers: Mapping[str, str]
    ) -> Page:
        data = None if fields is None else {key: str(value) for key, value in fields.items()}
        url = URL(self.base + path, encoded=True)
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        async with self.session.request(method, url, data=data, headers=named, allow_redirects=follow) as answer:
            cookies = [value for one in (*answer.history, answer) for value in one.headers.getall("Set-Cookie", [])]
            text = (await answer.read()).decode("utf-8", "replace")
            return Page(answer.status, urlsplit(str(answer.url)).path, text, dict(answer.headers), cookies)


@dataclass
class Console:
    """An origin that answers, and people in front of it."""

    origin: Origin
    url: str
    clock: ManualClock
    browsers: list[aiohttp.ClientSession]

    def browser(self) -> Browser:
        """A browser that was never here."""
        session = aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True))
        self.browsers.append(session)
        return Browser(session, self.url, self.clock)

    async def invitation(self, role: Role, region: str, name: str = "李四") -> str:
        """The path of an invitation from the command line."""
        grant = Grant(role, Region(region))
        return (await invite(self.origin.engine, None, name, grant, self.clock, 7)).path

    async def reset(self, login: str) -> str:
        """The path of a link for a new password from the command line."""
        return (await invite_back(self.origin.engine, None, login, self.clock, 7)).path

    async def person(self, login: str, role: Role, region: str, *, enrol: bool | None = None) -> Browser:
        """Somebody who joined and is signed in, with a second factor where the role needs one."""
        browser = self.browser()
        page = await browser.join(await self.invitation(role, region), login)
        assert page.path == "/console/login", page.text
        page = await browser.sign_in(login)
        assert page.status == 200, page.text
        if enrol if enrol is not None else page.path == "/console/me":
            assert (await browser.enrol()).status == 200
        return browser


CHEAP = {"memory_cost": 64, "time_cost": 1}


@asynccontextmanager
async def console_at(
    root: Path, clock: ManualClock | None = None, *, port: int = 0, cost: Mapping[str, int] = CHEAP, **env: str
) -> AsyncIterator[Console]:
    """Open an origin and answer; passwords cost little, because each test has several people sign in."""
    clock = clock or ManualClock()
    names = {f"YUANJIAO_{name.upper()}": value for name, value in env.items()}
    async with origin_app.open_origin(root, names, clock) as origin:
        with patch.dict(COST, cost):
            app = origin_app.make_app(origin)
        async with running(app, "127.0.0.1", port, origin.settings.serve, origin.metrics) as bound:
            console = Console(origin, f"http://127.0.0.1:{bound}", clock, [])
            try:
                yield console
            finally:
                for session in console.browsers:
                    await session.close()
