"""Recordings that terminals do not play become ones that they do, in the real worker process."""

from __future__ import annotations

import asyncio
import struct
from fractions import Fraction
from pathlib import Path

import av
import pytest
from support.media import box_names, make_audio, make_mp4, packets_of
from support.small_disk import small_disk

from manifests.errors import InputError, StorageError, StorageFullError
from origin.publish.media import probe, transcode
from origin.publish.transcode_lanes import fit_size, pick_fps


async def check_plays(path: Path, seconds: float) -> None:
    found = await probe(path, 30)
    assert (found.plays, found.faststart, found.reason) == (True, True, "")
    assert found.duration_s == pytest.approx(seconds, abs=0.15)
    assert box_names(path)[:2] == ["ftyp", "moov"]


@pytest.mark.parametrize(
    ("name", "how"),
    [
        ("a.mp4", {"codec": "hevc"}),
        ("a.mp4", {"codec": "mpeg4"}),
        ("a.webm", {"codec": "vp9", "audio": False}),
        ("a.avi", {"codec": "mjpeg", "pix_fmt": "yuvj420p", "audio": False}),
        ("a.mp4", {"pix_fmt": "yuv420p10le"}),
        ("a.mp4", {"pix_fmt": "yuv444p", "width": 161, "height": 91}),
    ],
)
async def test_other_codecs_are_encoded_anew(tmp_path: Path, name: str, how: dict[str, object]) -> None:
    path = make_mp4(tmp_path / name, **{"seconds": 2, **how})  # type: ignore[arg-type]
    out = tmp_path / "out.mp4"
    await transcode(path, out, 60)
    await check_plays(out, 2)
    with av.open(str(out)) as made:
        codec = made.streams.video[0].codec_context
        assert (codec.name, codec.pix_fmt, codec.width % 2, codec.height % 2) == ("h264", "yuv420p", 0, 0)
        assert not made.streams.audio or made.streams.audio[0].codec_context.name == "aac"
        frames = list(made.decode(video=0))
    assert len(frames) == pytest.approx(20, abs=1)


async def test_right_streams_in_a_wrong_container_are_copied(tmp_path: Path) -> None:
    for name, how in (("a.mkv", {}), ("a.mp4", {"fragmented": True})):
        path = make_mp4(tmp_path / name, 2, **how)  # type: ignore[arg-type]
        out = tmp_path / "out.mp4"
        await transcode(path, out, 60)
        await check_plays(out, 2)
        assert sorted(data for _, data in packets_of(out)) == sorted(data for _, data in packets_of(path)), name


async def test_a_transport_stream_starts_at_zero_with_sound_and_picture_together(tmp_path: Path) -> None:
    out = tmp_path / "out.mp4"
    await transcode(make_mp4(tmp_path / "a.ts", 2), out, 60)
    await check_plays(out, 2)
    with av.open(str(out)) as made:
        starts = [float((stream.start_time or 0) * (stream.time_base or 0)) for stream in made.streams]
    assert max(map(abs, starts)) < 0.1


async def test_a_right_picture_beside_wrong_sound_keeps_its_bits(tmp_path: Path) -> None:
    path = tmp_path / "a.mov"
    picture = make_mp4(tmp_path / "picture.mp4", 2, audio=False)
    with av.open(str(picture)) as source, av.open(str(path), "w") as target:
        video = target.add_stream_from_template(source.streams.video[0])
        sound = target.add_stream("pcm_s16le", rate=44100, layout="mono")
        for packet in source.demux(video=0):
            if packet.size:
                packet.stream = video
                target.mux(packet)
        for n in range(20):
            frame = av.AudioFrame(format="s16", layout="mono", samples=4410)
            frame.planes[0].update(struct.pack("<h", 2000) * 4410)
            frame.sample_rate, frame.pts, frame.time_base = 44100, n * 4410, Fraction(1, 44100)
            target.mux(sound.encode(frame))
        target.mux(sound.encode(None))
    found = await probe(path, 30)
    assert not found.plays
    assert "pcm" in found.reason
    out = tmp_path / "out.mp4"
    await transcode(path, out, 60)
    await check_plays(out, 2)
    assert [data for stream, data in packets_of(out) if stream == 0] == [data for _, data in packets_of(picture)]


async def test_a_turned_picture_is_set_upright(tmp_path: Path) -> None:
    data = bytearray(make_mp4(tmp_path / "a.mp4", 1, 160, 90).read_bytes())
    at = data.index(b"tkhd") + 4 + 40
    struct.pack_into(">5i", data, at, 0, 0x10000, 0, -0x10000, 0)  # a phone held upright
    path = tmp_path / "turned.mp4"
    path.write_bytes(data)
    found = await probe(path, 30)
    assert not found.plays
    assert "turned" in found.reason
    out = tmp_path / "out.mp4"
    await transcode(path, out, 60)
    made = await probe(out, 30)
    assert (made.width, made.height, made.plays) == (90, 160, True)
    lying, standing = first_grey(path), first_grey(out)
    # Clockwise: what was on the left is on top.
    assert all(abs(lying[45][x] - standing[x][45]) < 16 for x in range(4, 156, 8))


