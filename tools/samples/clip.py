"""Encoding scenes as lessons that terminals play, and cutting the beginning off a finished one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av

from tools.samples.canvas import Canvas
from tools.samples.sound import tune

Progress = Callable[[str, int, int], None]
"""Called with the name of what is made, steps done and steps in all."""

WIDTH, HEIGHT = 640, 360
KEYFRAME_S = 2


@dataclass(frozen=True, slots=True)
class Scene:
    """A moving picture.

    Attributes:
        draw: the picture at a moment, in seconds from the start.
        bps: bits per second of the picture.
    """

    name: str
    seconds: int
    fps: int
    bps: int
    seed: int
    draw: Callable[[float], Canvas]


def record(scene: Scene, path: Path, progress: Progress) -> None:
    """Encode a scene as H.264 and AAC, picture and sound interleaved, header first."""
    options = {"movflags": "+faststart", "fflags": "+bitexact"}
    total = scene.seconds * scene.fps
    with av.open(str(path), "w", format="mp4", options=options) as target:
        picture = _add_picture(target, scene)
        sound = target.add_stream("aac", rate=48_000, options={"aac_coder": "fast"}, layout="stereo")
        frames = tune(scene.seed, scene.seconds)
        for n in range(total):
            frame = scene.draw(n / scene.fps).frame()
            frame.pts, frame.time_base = n, Fraction(1, scene.fps)
            target.mux(picture.encode(frame))
            for heard in frames:
                target.mux(sound.encode(heard))
                if float(heard.pts or 0) / 48_000 > n / scene.fps:
                    break
            if n % scene.fps == 0:
                progress(scene.name, n, total)
        for rest in frames:
            target.mux(sound.encode(rest))
        target.mux(picture.encode(None))
        target.mux(sound.encode(None))
    progress(scene.name, total, total)


def cut_beginning(path: Path, out: Path, start_s: float) -> float:
    """Copy a clip from its first key frame at or after `start_s` on; not a bit of what stays changes.

    Returns:
        The moment of the cut, in seconds.
    """
    options = {"movflags": "+faststart", "fflags": "+bitexact"}
    with av.open(str(path)) as source, av.open(str(out), "w", format="mp4", options=options) as target:
        lanes = {stream.index: target.add_stream_from_template(stream) for stream in source.streams}
        cut: Fraction | None = None
        for packet in source.demux():
            if packet.dts is None or packet.pts is None:
                continue
            now = packet.pts * packet.time_base
            if cut is None and packet.stream.type == "video" and packet.is_keyframe and now >= start_s:
                cut = now
            if cut is None or now < cut:
                continue
            shift = round(cut / packet.time_base)
            packet.pts -= shift
            packet.dts -= shift
            packet.stream = lanes[packet.stream_index]
            target.mux(packet)
    if cut is None:
        raise ValueError(f"{path.name} has no key frame after {start_s} s")
    return float(cut)


def _add_picture(target: av.container.OutputContainer, scene: Scene) -> av.VideoStream:
    options = {"preset": "ultrafast", "sc_threshold": "0", "profile": "main"}
    stream = target.add_stream("libx264", rate=scene.fps, options=options)
    if not isinstance(stream, av.VideoStream):
        raise TypeError("libx264 makes pictures")
    stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
    codec = stream.codec_context
    codec.gop_size = scene.fps * KEYFRAME_S
    codec.bit_rate = scene.bps
    codec.thread_count = 2
    return stream
