"""What goes on a disk: only what edges lack, most urgent first, cut to the room, the rest on the next one."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from manifests.digests import Digest, digest_of
from manifests.instants import Instant, dump_instant
from manifests.model import Catalog, Courseware, File, Patch, Pilot
from manifests.pieces import PIECE_SIZE, BlobRef
from tools.courier.planner import ExportPlan, Room, Station, plan_export

NOW = Instant(1_795_000_000)
UNIT = 4096
WIDE = Room(1 << 40, UNIT, 1 << 30)
CATALOG = BlobRef(digest_of(b"catalog"), 5000)
HERE, THERE = Station("410122"), Station("410322")


def name(text: str) -> Digest:
    return digest_of(text.encode())


def lesson(id_: str, size: int = 100_000, version: int = 1, **fields: Any) -> Courseware:
    patches = fields.pop("patches", ())
    blob = f"{id_} {version}"
    table = name(f"table of {blob}") if size > PIECE_SIZE else None
    file = File("video", "film.mp4", "video/mp4", name(blob), size, table, patches=patches)
    fields = {"audience": ("410000",), "published": dump_instant(Instant(NOW - 1000)), "title": id_} | fields
    return Courseware(id=id_, version=version, kind="video", files=(file,), **fields)


def catalog(*lessons: Courseware) -> Catalog:
    return Catalog("yuanjiao-catalog", 1, "410000", 7, dump_instant(NOW), courseware=lessons)


def plan(
    lessons: list[Courseware],
    stations: list[Station],
    room: Room = WIDE,
    files_held: dict[tuple[str, int], tuple[File, ...]] | None = None,
    earlier: dict[str, int] | None = None,
) -> ExportPlan:
    return plan_export(catalog(*lessons), CATALOG, stations, files_held or {}, room, NOW, earlier)


def packed(made: ExportPlan) -> list[str]:
    return [item.id for item in made.items]


def test_the_order_is_deadline_priority_newest_small() -> None:
    lessons = [
        lesson("big", 200_000),
        lesson("small", 100),
        lesson("newer", 100_000, published=dump_instant(Instant(NOW - 10))),
        lesson("first", 100_000, priority=9),
        lesson("ending", 100_000, priority=0, expires=dump_instant(Instant(NOW + 90_000))),
        lesson("over", expires=dump_instant(Instant(NOW - 1))),
    ]
    made = plan(lessons, [HERE])
    assert packed(made) == ["ending", "first", "newer", "small", "big"]
    assert made.not_needed == 1
    assert "expires" in made.items[0].reason


def test_only_what_the_edges_want_and_lack() -> None:
    lessons = [
        lesson("there", audience=("410322",)),
        lesson("nowhere", audience=("420000",)),
        lesson("held"),
        lesson("column", columns=("zl-x",)),
    ]
    chooser = Station("410122", frozenset({"zl-x"}), {"held": 1})
    assert packed(plan(lessons, [chooser])) == ["column"]
    both = plan(lessons, [chooser, THERE])
    assert sorted(packed(both)) == ["column", "held", "there"]
    assert {item.id: item.edges for item in both.items} == {"column": 2, "held": 1, "there": 1}


def test_an_older_version_is_brought_up_by_its_patch() -> None:
    old = lesson("film", 900_000)
    patch = Patch(old.files[0].blob, name("patch"), 2000)
    new = lesson("film", 900_000, 2, patches=(patch,))
    holder = Station("410122", held={"film": 1})
    made = plan([new], [holder], files_held={("film", 1): old.files})
    assert made.items[0].blobs == {name("table of film 2"): 4 * 32, name("patch"): 2000}
    assert made.items[0].bytes == 2 * UNIT
    # Together with an edge that has nothing, the whole file goes along, and the patch too.
    both = plan([new], [holder, THERE], files_held={("film", 1): old.files})
    assert set(both.items[0].blobs) == set(map(name, ("table of film 2", "patch", "film 2")))
    # What was held is not known here any more: the file itself goes.
    assert name("film 2") in plan([new], [holder]).items[0].blobs


def test_a_disk_for_a_pilots_county_and_others_has_both_versions() -> None:
    old, new = lesson("one", 100_000), lesson("one", 110_000, 2)
    item = msgspec.structs.replace(old, pilot=Pilot(("410122",), new))
    assert set(plan([item], [HERE]).items[0].blobs) == {new.files[0].blob}
    assert set(plan([item], [THERE]).items[0].blobs) == {old.files[0].blob}
    both = plan([item], [HERE, THERE]).items[0]
    assert set(both.blobs) == {old.files[0].blob, new.files[0].blob}
    assert (both.version, both.edges) == (2, 2)
    proved = Station("410122", held={"one": 2})
    assert packed(plan([item], [proved])) == []


def test_what_does_not_fit_is_left_for_the_next_disk() -> None:
    lessons = [lesson("a", 400_000), lesson("b", 400_000), lesson("c", 40_000), lesson("huge", 3_000_000)]
    room = Room(500_000, UNIT, 1 << 30)
    first = plan(lessons, [HERE], room)
    assert packed(first) == ["c", "a"]
    assert {one.id: one.reason for one in first.left} == {
        "b": "no room on this disk; it goes on the next one",
        "huge": "it is larger than the disk; use a larger one",
    }
    assert first.parts > 1
    second = plan(lessons, [HERE], room, earlier={"c": 1, "a": 1})
    assert (packed(second), second.earlier) == (["b"], 2)
    # A newer version is not what the earlier disk carries.
    assert packed(plan([lesson("c", 40_000, 2)], [HERE], room, earlier={"c": 1})) == ["c"]


def test_small_files_and_parts_take_whole_units() -> None:
    made = plan([lesson("a", 1)], [HERE], Room(1 << 30, 32768, 1 << 20))
    assert made.items[0].bytes == 32768
    long = plan([lesson("a", (1 << 20) + 1)], [HERE], Room(1 << 30, 32768, 1 << 20))
    assert long.items[0].bytes == (1 << 20) + 2 * 32768


@settings(max_examples=60, deadline=None)
@given(
    sizes=st.lists(st.integers(0, 900_000), min_size=1, max_size=12),
    room=st.integers(100_000, 1_500_000),
)
def test_disks_of_a_series_carry_everything_once(sizes: list[int], room: int) -> None:
    lessons = [lesson(f"l{n:02d}", size) for n, size in enumerate(sizes)]
    limit = Room(room, UNIT, 1 << 30)
    earlier: dict[str, int] = {}
    plans = []
    while True:
        made = plan(lessons, [HERE], limit, earlier=earlier)
        plans.append(made)
        assert made.bytes <= room
        assert not earlier.keys() & packed(made)
        earlier |= {item.id: item.version for item in made.items}
        if not made.items or not made.left:
            break
    left = {one.id for one in plans[-1].left}
    assert earlier.keys() | left == {item.id for item in lessons}
    assert all("larger" in one.reason for one in plans[-1].left)
    assert all(one.left_bytes >= two.left_bytes for one, two in pairwise(plans))
