"""The box reader and the moving of headers: real clips, built trees, and files made to hurt."""

from __future__ import annotations

import struct
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.media import box_names, make_mp4, packets_of

from manifests.errors import InputError
from manifests.ranges import ByteRange
from origin.publish.mp4 import chunk_offsets, read_layout
from origin.publish.mp4_boxes import MAX_HEADER_BOXES, Read, parse_header
from origin.publish.mp4_faststart import FaststartPlan, plan_faststart


def reader(data: bytes) -> Read:
    return lambda at, count: data[at : at + count]


def box(kind: bytes, *bodies: bytes, wide: bool = False) -> bytes:
    body = b"".join(bodies)
    if wide:
        return struct.pack(">I4sQ", 1, kind, 16 + len(body)) + body
    return struct.pack(">I4s", 8 + len(body), kind) + body


def full(kind: bytes, body: bytes) -> bytes:
    return box(kind, bytes(4), body)


def make_trak(offsets: list[int], size: int, *, wide: bool = False, trailing: bytes = b"") -> bytes:
    """A track of one sample per chunk, each `size` bytes."""
    table = struct.pack(f">I{len(offsets)}{'Q' if wide else 'I'}", len(offsets), *offsets)
    stbl = box(
        b"stbl",
        full(b"stsd", struct.pack(">I", 1) + box(b"avc1", bytes(78))),
        full(b"stts", struct.pack(">III", 1, len(offsets), 10)),
        full(b"stsc", struct.pack(">IIII", 1, 1, 1, 1)),
        full(b"stsz", struct.pack(">II", size, len(offsets))),
        full(b"co64" if wide else b"stco", table),
    )
    hdlr = full(b"hdlr", bytes(4) + b"vide" + bytes(12))
    mdhd = full(b"mdhd", struct.pack(">IIIII", 0, 0, 1000, 10 * len(offsets), 0))
    return box(b"trak", box(b"mdia", mdhd, hdlr, box(b"minf", stbl)), trailing)


def make_moov(*traks: bytes, extra: bytes = b"") -> bytes:
    mvhd = full(b"mvhd", struct.pack(">IIIII", 0, 0, 1000, 1000, 0) + bytes(76))
    return box(b"moov", mvhd, *traks, extra)


def apply(plan: FaststartPlan, data: bytes) -> bytes:
    return b"".join(part if isinstance(part, bytes) else data[part.start : part.stop] for part in plan.parts)


def offsets_of(data: bytes) -> list[list[int]]:
    moov = read_layout(reader(data), len(data)).moov
    return [list(chunk_offsets(node)[1]) for node in moov.children if node.kind == "trak"]


@st.composite
def trees(draw: st.DrawFn) -> tuple[bytes, int]:
    """A file with its header anywhere, samples in several mdat boxes, and other boxes between; and the sample size."""
    size = draw(st.integers(1, 9))
    parts: list[bytes] = [box(b"ftyp", b"isom", bytes(4))] if draw(st.booleans()) else []
    kinds = draw(st.lists(st.sampled_from(["mdat", "free", "wide mdat", "uuid"]), min_size=1, max_size=5))
    kinds = [*kinds, "mdat"]
    at = draw(st.integers(0, len(kinds)))
    traks = draw(st.integers(1, 3))
    wides = [draw(st.booleans()) for _ in range(traks)]
    trailing = draw(st.sampled_from([b"", bytes(4), box(b"udta", b"abc")]))
    counts = [draw(st.lists(st.integers(0, 4), min_size=traks, max_size=traks)) for _ in kinds]

    def header(offsets: list[list[int]]) -> bytes:
        return make_moov(
            *(make_trak(o, size, wide=w, trailing=trailing) for o, w in zip(offsets, wides, strict=True)),
            extra=box(b"udta", b"name"),
        )

    held = [sum(one[n] for k, one in zip(kinds, counts, strict=True) if "mdat" in k) for n in range(traks)]
    length = len(header([[0] * count for count in held]))
    offsets: list[list[int]] = [[] for _ in range(traks)]
    out, sample = b"".join(parts), 0
    for n, kind in enumerate([*kinds, ""]):
        if n == at:
            out += bytes(length)
            moov_at = len(out) - length
        if not kind:
            continue
        if "mdat" not in kind:
            out += box(kind.encode(), b"???")
            continue
        start = len(out) + (16 if "wide" in kind else 8)
        body = b""
        for track in range(traks):
            for _ in range(counts[n][track]):
                offsets[track].append(start + len(body))
                sample += 1
                body += (sample % 251).to_bytes(1, "big") * size
        out += box(b"mdat", body, wide="wide" in kind)
    moov = header(offsets)
    assert len(moov) == length
    return out[:moov_at] + moov + out[moov_at + length :], size


