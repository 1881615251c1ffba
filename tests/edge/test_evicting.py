"""Eviction on a real store: lessons stay listed; kills between steps, several processes, a disk filled to the brim."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from support.edge_store import ROOT, Made, install, make_blob, make_item, opened_store, run_killed, store_blob
from support.small_disk import fill, small_disk

from edge.paths import Paths
from edge.settings import Store as StoreSettings
from edge.store.blobs import BlobStore
from edge.store.evicting import count_evicted, limits_of, lost, make_room, preview_eviction, state_of
from edge.store.eviction import BIG_BYTES, IDLE_S, EvictionLimits, Standing
from edge.store.library import Library
from edge.store.usage import Usage
from manifests.errors import ConfigurationError
from manifests.instants import Instant

PIECE = 65536
SIZE = BIG_BYTES + PIECE
NOW = Instant(1_800_000_000)
# Three lessons in a quota of three: nothing more fits.
LIMITS = EvictionLimits(3 * SIZE + 100_000, 0, 0.99, 0.75, 600.0)
FILMS = [make_blob(SIZE, f"film {n}", PIECE) for n in range(4)]
POSTER = make_blob(2000, "poster")


@dataclass
class Place:
    store: BlobStore
    library: Library
    usage: Usage

    def room(self, need: int, *, limits: EvictionLimits = LIMITS, standing: Standing = Standing.PULLED) -> int:
        return make_room(self.store, self.library, self.usage, limits, need, NOW, standing=standing)

    def pull(self, blob: Made, courseware: str, uses: int = 0) -> None:
        """As the filler does when a terminal asks."""
        store_blob(self.store, blob)
        self.usage.note_pulled(blob.digest, courseware, blob.ref.size, Instant(NOW - 2 * IDLE_S))
        self.usage.note_used({blob.digest: uses}, Instant(NOW - IDLE_S - uses))

    def here(self) -> list[int]:
        return [n for n, film in enumerate(FILMS) if self.store.has(film.digest)]


@contextmanager
def place(root: Path) -> Iterator[Place]:
    with opened_store(root) as store, Usage.open(Paths(root).usage) as usage:
        yield Place(store, Library(store), usage)


def test_a_planned_lesson_goes_last_and_stays_listed(tmp_path: Path) -> None:
    with place(tmp_path) as at:
        store_blob(at.store, FILMS[0])
        store_blob(at.store, POSTER)
        install(at.store, at.library, 1, make_item("kj-0", FILMS[0], POSTER))
        at.pull(FILMS[1], "kj-1", uses=5)
        at.pull(FILMS[2], "kj-2", uses=1)
        assert at.room(SIZE, standing=Standing.PLANNED) == 2 * SIZE, "down to the low watermark, pulled ones only"
        assert at.here() == [0]
        assert at.room(3 * SIZE, standing=Standing.PULLED) == 0
        assert at.room(3 * SIZE, standing=Standing.PLANNED) == SIZE
        assert at.here() == []
        assert at.library.get("kj-0") is not None
        assert at.store.has(POSTER.digest), "small files stay"
        assert at.usage.was_evicted(FILMS[0].digest)
        assert lost(at.library, at.usage) == {}
        assert count_evicted(at.library, at.usage) == 1
        assert at.usage.evictions()["planned"].bytes == SIZE


def test_a_begun_blob_gives_back_all_of_its_space(tmp_path: Path) -> None:
    with place(tmp_path) as at:
        film = FILMS[0]
        assert film.ref.table_ref is not None
        at.store.put(film.ref.table_ref, film.table_data)
        with at.store.begin(film.ref, film.table) as partial:
            partial.write_pieces(0, film.piece(0))
        at.usage.note_pulled(film.digest, "kj-0", SIZE, NOW)
        assert at.room(3 * SIZE) == SIZE
        assert not at.store.partials()
        assert at.usage.was_evicted(film.digest)


def test_leased_pinned_and_watched_lessons_are_passed_over(tmp_path: Path) -> None:
    with place(tmp_path) as at:
        for n in range(3):
            at.pull(FILMS[n], f"kj-{n}")
        at.usage.lease([FILMS[0].digest], Instant(NOW + 5))
        at.usage.pin("kj-1", NOW)
        at.usage.note_used({FILMS[2].digest: 0}, NOW)
        assert at.room(SIZE) == 0
        assert at.here() == [0, 1, 2]
        at.usage.unpin("kj-1")
        assert at.room(SIZE) == SIZE
        assert at.here() == [0, 2]


def test_lessons_that_share_a_film_keep_it_while_one_is_pinned(tmp_path: Path) -> None:
    with place(tmp_path) as at:
        store_blob(at.store, FILMS[0])
        install(at.store, at.library, 1, make_item("kj-a", FILMS[0]), make_item("kj-b", FILMS[0]))
        at.usage.pin("kj-b", NOW)
        (holding,) = state_of(at.store, at.library, at.usage).holdings
        assert (holding.ids, holding.standing) == (("kj-a", "kj-b"), Standing.PINNED)
        assert at.room(3 * SIZE, standing=Standing.PLANNED) == 0


def test_a_preview_changes_nothing(tmp_path: Path) -> None:
    with place(tmp_path) as at:
        for n in range(3):
            at.pull(FILMS[n], f"kj-{n}", uses=n)
        plan = preview_eviction(at.store, at.library, at.usage, LIMITS, SIZE, NOW)
        assert [one.ids for one in plan.victims] == [("kj-0",), ("kj-1",)]
        assert at.here() == [0, 1, 2]
        assert not at.usage.evicted()


KILLED = f"""
from edge.store.evicting import make_room
from edge.store.eviction import EvictionLimits
from edge.store.usage import Usage
with BlobStore.open(paths) as store, Usage.open(paths.usage) as usage:
    make_room(store, Library(store), usage, {LIMITS!r}, {SIZE}, {NOW})
