"""Posters: one telling picture of a video as JPEG, small enough for a page of forty.

Runs inside the worker process.
"""

from __future__ import annotations

from fractions import Fraction
from itertools import islice
from pathlib import Path

import av

from manifests.errors import InputError
from origin.publish.media_open import Opened, open_media, recognise_file
from origin.publish.transcode_lanes import fit_size, picture_graph, upright_steps

MAX_SIDE = 1280
_PLACES = (0.3, 0.45, 0.15, 0.6, 0.75, 0.05, 0.9)
# Grey levels between the darkest and the brightest tenth; a title on black or an empty wall has fewer.
_GOOD_SPREAD = 32
_SEARCH_PACKETS = 2_000


def write_poster(path: Path, out: Path) -> None:
    """Write a JPEG from about the first third of a video; black and empty pictures are passed over.

    Raises:
        InputError: bad data; no picture can be decoded.
        OSError: environment; `out` cannot be written.
    """
    guess, _ = recognise_file(path)
    if not guess.demuxer:
        raise InputError("this is no recording", zh="这不是视频文件")
    with open_media(path, guess) as opened:
        best = _pick(opened)
        aspect = opened.video.sample_aspect_ratio if opened.video is not None else None
    if best is None:
        raise InputError("no picture could be decoded for a poster", zh="无法从视频中截取封面")
    out.write_bytes(_encode(best, aspect))


def write_frames(path: Path, out: Path, count: int) -> None:
    """Write `count` pictures from all over a video as `1.jpg`, `2.jpg` and so on into a directory, to choose among.

    Raises:
        InputError: bad data; no picture can be decoded.
        OSError: environment; `out` cannot be written to.
    """
    guess, _ = recognise_file(path)
    if not guess.demuxer:
        raise InputError("this is no recording", zh="这不是视频文件")
    with open_media(path, guess) as opened:
        aspect = opened.video.sample_aspect_ratio if opened.video is not None else None
        last: bytes | None = None
        for number in range(1, count + 1):
            frame = _picture_at(opened, (number - 0.5) / count * opened.duration_s)
            last = _encode(frame, aspect) if frame is not None else last
            if last is None:
                raise InputError("no picture could be decoded for a poster", zh="无法从视频中截取封面")
            (out / f"{number}.jpg").write_bytes(last)


def _pick(opened: Opened) -> av.VideoFrame | None:
    best: av.VideoFrame | None = None
    best_spread = -1
    for place in _PLACES if opened.duration_s else (0.0,):
        frame = _picture_at(opened, place * opened.duration_s)
        if frame is None:
            continue
        spread = _spread(frame)
        if spread > best_spread:
            best, best_spread = frame, spread
        if spread >= _GOOD_SPREAD:
            break
    return best


def _picture_at(opened: Opened, at_s: float) -> av.VideoFrame | None:
    """The key frame at or before a moment: decoding up to the moment itself would cost seconds."""
    stream = opened.video
    if stream is None:
        raise InputError("a recording without picture has no poster", zh="没有画面，无法截取封面")
    try:
        opened.container.seek(int((opened.start_s + at_s) * av.time_base))
    except av.error.FFmpegError:
        if at_s > 0:
            return None
    for packet in islice(opened.container.demux(stream), _SEARCH_PACKETS):
        try:
            frames = packet.decode()
        except av.error.InvalidDataError:
            continue
        if frames and isinstance(frames[0], av.VideoFrame):
            return frames[0]
    return None


def _spread(frame: av.VideoFrame) -> int:
    """How far dark and bright lie apart, on a thin sample of the picture's grey levels."""
    grey = frame.reformat(64, 36, "gray")
    plane = grey.planes[0]
    rows = bytes(plane)
    levels = sorted(level for y in range(36) for level in rows[y * plane.line_size : y * plane.line_size + 64])
    tenth = len(levels) // 10
    return levels[-tenth] - levels[tenth]


def _encode(frame: av.VideoFrame, aspect: Fraction | None) -> bytes:
    turn = frame.rotation % 360
    width, height = fit_size(frame.width, frame.height, aspect)
    scale = min(1.0, MAX_SIDE / max(width, height))
    width, height = max(2, round(width * scale / 2) * 2), max(2, round(height * scale / 2) * 2)
    if turn in {90, 270}:
        width, height = height, width
    graph = picture_graph(
        frame, [*upright_steps(turn), f"scale={width}:{height}:out_range=full", "setsar=1", "format=yuvj420p"]
    )
    graph.push(frame)
    graph.push(None)
    picture = graph.vpull()
    encoder = av.CodecContext.create("mjpeg", "w")
    if not isinstance(encoder, av.VideoCodecContext):
        raise TypeError("mjpeg makes pictures")
    encoder.width, encoder.height, encoder.pix_fmt = width, height, "yuvj420p"
    encoder.options = {"qmin": "3", "qmax": "4"}
    encoder.time_base = Fraction(1, 25)  # the codec demands one; a single picture has no rate
    picture.pts, picture.time_base = 0, encoder.time_base
    return b"".join(bytes(packet) for packet in [*encoder.encode(picture), *encoder.encode(None)])
