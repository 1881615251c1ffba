"""Writing a fragmented MP4 (ISO/IEC 14496-12, as RFC 8216 wants it): a header, then one moof and mdat per segment.

Runs inside the media worker; copies samples bit for bit from where they lie. All tracks of all renditions are shifted
by the same time, so much that the first picture, which is decoded before it is shown, is not decoded before zero. Edit
lists, which say the same, are ignored by many players of fragments; negative offsets shift the picture in some.
"""

from __future__ import annotations

import os
import struct
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from origin.publish.samples import Track

Advance = Callable[[int], None]
"""Called with bytes written."""

_MATRIX = struct.pack(">9I", 0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x40000000)
_SYNC, _NOT_SYNC = 0x02000000, 0x01010000
_MAX_READ = 1 << 20
_MOVIE_RATE = 1000


@dataclass(frozen=True, slots=True)
class Lane:
    """One track on its way into the fragments, with the open file that its samples lie in.

    Attributes:
        shift: ticks added to all its times.
        starts: sample at which each segment begins.
    """

    track: Track
    source: int
    shift: int
    starts: Sequence[int]

    def of_segment(self, number: int) -> range:
        """Its samples in a segment."""
        stop = self.starts[number + 1] if number + 1 < len(self.starts) else len(self.track)
        return range(self.starts[number], stop)


@dataclass(frozen=True, slots=True)
class Segment:
    """Bytes `start` to `start + size` of the file, beginning with a moof."""

    start: int
    size: int
    duration_s: Fraction


@dataclass(frozen=True, slots=True)
class Fragmented:
    """What was written: `head` bytes of header, then the segments end to end."""

    head: int
    segments: tuple[Segment, ...]

    @property
    def size(self) -> int:
        """Bytes of the file."""
        return self.head + sum(segment.size for segment in self.segments)

    @property
    def duration_s(self) -> Fraction:
        """Seconds that it plays."""
        return sum((segment.duration_s for segment in self.segments), Fraction(0))


def lane_of(track: Track, source: int, at_s: Sequence[Fraction], shift_s: Fraction, begin_s: Fraction) -> Lane:
    """A track cut at moments of the presentation; sound that begins before a moment is in the segment before.

    Args:
        track: the track.
        source: descriptor of the file that it lies in.
        at_s: the moments, the first one being the beginning.
        shift_s: added to all times.
        begin_s: what the track's own clock calls zero.

    Raises:
        ValueError: no key frame stands at one of the moments.
    """
    wanted = [(at - begin_s) * track.rate for at in at_s]
    if track.is_video:
        keys = {track.pts[n]: n for n in range(len(track)) if track.key[n]}
        if not keys.keys() >= set(wanted):
            raise ValueError("its key frames do not stand where segments begin")
        starts = [keys[int(at)] for at in wanted]
    else:
        starts = [0, *(bisect_left(track.pts, at) for at in wanted[1:])]
    return Lane(track, source, round((shift_s + begin_s) * track.rate), starts)


def write_fragments(out: Path, lanes: Sequence[Lane], at_s: Sequence[Fraction], advance: Advance) -> Fragmented:
    """Write the file; flushed to the disk when it returns.

    Args:
        out: where to.
        lanes: the picture first, where there is one.
        at_s: when each segment begins.
        advance: told of the progress.

    Raises:
        OSError: environment; `out` cannot be written.
    """
    end_s = max(lane.track.end_s for lane in lanes)
    head = _header(lanes, end_s)
    segments: list[Segment] = []
    with out.open("wb", buffering=0) as file:
        _write(file.fileno(), head)
        at = len(head)
        for number, begin_s in enumerate(at_s):
            until_s = at_s[number + 1] if number + 1 < len(at_s) else max(end_s, begin_s)
            moof, size = _moof(lanes, number)
            _write(file.fileno(), moof + struct.pack(">I4s", size + 8, b"mdat"))
            for lane in lanes:
                _copy(lane, number, file.fileno())
            segments.append(Segment(at, len(moof) + 8 + size, until_s - begin_s))
            at += segments[-1].size
            advance(at)
        os.fsync(file.fileno())
    return Fragmented(len(head), tuple(segments))


def _copy(lane: Lane, number: int, out: int) -> None:
    """Copy a lane's samples of a segment; those that lie side by side, at once."""
    track = lane.track
    start = stop = 0
    for n in lane.of_segment(number):
        if track.at[n] != stop:
            _copy_range(lane.source, out, start, stop)
            start = track.at[n]
        stop = track.at[n] + track.size[n]
    _copy_range(lane.source, out, start, stop)


def _copy_range(source: int, out: int, start: int, stop: int) -> None:
    while start < stop:
        data = os.pread(source, min(stop - start, _MAX_READ), start)
        if not data:
            raise EOFError("the recording became shorter while it was read")
        start += len(data)
        _write(out, data)


def _write(out: int, data: bytes) -> None:
    left = memoryview(data)
    while left:  # a disk that fills up may take a part
        left = left[os.write(out, left) :]


