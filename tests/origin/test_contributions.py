"""Contributions: handed in with one form, looked through in the inbox, accepted, returned, rejected, released."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from html import unescape
from pathlib import Path
from urllib.parse import quote

import pytest
from support.console import CITY, COUNTY, OTHER_CITY, PROVINCE, Browser, Console, Page, console_at
from support.media import make_mp4, make_png
from support.origins import copy_origin, found_origin
from support.releases import AddressIn
from support.uploads import sender

from origin.accounts.permissions import Role

SUBTITLES = "1\n00:00:00,000 --> 00:00:01,000\n看苗\n"
FILM = quote("麦田.mp4")
MARKUP = "<script>alert(1)</script><img src=x onerror=alert(2)>"


@pytest.fixture(scope="module")
def founded(address_in: AddressIn, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("founded") / "origin"
    return found_origin(root, address_in(root))


@pytest.fixture
async def console(founded: Path, tmp_path: Path) -> AsyncIterator[Console]:
    root = copy_origin(founded, tmp_path / "origin")
    async with console_at(root, uploads_floor_bytes="0") as opened:
        yield opened


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return make_mp4(tmp_path_factory.mktemp("video") / "a.mp4", seconds=1).read_bytes()


async def _upload(person: Browser, name: str, data: bytes) -> str:
    """Send a file that is good; its id."""
    by = sender(person)
    path = await by.whole(name, data)
    assert (await by.checked(path))["state"] == "ready"
    return path.rpartition("/")[2]


async def _hand_in(person: Browser, title: str, *uploads: str, **more: str) -> int:
    """Hand a contribution in by the page's form; its number."""
    fields = {"title": title, "uploads": " ".join(uploads), "credit": "郑州台 李四", **more}
    page = await person.submit("/console/contribute", "/console/contribute", **fields)
    assert page.path == "/console/contribute", page.text
    assert "等待审核" in page.text, page.text
    return max(int(number) for number in re.findall(r"/console/contribute/(\d+)", page.text))


async def _judge(person: Browser, number: int, step: str, reason: str = "") -> Page:
    item = f"/console/inbox/{number}"
    revision = (await person.get(item)).field("revision")
    return await person.submit(item, f"{item}/step", step=step, reason=reason, revision=revision)


async def _accept(person: Browser, number: int, **edits: str) -> Page:
    item = f"/console/inbox/{number}"
    page = await person.get(item)
    fields = {name: page.field(name) for name in ("revision", "title", "column", "credit")}
    text = page.text.partition('name="summary"')[2].partition(">")[2].partition("</textarea>")[0]
    fields["summary"] = unescape(text)
    return await person.submit(item, f"{item}/accept", **{**fields, **edits})


async def test_a_contribution_goes_from_the_phone_to_the_catalog_with_its_credit(
    console: Console, video: bytes
) -> None:
    observer = await console.person("observer", Role.CONTRIBUTOR, COUNTY)
    city = await console.person("city", Role.CITY_ADMIN, CITY)
    province = await console.person("province", Role.PROVINCE_ADMIN, PROVINCE)
    film, words = await _upload(observer, "麦田.mp4", video), await _upload(observer, "麦田.srt", SUBTITLES.encode())
    number = await _hand_in(observer, "中牟麦田见闻", film, words, summary="十一月，\r\n中牟县", column="乡村纪事")

    assert "中牟麦田见闻" in (await city.get("/console/inbox")).text
    item = await city.get(f"/console/inbox/{number}")
    assert "<video controls" in item.text
    assert "<track " in item.text
    page = await _judge(city, number, "return", "请补充拍摄地点")
    assert page.path == "/console/inbox"
    told = await observer.get("/console/contribute")
    assert "已退回" in told.text
    assert "请补充拍摄地点" in told.text

    own = f"/console/contribute/{number}"
    fields = {"title": "中牟麦田见闻", "summary": "十一月，中牟县官渡镇", "credit": "郑州台 李四", "column": "乡村纪事"}
    revision = (await observer.get(own)).field("revision")
    page = await observer.submit(own, own, **fields, uploads=f"{film} {words}", revision=revision)
    assert page.path == "/console/contribute"
    assert "待审核" in page.text
    assert "请补充拍摄地点" not in page.text

    page = await _accept(city, number)
    assert "已采用" in page.text
    assert "已通过" in (await observer.get("/console/contribute")).text
    revision = (await province.get(f"/console/drafts/{number}/review")).field("revision")
    review = f"/console/drafts/{number}"
    await province.submit(f"{review}/review", f"{review}/step", step="release", revision=revision)
    await console.origin.drafts.releasing.run_due()
    _, catalog = await console.origin.releases.current_catalog()
    (lesson,) = catalog.courseware
    assert (lesson.credit, lesson.title, lesson.audience) == ("郑州台 李四", "中牟麦田见闻", (COUNTY,))
    assert "已播出" in (await observer.get("/console/contribute")).text
    assert "郑州台 李四" in (await observer.get(f"/console/lessons/{lesson.id}")).text


