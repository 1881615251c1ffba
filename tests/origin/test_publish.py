"""Publishing whole courseware on a real origin: real media, real workers, real refusals."""

import asyncio
import hashlib
import os
import random
import shutil
from pathlib import Path

import msgspec
import pytest
from support.media import box_names, make_audio, make_mp4, make_pdf, make_png, packets_of
from support.origins import ManualClock, blob_names, blob_of, found_origin, publish_at_once, request, staged
from support.small_disk import small_disk

from manifests.digests import digest_of
from manifests.errors import ConfigurationError, InputError, StorageFullError
from manifests.model import STREAM_ROLES, File
from origin import app
from origin.clock import system_clock
from origin.publish.failpoints import INGEST_POINTS
from origin.publish.publish import derive_id, match_previous


@pytest.fixture(scope="module")
def empty(tmp_path_factory) -> Path:
    return found_origin(tmp_path_factory.mktemp("empty") / "origin")


@pytest.fixture(scope="module")
def clips(tmp_path_factory) -> Path:
    """Files to hand in, made once."""
    at = tmp_path_factory.mktemp("clips")
    make_mp4(at / "fast.mp4", seconds=2)
    make_mp4(at / "slow.mp4", seconds=2, faststart=False, seed=1)
    make_mp4(at / "old.avi", seconds=1, codec="mpeg4", audio=False)
    make_audio(at / "talk.mp3")
    make_png(at / "p1.png")
    make_png(at / "p2.png", seed=9)
    make_pdf(at / "slides.pdf")
    (at / "article.md").write_bytes("# 小麦\n\n![一](p1.png)\n\n![二](images/p2.png)\n".encode())
    (at / "gbk.md").write_bytes("# 小麦\r\n\r\n正文".encode("gb18030"))
    (at / "fast.srt").write_bytes("1\n00:00:00,000 --> 00:00:01,500\n冬小麦\n".encode("gb18030"))
    return at


@pytest.fixture
def root(empty, tmp_path) -> Path:
    return Path(shutil.copytree(empty, tmp_path / "origin"))


@pytest.fixture
async def origin(root):
    async with app.open_origin(root, {}, system_clock) as opened:
        yield opened


def named(files, name):
    return next(file for file in files if file.name == name)


async def catalog(origin):
    return (await origin.releases.current_catalog())[1]


async def test_a_playable_mp4_is_kept_bit_for_bit_with_a_poster(origin, root, clips):
    data = (clips / "fast.mp4").read_bytes()
    steps = []
    done = await app.publish(
        origin, request(clips / "fast.mp4", columns=("农业技术",)), lambda *step: steps.append(step)
    )
    assert (done.version, done.catalog_version) == (1, 2)
    assert done.id.startswith("kj-")
    video, poster = (file for file in done.files if file.role not in STREAM_ROLES)
    assert (video.role, video.name, video.media_type, video.size) == ("video", "fast.mp4", "video/mp4", len(data))
    assert video.blob == hashlib.sha256(data).hexdigest()
    assert (video.width, video.height) == (160, 90)
    assert 1.5 < video.duration_s < 2.5
    assert blob_of(root, video.ref) == data
    assert (poster.role, poster.name, poster.media_type) == ("poster", "poster.jpg", "image/jpeg")
    assert blob_of(root, poster.ref).startswith(b"\xff\xd8\xff")
    assert ("fast.mp4", len(data), len(data)) in steps
    (item,) = (await catalog(origin)).courseware
    assert (item.kind, item.title, item.audience, item.files) == ("video", "小麦田间管理", ("410000",), done.files)
    assert staged(root) == []


async def test_the_header_is_moved_and_nothing_else(origin, root, clips):
    before = blob_names(root)
    plan = (await app.foresee(origin, request(clips / "slow.mp4"))).plan
    assert [file.treatment for file in plan.files] == ["faststart", "poster"]
    assert msgspec.json.decode(msgspec.json.encode(plan))["files"][0]["treatment"] == "faststart"
    assert len(plan.lines()) == len(plan.all_files) == 2 + 5  # a master, two renditions and their playlists
    assert blob_names(root) == before  # a plan changes nothing
    done = await app.publish(origin, request(clips / "slow.mp4"))
    stored = root / "slow.mp4"
    stored.write_bytes(blob_of(root, named(done.files, "slow.mp4").ref))
    names = box_names(stored)
    assert names.index("moov") < names.index("mdat")
    assert packets_of(stored) == packets_of(clips / "slow.mp4")


