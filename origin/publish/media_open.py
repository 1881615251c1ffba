"""Opening a media file inside the worker process, with the doors shut that a hostile file would try.

The demuxer is named from the first bytes instead of guessed, only local files may be read, and an MP4's own header
is checked before the media library sees it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import av
from av.container import InputContainer
from av.stream import Disposition

from manifests.errors import InputError
from origin.publish.media_kinds import Guess, recognise
from origin.publish.media_rules import AudioFacts, VideoFacts
from origin.publish.mp4 import Layout, read_layout
from origin.publish.mp4_boxes import Read, damaged

_SOUND_CONTAINERS = frozenset({"mp3", "aac", "flac", "wav", "ogg"})
_SOUND_BRANDS = frozenset({"M4A ", "M4B "})
MAX_STREAMS = 64


@dataclass(frozen=True, slots=True)
class Opened:
    """A media file, open, with the streams that a lesson is made of.

    Attributes:
        layout: the boxes of an MP4, None for other containers.
        main: the picture, or the sound where there is no picture.
    """

    container: InputContainer
    guess: Guess
    size: int
    layout: Layout | None
    video: av.VideoStream | None
    audio: av.AudioStream | None
    main: av.VideoStream | av.AudioStream

    @property
    def duration_s(self) -> float:
        """The header's figure, or FFmpeg's estimate; 0.0 when unknown."""
        if self.layout is not None and self.layout.duration_s:
            return self.layout.duration_s
        return max(0.0, (self.container.duration or 0) / av.time_base)

    @property
    def start_s(self) -> float:
        """Where the file's clock begins; transport streams begin anywhere."""
        return (self.container.start_time or 0) / av.time_base


def recognise_file(path: Path) -> tuple[Guess, bytes]:
    """What a file is; the bytes of text come with it.

    Raises:
        InputError: bad data.
    """
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        guess = recognise(_reader(file.fileno()), size, path.suffix.lower())
        return guess, file.read() if guess.kind in {"article", "subtitle"} else b""


@contextmanager
def open_media(path: Path, guess: Guess) -> Iterator[Opened]:
    """Open a file that was recognised as a media container.

    Raises:
        InputError: bad data: truncated, damaged, encrypted, or with nothing to see or hear.
    """
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        layout = check_container(_reader(file.fileno()), size, guess)
    options = {"protocol_whitelist": "file"}
    # `file:` in front, so that no name is taken for an address.
    with av.open(f"file:{path.resolve()}", "r", format=guess.demuxer, options=options) as container:
        yield _select(container, guess, size, layout)


def check_container(read: Read, size: int, guess: Guess) -> Layout | None:
    """Check a container's own figures against the file's length; returns the boxes of an MP4."""
    if guess.demuxer in {"avi", "wav"}:
        declared = int.from_bytes(read(4, 4), "little") + 8
        if declared > size and declared < 0xFFFFFFF0:  # programs that stream leave it at the highest number
            raise InputError(
                f"the file is truncated: it declares {declared} bytes and has {size}",
                zh="文件不完整（被截断），请重新拷贝或重新导出后再试",
            )
    if guess.demuxer != "mp4":
        return None
    layout = read_layout(read, size)
    if any(track.codec in {"encv", "enca", "drmi", "drms"} for track in layout.tracks):
        raise InputError("the recording is encrypted (DRM)", zh="视频已加密（DRM），无法发布")
    if any(track.external for track in layout.tracks):
        raise damaged("its samples are in another file", "画面数据在另一个文件中")
    return layout


def video_facts(stream: av.VideoStream) -> VideoFacts:
    """What the rules need to know of a video stream."""
    codec = stream.codec_context
    return VideoFacts(
        codec=codec.codec.canonical_name,
        profile=str(codec.profile or ""),
        level=int(codec.level or 0),
        pix_fmt=str(codec.pix_fmt or ""),
        width=codec.width,
        height=codec.height,
    )


def audio_facts(stream: av.AudioStream) -> AudioFacts:
    """What the rules need to know of an audio stream."""
    codec = stream.codec_context
    return AudioFacts(codec.codec.canonical_name, str(codec.profile or ""), codec.sample_rate, codec.layout.nb_channels)


def _select(container: InputContainer, guess: Guess, size: int, layout: Layout | None) -> Opened:
    if len(container.streams) > MAX_STREAMS:
        raise InputError(f"{len(container.streams)} streams are refused", zh="轨道数过多")
    video = next((one for one in container.streams.video if not one.disposition & Disposition.attached_pic), None)
    audio = next(iter(container.streams.audio), None)
    main = video or audio
    if main is None:
        raise InputError("the file holds neither picture nor sound", zh="文件中没有画面也没有声音")
    is_sound_file = guess.demuxer in _SOUND_CONTAINERS or (layout is not None and layout.brand in _SOUND_BRANDS)
    if video is None and not is_sound_file:
        raise InputError(
            "the file has no video stream",
            zh="文件中没有视频画面",
            hint="save a sound recording as .mp3 or .m4a and hand that in",
            hint_zh="如果是录音，请另存为 MP3 或 M4A 后再提交",
        )
    return Opened(container, guess, size, layout, video, audio, main)


def _reader(descriptor: int) -> Read:
    def read(at: int, count: int) -> bytes:
        return os.pread(descriptor, count, at)

    return read
