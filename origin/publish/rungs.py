"""Encoding a smaller picture beside others in one pass; runs inside the media worker.

Each picture keeps its own time, so that a recording with an uneven rate stays as it is and key frames can be forced
at the very times at which the source is cut.
"""

from __future__ import annotations

from collections.abc import Collection
from fractions import Fraction
from pathlib import Path

import av
from av.filter import Graph
from av.video.frame import PictureType

from manifests.errors import InputError
from origin.publish.media_job import Rung
from origin.publish.transcode_lanes import CRF, PRESET, THREADS, pick_fps, picture_graph

_MAX_KEY_GAP_S = 20  # key frames are forced where segments begin, long before
_BUFFER_S = 2


class RungEncoder:
    """Writes one smaller picture as a plain MP4 without sound; its clock begins with the first picture shown.

    Args:
        video: the source's stream.
        rung: what to make.
        out: the file to write.
        at_s: moments of the source's clock at which key frames must stand, the first one being the beginning.
    """

    def __init__(self, video: av.VideoStream, rung: Rung, out: Path, at_s: Collection[Fraction]) -> None:
        base = video.time_base
        if base is None:
            raise InputError("its clock is odd", zh="时间基准异常")
        keys = [int(at / base) for at in at_s]
        self._begin = keys[0]
        self._keys = frozenset(keys)
        self._graph: Graph | None = None
        self._form: tuple[object, ...] = ()
        self._last = self._begin - 1
        options = {"fflags": "+bitexact", "video_track_timescale": str(base.denominator)}
        self._target = av.open(f"file:{out.resolve()}", "w", format="mp4", options=options)
        self._out = self._add_stream(video, rung, base)

    def _add_stream(self, video: av.VideoStream, rung: Rung, base: Fraction) -> av.VideoStream:
        fps = pick_fps(video.average_rate or video.guessed_rate)
        options = {
            "preset": PRESET,
            "crf": CRF,
            "profile": "high",
            "maxrate": str(rung.bps),
            "bufsize": str(rung.bps * _BUFFER_S),
            "forced-idr": "1",
        }
        out = self._target.add_stream("libx264", rate=fps, options=options)
        if not isinstance(out, av.VideoStream):
            raise TypeError("libx264 makes pictures")
        codec = out.codec_context
        source = video.codec_context
        codec.width, codec.height = rung_size(source.width, source.height, video.sample_aspect_ratio, rung.lines)
        codec.pix_fmt = "yuv420p"
        codec.gop_size = max(1, int(fps * _MAX_KEY_GAP_S))
        codec.thread_count = THREADS
        codec.time_base = base
        out.time_base = base
        return out

    def take(self, frame: av.VideoFrame) -> None:
        """Encode a picture of the source; one without a time of its own, or before the beginning, is left out."""
        at = frame.pts
        if at is None or at <= self._last:
            return
        self._last = at
        form = (frame.width, frame.height, frame.format.name)
        if self._graph is None or form != self._form:
            codec = self._out.codec_context
            steps = [f"scale={codec.width}:{codec.height}:out_range=limited", "setsar=1", "format=yuv420p"]
            self._graph, self._form = picture_graph(frame, steps), form
        self._graph.push(frame)
        small = self._graph.vpull()
        small.pts, small.time_base = at - self._begin, frame.time_base
        small.pict_type = PictureType.I if at in self._keys else PictureType.NONE
        self._target.mux(self._out.encode(small))

    def finish(self) -> None:
        """Write what the encoder still holds, and the header."""
        self._target.mux(self._out.encode(None))
        self._target.close()

    def close(self) -> None:
        """Let go of the file, whether finished or not."""
        self._target.close()


def rung_size(width: int, height: int, aspect: Fraction | None, lines: int) -> tuple[int, int]:
    """Even width and height with `lines` along the short side and square pixels."""
    wide = width * float(aspect) if aspect and 0.1 < aspect < 10 else float(width)
    scale = lines / min(wide, height)
    return max(2, round(wide * scale / 2) * 2), max(2, round(height * scale / 2) * 2)