@settings(max_examples=150, deadline=None)
@given(trees())
def test_after_the_move_every_offset_points_to_the_same_bytes(tree: tuple[bytes, int]) -> None:
    data, size = tree
    plan = plan_faststart(reader(data), len(data))
    layout = read_layout(reader(data), len(data))
    assert (plan is None) == layout.faststart
    if plan is None:
        return
    moved = apply(plan, data)
    assert plan.size == len(moved)
    assert read_layout(reader(moved), len(moved)).faststart
    assert plan_faststart(reader(moved), len(moved)) is None
    old, new = offsets_of(data), offsets_of(moved)
    assert [len(one) for one in old] == [len(one) for one in new]
    for old_track, new_track in zip(old, new, strict=True):
        for a, b in zip(old_track, new_track, strict=True):
            assert data[a : a + size] == moved[b : b + size]


def test_a_real_clip_is_moved_and_its_packets_stay(tmp_path: Path) -> None:
    path = make_mp4(tmp_path / "a.mp4", 1, faststart=False)
    data = path.read_bytes()
    plan = plan_faststart(reader(data), len(data))
    assert plan is not None
    moved = tmp_path / "b.mp4"
    moved.write_bytes(apply(plan, data))
    assert box_names(path)[-1] == "moov"
    assert box_names(moved)[:2] == ["ftyp", "moov"]
    assert packets_of(moved) == packets_of(path)
    front = make_mp4(tmp_path / "c.mp4", 1).read_bytes()
    assert plan_faststart(reader(front), len(front)) is None


class Huge:
    """A file of gigabytes that exists only where it is read."""

    def __init__(self, parts: list[tuple[int, bytes]], size: int) -> None:
        self.parts, self.size = parts, size

    def read(self, at: int, count: int) -> bytes:
        out = bytearray(max(0, min(count, self.size - at)))
        for start, data in self.parts:
            for n in range(max(at, start), min(at + len(out), start + len(data))):
                out[n - at] = data[n - start]
        return bytes(out)


def test_of_the_header_nothing_but_the_offsets_changes(tmp_path: Path) -> None:
    """What lets a moved file count as its own original."""
    data = make_mp4(tmp_path / "slow.mp4", 2, faststart=False).read_bytes()
    plan = plan_faststart(reader(data), len(data))
    assert plan is not None
    before, after = read_layout(reader(data), len(data)), read_layout(reader(apply(plan, data)), plan.size)
    pairs = list(zip(before.moov.walk(), after.moov.walk(), strict=True))
    assert [old.kind for old, _ in pairs] == [new.kind for _, new in pairs]
    assert {old.kind for old, new in pairs if old.data != new.data} == {"stco"}
    shift = after.moov_box.size
    assert offsets_of(apply(plan, data)) == [[offset + shift for offset in table] for table in offsets_of(data)]


@pytest.mark.parametrize("spare", [0, 64, 4096])
def test_offsets_that_pass_4_gib_by_the_move_become_wide(spare: int) -> None:
    # The last sample of the first track stays below 4 GiB until the header is put before it.
    last = (1 << 32) - 8 - spare
    ftyp = box(b"ftyp", b"isom", bytes(4))
    mdat = struct.pack(">I4sQ", 1, b"mdat", (1 << 32) - len(ftyp))
    moov = make_moov(make_trak([40, last], 8), make_trak([48], 8))
    huge = Huge([(0, ftyp), (len(ftyp), mdat), (1 << 32, moov)], (1 << 32) + len(moov))
    plan = plan_faststart(huge.read, huge.size)
    assert plan is not None
    header = plan.parts[1]
    assert isinstance(header, bytes)
    first, second = (node for node in parse_header(header).children if node.kind == "trak")
    shift = len(header)
    assert list(chunk_offsets(first)[1]) == [40 + shift, last + shift]
    assert chunk_offsets(first)[0] == ("co64" if last + shift >= 1 << 32 else "stco")
    assert chunk_offsets(second) == ("stco", chunk_offsets(second)[1])
    assert list(chunk_offsets(second)[1]) == [48 + shift]
    assert plan.parts[2:] == (ByteRange(len(ftyp), 1 << 32),)
    assert plan.size == huge.size + len(header) - len(moov)


