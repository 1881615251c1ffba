"""Publishing a video that also plays as HLS: what is offered, what is made only once, what a kill leaves."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from support.hls import read_master, read_media
from support.media import make_mp4
from support.program import PROGRAM

from manifests.errors import InputError
from manifests.model import File
from manifests.patches import apply_patch
from manifests.streams import streams_of
from origin import app
from origin.clock import system_clock
from origin.publish import streaming
from origin.publish.request import PublishRequest

LARGE = {"YUANJIAO_PUBLISH_RENDITIONS": "100p:40k", "YUANJIAO_PUBLISH_RENDITIONS_FROM_S": "5"}


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("origin") / "origin"
    asyncio.run(app.init_origin(root, "410000", passphrase=None, clock=system_clock))
    return root


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A video that is large by the settings of these tests."""
    return make_mp4(tmp_path_factory.mktemp("clips") / "麦 a.mp4", 13, 320, 180, gop=20, noise=True)


@pytest.fixture
def root(empty: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(empty, tmp_path / "origin"))


def request(path: Path, **changes: Any) -> PublishRequest:
    return PublishRequest(**({"files": (path,), "title": "小麦", "id": "kj-mai"} | changes))


async def publish(root: Path, *requests: PublishRequest, **env: str) -> list[tuple[File, ...]]:
    async with app.open_origin(root, env, system_clock) as origin:
        return [(await app.publish(origin, one)).files for one in requests]


def data_of(root: Path, file: File) -> bytes:
    return next((root / "blobs").rglob(file.blob)).read_bytes()


def named(files: tuple[File, ...], name: str) -> File:
    return next(file for file in files if file.name == name)


async def test_a_large_video_is_offered_in_several_renditions(root: Path, clip: Path) -> None:
    steps: list[str] = []
    async with app.open_origin(root, LARGE, system_clock) as origin:
        planned = [
            (one.role, one.name, one.media_type) for one in (await app.foresee(origin, request(clip))).plan.all_files
        ]
        released = await app.publish(origin, request(clip), lambda stage, *_: steps.append(stage))
        item = await origin.releases.current(released.id)
    assert sorted((one.role, one.name, one.media_type) for one in released.files) == sorted(planned)
    assert "renditions 麦 a.mp4" in steps
    assert item is not None
    assert item.files == released.files
    found = streams_of(item, named(item.files, "麦 a.mp4"))
    assert found is not None
    assert found.is_adaptive
    assert [one.name for one in found.renditions] == ["麦 a.180p.mp4", "麦 a.100p.mp4", "麦 a.audio.m4a"]
    assert [one.media_type for one in found.renditions] == ["video/mp4", "video/mp4", "audio/mp4"]
    assert found.master.media_type == "application/vnd.apple.mpegurl"
    variants = read_master(data_of(root, found.master).decode())
    for variant, file in zip(variants, found.renditions, strict=True):
        playlist = read_media(data_of(root, named(item.files, variant["URI"])).decode())
        assert (playlist.file, playlist.parts[-1].start + playlist.parts[-1].size) == (file.name, file.size)
        assert int(variant["AVERAGE-BANDWIDTH"]) == file.bitrate_bps
        assert int(variant["BANDWIDTH"]) >= file.bitrate_bps
    assert [one.get("RESOLUTION") for one in variants] == ["320x180", "178x100", None]
    assert [one.get("FRAME-RATE") for one in variants] == ["10.000", "10.000", None]
    assert variants[0]["CODECS"].startswith("avc1.")
    assert int(variants[1]["BANDWIDTH"]) < int(variants[0]["BANDWIDTH"])


async def test_the_copy_of_a_video_is_a_short_patch_of_it(root: Path, clip: Path) -> None:
    (files,) = await publish(root, request(clip))
    video, copy = named(files, "麦 a.mp4"), named(files, "麦 a.180p.mp4")
    assert files.index(video) < files.index(copy)
    (patch,) = copy.patches
    assert patch.source == video.blob
    assert patch.size < copy.size / 50
    old = data_of(root, video)
    raw = next((root / "blobs").rglob(patch.blob)).read_bytes()
    made = apply_patch(lambda a, b: old[a:b], lambda a, b: raw[a:b], len(raw), old_size=video.size, new_size=copy.size)
    assert b"".join(made) == data_of(root, copy)


