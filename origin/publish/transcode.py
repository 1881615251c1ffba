"""Turning a recording into what every terminal plays: H.264 and AAC in an MP4 whose header comes first.

Runs inside the worker process. Each stream has a lane: copied when it is right already, encoded anew otherwise, so a
camera's H.264 with PCM sound keeps its picture to the bit. What cannot be copied after all is encoded.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import av
from av.container import OutputContainer
from av.packet import Packet
from av.stream import Stream

from manifests.errors import InputError
from origin.publish.media_open import Opened, audio_facts, open_media, recognise_file, video_facts
from origin.publish.media_rules import audio_fault, layout_fault, video_fault
from origin.publish.mp4 import read_layout
from origin.publish.transcode_lanes import CopyLane, Lane, NotCopyableError, SoundLane, VideoLane

Advance = Callable[[int, int], None]
"""Called with bytes done and bytes in all."""

MAX_BAD_RATIO = 0.1
MAX_HELD = 10_000
_LOST_SLACK_S = 3.0


def write_playable(path: Path, out: Path, advance: Advance) -> None:
    """Write `out` from the recording at `path`; flushed to the disk when it returns.

    Raises:
        InputError: bad data; it cannot be decoded, or too little of it can.
        OSError: environment; `out` cannot be written.
    """
    guess, _ = recognise_file(path)
    if not guess.demuxer:
        raise InputError("this is no recording", zh="这不是音视频文件")
    try:
        _convert(path, out, advance, copy=True)
    except (NotCopyableError, av.error.ArgumentError):  # FFmpeg calls time stamps that go backwards an argument
        _convert(path, out, advance, copy=False)


def _convert(path: Path, out: Path, advance: Advance, *, copy: bool) -> None:
    guess, _ = recognise_file(path)
    options = {"movflags": "+faststart", "fflags": "+bitexact"}  # no date, no tool's name: equal input, equal blob
    with open_media(path, guess) as source:
        form = "mp4" if source.video is not None else "ipod"  # FFmpeg's name for .m4a
        with av.open(f"file:{out.resolve()}", "w", format=form, options=options) as target:
            lanes = _lanes(source, target, copy=copy)
            _pump(source, target, lanes, advance)
        _check_output(out, source)
    descriptor = os.open(out, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _lanes(source: Opened, target: OutputContainer, *, copy: bool) -> dict[int, Lane]:
    shape = layout_fault(source.layout) if source.layout is not None else None
    keep = copy and (shape is None or shape[1])
    lanes: dict[int, Lane] = {}
    if source.video is not None:
        right = keep and video_fault(video_facts(source.video)) is None
        lanes[source.video.index] = (
            CopyLane(target, source.video, source.start_s) if right else VideoLane(target, source.video, source.start_s)
        )
    if source.audio is not None:
        right = keep and audio_fault(audio_facts(source.audio)) is None
        lanes[source.audio.index] = (
            CopyLane(target, source.audio, source.start_s) if right else SoundLane(target, source.audio, source.start_s)
        )
    return lanes


def _pump(source: Opened, target: OutputContainer, lanes: dict[int, Lane], advance: Advance) -> None:
    """Packets through their lanes into the target, in the source's order."""
    packets = bad = done = 0
    held: list[Packet[Stream]] = []  # until all lanes are ready: the first packet that is written fixes the header
    for packet in _packets(source, lanes):
        packets += 1
        done = max(done, packet.pos or 0)
        try:
            held += lanes[packet.stream_index].feed(packet)
        except av.error.InvalidDataError:
            bad += 1
        if all(lane.ready for lane in lanes.values()):
            target.mux(held)
            held.clear()
        elif len(held) > MAX_HELD:
            raise InputError(f"no picture in the first {packets} packets", zh="长时间没有可解码的画面，文件可能已损坏")
        advance(min(done, source.size), source.size)
    for lane in lanes.values():
        held += lane.finish()
    if not all(lane.ready for lane in lanes.values()):
        raise InputError("no picture in the recording can be decoded", zh="视频画面无法解码")
    target.mux(held)
    if bad > max(3, packets * MAX_BAD_RATIO):
        raise InputError(
            f"{bad} of {packets} packets cannot be decoded: the recording is damaged",
            zh="视频损坏严重，大部分内容无法解码，请重新导出",
        )
    advance(source.size, source.size)


def _packets(source: Opened, lanes: dict[int, Lane]) -> Iterator[Packet[Stream]]:
    streams = [source.container.streams[index] for index in lanes]
    for packet in source.container.demux(streams):
        if packet.size:  # the empty ones at the end ask for a flush; lanes are flushed by hand
            yield packet


def _check_output(out: Path, source: Opened) -> None:
    """The result's own header tells whether everything got through."""
    with out.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        layout = read_layout(lambda at, count: os.pread(file.fileno(), count, at), size)
    made, wanted = layout.duration_s, source.duration_s
    wanted_track = "vide" if source.video is not None else "soun"
    track = layout.track(wanted_track)
    if track is None or not made:
        raise InputError("nothing in the recording can be decoded", zh="视频内容无法解码")
    if wanted - made > max(_LOST_SLACK_S, wanted / 20):
        raise InputError(
            f"only {made:.0f} of {wanted:.0f} s could be decoded: the recording is truncated or damaged",
            zh=f"时长 {wanted:.0f} 秒的视频只能解出 {made:.0f} 秒，文件不完整或已损坏",
        )
