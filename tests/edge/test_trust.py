"""Following the province's signed word: attacks, clocks, damage, lagging siblings. Real signatures, real sockets."""

from __future__ import annotations

import asyncio
import random
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from support.province import DAY, HOUR, ManualClock, Province, Site
from support.relay import Fault, Liar, Relay, raw

from edge.store.ballast import Ballast
from edge.sync.freshness import TrustState
from edge.sync.state_file import STATE_FILE, load_state
from edge.sync.trust import Trust
from edge.upstream.client import open_upstreams
from edge.upstream.progress import Limits
from edge.upstream.sources import Patience, Sources
from manifests.bundle import decode_bundle
from manifests.errors import (
    ExpiredError,
    FormatError,
    RollbackError,
    SignatureError,
    StorageError,
    TransferError,
    UntrustedError,
)
from manifests.instants import Instant

YEARS = 3 * 365 * DAY


class World:
    """A province with one lesson released, one current site, and an edge's trust."""

    def __init__(self, directory: Path) -> None:
        self.clock = ManualClock()
        self.edge_clock = ManualClock()
        self.province = Province(self.clock)
        self.province.lesson("a", {"a.pdf": b"one"})
        self.province.release()
        self.bundle = decode_bundle(self.province.bundle("http://127.0.0.1:9"))
        self.directory = directory
        self.trust = Trust(directory, self.bundle, self.edge_clock, Ballast(directory.parent / "ballast"))

    def move(self, seconds: int) -> None:
        self.clock.move(seconds)
        self.edge_clock.move(seconds)

    async def refresh(self, *urls: str, least: int = 0) -> TrustState:
        async with self.sources(*urls) as sources:
            return await self.trust.refresh(sources, least)

    @asynccontextmanager
    async def sources(self, *urls: str) -> AsyncIterator[Sources]:
        limits = Limits(connect_s=1, answer_s=1, window_s=0.5, floor_bytes=100)
        patience = Patience(attempts=2, cool_down_s=0.01, cool_down_most_s=0.01)
        async with open_upstreams(urls, limits) as upstreams:
            loop = asyncio.get_running_loop()
            yield Sources(upstreams, patience, monotonic=loop.time, rng=random.Random(1))

    async def refused(self, error: type[Exception], *urls: str) -> Exception:
        """Refresh, see it refused in the given way, and see the kept state unchanged."""
        before = self.trust.load()
        with pytest.raises(error) as caught:
            await self.refresh(*urls)
        assert self.trust.load() == before
        return caught.value


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path / "trust")


@pytest.fixture
async def site(world: World) -> AsyncIterator[Site]:
    async with world.province.site().running() as running:
        yield running


async def test_first_release_and_then_nothing_new(world: World, site: Site) -> None:
    state = await world.refresh(site.url)
    assert (state.catalog_version, state.digest) == (1, world.province.catalogs[0].digest)
    assert state.floor == world.clock()
    assert state.source == site.url
    assert load_state(world.directory) == state
    site.forget()
    assert (await world.refresh(site.url)).catalog_version == 1
    assert [path for path, _ in site.requests] == ["/metadata/2.root.json", "/metadata/timestamp.json"]


async def test_a_new_release_is_followed(world: World, site: Site) -> None:
    await world.refresh(site.url)
    world.move(HOUR)
    world.province.release()
    state = await world.refresh(site.url)
    assert state.catalog_version == 2
    assert state.floor == world.clock()


@pytest.mark.parametrize("role", ["root", "targets", "snapshot", "timestamp"])
async def test_rotated_keys_are_followed_and_revoked_ones_refused(world: World, site: Site, role: str) -> None:
    await world.refresh(site.url)
    revoked = world.province.rotate(role)
    world.province.release()
    state = await world.refresh(site.url)
    assert state.root.version == 2
    assert state.catalog_version == 2
    if role == "timestamp":
        world.province.renew(by=revoked)
        await world.refused(SignatureError, site.url)


async def test_a_fast_forwarded_timestamp_is_recovered_from_by_rotation(world: World, site: Site) -> None:
    world.province.versions["timestamp"] = 10**6
    world.province.renew()
    await world.refresh(site.url)
    world.province.versions["timestamp"] = 5
    world.province.renew()
    await world.refused(RollbackError, site.url)
    world.province.rotate("timestamp")
    assert (await world.refresh(site.url)).timestamp.version == 7


