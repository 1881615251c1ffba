"""The text of HLS playlists (RFC 8216) over files that hold their segments as byte ranges. Values in, text out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from urllib.parse import quote

from origin.publish.fragments import Fragmented, Segment


@dataclass(frozen=True, slots=True)
class Variant:
    """One rendition as the master playlist tells it.

    Attributes:
        codecs: as in RFC 6381, such as `avc1.64001f,mp4a.40.2`.
        width, height: 0 for sound alone.
        fps: 0 for sound alone, or when unknown.
    """

    playlist: str
    peak_bps: int
    average_bps: int
    codecs: str
    width: int = 0
    height: int = 0
    fps: Fraction = Fraction(0)


def media_playlist(file: str, made: Fragmented) -> str:
    """The playlist of one rendition, which lies in `file` beside it."""
    name = quote(file, safe="")
    target = max(1, *(_rounded(segment.duration_s) for segment in made.segments))
    lines = [
        "#EXTM3U",
        "#EXT-X-VERSION:7",
        f"#EXT-X-TARGETDURATION:{target}",
        "#EXT-X-MEDIA-SEQUENCE:0",
        "#EXT-X-PLAYLIST-TYPE:VOD",
        "#EXT-X-INDEPENDENT-SEGMENTS",
        f'#EXT-X-MAP:URI="{name}",BYTERANGE="{made.head}@0"',
    ]
    for segment in made.segments:
        lines += [
            f"#EXTINF:{float(segment.duration_s):.6f},",
            f"#EXT-X-BYTERANGE:{segment.size}@{segment.start}",
            name,
        ]
    return "\n".join([*lines, "#EXT-X-ENDLIST", ""])


def master_playlist(variants: Sequence[Variant]) -> str:
    """The playlist that players open; the first variant is where they begin."""
    lines = ["#EXTM3U", "#EXT-X-VERSION:7", "#EXT-X-INDEPENDENT-SEGMENTS"]
    for one in variants:
        facts = [
            f"BANDWIDTH={one.peak_bps}",
            f"AVERAGE-BANDWIDTH={one.average_bps}",
            f'CODECS="{one.codecs}"',
        ]
        if one.height:
            facts.append(f"RESOLUTION={one.width}x{one.height}")
            if one.fps:
                facts.append(f"FRAME-RATE={float(one.fps):.3f}")
        lines += [f"#EXT-X-STREAM-INF:{','.join(facts)}", quote(one.playlist, safe="")]
    return "\n".join([*lines, ""])


def average_bps(made: Fragmented) -> int:
    """Bits a second over all of it."""
    total = sum(segment.size for segment in made.segments)
    return _bps(total, made.duration_s)


def peak_bps(made: Fragmented) -> int:
    """The highest rate of neighbouring segments that last 0.5 to 1.5 target durations (RFC 8216 section 4.3.4.2)."""
    segments = made.segments
    target = max(1, *(_rounded(segment.duration_s) for segment in segments))
    found = average_bps(made)
    for first in range(len(segments)):
        for stop in range(first + 1, len(segments) + 1):
            seconds = sum((one.duration_s for one in segments[first:stop]), Fraction(0))
            if seconds > Fraction(3, 2) * target:
                break
            if 2 * seconds >= target:
                found = max(found, _bps(_bytes(segments[first:stop]), seconds))
    return found


def _bytes(segments: Sequence[Segment]) -> int:
    return sum(segment.size for segment in segments)


def _bps(size: int, seconds: Fraction) -> int:
    return max(1, round(8 * size / seconds)) if seconds else 1


def _rounded(seconds: Fraction) -> int:
    return int(seconds + Fraction(1, 2))
