"""The demo's courseware: it is made, terminals play it, and its revision is the same lesson cut short."""

from __future__ import annotations

import itertools
from pathlib import Path

import av
import pytest
from support.media import box_names, packets_of

from manifests.names import parse_courseware_id, parse_file_name, parse_label, parse_summary, parse_title
from origin.publish.articles import check_pictures, parse_article
from origin.publish.media import make_poster, probe
from tools.samples import Sample, make_samples
from tools.samples.canvas import Canvas, blend, rgb
from tools.samples.clip import Scene, cut_beginning, record
from tools.samples.leaflet import write_leaflet


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[tuple[Sample, ...], list[tuple[str, int, int]]]:
    steps: list[tuple[str, int, int]] = []
    return make_samples(tmp_path_factory.mktemp("samples"), lambda *step: steps.append(step)), steps


Made = tuple[tuple[Sample, ...], list[tuple[str, int, int]]]


async def test_lessons_play_as_they_are(made: Made) -> None:
    samples, steps = made
    videos = [sample for sample in samples if sample.kind == "video"]
    assert len(videos) >= 3
    durations = []
    for sample in videos:
        for path in (*sample.files, *sample.revised):
            found = await probe(path)
            assert (found.plays, found.faststart, found.video_codec, found.audio_codec) == (True, True, "h264", "aac")
            assert found.max_keyframe_gap_s <= 4
            durations.append(found.duration_s)
    assert max(durations) > 60
    assert {name for name, done, total in steps if done == total} == {sample.files[0].stem for sample in videos}


async def test_lessons_move_and_sound(made: Made, tmp_path: Path) -> None:
    samples, _ = made
    for sample in samples:
        if sample.kind != "video":
            continue
        with av.open(str(sample.files[0])) as clip:
            pictures = {bytes(packet) for packet in clip.demux(video=0) if packet.size}
            clip.seek(0)
            levels = {bytes(frame.planes[0]) for frame, _ in zip(clip.decode(audio=0), range(60), strict=False)}
        assert len(pictures) > 200, sample.id
        assert len(levels) > 50, sample.id
        await make_poster(sample.files[0], tmp_path / "poster.jpg")
        assert (tmp_path / "poster.jpg").stat().st_size > 8_000, sample.id


def test_the_revision_is_the_lesson_without_its_title_to_the_bit(made: Made) -> None:
    samples, _ = made
    lesson = next(sample for sample in samples if sample.revised)
    old, new = packets_of(lesson.files[0]), packets_of(lesson.revised[0])
    assert lesson.files[0].stat().st_size >= 15 << 20
    assert lesson.files[0].name == lesson.revised[0].name
    for stream in (0, 1):
        kept = [data for index, data in new if index == stream]
        assert [data for index, data in old if index == stream][-len(kept) :] == kept
        assert 0.8 < len(kept) / len([data for index, data in old if index == stream]) < 0.95
    streams = [index for index, _ in old]
    assert sum(a != b for a, b in itertools.pairwise(streams)) > 500  # interleaved from end to end


async def test_the_article_brings_its_pictures_and_the_leaflet_opens(made: Made) -> None:
    samples, _ = made
    article = next(sample for sample in samples if sample.kind == "article")
    text, *pictures = article.files
    parsed = parse_article(text.read_bytes())
    assert len(parsed.pictures) >= 2
    check_pictures(parsed, {path.name for path in pictures})
    assert article.title == parsed.title
    for path in pictures:
        assert (await probe(path)).kind == "picture"
    document = next(sample for sample in samples if sample.kind == "document")
    assert (await probe(document.files[0])).media_type == "application/pdf"


def test_the_leaflets_table_of_objects_is_right(tmp_path: Path) -> None:
    write_leaflet(tmp_path / "a.pdf")
    data = (tmp_path / "a.pdf").read_bytes()
    start = int(data.rsplit(b"startxref\n", 1)[1].split(b"\n")[0])
    rows = data[start:].split(b"\n")[3:]
    for number, row in enumerate((row for row in rows if row.endswith(b" n ")), 1):
        assert data[int(row[:10]) :].startswith(b"%d 0 obj" % number)
    assert "病虫害".encode("utf-16-be").hex().upper().encode() in data


def test_titles_are_what_the_catalog_takes(made: Made) -> None:
    samples, _ = made
    assert len({sample.id for sample in samples}) == len(samples) >= 5
    assert len({sample.column for sample in samples}) == 2
    for sample in samples:
        assert parse_courseware_id(sample.id) == sample.id
        assert parse_title(sample.title) == sample.title
        assert parse_label(sample.column) == sample.column
        assert parse_summary(sample.summary) == sample.summary
        assert all(parse_file_name(path.name) == path.name for path in sample.files)


def still(at_s: float) -> Canvas:
    canvas = Canvas.blank(640, 360, rgb(40, 60, 80))
    canvas.rect(int(at_s * 50), 100, 60, 60, rgb(220, 80, 40))
    return canvas


def test_equal_scenes_give_equal_files_and_a_cut_needs_a_key_frame(tmp_path: Path) -> None:
    scene = Scene("short", 4, 5, 100_000, 1, still)
    record(scene, tmp_path / "a.mp4", lambda *_: None)
    record(scene, tmp_path / "b.mp4", lambda *_: None)
    assert (tmp_path / "a.mp4").read_bytes() == (tmp_path / "b.mp4").read_bytes()
    assert box_names(tmp_path / "a.mp4")[:2] == ["ftyp", "moov"]
    assert cut_beginning(tmp_path / "a.mp4", tmp_path / "c.mp4", 1.0) == 2.0
    with pytest.raises(ValueError, match="no key frame"):
        cut_beginning(tmp_path / "a.mp4", tmp_path / "d.mp4", 9.0)


def test_shapes_stay_on_the_canvas() -> None:
    canvas = Canvas.blank(64, 36)
    sizes = len(canvas.luma), len(canvas.blue)
    canvas.oval(-5, 40, 30, 30, rgb(255, 0, 0))
    canvas.shape([(-50, -50), (200, 10), (30, 90)], rgb(0, 255, 0))
    canvas.stroke((-9, 5), (90, 30), 4, rgb(0, 0, 255))
    canvas.digits("8%", 60, 30, 3, rgb(255, 255, 255))
    assert (len(canvas.luma), len(canvas.blue)) == sizes
    assert blend((0, 0, 0), (100, 200, 50), 0.5) == (50, 100, 25)
    assert blend((0, 0, 0), (100, 200, 50), 7) == (100, 200, 50)
    assert canvas.png().startswith(b"\x89PNG")
