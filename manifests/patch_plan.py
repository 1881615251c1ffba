"""Where the content of a new blob lies in an older one: the plan of a patch.

This file knows bytes and positions. It does not know how segments are compressed or written (patches.py), and a poor
plan costs bytes, never correctness.

Theory of operation. The new blob is cut into segments; each may name one region of the old blob. Most segments are
placed by *probes*: short comparisons at the shift that held for the segment before. Where probes fail, *anchors*
are used: all places in the old blob that begin with one rare pair of bytes (the marker) are indexed by the bytes that
follow, in one linear scan; the same places of the new segment are looked up. Anchors depend on content, not on
position, so any number of insertions, cuts and moves is found at the cost of one scan of each blob. A segment is cut
where the content it follows jumps further than one region can reach.
"""

from __future__ import annotations

import itertools
import re
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing_extensions import Buffer

MAX_SEGMENT_BYTES = 8 * 1024 * 1024
MIN_SEGMENT_BYTES = 16 * 1024  # every segment but the last; bounds the table and the re-reading of regions
MAX_REGION_BYTES = 16 * 1024 * 1024
MIN_REGION_BYTES = 8  # zstd refuses a shorter prefix
REGION_SLACK_BYTES = 256 * 1024

_REACH = 4 * 1024 * 1024  # a region spreads this far to both sides of the expected place
_PROBES = 16
_PROBE_BYTES = 64
_KEY_BYTES = 48
_MAX_ANCHORS = 1 << 16  # about 12 MiB of index, whatever the blob's size
_JOIN_SHIFT = 1024 * 1024  # neighbouring anchors whose shifts differ by less follow the same content
_PROOF_BYTES = 4096  # a lone anchor counts only if this much around it is equal
_SAMPLES = 64


@dataclass(frozen=True, slots=True)
class Segment:
    """A portion of the new blob and the region of the old one that it refers to (`old_size` 0: none)."""

    new_start: int
    new_size: int
    old_start: int = 0
    old_size: int = 0


@dataclass(frozen=True, slots=True)
class PatchPlan:
    """How a patch is cut. Segments follow each other without gaps and cover the new blob."""

    old_size: int
    new_size: int
    segments: tuple[Segment, ...]

    @property
    def covered_ratio(self) -> float:
        """Share of the new blob that has a region; 0.0 means that the blobs look unrelated."""
        covered = sum(segment.new_size for segment in self.segments if segment.old_size)
        return covered / self.new_size if self.new_size else 1.0


def max_region(new_size: int) -> int:
    """Longest region that a segment of `new_size` bytes may name; bounds what a patch can make a reader read."""
    return min(MAX_REGION_BYTES, 4 * new_size + REGION_SLACK_BYTES)


def plan_patch(old: Buffer, new: Buffer, between: Callable[[], object] | None = None) -> PatchPlan:
    """Plan a patch that builds `new` from `old`.

    Args:
        old: the whole older blob; hand in an mmap so that it is not read into memory.
        new: the whole newer blob.
        between: called after each segment, where who maps the blobs can give their pages back.
    """
    segments: list[Segment] = []
    with memoryview(old) as before, memoryview(new) as after:
        for segment in _Planner(before, after).segments():
            segments.append(segment)
            if between is not None:
                between()
        return PatchPlan(len(before), len(after), tuple(segments))


@dataclass(frozen=True, slots=True)
class _Run:
    """Neighbouring anchors that follow the same content: their reach in both blobs, half-open."""

    new_start: int
    new_stop: int
    old_start: int
    old_stop: int
    first_shift: int
    last_shift: int


