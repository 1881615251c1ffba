"""Video files for the benchmarks, made with PyAV: one of any size, and one that is all picture and sound."""

from __future__ import annotations

import os
import struct
import zlib
from fractions import Fraction
from pathlib import Path

import av

_FPS = 25
_RATE = 48000
_PORTION = 8 * 1024 * 1024
_WIDTH, _HEIGHT = 640, 360


def write_big_mp4(path: Path, size_bytes: int) -> None:
    """Write a playable MP4 of `size_bytes`: a short clip, then a `free` box of random bytes, which players skip.

    What is in the bytes makes no difference to hashing and moving them, and encoding gigabytes would take an hour.
    """
    write_clip(path, seconds=2, bits_per_s=400_000)
    fill = max(0, size_bytes - path.stat().st_size - 16)
    with path.open("ab") as file:
        file.write((1).to_bytes(4, "big") + b"free" + (fill + 16).to_bytes(8, "big"))
        while fill:
            portion = min(fill, _PORTION)
            file.write(os.urandom(portion))
            fill -= portion


def write_clip(path: Path, *, seconds: float, bits_per_s: int) -> None:
    """Encode H.264 and AAC, header in front; the picture is noise, so that the whole rate is used.

    Picture and sound alternate every half second, as cameras and editors write them; a tool that cuts such a file
    interleaves it anew, packet by packet, so that no long stretch of bytes stays as it was.
    """
    options = {"movflags": "+faststart", "chunk_duration": "500000"}
    with av.open(str(path), "w", format="mp4", options=options) as out:
        video = out.add_stream("libx264", rate=_FPS, options={"preset": "ultrafast", "bf": "0"})
        audio = out.add_stream("aac", rate=_RATE, layout="stereo")
        video.width, video.height, video.pix_fmt = _WIDTH, _HEIGHT, "yuv420p"
        video.bit_rate = bits_per_s
        video.codec_context.gop_size = 2 * _FPS
        at = 0
        for n in range(round(seconds * _FPS)):
            out.mux(video.encode(_noise(n)))
            while at < (n + 1) * _RATE // _FPS:
                out.mux(audio.encode(_hiss(at)))
                at += 1024
        out.mux(video.encode(None))
        out.mux(audio.encode(None))


def _noise(n: int) -> av.VideoFrame:
    frame = av.VideoFrame(_WIDTH, _HEIGHT, "yuv420p")
    for plane in frame.planes:
        plane.update(os.urandom(plane.buffer_size))
    frame.pts = n
    frame.time_base = Fraction(1, _FPS)
    return frame


def _hiss(at: int) -> av.AudioFrame:
    frame = av.AudioFrame(format="s16", layout="stereo", samples=1024)
    for plane in frame.planes:
        plane.update(os.urandom(plane.buffer_size))
    frame.sample_rate = _RATE
    frame.pts = at
    frame.time_base = Fraction(1, _RATE)
    return frame


def write_picture(path: Path) -> None:
    """A small plain PNG, to be handed in as the poster: one taken from noise would be as large as a patch."""
    rows = (b"\0" + bytes((64, 128, 96)) * 320) * 180
    header = struct.pack(">IIBBBBB", 320, 180, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    body = (
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in chunks
    )
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(body))
