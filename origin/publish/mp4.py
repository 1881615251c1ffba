"""The layout of an MP4 or QuickTime file, read without a media library.

This file knows tracks and sample tables; it decodes no picture and reads the header only, never the payload. That
makes it quick whatever the file's size, and it tells a truncated file before a media library is let near it.
"""

from __future__ import annotations

import struct
from array import array
from dataclasses import dataclass
from itertools import islice

from origin.publish.mp4_boxes import Box, Node, Read, damaged, parse_header, read_table, top_boxes, truncated

MAX_HEADER_BYTES = 64 << 20  # twelve hours of video need about 16 MiB
MAX_TRACKS = 64

# Boxes that carry file offsets in places of their own (or hide the header), so patching chunks is not enough.
_HOLDS_OFFSETS = frozenset({"saio", "cmov"})


@dataclass(frozen=True, slots=True)
class Track:
    """One track as the header describes it.

    Attributes:
        handler: `vide`, `soun`, or another four-letter word.
        codec: four-letter word of the first sample entry, such as `avc1`.
        entries: number of sample entries; more than one means that the codec changes on the way.
        rotated: the picture is to be turned or mirrored when shown.
        edits_odd: the edit list does more than shift the start by a little.
        max_sync_gap_s: longest stretch without a key frame; 0.0 when each frame is one.
        external: its samples are in another file.
        end: where the last chunk's samples end in the file.
    """

    handler: str
    codec: str
    entries: int
    duration_s: float
    width: int
    height: int
    rotated: bool
    edits_odd: bool
    max_sync_gap_s: float
    external: bool
    end: int


@dataclass(frozen=True, slots=True)
class Layout:
    """What the boxes of one file say.

    Attributes:
        boxes: the top-level boxes that were read, in order; bytes after the last one are not box-shaped.
        fragmented: samples are described by moof boxes along the file.
        immovable: why the header cannot be moved by patching offsets; empty when it can.
    """

    brand: str
    size: int
    boxes: tuple[Box, ...]
    moov: Node
    moov_box: Box
    tracks: tuple[Track, ...]
    duration_s: float
    fragmented: bool
    immovable: str

    @property
    def faststart(self) -> bool:
        """The header comes before the samples."""
        first = next((box.start for box in self.boxes if box.kind == "mdat"), self.size)
        return self.moov_box.start < first

    def track(self, handler: str) -> Track | None:
        """The first track of a kind."""
        return next((track for track in self.tracks if track.handler == handler), None)


def read_layout(read: Read, size: int) -> Layout:
    """Read the boxes of a file of `size` bytes and check them against its length.

    Raises:
        InputError: bad data: no header, samples beyond the end, figures that do not add up or pass a limit.
    """
    boxes = tuple(top_boxes(read, size))
    headers = [box for box in boxes if box.kind == "moov"]
    if not headers:
        raise truncated("it has no header (moov)")
    if len(headers) > 1:
        raise damaged("it has two headers", "存在两个文件头")
    if headers[0].size > MAX_HEADER_BYTES:
        raise damaged(f"its header of {headers[0].size} bytes is too long", "文件头过大")
    moov = parse_header(_read_exactly(read, headers[0].start, headers[0].stop))
    tracks = tuple(_parse_track(node) for node in _tracks_of(moov))
    fragmented = any(box.kind == "moof" for box in boxes) or moov.find("mvex") is not None
    end = max((track.end for track in tracks), default=0)
    if end > size:
        raise truncated(f"its header speaks of samples up to byte {end}, the file has {size}")
    if not fragmented and not any(box.kind == "mdat" for box in boxes):
        raise truncated("it has no samples (mdat)")
    return Layout(
        brand=_brand(read, boxes),
        size=size,
        boxes=boxes,
        moov=moov,
        moov_box=headers[0],
        tracks=tracks,
        duration_s=_movie_duration(moov, tracks),
        fragmented=fragmented,
        immovable=_immovable(boxes, moov, fragmented),
    )


def chunk_offsets(trak: Node) -> tuple[str, array[int]]:
    """The chunk offset table of a track: its box name (`stco` or `co64`) and the offsets."""
    stbl = trak.find("mdia", "minf", "stbl")
    for kind, code in (("stco", "I"), ("co64", "Q")):
        node = stbl.find(kind) if stbl else None
        if node is not None:
            return kind, read_table(node.data, code, 1)
    return "stco", array("Q")


def _read_exactly(read: Read, start: int, stop: int) -> bytes:
    data = read(start, stop - start)
    if len(data) != stop - start:
        raise truncated("it became shorter while it was read")
    return data


def _brand(read: Read, boxes: tuple[Box, ...]) -> str:
    first = boxes[0]
    return read(first.body, 4).decode("latin-1") if first.kind == "ftyp" and first.stop - first.body >= 4 else "qt  "


def _tracks_of(moov: Node) -> list[Node]:
    tracks = [node for node in moov.children if node.kind == "trak"]
    if len(tracks) > MAX_TRACKS:
        raise damaged(f"it has {len(tracks)} tracks", "轨道数过多")
    return tracks


def _parse_track(trak: Node) -> Track:
    handler = trak.find("mdia", "hdlr")
    entry = trak.find("mdia", "minf", "stbl", "stsd")
    scale, duration = _scaled_time(trak.find("mdia", "mdhd"), "mdhd")
    sample = entry.data[8:] if entry else b""
    width, height = struct.unpack_from(">HH", sample, 32) if len(sample) >= 36 else (0, 0)
    name = handler.data[8:12].decode("latin-1") if handler else ""
    return Track(
        handler=name,
        codec=sample[4:8].decode("latin-1"),
        entries=struct.unpack_from(">I", entry.data, 4)[0] if entry and len(entry.data) >= 8 else 0,
        duration_s=duration / scale,
        width=width if name == "vide" else 0,
        height=height if name == "vide" else 0,
        rotated=_is_rotated(trak.find("tkhd")),
        edits_odd=_has_odd_edits(trak.find("edts", "elst"), scale),
        max_sync_gap_s=_sync_gap_s(trak, scale) if name == "vide" else 0.0,
        external=_is_external(trak.find("mdia", "minf", "dinf", "dref")),
        end=_end_of_samples(trak),
    )


