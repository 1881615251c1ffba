"""Several origins over one database, each on a machine of its own: nothing done twice, nothing lost, one at a time."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from sqlalchemy import select, update
from support.postgres import Cluster
from support.releases import DATABASE, TERM, Edge, ManualClock, draft, offered, on_database, open_releases, run_act

from manifests.errors import BusyError, StorageDamagedError, StorageError
from origin.database.engine import open_database, reading, writing
from origin.database.leases import Holder, check_lease, give_back_lease, renew_lease, take_lease
from origin.database.tables import leases, releases, role_files
from origin.publish.release import Releases
from origin.publish.sharing import Sharing
from origin.storage.local import LocalStorage
from origin.web.content import MetadataFiles


@pytest.fixture(scope="module")
def founded(tmp_path_factory: pytest.TempPathFactory, cluster: Cluster) -> Path:
    """An origin that has published kj-0 once."""
    root = tmp_path_factory.mktemp("founded") / "one"
    on_database(root, cluster.create())

    async def found() -> None:
        async with open_releases(root) as one:
            await one.establish()
            await one.publish(draft("kj-0"))

    asyncio.run(found())
    return root


@pytest.fixture
def pair(founded: Path, tmp_path: Path, cluster: Cluster) -> tuple[Path, Path]:
    """Two machines: a database for both, the keys on both, all else apart."""
    address = cluster.create((founded / DATABASE).read_text())
    one, two = tmp_path / "one", tmp_path / "two"
    for root in (one, two):
        on_database(root, address)
        shutil.copytree(founded / "keys", root / "keys")
    shutil.copytree(founded / "blobs", tmp_path / "blobs")
    return one, two


@asynccontextmanager
async def _both(pair: tuple[Path, Path]) -> AsyncIterator[tuple[Releases, Releases]]:
    blobs = {"storage": LocalStorage(pair[0].parent / "blobs")}
    async with open_releases(pair[0], **blobs) as one, open_releases(pair[1], **blobs) as two:
        yield one, two


def _sharing(releases_: Releases) -> Sharing:
    found = releases_._shop.sharing
    assert found is not None
    return found


def _names(root: Path) -> set[str]:
    return {path.name for path in (root / "metadata").iterdir()}


async def test_what_one_machine_releases_the_other_serves_and_goes_on_from(pair) -> None:
    async with _both(pair) as (one, two):
        assert (await one.publish(draft("kj-1"))).catalog_version == 3
        assert (await two.publish(draft("kj-2"))).catalog_version == 4
        await _sharing(one).refresh()
        assert _names(pair[0]) == _names(pair[1])
        assert await offered(one) == await offered(two) == {"kj-0": 1, "kj-1": 1, "kj-2": 1}
        edge = Edge(pair[0].parent / "edge", pair[0], await one.root_text())
        first = edge.poll()
        await two.recall("kj-1", "画面有误")
        edge.fetcher.metadata = pair[1] / "metadata"
        assert edge.poll().hashes != first.hashes


async def test_publishes_on_both_at_once_all_land_once(pair) -> None:
    async with _both(pair) as (one, two):
        works = [(one, two)[n % 2].publish(draft(f"kj-{n}", f"content {n}")) for n in range(1, 7)]
        done = await asyncio.gather(*works)
        assert sorted(item.catalog_version for item in done) == [3, 4, 5, 6, 7, 8]
        assert await offered(one) == {f"kj-{n}": 1 for n in range(7)}
        same = await asyncio.gather(one.publish(draft("kj-9")), two.publish(draft("kj-9")))
        assert sorted(item.changed for item in same) == [False, True]
        assert {item.version for item in same} == {1}


async def test_renewal_on_both_signs_once(pair) -> None:
    clock = ManualClock()
    blobs = {"storage": LocalStorage(pair[0].parent / "blobs"), "clock": clock}
    async with open_releases(pair[0], **blobs) as one, open_releases(pair[1], **blobs) as two:
        clock.now += 3 * 3600
        assert sorted(await asyncio.gather(one.renew(), two.renew())) == [False, True]
        await _sharing(one).refresh()
        await _sharing(two).refresh()
        assert (await one.expiries()) == (await two.expiries())


@pytest.mark.parametrize("point", ["publish:begun", "publish:snapshot-written", "publish:timestamp-renamed"])
async def test_a_holder_that_died_is_followed_by_the_other_machine(pair, point: str) -> None:
    shutil.copytree(pair[0].parent / "blobs", pair[0] / "blobs")
    (pair[0] / TERM).write_text("2")
    assert await asyncio.to_thread(run_act, pair[0], "publish", ("kj-1", "one"), point) not in (0, None)
    (pair[0] / TERM).unlink()
    shutil.rmtree(pair[0].parent / "blobs")
    shutil.copytree(pair[0] / "blobs", pair[0].parent / "blobs")
    async with _both(pair) as (one, two):
        edge = Edge(pair[0].parent / "edge", pair[1], await _root_of(two))
        await two.publish(draft("kj-2"))
        edge.poll()
        landed = {"kj-1": 1} if point == "publish:timestamp-renamed" else {}
        assert await offered(two) == {"kj-0": 1, "kj-2": 1} | landed
        await one.publish(draft("kj-3"))
        edge.fetcher.metadata = pair[0] / "metadata"
        edge.poll()
        assert await offered(one) == {"kj-0": 1, "kj-2": 1, "kj-3": 1} | landed


async def _root_of(one: Releases) -> str:
    await _sharing(one).refresh()
    return await one.root_text()


async def test_one_that_was_held_up_for_too_long_writes_nothing_more(pair, monkeypatch) -> None:
    async with _both(pair) as (one, two):
        await _sharing(two).refresh()
        names = _names(pair[1])
        write = Sharing.put

        def held_up(self: Sharing, name: str, data: bytes) -> None:
            if name.endswith("snapshot.json"):
                loop = self._held[1]
                asyncio.run_coroutine_threadsafe(_take_over(one), loop).result(30)
            write(self, name, data)

        monkeypatch.setattr(Sharing, "put", held_up)
        with pytest.raises(BusyError, match="took over"):
            await one.publish(draft("kj-1"))
        monkeypatch.undo()
        assert not {name for name in _names(pair[0]) if "snapshot" in name} - names
        await two.publish(draft("kj-2"))
        assert await offered(two) == {"kj-0": 1, "kj-2": 1}
        async with reading(two._shop.engine) as connection:
            states = (await connection.execute(select(releases.c.state).order_by(releases.c.number))).scalars().all()
        assert states == ["published", "published", "abandoned", "published"]


async def _take_over(one: Releases) -> None:
    """As another machine does when the deadline has passed; it gives the right back at once."""
    async with writing(one._shop.engine) as connection:
        await connection.execute(update(leases).values(fence=leases.c.fence + 1, holder="another", until_ms=0))


async def test_the_lease_itself(cluster: Cluster) -> None:
    async with open_database(cluster.create()) as engine:
        async with writing(engine) as connection:
            first = await take_lease(connection, "x", Holder("one", "a"), 600)
            assert first is not None
            assert await take_lease(connection, "x", Holder("two", "b"), 600) is None
            assert await renew_lease(connection, first, 600)
            await check_lease(connection, first)
            assert await give_back_lease(connection, first)
        async with writing(engine) as connection:
            second = await take_lease(connection, "x", Holder("two", "b"), 600)
            assert second is not None
            assert second.fence == first.fence + 1
            assert not await renew_lease(connection, first, 600)
            assert not await give_back_lease(connection, first)
            with pytest.raises(BusyError, match="two took over"):
                await check_lease(connection, first)
            again = await take_lease(connection, "x", Holder("two, started anew", "b"), 600)
            assert again is not None
            assert again.fence == second.fence + 1


async def test_a_lease_is_kept_for_as_long_as_the_work_takes(pair) -> None:
    async with _both(pair) as (one, two):
        short = Sharing(one._shop.engine, pair[0] / "metadata", pair[0] / "publish.lock", 6.0)
        async with short.lease(20.0):
            first = await _until(one)
            while await _until(one) <= first:
                await asyncio.sleep(0.05)
            with pytest.raises(BusyError, match="pid"):
                async with _sharing(two).lease(0):
                    pass
        async with _sharing(two).lease(20.0):
            pass


async def _until(one: Releases) -> int:
    async with reading(one._shop.engine) as connection:
        return (await connection.execute(select(leases.c.until_ms))).scalar_one()


async def test_what_a_process_of_the_same_directory_left_is_not_waited_for(pair) -> None:
    async with _both(pair) as (one, _):
        left = Sharing(one._shop.engine, pair[0] / "metadata", pair[0] / "publish.lock", 600.0)
        async with left.lease(20.0), writing(one._shop.engine) as connection:
            row = (await connection.execute(select(leases))).one()._asdict()
        async with writing(one._shop.engine) as connection:  # as if it had died instead
            await connection.execute(update(leases).values(until_ms=row["until_ms"] + 600_000))
        await one.publish(draft("kj-1"))


async def test_serving_follows_at_once_and_without_the_database_serves_what_it_has(pair, monkeypatch) -> None:
    async with _both(pair) as (one, two):
        sharing = _sharing(two)
        files = MetadataFiles(pair[1] / "metadata", sharing.refresh_for_serving)
        assert (await files.get("timestamp.json"))[0] == await _text(one, "timestamp.json")
        await one.publish(draft("kj-1"))
        newest = await _text(one, "timestamp.json")
        assert (await files.get("timestamp.json"))[0] == newest
        await one.publish(draft("kj-2"))
        assert await files.get("4.snapshot.json") is not None
        assert await files.get("99.snapshot.json") is None

        async def fails() -> None:
            raise StorageError("the database is gone")

        await one.publish(draft("kj-3"))
        monkeypatch.setattr(sharing, "_look", fails)
        found = await files.get("timestamp.json")
        assert found is not None
        assert found[0] != await _text(one, "timestamp.json")


async def _text(one: Releases, name: str) -> bytes:
    async with reading(one._shop.engine) as connection:
        query = select(role_files.c.body).where(role_files.c.name == name)
        return (await connection.execute(query)).scalar_one().encode()


async def test_a_database_older_than_what_was_served_is_not_followed(pair, cluster: Cluster) -> None:
    old = cluster.create((pair[0] / DATABASE).read_text())
    async with _both(pair) as (one, _):
        await one.publish(draft("kj-1"))
    served = (pair[0] / "metadata" / "timestamp.json").read_bytes()
    on_database(pair[0], old)
    async with _both(pair) as (one, _):
        await _sharing(one).refresh_for_serving()
        with pytest.raises(StorageDamagedError, match="timestamp version"):
            await one.publish(draft("kj-2"))
    assert (pair[0] / "metadata" / "timestamp.json").read_bytes() == served


async def test_a_long_transaction_does_not_cost_the_lease(pair) -> None:
    async with _both(pair) as (one, _):
        short = Sharing(one._shop.engine, pair[0] / "metadata", pair[0] / "publish.lock", 6.0)
        async with short.lease(20.0):
            first = await _until(one)
            async with writing(one._shop.engine):
                while await _until(one) <= first:
                    await asyncio.sleep(0.05)
