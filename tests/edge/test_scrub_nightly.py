"""The nightly share, the record of scrubs, and the judgement that a disk decays."""

from __future__ import annotations

import asyncio
import errno
import os
import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.edge_store import PIECE, flip, install, make_blob, make_item, no_leaks, opened_store, store_blob
from support.edges import edge_at, run
from support.province import ManualClock, Province

from edge import app
from edge.store import scrub
from edge.store.blobs import BlobStore
from edge.store.decay import LAST_SCRUBS, ScrubRecord, judge_decay
from edge.store.library import Library
from edge.store.scrub import candidates, run_scrub, seasoned
from edge.store.scrub_log import faults_of, note_scrub, read_scrubs
from edge.store.scrub_plan import Candidate, Reason, plan_scrub, plan_share
from manifests.digests import Digest
from manifests.instants import Instant
from manifests.pieces import PIECE_SIZE
from tools.doctor_edge import check_edge
from tools.doctor_model import Level

VIDEO = make_blob(5 * PIECE + 5, "video")
OTHER = make_blob(3 * PIECE, "other")
NOW = Instant(1_800_000_000)
DAY_S = 86400


@pytest.fixture
def store(tmp_path: Path):
    with no_leaks(), opened_store(tmp_path / "edge") as one:
        store_blob(one, VIDEO)
        store_blob(one, OTHER)
        install(one, Library(one), 1, make_item("kj-1", VIDEO, OTHER))
        yield one


def candidate(n: int, size: int, at: int, *, is_rotten: bool = False) -> Candidate:
    return Candidate(Digest(f"{n:064x}"), size, PIECE, Instant(at), is_rotten)


@given(
    sizes=st.lists(st.integers(1, 50 * PIECE), min_size=1, max_size=40),
    days=st.integers(1, 30),
    fresh=st.lists(st.integers(1, 20 * PIECE), max_size=30),
)
def test_the_whole_disk_is_read_in_a_cycle_whatever_comes_meanwhile(
    sizes: list[int], days: int, fresh: list[int]
) -> None:
    found = {n: candidate(n, size, 1000 - n) for n, size in enumerate(sizes)}
    old = set(found)
    for night in range(days):
        now = 2000 + night
        if night < len(fresh):
            found[1000 + night] = candidate(1000 + night, fresh[night], now - 1)
        plan = plan_share(found.values(), days)
        for item in plan.items:
            n = int(item.digest, 16)
            found[n] = candidate(n, item.size, now)
            old.discard(n)
    assert not old


def test_a_share_is_the_longest_unread_and_rotten_ones_come_on_top() -> None:
    found = [candidate(n, 10 * PIECE, 100 + n) for n in range(10)] + [candidate(77, 99 * PIECE, 500, is_rotten=True)]
    plan = plan_share(found, 5)
    assert [(int(one.digest, 16), one.reason) for one in plan.items] == [
        (77, Reason.ROTTEN),
        (0, Reason.LONGEST_UNREAD),
        (1, Reason.LONGEST_UNREAD),
    ]
    assert (plan.left, plan.bytes, plan.pieces) == (8, 119 * PIECE, 119)
    bounded = plan_share(found, 1, most_bytes=35 * PIECE)
    assert [int(one.digest, 16) for one in bounded.items] == [77, 0, 1, 2]
    assert len(plan_share(found, 1).items) == 11


def test_what_was_never_read_counts_as_read_when_it_was_stored(store: BlobStore) -> None:
    os.utime(store.path(VIDEO.digest), (NOW - 9, NOW - 9))
    os.utime(store.path(OTHER.digest), (NOW + 9, NOW + 9))  # written while the clock ran ahead
    assert VIDEO.ref.table
    store.path(VIDEO.ref.table).unlink()
    dated = {one.digest: one.scrubbed_at for one in seasoned(store, candidates(store), NOW)}
    assert (dated[VIDEO.digest], dated[OTHER.digest], dated[VIDEO.ref.table]) == (NOW - 9, 0, 0)


def record(at: int = 0, gb: float = 100, rotten: int = 0, unreadable: int = 0) -> ScrubRecord:
    return ScrubRecord(Instant(at), round(gb * 1e9), rotten, unreadable)


@pytest.mark.parametrize(
    ("records", "decays"),
    [
        ([], False),
        ([record()] * 40, False),
        ([record(rotten=1)], False),
        ([record(rotten=1), *[record()] * 5, record(rotten=1)], True),
        ([record(rotten=2)], True),
        ([record(rotten=2, gb=3000)], False),
        ([record(unreadable=1)], True),
        ([record(unreadable=1), *[record()] * LAST_SCRUBS], False),
    ],
)
def test_judgement(records: list[ScrubRecord], decays: bool) -> None:
    faults = judge_decay(records)
    assert [one.code for one in faults] == (["disk_decays"] if decays else [])
    assert all("老化" in one.zh and "decays" in one.en for one in faults)


