"""Lanes of a conversion: a stream's packets go in, packets for the new MP4 come out.

All lanes count time from the moment at which the source's clock starts, so picture and sound stay together.
"""

from __future__ import annotations

import os
from fractions import Fraction
from typing import Protocol

import av
from av.container import OutputContainer
from av.filter import Graph
from av.packet import Packet
from av.stream import Stream
from av.video.frame import PictureType

from origin.publish.media_rules import MAX_LONG_SIDE, MAX_RATE, MAX_SHORT_SIDE

CRF = "23"
PRESET = "veryfast"
MAX_FPS = 60
DEFAULT_FPS = 25
MIN_FPS = 5  # slides recorded at one picture a second would make seeking coarse
KEYFRAME_S = 4
SOUND_BPS = 128_000
# Threads cost address space, which is limited; more than these gain nothing at 1080 lines.
THREADS = min(8, os.cpu_count() or 1)


class NotCopyableError(Exception):
    """A stream that looked right cannot be copied; it never leaves the conversion."""


class Lane(Protocol):
    """One stream's way through."""

    @property
    def ready(self) -> bool:
        """The new stream's form is settled, so the target's header can be written."""
        ...

    def feed(self, packet: Packet[Stream]) -> list[Packet[Stream]]:
        """Take the next packet; InvalidDataError when it cannot be decoded."""
        ...

    def finish(self) -> list[Packet[Stream]]:
        """What is left after the last packet."""
        ...


class CopyLane:
    """Packets as they are, with their clock moved to zero."""

    ready = True

    def __init__(self, target: OutputContainer, stream: av.VideoStream | av.AudioStream, start_s: float) -> None:
        try:
            self._out: Stream = target.add_stream_from_template(stream)
        except (ValueError, av.error.FFmpegError) as error:
            raise NotCopyableError from error
        time_base = stream.time_base
        if time_base is None:
            raise NotCopyableError
        self._shift = round(start_s / time_base)
        self._is_video = isinstance(stream, av.VideoStream)
        self._begun = False
        self._last: int | None = None

    def feed(self, packet: Packet[Stream]) -> list[Packet[Stream]]:
        """Pass a packet on; what comes before the first key frame is left out."""
        self._begun = self._begun or packet.is_keyframe or not self._is_video
        if not self._begun:
            return []
        if packet.dts is None or packet.pts is None or (self._last is not None and packet.dts <= self._last):
            raise NotCopyableError
        self._last = packet.dts
        packet.dts -= self._shift
        packet.pts -= self._shift
        packet.stream = self._out
        return [packet]

    def finish(self) -> list[Packet[Stream]]:
        """Nothing is held back."""
        return []


class VideoLane:
    """Decode, turn upright, fit into 1080p, even out the rate, encode as H.264."""

    def __init__(self, target: OutputContainer, stream: av.VideoStream, start_s: float) -> None:
        self._source = stream
        self._start_s = start_s
        self._fps = pick_fps(stream.average_rate or stream.guessed_rate)
        self._target = target
        self._graph: Graph | None = None
        self._form: tuple[object, ...] = ()
        self._sent = 0
        stream.codec_context.thread_type = "AUTO"
        stream.codec_context.thread_count = THREADS
        options = {"preset": PRESET, "crf": CRF, "profile": "high"}
        out = target.add_stream("libx264", rate=self._fps, options=options)
        if not isinstance(out, av.VideoStream):
            raise TypeError("libx264 makes pictures")
        self._out = out
        codec = out.codec_context
        codec.pix_fmt = "yuv420p"
        codec.gop_size = max(1, int(self._fps * KEYFRAME_S))
        codec.thread_count = THREADS
        codec.time_base = 1 / self._fps

    @property
    def ready(self) -> bool:
        """With the first picture comes its turn, and with that the size."""
        return self._graph is not None

    def feed(self, packet: Packet[Stream]) -> list[Packet[Stream]]:
        """Decode one packet; pictures that are complete come back encoded."""
        return [made for frame in packet.decode() if isinstance(frame, av.VideoFrame) for made in self._take(frame)]

    def finish(self) -> list[Packet[Stream]]:
        """Flush decoder, filters and encoder, in this order."""
        made = [one for frame in self._source.codec_context.decode(None) for one in self._take(frame)]
        if self._graph is None:
            return made
        return [*made, *self._drain(), *self._out.encode(None)]

    def _take(self, frame: av.VideoFrame) -> list[Packet[Stream]]:
        form = (frame.width, frame.height, frame.format.name, frame.rotation)
        made: list[Packet[Stream]] = []
        if self._graph is None or form != self._form:
            made += self._drain() if self._graph is not None else []
            self._graph = self._build(frame)
            self._form = form
        if frame.pts is not None and frame.time_base:
            frame.pts -= round(self._start_s / frame.time_base)
        self._graph.push(frame)
        return [*made, *self._pull()]

    def _drain(self) -> list[Packet[Stream]]:
        if self._graph is not None:
            self._graph.push(None)
        return self._pull()

    def _pull(self) -> list[Packet[Stream]]:
        made: list[Packet[Stream]] = []
        while self._graph is not None:
            try:
                frame = self._graph.vpull()
            except (av.error.BlockingIOError, av.error.EOFError):
                break
            frame.pts, frame.time_base = self._sent, 1 / self._fps
            frame.pict_type = PictureType.NONE  # the source's choice of key frames is not ours
            self._sent += 1
            made += self._out.encode(frame)
        return made

    def _build(self, frame: av.VideoFrame) -> Graph:
        """Filters for pictures of this form; the first one also decides the size of all."""
        turn = frame.rotation % 360
        codec = self._out.codec_context
        if self._graph is None:
            width, height = fit_size(frame.width, frame.height, self._source.sample_aspect_ratio)
            codec.width, codec.height = (height, width) if turn in {90, 270} else (width, height)
        width, height = codec.width, codec.height
        steps = [
            *upright_steps(turn),
            f"scale={width}:{height}:out_range=limited",
            "setsar=1",
            "format=yuv420p",
            f"fps={self._fps}:start_time={float(self._sent / self._fps)}",
        ]
        return picture_graph(frame, steps)


