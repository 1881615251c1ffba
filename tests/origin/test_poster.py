"""Posters: real JPEG files of a telling moment."""

from __future__ import annotations

import struct
from fractions import Fraction
from pathlib import Path

import av
import pytest
from support.media import make_audio, make_mp4

from manifests.errors import InputError, StorageError
from origin.publish.media import make_poster, probe


async def test_a_poster_is_a_small_jpeg(tmp_path: Path) -> None:
    out = tmp_path / "poster.jpg"
    await make_poster(make_mp4(tmp_path / "a.mp4", 1, 1600, 900, audio=False), out)
    found = await probe(out)
    assert (found.kind, found.media_type, found.width, found.height) == ("picture", "image/jpeg", 1280, 720)


async def test_black_pictures_are_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    with av.open(str(path), "w") as target:
        stream = target.add_stream("libx264", rate=10, options={"preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.codec_context.gop_size = 5
        for n in range(50):
            frame = av.VideoFrame(64, 48, "yuv420p")
            grey = 16 if n < 35 else 200  # black beyond the place where posters are taken
            rows = [bytes([grey if x < 40 else 16]) for x in range(frame.planes[0].line_size)]
            frame.planes[0].update(b"".join(rows) * 48)
            for plane in frame.planes[1:]:
                plane.update(bytes([128]) * plane.buffer_size)
            frame.pts, frame.time_base = n, Fraction(1, 10)
            target.mux(stream.encode(frame))
        target.mux(stream.encode(None))
    out = tmp_path / "poster.jpg"
    await make_poster(path, out)
    with av.open(str(out), format="jpeg_pipe") as picture:
        grey = next(picture.decode(video=0)).reformat(format="gray")
    assert max(bytes(grey.planes[0])) > 150


async def test_a_poster_stands_upright(tmp_path: Path) -> None:
    data = bytearray(make_mp4(tmp_path / "a.mp4", 1, 160, 90).read_bytes())
    struct.pack_into(">5i", data, data.index(b"tkhd") + 44, 0, 0x10000, 0, -0x10000, 0)
    (tmp_path / "b.mp4").write_bytes(data)
    await make_poster(tmp_path / "b.mp4", tmp_path / "poster.jpg")
    found = await probe(tmp_path / "poster.jpg")
    assert (found.width, found.height) == (90, 160)


async def test_what_has_no_picture_has_no_poster(tmp_path: Path) -> None:
    with pytest.raises(InputError):
        await make_poster(make_audio(tmp_path / "a.mp3"), tmp_path / "poster.jpg")
    assert not (tmp_path / "poster.jpg").exists()
    with pytest.raises(StorageError):
        await make_poster(make_mp4(tmp_path / "a.mp4", 1), tmp_path / "nowhere" / "poster.jpg")