def _box(kind: bytes, *parts: bytes) -> bytes:
    return struct.pack(">I4s", 8 + sum(map(len, parts)), kind) + b"".join(parts)


def _full(kind: bytes, version: int, flags: int, *parts: bytes) -> bytes:
    return _box(kind, struct.pack(">I", version << 24 | flags), *parts)


def _header(lanes: Sequence[Lane], end_s: Fraction) -> bytes:
    duration = round(end_s * _MOVIE_RATE)
    movie = struct.pack(">4I", 0, 0, _MOVIE_RATE, 0)
    movie += struct.pack(">IHH8x", 0x10000, 0x100, 0) + _MATRIX + bytes(24) + struct.pack(">I", len(lanes) + 1)
    numbered = list(enumerate(lanes, 1))
    extends = [_full(b"mehd", 1, 0, struct.pack(">Q", duration))]
    extends += [_full(b"trex", 0, 0, struct.pack(">5I", number, 1, 0, 0, 0)) for number, _ in numbered]
    return _box(b"ftyp", b"iso6", bytes(4), b"iso6mp41") + _box(
        b"moov",
        _full(b"mvhd", 0, 0, movie),
        *(_trak(number, lane.track) for number, lane in numbered),
        _box(b"mvex", *extends),
    )


def _trak(number: int, track: Track) -> bytes:
    head = struct.pack(">5I8xHHHH", 0, 0, number, 0, 0, 0, 0, 0 if track.is_video else 0x100, 0)
    head += _MATRIX + struct.pack(">II", track.width << 16, track.height << 16)
    handler, name = (b"vide", b"VideoHandler\0") if track.is_video else (b"soun", b"SoundHandler\0")
    about = _full(b"vmhd", 0, 1, bytes(8)) if track.is_video else _full(b"smhd", 0, 0, bytes(4))
    tables = [_full(kind, 0, 0, bytes(4)) for kind in (b"stts", b"stsc")]
    tables += [_full(b"stsz", 0, 0, bytes(8)), _full(b"stco", 0, 0, bytes(4))]
    return _box(
        b"trak",
        _full(b"tkhd", 0, 3, head),
        _box(
            b"mdia",
            _full(b"mdhd", 0, 0, struct.pack(">4IHH", 0, 0, track.rate, 0, 0x55C4, 0)),
            _full(b"hdlr", 0, 0, bytes(4), handler, bytes(12), name),
            _box(
                b"minf",
                about,
                _box(b"dinf", _full(b"dref", 0, 0, struct.pack(">I", 1), _full(b"url ", 0, 1))),
                _box(b"stbl", _box(b"stsd", track.entry), *tables),
            ),
        ),
    )


def _moof(lanes: Sequence[Lane], number: int) -> tuple[bytes, int]:
    """The moof of a segment, and how many bytes of samples follow it."""
    runs = [lane.of_segment(number) for lane in lanes]
    sizes = [sum(lane.track.size[run.start : run.stop]) for lane, run in zip(lanes, runs, strict=True)]
    # The offsets of the samples depend on the length of the moof, which does not depend on them.
    blank = _moof_box(lanes, runs, number, [0] * len(lanes))
    offsets = [len(blank) + 8 + sum(sizes[:n]) for n in range(len(lanes))]
    return _moof_box(lanes, runs, number, offsets), sum(sizes)


def _moof_box(lanes: Sequence[Lane], runs: Sequence[range], number: int, offsets: Sequence[int]) -> bytes:
    trafs = [
        _traf(track_id, lane, run, offset)
        for track_id, (lane, run, offset) in enumerate(zip(lanes, runs, offsets, strict=True), 1)
        if run
    ]
    return _box(b"moof", _full(b"mfhd", 0, 0, struct.pack(">I", number + 1)), *trafs)


def _traf(track_id: int, lane: Lane, run: range, offset: int) -> bytes:
    track = lane.track
    base = _full(b"tfdt", 1, 0, struct.pack(">Q", track.dts[run.start] + lane.shift))
    if not track.is_video:
        span = track.span[run.start]
        is_even = all(track.span[n] == span for n in run)
        head = _full(b"tfhd", 0, 0x020028, struct.pack(">3I", track_id, span, _SYNC))
        rows: list[tuple[int, ...]] = [(track.size[n],) if is_even else (track.span[n], track.size[n]) for n in run]
        flags = 0x201 if is_even else 0x301
    else:
        head = _full(b"tfhd", 0, 0x020000, struct.pack(">I", track_id))
        flags = 0xF01
        rows = [
            (
                track.span[n],
                track.size[n],
                _SYNC if track.key[n] else _NOT_SYNC,
                track.pts[n] - track.dts[n],
            )
            for n in run
        ]
    table = b"".join(struct.pack(f">{len(row)}I", *row) for row in rows)
    return _box(b"traf", head, base, _full(b"trun", 0, flags, struct.pack(">Ii", len(run), offset), table))