def test_a_long_header_is_put_together_without_many_copies_of_it() -> None:
    count = 60_000
    moov = make_moov(make_trak([16] * count, 8), make_trak([16] * count, 8))
    data = box(b"mdat", bytes(16)) + moov
    tracemalloc.start()
    try:
        assert plan_faststart(reader(data), len(data)) is not None
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 7 * len(data)


def read_layout_of(header: bytes):
    from origin.publish.mp4_boxes import parse_header

    return parse_header(header)


def test_what_the_header_says(tmp_path: Path) -> None:
    data = make_mp4(tmp_path / "a.mp4", 2, 160, 90, gop=5).read_bytes()
    layout = read_layout(reader(data), len(data))
    video, audio = layout.track("vide"), layout.track("soun")
    assert video is not None
    assert audio is not None
    assert (video.codec, video.width, video.height, audio.codec) == ("avc1", 160, 90, "mp4a")
    assert layout.duration_s == pytest.approx(2, abs=0.1)
    assert video.max_sync_gap_s == pytest.approx(0.5)
    assert not (video.rotated)
    assert not (video.edits_odd)
    assert not (video.external)
    assert not (layout.fragmented)
    assert not (layout.immovable)
    fragmented = make_mp4(tmp_path / "f.mp4", 1, fragmented=True).read_bytes()
    assert read_layout(reader(fragmented), len(fragmented)).immovable == "fragmented"


def test_every_truncation_of_a_clip_is_told(tmp_path: Path) -> None:
    for faststart in (True, False):
        data = make_mp4(tmp_path / "a.mp4", 1, faststart=faststart).read_bytes()
        for stop in [*range(8, len(data) - 1, 97), len(data) - 1]:
            with pytest.raises(InputError):
                read_layout(reader(data[:stop]), stop)


def test_samples_beyond_the_end_are_told() -> None:
    moov = make_moov(make_trak([5000], 8))
    data = box(b"ftyp", b"isom", bytes(4)) + moov + box(b"mdat", bytes(100))
    with pytest.raises(InputError, match="truncated"):
        read_layout(reader(data), len(data))


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "header"),
        (box(b"ftyp", b"isom"), "no header"),
        (box(b"ftyp", b"isom") + make_moov() + make_moov() + box(b"mdat"), "two headers"),
        (box(b"ftyp", b"isom") + make_moov(), "no samples"),
        (box(b"ftyp", b"isom") + bytes(2) + b"\x01\x00\xff\xff\xff\xff and more", "no box"),
        (box(b"ftyp") + struct.pack(">I4s", 2, b"moov"), "no box"),
        (box(b"moov", *(box(b"trak") for _ in range(65))) + box(b"mdat"), "65 tracks"),
        (box(b"moov", *(box(b"free") for _ in range(MAX_HEADER_BOXES))) + box(b"mdat"), "too many boxes"),
        (box(b"moov", box(b"stbl")) + box(b"mdat"), "stands inside"),
        (box(b"moov", struct.pack(">I4s", 900, b"trak") + bytes(20)) + box(b"mdat"), "longer than"),
        (box(b"moov", box(b"trak", box(b"mdia"))) + box(b"mdat"), "mdhd"),
        (
            make_moov(make_trak([1], 1).replace(b"stco\0\0\0\0\0\0\0\1", b"stco\0\0\0\0\xff\xff\xff\xff"))
            + box(b"mdat"),
            "rows",
        ),
    ],
)
def test_figures_that_do_not_add_up_are_refused(data: bytes, why: str) -> None:
    with pytest.raises(InputError, match=why) as caught:
        read_layout(reader(data), len(data))
    assert any("一" <= char <= "鿿" for char in caught.value.zh)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_damage_gives_a_refusal_or_a_layout_never_another_error(data: st.DataObject) -> None:
    good = bytearray(box(b"ftyp", b"isom", bytes(4)) + make_moov(make_trak([8, 16], 8)) + box(b"mdat", bytes(64)))
    for _ in range(data.draw(st.integers(1, 6))):
        good[data.draw(st.integers(0, len(good) - 1))] = data.draw(st.integers(0, 255))
    try:
        layout = read_layout(reader(bytes(good)), len(good))
        if not layout.immovable:
            plan_faststart(reader(bytes(good)), len(good))
    except InputError:
        pass


def test_junk_behind_a_whole_file_is_kept_where_it_is(tmp_path: Path) -> None:
    data = make_mp4(tmp_path / "a.mp4", 1, faststart=False).read_bytes() + b"\0\0\0\0junk from a camera"
    plan = plan_faststart(reader(data), len(data))
    assert plan is not None
    assert apply(plan, data).endswith(b"junk from a camera")
