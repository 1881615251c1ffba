"""Renditions of one video, made inside the media worker: one fragmented MP4 and one playlist each.

The largest is the video's own streams in another container. Smaller ones are encoded from its pictures, all in one
pass, with key frames forced at the very moments at which the largest is cut, and carry its sound as it is; so a player
may change from any to any at each segment.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av

from manifests.errors import InputError
from manifests.streams import AUDIO, rendition_name
from origin.publish.fragments import Lane, lane_of, write_fragments
from origin.publish.media_job import Job, Rendition, Rung
from origin.publish.media_open import Opened, open_media, recognise_file
from origin.publish.playlists import average_bps, media_playlist, peak_bps
from origin.publish.rungs import RungEncoder
from origin.publish.samples import Track, plan_cuts, read_tracks

Advance = Callable[[int, int], None]
"""Called with bytes done and bytes in all."""

_AAC = {"HE-AAC": "mp4a.40.5", "HE-AACv2": "mp4a.40.29"}


@dataclass(frozen=True, slots=True)
class _Source:
    """The open video, as all of its renditions need it."""

    opened: Opened
    descriptor: int
    picture: Track
    sound: Track | None
    at_s: tuple[Fraction, ...]

    @property
    def video(self) -> av.VideoStream:
        if self.opened.video is None:
            raise InputError("the file has no video stream", zh="文件中没有视频画面")
        return self.opened.video

    @property
    def sound_codec(self) -> str:
        audio = self.opened.audio
        return _AAC.get(str(audio.codec_context.profile or ""), "mp4a.40.2") if audio is not None else ""

    def lane(self, track: Track, shift_s: Fraction) -> Lane:
        return lane_of(track, self.descriptor, self.at_s, shift_s, Fraction(0))


def write_renditions(path: Path, job: Job, advance: Advance) -> list[Rendition]:
    """Write the renditions of a playable MP4 into the job's directory, largest picture first, sound alone last.

    Raises:
        InputError: bad data; it cannot be read or decoded.
        OSError: environment; the directory cannot be written to.
    """
    with _opened(path) as source, ExitStack() as stack:
        size = source.opened.size
        steps = 2 + len(job.rungs)  # each rendition goes once through all bytes, more or less

        def told(step: int, weight: int = 1) -> Callable[[int], None]:
            return lambda done: advance(step * size + weight * min(done, size), steps * size)

        smaller = _encode_rungs(source, job, told(0, len(job.rungs)), stack) if job.rungs else []
        # One shift for all: see `fragments`.
        shift_s = max(Fraction(0), source.picture.lead_s, *(one.picture.lead_s - source.at_s[0] for one in smaller))
        sound = [source.lane(source.sound, shift_s)] if source.sound is not None else []
        own = [source.lane(source.picture, shift_s), *sound]
        found = [_write(source, job, job.label, own, source.video, told(steps - 2))]
        for one in smaller:
            lane = _lane_of_rung(source, one, shift_s)
            found.append(_write(source, job, one.rung.label, [lane, *sound], one.video, _silent))
        if sound:
            found.append(_write(source, job, AUDIO, sound, None, told(steps - 1)))
        advance(steps * size, steps * size)
    return found


@contextmanager
def _opened(path: Path) -> Iterator[_Source]:
    guess, _ = recognise_file(path)
    with open_media(path, guess) as opened, path.open("rb") as file:
        video, layout = opened.video, opened.layout
        if video is None or layout is None or layout.fragmented:
            raise InputError(
                "renditions are made of a plain MP4 with a picture", zh="只能从普通 MP4 视频生成多码率版本"
            )
        picture, sound = read_tracks(opened.container, layout.moov, video, opened.audio)
        at_s = tuple(Fraction(picture.pts[n], picture.rate) for n in plan_cuts(picture))
        yield _Source(opened, file.fileno(), picture, sound, at_s)


@dataclass(frozen=True, slots=True)
class _Encoded:
    """A smaller picture, encoded and open again."""

    rung: Rung
    descriptor: int
    picture: Track
    video: av.VideoStream


def _encode_rungs(source: _Source, job: Job, advance: Callable[[int], None], stack: ExitStack) -> list[_Encoded]:
    """Encode all smaller pictures in one pass; their files are gone when the stack unwinds."""
    encoders: list[tuple[Rung, Path, RungEncoder]] = []
    for rung in job.rungs:
        work = Path(job.out, f"{rung.label}.work")
        stack.callback(work.unlink, missing_ok=True)
        encoder = RungEncoder(source.video, rung, work, source.at_s)
        stack.callback(encoder.close)
        encoders.append((rung, work, encoder))
    _encode(source, [encoder for _, _, encoder in encoders], advance)
    found = []
    for rung, work, _ in encoders:
        guess, _ = recognise_file(work)
        opened = stack.enter_context(open_media(work, guess))
        file = stack.enter_context(work.open("rb"))
        if opened.video is None or opened.layout is None:
            raise InputError("its pictures could not be encoded", zh="画面无法重新编码")
        picture, _ = read_tracks(opened.container, opened.layout.moov, opened.video, None)
        found.append(_Encoded(rung, file.fileno(), picture, opened.video))
    return found


def _lane_of_rung(source: _Source, one: _Encoded, shift_s: Fraction) -> Lane:
    try:
        return lane_of(one.picture, one.descriptor, source.at_s, shift_s, source.at_s[0])
    except ValueError as error:
        raise InputError(
            f"a picture of {one.rung.lines} lines cannot be cut where the source is: pictures are missing there",
            zh="分段处画面无法解码，无法生成多码率版本",
            hint="publish it with --no-hls, or export the recording again",
            hint_zh="请加 --no-hls 发布，或重新导出该视频",
        ) from error


def _encode(source: _Source, encoders: Sequence[RungEncoder], advance: Callable[[int], None]) -> None:
    """Decode all pictures once, and give each to all encoders."""
    container, video = source.opened.container, source.video
    container.seek(0)
    bad = packets = 0
    for packet in container.demux(video):
        packets += 1
        try:
            frames = packet.decode()
        except av.error.InvalidDataError:
            bad += 1
            continue
        for frame in frames:
            for encoder in encoders:
                encoder.take(frame)
        advance(packet.pos or 0)
    if bad > max(3, packets // 10):
        raise InputError(f"{bad} of {packets} packets cannot be decoded", zh="视频损坏严重，大部分内容无法解码")
    for encoder in encoders:
        encoder.finish()


def _write(
    source: _Source,
    job: Job,
    label: str,
    lanes: Sequence[Lane],
    video: av.VideoStream | None,
    advance: Callable[[int], None],
) -> Rendition:
    """Write one rendition and its playlist."""
    out = Path(job.out)
    made = write_fragments(out / f"{label}.mp4", lanes, source.at_s, advance)
    (out / f"{label}.m3u8").write_text(media_playlist(rendition_name(job.name, label), made), "utf-8")
    has_sound = video is None or len(lanes) > 1
    codecs = [_video_codec(video)] if video is not None else []
    fps = (source.video.average_rate or Fraction(0)) if video is not None else Fraction(0)
    return Rendition(
        label=label,
        is_copy=video is None or video is source.video,
        size=made.size,
        duration_s=round(float(made.duration_s), 3),
        peak_bps=peak_bps(made),
        average_bps=average_bps(made),
        codecs=",".join([*codecs, *([source.sound_codec] if has_sound else [])]),
        width=video.codec_context.width if video is not None else 0,
        height=video.codec_context.height if video is not None else 0,
        fps=(fps.numerator, fps.denominator),
    )


def _video_codec(video: av.VideoStream) -> str:
    """Profile, constraints and level out of the decoder's configuration (ISO/IEC 14496-15 section 5.3.3.1)."""
    configuration = bytes(video.codec_context.extradata or b"")
    if len(configuration) < 4 or configuration[0] != 1:
        raise InputError("the video's decoder configuration is missing", zh="缺少视频解码参数")
    return f"avc1.{configuration[1:4].hex()}"


def _silent(_done: int) -> None:
    """What is copied in a moment needs no progress."""
