"""What contributors write and hand in, against everybody who looks at it: nothing of it acts, on any page."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from support.console import COUNTY, PROVINCE, Browser, Console
from support.drafts import call, get, make_draft, release_due, save, step, try_save, upload
from support.media import make_mp4, make_pdf, make_png

from origin.accounts.permissions import Role

PAYLOADS = [
    "<x-pwn>",
    '"><x-pwn onload=alert(1)>',
    "'><x-pwn onload=alert(1)>",
    "</textarea><x-pwn>",
    "</title></script><x-pwn>",
    "<!--><x-pwn>-->",
    "<img src=x onerror=pwn()>",
    "<svg/onload=pwn()>",
    "javascript:pwn()",
    "{{7*7}}{%pwn%}${pwn}",
    "]]><x-pwn>",
    "&lt;x-pwn&gt;&#60;x-pwn&#62;",
    '\\"><x-pwn>\\u003cx-pwn\\u003e',
]
LONG = " ".join(PAYLOADS)


class _Look(HTMLParser):
    """Notes whatever in a page could act and is not ours."""

    def __init__(self) -> None:
        super().__init__()
        self.faults: list[str] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        named = dict(attrs)
        if "pwn" in tag or tag in {"svg", "math", "object", "embed", "base", "style"}:
            self.faults.append(tag)
        if tag == "script" and not (named.get("nonce") and (named.get("src") or "").startswith("/console/static/")):
            self.faults.append("script")
        if tag == "iframe" and not (named.get("src") or "").startswith("/console/drafts/"):
            self.faults.append("iframe")
        for name, value in attrs:
            if name.startswith("on") or name == "style":
                self.faults.append(f"{tag} {name}")
            address = (value or "").strip().lower()
            if name in {"href", "src", "action", "formaction"} and address.startswith(
                ("javascript:", "//", "data:text")
            ):
                self.faults.append(f"{tag} {name}={value}")

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def _faults(html: str) -> list[str]:
    look = _Look()
    look.feed(html)
    return look.faults


async def _looked_at(browser: Browser, paths: list[str]) -> str:
    seen = ""
    for path in paths:
        page = await browser.get(path)
        assert page.status == 200, path
        assert _faults(page.text) == [], path
        assert "49" not in page.text or "{{7*7}}" in page.text or "pwn" not in page.text, path
        seen += page.text
    return seen


async def test_markup_in_every_text_is_text_on_every_page(console: Console, tmp_path: Path) -> None:
    author = await console.person("author", Role.CONTRIBUTOR, COUNTY)
    admin = await console.person("admin", Role.PROVINCE_ADMIN, PROVINCE)
    other = await console.person("other", Role.REVIEWER, PROVINCE)
    picture = await upload(console, "author", make_png(tmp_path / "a.png"))
    video = await upload(console, "author", make_mp4(tmp_path / "a.mp4"))
    inside = LONG.replace("src=x", "src=//x.example")
    shown = f'<p>{inside}</p><img src="a.png" alt="&quot;><x-pwn>" onerror="pwn()"><a href="javascript:pwn()">x</a>'
    draft = await make_draft(
        author,
        title=LONG[:200],
        summary=LONG,
        credit=PAYLOADS[1],
        columns=[text[:60] for text in PAYLOADS],
        theme="2026年12月主题：<x-pwn>",
        tags=[text[:60] for text in PAYLOADS],
        article=shown,
        files=[
            {"upload": picture, "name": "a.png", "role": "picture"},
            {"upload": video, "name": "{{7+7}}';pwn();'.mp4"},
        ],
    )
    number = draft["number"]
    for text in PAYLOADS:
        assert (await call(author, "POST", f"/drafts/{number}/notes", {"text": text}))[0] == 200
    _, draft = await step(author, draft, "submit")
    _, draft = await step(other, draft, "return", LONG)
    paths = [f"/console/drafts{path}" for path in ("", f"/{number}", f"/{number}/review", f"/{number}/preview")]
    paths += [f"/console/drafts/{number}/screen", f"/console/drafts/{number}/promise", "/console/audit"]
    for language in ("zh-CN", "en"):
        seen = await _looked_at(admin, [f"{path}?lang={language}" for path in paths])
        assert "x-pwn" in seen
    typed = {"title": LONG[:200], "revision": "1", "article": shown, "theme": "new", "theme_month": LONG[:40]}
    page = await admin.submit(f"/console/drafts/{number}", f"/console/drafts/{number}", **typed)
    assert page.status == 400
    assert _faults(page.text) == []
    page = await admin.submit(f"/console/drafts/{number}", f"/console/drafts/{number}", title="<x-pwn>", revision="1")
    assert page.status == 409
    assert _faults(page.text) == []
    _, draft = await step(author, await get(author, draft), "submit")
    _, draft = await step(other, draft, "approve")
    await step(admin, draft, "release")
    await release_due(console)
    released = await get(admin, draft)
    assert released["state"] == "released", released["notes"][-1]
    paths = ["/console/lessons", f"/console/lessons/{released['courseware']}", "/console", "/console/releases"]
    assert "x-pwn" in await _looked_at(admin, paths)


@pytest.mark.parametrize("field", ["title", "summary", "credit", "columns", "tags", "theme"])
async def test_texts_that_hide_or_turn_what_they_say_are_refused(console: Console, field: str) -> None:
    admin = await console.person("admin", Role.PROVINCE_ADMIN, PROVINCE)
    draft = await make_draft(admin)
    for mark in ("\u202egpj", "a\u0007b", "a\u2066b", "a\u0000b", "a\u200fb"):
        value: Any = [mark] if field in {"columns", "tags"} else f"2026年12月主题：{mark}" if field == "theme" else mark
        assert (await try_save(admin, draft, **{field: value}))[0] == 400, (field, mark)
    assert (await call(admin, "POST", f"/drafts/{draft['number']}/notes", {"text": "\u202egpj"}))[0] == 400


async def test_file_names_break_neither_headers_nor_paths(console: Console, tmp_path: Path) -> None:
    admin = await console.person("admin", Role.PROVINCE_ADMIN, PROVINCE)
    video = await upload(console, "admin", make_mp4(tmp_path / "a.mp4"))
    draft = await make_draft(admin)
    for name in (
        *(
            "../../origin.toml",
            "/etc/passwd",
            "..",
            "a/b.mp4",
            "a\\b.mp4",
            "CON.mp4",
            ".hidden",
            "a\r\nSet-Cookie: x=1",
        ),
        *("a\u202egpj.mp4", "a\u0000.mp4", "x" * 300, "", '"><x-pwn>.mp4'),
    ):
        status, _ = await try_save(admin, draft, files=[{"upload": video, "name": name}])
        assert status == 400, name
    for name in ("a';b%0d%0aSet-Cookie: x=1.mp4", "a b+c&d#e.mp4", "麦田（一）.mp4"):
        try:
            draft = await save(admin, draft, files=[{"upload": video, "name": name}])
        except AssertionError:
            continue  # refused is as good
        page = await admin.get(f"/console/drafts/{draft['number']}/files/{quote(name, safe='')}")
        assert page.status == 200
        assert "Set-Cookie" not in page.headers
        assert page.headers["Content-Disposition"].isascii()
    for path in ("..%2f..%2forigin.toml", "%2e%2e", "a.mp4%00", "..%5corigin.toml"):
        page = await admin.get(f"/console/drafts/{draft['number']}/files/{path}")
        assert page.status in {400, 404}, path


async def test_files_are_given_out_under_harmless_types_only_and_in_ranges(console: Console, tmp_path: Path) -> None:
    admin = await console.person("admin", Role.PROVINCE_ADMIN, PROVINCE)
    (tmp_path / "svg.md").write_text(
        "<svg xmlns='http://www.w3.org/2000/svg' onload='pwn()'><script>pwn()</script></svg>"
    )
    (tmp_path / "s.srt").write_text("1\n00:00:00,000 --> 00:00:01,000\n<script>pwn()</script>\n")
    make_mp4(tmp_path / "v.mp4")
    make_png(tmp_path / "p.png")
    with (tmp_path / "p.png").open("ab") as file:
        file.write(b"<html><script>pwn()</script></html>")  # a picture that is a page as well
    make_pdf(tmp_path / "d.pdf")
    names = ("svg.md", "s.srt", "v.mp4", "p.png", "d.pdf")
    files = [{"upload": await upload(console, "admin", tmp_path / name), "name": name} for name in names]
    draft = await make_draft(admin, files=files)
    types = {}
    for name in names:
        page = await admin.get(f"/console/drafts/{draft['number']}/files/{name}")
        types[name] = page.headers["Content-Type"].partition(";")[0]
        assert page.headers["X-Content-Type-Options"] == "nosniff"
        assert "sandbox" in page.headers["Content-Security-Policy"]
        assert "script-src" not in page.headers["Content-Security-Policy"]
        assert "html" not in types[name]
        assert "svg" not in types[name]
    assert types == {
        "svg.md": "application/octet-stream",
        "s.srt": "text/vtt",
        "v.mp4": "video/mp4",
        "p.png": "image/png",
        "d.pdf": "application/pdf",
    }
    page = await admin.get(f"/console/drafts/{draft['number']}/files/svg.md")
    assert page.headers["Content-Disposition"].startswith("attachment")
    part = await admin.get(f"/console/drafts/{draft['number']}/files/v.mp4", Range="bytes=4-7")
    assert (part.status, part.text) == (206, "ftyp")
    screen = await admin.get(f"/console/drafts/{draft['number']}/screen")
    policy = screen.headers["Content-Security-Policy"]
    assert "script-src" not in policy
    assert "frame-ancestors 'self'" in policy
    preview = await admin.get(f"/console/drafts/{draft['number']}/preview")
    assert 'sandbox="allow-same-origin"' in preview.text


async def test_an_article_reaches_nothing_outside(console: Console) -> None:
    """There is no field for an address: what an article names elsewhere is left out before anybody loads it."""
    admin = await console.person("admin", Role.PROVINCE_ADMIN, PROVINCE)
    outside = (
        "http://169.254.169.254/x",
        "//127.0.0.1/x",
        "file:///etc/passwd",
        "data:image/svg+xml,<svg/>",
        "/healthz",
    )
    html = "".join(f'<p><img src="{one}" srcset="{one}"></p>' for one in outside)
    draft = await make_draft(admin, article=f"<p>x</p>{html}<link rel=stylesheet href=//evil.example>")
    assert "img" not in draft["document"]["article"]
    assert "evil" not in draft["document"]["article"]