def _scaled_time(node: Node | None, what: str) -> tuple[int, int]:
    """(units a second, duration in units) of an mvhd or mdhd box."""
    if node is None or len(node.data) < 24:
        raise damaged(f"{what} is missing", "缺少时间信息")
    if node.data[0] == 1:
        if len(node.data) < 32:
            raise damaged(f"{what} ends early", "时间信息不完整")
        scale, duration = struct.unpack_from(">IQ", node.data, 20)
        unknown = duration == (1 << 64) - 1
    else:
        scale, duration = struct.unpack_from(">II", node.data, 12)
        unknown = duration == (1 << 32) - 1
    if scale == 0:
        raise damaged(f"{what} counts zero units a second", "时间单位为零")
    return scale, 0 if unknown else duration


def _movie_duration(moov: Node, tracks: tuple[Track, ...]) -> float:
    scale, duration = _scaled_time(moov.find("mvhd"), "mvhd")
    return duration / scale or max((track.duration_s for track in tracks), default=0.0)


def _is_rotated(tkhd: Node | None) -> bool:
    if tkhd is None:
        return False
    at = 52 if tkhd.data[:1] == b"\x01" else 40
    if len(tkhd.data) < at + 36:
        return False
    a, b, _, c, d = struct.unpack_from(">5i", tkhd.data, at)
    return bool(b or c or a < 0 or d < 0)


def _has_odd_edits(elst: Node | None, scale: int) -> bool:
    """Plain files shift the start by a few frames (reordering, AAC priming), at most after one empty edit."""
    if elst is None:
        return False
    wide = elst.data[:1] == b"\x01"
    row = struct.Struct(">QqI" if wide else ">IiI")
    if len(elst.data) < 8:
        raise damaged("an edit list ends early", "剪辑表不完整")
    (count,) = struct.unpack_from(">I", elst.data, 4)
    if count > 2 or len(elst.data) < 8 + count * row.size:
        return True
    edits = [row.unpack_from(elst.data, 8 + n * row.size) for n in range(count)]
    if edits and edits[0][1] == -1:
        edits = edits[1:]
    return len(edits) > 1 or any(rate != 0x10000 or not 0 <= time <= scale for _, time, rate in edits)


def _is_external(dref: Node | None) -> bool:
    """Each entry is a small box whose lowest flag says `in this same file`."""
    data, at = (dref.data if dref else b""), 8
    while at + 12 <= len(data):
        size, _, flags = struct.unpack_from(">I4sI", data, at)
        if not flags & 1:
            return True
        at += max(12, size)
    return False


def _sync_gap_s(trak: Node, scale: int) -> float:
    stbl = trak.find("mdia", "minf", "stbl")
    stss = stbl.find("stss") if stbl else None
    stts = stbl.find("stts") if stbl else None
    if stss is None or stts is None:
        return 0.0
    keys = list(read_table(stss.data, "I", 1))
    durations = read_table(stts.data, "I", 2)
    longest = last = now = sample = 0
    pending = iter([*keys[1:], None])
    key = next(pending)
    for count, delta in zip(durations[::2], durations[1::2], strict=True):
        while key is not None and key - 1 <= sample + count:
            at = now + max(0, key - 1 - sample) * delta
            longest, last = max(longest, at - last), at
            key = next(pending)
        sample, now = sample + count, now + count * delta
    return max(longest, now - last) / scale


def _end_of_samples(trak: Node) -> int:
    """Where the samples of the chunk that lies last in the file end."""
    _, offsets = chunk_offsets(trak)
    stbl = trak.find("mdia", "minf", "stbl")
    stsc = stbl.find("stsc") if stbl else None
    stsz = stbl.find("stsz") if stbl else None
    if not offsets or stsc is None:
        return 0
    last = max(range(len(offsets)), key=offsets.__getitem__)
    first, count = _samples_of_chunk(read_table(stsc.data, "I", 3), last + 1)
    if stsz is None or len(stsz.data) < 12:
        return offsets[last]  # stz2: no encoder of courseware writes it
    fixed: int
    total: int
    fixed, total = struct.unpack_from(">II", stsz.data, 4)
    count = min(count, max(0, total - first))
    if fixed:
        return offsets[last] + fixed * count
    return offsets[last] + sum(islice(read_table(stsz.data, "I", 1, skip=8), first, first + count))


def _samples_of_chunk(runs: array[int], chunk: int) -> tuple[int, int]:
    """(samples before this chunk, samples in it); chunks count from 1."""
    before = per = 0
    start = 1
    for first, samples in zip(runs[::3], runs[1::3], strict=True):
        if first < start:
            raise damaged("its chunk runs do not ascend", "索引表顺序有误")
        if first > chunk:
            break
        before += (first - start) * per
        start, per = first, samples
    return before + (chunk - start) * per, per


def _immovable(boxes: tuple[Box, ...], moov: Node, fragmented: bool) -> str:
    if fragmented:
        return "fragmented"
    if any(box.kind == "meta" for box in boxes):
        return "file-level metadata with offsets"
    kinds = {node.kind for node in moov.walk()}
    held = sorted(kinds & _HOLDS_OFFSETS)
    return f"offsets in {held[0]}" if held else ""
