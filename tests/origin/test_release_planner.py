"""Version numbers and what counts as a change, against a naive model."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.releases import draft, file_of

from manifests.errors import InputError
from manifests.instants import Instant
from manifests.model import Column, Patch
from manifests.pieces import BlobRef
from origin.database.library import Known
from origin.publish.planner import Action, assemble_catalog, column_id, plan_release

NOW = Instant(1_800_000_000)

STEPS = st.lists(
    st.tuples(
        st.sampled_from(["kj-1", "kj-2", "kj-3"]),
        st.sampled_from(["one", "two"]),
        st.sampled_from(["land", "crash", "recall"]),
    ),
    max_size=12,
)


@given(STEPS)
def test_versions_only_rise_and_never_come_back(steps: list[tuple[str, str, str]]) -> None:
    known: dict[str, Known] = {}
    given_out: dict[str, list[int]] = {}
    columns: tuple[Column, ...] = ()
    offered: dict[str, str] = {}
    for key, content, fate in steps:
        if fate == "recall":
            if key in known:
                known[key] = replace(known[key], current=None)
            offered.pop(key, None)
            continue
        plan = plan_release([draft(key, content)], known, columns, NOW)
        (item,) = plan.items
        assert (item.action is Action.UNCHANGED) == (offered.get(key) == content)
        if item.action is Action.UNCHANGED:
            assert item.document == known[key].current
            continue
        version = item.document.version
        assert version == len(given_out.setdefault(key, [])) + 1
        given_out[key].append(version)
        current = known[key].current if key in known else None
        columns += plan.new_columns
        if fate == "land":
            current = item.document
            offered[key] = content
        known[key] = Known(current, version)
    assert {column.title for column in columns} <= {"农业技术"}


def test_patches_originals_and_the_hour_are_no_change() -> None:
    first = plan_release([draft()], {}, (), NOW)
    known = {"kj-1": Known(first.items[0].document, 4)}
    patch = Patch(source="0" * 64, blob="1" * 64, size=10)
    with_patch = msgspec.structs.replace(file_of("one"), patches=(patch,))
    ref = BlobRef("2" * 64, 5)
    again = plan_release([draft(files=(with_patch,), originals=(ref,))], known, first.new_columns, Instant(NOW + 9))
    assert again.changed == ()
    other = plan_release([draft(priority=9)], known, first.new_columns, NOW)
    assert [(item.action, item.document.version) for item in other.items] == [(Action.UPDATE, 5)]


def test_a_plan_says_what_and_why() -> None:
    plan = plan_release([draft(f"kj-{n}") for n in range(5)], {}, (), NOW)
    assert plan.note == "kj-0 version 1, kj-1 version 1, kj-2 version 1 and 2 more"
    assert {item.reason for item in plan.items} == {"the id is new"}
    (column,) = plan.new_columns
    assert column.id == column_id("农业技术")
    assert len(column.id) == 11
    gone = plan_release([draft("kj-0")], {"kj-0": Known(None, 3)}, plan.new_columns, NOW)
    assert gone.items[0].reason == "earlier versions are not offered any more"
    assert gone.items[0].document.version == 4


def test_a_catalog_beyond_the_limits_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("origin.publish.planner.MAX_COURSEWARE", 1)
    items = [item.document for item in plan_release([draft("kj-1"), draft("kj-2")], {}, (), NOW).items]
    with pytest.raises(InputError, match="at most 1"):
        assemble_catalog("410000", 1, NOW, items, (), ())