def first_grey(path: Path) -> list[bytes]:
    with av.open(str(path)) as source:
        plane = next(source.decode(video=0)).planes[0]
        data = bytes(plane)
        return [data[y * plane.line_size :][: plane.width] for y in range(plane.height)]


async def test_more_than_1080p_is_brought_down(tmp_path: Path) -> None:
    path = make_mp4(tmp_path / "a.mp4", 0.3, 2560, 1440, audio=False)
    await transcode(path, tmp_path / "out.mp4", 60)
    made = await probe(tmp_path / "out.mp4", 30)
    assert (made.width, made.height, made.plays) == (1920, 1080, True)


async def test_key_frames_are_at_most_four_seconds_apart(tmp_path: Path) -> None:
    path = make_mp4(tmp_path / "a.mp4", 11, 64, 48, codec="mpeg4", gop=200, audio=False)
    await transcode(path, tmp_path / "out.mp4", 60)
    assert 0 < (await probe(tmp_path / "out.mp4", 30)).max_keyframe_gap_s <= 4


async def test_sound_alone_becomes_m4a(tmp_path: Path) -> None:
    out = tmp_path / "out.m4a"
    await transcode(make_audio(tmp_path / "a.mp3", 2), out, 60)
    made = await probe(out, 30)
    assert (made.kind, made.media_type, made.audio_codec, made.plays, made.faststart) == (
        "audio",
        "audio/mp4",
        "aac",
        True,
        True,
    )


async def test_progress_ends_at_the_whole_and_equal_input_gives_equal_bytes(tmp_path: Path) -> None:
    path = make_mp4(tmp_path / "a.mp4", 1, codec="mpeg4")
    seen: list[tuple[str, int, int]] = []
    await transcode(path, tmp_path / "one.mp4", 60, lambda *step: seen.append(step))
    await transcode(path, tmp_path / "two.mp4", 60)
    assert seen[-1] == ("transcode", path.stat().st_size, path.stat().st_size)
    assert [done for _, done, _ in seen] == sorted(done for _, done, _ in seen)
    assert (tmp_path / "one.mp4").read_bytes() == (tmp_path / "two.mp4").read_bytes()


async def test_a_damaged_recording_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    data = bytearray(make_mp4(tmp_path / "a.mkv", 4, codec="mpeg4", audio=False).read_bytes())
    for at in range(len(data) // 4, len(data)):
        data[at] = at * 7 & 255
    (tmp_path / "b.mkv").write_bytes(data)
    with pytest.raises(InputError):
        await transcode(tmp_path / "b.mkv", tmp_path / "out.mp4", 60)
    assert not (tmp_path / "out.mp4").exists()


async def test_a_cancelled_or_late_conversion_leaves_nothing(tmp_path: Path) -> None:
    path = make_mp4(tmp_path / "a.mp4", 8, 640, 360, codec="mpeg4", noise=True, audio=False)
    begun = asyncio.Event()
    running = asyncio.create_task(transcode(path, tmp_path / "out.mp4", 60, lambda *_: begun.set()))
    async with asyncio.timeout(60):
        await begun.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert not (tmp_path / "out.mp4").exists()
    with pytest.raises(InputError, match="stopped after"):
        await transcode(path, tmp_path / "out.mp4", 0.05)
    assert not (tmp_path / "out.mp4").exists()


async def test_a_full_disk_and_a_missing_folder_are_storage_errors(tmp_path: Path) -> None:
    path = make_mp4(tmp_path / "a.mkv", 3, noise=True)
    with pytest.raises(StorageError):
        await transcode(path, tmp_path / "nowhere" / "out.mp4", 60)
    with small_disk(tmp_path / "disk", "64k") as disk:
        with pytest.raises(StorageFullError):
            await transcode(path, disk / "out.mp4", 60)
        assert not (disk / "out.mp4").exists()


@pytest.mark.parametrize(
    ("rate", "wanted"),
    [
        (None, 25),
        (Fraction(0), 25),
        (Fraction(90_000), 25),
        (Fraction(120), 60),
        (Fraction(30_000, 1001), Fraction(30_000, 1001)),
        (Fraction(1, 3), 5),
    ],
)
def test_rates(rate: Fraction | None, wanted: Fraction) -> None:
    assert pick_fps(rate) == wanted


@pytest.mark.parametrize(
    ("size", "aspect", "wanted"),
    [
        ((640, 360), None, (640, 360)),
        ((641, 361), None, (640, 360)),
        ((3840, 2160), None, (1920, 1080)),
        ((2160, 3840), None, (1080, 1920)),
        ((720, 576), Fraction(16, 15), (768, 576)),
        ((1920, 1088), None, (1920, 1088)),
        ((7000, 16), None, (1920, 4)),
    ],
)
def test_sizes(size: tuple[int, int], aspect: Fraction | None, wanted: tuple[int, int]) -> None:
    assert fit_size(*size, aspect) == wanted