async def test_accepting_with_edits_takes_another_persons_word(console: Console, video: bytes) -> None:
    observer = await console.person("observer", Role.CONTRIBUTOR, COUNTY)
    city = await console.person("city", Role.CITY_ADMIN, CITY)
    reviewer = await console.person("reviewer", Role.REVIEWER, CITY)
    number = await _hand_in(observer, "麦田", await _upload(observer, "麦田.mp4", video))
    page = await _accept(city, number, title="中牟麦田见闻")
    assert "另一人审核" in page.text
    # Whoever edited does not approve; the form is not even there.
    page = await city.get(f"/console/inbox/{number}")
    assert "/step" in page.text
    assert "中牟麦田见闻" in page.text
    page = await _accept(city, number)
    assert page.status == 403
    page = await _accept(reviewer, number)
    assert "已采用" in page.text
    text = (await observer.get("/console/contribute")).text
    assert "中牟麦田见闻" in text
    assert "已通过" in text


async def test_rejected_is_rejected_and_says_why(console: Console, video: bytes) -> None:
    observer = await console.person("observer", Role.CONTRIBUTOR, COUNTY)
    city = await console.person("city", Role.CITY_ADMIN, CITY)
    number = await _hand_in(observer, "麦田", await _upload(observer, "麦田.mp4", video))
    assert (await _judge(city, number, "reject")).status == 400
    await _judge(city, number, "reject", "与已播课件重复")
    text = (await observer.get("/console/contribute")).text
    assert "未采用" in text
    assert "与已播课件重复" in text
    assert 'name="title"' not in (await observer.get(f"/console/contribute/{number}")).text
    assert "麦田" in (await city.get("/console/inbox?state=rejected")).text


async def test_another_regions_contribution_is_not_there(console: Console, video: bytes) -> None:
    observer = await console.person("observer", Role.CONTRIBUTOR, COUNTY)
    number = await _hand_in(observer, "麦田", await _upload(observer, "麦田.mp4", video))
    far = await console.person("far", Role.CITY_ADMIN, OTHER_CITY)
    stranger = await console.person("stranger", Role.CONTRIBUTOR, OTHER_CITY)
    near = await console.person("near", Role.CONTRIBUTOR, CITY)
    viewer = await console.person("viewer", Role.VIEWER, PROVINCE)
    for person in (far, stranger, near, viewer):
        for path in (f"/console/contribute/{number}", f"/api/v1/contributions/{number}"):
            assert (await person.get(path)).status in {403, 404}, (path, person)
    for person, paths in (
        (far, (f"/console/inbox/{number}", f"/api/v1/drafts/{number}", f"/console/drafts/{number}/files/{FILM}")),
        (stranger, (f"/api/v1/drafts/{number}", f"/console/drafts/{number}/preview")),
        # Of the same city: a studio's work is its own.
        (near, (f"/api/v1/drafts/{number}", f"/console/drafts/{number}", f"/console/drafts/{number}/files/{FILM}")),
    ):
        nothing = await person.get("/api/v1/drafts/999999")
        for path in paths:
            page = await person.get(path)
            assert page.status == 404, path
            if path.startswith("/api"):
                assert page.text == nothing.text.replace("999999", str(number))
    assert (await stranger.get(f"/console/inbox/{number}")).status == 403
    assert "麦田" not in (await far.get("/console/inbox")).text
    assert json.loads((await near.get("/api/v1/drafts")).text)["total"] == 0
    assert (await _raw_accept(far, number)) == 404
    assert (await _raw_accept(observer, number)) == 403


async def _raw_accept(person: Browser, number: int) -> int:
    url = f"{person.base}/api/v1/contributions/{number}/accept"
    body = {"revision": 2, "title": "x"}
    async with person.session.post(url, json=body, headers={"Origin": person.base}) as answer:
        return answer.status


