"""What a file is, by its first bytes; its name is believed only where text has no marks of its own.

Pure on a `read(offset, size)` callable. It names the demuxer to open a media file with, so that the media library
never guesses: a playlist or a script that is named .mp4 must not be followed to other files or into the network.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from manifests.errors import InputError
from origin.publish.media_text import decode_text, is_text
from origin.publish.mp4_boxes import Read
from origin.publish.subtitles import MAX_SUBTITLE_BYTES

Kind = Literal["video", "audio", "picture", "document", "article", "subtitle"]

MAX_PICTURE_BYTES = 32 << 20
MAX_PICTURE_SIDE = 16_384
MAX_PICTURE_PIXELS = 64_000_000  # a phone's camera; more is a bomb
MAX_DOCUMENT_BYTES = 2 << 30

_HEAD_BYTES = 4096
_ARTICLE_SUFFIXES = frozenset({"", ".md", ".markdown", ".txt"})
_SUBTITLE_SUFFIXES = frozenset({"", ".srt", ".vtt", ".txt"})
_SRT_START = re.compile(r"\s*\d+[ \t]*\n[ \t]*\d{1,3}:\d{2}:\d{2}[,.]\d{1,3}[ \t]*-->")
_QUICKTIME_BOXES = frozenset({b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot"})


@dataclass(frozen=True, slots=True)
class Guess:
    """What the first bytes say.

    Attributes:
        kind: "video" stands for any media container here; its streams decide later.
        media_type: final for pictures, documents and text.
        demuxer: FFmpeg's name of the container; empty for what is no media container.
        width: of a picture.
        height: of a picture.
    """

    kind: Kind
    media_type: str
    demuxer: str = ""
    width: int = 0
    height: int = 0


def recognise(read: Read, size: int, suffix: str) -> Guess:
    """Tell what a file of `size` bytes is; `suffix` is its name's, in lower case with the dot.

    Raises:
        InputError: bad data: empty, unknown, cut off, too big to be shown, or text under a media name.
    """
    if size == 0:
        raise InputError("the file is empty", zh="文件是空的（0 字节）")
    head = read(0, _HEAD_BYTES)
    picture = _picture(head, read, size)
    if picture is not None:
        return picture
    if b"%PDF-" in head[:1024]:
        return _document(read, size)
    demuxer = _demuxer(head)
    if demuxer:
        return Guess("audio" if demuxer in {"mp3", "aac", "flac", "wav"} else "video", "", demuxer)
    if is_text(head):
        return _text(read, size, suffix)
    raise InputError(
        "this is no kind of file that can be published (video, audio, picture, PDF, Markdown, subtitles)",
        zh="无法识别的文件类型：仅支持视频、音频、图片、PDF、Markdown 图文和字幕",
    )


def _demuxer(head: bytes) -> str:
    signatures = (
        (b"\x1a\x45\xdf\xa3", "matroska"),
        (b"FLV\x01", "flv"),
        (bytes.fromhex("3026b2758e66cf11"), "asf"),
        (b"OggS", "ogg"),
        (b"fLaC", "flac"),
        (b"\x00\x00\x01\xba", "mpeg"),
        (b"\x00\x00\x01\xb3", "mpegvideo"),
        (b".RMF", "rm"),
        (b"ID3", "mp3"),
    )
    if head[4:8] == b"ftyp" or head[4:8] in _QUICKTIME_BOXES:
        return "mp4"
    if head[:4] == b"RIFF":
        return {b"AVI ": "avi", b"WAVE": "wav"}.get(head[8:12], "")
    for start, step in ((0, 188), (4, 192)):  # plain transport stream; M2TS with its time stamps
        if head[start::step][:4] == b"GGGG":
            return "mpegts"
    if len(head) > 1 and head[0] == 0xFF and head[1] & 0xE0 == 0xE0 and not is_text(head):
        return "aac" if head[1] & 0xF6 == 0xF0 else "mp3"
    return next((name for mark, name in signatures if head.startswith(mark)), "")


def _document(read: Read, size: int) -> Guess:
    if size > MAX_DOCUMENT_BYTES:
        raise InputError(f"a PDF of {size} bytes is refused: at most {MAX_DOCUMENT_BYTES}", zh="PDF 文件过大")
    if b"%%EOF" not in read(max(0, size - 4096), 4096):
        raise InputError("the PDF is truncated: its end mark is missing", zh="PDF 文件不完整（被截断），请重新拷贝")
    return Guess("document", "application/pdf")


def _text(read: Read, size: int, suffix: str) -> Guess:
    text = decode_text(read(0, min(size, MAX_SUBTITLE_BYTES + 1)), most=MAX_SUBTITLE_BYTES)
    if text.lstrip("\ufeff").startswith(("#EXTM3U", "ffconcat")):
        raise InputError(
            "this is a playlist: it only names other files; hand in the recording itself",
            zh="这是播放列表，不是课件本身，请提交视频文件",
        )
    if text.startswith("WEBVTT") or _SRT_START.match(text):
        if suffix in _SUBTITLE_SUFFIXES:
            return Guess("subtitle", "text/vtt")
    elif suffix in _ARTICLE_SUFFIXES:
        return Guess("article", "text/markdown")
    raise InputError(
        f"this is text, not what its name {suffix!r} says",
        zh=f"文件内容是纯文本，与扩展名 {suffix} 不符，不是可用的课件文件",
    )


def _picture(head: bytes, read: Read, size: int) -> Guess | None:
    found: tuple[str, int, int] | None = None
    whole = True
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        found = ("image/png", int.from_bytes(head[16:20], "big"), int.from_bytes(head[20:24], "big"))
        whole = b"IEND" in read(max(0, size - 64), 64)
    elif head.startswith(b"\xff\xd8\xff"):
        width, height, at = _jpeg_frame(read)
        found = ("image/jpeg", width, height)
        # Anywhere behind the frame header: phones append a short film or a second picture to the first.
        whole = size > MAX_PICTURE_BYTES or b"\xff\xd9" in read(at, size - at)
    elif head.startswith((b"GIF87a", b"GIF89a")):
        found = ("image/gif", int.from_bytes(head[6:8], "little"), int.from_bytes(head[8:10], "little"))
        whole = b"\x3b" in read(max(0, size - 64), 64)
    elif head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        found = ("image/webp", *_webp_size(head))
        whole = int.from_bytes(head[4:8], "little") + 8 <= size
    if found is None:
        return None
    media_type, width, height = found
    if not whole or not width or not height:
        raise InputError("the picture is truncated or damaged", zh="图片不完整或已损坏，请重新导出")
    if size > MAX_PICTURE_BYTES or max(width, height) > MAX_PICTURE_SIDE or width * height > MAX_PICTURE_PIXELS:
        raise InputError(
            f"a picture of {width}×{height} pixels and {size} bytes is refused: terminals cannot show it",
            zh=f"图片过大（{width}×{height} 像素），终端无法显示，请缩小后再试",
        )
    return Guess("picture", media_type, "", width, height)


def _jpeg_frame(read: Read) -> tuple[int, int, int]:
    """Width, height, and where the frame header is; zeros when there is none."""
    at = 2
    for _ in range(200):  # segments before the frame header: EXIF, colour profile, thumbnails
        head = read(at, 9)
        if len(head) < 9 or head[0] != 0xFF:
            break
        marker = head[1]
        if marker == 0xFF:
            at += 1
        elif 0xC0 <= marker <= 0xCF and marker not in {0xC4, 0xC8, 0xCC}:
            return int.from_bytes(head[7:9], "big"), int.from_bytes(head[5:7], "big"), at
        else:
            at += 2 + int.from_bytes(head[2:4], "big")
    return 0, 0, 0


def _webp_size(head: bytes) -> tuple[int, int]:
    form = head[12:16]
    if form == b"VP8X":
        return int.from_bytes(head[24:27], "little") + 1, int.from_bytes(head[27:30], "little") + 1
    if form == b"VP8L":
        bits = int.from_bytes(head[21:25], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if form == b"VP8 ":
        return int.from_bytes(head[26:28], "little") & 0x3FFF, int.from_bytes(head[28:30], "little") & 0x3FFF
    return 0, 0
