"""Renditions, made by the real worker out of plain and of odd videos, and read again as a player would."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import pytest
from av.video.frame import PictureType
from hypothesis import given
from hypothesis import strategies as st
from support.hls import decode_parts, packets_by_stream, read_media
from support.media import make_mp4

from manifests.errors import ConfigurationError, InputError
from origin.publish.fragments import Fragmented, Segment
from origin.publish.ladder import parse_ladder, plan_streams
from origin.publish.media import make_renditions, probe
from origin.publish.media_job import Probe, Rendition, Rung
from origin.publish.playlists import Variant, average_bps, master_playlist, media_playlist, peak_bps
from origin.publish.rungs import rung_size
from origin.publish.samples import Track, plan_cuts

SMALL = Rung(90, 60_000)


async def made_of(path: Path, tmp: Path, *rungs: Rung) -> tuple[Path, tuple[Rendition, ...]]:
    out = tmp / "out"
    out.mkdir()
    return out, await make_renditions(path, out, "课 一.mp4", "own", rungs, 60)


def make_uneven(
    path: Path,
    times: list[int],
    keys: set[int],
    *,
    size: tuple[int, int] = (160, 120),
    options: dict[str, str] | None = None,
) -> Path:
    """A video whose pictures are shown at these milliseconds, with key frames at some of them."""
    with av.open(str(path), "w", options={"movflags": "+faststart", "fflags": "+bitexact"}) as out:
        stream = out.add_stream("libx264", rate=25, options=options or {"preset": "ultrafast", "forced-idr": "1"})
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        stream.codec_context.gop_size = 100_000
        stream.codec_context.thread_count = 1
        stream.codec_context.time_base = Fraction(1, 1000)
        for n, at in enumerate(times):
            frame = av.VideoFrame(*size, "yuv420p")
            for plane in frame.planes:
                plane.update(bytes([(n * 5) % 200 + 20]) * plane.buffer_size)
            frame.pts, frame.time_base = at, Fraction(1, 1000)
            frame.pict_type = PictureType.I if at in keys else PictureType.NONE
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return path


async def test_renditions_of_a_lesson(tmp_path: Path) -> None:
    source = make_mp4(tmp_path / "a.mp4", 21, 320, 180, gop=20)
    out, made = await made_of(source, tmp_path, SMALL)
    assert [(one.label, one.is_copy, one.height) for one in made] == [
        ("own", True, 180),
        ("90p", False, 90),
        ("audio", True, 0),
    ]
    own, small, sound = (read_media((out / f"{one.label}.m3u8").read_text("utf-8")) for one in made)
    assert (own.file, sound.file) == ("课 一.own.mp4", "课 一.audio.m4a")
    # Every range decodes alone, pictures and sound are all there, and players may change at every cut.
    was = packets_by_stream(source)
    parts = decode_parts((out / "own.mp4").read_bytes(), own)
    smaller = decode_parts((out / "90p.mp4").read_bytes(), small)
    shift = parts[0]["video"][0] - was["video"][0][0]
    assert 0 < shift < 1, "the smaller picture's encoder reorders"
    assert [time - shift for part in parts for time in part["video"]] == [time for time, _ in was["video"]]
    assert [part["video"] for part in smaller] == [part["video"] for part in parts]
    assert [part["audio"] for part in smaller] == [part["audio"] for part in parts]
    lengths = [6, 6, 6, Fraction("3.013333")]
    assert [part.duration_s for part in small.parts] == [part.duration_s for part in own.parts] == lengths
    heard = decode_parts((out / "audio.mp4").read_bytes(), sound)
    assert [time for part in heard for time in part["audio"]] == [time for part in parts for time in part["audio"]]
    # What copies streams has them bit for bit, at the times at which they were.
    now = packets_by_stream(out / "own.mp4")
    heard_before = [one for one in was["audio"] if one[0] >= 0]
    assert [data for _, data in now["video"]] == [data for _, data in was["video"]]
    assert [data for _, data in now["audio"]] == [data for _, data in heard_before]
    assert max(abs(a[0] - b[0] - shift) for a, b in zip(now["audio"], heard_before, strict=True)) < Fraction(1, 40000)
    assert packets_by_stream(out / "audio.mp4")["audio"] == now["audio"]
    for one, playlist in zip(made, (own, small, sound), strict=True):
        assert one.size == (out / f"{one.label}.mp4").stat().st_size
        assert one.duration_s == pytest.approx(float(playlist.duration_s), abs=0.001)
        assert one.peak_bps >= one.average_bps
    assert made[1].average_bps < made[0].average_bps
    assert [one.codecs.split(",")[-1] for one in made] == ["mp4a.40.2"] * 3
    assert not list(out.glob("*.work"))


def _uneven() -> list[int]:
    return [n * 40 + (n % 3) * 11 + (400 if n > 200 else 0) for n in range(330)]


ODD: dict[str, Callable[[Path], Path]] = {
    "silent": lambda path: make_mp4(path, 8, audio=False),
    "one second": lambda path: make_mp4(path, 1),
    "one picture": lambda path: make_mp4(path, 0.1),
    "odd size": lambda path: make_mp4(path, 2, 178, 214),
    "uneven rate": lambda path: make_uneven(path, _uneven(), {0, *_uneven()[::50]}),
    "late start": lambda path: make_uneven(path, [n * 40 + 2000 for n in range(200)], {2000, 6000, 8000}),
    "pictures reordered": lambda path: make_uneven(
        path, [n * 40 for n in range(300)], {n * 2000 for n in range(6)}, options={"preset": "veryfast", "bf": "3"}
    ),
    "open groups": lambda path: make_uneven(
        path,
        [n * 40 for n in range(400)],
        set(),
        options={"preset": "veryfast", "bf": "3", "x264-params": "open-gop=1:keyint=50:min-keyint=50:scenecut=0"},
    ),
}


CUT = {"silent", "uneven rate", "late start", "pictures reordered", "open groups"}  # the others are too short


@pytest.mark.parametrize("kind", sorted(ODD))
async def test_odd_videos(kind: str, tmp_path: Path) -> None:
    source = ODD[kind](tmp_path / "a.mp4")
    assert (await probe(source)).plays
    out, made = await made_of(source, tmp_path, SMALL)
    playlists = [read_media((out / f"{one.label}.m3u8").read_text("utf-8")) for one in made]
    decoded = [
        decode_parts((out / f"{one.label}.mp4").read_bytes(), playlist)
        for one, playlist in zip(made, playlists, strict=True)
    ]
    shown = sorted(time for time, _ in packets_by_stream(source)["video"])
    shift = decoded[0][0]["video"][0] - shown[0]
    assert [time - shift for part in decoded[0] for time in part["video"]] == shown
    assert [part["video"] for part in decoded[1]] == [part["video"] for part in decoded[0]]
    assert float(playlists[0].duration_s) == pytest.approx(float(shown[-1] - shown[0]), abs=0.5)
    assert min(made[1].width, made[1].height) == 90
    assert (len(playlists[0].parts) > 1) == (kind in CUT)


async def test_what_is_no_plain_video_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError):
        await made_of(make_mp4(tmp_path / "a.mp4", 2, fragmented=True), tmp_path)
    assert list((tmp_path / "out").iterdir()) == []


@given(
    st.lists(st.tuples(st.integers(1, 12), st.booleans()), min_size=1, max_size=60),
    st.integers(1, 8),
)
def test_cuts_stand_on_key_frames_and_lose_nothing(steps: list[tuple[int, bool]], every_s: int) -> None:
    track = Track(b"", 1, True)
    at = 0
    for n, (step, key) in enumerate(steps):
        track.pts.append(at)
        track.dts.append(at)
        track.size.append(1)
        track.at.append(n)
        track.span.append(step)
        track.key.append(key or n == 0)
        at += step
    cuts = plan_cuts(track, every_s)
    assert cuts[0] == 0
    assert cuts == sorted(set(cuts))
    assert all(track.key[n] for n in cuts)
    for begin, stop in zip(cuts, [*cuts[1:], len(track)], strict=True):
        # A segment is long only where there is no key frame to cut at.
        inside = [n for n in range(begin + 1, stop) if track.key[n] and track.pts[n] - track.pts[begin] >= every_s]
        assert len(inside) <= 1


def test_pictures_of_an_open_group_belong_to_one_segment() -> None:
    track = Track(b"", 1, True)
    #     decoded:  0     4     2     8     6    12
    for pts, key in ((0, 1), (4, 0), (2, 0), (8, 1), (6, 0), (12, 1)):
        track.pts.append(pts)
        track.key.append(key)
    assert plan_cuts(track, 6) == [0, 5]  # before the picture of 8, one of 6 is shown that comes later


def fragmented(*parts: tuple[int, float]) -> Fragmented:
    at, segments = 100, []
    for size, seconds in parts:
        segments.append(Segment(at, size, Fraction(seconds)))
        at += size
    return Fragmented(100, tuple(segments))


def test_the_rates_of_a_playlist() -> None:
    made = fragmented((600_000, 6), (900_000, 6), (300, 0.5))
    assert average_bps(made) == round(8 * 1_500_300 / 12.5)
    assert peak_bps(made) == 1_200_000
    assert peak_bps(fragmented((5, 0))) == 1


def test_playlists_are_read_back(tmp_path: Path) -> None:
    made = fragmented((600, 6.25), (900, 4))
    playlist = read_media(media_playlist("课 一,a.mp4", made))
    assert (playlist.file, playlist.head, playlist.target_s) == ("课 一,a.mp4", 100, 6)
    assert [(part.start, part.size) for part in playlist.parts] == [(100, 600), (700, 900)]
    text = master_playlist([Variant("a.m3u8", 9, 8, "mp4a.40.2")])
    assert text.splitlines()[3:] == ['#EXT-X-STREAM-INF:BANDWIDTH=9,AVERAGE-BANDWIDTH=8,CODECS="mp4a.40.2"', "a.m3u8"]


LADDER = parse_ladder(("480p:800k", "1080p:4500k", "720p:1800k"), 60)


@pytest.mark.parametrize(
    ("width", "height", "kbps", "seconds", "label", "rungs"),
    [
        (1920, 1080, 5000, 600, "1080p", [720, 480]),
        (1920, 1088, 5000, 600, "1080p", [720, 480]),
        (1080, 1920, 5000, 600, "1080p", [720, 480]),
        (3840, 2160, 9000, 600, "1080p", [720, 480]),
        (1920, 1080, 1500, 600, "1080p", [480]),
        (1920, 1080, 500, 600, "1080p", []),
        (1920, 1080, 5000, 59, "1080p", []),
        (1280, 720, 5000, 600, "720p", [480]),
        (854, 480, 5000, 600, "480p", []),
        (720, 500, 5000, 600, "500p", []),
    ],
)
def test_ladder(width: int, height: int, kbps: int, seconds: int, label: str, rungs: list[int]) -> None:
    found = Probe("video", "video/mp4", seconds, width, height, kbps * 1000, audio_codec="aac")
    plan = plan_streams("a.mp4", 0, found, LADDER)
    assert (plan.label, [rung.lines for rung in plan.rungs]) == (label, rungs)
    assert plan.names[:3] == ("a.m3u8", f"a.{label}.mp4", f"a.{label}.m3u8")
    assert plan.names[-2:] == ("a.audio.m4a", "a.audio.m3u8")


def test_a_video_that_cannot_be_cut_gets_no_streams() -> None:
    found = Probe("video", "video/mp4", 600, 1280, 720, 5_000_000, max_keyframe_gap_s=31)
    plan = plan_streams("a.mp4", 0, found, LADDER)
    assert plan.names == ()
    assert "31" in plan.why_not[1]


def test_the_same_lines_twice_are_refused() -> None:
    with pytest.raises(ConfigurationError):
        parse_ladder(("480p:800k", "480p:700k"), 60)


def test_rungs_have_square_pixels_and_even_sides() -> None:
    assert rung_size(1920, 1080, None, 480) == (854, 480)
    assert rung_size(1080, 1920, Fraction(1), 480) == (480, 854)
    assert rung_size(720, 576, Fraction(16, 15), 480) == (640, 480)