def test_the_record_is_bounded_and_outlasts_damage_to_itself(tmp_path: Path) -> None:
    path = tmp_path / "scrubs.json"
    assert read_scrubs(path) == ()
    for at in range(LAST_SCRUBS + 5):
        note_scrub(path, record(at))
    assert [one.at for one in read_scrubs(path)] == list(range(5, LAST_SCRUBS + 5))
    path.write_bytes(b"\xff[")
    assert read_scrubs(path) == ()
    note_scrub(path, record(9))
    assert [one.at for one in read_scrubs(path)] == [9]


async def test_rot_is_recorded_once_and_two_pieces_of_it_are_a_fault(store: BlobStore) -> None:
    async def once() -> None:
        await run_scrub(store, Library(store), plan_scrub(candidates(store), 0), NOW)

    await once()
    flip(store.path(VIDEO.digest), PIECE)
    await once()
    await once()  # known by now
    assert [one.rotten for one in read_scrubs(store.paths.scrubs)] == [0, 1, 0]
    assert faults_of(store.paths) == ()
    flip(store.path(OTHER.digest), PIECE)
    await once()
    assert [one.code for one in faults_of(store.paths)] == ["disk_decays"]


async def test_a_sector_that_cannot_be_read_is_a_fault_at_once(
    store: BlobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    inode = store.path(VIDEO.digest).stat().st_ino

    real, real_cold = scrub.read_into, scrub.read_cold

    def refuse(fd: int, start: int, stop: int) -> None:
        if os.fstat(fd).st_ino == inode and start <= 3 * PIECE < stop:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    def read_into(fd: int, start: int, stop: int, buffer: memoryview) -> memoryview:
        refuse(fd, start, stop)
        return real(fd, start, stop, buffer)

    def read_cold(fd: int, start: int, stop: int) -> bytes:
        refuse(fd, start, stop)
        return real_cold(fd, start, stop)

    # No disk here has a bad sector: the system's answer to one is put in where the scrub reads.
    monkeypatch.setattr(scrub, "read_into", read_into)
    monkeypatch.setattr(scrub, "read_cold", read_cold)
    report = await run_scrub(store, Library(store), plan_scrub(candidates(store), 0), NOW)
    assert [(one.digest, one.piece) for one in report.bad] == [(VIDEO.digest, 3)]
    assert [(one.rotten, one.unreadable) for one in read_scrubs(store.paths.scrubs)] == [(0, 1)]
    assert [one.code for one in faults_of(store.paths)] == ["disk_decays"]


async def test_a_file_that_somebody_removed_is_no_decay(store: BlobStore) -> None:
    store.path(VIDEO.digest).unlink()
    os.truncate(store.path(OTHER.digest), 5)
    report = await run_scrub(store, Library(store), plan_scrub(candidates(store), 0), NOW)
    assert len(report.bad) == 6 + 3
    assert faults_of(store.paths) == ()


async def test_a_scrub_that_is_ended_keeps_what_it_read(store: BlobStore) -> None:
    plan = plan_scrub(candidates(store), 0)

    def stop(_stage: str, _done: int, _total: int) -> None:
        raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        await run_scrub(store, Library(store), plan, NOW, None, stop)
    assert [one.bytes_read for one in read_scrubs(store.paths.scrubs)] == [plan.items[0].size]


async def test_nightly_shares_read_everything_repair_and_tell(tmp_path: Path) -> None:
    clock = ManualClock()
    province = Province(clock)
    for n in range(6):
        province.lesson(f"kj-{n}", {"lesson.mp4": random.Random(n).randbytes(3 * PIECE_SIZE + n)})
    province.release()
    async with (
        province.site().running() as site,
        edge_at(tmp_path, province, clock, site.url, scrub_cycle_days="3") as edge,
    ):
        await run(edge)
        paths = [edge.store.path(edge.library.get(f"kj-{n}").files[0].ref.digest) for n in (1, 4)]  # type: ignore[union-attr]
        before = [path.read_bytes() for path in paths]
        for path in paths:
            flip(path, PIECE_SIZE + 7)
        site.forget()
        reports = []
        for _ in range(3):
            clock.move(DAY_S)
            reports.append(await app.scrub_tonight(edge))
        total = sum(one.size for one in candidates(edge.store))
        assert sum(one.bytes_read for one in read_scrubs(edge.paths.scrubs)) >= total
        assert all(one.pieces_checked < total // PIECE_SIZE for one in reports), "each read a share only"
        assert (sum(len(one.bad) for one in reports), sum(one.repaired for one in reports)) == (2, 2)
        assert [path.read_bytes() for path in paths] == before
        assert PIECE_SIZE * 2 <= site.bytes_sent < PIECE_SIZE * 3, "a rotten piece costs one piece"
        clock.move(5 * DAY_S)
        assert (await app.scrub_tonight(edge)).left == 0, "nights that were missed are made up for"
        findings = await check_edge(tmp_path, {}, clock())
        decay = next(one for one in findings if one.id == "disk.decay")
        assert (decay.level, "老化" in decay.what_zh) == (Level.WARN, True)
