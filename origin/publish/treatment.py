"""What becomes of each file of a courseware, decided from what was found in it. Pure: the plan that --dry-run prints.

Rules. What terminals play is kept bit for bit. An MP4 whose header is at the end has it moved to the front; it is its
own original, because nothing can be learned from the file as it was handed in that this one does not tell: picture,
sound and tags are the same bytes, only the offsets in the header follow the move. What terminals do not play is
transcoded, text in another encoding is converted, and then what was handed in is kept beside it. A file's stable name
is its own name; only its suffix follows when its kind of content changes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path, PurePath
from typing import assert_never

from manifests.errors import InputError
from manifests.model import MAX_FILES, Kind, Role
from manifests.names import parse_file_name
from manifests.streams import AUDIO, PLAYLIST_TYPE, rendition_name
from origin.publish.articles import Article, check_pictures
from origin.publish.ladder import Ladder, StreamsPlan, plan_streams
from origin.publish.media_job import Probe
from origin.publish.request import Headline, language_of
from origin.publish.source import Source

POSTER = "poster.jpg"
# Guesses for a promise: what these come to on a line is known when they are made, and is little.
_PLAYLIST_BYTES = 64 * 1024
_PATCH_BYTES = 256 * 1024


class Treatment(StrEnum):
    """What is done to a file."""

    KEEP = "keep"
    FASTSTART = "faststart"
    TRANSCODE = "transcode"
    CONVERT = "convert"
    POSTER = "poster"
    RENDITION = "rendition"
    PLAYLIST = "playlist"


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found in one file that was handed in, with the sources that it can be read by.

    Attributes:
        original: the file, bit for bit.
        moved: the same with its header in front; None when that is not needed.
        converted: its text in UTF-8 or WebVTT; None when it is that already, or no text.
        article: its text, when it is one.
    """

    path: Path
    probe: Probe
    original: Source
    moved: Source | None = None
    converted: Source | None = None
    article: Article | None = None


@dataclass(frozen=True, slots=True)
class FilePlan:
    """One file of the courseware to be.

    Attributes:
        made_from: number of the finding that it is made from.
        size: bytes; 0 when a worker must make them first.
        keeps_original: what was handed in is kept beside it.
        expected: about so many bytes on a line, where that is not `size`; 0: it is.
    """

    name: str
    role: Role
    media_type: str
    treatment: Treatment
    reason: str
    reason_zh: str
    made_from: int
    size: int
    keeps_original: bool = False
    language: str = ""
    expected: int = 0


@dataclass(frozen=True, slots=True)
class PublishPlan:
    """A courseware to be, as far as it is known before anything is made: plain values, printable as they are.

    Attributes:
        streams: what its videos play as HLS by.
    """

    headline: Headline
    kind: Kind
    duration_s: float
    files: tuple[FilePlan, ...]
    streams: tuple[StreamsPlan, ...] = ()

    @property
    def all_files(self) -> tuple[FilePlan, ...]:
        """Those that are made of what was handed in, then the streams made of those."""
        return (*self.files, *(file for plan in self.streams for file in _stream_files(plan)))

    @property
    def notes(self) -> tuple[tuple[str, str], ...]:
        """What a person should know beside, in both languages."""
        return tuple(
            (f"{plan.video} does not play as HLS: {plan.why_not[0]}", f"{plan.video} 不提供 HLS：{plan.why_not[1]}")
            for plan in self.streams
            if plan.why_not[0]
        )

    def lines(self) -> list[str]:
        """The plan for people, a line per file."""
        return [
            f"{file.name} [{file.role}] {file.treatment}: {file.reason_zh} / {file.reason}" for file in self.all_files
        ]


def plan_publish(headline: Headline, findings: Sequence[Finding], ladder: Ladder | None = None) -> PublishPlan:
    """Decide what each file becomes.

    Args:
        headline: the checked words.
        findings: one for each file that was handed in.
        ladder: smaller pictures for videos that are large; None: no video plays as HLS.

    Raises:
        InputError: bad data; nothing to learn from, two files of one name, or a picture that is referred to is
            missing.
    """
    kind = _kind(findings)
    files = [_treat(finding, n) for n, finding in enumerate(findings)]
    pictures = {file.name for file in files if file.role == "picture"}
    for finding in findings:
        if finding.article is not None:
            check_pictures(finding.article, pictures)
    if kind == "video":
        files = _with_poster(files)
    duration_s = sum(finding.probe.duration_s for finding in findings)
    streams: tuple[StreamsPlan, ...] = ()
    if ladder is not None:
        videos = (file for file in files if file.role == "video")
        streams = tuple(plan_streams(one.name, one.made_from, findings[one.made_from].probe, ladder) for one in videos)
    plan = PublishPlan(headline, kind, duration_s, tuple(files), streams)
    _check_names(plan.all_files)
    return plan


def _stream_files(plan: StreamsPlan) -> list[FilePlan]:
    """The streams of one video as files, which are made when it is published."""
    files = []
    for name in plan.names:
        is_playlist = name.endswith(".m3u8")
        label = next((one for one in plan.labels if name == rendition_name(plan.video, one)), "")
        files.append(
            FilePlan(
                name=name,
                role="playlist" if is_playlist else "rendition",
                media_type=PLAYLIST_TYPE if is_playlist else "audio/mp4" if label == AUDIO else "video/mp4",
                treatment=Treatment.PLAYLIST if is_playlist else Treatment.RENDITION,
                reason=f"plays {plan.video} as HLS" if is_playlist else _why(plan, label)[0],
                reason_zh=f"{plan.video} 的 HLS 播放列表" if is_playlist else _why(plan, label)[1],
                made_from=plan.made_from,
                size=0,
                expected=_PLAYLIST_BYTES if is_playlist else plan.expected_bytes(label) or _PATCH_BYTES,
            )
        )
    return files


