"""The record of use: what is noted survives, several processes share it, and its loss or damage costs recency only."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from support.edge_store import ROOT
from support.small_disk import fill, small_disk

from edge.store.eviction import HALF_LIFE_S
from edge.store.usage import Evictions, Usage
from manifests.digests import digest_of
from manifests.errors import StorageFullError
from manifests.instants import Instant

A, B = digest_of(b"a"), digest_of(b"b")
NOW = Instant(1_000_000)
LATER = Instant(NOW + HALF_LIFE_S)


def test_uses_leases_pins_and_evictions_are_kept(tmp_path: Path) -> None:
    with Usage.open(tmp_path / "usage.sqlite") as usage:
        assert usage.note_pulled(A, "kj-1", 500, NOW)
        assert usage.note_used({A: 3}, Instant(NOW + 5))
        assert usage.note_used({A: 0}, Instant(NOW + 9))
        assert usage.lease([A, B], Instant(NOW + 60))
        assert usage.lease([A], Instant(NOW + 30)), "an earlier instant does not shorten a lease"
        usage.pin("kj-9", NOW)
    with Usage.open(tmp_path / "usage.sqlite") as usage:
        row = usage.row(A)
        assert (row.courseware, row.size, row.pulled_at, row.used_at, row.uses) == ("kj-1", 500, NOW, NOW + 9, 3)
        assert usage.pulled() == {A: "kj-1"}
        assert usage.leases(NOW) == {A: NOW + 60, B: NOW + 60}
        assert usage.leases(Instant(NOW + 60)) == {}
        assert usage.pins() == {"kj-9"}
        usage.unpin("kj-9")
        usage.note_evicted({A: 500}, LATER, "pulled", 0.25)
        assert usage.pins() == frozenset()
        assert (usage.was_evicted(A), usage.was_evicted(B)) == (True, False)
        assert usage.evictions() == {"pulled": Evictions(1, 500, 1)}
        assert usage.evictions(Instant(LATER + 86400)) == {}


def test_what_comes_back_has_its_uses_cooled_and_stands_above_the_last_victim(tmp_path: Path) -> None:
    with Usage.open(tmp_path / "usage.sqlite") as usage:
        usage.note_pulled(A, "kj-1", 500, NOW)
        usage.note_used({A: 8}, NOW)
        usage.note_evicted({A: 500}, NOW, "pulled", 0.5)
        usage.note_pulled(A, "kj-1", 500, LATER)
        row = usage.row(A)
        assert (row.heat, row.floor, row.evicted_at, row.arrived_at, row.uses) == (4.0, 0.5, 0, LATER, 8)
        usage.note_planned([(A, "kj-1", 500)], Instant(LATER + 1))
        row = usage.row(A)
        assert (row.heat, row.pulled_at, row.arrived_at) == (4.0, 0, LATER), "one that is here keeps its place"
        usage.note_used({B: 1}, LATER)
        assert usage.row(B).floor == 0.5


def test_rows_that_are_of_no_more_use_are_forgotten(tmp_path: Path) -> None:
    with Usage.open(tmp_path / "usage.sqlite") as usage:
        usage.note_used({A: 1}, NOW)
        usage.note_evicted({B: 1}, NOW)
        assert usage.forget([A], NOW)
        assert usage.rows().keys() == {B}
        assert usage.forget([], Instant(NOW + 200 * 86400))
        assert not usage.rows()


@pytest.mark.parametrize("harm", ["deleted", "damaged", "other generation"])
def test_a_file_that_is_gone_or_damaged_is_begun_anew(tmp_path: Path, harm: str) -> None:
    path = tmp_path / "usage.sqlite"
    with Usage.open(path) as usage:
        usage.note_used({A: 1}, NOW)
        if harm == "deleted":
            path.unlink()
        else:
            usage.close()
            path.write_bytes(
                b"\0" * 8192 if harm == "damaged" else path.read_bytes()[:60] + b"\0\0\0\x63" + path.read_bytes()[64:]
            )
        assert usage.note_used({B: 2}, NOW)
        assert usage.rows().keys() == {B}
    with Usage.open(path) as usage:
        assert usage.row(B).uses == 2


def test_processes_at_once_lose_no_use(tmp_path: Path) -> None:
    path = tmp_path / "usage.sqlite"
    code = (
        f"from pathlib import Path; from edge.store.usage import Usage\n"
        f"with Usage.open(Path({str(path)!r})) as usage:\n"
        f"    assert all(usage.note_used({{{str(A)!r}: 1}}, {NOW}) for _ in range(50))"
    )
    started = [subprocess.Popen([sys.executable, "-c", code], cwd=ROOT) for _ in range(3)]
    assert [one.wait(60) for one in started] == [0, 0, 0]
    with Usage.open(path) as usage:
        assert usage.row(A).uses == 150


def test_a_full_disk_stops_no_reader(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", "1m") as disk, Usage.open(disk / "usage.sqlite") as usage:
        usage.note_used({A: 1}, NOW)
        fill(disk / "hog")
        noted = [usage.note_used({digest_of(f"{n}".encode()): 1}, NOW) for n in range(200)]
        assert not noted[-1]
        assert usage.row(A).uses == 1
        with pytest.raises(StorageFullError):
            usage.note_evicted({digest_of(f"e{n}".encode()): 1 for n in range(2000)}, NOW)
        (disk / "hog").unlink()
        assert usage.note_used({A: 1}, NOW)


def test_a_place_that_cannot_be_written_is_no_fault_of_serving(tmp_path: Path) -> None:
    (tmp_path / "usage.sqlite").mkdir()
    with Usage.open(tmp_path / "usage.sqlite") as usage:
        assert not usage.note_used({A: 1}, NOW)
        assert (usage.was_evicted(A), usage.pins(), usage.rows()) == (False, frozenset(), {})
