"""The plan of a sync: examples, a golden plan, and properties over random situations."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.province import COUNTY, DAY, NOON

from edge.sync.planner import Action, Here, How, plan_blob, plan_sync
from edge.sync.wanting import Wanted, wanted_of
from manifests.catalog import is_for
from manifests.digests import Digest, digest_of
from manifests.instants import Instant, dump_instant
from manifests.model import Catalog, Column, Courseware, File, Patch, Recall
from manifests.names import Region
from manifests.pieces import PIECE_SIZE

GOLDEN = Path(__file__).parent / "golden_plan.json"
WANTED = Wanted(Region(COUNTY))
PAST, FUTURE = dump_instant(Instant(NOON - DAY)), dump_instant(Instant(NOON + 90 * DAY))
PLENTY = 1 << 50


def name(text: str) -> Digest:
    return digest_of(text.encode())


def make_file(text: str, size: int, *patches: Patch, file: str = "a.mp4") -> File:
    table = name(f"table {text}") if size > PIECE_SIZE else None
    return File("video", file, "video/mp4", name(text), size, table, patches=patches)


def patch(old: str, new: str, size: int) -> Patch:
    return Patch(name(old), name(f"patch {old} {new}"), size)


def lesson(id_: str, *files: File, version: int = 1, **fields: Any) -> Courseware:
    fields = {"published": PAST, "audience": ("410000",), "columns": ("zl-one",), **fields}
    return Courseware(id_, version, f"课 {id_}", "video", files=files or (make_file(id_, 1000),), **fields)


def catalog(*items: Courseware, recalls: tuple[Recall, ...] = (), version: int = 9) -> Catalog:
    columns = (Column("zl-one", "一"), Column("zl-two", "二"))
    ordered = tuple(sorted(items, key=lambda item: item.id))
    return Catalog("yuanjiao-catalog", 1, "410000", version, PAST, 0, columns, ordered, recalls)


def here(**fields: Any) -> Here:
    return Here(**{"versions": {}, "blobs": set(), "partial": {}, "room": PLENTY, **fields})


def acts(plan: Any) -> list[tuple[str, str]]:
    return [(str(item.action), item.id) for item in plan.items]


def test_recalls_first_then_removals_then_lessons() -> None:
    items = (lesson("b"), lesson("c", version=2))
    recalls = (Recall("z", 3, "错误", PAST),)
    state = here(versions={"z": 3, "y": 1, "c": 1})
    plan = plan_sync(state, catalog(*items, recalls=recalls), WANTED, NOON)
    assert acts(plan) == [("recall", "z"), ("remove", "y"), ("add", "b"), ("update", "c")]
    assert "错误" in plan.items[0].reason_zh


def test_a_recall_names_a_version_and_all_before_it() -> None:
    recalls = (Recall("a", 3, "x", PAST), Recall("b", 3, "x", PAST))
    plan = plan_sync(here(versions={"a": 4, "b": 2}), catalog(lesson("a", version=4), recalls=recalls), WANTED, NOON)
    assert acts(plan) == [("recall", "b")]


def test_a_recalled_lesson_that_came_back_is_removed_and_then_added() -> None:
    plan = plan_sync(
        here(versions={"a": 1}), catalog(lesson("a", version=2), recalls=(Recall("a", 1, "x", PAST),)), WANTED, NOON
    )
    assert acts(plan) == [("recall", "a"), ("add", "a")]


def test_what_is_not_for_this_edge() -> None:
    items = (
        lesson("city", audience=("410100",)),
        lesson("county", audience=(COUNTY,)),
        lesson("other", audience=("410200", "420000")),
        lesson("gone", expires=dump_instant(NOON)),
        lesson("column", columns=("zl-two",)),
    )
    wanted = Wanted(Region(COUNTY), frozenset({"zl-one"}))
    plan = plan_sync(here(versions={"other": 1, "gone": 1}), catalog(*items), wanted, NOON)
    assert acts(plan) == [("remove", "gone"), ("remove", "other"), ("add", "city"), ("add", "county")]
    assert plan.not_wanted == {"audience": 1, "columns": 1, "expired": 1}
    assert "expired" in plan.items[0].reason
    assert "410122" in plan.items[1].reason


def test_not_yet_published_waits_without_being_a_fault() -> None:
    plan = plan_sync(here(), catalog(lesson("a", published=FUTURE)), WANTED, NOON)
    assert acts(plan) == [("defer", "a")]
    assert not plan.items[0].for_room
    assert plan.next_change == FUTURE


def test_the_next_change_is_the_nearest_moment() -> None:
    soon = dump_instant(Instant(NOON + 5))
    plan = plan_sync(here(), catalog(lesson("a", expires=soon), lesson("b", expires=FUTURE)), WANTED, NOON)
    assert plan.next_change == soon


def test_deadline_then_priority_then_size() -> None:
    items = (
        lesson("big", make_file("big", 9000)),
        lesson("small", make_file("small", 10)),
        lesson("first", make_file("first", 9999), priority=9),
        lesson("ending", make_file("ending", 99_999), priority=0, expires=dump_instant(Instant(NOON + DAY))),
        lesson("later", make_file("later", 1), priority=1, expires=FUTURE),
    )
    plan = plan_sync(here(), catalog(*items), WANTED, NOON)
    assert [item.id for item in plan.items] == ["ending", "first", "small", "big", "later"]


def test_same_version_same_lesson_unless_it_says_something_else() -> None:
    items = (lesson("a"), lesson("b"))
    state = here(versions={"a": 1, "b": 1}, blobs={name("a"), name("b")})
    assert plan_sync(state, catalog(*items), WANTED, NOON).items == ()
    state = here(versions={"a": 1, "b": 1}, blobs={name("a"), name("b")}, altered={"b"})
    plan = plan_sync(state, catalog(*items), WANTED, NOON)
    assert acts(plan) == [("update", "b")]
    assert plan.bytes_expected == 0


def test_how_each_file_is_built() -> None:
    size = 10 * PIECE_SIZE
    table = 320
    patched = make_file("new", size, patch("old", "new", 500))
    assert plan_blob("x", patched.ref, patched.patches, here(blobs={name("new")})).how is How.HAVE
    plan = plan_blob("x", patched.ref, patched.patches, here(blobs={name("old")}))
    assert (plan.how, plan.bytes_expected, plan.source) == (How.PATCH, 500 + table, name("old"))
    plan = plan_blob("x", patched.ref, patched.patches, here())
    assert (plan.how, plan.bytes_expected) == (How.PIECES, size + table)
    almost = here(blobs={name("old"), name("table new")}, partial={name("new"): size - 400})
    plan = plan_blob("x", patched.ref, patched.patches, almost)
    assert (plan.how, plan.bytes_expected, plan.bytes_here) == (How.PIECES, 400, size - 400)
    small = make_file("small", 100)
    assert plan_blob("x", small.ref, (), here()).how is How.WHOLE
    assert plan_blob("x", small.ref, (), here(), {name("small")}).how is How.COPY


def test_the_cheapest_of_several_patches() -> None:
    one = make_file("new", 5_000_000, patch("old1", "new", 900), patch("old2", "new", 300), patch("old3", "new", 100))
    plan = plan_blob("x", one.ref, one.patches, here(blobs={name("old1"), name("old2")}))
    assert plan.source == name("old2")


def test_a_file_shared_by_two_lessons_crosses_the_line_once() -> None:
    items = (lesson("a", make_file("same", 1000)), lesson("b", make_file("same", 1000)))
    plan = plan_sync(here(room=1000), catalog(*items), WANTED, NOON)
    assert [file.how for item in plan.items for file in item.files] == [How.WHOLE, How.COPY]
    assert plan.bytes_expected == 1000


def test_no_room_defers_with_the_figures_and_smaller_ones_still_fit() -> None:
    items = (lesson("a", make_file("a", 500), priority=9), lesson("b", make_file("b", 200)))
    plan = plan_sync(here(room=300), catalog(*items), WANTED, NOON)
    assert acts(plan) == [("defer", "a"), ("add", "b")]
    assert plan.items[0].for_room
    assert "500" in plan.items[0].reason
    assert "300" in plan.items[0].reason


def test_a_partial_blob_has_its_room_already() -> None:
    items = (lesson("a", make_file("a", 9 * PIECE_SIZE)),)
    state = here(room=500, partial={name("a"): PIECE_SIZE})
    assert acts(plan_sync(state, catalog(*items), WANTED, NOON)) == [("add", "a")]


def test_a_patch_needs_room_beside_its_result() -> None:
    size = 9 * PIECE_SIZE
    items = (lesson("a", make_file("new", size, patch("old", "new", 5000))),)
    need = size + 5000 + 288
    for room, action in ((need - 1, "defer"), (need, "add")):
        assert acts(plan_sync(here(room=room, blobs={name("old")}), catalog(*items), WANTED, NOON)) == [(action, "a")]


def test_what_needs_no_room_is_not_deferred_for_it() -> None:
    """A disk below its reserve has less than no room; a new title takes none."""
    state = here(versions={"a": 1}, blobs={name("a")}, altered={"a"}, room=-5)
    assert acts(plan_sync(state, catalog(lesson("a"), lesson("b")), WANTED, NOON)) == [("update", "a"), ("defer", "b")]


def test_a_lost_piece_table_is_fetched_alone() -> None:
    items = (lesson("a", make_file("a", 10 * PIECE_SIZE)),)
    state = here(versions={"a": 1}, blobs={name("a")}, damaged={"a"})
    plan = plan_sync(state, catalog(*items), WANTED, NOON)
    assert [(file.how, file.bytes_expected) for file in plan.items[0].files] == [(How.HAVE, 320)]
    assert "damaged" in plan.items[0].reason


def test_golden_plan(request: pytest.FixtureRequest) -> None:
    """The printed plan is a promise to people; to change it on purpose, delete the file and run once."""
    size = 40 * PIECE_SIZE
    items = (
        lesson("kj-new", make_file("v", size), make_file("p", 30_000, file="poster.jpg"), priority=7),
        lesson("kj-cut", make_file("cut", size, patch("whole", "cut", 24_000)), version=3),
        lesson("kj-huge", make_file("huge", 1 << 40)),
        lesson("kj-soon", make_file("soon", 900), published=FUTURE),
        lesson("kj-far", audience=("420000",)),
    )
    recalls = (Recall("kj-bad", 2, "第三段有误", PAST),)
    state = here(
        versions={"kj-cut": 2, "kj-bad": 2, "kj-gone": 1},
        blobs={name("whole")},
        partial={name("v"): 8 * PIECE_SIZE},
        room=1 << 30,
    )
    plan = plan_sync(state, catalog(*items, recalls=recalls), WANTED, NOON)
    text = msgspec.json.format(msgspec.json.encode(plan), indent=2).decode() + "\n"
    if not GOLDEN.exists():
        GOLDEN.write_text(text, "utf-8")
    assert text == GOLDEN.read_text("utf-8")


FILES = st.builds(
    lambda i, size, old, cost: make_file(
        f"f{i}", size, *((patch(f"f{old}", f"f{i}", cost),) if old != i else ()), file=f"f{i}.mp4"
    ),
    st.integers(0, 12),
    st.sampled_from([0, 1, 1000, PIECE_SIZE, PIECE_SIZE + 1, 5 * PIECE_SIZE]),
    st.integers(0, 12),
    st.integers(1, PIECE_SIZE),
)
LESSONS = st.builds(
    lambda i, files, **fields: lesson(f"l{i:02d}", *files, **fields),
    st.integers(0, 20),
    st.lists(FILES, min_size=1, max_size=3, unique_by=lambda file: file.name),
    version=st.integers(1, 3),
    audience=st.sampled_from([("410000",), (COUNTY,), ("410100", "420000"), ("420000",)]),
    published=st.sampled_from([PAST, FUTURE]),
    expires=st.sampled_from([None, dump_instant(NOON), dump_instant(Instant(NOON + 9)), "2099-01-01T00:00:00Z"]),
    priority=st.integers(0, 9),
)


@st.composite
def situations(draw: st.DrawFn) -> tuple[Here, Catalog]:
    items = draw(st.lists(LESSONS, max_size=8, unique_by=lambda item: item.id))
    versions = draw(st.dictionaries(st.sampled_from([f"l{i:02d}" for i in range(24)]), st.integers(1, 3), max_size=8))
    recalled = draw(st.lists(st.sampled_from(["l21", "l22", "l23"]), unique=True))
    blobs = {name(f"f{i}") for i in draw(st.sets(st.integers(0, 12)))}
    partial = {name(f"f{i}"): draw(st.integers(0, 1000)) for i in draw(st.sets(st.integers(0, 12), max_size=3))}
    partial = {digest: count for digest, count in partial.items() if digest not in blobs}
    room = draw(st.sampled_from([0, 1500, 4 * PIECE_SIZE, PLENTY]))
    recalls = tuple(Recall(id_, 2, "x", PAST) for id_ in recalled)
    return here(versions=versions, blobs=blobs, partial=partial, room=room), catalog(*items, recalls=recalls)


@given(situations())
def test_properties(situation: tuple[Here, Catalog]) -> None:
    state, offered = situation
    plan = plan_sync(state, offered, WANTED, NOON)
    assert plan == plan_sync(state, offered, WANTED, NOON)
    ranks = [["recall", "remove", "fill"].index(rank) for rank in map(_rank, plan.items)]
    assert ranks == sorted(ranks)
    gone = {item.id for item in plan.of(Action.RECALL, Action.REMOVE)}
    assert gone <= state.versions.keys()
    wanted = {item.id: item for item in wanted_of(offered, WANTED, NOON)}
    assert wanted.keys() == {item.id for item in offered.courseware if _is_wanted(item)}
    # What is installed and not named by the plan is wanted, at exactly the catalog's version.
    touched = {item.id for item in plan.items}
    for id_ in state.versions.keys() - touched:
        assert wanted[id_].version == state.versions[id_]
    # Everything wanted is installed already, or in the plan once.
    fills = [item.id for item in plan.of(Action.ADD, Action.UPDATE, Action.DEFER)]
    assert len(fills) == len(set(fills))
    for id_, item in wanted.items():
        assert id_ in fills or (state.versions.get(id_) == item.version and id_ not in gone)
    assert all(item.reason and item.reason_zh for item in plan.items)
    assert plan.bytes_expected == sum(item.bytes_expected for item in plan.items)
    _check_files(plan, wanted, state)


def _rank(item: Any) -> str:
    return {Action.RECALL: "recall", Action.REMOVE: "remove"}.get(item.action, "fill")


def _is_wanted(item: Courseware) -> bool:
    return is_for(item, WANTED.region) and (item.expires is None or item.expires > dump_instant(NOON))


def _check_files(plan: Any, wanted: dict[str, Courseware], state: Here) -> None:
    taken = 0
    coming: set[str] = set()
    for item in plan.of(Action.ADD, Action.UPDATE):
        files = wanted[item.id].files
        assert [file.name for file in item.files] == [file.name for file in files]
        for n, (file, one) in enumerate(zip(files, item.files, strict=True)):
            assert 0 <= one.bytes_expected <= file.size + (file.ref.table_ref.size if file.ref.table_ref else 0)
            assert (one.how is How.HAVE) == (file.blob in state.blobs)
            assert one.how is not How.PATCH or one.source in state.blobs | {earlier.blob for earlier in files[:n]}
            assert one.how is not How.COPY or file.blob in coming
            is_begun = file.table is not None and file.blob in state.partial
            if file.blob not in state.blobs and file.blob not in coming and not is_begun:
                taken += file.size
            coming.add(file.blob)
    assert taken <= max(state.room, 0)