async def test_what_terminals_do_not_play_is_transcoded_and_kept(origin, root, clips):
    plan = (await app.foresee(origin, request(clips / "old.avi"))).plan
    assert plan.files[0].treatment == "transcode"
    assert plan.files[0].reason_zh
    done = await app.publish(origin, request(clips / "old.avi"))
    assert done.id == derive_id(digest_of((clips / "old.avi").read_bytes()))
    video = named(done.files, "old.mp4")
    assert video.media_type == "video/mp4"
    again = (await app.foresee(origin, request(_copied(root, video)))).plan
    assert again.files[0].treatment == "keep"
    original = hashlib.sha256((clips / "old.avi").read_bytes()).hexdigest()
    assert original in blob_names(root)
    assert original not in {file.blob for file in done.files}
    assert staged(root) == []


def _copied(root, file):
    path = root / f"again-{file.name}"
    path.write_bytes(blob_of(root, file.ref))
    return path


async def test_an_article_with_its_pictures(origin, root, clips):
    done = await app.publish(origin, request(clips / "article.md", clips / "p1.png", clips / "p2.png"))
    assert [(file.role, file.media_type) for file in done.files] == [
        ("article", "text/markdown"),
        ("picture", "image/png"),
        ("picture", "image/png"),
    ]
    assert blob_of(root, done.files[0].ref) == (clips / "article.md").read_bytes()
    assert (await catalog(origin)).courseware[0].kind == "article"


async def test_text_in_gb18030_becomes_utf_8_and_the_original_is_kept(origin, root, clips):
    done = await app.publish(origin, request(clips / "gbk.md"))
    assert blob_of(root, done.files[0].ref).decode() == "# 小麦\n\n正文"
    assert hashlib.sha256((clips / "gbk.md").read_bytes()).hexdigest() in blob_names(root)


async def test_subtitles_slides_and_sound(origin, root, clips):
    done = await app.publish(origin, request(clips / "fast.mp4", clips / "fast.srt", clips / "slides.pdf"))
    subtitle = named(done.files, "fast.vtt")
    assert (subtitle.role, subtitle.media_type, subtitle.language) == ("subtitle", "text/vtt", "zh")
    text = blob_of(root, subtitle.ref).decode()
    assert text.startswith("WEBVTT\n")
    assert "冬小麦" in text
    assert named(done.files, "slides.pdf").role == "document"
    done = await app.publish(origin, request(clips / "talk.mp3", id="talk"))
    assert [(file.role, file.media_type) for file in done.files] == [("audio", "audio/mpeg")]
    kinds = {item.id: item.kind for item in (await catalog(origin)).courseware}
    assert kinds["talk"] == "recording"


async def test_a_poster_that_was_handed_in_is_taken(origin, clips, tmp_path):
    poster = Path(shutil.copy(clips / "p1.png", tmp_path / "Poster.png"))
    done = await app.publish(origin, request(clips / "fast.mp4", poster))
    shown = [(file.role, file.name) for file in done.files if file.role not in STREAM_ROLES]
    assert shown == [("video", "fast.mp4"), ("poster", "Poster.png")]


async def test_revisions_get_patches_from_the_last_three(origin, root, tmp_path):
    """PDFs stand for any file: their bytes are ours to choose, so that versions have much in common."""
    body = random.Random(1).randbytes(600_000)
    versions = []
    for n in range(5):
        (tmp_path / f"{n}").mkdir()
        path = _slides(tmp_path / f"{n}" / "slides.pdf", body[n * 10_000 :])
        versions.append((await app.publish(origin, request(path, id="kj-slides"))).files[0])
    sources = [[patch.source for patch in file.patches] for file in versions]
    blobs = [file.blob for file in versions]
    assert sources == [
        [],
        [blobs[0]],
        [blobs[1], blobs[0]],
        [blobs[2], blobs[1], blobs[0]],
        [blobs[3], blobs[2], blobs[1]],
    ]
    for patch in versions[4].patches:
        assert patch.size < 10_000
        assert hashlib.sha256(blob_of(root, patch.ref)).hexdigest() == patch.blob
    # Only the title changes: the same blob keeps the patches that lead to it.
    path = tmp_path / "4" / "slides.pdf"
    done = await app.publish(origin, request(path, id="kj-slides", title="另一个标题"))
    assert (done.version, [patch.source for patch in done.files[0].patches]) == (6, [blobs[3], blobs[2], blobs[1]])


