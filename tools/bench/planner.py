"""The night's plan for a library of 50,000 lessons: nothing here yet, and everything here but ten."""

from __future__ import annotations

import time

from edge.sync.planner import Action, Here, plan_sync
from edge.sync.wanting import Wanted
from manifests.instants import Instant, dump_instant
from manifests.model import FORMAT, MAJOR, Catalog, Courseware, File
from manifests.names import Region
from manifests.pieces import PIECE_SIZE
from tools.bench.measure import Bench
from tools.bench.table import Row, median
from tools.simulate.publishing import name_of

LESSONS = 50_000  # at the bench's full size; a smaller run has fewer
_FULL_BYTES = 1 << 30
_NOW = Instant(1_800_000_000)
_WANTED = Wanted(Region("410122"))
_CHANGED = 10


def run(bench: Bench) -> list[Row]:
    """Measure."""
    count = max(10 * _CHANGED, round(LESSONS * min(1.0, bench.size_bytes / _FULL_BYTES)))
    lessons = tuple(_lesson(n) for n in range(count))
    catalog = Catalog(FORMAT, MAJOR, Region("410000"), 1, dump_instant(_NOW), courseware=lessons)
    held = lessons[: count - _CHANGED]
    blobs = {name for item in held for file in item.files for name in (file.blob, file.table) if name}
    full = Here({item.id: item.version for item in held}, blobs, {}, 1 << 50)
    empty = Here({}, set(), {}, 1 << 50)
    return [
        _row(bench, f"plan of {count} lessons, none of them here", empty, catalog, count),
        _row(bench, f"plan of {count} lessons, {_CHANGED} of them new", full, catalog, _CHANGED),
    ]


def _row(bench: Bench, what: str, here: Here, catalog: Catalog, fills: int) -> Row:
    seconds = []
    for _ in range(bench.rounds):
        began_s = time.perf_counter()
        plan = plan_sync(here, catalog, _WANTED, _NOW)
        seconds.append(time.perf_counter() - began_s)
        if len(plan.of(Action.ADD)) != fills:
            raise RuntimeError("the plan is not the expected one: its time would mean nothing")
    return Row(what, f"{median(seconds):.2f} s", "", None, "≤ 1 s", "the catalog is decoded already")


def _lesson(n: int) -> Courseware:
    size = PIECE_SIZE * (1 + n % 3000)
    video = File(
        "video",
        "lesson.mp4",
        "video/mp4",
        name_of(n, "video"),
        size,
        name_of(n, "table") if size > PIECE_SIZE else None,
    )
    poster = File("poster", "poster.jpg", "image/jpeg", name_of(n, "poster"), 60_000)
    return Courseware(
        f"kj-{n:05}",
        1,
        f"课件 {n}",
        "video",
        ("410000",),
        "2026-03-01T00:00:00Z",
        (video, poster),
        expires="2027-03-01T00:00:00Z" if n % 4 == 0 else None,
        priority=n % 10,
    )
