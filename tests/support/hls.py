"""Reading HLS as a player does, with its own eyes: playlists, byte ranges, and what decodes out of them."""

from __future__ import annotations

import io
import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from urllib.parse import unquote

import av

_ATTRIBUTE = re.compile(r'([A-Z0-9-]+)=("[^"]*"|[^,]*)')


@dataclass(frozen=True)
class Part:
    """One segment as its playlist tells it."""

    duration_s: Fraction
    start: int
    size: int


@dataclass(frozen=True)
class MediaPlaylist:
    """The playlist of one rendition."""

    file: str
    head: int
    target_s: int
    parts: tuple[Part, ...]

    @property
    def duration_s(self) -> Fraction:
        return sum((part.duration_s for part in self.parts), Fraction(0))


def attributes(line: str) -> dict[str, str]:
    """The attribute list of a tag."""
    return {name: value.strip('"') for name, value in _ATTRIBUTE.findall(line.partition(":")[2])}


def read_master(text: str) -> list[dict[str, str]]:
    """The variants of a master playlist, each with its address as URI."""
    lines = text.splitlines()
    assert lines[:3] == ["#EXTM3U", "#EXT-X-VERSION:7", "#EXT-X-INDEPENDENT-SEGMENTS"]
    return [
        attributes(line) | {"URI": unquote(lines[n + 1])}
        for n, line in enumerate(lines)
        if line.startswith("#EXT-X-STREAM-INF:")
    ]


def read_media(text: str) -> MediaPlaylist:
    """A media playlist of one file; checks what RFC 8216 asks of every one."""
    lines = text.splitlines()
    assert (lines[0], lines[-1]) == ("#EXTM3U", "#EXT-X-ENDLIST")
    for line in ("#EXT-X-VERSION:7", "#EXT-X-PLAYLIST-TYPE:VOD", "#EXT-X-INDEPENDENT-SEGMENTS"):
        assert line in lines
    (target,) = (int(line.partition(":")[2]) for line in lines if line.startswith("#EXT-X-TARGETDURATION:"))
    (head,) = (attributes(line) for line in lines if line.startswith("#EXT-X-MAP:"))
    size, _, start = head["BYTERANGE"].partition("@")
    assert start == "0"
    parts = []
    for n, line in enumerate(lines):
        if line.startswith("#EXTINF:"):
            seconds = Fraction(line.partition(":")[2].rstrip(","))
            length, _, at = lines[n + 1].partition(":")[2].partition("@")
            assert lines[n + 2] == head["URI"]
            assert round(float(seconds)) <= target
            parts.append(Part(seconds, int(at), int(length)))
    return MediaPlaylist(unquote(head["URI"]), int(size), target, tuple(parts))


def decode_parts(data: bytes, playlist: MediaPlaylist) -> list[dict[str, list[Fraction]]]:
    """Decode each segment alone, behind the header: the times of its pictures and of its sound."""
    end, found = playlist.head, []
    for part in playlist.parts:
        assert part.start == end, "segments lie side by side"
        end = part.start + part.size
        assert data[part.start + 4 : part.start + 8] == b"moof"
        (moof,) = struct.unpack_from(">I", data, part.start)
        assert data[part.start + moof + 4 : part.start + moof + 8] == b"mdat"
        found.append(_decode(data[: playlist.head] + data[part.start : end]))
    assert end == len(data)
    return found


def _decode(data: bytes) -> dict[str, list[Fraction]]:
    times: dict[str, list[Fraction]] = {"video": [], "audio": []}
    with av.open(io.BytesIO(data), "r", format="mp4") as container:
        first = True
        for packet in container.demux():
            if packet.size and packet.stream.type == "video" and first:
                assert packet.is_keyframe
                first = False
            for frame in packet.decode():
                assert frame.pts is not None
                times[packet.stream.type].append(frame.pts * Fraction(frame.time_base))
    return {kind: sorted(found) for kind, found in times.items()}


def packets_by_stream(path: Path) -> dict[str, list[tuple[Fraction, bytes]]]:
    """Each stream's packets with the times at which they are shown."""
    found: dict[str, list[tuple[Fraction, bytes]]] = {}
    with av.open(str(path)) as source:
        for packet in source.demux():
            if packet.size and packet.pts is not None and packet.time_base is not None:
                found.setdefault(packet.stream.type, []).append((packet.pts * packet.time_base, bytes(packet)))
    return found


def texts_of(folder: Path) -> Mapping[str, str]:
    """All playlists of a folder."""
    return {path.name: path.read_text("utf-8") for path in folder.glob("*.m3u8")}
