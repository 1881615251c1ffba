"""Downloaders that resume and players that seek, as people have them: at an edge that has it, and one that fills."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from support.browser import CHROMIUM, chromium, opened
from support.media import make_mp4
from support.program import run, serving, succeed

from edge.serve.vendor import hls_version

SECONDS = 12
PATIENCE_S = 120


@dataclass(frozen=True)
class Film:
    """A lesson as it is asked for, and as it was published."""

    url: str
    data: bytes

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.data).hexdigest()


def resume_with_curl(film: Film, tmp: Path) -> None:
    (tmp / "film.mp4").write_bytes(film.data[: len(film.data) // 3])
    call("curl", "-fsS", "-C", "-", "-o", str(tmp / "film.mp4"), film.url)
    assert (tmp / "film.mp4").read_bytes() == film.data


def resume_with_wget(film: Film, tmp: Path) -> None:
    (tmp / "film.mp4").write_bytes(film.data[:100_001])
    call("wget", "-q", "-c", "-O", str(tmp / "film.mp4"), film.url)
    assert (tmp / "film.mp4").read_bytes() == film.data


def fetch_with_aria2c(film: Film, tmp: Path) -> None:
    wanted = ("-x16", "-s16", "-k1M", f"--checksum=sha-256={film.sha256}")
    call("aria2c", "-q", "--no-conf", *wanted, "-d", str(tmp), "-o", "film.mp4", film.url)
    assert (tmp / "film.mp4").read_bytes() == film.data


def probe_with_ffprobe(film: Film, tmp: Path) -> None:
    asked = ("-show_entries", "format=duration", "-of", "csv=p=0")
    assert float(call("ffprobe", "-v", "error", *asked, film.url)) == pytest.approx(SECONDS, abs=0.5)


def seek_with_ffmpeg(film: Film, tmp: Path) -> None:
    for at_s in (SECONDS - 2, 3, SECONDS - 5):
        picture = tmp / f"{at_s}.png"
        call("ffmpeg", "-v", "error", "-ss", str(at_s), "-i", film.url, "-frames:v", "1", str(picture))
        assert picture.stat().st_size > 1000
    assert not call("ffmpeg", "-v", "error", "-xerror", "-i", film.url, "-f", "null", "-")


def play_with_mpv(film: Film, tmp: Path) -> None:
    quiet = ("--no-config", "--vo=null", "--ao=null", "--untimed", "--msg-level=all=error")
    assert not call("mpv", *quiet, f"--start={SECONDS // 2}", film.url)


JUDGES: dict[str, Callable[[Film, Path], None]] = {
    "curl": resume_with_curl,
    "wget": resume_with_wget,
    "aria2c": fetch_with_aria2c,
    "ffprobe": probe_with_ffprobe,
    "ffmpeg": seek_with_ffmpeg,
    "mpv": play_with_mpv,
}


def call(*command: str) -> str:
    """Run a judge to its end; what it printed."""
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=PATIENCE_S, check=False
    )
    assert done.returncode == 0, f"{command[0]}: {done.returncode} {done.stderr[-1000:]}"
    return (done.stdout + done.stderr).strip()


def free_box(text: str) -> bytes:
    """A box that players pass over (ISO/IEC 14496-12 section 8.1.2)."""
    return (8 + len(text)).to_bytes(4, "big") + b"free" + text.encode("ascii")


def closed_window() -> str:
    """Hours that are half a day away."""
    opens = datetime.now(ZoneInfo("Asia/Shanghai")) + timedelta(hours=11)
    return f"{opens:%H}:00-{opens + timedelta(hours=2):%H}:00"


@dataclass(frozen=True)
class County:
    """Two edges of one origin: one that synced, and one whose window is closed."""

    addresses: dict[str, str]
    films: dict[str, bytes]


@pytest.fixture(scope="module")
def county(tmp_path_factory: pytest.TempPathFactory) -> Iterator[County]:
    tmp = tmp_path_factory.mktemp("county")
    origin = tmp / "origin"
    succeed("origin", "init", origin)
    clip = make_mp4(tmp / "clip.mp4", SECONDS, 320, 180, noise=True).read_bytes()
    films = {judge: clip + free_box(judge) for judge in JUDGES}  # different bytes, so that each is filled by one judge
    for judge, data in films.items():
        (tmp / f"{judge}.mp4").write_bytes(data)
    files = [tmp / f"{judge}.mp4" for judge in JUDGES]
    succeed("publish", *files, "--no-hls", "--origin", origin, "--title", "外来播放器", "--id", "kj-judges")
    several = {"YUANJIAO_PUBLISH_RENDITIONS": "100p:40k", "YUANJIAO_PUBLISH_RENDITIONS_FROM_S": "5"}
    small = make_mp4(tmp / "hls.mp4", SECONDS, 240, 136, gop=20, noise=True)
    succeed("publish", small, "--origin", origin, "--title", "多清晰度", "--id", "kj-hls", **several)
    with ExitStack() as stack:
        upstream = stack.enter_context(serving("origin", "serve", origin, "--port", "0", "--host", "127.0.0.1"))
        addresses = {}
        for code, state in (("410122", "here"), ("410181", "filling")):
            edge, bundle = tmp / state, tmp / f"{state}.bundle"
            succeed("origin", "enroll", origin, code, "--upstream", upstream, "--out", bundle)
            succeed("edge", "init", edge, "--bundle", bundle)
            env = {"YUANJIAO_STORE_RESERVE_BYTES": "0", "YUANJIAO_SYNC_WINDOW": closed_window()}
            asked = ("--now",) if state == "here" else ()
            assert run("edge", "sync", edge, *asked, **env).code == (0 if state == "here" else 4)
            command = ("edge", "serve", edge, "--port", "0", "--host", "127.0.0.1", "--workers", "2")
            addresses[state] = stack.enter_context(serving(*command, **env))
        yield County(addresses, films)


@pytest.mark.parametrize("judge", JUDGES)
@pytest.mark.parametrize("state", ["here", "filling"])
def test_an_outside_program_gets_every_byte(county: County, state: str, judge: str, tmp_path: Path) -> None:
    if shutil.which(judge) is None:
        pytest.skip(f"{judge} is not installed")
    film = Film(f"{county.addresses[state]}/media/kj-judges/{judge}.mp4", county.films[judge])
    JUDGES[judge](film, tmp_path)


@pytest.mark.browser
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
@pytest.mark.skipif(hls_version() is None, reason="installed without npm: hls.js is absent")
def test_a_browser_plays_renditions_all_the_way_while_they_are_filled(county: County) -> None:
    pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    video = "document.getElementById('video')"
    with chromium() as browser, opened(county.addresses["filling"], browser) as portal:
        # Where a busy machine has hls.js give up in the first seconds, the next way is right, and is not meant here.
        for _ in range(3):
            portal.open("/lessons/kj-hls")
            portal.press("Enter")
            portal.wait(f"{video}.currentTime > 0.3", PATIENCE_S)
            if portal.page.evaluate(f"{video}.getAttribute('data-way')") == "script":
                break
        assert portal.page.evaluate(f"{video}.getAttribute('data-way')") == "script"
        portal.page.evaluate(f"{video}.playbackRate = 4")
        portal.wait(f"{video}.ended", PATIENCE_S)
        assert portal.at_s() == pytest.approx(SECONDS, abs=0.3)
        assert {status for url, status, _ in portal.answers if url.endswith("p.mp4")} == {206}
        assert portal.faults == []
