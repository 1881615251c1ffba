"""An edge reads the province's catalog and its own city's: what of a city counts; none of it stops the rest."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from securesystemslib.signer import CryptoSigner
from support.cities import ZHENGZHOU, World, ids
from support.edges import run, stored
from support.province import DAY

from edge.fill.offers import Offers, Release
from edge.store.blobs import BlobStore
from edge.sync.offered import installed_offering
from manifests.digests import Digest
from manifests.errors import UntrustedError
from manifests.names import Region

BIG = bytes(range(256)) * 4096


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    made = World(tmp_path)
    async with made.site.running():
        yield made


@pytest.mark.parametrize(
    ("region", "seen"),
    [
        ("410122", {"kj-1", "410100-kj"}),
        ("410203", {"kj-1", "410200-kj"}),
        ("410302", {"kj-1"}),
        ("410100", {"kj-1", "410100-kj"}),
    ],
)
async def test_a_citys_lessons_are_seen_inside_the_city_only(world: World, region: str, seen: set[str]) -> None:
    async with world.edge(region) as edge:
        report = await run(edge)
        assert report.complete, report.error
        assert ids(edge) == seen
        assert report.catalog_version == 1
        assert report.cities == {one[:6]: 1 for one in seen if one[0] == "4"}


async def test_a_county_within_the_city_may_be_its_only_audience(world: World) -> None:
    world.zhengzhou.lesson("xian", {"a.pdf": b"county"}, audience=("410122",))
    world.zhengzhou.release()
    async with world.edge("410122") as here, world.edge("410181") as beside:
        await run(here)
        await run(beside)
        assert ids(here) - ids(beside) == {"410100-xian"}


async def test_the_provinces_columns_stand_and_the_citys_come_beside(world: World) -> None:
    async with world.edge() as edge:
        await run(edge)
        assert {one.id: one.title for one in edge.library.columns()}["zl-one"] == "农业技术"
        assert "本市专栏" in {one.title for one in edge.library.columns()}


async def test_a_poll_with_nothing_new_is_two_requests(world: World) -> None:
    async with world.edge() as edge:
        await run(edge)
    world.site.forget()
    async with world.edge() as edge:
        report = await run(edge)
    assert (report.requests, len(world.site.requests)) == (2, 2)
    assert world.site.bytes_sent < 1000


async def test_news_of_another_city_cost_two_small_files_and_no_catalog(world: World) -> None:
    async with world.edge() as edge:
        await run(edge)
        world.kaifeng.lesson("kj", {"a.pdf": b"new"})
        ref = world.kaifeng.release()
        world.site.forget()
        await run(edge)
    assert world.site.asked(".cities-410200.json") == 1
    assert world.site.asked(ref.digest) == 0
    assert len(world.site.requests) == 4


async def test_versions_updates_and_recalls_of_a_city_go_their_own_way(world: World) -> None:
    async with world.edge() as edge:
        await run(edge)
        world.zhengzhou.lesson("kj", {"a.pdf": b"second"})
        world.zhengzhou.release()
        report = await run(edge)
        assert (report.updated, report.catalog_version, report.cities) == (("410100-kj",), 1, {ZHENGZHOU: 2})
        assert stored(edge, "410100-kj", "a.pdf") == b"second"
        world.zhengzhou.recall("410100-kj")
        world.zhengzhou.release()
        report = await run(edge)
        assert report.recalled == ("410100-kj",)
        assert ids(edge) == {"kj-1"}
        assert {one.id for one in edge.library.recalls()} == {"410100-kj"}


async def test_the_provinces_recall_counts_for_a_citys_lesson(world: World) -> None:
    async with world.edge() as edge:
        await run(edge)
        item = world.zhengzhou.lessons["410100-kj"]
        world.province.lessons["410100-kj"] = item
        world.province.recall("410100-kj")
        world.province.release()
        report = await run(edge)
        assert report.recalled == ("410100-kj",)
        world.zhengzhou.lesson("kj", {"a.pdf": b"corrected"})
        world.zhengzhou.release()
        await run(edge)
        assert stored(edge, "410100-kj", "a.pdf") == b"corrected"


async def test_a_citys_file_that_nobody_has_is_a_transfer_fault(world: World) -> None:
    async with world.edge() as edge:
        await run(edge)
        world.zhengzhou.release()
        world.publish(b"two")
        name = f"{world.province.cities['cities-410100']}.cities-410100.json"
        data = world.province.content.metadata.pop(name)
        report = await run(edge)
        assert report.exit_code == 4
        assert stored(edge, "kj-1", "a.pdf") == b"two"
        assert "410100-kj" in ids(edge)
        world.province.content.metadata[name] = data
        assert (await run(edge)).complete


async def test_a_parent_that_passes_no_city_on_is_made_up_for_by_another(world: World) -> None:
    old = world.province.mirror()
    old.content.metadata = {k: v for k, v in old.content.metadata.items() if "cities" not in k}
    async with old.running(), world.edge("410122", old.url, world.site.url) as edge:
        report = await run(edge)
        assert report.complete, report.error
        assert "410100-kj" in ids(edge)


async def test_a_withdrawn_city_is_gone_and_comes_back_when_it_is_entrusted_again(world: World) -> None:
    async with world.edge() as edge:
        await run(edge)
        world.zhengzhou.withdraw()
        world.province.release()
        report = await run(edge)
        assert (report.complete, report.removed, report.cities) == (True, ("410100-kj",), {})
        world.zhengzhou.entrust()
        world.province.release()
        assert (await run(edge)).added == ("410100-kj",)


async def test_a_replaced_key_is_followed_and_the_old_one_is_not(world: World) -> None:
    async with world.edge() as edge:
        await run(edge)
        old, world.zhengzhou.signer = world.zhengzhou.signer, CryptoSigner.generate_ed25519()
        world.zhengzhou.entrust()
        world.zhengzhou.lesson("kj", {"a.pdf": b"by the new key"})
        world.zhengzhou.sign()
        world.province.release()
        assert (await run(edge)).complete
        assert stored(edge, "410100-kj", "a.pdf") == b"by the new key"
        world.zhengzhou.lesson("kj", {"a.pdf": b"by the thief"})
        world.zhengzhou.release(by=old)
        assert (await run(edge)).exit_code == 3
        assert stored(edge, "410100-kj", "a.pdf") == b"by the new key"


async def test_a_province_gone_silent_hides_nothing_of_a_city(world: World) -> None:
    async with world.edge() as edge:
        await run(edge)
        world.clock.move(60 * DAY)
        with pytest.raises(UntrustedError):
            await run(edge)
        assert ids(edge) == {"kj-1", "410100-kj"}


async def test_a_city_whose_signature_ran_out_keeps_what_it_has(world: World) -> None:
    world.zhengzhou.release(days=10)
    async with world.edge() as edge:
        await run(edge)
        world.clock.move(11 * DAY)
        world.publish(b"later")
        report = await run(edge)
        assert report.exit_code == 3
        assert "expired" in report.error
        assert stored(edge, "kj-1", "a.pdf") == b"later"
        assert "410100-kj" in ids(edge)


async def test_a_lost_index_is_made_again_with_the_citys_lessons(world: World) -> None:
    async with world.edge() as edge:
        await run(edge)
        for path in edge.paths.root.glob("index*"):
            path.unlink()
    async with world.edge() as edge:
        assert ids(edge) == {"kj-1", "410100-kj"}
        assert edge.library.city_catalogs()[ZHENGZHOU].version == 1
        assert (await run(edge)).complete


async def test_a_lost_trust_state_does_not_let_an_older_catalog_in(world: World) -> None:
    async with world.edge() as edge:
        await run(edge)
        world.zhengzhou.lesson("kj", {"a.pdf": b"two"})
        world.zhengzhou.release()
        await run(edge)
        for path in edge.paths.trust.glob("*.json"):
            path.unlink()
        world.zhengzhou.lesson("kj", {"a.pdf": b"old again"})
        world.zhengzhou.release(version=1)
        assert (await run(edge)).exit_code == 3
        assert stored(edge, "410100-kj", "a.pdf") == b"two"


async def test_a_big_citys_catalog_and_lesson_come_by_pieces(world: World) -> None:
    for n in range(900):
        world.zhengzhou.lesson(f"n{n:04}", {"a.pdf": b"%d" % (n % 3)}, summary="很长的简介" * 20)
    world.zhengzhou.lesson("film", {"a.mp4": BIG})
    world.zhengzhou.release()
    async with world.edge() as edge:
        report = await run(edge)
        assert report.complete, report.error
        assert stored(edge, "410100-film", "a.mp4") == BIG
        catalog = installed_offering(edge.store, edge.library, Region("410122"))
        assert catalog is not None
        assert len(catalog.courseware) == 903
        world.site.forget()
        assert (await run(edge)).requests == 2


async def test_lessons_of_a_city_are_filled_on_demand_within_it(world: World) -> None:
    async with world.edge() as edge:
        await run(edge)
        state = edge.trust.load()
        assert state is not None
        cities = {one.city: one.catalog for one in state.cities}

        async def store() -> BlobStore:
            return edge.store

        def offers(region: str) -> Offers:
            return Offers(lambda: Release(state.catalog, state.floor, cities), store, Region(region))

        item = await offers("410122").lesson("410100-kj")
        assert item is not None
        assert await offers("410122").lesson_of(Digest(item.files[0].blob)) == item
        assert (await offers("410122").lesson("kj-1")) is not None
        assert await offers("410203").lesson("410100-kj") is None