async def test_the_same_video_is_not_encoded_again(
    root: Path, clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (first,) = await publish(root, request(clip), **LARGE)

    async def never(*_arguments: object) -> None:
        raise AssertionError("the worker was asked")

    renamed = Path(shutil.copy(clip, tmp_path / "b.mp4"))
    with monkeypatch.context() as patched:
        patched.setattr(streaming, "make_renditions", never)
        same, other = await publish(root, request(clip, title="改名"), request(renamed, id="kj-b"), **LARGE)
    assert same == first
    by_label = {one.name.split(".")[1]: one for one in other if one.role == "rendition"}
    assert by_label["100p"].blob == named(first, "麦 a.100p.mp4").blob
    assert by_label["180p"].patches == named(first, "麦 a.180p.mp4").patches
    playlist = read_media(data_of(root, named(other, "b.100p.m3u8")).decode())
    assert playlist.file == "b.100p.mp4"
    # Other rungs, or a blob that somebody took away: it is made again.
    (fewer,) = await publish(root, request(clip, title="再改"))
    assert not [one for one in fewer if one.name == "麦 a.100p.mp4"]
    next((root / "blobs").rglob(by_label["100p"].blob)).unlink()
    (again,) = await publish(root, request(clip, title="又改"), **LARGE)
    assert data_of(root, named(again, "麦 a.100p.mp4"))


@pytest.mark.parametrize(("changes", "env"), [({"hls": False}, {}), ({}, {"YUANJIAO_PUBLISH_HLS": "false"})])
async def test_without_hls_there_is_the_video_alone(
    root: Path, clip: Path, changes: dict[str, Any], env: dict[str, str]
) -> None:
    (files,) = await publish(root, request(clip, **changes), **env)
    assert [one.role for one in files] == ["video", "poster"]


async def test_what_cannot_be_made_does_not_hold_up_the_lesson(
    root: Path, clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(*_arguments: object) -> None:
        raise InputError("no", zh="不行")

    monkeypatch.setattr(streaming, "make_renditions", refuse)
    (files,) = await publish(root, request(clip))
    assert [one.role for one in files] == ["video", "poster"]
    assert [path for path in (root / "staging").iterdir() if path.name != ".lock"] == []


async def test_a_kill_while_renditions_are_made_leaves_the_old_release(root: Path, clip: Path, tmp_path: Path) -> None:
    (before,) = await publish(root, request(clip, hls=False))
    longer = make_mp4(tmp_path / "long.mp4", 25, 320, 180, gop=20, noise=True)
    env = {**os.environ, **LARGE, "YUANJIAO_PUBLISH_RENDITIONS": "100p:20k,110p:20k,120p:20k,130p:20k"}
    command = [*PROGRAM, "publish", str(longer), "--origin", str(root), "--title", "长", "--id", "kj-mai"]
    process = subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        ends = time.monotonic() + 60
        while not list((root / "staging").glob("*/*.renditions/*.work")):
            assert process.poll() is None
            assert time.monotonic() < ends
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
    finally:
        process.kill()
        process.wait()
    async with app.open_origin(root, {}, system_clock) as origin:
        _, catalog = await origin.releases.current_catalog()
        assert catalog.courseware[0].files == before
        mine = [path for path in (root / "staging").iterdir() if path.is_dir()]
        assert len(mine) == 1, "what the killed one left was swept"
        assert not list(mine[0].glob("*.renditions"))


def test_help_names_the_switch() -> None:
    shown = subprocess.run([*PROGRAM, "publish", "--help"], capture_output=True, text=True, check=True, timeout=60)
    assert "--no-hls" in shown.stdout
