"""Pilots at the origin: what each region is offered before, during and after, and what a kill leaves."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest
from sqlalchemy import insert, select
from support.releases import (
    PROVINCE,
    AddressIn,
    ManualClock,
    catalog_of,
    copy_origin,
    draft,
    on_database,
    open_releases,
    run_act,
)

from manifests.catalog import resolve
from manifests.errors import InputError, NotFoundError
from manifests.names import Region
from manifests.reports import Run, State
from origin.database.engine import reading, writing
from origin.database.tables import audit, edges, holdings, reporting, runs, states
from origin.database.tables_pilots import pilots
from origin.publish.failpoints import PUBLISH_POINTS
from origin.publish.pilot_plan import PilotWish, Step, Terms
from origin.publish.piloting import Pilots
from origin.publish.release import Releases, RestoreWish

FIRST, SECOND, OTHER = Region("410122"), Region("410225"), Region("410305")
WAVES = ((FIRST,), (SECOND,))


def wish(*waves: Sequence[Region], **terms: int) -> PilotWish:
    return PilotWish(tuple(map(tuple, waves)) or WAVES, Terms(**terms), "zhang")


@pytest.fixture(scope="module")
def founded(tmp_path_factory: pytest.TempPathFactory, address_in: AddressIn) -> Path:
    """Read only: kj-1 is offered to all, and three edges are enrolled."""
    root = tmp_path_factory.mktemp("founded") / "origin"
    on_database(root, address_in(root))

    async def found() -> None:
        async with open_releases(root) as releases:
            await releases.establish()
            await releases.publish(draft())
            async with writing(releases.shop.engine) as connection:
                for region in (FIRST, SECOND, OTHER):
                    row = {"code": f"{region}-1", "region": region, "serial": 1, "name": f"县{region}"}
                    await connection.execute(insert(edges).values(**row, enrolled_at=1))

    asyncio.run(found())
    return root


@pytest.fixture
def origin(founded: Path, tmp_path: Path) -> Path:
    return copy_origin(founded, tmp_path / "origin")


async def seen(releases: Releases) -> dict[str, dict[str, int]]:
    """What each county is offered: id → version."""
    catalog = await catalog_of(releases)
    found = {}
    for region in (FIRST, SECOND, OTHER):
        items = resolve(catalog, region).courseware
        areas = {region, region[:4] + "00", region[:2] + "0000"}
        found[str(region)] = {item.id: item.version for item in items if areas & set(item.audience)}
    return found


def everywhere(items: dict[str, int]) -> dict[str, dict[str, int]]:
    """The same in all counties."""
    return {str(region): items for region in (FIRST, SECOND, OTHER)}


async def store(releases: Releases, origin: Path, key: str) -> None:
    """Have the blobs of all versions of a lesson in the storage, where a restore looks for them."""
    for files in await releases.previous_files(key, 10):
        path = origin / "blobs" / files[0].blob[:2] / files[0].blob
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"x" * files[0].size)


async def tell(
    releases: Releases, region: Region, held: dict[str, int], *, error: str = "", faults: tuple[str, ...] = ()
) -> None:
    """An edge reports: what it holds, how its run went, its faults."""
    edge, now = f"{region}-1", releases.shop.clock()
    run = Run(1, not error, "2026-11-24T02:56:09Z", "2026-11-24T02:56:09Z", error=error)
    state = msgspec.json.decode(
        msgspec.json.encode({"region": region, "catalog_version": 1, "line": {}, "room_bytes": 1, "faults": faults}),
        type=State,
    )
    async with writing(releases.shop.engine) as connection:
        for table in (reporting, states, holdings):
            await connection.execute(table.delete().where(table.c.edge == edge))
        number = len((await connection.execute(select(runs.c.number))).all()) + 1
        said = {"edge": edge, "number": number, "at": now}
        row = {"edge": edge, "received": number, "heard_at": now, "catalog_version": 1, "want_full": False}
        row |= {column.name: 0 for column in reporting.c if column.name not in row and not column.nullable}
        await connection.execute(insert(reporting).values(**row))
        await connection.execute(insert(states).values(**said, document=msgspec.json.encode(state).decode()))
        await connection.execute(
            insert(runs).values(**said, complete=not error, document=msgspec.json.encode(run).decode())
        )
        for id_, version in held.items():
            await connection.execute(insert(holdings).values(edge=edge, courseware=id_, version=version, since=now))


async def state_of(releases: Releases) -> list[tuple[str, int, str]]:
    async with reading(releases.shop.engine) as connection:
        rows = await connection.execute(select(pilots).order_by(pilots.c.id))
        return [(row.state, row.wave, row.reason) for row in rows]


async def steps(releases: Releases) -> list[str]:
    return [str(one.looked.plan.step) for one in await Pilots(releases).step_all()]


async def test_a_new_version_goes_wave_by_wave_to_all(origin: Path) -> None:
    async with open_releases(origin) as releases:
        done = await releases.publish(draft(content="two", pilot=wish()))
        assert (done.version, done.changed) == (2, True)
        assert await seen(releases) == {FIRST: {"kj-1": 2}, SECOND: {"kj-1": 1}, OTHER: {"kj-1": 1}}
        assert await steps(releases) == ["wait"]
        await tell(releases, FIRST, {"kj-1": 2})
        assert await steps(releases) == ["go_on"]
        assert await seen(releases) == {FIRST: {"kj-1": 2}, SECOND: {"kj-1": 2}, OTHER: {"kj-1": 1}}
        assert await steps(releases) == ["wait"]
        await tell(releases, SECOND, {"kj-1": 2})
        assert await steps(releases) == ["finish"]
        assert await seen(releases) == {FIRST: {"kj-1": 2}, SECOND: {"kj-1": 2}, OTHER: {"kj-1": 2}}
        assert await steps(releases) == []
        assert [(state, wave) for state, wave, _ in await state_of(releases)] == [("done", 1)]
        catalog = await catalog_of(releases)
        assert catalog.minor == 0, "no pilot is left in it"
        assert catalog.courseware[0].audience == (PROVINCE,)


async def test_an_edge_in_trouble_stops_it_and_the_pilot_county_goes_back(origin: Path) -> None:
    async with open_releases(origin) as releases:
        await releases.publish(draft(content="two", pilot=wish()))
        await tell(releases, FIRST, {"kj-1": 2}, faults=("磁盘上有 1 个数据块损坏",))
        assert await steps(releases) == ["stop"]
        assert await seen(releases) == everywhere({"kj-1": 3})
        blobs = [files[0].blob for files in await releases.previous_files("kj-1")]
        assert blobs[0] == blobs[2] != blobs[1], "version 3 is what version 1 was"
        ((state, wave, reason),) = await state_of(releases)
        assert (state, wave) == ("stopped", 0)
        assert "410122-1" in reason
        async with reading(releases.shop.engine) as connection:
            rows = (await connection.execute(select(audit).where(audit.c.action == "pilot.stop"))).all()
        assert [(row.subject, row.actor) for row in rows] == [("kj-1", "")]
        assert await steps(releases) == [], "what has stopped stays stopped"


async def test_a_fault_that_was_there_before_is_not_the_pilots(origin: Path) -> None:
    async with open_releases(origin) as releases:
        await tell(releases, FIRST, {"kj-1": 1}, faults=("老故障",))
        await releases.publish(draft(content="two", pilot=wish()))
        await tell(releases, FIRST, {"kj-1": 2}, faults=("老故障",))
        assert await steps(releases) == ["go_on"]


async def test_a_failed_run_has_an_hour_to_turn_out_well(origin: Path) -> None:
    clock = ManualClock()
    async with open_releases(origin, clock=clock) as releases:
        await releases.publish(draft(content="two", pilot=wish()))
        await tell(releases, FIRST, {"kj-1": 1}, error="线路中断")
        assert await steps(releases) == ["wait"]
        clock.now += 1800
        await tell(releases, FIRST, {"kj-1": 1}, error="线路中断")
        assert await steps(releases) == ["wait"]
        clock.now += 1800
        await tell(releases, FIRST, {"kj-1": 2})
        assert await steps(releases) == ["go_on"]
        await tell(releases, SECOND, {"kj-1": 1}, error="线路中断")
        clock.now += 3600
        await tell(releases, SECOND, {"kj-1": 1}, error="仍然中断")
        assert await steps(releases) == ["stop"]


async def test_silence_until_the_deadline_stops_it(origin: Path) -> None:
    clock = ManualClock()
    async with open_releases(origin, clock=clock) as releases:
        await releases.publish(draft(content="two", pilot=wish(deadline_hours=2)))
        clock.now += 7199
        assert await steps(releases) == ["wait"]
        clock.now += 1
        assert await steps(releases) == ["stop"]
        assert (await seen(releases))[FIRST] == {"kj-1": 3}


async def test_a_new_lesson_on_trial_is_seen_by_its_regions_only_and_is_gone_when_stopped(origin: Path) -> None:
    async with open_releases(origin) as releases:
        await releases.publish(draft("kj-2", "new", pilot=wish()))
        assert await seen(releases) == {FIRST: {"kj-1": 1, "kj-2": 1}, SECOND: {"kj-1": 1}, OTHER: {"kj-1": 1}}
        await tell(releases, FIRST, {"kj-1": 1, "kj-2": 1})
        assert await steps(releases) == ["go_on"]
        assert (await seen(releases))[SECOND] == {"kj-1": 1, "kj-2": 1}
        (running,) = await Pilots(releases).look_at_all()
        await Pilots(releases).stop(running.pilot.id, "zhang", "县里反映声音不清")
        assert await seen(releases) == everywhere({"kj-1": 1})
        done = await releases.publish(draft("kj-2", "better"))
        assert done.version == 2


async def test_a_recall_reaches_the_version_on_trial(origin: Path) -> None:
    async with open_releases(origin) as releases:
        await releases.publish(draft(content="two", pilot=wish()))
        done = await releases.recall("kj-1", "内容有误")
        assert done.version == 2
        assert await seen(releases) == everywhere({})
        assert [(one.id, one.version) for one in (await catalog_of(releases)).recalls] == [("kj-1", 2)]
        assert [state for state, _, _ in await state_of(releases)] == ["superseded"]
        assert await steps(releases) == []


async def test_a_new_version_for_all_ends_a_pilot_and_two_at_once_are_refused(origin: Path) -> None:
    async with open_releases(origin) as releases:
        await releases.publish(draft(content="two", pilot=wish()))
        with pytest.raises(InputError, match="runs already"):
            await releases.publish(draft(content="three", pilot=wish()))
        assert (await releases.publish(draft())).changed is False, "what all have is not new"
        await releases.publish(draft(content="three"))
        assert await seen(releases) == everywhere({"kj-1": 3})
        assert [state for state, _, _ in await state_of(releases)] == ["superseded"]


async def test_other_releases_leave_a_pilot_as_it_is(origin: Path) -> None:
    async with open_releases(origin) as releases:
        await releases.publish(draft(content="two", pilot=wish()))
        await releases.publish(draft("kj-2", "other"))
        await releases.release_anew("again")
        assert await seen(releases) == {
            FIRST: {"kj-1": 2, "kj-2": 1},
            SECOND: {"kj-1": 1, "kj-2": 1},
            OTHER: {"kj-1": 1, "kj-2": 1},
        }


async def test_restoring_a_release_from_before_ends_a_pilot(origin: Path) -> None:
    async with open_releases(origin) as releases:
        await releases.publish(draft("kj-2", "new", pilot=wish()))
        await releases.publish(draft(content="two", pilot=wish()))
        await store(releases, origin, "kj-1")
        plan = await releases.foresee_restore(3)
        assert [(item.id, str(item.fate)) for item in plan.items] == [("kj-1", "change")], "that pilot ran then as now"
        await releases.restore(RestoreWish(2))
        assert await seen(releases) == everywhere({"kj-1": 3})
        assert {state for state, _, _ in await state_of(releases)} == {"superseded"}


async def test_an_earlier_version_is_tried_again_and_sent_on_by_hand(origin: Path) -> None:
    async with open_releases(origin) as releases:
        tries = Pilots(releases)
        await releases.publish(draft(content="two", pilot=wish()))
        (running,) = await tries.look_at_all()
        await tries.stop(running.pilot.id, "zhang", "先停一停")
        with pytest.raises(InputError, match="gone from the storage"):
            await tries.start("kj-1", 2, wish())
        await store(releases, origin, "kj-1")
        done = await tries.start("kj-1", 2, wish())
        assert done.version == 4
        assert await seen(releases) == {FIRST: {"kj-1": 4}, SECOND: {"kj-1": 3}, OTHER: {"kj-1": 3}}
        (running,) = await tries.look_at_all()
        assert (await tries.go_on(running.pilot.id, 0, "zhang")).looked.plan.step is Step.GO_ON
        twice = await tries.go_on(running.pilot.id, 0, "zhang")
        assert twice.catalog_version == 0, "a button pressed twice means once"
        assert (await seen(releases))[SECOND] == {"kj-1": 4}
        await tries.go_on(running.pilot.id, 1, "zhang")
        assert (await seen(releases))[OTHER] == {"kj-1": 4}
        with pytest.raises(InputError, match="has ended"):
            await tries.stop(running.pilot.id, "zhang", "太晚了")
        with pytest.raises(InputError, match="all have already"):
            await tries.start("kj-1", 2, wish())
        with pytest.raises(NotFoundError):
            await tries.start("kj-1", 9, wish())
        with pytest.raises(NotFoundError):
            await tries.look(99)


@pytest.mark.parametrize(
    "waves", [(), ((),), ((Region("420000"),),), (WAVES[0],) * 21], ids=["none", "empty", "outside", "too many"]
)
async def test_waves_that_mean_nobody_are_refused(origin: Path, waves: tuple[tuple[Region, ...], ...]) -> None:
    async with open_releases(origin) as releases:
        with pytest.raises(InputError):
            await releases.publish(draft(content="two", pilot=PilotWish(waves, Terms())))
        assert await state_of(releases) == []


async def test_two_processes_take_one_step(origin: Path) -> None:
    async with open_releases(origin) as one, open_releases(origin) as two:
        await one.publish(draft(content="two", pilot=wish()))
        await tell(one, FIRST, {"kj-1": 2})
        before = (await one.current_catalog())[1].version
        await asyncio.gather(Pilots(one).step_all(), Pilots(two).step_all())
        assert (await one.current_catalog())[1].version == before + 1
        assert [(state, wave) for state, wave, _ in await state_of(one)] == [("running", 1)]


@pytest.mark.parametrize("point", PUBLISH_POINTS)
async def test_a_step_that_is_killed_is_taken_whole_or_not_at_all(origin: Path, point: str) -> None:
    async with open_releases(origin) as releases:
        await releases.publish(draft(content="two", pilot=wish()))
        await tell(releases, FIRST, {"kj-1": 2}, faults=("新故障",))
    assert await asyncio.to_thread(run_act, origin, "pilots", (), point) == -9
    async with open_releases(origin) as releases:
        await releases.repair()
        has_landed = point in {"publish:timestamp-renamed", "publish:marked"}
        ((state, _, _),) = await state_of(releases)
        assert state == ("stopped" if has_landed else "running")
        assert (await seen(releases))[FIRST] == ({"kj-1": 3} if has_landed else {"kj-1": 2})
        assert await steps(releases) == ([] if has_landed else ["stop"])
        assert (await seen(releases))[FIRST].keys() == {"kj-1"}
        ((state, _, _),) = await state_of(releases)
        assert state == "stopped"


@pytest.mark.parametrize("point", PUBLISH_POINTS[:3])
async def test_a_pilot_whose_first_release_never_landed_never_ran(origin: Path, point: str) -> None:
    assert await asyncio.to_thread(run_act, origin, "publish-pilot", (), point) == -9
    async with open_releases(origin) as releases:
        await releases.repair()
        assert [state for state, _, _ in await state_of(releases)] == ["abandoned"]
        await releases.publish(draft(content="two", pilot=wish()))
        assert await seen(releases) == {FIRST: {"kj-1": 3}, SECOND: {"kj-1": 1}, OTHER: {"kj-1": 1}}