async def test_rollback_is_refused(world: World, site: Site) -> None:
    async with world.province.mirror().running() as old:
        world.province.release()
        await world.refresh(site.url)
        await world.refused(RollbackError, old.url)


async def test_rollback_is_refused_although_tufs_own_files_are_lost(world: World, site: Site) -> None:
    async with world.province.mirror().running() as old:
        world.province.release()
        await world.refresh(site.url)
        for path in world.directory.glob("*.json"):
            if path.name != STATE_FILE:
                path.unlink()
        await world.refused(RollbackError, old.url)
        assert (await world.refresh(old.url, site.url)).catalog_version == 2
        shutil.rmtree(world.directory)
        with pytest.raises(RollbackError):
            await world.refresh(old.url, least=2)


async def test_a_frozen_release_expires(world: World, site: Site) -> None:
    await world.refresh(site.url)
    world.move(25 * HOUR)
    error = await world.refused(ExpiredError, site.url)
    assert "clock" in error.hint  # type: ignore[attr-defined]
    world.province.renew()
    await world.refresh(site.url)


async def test_mixed_releases_are_refused(world: World, site: Site) -> None:
    await world.refresh(site.url)
    first = world.province.content.copy()
    world.province.release()
    async with world.province.mirror().running() as mixed:
        mixed.content.metadata["2.snapshot.json"] = first.metadata["1.snapshot.json"]
        await world.refused(RollbackError, mixed.url)
    async with world.province.mirror().running() as mixed:
        mixed.content.metadata["2.targets.json"] = first.metadata["1.targets.json"]
        await world.refused(RollbackError, mixed.url)
    assert (await world.refresh(site.url)).catalog_version == 2


@pytest.mark.parametrize("name", ["timestamp.json", "1.snapshot.json", "1.targets.json"])
async def test_a_flipped_byte_is_refused(world: World, name: str) -> None:
    async with world.province.mirror().running() as bent:
        data = bytearray(bent.content.metadata[name])
        at = data.index(b'"version":') + 11
        data[at : at + 1] = b"9"
        bent.content.metadata[name] = bytes(data)
        await world.refused(UntrustedError, bent.url)


async def test_another_province_is_refused(world: World) -> None:
    other = Province(ManualClock())
    other.release()
    async with other.site().running() as running:
        await world.refused(SignatureError, running.url)


async def test_no_metadata_but_a_web_page_is_a_matter_of_the_line(world: World) -> None:
    page = raw(200, b"<html>" + b"x" * 200, "Content-Type: text/html")
    async with Liar(lambda _path, _range: page).running() as liar:
        await world.refused(TransferError, liar.url)


@pytest.mark.parametrize("answer", [raw(500), raw(302, b"", "Location: /x"), raw(200, b"{}" * 300_000), raw(404)])
async def test_bad_answers_are_a_matter_of_the_line(world: World, answer: bytes) -> None:
    async with Liar(lambda _path, _range: answer).running() as liar:
        await world.refused(TransferError, liar.url)


async def test_garbage_is_not_trusted(world: World) -> None:
    def script(path: str, _range: str) -> bytes:
        return raw(404) if "root" in path else raw(200, b"{]")

    async with Liar(script).running() as liar:
        await world.refused(FormatError, liar.url)


async def test_a_dripping_upstream_is_left_for_the_next(world: World, site: Site) -> None:
    loop = asyncio.get_running_loop()
    async with Relay(site.url, lambda _: Fault(drip_s=1.0)).running() as slow:
        began_s = loop.time()
        assert (await world.refresh(slow.url, site.url)).source == site.url
        assert loop.time() - began_s < 30, "at a byte a second it would be minutes"


async def test_a_lagging_sibling_is_passed_over_without_alarm(world: World, site: Site) -> None:
    async with world.province.mirror().running() as sibling:
        world.move(HOUR)
        world.province.release()
        await world.refresh(site.url)
        async with world.sources(sibling.url, site.url) as sources:
            assert (await world.trust.refresh(sources)).catalog_version == 2
            assert sources.bans() == {}