class SoundLane:
    """Decode, bring to stereo of at most 48 kHz without gaps, encode as AAC."""

    ready = True

    def __init__(self, target: OutputContainer, stream: av.AudioStream, start_s: float) -> None:
        self._source = stream
        self._start_s = start_s
        rate = stream.codec_context.sample_rate
        self._rate = rate if rate in {32_000, 44_100, MAX_RATE} else MAX_RATE
        self._graph: Graph | None = None
        self._form: tuple[object, ...] = ()
        self._sent = 0
        out = target.add_stream("aac", rate=self._rate, layout="stereo")
        if not isinstance(out, av.AudioStream):
            raise TypeError("aac makes sound")
        self._out = out
        out.bit_rate = SOUND_BPS

    def feed(self, packet: Packet[Stream]) -> list[Packet[Stream]]:
        """Decode one packet; full frames come back encoded."""
        return [made for frame in packet.decode() if isinstance(frame, av.AudioFrame) for made in self._take(frame)]

    def finish(self) -> list[Packet[Stream]]:
        """Flush decoder, filters and encoder, in this order."""
        made = [one for frame in self._source.codec_context.decode(None) for one in self._take(frame)]
        if self._graph is None:
            return made
        self._graph.push(None)
        return [*made, *self._pull(), *self._out.encode(None)]

    def _take(self, frame: av.AudioFrame) -> list[Packet[Stream]]:
        form = (frame.sample_rate, frame.format.name, frame.layout.name)
        made: list[Packet[Stream]] = []
        if self._graph is None or form != self._form:
            if self._graph is not None:
                self._graph.push(None)
                made += self._pull()
            self._graph = self._build(frame)
            self._form = form
        if frame.pts is not None and frame.time_base:
            frame.pts -= round(self._start_s / frame.time_base)
        self._graph.push(frame)
        return [*made, *self._pull()]

    def _pull(self) -> list[Packet[Stream]]:
        made: list[Packet[Stream]] = []
        while self._graph is not None:
            try:
                frame = self._graph.pull()
            except (av.error.BlockingIOError, av.error.EOFError):
                break
            if isinstance(frame, av.AudioFrame):
                frame.pts, frame.time_base = self._sent, Fraction(1, self._rate)
                self._sent += frame.samples
                made += self._out.encode(frame)
        return made

    def _build(self, frame: av.AudioFrame) -> Graph:
        graph = Graph()
        node = graph.add_abuffer(
            sample_rate=frame.sample_rate,
            format=frame.format,
            layout=frame.layout,
            time_base=frame.time_base or Fraction(1, frame.sample_rate),
        )
        steps = (
            # async fills gaps and drops overlaps by the clock; first_pts pads a late start with silence.
            ("aresample", f"{self._rate}:async=1000:first_pts={self._sent}"),
            ("aformat", "sample_fmts=fltp:channel_layouts=stereo"),
            ("asetnsamples", "n=1024:p=0"),
            ("abuffersink", None),
        )
        for name, args in steps:
            following = graph.add(name, args)
            node.link_to(following)
            node = following
        graph.configure()
        return graph


def upright_steps(turn: int) -> list[str]:
    """Filters that undo a picture's turn (degrees, 0 to 359) and its interlacing, where it has any."""
    turns = {270: ["transpose=clock"], 90: ["transpose=cclock"], 180: ["hflip", "vflip"]}.get(turn, [])
    return ["yadif=deint=interlaced", *turns]


def picture_graph(frame: av.VideoFrame, steps: list[str]) -> Graph:
    """Chain filters (`name=arguments`) for pictures of this one's form."""
    graph = Graph()
    node = graph.add_buffer(
        width=frame.width, height=frame.height, format=frame.format, time_base=frame.time_base or Fraction(1, 1000)
    )
    for step in [*steps, "buffersink"]:
        name, _, args = step.partition("=")
        following = graph.add(name, args or None)
        node.link_to(following)
        node = following
    graph.configure()
    return graph


def pick_fps(rate: Fraction | None) -> Fraction:
    """A steady rate for the encoder: the source's own when it is a sensible one."""
    if rate is None or rate <= 0:
        return Fraction(DEFAULT_FPS)
    if rate > MAX_FPS:
        # A clock's resolution (1000, 90000) given as the rate is no rate.
        return Fraction(MAX_FPS) if rate <= 4 * MAX_FPS else Fraction(DEFAULT_FPS)
    return max(Fraction(MIN_FPS), rate.limit_denominator(1001))


def fit_size(width: int, height: int, aspect: Fraction | None) -> tuple[int, int]:
    """Even width and height within 1080p, lying or standing, with square pixels."""
    wide = width * float(aspect) if aspect and 0.1 < aspect < 10 else float(width)
    long, short = max(wide, height), min(wide, height)
    scale = min(1.0, MAX_LONG_SIDE / long, MAX_SHORT_SIDE / short)
    return max(2, round(wide * scale / 2) * 2), max(2, round(height * scale / 2) * 2)
