"""Pilots at an edge: what is shown and fetched here is one version, what is passed on is both."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from support.edge_store import make_blob
from support.portal import NOW, Shop, file_of, lesson

from edge.fill.offers import Offers, Release
from edge.serve.shelf import make_offered
from edge.store.blobs import BlobStore
from edge.store.library import Library
from edge.sync.planner import Action, plan_sync
from edge.sync.plans import Here
from edge.sync.wanting import Wanted
from manifests.catalog import resolve
from manifests.instants import Instant
from manifests.model import FORMAT, MAJOR, Catalog, Courseware, Pilot
from manifests.names import Region
from manifests.pieces import BlobRef

OLD, NEW = make_blob(300_000, "old"), make_blob(310_000, "new")
INSIDE, OUTSIDE = "410122", "410225"


def on_trial(areas: tuple[str, ...] = (INSIDE,)) -> Courseware:
    base = lesson("kj-1", file_of(OLD, "a.mp4"))
    following = msgspec.structs.replace(base, version=base.version + 1, files=(file_of(NEW, "b.mp4"),))
    return msgspec.structs.replace(base, pilot=Pilot(areas, following))


def catalog_of(*items: Courseware) -> Catalog:
    return Catalog(FORMAT, MAJOR, "410000", 7, items[0].published, courseware=items)


async def _offers(shop: Shop, ref: BlobRef, region: str) -> Offers:
    async def store() -> BlobStore:
        return shop.store

    return Offers(lambda: Release(ref, Instant(NOW)), store, Region(region))


@pytest.mark.parametrize(("region", "version"), [(INSIDE, 2), (OUTSIDE, 1)])
async def test_a_missing_lesson_is_looked_up_in_the_version_of_the_region(
    tmp_path: Path, region: str, version: int
) -> None:
    shop = Shop(tmp_path)
    offers = await _offers(shop, shop.install(offered=[on_trial()]), region)
    found = await offers.lesson("kj-1")
    assert found is not None
    assert (found.version, found.pilot) == (version, None)
    # Whoever syncs from here may be on the other side of the pilot.
    for blob, expected in ((OLD, 1), (NEW, 2)):
        passed_on = await offers.lesson_of(blob.digest)
        assert passed_on is not None
        assert passed_on.version == expected
        assert await offers.offers("kj-1", blob.digest)
    assert not await offers.offers("kj-1", make_blob(10, "other").digest)
    shop.close()


@pytest.mark.parametrize(("region", "name"), [(INSIDE, "b.mp4"), (OUTSIDE, "a.mp4")])
def test_names_are_of_one_version_and_blobs_of_both(region: str, name: str) -> None:
    offered = make_offered(catalog_of(on_trial()), Region(region))
    assert offered.names == {"kj-1": frozenset({name})}
    assert offered.has_blob(OLD.digest)
    assert offered.has_blob(NEW.digest)


@pytest.mark.parametrize(("region", "version"), [(INSIDE, 2), (OUTSIDE, 1)])
def test_the_plan_is_made_of_one_version(region: str, version: int) -> None:
    catalog = resolve(catalog_of(on_trial()), Region(region))
    plan = plan_sync(Here({}, {}, {}, 1 << 40), catalog, Wanted(Region(region)), Instant(NOW))
    assert [(item.id, item.version) for item in plan.of(Action.ADD)] == [("kj-1", version)]


@pytest.mark.parametrize(("held", "expected"), [(NEW, 2), (OLD, None)])
def test_an_index_made_anew_takes_part_in_the_pilot_by_the_bundle(
    tmp_path: Path, held: object, expected: int | None
) -> None:
    shop = Shop(tmp_path)
    shop.put(held)  # type: ignore[arg-type]
    shop.install(offered=[on_trial()])
    shop.close()
    shop.paths.index.unlink()
    with BlobStore.open(shop.paths) as store:
        assert Library(store).versions().get("kj-1") == expected


def test_without_a_bundle_an_index_made_anew_takes_part_in_none(tmp_path: Path) -> None:
    shop = Shop(tmp_path)
    shop.put(OLD, NEW)
    shop.install(offered=[on_trial()])
    shop.close()
    shop.paths.index.unlink()
    shop.paths.bundle.unlink()
    with BlobStore.open(shop.paths) as store:
        items = Library(store).installed()
    assert [(item.version, item.pilot) for item in items.values()] == [(1, None)]
