"""Plans of patches: where content went, on blobs large enough that memory and regions count."""

import mmap
import random
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from manifests import patch_plan
from manifests.patches import PatchPlan, apply_patch, dump_header, encode_segment, plan_patch

MIB = 1 << 20
NOISE = random.Random(7).randbytes(48 * MIB)
FOREIGN = random.Random(8).randbytes(24 * MIB)


def check_plan(plan: PatchPlan, old: bytes, new: bytes) -> None:
    assert (plan.old_size, plan.new_size) == (len(old), len(new))
    assert sum(one.new_size for one in plan.segments) == len(new)
    for before, after in pairwise(plan.segments):
        assert after.new_start == before.new_start + before.new_size
    dump_header(plan, [1] * len(plan.segments))  # refuses a plan that breaks a limit


def patch_of(old: bytes, new: bytes, plan: PatchPlan) -> bytes:
    frames = [encode_segment(plan, n, old, new) for n in range(len(plan.segments))]
    return dump_header(plan, [len(frame) for frame in frames]) + b"".join(frames)


def rebuilt(old: bytes, patch: bytes, new_size: int) -> bytes:
    parts = apply_patch(
        lambda a, b: old[a:b], lambda a, b: patch[a:b], len(patch), old_size=len(old), new_size=new_size
    )
    return b"".join(parts)


EDITS: dict[str, tuple[Callable[[bytes], bytes], int]] = {
    # what was done to the old blob, and how many bytes its patch may have beside 2 kB per segment
    "nothing": (lambda old: old, 0),
    "intro trimmed off": (lambda old: old[11 * MIB + 123 :], 0),
    "intro trimmed off, new head": (lambda old: FOREIGN[:200_000] + old[11 * MIB + 123 :], 200_000),
    "intro put in front": (lambda old: FOREIGN[: 5 * MIB + 7] + old, 5 * MIB),
    "long intro put in front": (lambda old: FOREIGN[: 21 * MIB + 7] + old, 21 * MIB),
    "inserted in the middle": (lambda old: old[: 19 * MIB] + FOREIGN[: 3 * MIB + 5] + old[19 * MIB :], 3 * MIB),
    "much inserted in the middle": (lambda old: old[: 19 * MIB] + FOREIGN[: 20 * MIB + 5] + old[19 * MIB :], 20 * MIB),
    "cut out of the middle": (lambda old: old[: 9 * MIB + 1] + old[30 * MIB + 3 :], 0),
    "end cut off": (lambda old: old[: 33 * MIB + 5], 0),
    "end added": (lambda old: old + FOREIGN[:300_000], 300_000),
    "several shifts": (
        lambda old: b"".join(FOREIGN[n : n + n * 999] + old[n * 6 * MIB : (n + 1) * 6 * MIB] for n in range(8)),
        30_000,
    ),
    "halves swapped": (lambda old: old[24 * MIB :] + old[: 24 * MIB], 0),
    "shuffled by 3 MiB": (
        lambda old: b"".join(old[n * 5 % 16 * 3 * MIB :][: 3 * MIB] for n in range(16)),
        0,
    ),
    "a byte changed every 100 kB": (
        lambda old: b"".join(old[n : n + 99_999] + b"!" for n in range(0, len(old) - 99_999, 100_000)),
        20_000,
    ),
    "only a clip kept": (lambda old: old[37 * MIB + 1 : 37 * MIB + 300_001], 0),
    "only a crumb kept": (lambda old: old[37 * MIB + 1 : 37 * MIB + 40_001], 40_100),
}


@pytest.mark.parametrize(("edit", "spare"), EDITS.values(), ids=EDITS.keys())
def test_edits_are_found(edit: Callable[[bytes], bytes], spare: int) -> None:
    new = edit(NOISE)
    plan = plan_patch(NOISE, new)
    check_plan(plan, NOISE, new)
    patch = patch_of(NOISE, new, plan)
    assert len(patch) <= spare * 1.01 + 2_000 * (1 + len(plan.segments))
    assert rebuilt(NOISE, patch, len(new)) == new