"""


@pytest.mark.parametrize(("point", "kept"), [("evict:noted", [2]), ("delete:unindexed", [1, 2])])
def test_killed_between_two_steps_it_is_carried_on_with(tmp_path: Path, point: str, kept: list[int]) -> None:
    with place(tmp_path) as at:
        for n in range(3):
            at.pull(FILMS[n], f"kj-{n}", uses=n)
    run_killed(KILLED, tmp_path, point)
    with place(tmp_path) as at:
        assert FILMS[0].digest in at.usage.evicted()
        assert at.store.path(FILMS[0].digest).exists()
        at.room(SIZE)
        assert at.here() == kept
        blobs = (path for path in at.store.paths.blobs.rglob("*") if path.is_file())
        left = {path.name for path in blobs if path.stat().st_size >= SIZE}
        assert left == {FILMS[n].digest for n in kept}


def test_two_processes_at_once_evict_no_more_than_one_would(tmp_path: Path) -> None:
    with place(tmp_path) as at:
        for n in range(3):
            at.pull(FILMS[n], f"kj-{n}", uses=n)
    head = (
        "from pathlib import Path; from edge.paths import Paths; from edge.store.blobs import BlobStore\n"
        f"from edge.store.library import Library; paths = Paths(Path({str(tmp_path)!r}))\n"
    )
    started = [subprocess.Popen([sys.executable, "-c", head + KILLED], cwd=ROOT) for _ in range(3)]
    assert [one.wait(60) for one in started] == [0, 0, 0]
    with place(tmp_path) as at:
        assert at.here() == [2]
        assert at.usage.evictions()["pulled"].blobs == 2


def test_room_is_made_on_a_disk_without_a_byte_left(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", "24m") as disk, place(disk / "edge") as at:
        for n in range(2):
            at.pull(FILMS[n], f"kj-{n}", uses=n)
        fill(disk / "hog")
        limits = EvictionLimits(0, 64 * 1024, 0.9, 0.5, 600.0)
        assert at.room(SIZE // 2, limits=limits) >= SIZE // 2
        store_blob(at.store, make_blob(SIZE // 2, "new", PIECE))


def test_a_low_watermark_above_the_high_one_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="low_watermark"):
        limits_of(StoreSettings(high_watermark=0.5, low_watermark=0.5))
