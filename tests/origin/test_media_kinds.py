"""What a file is, by its first bytes; and text in the encodings that people use."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.media import make_audio, make_mp4, make_pdf, make_png, png_bytes

from manifests.errors import InputError
from origin.publish.articles import check_pictures, parse_article
from origin.publish.media_kinds import Guess, recognise
from origin.publish.media_text import decode_text


def look(data: bytes, suffix: str = "") -> Guess:
    return recognise(lambda at, count: data[at : at + count], len(data), suffix)


def jpeg(width: int, height: int) -> bytes:
    exif = b"\xff\xe1" + struct.pack(">H", 10) + b"Exif\0\0\xff\xd9"
    return b"\xff\xd8" + exif + b"\xff\xc2" + struct.pack(">HBHH", 8, 8, height, width) + bytes(30) + b"\xff\xd9"


def webp(form: bytes, body: bytes) -> bytes:
    rest = b"WEBP" + form + struct.pack("<I", len(body)) + body
    return b"RIFF" + struct.pack("<I", len(rest)) + rest


@pytest.mark.parametrize(
    ("data", "media_type", "size"),
    [
        (png_bytes(640, 360, zlib.compress(b"")), "image/png", (640, 360)),
        (jpeg(1280, 720), "image/jpeg", (1280, 720)),
        (b"GIF89a" + struct.pack("<HH", 32, 16) + bytes(9) + b";", "image/gif", (32, 16)),
        (webp(b"VP8X", bytes(4) + b"\x7f\x02\0\x67\x01\0"), "image/webp", (640, 360)),
        (webp(b"VP8L", b"\x2f" + struct.pack("<I", 639 | 359 << 14)), "image/webp", (640, 360)),
        (webp(b"VP8 ", bytes(6) + struct.pack("<HH", 640, 360)), "image/webp", (640, 360)),
    ],
)
def test_pictures_by_their_header(data: bytes, media_type: str, size: tuple[int, int]) -> None:
    guess = look(data, ".dat")
    assert (guess.kind, guess.media_type, (guess.width, guess.height)) == ("picture", media_type, size)


@pytest.mark.parametrize(
    "data",
    [
        png_bytes(50_000, 50_000, zlib.compress(b"")),  # a bomb
        png_bytes(12_000, 12_000, zlib.compress(b"")),
        png_bytes(0, 10, zlib.compress(b"")),
        png_bytes(64, 48, zlib.compress(bytes(9000), 0))[:-20],
        jpeg(10, 10)[:-20],
        b"\xff\xd8\xff\xe0" + b"\xff\xe0\0\x02" * 500 + b"\xff\xd9",
        webp(b"VP8 ", bytes(6) + struct.pack("<HH", 64, 36))[:-4],
        b"\x89PNG\r\n\x1a\n",
    ],
)
def test_pictures_that_are_bombs_or_cut_off_are_refused(data: bytes) -> None:
    with pytest.raises(InputError) as caught:
        look(data, ".png")
    assert "图片" in caught.value.zh


def test_media_by_their_marks_whatever_the_name(tmp_path: Path) -> None:
    for name, wanted in (
        ("a.mp4", "mp4"),
        ("a.mkv", "matroska"),
        ("a.avi", "avi"),
        ("a.ts", "mpegts"),
        ("a.flv", "flv"),
    ):
        codec = "mpeg4" if name.endswith("avi") else "h264"
        data = make_mp4(tmp_path / name, 0.5, codec=codec, audio=False).read_bytes()
        assert look(data, ".txt").demuxer == wanted, name
    assert look(make_audio(tmp_path / "a.mp3").read_bytes()).demuxer == "mp3"
    assert look(make_pdf(tmp_path / "a.pdf").read_bytes(), ".doc").media_type == "application/pdf"
    assert look(make_png(tmp_path / "a.png").read_bytes(), ".jpg").media_type == "image/png"


@pytest.mark.parametrize(
    ("data", "suffix", "why"),
    [
        (b"", ".mp4", "empty"),
        ("这不是视频".encode(), ".mp4", "text"),
        (b"# Title\n\nbody\n", ".pdf", "text"),
        (b"#EXTM3U\n#EXTINF:4,\nhttp://192.0.2.1/a.ts\n", ".mp4", "playlist"),
        (b"#EXTM3U\nfile:///etc/passwd\n", ".md", "playlist"),
        (b"ffconcat version 1.0\nfile /etc/passwd\n", ".txt", "playlist"),
        (b"1\n00:00:01,000 --> 00:00:02,000\nhello\n", ".mp4", "text"),
        (b"MZ\x90\0\x03\0\0\0", ".mp4", "no kind"),
        (b"PK\x03\x04\x14\0\x08\0", ".docx", "no kind"),
        (b"%PDF-1.7\n" + bytes(9000), ".pdf", "truncated"),
    ],
)
def test_what_is_nothing_to_publish_is_refused(data: bytes, suffix: str, why: str) -> None:
    with pytest.raises(InputError, match=why) as caught:
        look(data, suffix)
    assert any("一" <= char <= "鿿" for char in caught.value.zh)


def test_text_kinds() -> None:
    assert look("# 冬小麦\n\n正文".encode(), ".md").kind == "article"
    assert look("# 冬小麦\n\n正文".encode("gb18030"), ".txt").kind == "article"
    assert look("1\n00:00:01,000 --> 00:00:02,000\n你好\n".encode("utf-16"), ".srt").kind == "subtitle"
    assert look(b"WEBVTT\n\n00:01.000 --> 00:02.000\nhi\n", ".vtt").kind == "subtitle"


@settings(max_examples=40)
@given(st.text(st.characters(codec="gb18030", exclude_categories=("Cc", "Cs", "Co", "Cn")), min_size=20))
def test_gb18030_never_fails_to_decode(text: str) -> None:
    assert decode_text(("冬小麦田间管理" + text).encode("gb18030"))


@settings(max_examples=200)
@given(st.binary(max_size=300), st.sampled_from(["", ".mp4", ".md", ".srt", ".png"]))
def test_any_bytes_are_recognised_or_refused(data: bytes, suffix: str) -> None:
    try:
        guess = look(data, suffix)
    except InputError:
        return
    assert guess.media_type or guess.demuxer


def test_text_is_decoded_by_trial() -> None:
    for encoding in ("utf-8", "utf-8-sig", "utf-16", "gb18030", "gbk"):
        assert decode_text("第一行\r\n第二行\r".encode(encoding)) == "第一行\n第二行\n"
    assert decode_text("1\n字".encode("utf-16-le")) == "1\n字"
    assert decode_text("1\n字".encode("utf-16-be")) == "1\n字"
    for bad in (b"", b" \n\t", b"\xff\xff\xff", b"a\0\0\0", b"bell\x07", b"x" * (1 << 20) + b"y"):
        with pytest.raises(InputError):
            decode_text(bad)


def test_an_article_names_its_pictures() -> None:
    article = parse_article(
        '# 大棚`蔬菜`种植\n\n![棚](pictures/棚%20内.png) 和 ![图](b.jpg "t")\n\n'
        "`![不是](code.png)`\n\n| a |\n|---|\n| ![c](c.gif) |\n\n![again](b.jpg)\n".encode("gb18030")
    )
    assert article.title == "大棚蔬菜种植"
    assert article.pictures == ("棚 内.png", "b.jpg", "c.gif")
    assert article.encode().decode() == article.text
    check_pictures(article, {"棚 内.png", "b.jpg", "c.gif", "more.png"})
    with pytest.raises(InputError, match=r"c\.gif"):
        check_pictures(article, {"棚 内.png", "b.jpg"})


@pytest.mark.parametrize(
    "source", ["http://192.0.2.1/a.png", "//192.0.2.1/a.png", "data:image/png;base64,AA", "..", "a/CON.png", "x%00.png"]
)
def test_an_article_with_a_picture_that_cannot_travel_is_refused(source: str) -> None:
    with pytest.raises(InputError):
        parse_article(f"![x](<{source}>)".encode())