async def test_a_sibling_that_has_not_heard_for_hours_is_not_the_last_word(world: World, site: Site) -> None:
    async with world.province.mirror().running() as sibling:
        await world.refresh(sibling.url)
        world.move(5 * HOUR)
        world.province.recall("a")
        world.province.release()
        assert (await world.refresh(sibling.url, site.url)).catalog_version == 2
        # And when nobody knows better, what it says stands.
        site.forget()
        assert (await world.refresh(site.url, "http://127.0.0.1:9")).catalog_version == 2


async def test_a_liar_is_banned_and_the_next_asked(world: World, site: Site) -> None:
    other = Province(ManualClock())
    other.release()
    async with other.site().running() as liar, world.sources(liar.url, site.url) as sources:
        assert (await world.trust.refresh(sources)).source == site.url
        assert list(sources.bans()) == [liar.url]


async def test_a_clock_three_years_behind(world: World, site: Site) -> None:
    world.edge_clock.move(-YEARS)
    state = await world.refresh(site.url)
    assert state.floor == world.clock()
    assert world.trust.now() == world.clock()
    world.clock.move(2 * DAY)
    await world.refresh(site.url)  # the frozen timestamp is expired, but only a clock could tell
    world.province.renew()
    assert (await world.refresh(site.url)).floor == world.clock()


async def test_a_clock_three_years_ahead_loses_nothing_and_recovers(world: World, site: Site) -> None:
    before = await world.refresh(site.url)
    world.edge_clock.move(YEARS)
    world.province.renew()
    error = await world.refused(ExpiredError, site.url)
    assert "clock" in error.hint  # type: ignore[attr-defined]
    assert before.floor < world.edge_clock()
    world.edge_clock.move(-YEARS)
    after = await world.refresh(site.url)
    assert after.timestamp.version == before.timestamp.version + 1
    assert after.floor == world.clock()


async def test_the_floor_is_never_the_clocks(world: World, site: Site) -> None:
    world.edge_clock.move(12 * HOUR)
    assert (await world.refresh(site.url)).floor == world.clock()


async def test_an_absent_signed_time_leaves_the_bundles(world: World, site: Site) -> None:
    world.province.renew(issued=Instant(world.clock() - 400 * DAY))
    assert (await world.refresh(site.url)).floor == world.clock(), "the bundle was made later than that"


@pytest.mark.parametrize("damage", [b"", b"{", b"\x00" * 100, b"[]"])
async def test_damaged_files_are_fetched_again(world: World, site: Site, damage: bytes) -> None:
    world.province.rotate("snapshot")
    await world.refresh(site.url)
    files = [path for path in world.directory.rglob("*") if path.is_file() and not path.is_symlink()]
    assert len(files) >= 6
    for path in files:
        kept = path.read_bytes()
        path.write_bytes(damage)
        assert (await world.refresh(site.url)).catalog_version == 1, path.name
        assert path.name == STATE_FILE or path.read_bytes() == kept, path.name
    for path in files:
        path.write_bytes(damage)
    assert (await world.refresh(site.url)).catalog_version == 1


async def test_a_tangled_directory_is_emptied(world: World, site: Site) -> None:
    state = await world.refresh(site.url)
    shutil.rmtree(world.directory / "root_history")
    (world.directory / "root_history").write_bytes(b"not a directory")
    (world.directory / "timestamp.json").unlink()
    (world.directory / "timestamp.json").mkdir()
    assert (await world.refresh(site.url)).digest == state.digest


async def test_a_disk_that_takes_nothing_is_the_disks_fault(world: World, site: Site) -> None:
    world.directory.parent.mkdir(exist_ok=True)
    world.directory.write_bytes(b"a file where the directory should be")
    await world.refused(StorageError, site.url)


async def test_a_cancelled_refresh_ends_its_thread(world: World, site: Site) -> None:
    async with Relay(site.url, lambda _: Fault(stall_after=0)).running() as stalled:
        task = asyncio.create_task(world.refresh(stalled.url))
        while not stalled.connections:
            await asyncio.sleep(0.005)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert (await world.refresh(site.url)).catalog_version == 1
