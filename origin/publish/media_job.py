"""What the origin and its media worker say to each other: one job in, lines of messages out, JSON both ways.

Values only, so that the worker process loads little beside the media library.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from msgspec import Struct

from origin.publish.media_kinds import Kind


@dataclass(frozen=True, slots=True)
class Probe:
    """What is known of one file that was handed in.

    Attributes:
        media_type: of the file as it is; after `transcode` it is video/mp4 or audio/mp4.
        duration_s: 0.0 where it has none or does not say.
        plays: terminals play or show it as it is (an MP4 may still want its header moved to the front).
        faststart: an MP4 whose header comes first; True for all that is no MP4.
        max_keyframe_gap_s: longest stretch of an MP4 without a key frame, 0.0 when unknown.
        remux: only the container is wrong, so the streams can be copied.
        reason: why it does not play as it is; empty when it does.
        reason_zh: the same in Chinese.
    """

    kind: Kind
    media_type: str
    duration_s: float = 0.0
    width: int = 0
    height: int = 0
    bitrate_bps: int = 0
    video_codec: str = ""
    audio_codec: str = ""
    plays: bool = True
    faststart: bool = True
    max_keyframe_gap_s: float = 0.0
    remux: bool = False
    reason: str = ""
    reason_zh: str = ""


class Rung(Struct, frozen=True):
    """One smaller picture to make: its lines, and the most bits a second that it may take."""

    lines: int
    bps: int

    @property
    def label(self) -> str:
        """As in the names of its files."""
        return f"{self.lines}p"


class Rendition(Struct, frozen=True):
    """One rendition that was made: `LABEL.mp4` and `LABEL.m3u8` in the job's directory.

    Attributes:
        is_copy: its streams are the source's own, bit for bit.
        codecs: as in RFC 6381.
        fps: numerator and denominator; 0 over 1 for sound alone.
    """

    label: str
    is_copy: bool
    size: int
    duration_s: float
    peak_bps: int
    average_bps: int
    codecs: str
    width: int = 0
    height: int = 0
    fps: tuple[int, int] = (0, 1)


class Job(Struct, frozen=True):
    """One task for a worker process.

    Attributes:
        out: the file to write; for `renditions` and `frames` the directory, which is there.
        rungs: smaller pictures to make beside the source's own.
        name: of the video whose renditions they are: playlists name files after it.
        label: of the rendition with the source's own streams.
        memory_bytes: limit of its address space.
        cpu_s: limit of its processor time, should the origin no longer be there to stop it.
        count: of `frames`.
    """

    task: Literal["probe", "transcode", "poster", "frames", "renditions"]
    path: str
    out: str
    memory_bytes: int
    cpu_s: int
    rungs: tuple[Rung, ...] = ()
    name: str = ""
    label: str = ""
    count: int = 0


class Advanced(Struct, frozen=True, tag="advanced"):
    """So many bytes of so many are done."""

    done: int
    total: int


class Finished(Struct, frozen=True, tag="finished"):
    """The job is done; `probe` is there when it was a probe, `renditions` when those were made."""

    probe: Probe | None = None
    renditions: tuple[Rendition, ...] = ()


class Refused(Struct, frozen=True, tag="refused"):
    """The file is refused: an InputError on the other side."""

    message: str
    zh: str
    hint: str = ""
    hint_zh: str = ""


class Unstored(Struct, frozen=True, tag="unstored"):
    """The output could not be written: a StorageError on the other side."""

    code: int
    message: str


class Broken(Struct, frozen=True, tag="broken"):
    """A fault of our own."""

    message: str


Message = Advanced | Finished | Refused | Unstored | Broken
