"""The outbox: numbers that never come back, what replaces what, what is kept, what is bounded."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.report.inventory import plan_inventory
from edge.report.outbox import KEPT_RECEIVED, Outbox
from manifests.errors import StorageError
from manifests.instants import Instant
from manifests.reports import Inventory, inventory_digest

BIRTH = Instant(1_795_000_000)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "outbox.sqlite"


def numbers(outbox: Outbox) -> list[int]:
    return [row.number for row in outbox.unsent(1 << 20, 1 << 30)]


def test_numbers_rise_by_one_and_survive_reopening(path: Path) -> None:
    with Outbox.open(path, BIRTH) as outbox:
        assert [outbox.append("run", b"{}", BIRTH) for _ in range(3)] == [BIRTH, BIRTH + 1, BIRTH + 2]
    with Outbox.open(path, Instant(BIRTH + 99)) as outbox:
        assert outbox.append("run", b"{}", BIRTH) == BIRTH + 3
        assert outbox.reserve() == BIRTH + 4
        assert outbox.append("run", b"{}", BIRTH) == BIRTH + 5
        assert [row.after for row in outbox.unsent(9, 99)] == [0, BIRTH, BIRTH + 1, BIRTH + 2, BIRTH + 3]


def test_a_failed_append_uses_no_number(path: Path) -> None:
    with Outbox.open(path, BIRTH) as outbox:
        with pytest.raises(TypeError):
            outbox.append("run", b"{}", BIRTH, {"note": object()})
        assert numbers(outbox) == []
        assert outbox.append("run", b"{}", BIRTH) == BIRTH


def test_a_newer_state_replaces_one_that_was_not_sent(path: Path) -> None:
    with Outbox.open(path, Instant(1)) as outbox:
        for kind in ("state", "run", "state", "run", "state"):
            outbox.append(kind, b"{}", BIRTH)  # type: ignore[arg-type]
        rows = outbox.unsent(9, 99)
        assert [(row.number, row.kind, row.after) for row in rows] == [(2, "run", 0), (4, "run", 2), (5, "state", 4)]
        outbox.acknowledge(5)
        outbox.append("state", b"{}", BIRTH)
        assert [(row.number, row.after) for row in outbox.unsent(9, 99)] == [(6, 5)]


def test_a_portion_is_bounded_and_never_empty(path: Path) -> None:
    with Outbox.open(path, Instant(1)) as outbox:
        for size in (100, 10, 10, 10):
            outbox.append("run", b"x" * size, BIRTH)
        assert len(outbox.unsent(9, 50)) == 1
        outbox.acknowledge(1)
        assert len(outbox.unsent(9, 25)) == 2
        assert len(outbox.unsent(2, 1000)) == 2
        assert outbox.oldest_unsent_at() == BIRTH


def test_what_was_received_is_kept_for_a_while(path: Path) -> None:
    with Outbox.open(path, Instant(1)) as outbox:
        for _ in range(KEPT_RECEIVED + 50):
            outbox.append("run", b"{}", BIRTH)
        outbox.acknowledge(KEPT_RECEIVED + 40)
        assert outbox.count_unsent() == 10
        outbox.acknowledge(100)
        assert numbers(outbox) == list(range(101, KEPT_RECEIVED + 51))
        assert outbox.note("want_full") is None, "everything after 100 is here"
        outbox.acknowledge(0)
        assert numbers(outbox)[0] == 41
        assert outbox.note("want_full") is True


def test_a_new_file_goes_above_what_the_origin_has(path: Path) -> None:
    with Outbox.open(path, Instant(1)) as outbox:
        outbox.append_inventory(b"{}", BIRTH, {"a": 1})
        outbox.append("run", b"{}", BIRTH)
        assert outbox.must_ask
        outbox.start_above(500)
        assert not outbox.must_ask
        assert numbers(outbox) == [501, 502]
        assert outbox.told() == (0, {}), "what was told before is not known"
        assert outbox.append("run", b"{}", BIRTH) == 503
    with Outbox.open(path, Instant(1)) as outbox:
        outbox.start_above(7)
        assert numbers(outbox) == [501, 502, 503]


def test_an_older_copy_of_the_file_goes_above_what_the_origin_has(path: Path) -> None:
    with Outbox.open(path, Instant(1)) as outbox:
        for _ in range(3):
            outbox.append("run", b"{}", BIRTH)
        outbox.acknowledge(900)
        assert numbers(outbox) == [901, 902, 903]


def test_what_is_told_moves_with_the_inventory(path: Path) -> None:
    with Outbox.open(path, Instant(1)) as outbox:
        assert outbox.told() == (0, {})
        outbox.append_inventory(b"{}", BIRTH, {"a": 1, "b": 2})
        assert outbox.told() == (1, {"a": 1, "b": 2})
        outbox.append_inventory(b"{}", BIRTH, {"b": 3, "c": 1}, {"told_catalog": 7})
        assert outbox.told() == (2, {"b": 3, "c": 1})
        assert outbox.note("told_catalog") == 7
        outbox.want_full()
        assert outbox.told() == (0, {})
        outbox.append_inventory(b"{}", BIRTH, {"b": 3})
        assert outbox.told() == (3, {"b": 3})
        outbox.discard(3)
        assert outbox.told() == (0, {})


def test_too_many_lose_the_oldest_runs_first(path: Path) -> None:
    with Outbox.open(path, Instant(1), most_rows=1000) as outbox:
        outbox._db.execute("PRAGMA synchronous = OFF")
        outbox.append_inventory(b"{}", BIRTH, {"a": 1})
        for _ in range(3000):
            outbox.append("run", b"{}", BIRTH)
        left = numbers(outbox)
        assert len(left) <= 1000 + 256
        assert left[0] == 1, "the inventory stays"
        assert left[-1] == 3001
        assert outbox.told()[0] == 1


def test_inventories_alone_give_way_to_a_full_one(path: Path) -> None:
    with Outbox.open(path, Instant(1), most_bytes=100_000) as outbox:
        outbox._db.execute("PRAGMA synchronous = OFF")
        for n in range(600):
            outbox.append_inventory(b"x" * 1000, BIRTH, {"a": n + 1})
        assert outbox.count_unsent() < 300
        outbox.append("run", b"{}", BIRTH)
    with Outbox.open(path, Instant(1)) as outbox:
        assert outbox.note("want_full") is False or outbox.told() == (0, {})


def test_a_month_waits_in_little_memory(path: Path) -> None:
    with Outbox.open(path, Instant(1)) as outbox:
        body = b'{"catalog_version":1,"complete":false,"error":"' + b"x" * 200 + b'"}'
        with outbox._write():
            for _ in range(20_000):
                outbox._append("run", body, BIRTH, {})
        tracemalloc.start()
        count = 0
        while rows := outbox.unsent(1000, 256 * 1024):
            count += len(rows)
            outbox.acknowledge(rows[-1].number)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert count == 20_000
        assert peak < 4 << 20
    assert path.stat().st_size < 64 << 20


def test_a_directory_in_its_place_is_a_fault_of_storage(path: Path) -> None:
    path.mkdir()
    with pytest.raises(StorageError):
        Outbox.open(path, BIRTH)


HELD = st.dictionaries(st.sampled_from("abcdef"), st.integers(1, 3))


@given(HELD, HELD, HELD, st.integers(0, 2), st.integers(0, 2))
def test_a_change_leads_from_what_was_told_to_what_is_held(
    told: dict[str, int], now: dict[str, int], recalls: dict[str, int], version: int, told_version: int
) -> None:
    plan = plan_inventory(5, told, now, recalls, version, told_version)
    if plan is None:
        assert told == now
        assert version == told_version
        return
    after = {id_: one for id_, one in (told | plan.held).items() if id_ not in plan.gone}
    assert after == now
    assert (plan.digest, plan.count, plan.base) == (inventory_digest(now), len(now), 5)
    assert set(plan.recalls) == {id_ for id_ in plan.gone if recalls.get(id_, 0) >= told[id_]}
    whole = plan_inventory(0, {}, now, recalls, version, 0)
    assert whole == Inventory(version, inventory_digest(now), len(now), held=now)