async def test_publishing_the_same_again_changes_nothing(origin, clips):
    first = await app.publish(origin, request(clips / "slides.pdf"))
    again = await app.publish(origin, request(clips / "slides.pdf"))
    assert (again.version, again.catalog_version, again.changed) == (first.version, first.catalog_version, False)


def _bad_files(at: Path, clips: Path) -> dict[str, tuple[Path, ...]]:
    def write(name: str, data: bytes) -> Path:
        path = at / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data)
        return path

    video = (clips / "fast.mp4").read_bytes()
    return {
        "empty": (write("empty.mp4", b""),),
        "text named mp4": (write("text.mp4", b"this is no video, this is a text\n" * 50),),
        "truncated": (write("cut.mp4", video[: len(video) * 2 // 3]),),
        "zeros": (write("zeros.mp4", bytes(100_000)),),
        "missing": (at / "not-there.mp4",),
        "a directory": (at,),
        "same name twice": (clips / "fast.mp4", write("other/FAST.mp4", video)),
        "two become one name": (clips / "old.avi", write("old.mp4", video)),
        "poster that is no picture": (
            clips / "fast.mp4",
            write("poster.jpg.pdf", b"%PDF-"),
            write("poster.jpg", video),
        ),
        "hostile name": (write("a\u202egpm.mp4", video),),
        "reserved name": (write("con.mp4", video),),
        "picture only": (clips / "p1.png",),
        "subtitle only": (clips / "fast.srt",),
        "picture missing": (clips / "article.md", clips / "p1.png"),
        "remote picture": (write("remote.md", b"![x](http://example.com/x.png)\n"),),
        "good and bad": (clips / "fast.mp4", write("bad.pdf", b"%PDF-1.4 but cut")),
    }


@pytest.mark.parametrize(
    "case",
    [
        *("empty", "text named mp4", "truncated", "zeros", "missing", "a directory", "same name twice"),
        *("two become one name", "poster that is no picture", "hostile name", "reserved name", "picture only"),
        *("subtitle only", "picture missing", "remote picture", "good and bad"),
    ],
)
async def test_bad_files_are_refused_and_leave_nothing(origin, root, clips, tmp_path, case):
    files = _bad_files(tmp_path, clips)[case]
    before = blob_names(root)
    with pytest.raises(InputError) as error:
        await app.publish(origin, request(*files))
    assert (error.value.exit_code, bool(error.value.zh)) == (2, True)
    assert blob_names(root) == before
    assert staged(root) == []
    assert (await catalog(origin)).version == 1


@pytest.mark.parametrize(
    "wrong",
    [
        {"title": "长" * 1366},
        {"title": "two\nlines"},
        {"title": "right\u202eleft"},
        {"title": " "},
        {"id": "../etc"},
        {"columns": ("a\x00b",)},
        {"audience": ("42",)},
        {"audience": ("420000",)},
        {"priority": 10},
        {"tags": ("x" * 61,)},
        {"expires": "tomorrow"},
        {"expires": "2020-01-01T00:00:00Z"},
        {"summary": "x" * 4001},
    ],
    ids=str,
)
async def test_bad_words_are_refused_before_a_file_is_opened(origin, tmp_path, wrong):
    with pytest.raises(InputError) as error:
        await app.publish(origin, request(tmp_path / "never-looked-for.mp4", **wrong))
    assert "never-looked-for" not in error.value.message


async def test_markup_in_a_title_is_text(origin, clips):
    title = "<script>alert(1)</script> & “引号”"
    await app.publish(origin, request(clips / "slides.pdf", title=title))
    assert (await catalog(origin)).courseware[0].title == title


async def test_a_file_that_changes_after_the_plan_is_refused(origin, root, clips, tmp_path):
    path = Path(shutil.copy(clips / "slow.mp4", tmp_path / "slow.mp4"))
    before = blob_names(root)
    plan, findings = await origin.publishing._plan(request(clips / "fast.mp4", path))
    with path.open("ab") as file:
        file.write(b"x")
    with pytest.raises(InputError, match="changed"):
        await origin.publishing.run(plan, findings)
    assert blob_names(root) == before
    assert staged(root) == []


async def test_two_publishes_at_once_both_land(root, clips):
    first = publish_at_once(root, clips / "fast.mp4", id="kj-one")
    second = publish_at_once(root, clips / "slides.pdf", id="kj-two")
    for process in (first, second):
        await asyncio.to_thread(process.join, 60)
        assert process.exitcode == 0
    async with app.open_origin(root, {}, system_clock) as origin:
        found = await catalog(origin)
        assert {item.id for item in found.courseware} == {"kj-one", "kj-two"}
        assert found.version == 3


@pytest.mark.parametrize("point", INGEST_POINTS)
async def test_killed_while_storing_nothing_is_offered_and_the_next_goes_through(root, clips, point):
    process = publish_at_once(root, clips / "slides.pdf", point=point, id="kj-killed")
    await asyncio.to_thread(process.join, 60)
    assert process.exitcode == -9
    async with app.open_origin(root, {}, system_clock) as origin:
        assert staged(root) == []
        assert (await catalog(origin)).courseware == ()
        done = await app.publish(origin, request(clips / "slides.pdf", id="kj-killed"))
        assert done.version == 1
        assert hashlib.sha256(blob_of(root, done.files[0].ref)).hexdigest() == done.files[0].blob


async def test_a_full_disk_keeps_the_old_release(empty, clips, tmp_path):
    big = make_pdf(tmp_path / "big.pdf")
    big.write_bytes(big.read_bytes() + b"%" + os.urandom(4 << 20) + b"\n%%EOF\n")
    with small_disk(tmp_path / "disk", "4m") as disk:
        root = Path(shutil.copytree(empty, disk / "origin"))
        before = blob_names(root)
        async with app.open_origin(root, {}, system_clock) as origin:
            with pytest.raises(StorageFullError):
                await app.publish(origin, request(big))
            assert blob_names(root) == before
            assert staged(root) == []
            done = await app.publish(origin, request(clips / "slides.pdf"))
            assert done.catalog_version == 2


async def test_a_disk_too_full_for_a_patch_does_not_hold_the_lesson_back(empty, tmp_path):
    body, other = random.Random(1).randbytes(1_400_000), random.Random(2).randbytes(1_200_000)
    versions = [_slides(tmp_path / "1.pdf", body), _slides(tmp_path / "2.pdf", body[:200_000] + other)]
    with small_disk(tmp_path / "disk", "5m") as disk:
        root = Path(shutil.copytree(empty, disk / "origin"))
        async with app.open_origin(root, {"YUANJIAO_PUBLISH_PATCH_MAX_RATIO": "1"}, system_clock) as origin:
            for path in versions:
                done = await app.publish(origin, request(path, id="kj-slides"))
            assert (done.version, done.files[0].patches) == (2, ())
            assert blob_of(root, done.files[0].ref) == versions[1].read_bytes()
            assert staged(root) == []


def _slides(path: Path, body: bytes) -> Path:
    make_pdf(path)
    path.write_bytes(path.read_bytes() + b"\n%" + body + b"\n%%EOF\n")
    return path


@pytest.mark.parametrize("name", ["slow.mp4", "old.avi", "slides.pdf"])
async def test_the_dry_run_names_what_would_be_made_or_replaced(origin, clips, name):
    before = await app.foresee(origin, request(clips / name))
    assert before.replaced is None
    done = await app.publish(origin, request(clips / name, title="先前的名字"))
    after = await app.foresee(origin, request(clips / name, title="完全不同的一课"))
    assert before.id == after.id == done.id
    assert after.replaced is not None
    assert (after.replaced.title, after.replaced.version) == ("先前的名字", 1)


async def test_a_wrong_clock_is_told_before_anything_is_stored(root, clips):
    before = blob_names(root)
    async with app.open_origin(root, {}, ManualClock(system_clock() - 3 * 365 * 86_400)) as origin:
        with pytest.raises(ConfigurationError, match="clock"):
            await app.publish(origin, request(clips / "slides.pdf"))
    assert blob_names(root) == before


def file_of(role: str, name: str, content: str) -> File:
    return File(role=role, name=name, media_type="video/mp4", blob=digest_of(content.encode()), size=1)


def test_matches_have_the_name_or_are_alone_in_their_role():
    renamed = file_of("video", "new.mp4", "new")
    old, older = file_of("video", "old.mp4", "old"), file_of("video", "older.mp4", "older")
    slides = file_of("document", "new.mp4", "slides")
    assert match_previous(renamed, [renamed, slides], [(old, slides), (older,)]) == (old, older)
    second = file_of("video", "second.mp4", "second")
    assert match_previous(renamed, [renamed, second], [(old,)]) == ()
    assert match_previous(second, [renamed, second], [(old, second), (second,), (older,)]) == (second,)
    assert match_previous(renamed, [renamed], [(old, older)]) == ()
