"""Cities that go wrong: refused whole, told, and no hindrance to the province."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from securesystemslib.signer import CryptoSigner
from support.cities import ZHENGZHOU, City, World, ids
from support.edges import run, stored
from support.portal import get, served

from edge.sync.offered import verified_offering
from manifests.errors import UntrustedError


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    made = World(tmp_path)
    async with made.site.running():
        yield made


def foreign_audience(city: City) -> None:
    city.lesson("kj", {"a.pdf": b"bad"}, audience=("410000",))
    city.release()


def foreign_id(city: City) -> None:
    city.lesson("410200-kj", {"a.pdf": b"bad"})
    city.release()


def shadowed_id(city: City) -> None:
    province = city.province
    province.lessons[f"{city.code}-kj"] = city.lessons[f"{city.code}-kj"]
    city.lesson("kj", {"a.pdf": b"bad"})
    city.sign()


def recall_of_the_provinces(city: City) -> None:
    city.lessons["kj-1"] = city.province.lessons["kj-1"]
    city.recall("kj-1")
    city.release()


def older_catalog(city: City) -> None:
    city.lesson("kj", {"a.pdf": b"bad"})
    city.release(version=1)


def other_catalog_of_the_same_version(city: City) -> None:
    city.lesson("kj", {"a.pdf": b"bad"})
    city.release(version=city.version)


def expired(city: City) -> None:
    city.lesson("kj", {"a.pdf": b"bad"})
    city.release(days=-1)


def strangers_signature(city: City) -> None:
    city.lesson("kj", {"a.pdf": b"bad"})
    city.release(by=CryptoSigner.generate_ed25519())


def another_publisher(city: City) -> None:
    city.lesson("kj", {"a.pdf": b"bad"})
    city.release(edit=lambda data: data.replace(b'"publisher":"410100"', b'"publisher":"410000"'))


def no_catalog(city: City) -> None:
    city.release(edit=lambda _: b"{}")


def version_of_another(city: City) -> None:
    city.lesson("kj", {"a.pdf": b"bad"})
    city.release(edit=lambda data: data.replace(b'"version":3}', b'"version":7}'))


BAD = [
    foreign_audience,
    foreign_id,
    shadowed_id,
    recall_of_the_provinces,
    other_catalog_of_the_same_version,
    older_catalog,
    expired,
    strangers_signature,
    another_publisher,
    no_catalog,
    version_of_another,
]


@pytest.mark.parametrize("bend", BAD)
async def test_a_bad_city_is_refused_whole_while_the_province_goes_on(
    world: World, bend: Callable[[City], None]
) -> None:
    async with world.edge() as edge:
        await run(edge)
        world.zhengzhou.lesson("kj", {"a.pdf": b"good"})
        world.zhengzhou.release()
        assert (await run(edge)).complete
        good = dict(world.zhengzhou.lessons)
        bend(world.zhengzhou)
        world.publish(b"newer of the province")
        for _ in range(2):
            report = await run(edge)
            assert (report.exit_code, report.complete) == (3, False)
            assert ZHENGZHOU in report.error
            assert stored(edge, "kj-1", "a.pdf") == b"newer of the province"
            assert stored(edge, "410100-kj", "a.pdf") == b"good"
            assert ids(edge) == {"kj-1", "410100-kj"}
        # Not asked for again while nothing changes but by those two requests of every poll.
        assert report.requests == 2 or bend in {expired, strangers_signature}
        world.zhengzhou.lessons, world.zhengzhou.recalls = good, {}
        world.zhengzhou.version = 50
        world.zhengzhou.lesson("kj", {"a.pdf": b"mended"})
        world.zhengzhou.sign()
        world.province.lessons.pop("410100-kj", None)
        world.province.release()
        report = await run(edge)
        assert report.complete, report.error
        assert stored(edge, "410100-kj", "a.pdf") == b"mended"


async def test_a_bad_city_at_the_first_sync_leaves_the_provinces_lessons(world: World) -> None:
    foreign_audience(world.zhengzhou)
    async with world.edge() as edge:
        report = await run(edge)
        assert report.exit_code == UntrustedError.exit_code
        assert ids(edge) == {"kj-1"}


async def test_what_is_wrong_with_a_city_stands_in_the_health(world: World) -> None:
    foreign_audience(world.zhengzhou)
    async with world.edge() as edge:
        await run(edge)
    async with served(world.home / "410122", world.clock) as port:
        health = json.loads((await get(port, "/healthz")).body)
    assert [one["code"] for one in health["reasons"] if one["code"] == "city"]
    assert (health["freshness"], health["cities"]) == ("fresh", {})


async def test_a_refused_catalog_fills_nothing(world: World) -> None:
    async with world.edge() as edge:
        await run(edge)
        world.zhengzhou.lesson("new", {"a.pdf": b"new"})
        foreign_audience(world.zhengzhou)
        await run(edge)
        state = edge.trust.load()
        assert state is not None
        catalog = verified_offering(edge.store, state)
        assert {one.id for one in catalog.courseware} == {"kj-1"}


async def test_another_citys_fault_is_none_here_and_is_not_asked_for_again(world: World) -> None:
    strangers_signature(world.kaifeng)
    async with world.edge() as edge:
        report = await run(edge)
        assert report.complete, report.error
        assert ids(edge) == {"kj-1", "410100-kj"}
        assert (await run(edge)).requests == 2
