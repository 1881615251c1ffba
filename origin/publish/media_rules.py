"""What village terminals play, as rules on plain facts.

The oldest set-top boxes set the limits: H.264 of 8 bits in 4:2:0 up to 1080 lines, AAC, in a plain MP4 whose
pictures need no turning. What passes is published bit for bit; each refusal carries its reason for the plan.
"""

from __future__ import annotations

from dataclasses import dataclass

from manifests.errors import InputError
from origin.publish.mp4 import Layout

MAX_LONG_SIDE = 1920
MAX_SHORT_SIDE = 1088  # 1080 lines are coded as 1088
MAX_LEVEL = 51
MAX_RATE = 48_000
MAX_CHANNELS = 6

MAX_SOURCE_SIDE = 8192
MIN_SOURCE_SIDE = 16
MAX_DURATION_S = 24 * 3600

_PROFILES = frozenset({"Baseline", "Constrained Baseline", "Main", "High"})
_AAC_PROFILES = frozenset({"LC", "HE-AAC", "HE-AACv2"})


@dataclass(frozen=True, slots=True)
class VideoFacts:
    """One video stream; `level` is ten times H.264's level number."""

    codec: str
    profile: str
    level: int
    pix_fmt: str
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class AudioFacts:
    """One audio stream."""

    codec: str
    profile: str
    rate: int
    channels: int


@dataclass(frozen=True, slots=True)
class Fault:
    """Why something does not play as it is."""

    why: str
    zh: str


def video_fault(video: VideoFacts) -> Fault | None:
    """Why a video stream cannot be kept, or None."""
    if video.codec != "h264":
        return Fault(f"video is {video.codec}, not H.264", f"视频编码为 {video.codec}，终端只支持 H.264")
    if video.pix_fmt not in {"yuv420p", "yuvj420p"} or video.profile not in _PROFILES:
        return Fault(
            f"H.264 {video.profile} {video.pix_fmt} is beyond set-top boxes",
            f"H.264 规格过高（{video.profile}、{video.pix_fmt}），机顶盒无法解码",
        )
    if not 0 < video.level <= MAX_LEVEL:
        return Fault(f"H.264 level {video.level / 10} is beyond set-top boxes", "H.264 级别过高，机顶盒无法解码")
    if not fits_screen(video.width, video.height):
        return Fault(f"{video.width}×{video.height} is more than 1080p", "画面超过 1080p")
    return None


def audio_fault(audio: AudioFacts) -> Fault | None:
    """Why an audio stream cannot be kept, or None."""
    if audio.codec != "aac":
        return Fault(f"audio is {audio.codec}, not AAC", f"音频编码为 {audio.codec}，终端只支持 AAC")
    if audio.profile not in _AAC_PROFILES or audio.rate > MAX_RATE or audio.channels > MAX_CHANNELS:
        return Fault(
            f"AAC {audio.profile}, {audio.rate} Hz, {audio.channels} channels is beyond set-top boxes",
            "AAC 规格过高，机顶盒无法解码",
        )
    return None


def layout_fault(layout: Layout) -> tuple[Fault, bool] | None:
    """Why an MP4's boxes cannot be kept, or None; True beside it when copying the streams is enough."""
    video, audio = layout.track("vide"), layout.track("soun")
    if video is not None and video.rotated:
        return Fault("the picture is stored turned", "画面带有旋转标记，部分机顶盒会显示为横倒"), False
    if any(track.edits_odd for track in (video, audio) if track is not None):
        return Fault("it has an edit list that old players ignore", "带有剪辑表，旧播放器会忽略"), False
    if any(track.entries > 1 for track in (video, audio) if track is not None):
        return Fault("its codec changes on the way", "编码参数中途变化"), False
    if video is not None and video.codec not in {"avc1", "hvc1", "hev1", "mp4v"}:
        # avc3 and the like keep the decoder's parameters beside the pictures; copying moves them to the header.
        return Fault(f"its sample entry is {video.codec}", f"视频轨道格式为 {video.codec}"), True
    if layout.immovable:
        zh = "分段式 MP4" if layout.fragmented else "文件头无法前移"
        return Fault(f"MP4 is {layout.immovable}" if layout.fragmented else layout.immovable, zh), True
    return None


def fits_screen(width: int, height: int) -> bool:
    """Tell whether a picture is at most 1080p, lying or standing."""
    return max(width, height) <= MAX_LONG_SIDE and min(width, height) <= MAX_SHORT_SIDE


def check_figures(width: int, height: int, duration_s: float) -> None:
    """Refuse figures that no lesson has.

    Raises:
        InputError: bad data.
    """
    if min(width, height) < MIN_SOURCE_SIDE or max(width, height) > MAX_SOURCE_SIDE:
        raise InputError(f"a picture of {width}×{height} is refused", zh=f"画面尺寸异常（{width}×{height}）")
    if not 0 <= duration_s <= MAX_DURATION_S:
        raise InputError(f"a duration of {duration_s:.0f} s is refused", zh=f"时长异常（{duration_s / 3600:.1f} 小时）")
