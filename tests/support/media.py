"""Tiny media files for tests, made with PyAV in milliseconds; equal arguments give equal bytes."""

from __future__ import annotations

import random
import struct
import zlib
from fractions import Fraction
from pathlib import Path

import av

FPS = 10
RATE = 48000
CODECS = {"h264": "libx264", "hevc": "libx265", "mpeg4": "mpeg4", "vp9": "libvpx-vp9", "mjpeg": "mjpeg"}


def make_mp4(
    path: Path,
    seconds: float = 2,
    width: int = 160,
    height: int = 90,
    faststart: bool = True,
    codec: str = "h264",
    audio: bool = True,
    seed: int = 0,
    *,
    pix_fmt: str = "yuv420p",
    gop: int = FPS,
    fragmented: bool = False,
    container: str | None = None,
    noise: bool = False,
    video: bool = True,
) -> Path:
    """Write a short clip with a moving picture and a tone.

    Args:
        path: where to; its suffix chooses the container unless `container` says otherwise.
        faststart: moov before mdat.
        codec: a key of CODECS.
        seed: changes colours, tone and noise, so that clips differ.
        gop: frames from one key frame to the next.
        fragmented: moof boxes instead of one sample table.
        container: FFmpeg's name of the container, such as "matroska".
        noise: fill the picture with noise, so that the file is big for its length.
        video: False leaves the sound alone.
    """
    flags = "+frag_keyframe+empty_moov" if fragmented else "+faststart" if faststart else ""
    is_mp4 = container in {"mp4", "mov"} or (container is None and path.suffix in {".mp4", ".mov", ".m4a", ".m4v"})
    options = {"fflags": "+bitexact"} | ({"movflags": flags} if flags and is_mp4 else {})
    frames = max(1, round(seconds * FPS))
    with av.open(str(path), "w", format=container, options=options) as out:
        picture = _add_video(out, codec, width, height, pix_fmt, gop) if video else None
        sound = out.add_stream("aac", rate=RATE, layout="stereo") if audio else None
        if sound is not None:
            assert isinstance(sound, av.AudioStream)
            sound.bit_rate = 64000
        tone = _Tone(seed)
        for n in range(frames):
            if picture is not None:
                for packet in picture.encode(_frame(n, width, height, pix_fmt, seed, noise)):
                    out.mux(packet)
            if sound is not None:
                for frame in tone.until((n + 1) / FPS):
                    for packet in sound.encode(frame):
                        out.mux(packet)
        for stream in (picture, sound):
            if stream is not None:
                for packet in stream.encode(None):
                    out.mux(packet)
    return path


def make_audio(path: Path, seconds: float = 1, seed: int = 0, codec: str = "mp3") -> Path:
    """Write a tone as .mp3 (`codec="mp3"`) or as .m4a (`codec="aac"`)."""
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libmp3lame" if codec == "mp3" else codec, rate=RATE, layout="stereo")
        assert isinstance(stream, av.AudioStream)
        for frame in _Tone(seed).until(seconds):
            frame.pts = None
            for packet in stream.encode(frame):
                out.mux(packet)
        for packet in stream.encode(None):
            out.mux(packet)
    return path


def make_png(path: Path, width: int = 64, height: int = 48, seed: int = 0) -> Path:
    """Write a small RGB gradient as PNG."""
    rows = b"".join(
        b"\0" + bytes(value for x in range(width) for value in ((x * 4 + seed) & 255, (y * 5) & 255, 96))
        for y in range(height)
    )
    path.write_bytes(png_bytes(width, height, zlib.compress(rows)))
    return path