def _why(plan: StreamsPlan, label: str) -> tuple[str, str]:
    if label == plan.label:
        return f"{plan.video} in segments; an edge builds it by a patch", f"{plan.video} 的分段版本，边缘端由补丁生成"
    if label == AUDIO:
        return f"the sound of {plan.video} alone", f"{plan.video} 的纯音频版本"
    return f"{plan.video} smaller, for thin lines", f"{plan.video} 的低码率版本，供带宽不足时使用"


def _kind(findings: Sequence[Finding]) -> Kind:
    """The most telling of its files decides: a lesson with slides is a video, not a document."""
    kinds = {finding.probe.kind for finding in findings}
    if "video" in kinds:
        return "video"
    if "audio" in kinds:
        return "recording"
    if "article" in kinds:
        return "article"
    if "document" in kinds:
        return "document"
    raise InputError(
        "there is nothing to learn from: neither video, sound, article nor document",
        zh="没有可学习的内容：至少需要一个视频、音频、图文或文档",
    )


def source_of(plan: FilePlan, finding: Finding) -> Source | None:
    """The bytes of a planned file; None when a worker must make them first."""
    match plan.treatment:
        case Treatment.KEEP:
            return finding.original
        case Treatment.FASTSTART:
            return finding.moved
        case Treatment.CONVERT:
            return finding.converted
        case Treatment.TRANSCODE | Treatment.POSTER | Treatment.RENDITION | Treatment.PLAYLIST:
            return None
    assert_never(plan.treatment)


def _treat(finding: Finding, number: int) -> FilePlan:
    probe = finding.probe
    kept = FilePlan(
        name=parse_file_name(finding.path.name),
        role=probe.kind,
        media_type=probe.media_type,
        treatment=Treatment.KEEP,
        reason="terminals play it as it is, kept bit for bit",
        reason_zh="终端可直接播放，原样保留",
        made_from=number,
        size=finding.original.size,
        language=language_of(finding.path.name) if probe.kind == "subtitle" else "",
    )
    if not probe.plays:
        return _transcoded(kept, finding)
    if finding.moved is not None:
        return replace(
            kept,
            treatment=Treatment.FASTSTART,
            reason="its header is moved to the front so that it starts at once; picture and sound stay bit for bit",
            reason_zh="文件头移到最前以便立即播放，音视频数据不变",
            size=finding.moved.size,
        )
    if finding.converted is not None:
        return _converted(kept, finding.converted.size)
    return kept


def _transcoded(kept: FilePlan, finding: Finding) -> FilePlan:
    is_video = finding.probe.kind == "video"
    return replace(
        kept,
        name=_with_suffix(kept.name, ".mp4" if is_video else ".m4a"),
        media_type="video/mp4" if is_video else "audio/mp4",
        treatment=Treatment.TRANSCODE,
        reason=finding.probe.reason,
        reason_zh=finding.probe.reason_zh,
        size=0,
        keeps_original=True,
    )


def _converted(kept: FilePlan, size: int) -> FilePlan:
    is_subtitle = kept.role == "subtitle"
    return replace(
        kept,
        name=_with_suffix(kept.name, ".vtt") if is_subtitle else kept.name,
        treatment=Treatment.CONVERT,
        reason="subtitles become WebVTT in UTF-8" if is_subtitle else "text becomes UTF-8",
        reason_zh="字幕转换为 UTF-8 编码的 WebVTT" if is_subtitle else "文本转换为 UTF-8 编码",
        size=size,
        keeps_original=True,
    )


def _with_suffix(name: str, suffix: str) -> str:
    return parse_file_name(name if name.lower().endswith(suffix) else PurePath(name).stem + suffix)


def _with_poster(files: list[FilePlan]) -> list[FilePlan]:
    """Take the picture named poster as the video's poster, or have one made."""
    for n, file in enumerate(files):
        if file.role == "picture" and PurePath(file.name).stem.lower() == "poster":
            return [*files[:n], replace(file, role="poster"), *files[n + 1 :]]
    video = next(file for file in files if file.role == "video")
    poster = replace(
        video,
        name=POSTER,
        role="poster",
        media_type="image/jpeg",
        treatment=Treatment.POSTER,
        reason=f"a picture out of {video.name}",
        reason_zh=f"取自 {video.name} 的封面",
        size=0,
        keeps_original=False,
    )
    return [*files, poster]


def _check_names(files: Sequence[FilePlan]) -> None:
    counts = Counter(file.name.casefold() for file in files)
    for file in files:
        if counts[file.name.casefold()] > 1:
            raise InputError(
                f"two files of this courseware would be named {file.name!a}",
                zh=f"课件中有两个文件都叫 {file.name}",
                hint="give each file a name of its own; upper and lower case are the same here",
                hint_zh="请给每个文件取不同的名字（不区分大小写）",
            )
    if len(files) > MAX_FILES:
        raise InputError(f"{len(files)} files are refused: at most {MAX_FILES}", zh=f"文件过多，最多 {MAX_FILES} 个")
