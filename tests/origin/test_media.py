"""Probing through the real worker process: what plays, what is refused, and workers that crash or hang."""

from __future__ import annotations

import asyncio
import os
import random
import struct
import sys
from contextlib import suppress
from pathlib import Path

import pytest
from support.media import make_audio, make_mp4, make_pdf, make_png

from manifests.errors import InputError
from origin.publish.media import WORKER, plan_faststart_of_file, probe, run_worker
from origin.publish.media_job import Job


async def test_what_terminals_play_is_kept(tmp_path: Path) -> None:
    path = make_mp4(tmp_path / "lesson.mp4", 2, faststart=False)
    found = await probe(path, 30)
    assert (found.kind, found.media_type, found.video_codec, found.audio_codec) == ("video", "video/mp4", "h264", "aac")
    assert (found.width, found.height, found.plays, found.faststart, found.remux) == (160, 90, True, False, False)
    assert found.duration_s == pytest.approx(2, abs=0.1)
    assert found.bitrate_bps == pytest.approx(path.stat().st_size * 4, rel=0.1)
    assert found.max_keyframe_gap_s == pytest.approx(1)
    plan = await plan_faststart_of_file(path)
    assert plan is not None
    assert plan.size == path.stat().st_size
    assert await plan_faststart_of_file(make_mp4(tmp_path / "front.mp4", 1)) is None


async def test_video_without_sound_plays(tmp_path: Path) -> None:
    assert (await probe(make_mp4(tmp_path / "a.mp4", 1, audio=False), 30)).plays


@pytest.mark.parametrize(
    ("name", "how", "remux", "reason"),
    [
        ("a.mkv", {}, True, "Matroska"),
        ("a.ts", {}, True, "MPEG-TS"),
        ("a.mp4", {"fragmented": True}, True, "fragmented"),
        ("a.mp4", {"codec": "hevc"}, False, "hevc"),
        ("a.mp4", {"codec": "mpeg4"}, False, "mpeg4"),
        ("a.webm", {"codec": "vp9", "audio": False}, False, "vp9"),
        ("a.avi", {"codec": "mjpeg", "audio": False, "pix_fmt": "yuvj420p"}, False, "mjpeg"),
        ("a.mp4", {"pix_fmt": "yuv444p"}, False, "beyond"),
        ("a.mp4", {"pix_fmt": "yuv420p10le"}, False, "High 10"),
        ("a.mp4", {"width": 2048, "height": 1152, "seconds": 0.2}, False, "1080p"),
    ],
)
async def test_what_terminals_do_not_play_carries_its_reason(
    tmp_path: Path, name: str, how: dict[str, object], remux: bool, reason: str
) -> None:
    found = await probe(make_mp4(tmp_path / name, **{"seconds": 1, **how}), 30)  # type: ignore[arg-type]
    assert (found.kind, found.plays, found.remux) == ("video", False, remux)
    assert reason in found.reason
    assert found.reason_zh


