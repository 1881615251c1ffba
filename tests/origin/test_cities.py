"""Cities that publish: their right, their catalogs, their keys; none of it keeps the province from anything."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

import pytest
from support.releases import AddressIn, Edge, ManualClock, copy_origin, draft, on_database, open_releases, run_act
from tuf.api.exceptions import DownloadError

from manifests.errors import ConfigurationError, InputError
from manifests.names import Region
from origin.publish.cities import publisher_for
from origin.publish.metadata import MetadataDir
from origin.publish.release import Releases

ZHENGZHOU, KAIFENG = Region("410100"), Region("410200")


def lesson(city: str = ZHENGZHOU, name: str = "kj-1", content: str = "one", **more):
    return draft(f"{city}-{name}", content, **{"audience": (Region(city),), "publisher": city, **more})


@pytest.fixture(scope="module")
def founded(tmp_path_factory: pytest.TempPathFactory, address_in: AddressIn) -> Path:
    """An origin with nothing in it."""
    root = tmp_path_factory.mktemp("founded") / "origin"
    on_database(root, address_in(root))

    async def found() -> None:
        async with open_releases(root) as releases:
            await releases.establish()

    asyncio.run(found())
    return root


@pytest.fixture
def home(founded: Path, tmp_path: Path) -> Path:
    return copy_origin(founded, tmp_path / "origin")


async def edge_of(releases: Releases, home: Path) -> Edge:
    return Edge(home.parent / "edge", home, await releases.root_text())


async def test_a_city_publishes_after_it_was_entrusted_and_not_before(home: Path) -> None:
    async with open_releases(home) as releases:
        await releases.publish(draft())
        with pytest.raises(ConfigurationError, match="may not publish"):
            await releases.publish(lesson())
        right = await releases.entrust(ZHENGZHOU)
        assert right.changed
        assert right.version == 0
        assert len(right.keys) == 1
        assert not (await releases.entrust(ZHENGZHOU)).changed
        edge = await edge_of(releases, home)
        assert edge.poll_city(ZHENGZHOU) is None
        done = await releases.publish(lesson())
        assert (done.id, done.version, done.catalog_version) == ("410100-kj-1", 1, 1)
        assert edge.poll_city(ZHENGZHOU).custom["version"] == 1
        assert (await releases.publish(lesson(content="two"))).catalog_version == 2
        _, own = await releases.current_catalog(ZHENGZHOU)
        _, province = await releases.current_catalog()
        assert [item.id for item in own.courseware] == ["410100-kj-1"]
        assert own.publisher == ZHENGZHOU
        assert [item.id for item in province.courseware] == ["kj-1"]
        assert province.publisher == "410000"
        assert not (await releases.publish(lesson(content="two"))).changed
        assert edge.poll().custom["version"] == province.version


async def test_ids_and_audiences_stay_within_their_borders(home: Path) -> None:
    async with open_releases(home) as releases:
        await releases.entrust(ZHENGZHOU)
        await releases.entrust(KAIFENG)
        for bad in (
            draft("kj-1", publisher=ZHENGZHOU, audience=(ZHENGZHOU,)),
            draft("410200-kj-1", publisher=ZHENGZHOU, audience=(ZHENGZHOU,)),
            draft("410100-kj-1"),
            lesson(audience=(Region("410000"),)),
            lesson(audience=(ZHENGZHOU, Region("410203"))),
        ):
            with pytest.raises(InputError):
                await releases.publish(bad)
        await releases.publish(lesson(audience=(Region("410122"),)))
        assert await releases.owner("410100-kj-1") == ZHENGZHOU


async def test_a_recall_stands_in_the_citys_catalog_and_without_its_key_in_the_provinces(home: Path) -> None:
    async with open_releases(home) as releases:
        await releases.entrust(ZHENGZHOU)
        await releases.publish(lesson())
        await releases.publish(lesson(name="kj-2", content="two"))
        done = await releases.recall("410100-kj-1", "内容有误")
        _, own = await releases.current_catalog(ZHENGZHOU)
        assert [one.id for one in own.recalls] == ["410100-kj-1"]
        assert done.catalog_version == own.version
        (home / "keys" / "cities-410100.pem").rename(home / "away.pem")
        await releases.recall("410100-kj-2", "内容有误")
        _, province = await releases.current_catalog()
        assert [one.id for one in province.recalls] == ["410100-kj-2"]
        assert not (await releases.recall("410100-kj-2", "again")).changed
        (home / "away.pem").rename(home / "keys" / "cities-410100.pem")
        await releases.publish(lesson(name="kj-3", content="three"))
        _, own = await releases.current_catalog(ZHENGZHOU)
        assert [item.id for item in own.courseware] == ["410100-kj-3"]


async def test_a_rotated_key_signs_and_the_old_one_does_not(home: Path) -> None:
    async with open_releases(home) as releases:
        await releases.entrust(ZHENGZHOU)
        await releases.publish(lesson())
        edge = await edge_of(releases, home)
        edge.poll_city(ZHENGZHOU)
        before = (home / "keys" / "cities-410100.pem").read_bytes()
        done = await releases.rotate("cities-410100")
        assert done.retired != done.keys
        assert (home / "keys" / "cities-410100.pem").read_bytes() != before
        assert edge.poll_city(ZHENGZHOU).custom["version"] == 1
        await releases.publish(lesson(content="two"))
        assert edge.poll_city(ZHENGZHOU).custom["version"] == 2
        (home / "keys" / "cities-410100.pem").write_bytes(before)
        with pytest.raises(ConfigurationError, match=r"cities-410100\.pem"):
            await releases.publish(lesson(content="three"))
        # A lost key: nothing of the old one is needed.
        done = await releases.rotate("cities-410100")
        assert edge.poll_city(ZHENGZHOU).custom["version"] == 2
        await releases.publish(lesson(content="three"))
        assert len(list((home / "keys" / "retired").glob("cities-410100.*.pem"))) == 2


async def test_a_city_whose_right_was_withdrawn_is_not_followed_and_may_come_back(home: Path) -> None:
    async with open_releases(home) as releases:
        await releases.entrust(ZHENGZHOU)
        await releases.entrust(KAIFENG)
        await releases.publish(lesson())
        await releases.publish(lesson(KAIFENG))
        edge = await edge_of(releases, home)
        edge.poll_city(ZHENGZHOU)
        assert not (await releases.withdraw(ZHENGZHOU)).keys
        assert not (await releases.withdraw(ZHENGZHOU)).changed
        assert edge.poll_city(ZHENGZHOU) is None
        assert edge.poll_city(KAIFENG) is not None
        with pytest.raises(ConfigurationError, match="may not publish"):
            await releases.publish(lesson(content="two"))
        assert [one.city for one in await releases.rights()] == [KAIFENG]
        (home / "keys" / "cities-410100.pem").unlink()
        await releases.entrust(ZHENGZHOU)
        assert edge.poll_city(ZHENGZHOU).custom["version"] == 1
        assert (await releases.publish(lesson(content="two"))).catalog_version == 2


async def test_a_citys_missing_key_keeps_nobody_else_from_anything(home: Path) -> None:
    clock = ManualClock()
    async with open_releases(home, clock=clock) as releases:
        await releases.entrust(ZHENGZHOU)
        await releases.publish(lesson())
        (home / "keys" / "cities-410100.pem").unlink()
        clock.now += 200 * 86_400
        assert await releases.renew()
        await releases.publish(draft())
        expiries = await releases.expiries()
        assert expiries["targets"] > expiries["cities-410100"]
        assert await releases.release_anew("restored") > 0
        assert not await releases.can_sign(ZHENGZHOU)
        assert await releases.can_sign()
        # Its file damaged on the disk: the province goes on.
        for path in (home / "metadata").glob("*.cities-410100.json"):
            path.write_text("{")
        await releases.publish(draft(content="two"))


async def test_released_anew_without_a_citys_key_edges_follow_the_province_past_what_they_saw(home: Path) -> None:
    async with open_releases(home) as releases:
        await releases.entrust(ZHENGZHOU)
        await releases.entrust(KAIFENG)
        await releases.publish(lesson())
        await releases.publish(lesson(KAIFENG))
        edge = await edge_of(releases, home)
    old = copy_origin(home, home.parent / "backup")
    async with open_releases(home) as releases:
        await releases.publish(lesson(content="after the backup"))
        edge.poll_city(ZHENGZHOU)
    shutil.rmtree(home)
    copy_origin(old, home)
    (home / "keys" / "cities-410100.pem").rename(home / "away.pem")
    async with open_releases(home) as releases:
        for _ in range(3):  # a restore begins with higher numbers; here releases make up for them
            await releases.release_anew("restored")
        assert edge.poll().custom["version"] > 1
        assert edge.poll_city(KAIFENG) is not None
        with pytest.raises(DownloadError):
            edge.poll_city(ZHENGZHOU)
        await releases.publish(draft())
        (home / "away.pem").rename(home / "keys" / "cities-410100.pem")
        await releases.publish(lesson(content="three"))
        assert edge.poll_city(ZHENGZHOU) is not None


async def test_what_is_due_of_a_city_is_signed_anew(home: Path) -> None:
    clock = ManualClock()
    async with open_releases(home, clock=clock) as releases:
        await releases.entrust(ZHENGZHOU)
        await releases.publish(lesson())
        clock.now += 200 * 86_400
        assert await releases.renew()
        expiries = await releases.expiries()
        assert expiries["cities-410100"] == expiries["targets"] == clock.now + 365 * 86_400


@pytest.mark.parametrize("point", ["publish:begun", "publish:targets-written", "publish:timestamp-renamed"])
async def test_killed_in_the_middle_the_old_release_is_whole(home: Path, point: str) -> None:
    async with open_releases(home) as releases:
        await releases.entrust(ZHENGZHOU)
        await releases.publish(lesson())
        edge = await edge_of(releases, home)
    assert run_act(home, "city", ("publish", "two"), point) not in {0, None}
    landed = 2 if point == "publish:timestamp-renamed" else 1
    assert edge.poll_city(ZHENGZHOU).custom["version"] == landed
    async with open_releases(home) as releases:
        await releases.repair()
        done = await releases.publish(lesson(content="two"))
        assert done.version == {1: 3, 2: 2}[landed] or done.changed == (landed == 1)
        await releases.publish(draft())
        assert edge.poll_city(ZHENGZHOU) is not None
        assert edge.poll() is not None


@pytest.mark.parametrize(
    "point", ["rotate:key-made", "rotate:signed", "publish:timestamp-renamed", "rotate:key-retired"]
)
async def test_a_rotation_that_is_cut_off_is_finished_or_forgotten(home: Path, point: str) -> None:
    async with open_releases(home) as releases:
        await releases.entrust(ZHENGZHOU)
        await releases.publish(lesson())
        edge = await edge_of(releases, home)
        edge.poll_city(ZHENGZHOU)
    assert run_act(home, "city", ("rotate",), point) not in {0, None}
    assert edge.poll_city(ZHENGZHOU).custom["version"] == 1
    async with open_releases(home) as releases:
        await releases.repair()
        await releases.publish(lesson(content="two"))
        assert edge.poll_city(ZHENGZHOU).custom["version"] == 2
        assert not list((home / "keys").glob("*.next.pem"))


async def test_many_releases_leave_little_behind_and_nothing_that_is_asked_for(home: Path) -> None:
    async with open_releases(home) as releases:
        await releases.entrust(ZHENGZHOU)
        await releases.publish(lesson())
        for n in range(60):
            await releases.publish(draft(content=str(n)))
        names = [role for _, role in MetadataDir(home / "metadata").versions()]
        assert names.count("cities-410100") == 1
        assert names.count("targets") == 50
        edge = await edge_of(releases, home)
        assert edge.poll_city(ZHENGZHOU) is not None
        ref, _ = await releases.current_catalog(ZHENGZHOU)
        assert (home / "blobs" / ref.digest[:2] / ref.digest).exists()


async def test_who_stands_for_a_region_publishes_into_its_citys_catalog_if_that_may(home: Path) -> None:
    async with open_releases(home) as releases:
        await releases.entrust(ZHENGZHOU)
        rights = await releases.rights()
    expected = {"410122": ZHENGZHOU, "410100": ZHENGZHOU, "410203": "", "410200": "", "410000": ""}
    assert {region: publisher_for(Region(region), rights) for region in expected} == expected
