"""The shelf's orders, and what an offer remembers of a catalog."""

from __future__ import annotations

import dataclasses
import random
from pathlib import Path

import msgspec
import pytest
from support.edge_store import make_blob
from support.portal import NOW, HandClock, Shop, file_of, lesson

from edge.serve import stock as stock_module
from edge.serve.content import find_media, split_path
from edge.serve.problems import NotHereError
from edge.serve.shelf import LOOSE, make_offered, make_shelf
from edge.serve.stock import Stock
from edge.settings import Settings
from manifests.digests import Digest
from manifests.errors import InputError, NotFoundError
from manifests.instants import Instant, dump_instant
from manifests.model import FORMAT, MAJOR, Catalog, Column, Courseware, Patch, Recall
from manifests.names import Region

BIG = make_blob(200_000, "big")
SMALL = make_blob(10, "small")
PATCH = make_blob(20, "patch")


def test_lessons_stand_latest_first_in_every_known_column() -> None:
    file = file_of(SMALL, "a.mp4")
    items = {
        "b": lesson("b", file, columns=("two", "one"), published=NOW),
        "a": lesson("a", file, columns=("one",), published=NOW),
        "c": lesson("c", file, columns=("gone",), published=NOW + 5),
    }
    shelf = make_shelf(
        3, 7, [Column("two", "二", 2), Column("one", "一", 1), Column("none", "空")], items, Instant(NOW)
    )
    assert shelf.newest == ("c", "a", "b")
    assert shelf.by_column == {"one": ("a", "b"), "two": ("b",), LOOSE: ("c",)}
    assert [column.id for column in shelf.columns] == ["none", "one", "two"]
    assert (shelf.column_title("two"), shelf.column_title("x")) == ("二", "")
    assert shelf.file("a", "a.mp4") == file
    assert shelf.file("a", "b.mp4") is shelf.file("x", "a.mp4") is None
    with pytest.raises(dataclasses.FrozenInstanceError):
        shelf.token = 4  # type: ignore[misc]


def test_offer_knows_names_and_all_blobs_of_this_region_only() -> None:
    patch = Patch(SMALL.digest, PATCH.digest, 20)
    mine = lesson("mine", file_of(BIG, "a.mp4", patches=(patch,)))
    theirs = type(mine)("theirs", 1, "别县", "video", ("410200",), mine.published, (file_of(SMALL, "x.mp4"),))
    catalog = Catalog(FORMAT, MAJOR, "410000", 1, mine.published, courseware=(mine, theirs))
    offered = make_offered(catalog, Region("410122"))
    assert offered.names == {"mine": frozenset({"a.mp4"})}
    assert BIG.ref.table is not None
    assert all(offered.has_blob(digest) for digest in (BIG.digest, BIG.ref.table, PATCH.digest))
    assert not offered.has_blob(SMALL.digest)
    assert not offered.has_blob(Digest("0" * 64))


def test_what_has_expired_is_not_said_to_come() -> None:
    ends = lesson("ends", file_of(SMALL, "a.mp4"), published=NOW)
    ends = msgspec.structs.replace(ends, expires=dump_instant(Instant(NOW + 60)))
    offered = make_offered(Catalog(FORMAT, MAJOR, "410000", 1, ends.published, courseware=(ends,)), Region("410122"))
    assert offered.has_file("ends", "a.mp4", Instant(NOW + 59))
    assert not offered.has_file("ends", "b.mp4", Instant(NOW))
    assert not offered.has_file("ends", "a.mp4", Instant(NOW + 60))
    assert not offered.has("other", Instant(NOW))


def test_paths_are_split_before_they_are_decoded() -> None:
    assert split_path("/media/a/b%2Fc?x=/y") == ["media", "a", "b/c"]
    assert split_path("/") == [""]
    assert split_path("/%E5%B0%8F") == ["小"]
    assert split_path("/小") == ["小"]
    for bad in ("/%ff", "/\udcff"):
        with pytest.raises(InputError):
            split_path(bad)


