"""Portal pages without a browser: what stands in the HTML, what never does, and that every page is bounded."""

from __future__ import annotations

import itertools
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path

import pytest
from support.edge_store import make_blob
from support.portal import DAY, NOW, HandClock, Shop, file_of, get, lesson, served, small
from support.raw_http import Reply

from edge.serve import pages as pages_module
from edge.serve.portal import HOME_ROWS, PAGE_CARDS, ROW_CARDS, Pager
from edge.serve.words import LANGUAGES, load_words, show_duration, show_size
from manifests.articles import render_article
from manifests.model import Column

EVIL = '<script>alert("1")</script>" onload=x & 小麦'
VIDEO = make_blob(9000, "v")
POSTER = small(b"\xff\xd8\xff poster")
FIELD = small(b"\x89PNG field")
PDF = small(b"%PDF-1.4")
TRACK = small(b"WEBVTT\n")
ARTICLE = small(
    "# 返青\n\n![麦田](images/field.png) ![远方](http://elsewhere/x.png) ![偷](data:image/png;base64,AAAA)\n\n"
    "[好](https://example.org/) [坏](javascript:alert(1)) ![](none.png) [文件](法.pdf)\n\n"
    "<script>alert(2)</script> <img src=x onerror=alert(3)>\n\n| 甲 | 乙 |\n|---|---|\n| 1 | 2 |\n".encode()
)


@dataclass
class Site:
    port: int
    clock: HandClock
    shop: Shop

    async def html(self, path: str, status: int = 200, **headers: str) -> str:
        reply = await get(self.port, path, Accept="text/html", **headers)
        assert reply.status == status, reply.body.decode()
        assert reply.headers["content-type"] == "text/html; charset=utf-8"
        return reply.body.decode()