async def test_other_kinds(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text("# 标题\n\n![x](x.png)\n")
    (tmp_path / "a.srt").write_text("1\n00:00:01,000 --> 00:00:02,000\n你好\n")
    for path, kind, media_type in (
        (make_audio(tmp_path / "a.mp3"), "audio", "audio/mpeg"),
        (make_audio(tmp_path / "a.m4a", codec="aac"), "audio", "audio/mp4"),
        (make_png(tmp_path / "a.png"), "picture", "image/png"),
        (make_pdf(tmp_path / "a.pdf"), "document", "application/pdf"),
        (tmp_path / "a.md", "article", "text/markdown"),
        (tmp_path / "a.srt", "subtitle", "text/vtt"),
    ):
        found = await probe(path, 30)
        assert (found.kind, found.media_type, found.plays) == (kind, media_type, True)


def zero_tail(data: bytes) -> bytes:
    """As programs leave it that reserve a file's space before they fetch it."""
    return data[: len(data) // 2] + bytes(len(data) - len(data) // 2)


BAD = {
    "empty.mp4": lambda data: b"",
    "text.mp4": lambda data: "这只是一段文字,不是视频。\n".encode() * 20,
    "playlist.mp4": lambda data: b"#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXTINF:4,\nhttp://127.0.0.1:9/a.ts\n",
    "short.mp4": lambda data: data[: len(data) * 2 // 3],
    "last_byte.mp4": lambda data: data[:-1],
    "header_only.mp4": lambda data: data[:600],
    "zeros.mp4": zero_tail,
    "noise.mp4": lambda data: b"\x93\xfe\x01" * 5000,
    "broken_header.mp4": lambda data: data.replace(b"avcC", b"avcX"),
}


@pytest.mark.parametrize("name", BAD)
async def test_bad_files_are_refused_with_a_reason_in_both_languages(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(BAD[name](make_mp4(tmp_path / "good.mp4", 2).read_bytes()))
    with pytest.raises(InputError) as caught:
        await probe(path, 30)
    assert name in caught.value.message
    assert any("一" <= char <= "鿿" for char in caught.value.zh)


async def test_a_truncated_mp4_with_its_header_at_the_end_is_refused(tmp_path: Path) -> None:
    whole = make_mp4(tmp_path / "a.mp4", 2, faststart=False).read_bytes()
    (tmp_path / "b.mp4").write_bytes(whole[:-3000])
    with pytest.raises(InputError, match="truncated"):
        await probe(tmp_path / "b.mp4", 30)


@pytest.mark.parametrize("name", ["a.mkv", "a.avi"])
async def test_other_containers_cut_off_are_refused(tmp_path: Path, name: str) -> None:
    path = make_mp4(tmp_path / name, 20, codec="mpeg4", audio=False)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(InputError, match="truncated"):
        await probe(path, 30)


async def test_sound_under_a_video_container_is_no_video(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no video stream"):
        await probe(make_mp4(tmp_path / "a.mp4", 1, video=False), 30)


async def test_samples_in_another_file_are_refused(tmp_path: Path) -> None:
    data = bytearray(make_mp4(tmp_path / "a.mp4", 1).read_bytes())
    at = data.index(b"url \0\0\0\1")
    data[at : at + 8] = b"url \0\0\0\0"
    (tmp_path / "b.mp4").write_bytes(data)
    with pytest.raises(InputError, match="another file"):
        await probe(tmp_path / "b.mp4", 30)


async def test_an_absurd_duration_is_refused(tmp_path: Path) -> None:
    data = bytearray(make_mp4(tmp_path / "a.mp4", 1).read_bytes())
    at = data.index(b"mvhd") + 16
    data[at : at + 8] = struct.pack(">II", 1, 10**9)
    (tmp_path / "b.mp4").write_bytes(data)
    with pytest.raises(InputError, match="duration"):
        await probe(tmp_path / "b.mp4", 30)


@pytest.mark.parametrize("seed", range(6))
async def test_damage_in_the_header_never_gets_past_the_worker(tmp_path: Path, seed: int) -> None:
    dice = random.Random(seed)
    data = bytearray(make_mp4(tmp_path / "a.mp4", 1).read_bytes())
    for _ in range(20):
        data[dice.randrange(40, 2500)] = dice.randrange(256)
    (tmp_path / "b.mp4").write_bytes(data)
    with suppress(InputError):
        await probe(tmp_path / "b.mp4", 30)


async def test_three_gigabytes_are_probed_without_reading_them(tmp_path: Path) -> None:
    small = make_mp4(tmp_path / "a.mp4", 2, faststart=False).read_bytes()
    at = small.index(b"mdat") - 4
    (size,) = struct.unpack_from(">I", small, at)
    path = tmp_path / "big.mp4"
    filler = 3 << 30
    with path.open("wb") as file:  # samples, three sparse gigabytes in a box nobody needs, header
        file.write(small[: at + size])
        file.write(struct.pack(">I4sQ", 1, b"free", filler))
        file.seek(filler - 16, os.SEEK_CUR)
        file.write(small[at + size :])
    assert path.stat().st_size > filler
    found = await probe(path, 10)
    assert found.plays
    plan = await plan_faststart_of_file(path)
    assert plan is not None
    assert plan.size == path.stat().st_size


def job(tmp_path: Path, **changes: object) -> Job:
    fields = {"task": "probe", "path": str(tmp_path / "x.mp4"), "out": "", "memory_bytes": 2 << 30, "cpu_s": 20}
    return Job(**{**fields, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("script", "why"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "SIGSEGV"),
        ("import os; os.abort()", "SIGABRT"),
        ("raise SystemExit(7)", "exit 7"),
        ("print('nonsense')", "SIGKILL|exit 0"),
        ("print('x' * 1_000_000)", "SIGKILL"),
        ("pass", "exit 0"),
    ],
)
async def test_a_worker_that_crashes_or_lies_is_a_refused_file(tmp_path: Path, script: str, why: str) -> None:
    with pytest.raises(InputError, match=why) as caught:
        await run_worker(job(tmp_path), 20, command=[sys.executable, "-c", script])
    assert "拒绝处理" in caught.value.zh


PIDS = "import os, pathlib, sys, time; pathlib.Path({!r}).write_text(str(os.getpid())); time.sleep(600)"


def is_gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


async def test_a_worker_that_hangs_is_ended_at_its_deadline(tmp_path: Path) -> None:
    script = PIDS.format(str(tmp_path / "pid"))
    with pytest.raises(InputError, match="stopped after"):
        await run_worker(job(tmp_path), 2, command=[sys.executable, "-c", script])
    assert is_gone(int((tmp_path / "pid").read_text()))


async def test_a_file_that_is_not_there_is_an_input_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="No such file"):
        await probe(tmp_path / "nowhere.mp4", 20)


async def test_a_cancelled_call_ends_its_worker(tmp_path: Path) -> None:
    script = PIDS.format(str(tmp_path / "pid"))
    running = asyncio.create_task(run_worker(job(tmp_path), 60, command=[sys.executable, "-c", script]))
    async with asyncio.timeout(60):
        while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text():
            await asyncio.sleep(0.01)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert is_gone(int((tmp_path / "pid").read_text()))


async def test_a_worker_ends_when_the_origin_is_killed(tmp_path: Path) -> None:
    process = await asyncio.create_subprocess_exec(*WORKER, stdin=asyncio.subprocess.PIPE)
    assert process.stdin is not None
    process.stdin.close()
    async with asyncio.timeout(60):
        assert await process.wait() == 1


async def test_the_memory_limit_holds(tmp_path: Path) -> None:
    make_mp4(tmp_path / "x.mp4", 1)
    with pytest.raises(InputError):
        await run_worker(job(tmp_path, memory_bytes=90 << 20), 30)


async def test_the_worker_sees_no_secrets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("YUANJIAO_KEYS_PASSPHRASE", "secret")
    shown = tmp_path / "environment"
    script = f"import os, pathlib; pathlib.Path({str(shown)!r}).write_text(repr(dict(os.environ)))"
    with pytest.raises(InputError):
        await run_worker(job(tmp_path), 20, command=[sys.executable, "-c", script])
    assert "secret" not in shown.read_text()