async def test_shelf_follows_the_library_step_by_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Random installs and recalls: what is read in pieces is what a whole reading gives."""
    shop = Shop(tmp_path)
    shop.put(SMALL)
    file = file_of(SMALL, "a.mp4")
    stock = Stock(shop.paths, Settings(), shop.store, shop.library, HandClock())
    rng = random.Random(5)
    for step in range(25):
        monkeypatch.setattr(stock_module, "MOST_SINGLE", rng.choice([0, 2, 100]))
        names = [f"kj-{rng.randrange(12)}" for _ in range(rng.randrange(5))]
        items = {name: lesson(name, file, version=step + 1, published=NOW + rng.randrange(99)) for name in names}
        gone = [f"kj-{rng.randrange(12)}" for _ in range(rng.randrange(3))]
        shop.install(*items.values(), removed=[one for one in gone if one not in items])
        if rng.random() < 0.8:
            await stock.look()
            whole = shop.library.load()
            now = Instant(NOW)
            assert stock.shelf == make_shelf(whole.token, whole.catalog_version, whole.columns, whole.courseware, now)
    stock.close()
    shop.close()


def ending(id_: str, after_s: int) -> Courseware:
    return lesson(id_, file_of(SMALL, "a.mp4"), published=NOW, expires=dump_instant(Instant(NOW + after_s)))


def test_a_shelf_knows_until_when_it_is_right() -> None:
    items = {one.id: one for one in (ending("a", 60), ending("b", 120), lesson("c", file_of(SMALL, "a.mp4")))}
    shelf = make_shelf(1, 1, (), items, Instant(NOW))
    assert (set(shelf.lessons), shelf.is_right_at(Instant(NOW + 59))) == ({"a", "b", "c"}, True)
    assert not shelf.is_right_at(Instant(NOW + 60))
    later = make_shelf(1, 1, (), {**shelf.lessons, **shelf.ended}, Instant(NOW + 60))
    assert (set(later.lessons), set(later.ended), later.newest) == ({"b", "c"}, {"a"}, ("b", "c"))
    assert later.is_right_at(Instant(NOW + 119))
    assert not later.is_right_at(Instant(NOW + 120))
    assert not later.is_right_at(Instant(NOW + 59)), "the clock was set back"


async def test_a_lesson_whose_time_is_over_goes_by_itself_and_while_it_is_sent(tmp_path: Path) -> None:
    """Without a line and without a sync: the library does not change."""
    shop, clock = Shop(tmp_path), HandClock()
    shop.put(SMALL)
    shop.install(ending("ends", 60), lesson("stays", file_of(SMALL, "a.mp4")))
    stock = Stock(shop.paths, Settings(), shop.store, shop.library, clock)
    await stock.look()
    sent = await find_media(stock, "ends", "a.mp4")
    stock.entries.put("/media/ends/a.mp4", sent)
    kept = await find_media(stock, "stays", "a.mp4")
    stock.entries.put("/media/stays/a.mp4", kept)
    clock.now = Instant(NOW + 60)
    await stock.look()
    assert (sent.revoked, kept.revoked) == (True, False)
    assert list(stock.shelf.lessons) == ["stays"]
    with pytest.raises(NotFoundError):
        await find_media(stock, "ends", "a.mp4")
    shop.install(lesson("new", file_of(SMALL, "a.mp4")))
    await stock.look()
    assert set(stock.shelf.lessons) == {"stays", "new"}, "nor does it come back with another"
    clock.now = Instant(NOW + 59)
    await stock.look()
    assert "ends" in stock.shelf.lessons
    shop.install(ending("later", 300 * 86400))
    clock.now = Instant(NOW + 3650 * 86400)
    await stock.look()
    assert set(stock.shelf.lessons) == {"stays", "new", "later"}, "a wrong year is no reason to show nothing"
    stock.close()
    shop.close()


async def test_a_lesson_that_was_just_recalled_is_unknown_and_not_late(tmp_path: Path) -> None:
    """Its bytes are gone a moment before the shelf is renewed."""
    shop = Shop(tmp_path)
    shop.put(SMALL, BIG)
    shop.install(lesson("gone", file_of(SMALL, "a.mp4")), lesson("stays", file_of(BIG, "a.mp4")))
    stock = Stock(shop.paths, Settings(), shop.store, shop.library, HandClock())
    await stock.look()
    shop.install(recalls=(Recall("gone", 1, "有误", dump_instant(Instant(NOW))),))
    shop.store.delete([SMALL.digest, BIG.digest])
    with pytest.raises(NotFoundError):
        await find_media(stock, "gone", "a.mp4")
    with pytest.raises(NotHereError):
        await find_media(stock, "stays", "a.mp4")
    stock.close()
    shop.close()