class _Planner:
    def __init__(self, old: memoryview, new: memoryview) -> None:
        self._old = old
        self._new = new
        self._index: _AnchorIndex | None = None
        # Shuffled blobs would be cut at every turn: then segments take what fits and leave the rest.
        self._cuts_left = 64 + len(new) // MAX_SEGMENT_BYTES // 2

    def segments(self) -> Iterator[Segment]:
        old_size, new_size = len(self._old), len(self._new)
        start = shift = 0
        while start < new_size:
            stop = min(start + MAX_SEGMENT_BYTES, new_size)
            if old_size <= max_region(stop - start):
                segment = _with_region(start, stop, 0, old_size, old_size)
            elif (held := self._held_shift(start, stop, shift)) is not None:
                shift = held
                segment = _with_region(start, stop, start + shift, stop + shift, old_size)
            else:
                segment, shift = self._place(start, stop, shift)
            yield segment
            start += segment.new_size
            if not segment.old_size and self._is_hopeless(start):
                yield from _plain(start, new_size)
                return

    def _held_shift(self, start: int, stop: int, shift: int) -> int | None:
        """The first likely shift at which all probes of the segment match."""
        size = min(_PROBE_BYTES, stop - start)
        places = [start + (stop - start - size) * i // (_PROBES - 1) for i in range(_PROBES)]
        for one in dict.fromkeys((shift, 0, len(self._old) - len(self._new))):
            is_inside = start + one >= 0 and stop + one <= len(self._old)
            if is_inside and all(self._is_equal(at, one, size) for at in places):
                return one
        return None

    def _place(self, start: int, stop: int, shift: int) -> tuple[Segment, int]:
        """Place a segment by anchors: the segment, which may end before `stop`, and the shift to expect after it."""
        found = list(self._anchors().look_up(self._new, start, stop))
        runs = [run for run in _runs(found) if self._is_proved(run)]
        if found and not runs:
            return Segment(start, stop - start), shift
        # Where nothing can be looked up (a stretch of numbers, of zeros), the expected place is the best guess.
        low = start + shift
        high = low if runs else stop + shift
        for run in runs:
            low_too, high_too = min(low, run.old_start), max(high, run.old_stop)
            if high_too - low_too <= MAX_REGION_BYTES:
                low, high, shift = low_too, high_too, run.last_shift
                continue
            border = max(self._equal_from(run), start)
            if border - start < MIN_SEGMENT_BYTES:
                low, high, shift = run.old_start, run.old_stop, run.last_shift
            elif self._cuts_left:
                self._cuts_left -= 1
                stop, shift = border, run.first_shift
                break
        return _with_region(start, stop, low, high, len(self._old)), shift

    def _anchors(self) -> _AnchorIndex:
        if self._index is None:
            self._index = _AnchorIndex(self._old)
        return self._index

    def _is_proved(self, run: _Run) -> bool:
        if run.new_stop - run.new_start > _KEY_BYTES:
            return True
        equal = _equal_after(self._new, run.new_start, self._old, run.old_start, _PROOF_BYTES)
        return equal + run.new_start - self._equal_from(run) >= _PROOF_BYTES

    def _equal_from(self, run: _Run) -> int:
        """Where, before the run, the equal content begins in the new blob (not further back than a segment)."""
        at = run.new_start
        floor = max(0, -run.first_shift, at - MAX_SEGMENT_BYTES)
        for step in (65536, 1024, 16, 1):
            while at - step >= floor and self._is_equal(at - step, run.first_shift, step):
                at -= step
        return at

    def _is_equal(self, at: int, shift: int, size: int) -> bool:
        # Copies are compared as memory, views element by element: 40 times as slow before Python 3.14.
        return self._new[at : at + size].tobytes() == self._old[at + shift : at + shift + size].tobytes()

    def _is_hopeless(self, start: int) -> bool:
        """Look at samples of what is left: unrelated blobs are given up before they are read through."""
        index = self._anchors()
        window = 4 * index.interval
        for i in range(_SAMPLES):
            at = start + (len(self._new) - start) * i // _SAMPLES
            found = list(index.look_up(self._new, at, min(at + window, len(self._new))))
            if not found or any(there is not None for _, there in found):
                return False
        return True


class _AnchorIndex:
    """Where each anchor of the old blob lies. Anchors that occur more than once name no place and are left out."""

    def __init__(self, old: memoryview) -> None:
        marker, per_byte = _pick_marker(old)
        self._marker = re.compile(re.escape(marker)) if marker else None
        # Thinning by content keeps the same anchors in both blobs.
        self._every = max(1, int(per_byte * len(old)) // _MAX_ANCHORS + 1)
        self.interval = int(self._every / per_byte) + 1 if per_byte else len(old)
        places: dict[bytes, int] = {}
        for at, key in self._anchors(old, 0, len(old)):
            places[key] = -1 if key in places else at
            if len(places) >= 2 * _MAX_ANCHORS:
                break  # the sample misled; the rest stays without anchors
        self._places = {key: at for key, at in places.items() if at >= 0}

    def look_up(self, new: memoryview, start: int, stop: int) -> Iterator[tuple[int, int | None]]:
        """Each anchor of the range with its place in the old blob, None when it has none there."""
        for at, key in self._anchors(new, start, stop):
            yield at, self._places.get(key)

    def _anchors(self, data: memoryview, start: int, stop: int) -> Iterator[tuple[int, bytes]]:
        if self._marker is None:
            return
        for match in self._marker.finditer(data, start, stop):
            at = match.start()
            key = bytes(data[at : at + _KEY_BYTES])
            if len(key) == _KEY_BYTES and zlib.crc32(key) % self._every == 0:
                yield at, key


def _pick_marker(data: memoryview) -> tuple[bytes, float]:
    """A pair of bytes that is rare and spread well, and how often it occurs per byte; empty when there is none."""
    spread: Counter[tuple[int, int]] = Counter()
    total: Counter[tuple[int, int]] = Counter()
    size = 1024
    starts = {len(data) * i // _SAMPLES for i in range(_SAMPLES)}
    for start in starts:
        sample = data[start : start + size].tobytes()
        pairs = Counter(itertools.pairwise(sample))
        total.update(pairs)
        spread.update(pairs.keys())
    # One in 16 KiB on average is near enough to find a cut and far enough to cost nothing.
    rare = [pair for pair, count in total.items() if count <= len(starts) * size // 16384]
    best = max(rare, key=lambda pair: (spread[pair], pair), default=None)
    if best is None or spread[best] < 3:
        return b"", 0.0
    return bytes(best), total[best] / (len(starts) * size)


def _runs(found: list[tuple[int, int | None]]) -> Iterator[_Run]:
    """Join neighbouring anchors whose shifts are alike."""
    run: _Run | None = None
    for at, there in found:
        if there is None:
            continue
        shift = there - at
        if run is not None and abs(shift - run.last_shift) <= _JOIN_SHIFT:
            low, high = min(run.old_start, there), max(run.old_stop, there + _KEY_BYTES)
            run = _Run(run.new_start, at + _KEY_BYTES, low, high, run.first_shift, shift)
            continue
        if run is not None:
            yield run
        run = _Run(at, at + _KEY_BYTES, there, there + _KEY_BYTES, shift, shift)
    if run is not None:
        yield run


def _equal_after(new: memoryview, at: int, old: memoryview, there: int, most: int) -> int:
    """How many bytes are equal from these two places on, up to `most`."""
    mine, theirs = new[at : at + most].tobytes(), old[there : there + most].tobytes()
    if mine == theirs:
        return len(mine)
    return next((i for i, (a, b) in enumerate(zip(mine, theirs, strict=False)) if a != b), min(len(mine), len(theirs)))


def _with_region(start: int, stop: int, low: int, high: int, old_size: int) -> Segment:
    """A segment with a region around `low` to `high`, as wide as the limits allow."""
    most = max_region(stop - start)
    low, high = max(min(low, old_size), 0), max(min(high, old_size), 0)
    if high - low > most:
        high = low + most
    width = high - low + 2 * min(_REACH, (most - (high - low)) // 2)
    # What does not fit on one side of the old blob's ends is given to the other.
    low = max(low - (width - (high - low)) // 2, 0)
    high = min(low + width, old_size)
    low = max(high - width, 0)
    if high - low < MIN_REGION_BYTES:
        return Segment(start, stop - start)
    return Segment(start, stop - start, low, high - low)


def _plain(start: int, stop: int) -> Iterator[Segment]:
    for at in range(start, stop, MAX_SEGMENT_BYTES):
        yield Segment(at, min(MAX_SEGMENT_BYTES, stop - at))