def test_unrelated_blobs_are_given_up() -> None:
    plan = plan_patch(NOISE, FOREIGN)
    check_plan(plan, NOISE, FOREIGN)
    assert plan.covered_ratio == 0.0


def test_text_of_records(tmp_path: Path) -> None:
    rng = random.Random(1)

    def record(n: int) -> str:
        return f'{{"id":"kj-{n:06}","blob":"{rng.randbytes(32).hex()}","title":"冬小麦田间管理","kind":"video"}},'

    records = [record(n) for n in range(150_000)]
    old = "".join(records).encode()
    for n in rng.sample(range(len(records)), 10):
        records[n] = record(n) + record(n)
    new = "".join(records).encode()
    assert len(old) > patch_plan.MAX_REGION_BYTES
    plan = plan_patch(old, new)
    assert plan.covered_ratio == 1.0
    patch = patch_of(old, new, plan)
    assert len(patch) < 6_000
    assert rebuilt(old, patch, len(new)) == new


def test_shuffled_crumbs_stay_within_the_budget_of_cuts() -> None:
    rng = random.Random(3)
    order = list(range(0, 24 * MIB, 32 * 1024))
    rng.shuffle(order)
    new = b"".join(NOISE[at * 2 : at * 2 + 32 * 1024] for at in order)
    plan = plan_patch(NOISE, new)
    check_plan(plan, NOISE, new)
    assert len(plan.segments) <= 3 + 65
    assert rebuilt(NOISE, patch_of(NOISE, new, plan), len(new)) == new


@pytest.mark.parametrize("filler", [b"\0", b"ab", bytes(range(256))], ids=["zeros", "pairs", "period"])
def test_blobs_that_repeat(filler: bytes) -> None:
    old = filler * (20 * MIB // len(filler))
    new = old[: 18 * MIB + 11] + b"the end"
    plan = plan_patch(old, new)
    check_plan(plan, old, new)
    patch = patch_of(old, new, plan)
    assert len(patch) < 10_000
    assert rebuilt(old, patch, len(new)) == new


sizes = st.integers(0, 200) | st.sampled_from([7, 8, 9, 63, 64, 65, 262_143, 262_145, 1_500_000])


@settings(max_examples=60, deadline=None)
@given(sizes, sizes, st.booleans())
def test_small_and_uneven_sizes(old_size: int, new_size: int, related: bool) -> None:
    old = NOISE[:old_size]
    new = NOISE[5 : 5 + new_size] if related else FOREIGN[:new_size]
    plan = plan_patch(old, new)
    check_plan(plan, old, new)
    assert rebuilt(old, patch_of(old, new, plan), new_size) == new


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3_000_000), st.integers(0, 400_000), st.booleans()), max_size=6))
def test_any_mixture_of_old_and_foreign_parts(parts: list[tuple[int, int, bool]]) -> None:
    old = NOISE[: 3 * MIB]
    new = b"".join((FOREIGN if foreign else old)[at : at + size] for at, size, foreign in parts)
    plan = plan_patch(old, new)
    check_plan(plan, old, new)
    assert rebuilt(old, patch_of(old, new, plan), len(new)) == new


def test_plan_is_the_same_every_time_and_holds_no_buffer(tmp_path: Path) -> None:
    path = tmp_path / "old"
    path.write_bytes(NOISE)
    new = NOISE[9 * MIB :]
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as old:
        plan = plan_patch(old, new)
        assert plan == plan_patch(NOISE, new)
        frame = encode_segment(plan, 0, old, new)
        assert frame == encode_segment(plan, 0, NOISE, bytearray(new))
        # Leaving the block closes the map, which fails while anything still points into it.
    assert plan.covered_ratio == 1.0