async def test_whatever_is_written_is_text_on_every_page(console: Console, video: bytes, tmp_path: Path) -> None:
    observer = await console.person("observer", Role.CONTRIBUTOR, COUNTY)
    city = await console.person("city", Role.CITY_ADMIN, CITY)
    picture = make_png(tmp_path / "a.png").read_bytes()
    # The name is refused as a file's name; what may stand in a title stands there as text.
    assert (await sender(observer).create("<img src=x onerror=alert(1)>.png", 10)).status == 400
    ids = [await _upload(observer, "麦田.mp4", video), await _upload(observer, "';alert(1);'.png", picture)]
    number = await _hand_in(observer, MARKUP, *ids, summary=MARKUP, credit=MARKUP[:60], column=MARKUP[:60])
    await _judge(city, number, "return", MARKUP)
    pages = [
        await observer.get("/console/contribute"),
        await observer.get(f"/console/contribute/{number}"),
        await city.get("/console/inbox?state=returned"),
        await city.get(f"/console/inbox/{number}"),
        await observer.submit("/console/contribute", "/console/contribute", title=MARKUP, summary=MARKUP, uploads="x"),
        await observer.get(f"/console/contribute?done={MARKUP}".replace("<", "%3C").replace(" ", "%20")),
    ]
    for page in pages:
        assert "alert(1)" in page.text or page is pages[-1]
        assert "<script>alert" not in page.text
        assert "<img src=x" not in page.text


async def test_files_play_in_ranges_and_never_act(console: Console, video: bytes, tmp_path: Path) -> None:
    observer = await console.person("observer", Role.CONTRIBUTOR, COUNTY)
    city = await console.person("city", Role.CITY_ADMIN, CITY)
    html = b"<html><script>alert(1)</script></html>"
    png, gif = make_png(tmp_path / "a.png").read_bytes(), b"GIF89a\x01\x00\x01\x00\x00\x00\x00" + html + b"\x3b"
    # Each is a picture and a page at once, or a film with a page behind it.
    files = {
        "麦田.mp4": video + b"\x00\x00\x00\x2ffree" + html[:39],
        "图.png": png[:-12] + html + png[-12:],
        "动.gif": gif,
    }
    ids = [await _upload(observer, name, data) for name, data in files.items()]
    number = await _hand_in(observer, "麦田", *ids)
    for name, data in files.items():
        page = await city.get(f"/console/drafts/{number}/files/{quote(name)}", Range="bytes=2-9")
        assert page.status == 206
        assert page.headers["Content-Range"] == f"bytes 2-9/{len(data)}"
        assert page.headers["Content-Type"].partition("/")[0] in {"video", "image"}
        assert page.headers["X-Content-Type-Options"] == "nosniff"
        assert "sandbox" in page.headers["Content-Security-Policy"]
        assert "script-src" not in page.headers["Content-Security-Policy"]


async def test_two_files_of_one_name_get_names_of_their_own(console: Console, video: bytes) -> None:
    observer = await console.person("observer", Role.CONTRIBUTOR, COUNTY)
    ids = [await _upload(observer, "MVI_0001.MP4", video) for _ in range(3)]
    number = await _hand_in(observer, "麦田", *ids)
    told = json.loads((await observer.get(f"/api/v1/contributions/{number}")).text)
    assert [one["name"] for one in told["files"]] == ["MVI_0001.MP4", "MVI_0001-2.MP4", "MVI_0001-3.MP4"]


async def test_what_is_not_whole_or_not_ones_own_is_not_handed_in(console: Console, video: bytes) -> None:
    observer = await console.person("observer", Role.CONTRIBUTOR, COUNTY)
    other = await console.person("other", Role.CONTRIBUTOR, COUNTY)
    theirs = await _upload(other, "别人的.mp4", video)
    half = (await sender(observer).begin("半.mp4", 1000)).rpartition("/")[2]
    for ids in ("", theirs, half, "0" * 32, "../../etc/passwd", "x" * 4000):
        page = await observer.submit("/console/contribute", "/console/contribute", title="麦田", uploads=ids)
        assert page.status in {400, 404, 409}, ids
        assert 'value="麦田"' in page.text  # what was typed is still there
    assert "还没有投稿" in (await observer.get("/console/contribute")).text
    city = await console.person("city", Role.CITY_ADMIN, CITY)
    assert "没有待处理" in (await city.get("/console/inbox")).text