def png_bytes(width: int, height: int, packed_rows: bytes) -> bytes:
    """Frame compressed RGB rows as PNG; the header's figures need not be true, for hostile input."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", packed_rows) + chunk(b"IEND", b"")


def make_pdf(path: Path, text: str = "lesson") -> Path:
    """Write a PDF of one page."""
    body = f"BT /F1 24 Tf 72 720 Td ({text}) Tj ET".encode("ascii")
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        (
            b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Contents 4 0 R"
            b" /Resources << /Font << /F1 5 0 R >> >> >>"
        ),
        b"<< /Length %d >>\nstream\n%s\nendstream" % (len(body), body),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
    ]
    out = bytearray(b"%PDF-1.4\n")
    starts = []
    for number, body in enumerate(objects, 1):
        starts.append(len(out))
        out += b"%d 0 obj\n%s\nendobj\n" % (number, body)
    table = len(out)
    out += b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1)
    out += b"".join(b"%010d 00000 n \n" % start for start in starts)
    out += b"trailer\n<< /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n" % (len(objects) + 1, table)
    path.write_bytes(out)
    return path


def packets_of(path: Path) -> list[tuple[int, bytes]]:
    """Every packet of a file as (stream, bytes): what must stay bit for bit when only the container changes."""
    with av.open(str(path)) as source:
        return [(packet.stream.index, bytes(packet)) for packet in source.demux() if packet.size]


def box_names(path: Path) -> list[str]:
    """The top-level boxes of an MP4 file, in order."""
    data = path.read_bytes()
    names, at = [], 0
    while at + 8 <= len(data):
        size, name = struct.unpack_from(">I4s", data, at)
        if size == 1:
            size = struct.unpack_from(">Q", data, at + 8)[0]
        names.append(name.decode("latin-1"))
        at += size or len(data)
    return names


class _Tone:
    """A square wave in AAC-sized frames; its pitch comes from the seed."""

    def __init__(self, seed: int) -> None:
        self._half = RATE // (2 * (220 + 20 * (seed % 20)))
        self._at = 0

    def until(self, seconds: float) -> list[av.AudioFrame]:
        frames = []
        while self._at < seconds * RATE:
            quiet, loud = struct.pack("<f", -0.2), struct.pack("<f", 0.2)
            plane = b"".join(loud if (self._at + i) // self._half % 2 else quiet for i in range(1024))
            frame = av.AudioFrame(format="fltp", layout="stereo", samples=1024)
            for one in frame.planes:
                one.update(plane)
            frame.sample_rate = RATE
            frame.pts = self._at
            frame.time_base = Fraction(1, RATE)
            frames.append(frame)
            self._at += 1024
        return frames


def _add_video(
    out: av.container.OutputContainer, codec: str, width: int, height: int, pix_fmt: str, gop: int
) -> av.VideoStream:
    options = {"libx264": {"preset": "ultrafast", "crf": "28"}, "libx265": {"preset": "ultrafast"}}
    options["libx265"]["x265-params"] = "log-level=none:pools=none:frame-threads=1"
    options["libvpx-vp9"] = {"deadline": "realtime", "cpu-used": "8"}
    name = CODECS[codec]
    stream = out.add_stream(name, rate=FPS, options=options.get(name, {}))
    assert isinstance(stream, av.VideoStream)
    stream.width, stream.height, stream.pix_fmt = width, height, pix_fmt
    stream.codec_context.gop_size = gop
    stream.codec_context.thread_count = 1
    return stream


def _frame(n: int, width: int, height: int, pix_fmt: str, seed: int, noise: bool) -> av.VideoFrame:
    frame = av.VideoFrame(width, height, pix_fmt)
    dice = random.Random(f"{seed}/{n}")
    deep = "10" in pix_fmt  # two bytes a sample, of which ten bits may be used: FFmpeg aborts on more
    for index, plane in enumerate(frame.planes):
        if deep:
            data = struct.pack("<H", (n * 16 + index * 100) % 1024) * (plane.buffer_size // 2)
        elif noise:
            data = dice.randbytes(plane.buffer_size)
        elif index == 0:
            row = bytes((x * 2 + n * 8 + seed * 16) & 127 | 32 for x in range(plane.line_size))
            data = row * plane.height
        else:
            data = bytes([96 + (seed * 24 + index * 40) % 96]) * plane.buffer_size
        plane.update(data)
    frame.pts = n
    frame.time_base = Fraction(1, FPS)
    return frame
