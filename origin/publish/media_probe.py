"""Examining one file inside the worker process: header first, then pictures from its start, middle and end.

Never the whole file: three gigabytes are judged in about the time of one.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import av
from av.packet import Packet
from av.stream import Stream

from manifests.errors import InputError
from origin.publish.articles import parse_article
from origin.publish.media_job import Probe
from origin.publish.media_open import (
    Opened,
    audio_facts,
    open_media,
    recognise_file,
    video_facts,
)
from origin.publish.media_rules import Fault, audio_fault, check_figures, layout_fault, video_fault
from origin.publish.subtitles import to_webvtt

_MEDIA_TYPES = {
    "mp4": "video/mp4",
    "matroska": "video/x-matroska",
    "flv": "video/x-flv",
    "asf": "video/x-ms-wmv",
    "ogg": "video/ogg",
    "mpeg": "video/mpeg",
    "mpegvideo": "video/mpeg",
    "mpegts": "video/mp2t",
    "avi": "video/x-msvideo",
    "rm": "application/vnd.rn-realmedia",
}
_SOUND_TYPES = {"mp4": "audio/mp4", "mp3": "audio/mpeg", "ogg": "audio/ogg", "aac": "audio/aac", "flac": "audio/flac"}
_SEARCH_PACKETS = 4_000  # about a minute of packets, to find one picture
_TAIL_PACKETS = 50_000
_TAIL_BYTES = 256 << 20
_TAIL_SLACK_S = 3.0


def examine(path: Path) -> Probe:
    """Tell what a file is and whether terminals play it.

    Raises:
        InputError: bad data: empty, unknown, truncated, damaged, or with figures that no lesson has.
    """
    guess, text = recognise_file(path)
    if guess.kind == "article":
        parse_article(text)
    elif guess.kind == "subtitle":
        to_webvtt(text)
    if not guess.demuxer:
        return Probe(guess.kind, guess.media_type, width=guess.width, height=guess.height)
    with open_media(path, guess) as opened:
        video = opened.video
        if video is not None:
            check_figures(video.codec_context.width, video.codec_context.height, opened.duration_s)
        _check_contents(opened)
        return judge(opened)


def judge(opened: Opened) -> Probe:
    """Hold an opened file against what terminals play."""
    video, audio, layout = opened.video, opened.audio, opened.layout
    kind_name = opened.guess.demuxer
    fault, copies = find_fault(opened)
    media_type = _MEDIA_TYPES.get(kind_name) if video is not None else _SOUND_TYPES.get(kind_name)
    duration = opened.duration_s
    track = layout.track("vide") if layout is not None else None
    return Probe(
        kind="video" if video is not None else "audio",
        media_type=media_type or "application/octet-stream",
        duration_s=round(duration, 3),
        width=video.codec_context.width if video is not None else 0,
        height=video.codec_context.height if video is not None else 0,
        bitrate_bps=int(opened.size * 8 / duration) if duration else 0,
        video_codec=video.codec_context.codec.canonical_name if video is not None else "",
        audio_codec=audio.codec_context.codec.canonical_name if audio is not None else "",
        plays=fault is None,
        faststart=layout is None or layout.faststart,
        max_keyframe_gap_s=round(track.max_sync_gap_s, 3) if track is not None else 0.0,
        remux=copies,
        reason=fault.why if fault is not None else "",
        reason_zh=fault.zh if fault is not None else "",
    )


def find_fault(opened: Opened) -> tuple[Fault | None, bool]:
    """Why a file does not play as it is, and whether copying its streams into a plain MP4 cures that."""
    video = video_fault(video_facts(opened.video)) if opened.video is not None else None
    audio = audio_fault(audio_facts(opened.audio)) if opened.audio is not None else None
    if opened.video is None and opened.guess.demuxer == "mp3":
        return None, False
    if video is not None or audio is not None:
        return video or audio, False
    if opened.layout is not None:
        return layout_fault(opened.layout) or (None, False)
    name = opened.container.format.long_name
    return Fault(f"its container is {name}, not MP4", f"封装格式为 {name}，终端只支持 MP4"), True


def _check_contents(opened: Opened) -> None:
    """Decode a little at three places: what the header promises must be there.

    An MP4 may be kept as it is, so all of that must decode; others are read from end to end later, and seek coarsely.
    """
    _decode_one(opened, 0.0)
    if opened.duration_s > 1:
        if opened.layout is not None:
            _decode_one(opened, opened.duration_s / 2)
        _check_tail(opened)


def _decode_one(opened: Opened, at_s: float) -> None:
    if at_s and not _seek(opened, at_s):
        return
    for packet in _packets(opened, _SEARCH_PACKETS):
        if packet.stream is opened.main:
            try:
                if packet.decode():
                    return
            except av.error.InvalidDataError:
                continue  # transport streams begin in the middle of things
    raise InputError(
        f"nothing could be decoded at {at_s:.0f} s: the file is damaged",
        zh=f"第 {at_s:.0f} 秒处无法解码，文件已损坏，请重新导出后再试",
    )


def _check_tail(opened: Opened) -> None:
    """The last stretch must be there to its end; in an MP4 without a bad packet."""
    if not _seek(opened, max(0.0, opened.duration_s - 1)):
        return
    decoded, bad, reached = 0, 0, 0.0
    for packet in _packets(opened, _TAIL_PACKETS):
        if packet.pts is not None and packet.time_base is not None:
            end = float((packet.pts + (packet.duration or 0)) * packet.time_base)
            reached = max(reached, end - opened.start_s)
        if packet.stream is opened.main:
            try:
                decoded += len(packet.decode())
            except av.error.InvalidDataError:
                bad += 1
    missing = opened.duration_s - reached
    if opened.layout is not None and (bad or not decoded):
        raise _cut_off("its end cannot be decoded")
    if reached and missing > max(_TAIL_SLACK_S, opened.duration_s / 20):
        raise _cut_off(f"the last {missing:.0f} of {opened.duration_s:.0f} s are missing")


def _cut_off(why: str) -> InputError:
    return InputError(f"the recording is truncated or damaged: {why}", zh="视频不完整或已损坏，请重新拷贝或导出后再试")


def _seek(opened: Opened, at_s: float) -> bool:
    try:
        opened.container.seek(int((opened.start_s + at_s) * av.time_base))
    except av.error.FFmpegError:
        return False  # some old containers cannot seek; they are transcoded from end to end anyway
    return True


def _packets(opened: Opened, most: int) -> Iterator[Packet[Stream]]:
    """Packets from here on, bounded by number and bytes."""
    left = _TAIL_BYTES
    for packet in islice(opened.container.demux(), most):
        left -= packet.size
        if left < 0:
            return
        yield packet
