"""A video in several renditions, as an origin made it, in a real browser: hls.js, native HLS, the plain file."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from support.browser import CHROMIUM, Portal, chromium, opened, serving
from support.media import make_mp4
from support.portal import Shop, make_blob_of

from edge.serve.vendor import hls_version
from manifests.model import Courseware
from origin import app
from origin.clock import system_clock
from origin.publish.request import PublishRequest

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
SECONDS = 40
# Fetch one segment ahead instead of the whole clip, so that there is something left for the thin line.
SHORT_BUFFER = ";Hls.DefaultConfig.maxBufferLength = 7; Hls.DefaultConfig.maxBufferSize = 0;"
LONG_S = 60  # a browser that decodes and switches on a busy machine
ENV = {"YUANJIAO_PUBLISH_RENDITIONS": "100p:60k", "YUANJIAO_PUBLISH_RENDITIONS_FROM_S": "20"}
browsing = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
scripted = pytest.mark.skipif(hls_version() is None, reason="installed without npm: hls.js is absent")
VIDEO = "document.getElementById('video')"


async def publish_lessons(root: Path, tmp: Path) -> list[tuple[Courseware, dict[str, bytes]]]:
    large = make_mp4(tmp / "大 课.mp4", SECONDS, 240, 136, gop=20, noise=True)
    small = make_mp4(tmp / "小.mp4", 3)
    await app.init_origin(root, "410000", passphrase=None, clock=system_clock)
    found = []
    async with app.open_origin(root, ENV, system_clock) as origin:
        for id_, path in (("kj-large", large), ("kj-small", small)):
            await app.publish(origin, PublishRequest((path,), title=id_, id=id_))
            item = await origin.releases.current(id_)  # type: ignore[arg-type]
            assert item is not None
            blobs = {file.blob: next((root / "blobs").rglob(file.blob)).read_bytes() for file in item.files}
            found.append((item, blobs))
    return found


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    tmp = tmp_path_factory.mktemp("adaptive")
    shop = Shop(tmp_path_factory.mktemp("edge"))
    lessons = asyncio.run(publish_lessons(tmp / "origin", tmp))
    for _, blobs in lessons:
        shop.put(*(make_blob_of(data) for data in blobs.values()))
    shop.install(*(msgspec.structs.replace(item, published="2026-11-24T00:00:00Z") for item, _ in lessons))
    shop.close()
    with serving(shop.paths.root) as found:
        yield found


@pytest.fixture(scope="module")
def browser() -> Iterator[sync_api.Browser]:
    with chromium() as made:
        yield made


@pytest.fixture
def portal(address: str, browser: sync_api.Browser) -> Iterator[Portal]:
    with opened(address, browser) as found:
        yield found


def way(portal: Portal) -> str:
    return str(portal.page.evaluate(f"{VIDEO}.getAttribute('data-way')"))


def hurry(portal: Portal) -> None:
    """Play the rest fast, to the end."""
    portal.page.evaluate(f"{VIDEO}.playbackRate = 8")
    portal.wait(f"{VIDEO}.ended", LONG_S)
    assert portal.at_s() == pytest.approx(SECONDS, abs=0.3)


@pytest.mark.browser
@browsing
@scripted
def test_hls_js_plays_all_of_it_and_goes_down_on_a_thin_line(portal: Portal) -> None:
    def shorten(route: sync_api.Route) -> None:
        answer = route.fetch()
        route.fulfill(response=answer, body=answer.text() + SHORT_BUFFER)

    portal.page.route("**/hls.light.min.js*", shorten)
    portal.open("/lessons/kj-large")
    portal.press("Enter")
    portal.wait(f"{VIDEO}.currentTime > 0.3", LONG_S)
    assert way(portal) == "script"
    portal.wait("document.getElementById('quality').textContent === '136p'", LONG_S)
    # A line that carries less than the larger picture needs.
    session = portal.page.context.new_cdp_session(portal.page)
    session.send("Network.enable")
    conditions = {"offline": False, "latency": 5, "downloadThroughput": 80_000, "uploadThroughput": -1}
    session.send("Network.emulateNetworkConditions", conditions)
    portal.wait("document.getElementById('quality').textContent === '100p'", LONG_S)
    session.send("Network.emulateNetworkConditions", {**conditions, "downloadThroughput": -1})
    assert not [url for url, _, _ in portal.answers if url.endswith("%E5%A4%A7%20%E8%AF%BE.mp4")]
    ranged = {status for url, status, _ in portal.answers if url.endswith((".136p.mp4", ".100p.mp4"))}
    assert ranged == {206}
    hurry(portal)
    assert portal.faults == []


@pytest.mark.browser
@browsing
def test_without_hls_js_another_way_is_found(portal: Portal) -> None:
    portal.page.route("**/hls.light.min.js*", lambda route: route.abort())
    portal.open("/lessons/kj-large")
    portal.press("Enter")
    portal.wait(f"{VIDEO}.currentTime > 0.3", LONG_S)
    assert way(portal) in {"native", "file"}
    hurry(portal)


@pytest.mark.browser
@browsing
def test_without_a_playlist_the_plain_file_plays(portal: Portal) -> None:
    portal.page.route("**/*.m3u8", lambda route: route.fulfill(status=503))
    portal.open("/lessons/kj-large")
    portal.press("Enter")
    portal.wait(f"{VIDEO}.currentTime > 0.3", LONG_S)
    assert way(portal) == "file"
    portal.page.evaluate(f"{VIDEO}.currentTime = 20")
    hurry(portal)


@pytest.mark.browser
@browsing
def test_one_picture_plays_from_the_plain_file(portal: Portal) -> None:
    portal.open("/lessons/kj-small")
    assert portal.page.get_attribute("#player", "data-hls") is None
    portal.press("Enter")
    portal.wait(f"{VIDEO}.currentTime > 0.3", LONG_S)
    assert not [url for url, _, _ in portal.answers if ".m3u8" in url or "hls" in url]
    assert portal.faults == []


def test_ffmpeg_plays_all_of_it_over_http(address: str) -> None:
    ffmpeg = shutil.which("ffmpeg")
    if ffmpeg is None:
        pytest.skip("ffmpeg is not installed")
    url = f"{address}/media/kj-large/%E5%A4%A7%20%E8%AF%BE.m3u8"
    command = [ffmpeg, "-nostdin", "-v", "warning", "-i", url, "-map", "0:v:0", "-map", "0:v:1", "-f", "framecrc", "-"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    frames = [line for line in done.stdout.splitlines() if not line.startswith("#")]
    assert [sum(line.startswith(f"{n},") for line in frames) for n in (0, 1)] == [SECONDS * 10] * 2
    assert done.stderr == ""