class Tags(HTMLParser):
    """All start tags of a page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attrs for name, attrs in self.found if name == tag]


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    shop = Shop(tmp_path)
    shop.put(VIDEO, POSTER, FIELD, PDF, TRACK, ARTICLE)
    video = file_of(VIDEO, "课.mp4")
    shop.install(
        lesson(
            "kj-evil",
            video,
            file_of(POSTER, "poster.jpg", "poster", "image/jpeg"),
            file_of(TRACK, "a.vtt", "subtitle", "text/vtt", language="zh"),
            title=EVIL,
            summary=EVIL,
            duration_s=3725.4,
        ),
        lesson("kj-parts", video, file_of(VIDEO, "二.mp4"), columns=(), published=NOW - 30 * DAY),
        lesson(
            "kj-article",
            file_of(ARTICLE, "a.md", "article", "text/markdown"),
            file_of(FIELD, "field.png", "picture", "image/png"),
            file_of(PDF, "法.pdf", "document", "application/pdf"),
            kind="article",
        ),
        *(lesson(f"kj-{n:03}", video, columns=("dangjian",), published=NOW - n * 60) for n in range(60)),
    )
    clock = HandClock()
    async with served(tmp_path, clock) as port:
        yield Site(port, clock, shop)
    shop.close()


async def test_every_page_keeps_the_policy_and_runs_one_script(site: Site) -> None:
    for path in ("/", "/columns/dangjian", "/lessons/kj-evil", "/lessons/kj-article", "/nothing"):
        reply = await get(site.port, path, Accept="text/html")
        policy = reply.headers["content-security-policy"]
        assert "unsafe" not in policy
        assert policy.startswith("default-src 'none'; script-src 'self'")
        assert reply.headers["x-content-type-options"] == "nosniff"
        tags = Tags(reply.body.decode())
        assert [script["src"].partition("?")[0] for script in tags.of("script") if script["src"]] == [
            "/static/portal.js"
        ]
        assert len(tags.of("script")) == 1
        assert not tags.of("style")
        assert [name for _, attrs in tags.found for name in attrs if name.startswith("on") or name == "style"] == []


async def test_titles_are_text_wherever_they_stand(site: Site) -> None:
    for path in ("/", "/columns/nongye", "/lessons/kj-evil"):
        html = await site.html(path)
        assert "<script>alert" not in html
        assert "&lt;script&gt;alert(&#34;1&#34;)&lt;/script&gt;" in html


async def test_home_shows_columns_with_lessons_only_and_so_many_cards(site: Site) -> None:
    html = await site.html("/")
    assert html.index("农业技术") < html.index("党建学习") < html.index("其他课件")
    assert "空专栏" not in html
    assert "查看全部（60）" in html
    assert html.count('class="card"') <= ROW_CARDS * (HOME_ROWS + 1)
    assert "1:02:05" in html
    assert html.count('class="new"') >= 3


async def test_new_mark_goes_by_trusted_time(site: Site) -> None:
    site.clock.now = NOW + 365 * DAY
    assert 'class="new"' not in await site.html("/columns/dangjian")
    site.clock.now = NOW - 3650 * DAY  # a dead clock battery: the floor of trusted time holds
    assert 'class="new"' in await site.html("/columns/dangjian")


async def test_column_pages(site: Site) -> None:
    seen: list[str] = []
    for page in range(1, 4):
        html = await site.html(f"/columns/dangjian?page={page}")
        cards = re.findall(r'href="/lessons/([^"]+)"', html)
        assert len(cards) <= PAGE_CARDS
        seen += cards
    assert seen == [f"kj-{n:03}" for n in range(60)]
    last = Tags(await site.html("/columns/dangjian?page=999")).of("a")
    assert [one["href"] for one in last if "kj-" in str(one["href"])] == [f"/lessons/kj-{n:03}" for n in range(48, 60)]
    assert "应为 1 至" in await site.html("/columns/dangjian?page=0", 400)
    await site.html("/columns/dangjian?page=x", 400)
    await site.html("/columns/none", 404)
    assert "还没有课件" in await site.html("/columns/kong")
    await site.html("/columns/-")


async def test_lesson_page_has_player_subtitles_and_poster(site: Site) -> None:
    tags = Tags(await site.html("/lessons/kj-evil"))
    video = tags.of("video")[0]
    assert video["src"] == "/media/kj-evil/%E8%AF%BE.mp4"
    assert video["poster"] == "/media/kj-evil/poster.jpg"
    assert "controls" in video  # until the script takes over
    assert tags.of("track")[0]["src"] == "/media/kj-evil/a.vtt"
    body = tags.of("body")[0]
    assert body["data-back"] == "/columns/nongye"


async def test_lesson_of_several_parts(site: Site) -> None:
    assert Tags(await site.html("/lessons/kj-parts?part=2")).of("video")[0]["src"] == "/media/kj-parts/%E4%BA%8C.mp4"
    assert Tags(await site.html("/lessons/kj-parts?part=99")).of("video")[0]["src"] == "/media/kj-parts/%E4%BA%8C.mp4"


async def test_article_shows_only_its_own_pictures_and_runs_nothing(site: Site) -> None:
    html = await site.html("/lessons/kj-article")
    tags = Tags(html)
    assert [image["src"] for image in tags.of("img")] == ["/media/kj-article/field.png"]
    assert "（图片缺失：远方）" in html
    assert "（图片缺失）" in html
    assert "elsewhere" not in html
    assert "data:image" not in {attrs.get("src") for _, attrs in tags.found}
    links = {attrs.get("href"): attrs for attrs in tags.of("a")}
    assert links["https://example.org/"]["rel"] == "noopener noreferrer"
    assert "/media/kj-article/%E6%B3%95.pdf" in links
    assert not any((href or "").startswith("javascript") for href in links)
    assert "<script>alert(2)" not in html
    assert tags.of("td")
    assert tags.of("object")[0]["data"] == "/media/kj-article/%E6%B3%95.pdf"


async def test_article_whose_bytes_are_lost_says_so(site: Site) -> None:
    site.shop.paths.blob(ARTICLE.digest).unlink()
    assert "文章内容暂时无法读取" in await site.html("/lessons/kj-article")


async def test_banner_follows_the_state(site: Site) -> None:
    assert 'class="banner' not in await site.html("/")
    site.clock.now = NOW + 3 * DAY
    html = await site.html("/")
    assert "自 2026-11-24 12:00 起未能与省级源站核对" in html
    site.clock.now = NOW + 40 * DAY
    assert "banner-expired" in await site.html("/")
    site.clock.now = NOW - 3650 * DAY
    assert 'class="banner' not in await site.html("/")


async def test_card_of_an_article_shows_its_first_picture(site: Site) -> None:
    posters = {
        link["href"]: image["src"]
        for (_, link), (name, image) in itertools.pairwise(
            (name, attrs) for name, attrs in Tags(await site.html("/columns/nongye")).found if name in {"a", "img"}
        )
        if name == "img"
    }
    assert posters == {
        "/lessons/kj-evil": "/media/kj-evil/poster.jpg",
        "/lessons/kj-article": "/media/kj-article/field.png",
    }


async def test_article_is_rendered_once_and_anew_in_another_language(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    rendered: list[str] = []
    real = pages_module.render_article
    monkeypatch.setattr(pages_module, "render_article", lambda *given: rendered.append(given[0]) or real(*given))
    for _ in range(3):
        assert "（图片缺失：远方）" in await site.html("/lessons/kj-article")
    assert "[Picture missing: 远方]" in await site.html("/lessons/kj-article?lang=en")
    assert len(rendered) == 2


async def test_footer_names_region_catalog_and_last_check(site: Site) -> None:
    html = await site.html("/")
    assert "中牟县" in html
    assert "410122" in html
    assert "目录版本 1" in html
    assert "最近核对 2026-11-24 12:00" in html


async def test_language_is_kept_in_a_cookie(site: Site) -> None:
    reply = await get(site.port, "/?lang=en", Accept="text/html")
    assert 'lang="en"' in reply.body.decode()
    cookie = reply.headers["set-cookie"]
    assert cookie.startswith("lang=en;")
    assert "SameSite=Lax" in cookie
    assert "Newest" in await site.html("/", Cookie="lang=en")
    assert "最新课件" in await site.html("/?lang=zh-CN", Cookie="lang=en")
    assert 'lang="zh-CN"' in await site.html("/?lang=xx", Cookie="lang=%3Cb%3E")


async def test_language_link_stays_on_the_page(site: Site) -> None:
    html = await site.html("/columns/dangjian?page=2&lang=zh-CN")
    links = {str(link["href"]) for link in Tags(html).of("a")}
    assert "?page=2&lang=en" in links
    links = {str(link["href"]) for link in Tags(await site.html("/lessons/kj-parts?part=2")).of("a")}
    assert "?part=2&lang=en" in links


def test_any_of_two_thousand_pages_is_a_few_links_away() -> None:
    assert Pager(1, 1).near == (1,)
    assert Pager(2, 3).near == (1, 2, 3)
    assert Pager(1000, 2084).near == (1, 900, 990, 999, 1000, 1001, 1010, 1100, 2084)
    page, steps = 1, 0
    while page != 1234:
        page, steps = min(Pager(page, 2084).near, key=lambda one: abs(one - 1234)), steps + 1
    assert steps <= 18


async def test_problem_pages_for_people_and_words_for_players(site: Site) -> None:
    html = await site.html("/lessons/none", 404)
    assert "没有找到该内容" in html
    assert "返回首页" in html
    reply = await get(site.port, "/lessons/none")
    assert reply.headers["content-type"] == "text/plain; charset=utf-8"
    assert "Not found" in await site.html("/lessons/none?lang=en", 404)


async def test_static_files_are_kept_for_ever_under_their_mark(site: Site) -> None:
    html = await site.html("/")
    style = Tags(html).of("link")[1]["href"]
    assert style
    reply = await get(site.port, style)
    assert reply.headers["content-type"] == "text/css; charset=utf-8"
    assert "immutable" in reply.headers["cache-control"]
    plain = await get(site.port, "/static/portal.css")
    assert plain.headers["cache-control"] == "no-cache"
    assert (await get(site.port, "/static/portal.css", If_None_Match=plain.headers["etag"])).status == 304
    assert (await get(site.port, "/favicon.ico")).headers["content-type"] == "image/svg+xml"


async def test_head_of_a_page(site: Site) -> None:
    whole: Reply = await get(site.port, "/", Accept="text/html")
    head = await get(site.port, "/", "HEAD", Accept="text/html")
    assert (head.status, head.body) == (200, b"")
    assert head.headers["content-length"] == whole.headers["content-length"]


async def test_empty_edge_says_so(tmp_path: Path) -> None:
    shop = Shop(tmp_path)
    shop.close()
    async with served(tmp_path) as port:
        reply = await get(port, "/", Accept="text/html")
    html = reply.body.decode()
    assert reply.status == 200
    assert "本站还没有课件" in html
    assert "yuanjiao edge sync" in html
    assert 'http-equiv="refresh"' in html
    assert "尚未与省级源站核对过内容" in html


async def test_fifty_thousand_lessons_stay_bounded(tmp_path: Path) -> None:
    shop = Shop(tmp_path)
    shop.put(VIDEO)
    video = file_of(VIDEO, "a.mp4")
    columns = tuple(Column(f"c{n:03}", f"专栏 {n}", n) for n in range(40))
    many = [lesson(f"kj-{n:05}", video, columns=(f"c{n % 40:03}",)) for n in range(50_000)]
    shop.install(*many, columns=columns)
    shop.close()
    async with served(tmp_path) as port:
        home = await get(port, "/", Accept="text/html")
        assert len(home.body) < 100_000
        assert home.body.decode().count("<section") <= HOME_ROWS + 1
        assert "第 1 / 5 页" in home.body.decode()
        api = await get(port, "/api/courseware")
        assert len(api.body) < 100_000
        assert api.headers["x-total-count"] == "50000"


def test_languages_have_the_same_keys_and_placeholders() -> None:
    words = load_words()
    first = words[LANGUAGES[0]].texts
    for language in LANGUAGES:
        texts = words[language].texts
        assert list(texts) == list(first)
        for key, text in texts.items():
            assert sorted(re.findall(r"\{\w+\}", text)) == sorted(re.findall(r"\{\w+\}", first[key])), key


def test_templates_use_only_words_that_exist() -> None:
    texts = load_words()["zh-CN"].texts
    folder = Path(__file__).parents[2] / "edge" / "serve"
    used = {
        key
        for path in (*(folder / "templates").glob("*.html"), *folder.glob("*.py"))
        for key in re.findall(r'\b(?:t|words)\("([a-z_.0-9]+)"', path.read_text("utf-8"))
    }
    assert used
    assert {key for key in used if not key.endswith(".")} <= set(texts)


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, ""), (0.4, ""), (59.6, "01:00"), (725, "12:05"), (3729, "1:02:09"), (36000, "10:00:00")]
)
def test_durations(seconds: float, text: str) -> None:
    assert show_duration(seconds) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KB"),
        (1_500_000, "1.4 MB"),
        (150_000_000, "143 MB"),
        (1 << 41, "2.0 TB"),
    ],
)
def test_sizes(count: int, text: str) -> None:
    assert show_size(count) == text


def test_articles_take_hostile_text() -> None:
    for text in ("", "\0\x08", "![](", "[x](" + "(" * 2000, "> " * 500, "<a href='javascript:x'>", "&#x3C;script>"):
        html = render_article(text, {}, lambda alt: f"[{alt}]")
        assert "<script" not in html
        assert "<a " not in html
