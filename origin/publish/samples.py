"""The samples of an MP4's tracks as figures, and where its pictures can be cut into segments.

Runs inside the media worker. Only figures are kept, 33 bytes a sample: what a sample holds is read again from the
file at its place, so neither the length of a lesson nor the way its tracks are interleaved costs memory.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field
from fractions import Fraction

import av
from av.container import InputContainer

from manifests.errors import InputError
from origin.publish.mp4_boxes import Node

SEGMENT_S = 6


@dataclass(frozen=True, slots=True)
class Track:
    """One track: its header and its samples in decoding order, times in ticks of its own clock.

    Attributes:
        entry: the whole payload of its `stsd` box: how its samples are to be decoded.
        rate: ticks a second.
        at: where each sample lies in the file.
        span: ticks from each sample to the next; the last one's own length.
    """

    entry: bytes
    rate: int
    is_video: bool
    width: int = 0
    height: int = 0
    pts: array[int] = field(default_factory=lambda: array("q"))
    dts: array[int] = field(default_factory=lambda: array("q"))
    at: array[int] = field(default_factory=lambda: array("q"))
    size: array[int] = field(default_factory=lambda: array("L"))
    span: array[int] = field(default_factory=lambda: array("q"))
    key: bytearray = field(default_factory=bytearray)

    def __len__(self) -> int:
        """Samples."""
        return len(self.pts)

    @property
    def end_s(self) -> Fraction:
        """When the last of it ends, in seconds of the presentation."""
        return max((Fraction(self.pts[n] + self.span[n], self.rate) for n in self._tail()), default=Fraction(0))

    @property
    def lead_s(self) -> Fraction:
        """How long before zero its first sample is decoded."""
        return Fraction(-self.dts[0], self.rate)

    def _tail(self) -> range:
        # Pictures are shown in another order than decoded, but never over more than a few.
        return range(max(0, len(self) - 32), len(self))


def read_tracks(
    container: InputContainer, moov: Node, video: av.VideoStream, audio: av.AudioStream | None
) -> tuple[Track, Track | None]:
    """Read the figures of the two tracks of an open MP4 that is not fragmented.

    What comes before the first key frame, and sound before the beginning, is left out.

    Raises:
        InputError: bad data; a sample has no time or place, or time goes backwards.
    """
    picture = _empty(video, moov)
    sound = _empty(audio, moov) if audio is not None else None
    tracks = {video.index: picture} | ({audio.index: sound} if audio is not None and sound is not None else {})
    for packet in container.demux([container.streams[index] for index in tracks]):
        track = tracks[packet.stream_index]
        if not packet.size or (packet.is_discard and not track.is_video):
            continue
        if packet.dts is None or packet.pts is None or packet.pos is None or packet.pos < 0:
            raise InputError("a sample has no time or place", zh="样本缺少时间或位置信息")
        if (not len(track) and not packet.is_keyframe) or (not track.is_video and packet.pts < 0):
            continue
        if packet.pts < packet.dts or (len(track) and packet.dts <= track.dts[-1]):
            raise InputError("time goes backwards", zh="时间戳倒退")
        if len(track):
            track.span[-1] = packet.dts - track.dts[-1]
        track.pts.append(packet.pts)
        track.dts.append(packet.dts)
        track.at.append(packet.pos)
        track.size.append(packet.size)
        track.span.append(packet.duration or (track.span[-1] if len(track.span) else 1))
        track.key.append(packet.is_keyframe)
    if not len(picture):
        raise InputError("the video has no key frame", zh="视频没有关键帧")
    return picture, sound if sound is not None and len(sound) else None


def _empty(stream: av.VideoStream | av.AudioStream, moov: Node) -> Track:
    base = stream.time_base
    trak = [node for node in moov.children if node.kind == "trak"][stream.index]
    entry = trak.find("mdia", "minf", "stbl", "stsd")
    if base is None or base.numerator != 1 or entry is None:
        raise InputError("its clock is odd", zh="时间基准异常")
    if isinstance(stream, av.VideoStream):
        return Track(entry.data, base.denominator, True, stream.codec_context.width, stream.codec_context.height)
    return Track(entry.data, base.denominator, False)


def plan_cuts(track: Track, every_s: int = SEGMENT_S) -> list[int]:
    """Samples at which segments begin: key frames, as near to `every_s` apart as they stand.

    A picture that is shown before a key frame and comes after it (an open group) would belong to two segments, so such
    a key frame is none to cut at.
    """
    clean = _clean_keys(track)
    cuts = clean[:1]
    for before, here in zip(clean, [*clean[1:], None], strict=True):
        begun = track.pts[cuts[-1]]
        if here is None or track.pts[here] - begun < every_s * track.rate:
            continue
        over = track.pts[here] - begun - every_s * track.rate
        under = every_s * track.rate - (track.pts[before] - begun)
        cuts.append(before if before > cuts[-1] and under <= over else here)
    return cuts


def _clean_keys(track: Track) -> list[int]:
    count = len(track)
    earliest = array("q", track.pts)
    for n in range(count - 2, -1, -1):
        earliest[n] = min(earliest[n], earliest[n + 1])
    found, latest = [], track.pts[0] - 1
    for n in range(count):
        if track.key[n] and earliest[n] == track.pts[n] and latest < track.pts[n]:
            found.append(n)
        latest = max(latest, track.pts[n])
    return found or [0]
