"""Rot found, named, not served, and repaired by proved bytes only."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.edge_store import (
    PIECE,
    Made,
    flip,
    install,
    make_blob,
    make_item,
    no_leaks,
    opened_store,
    run_code,
    run_killed,
    store_blob,
)

from edge.store.blobs import BlobStore
from edge.store.library import Library
from edge.store.scrub import ScrubReport, candidates, run_scrub
from edge.store.scrub_plan import Candidate, Reason, plan_scrub
from manifests.digests import Digest
from manifests.errors import StorageDamagedError, TransferError
from manifests.instants import Instant
from manifests.pieces import BlobRef, PieceTable

VIDEO = make_blob(5 * PIECE + 5, "video")
POSTER = make_blob(300, "poster")
LESSON = make_item("kj-1", VIDEO, POSTER)
NOW = Instant(1_800_000_000)


class Upstream:
    """Serves pieces of known blobs; counts, and lies or fails when told to."""

    def __init__(self, *blobs: Made) -> None:
        self.bytes = {blob.digest: blob.data for blob in blobs}
        self.bytes |= {blob.ref.table: blob.table_data for blob in blobs if blob.ref.table}
        self.asked: list[tuple[Digest, int]] = []
        self.lies = False
        self.fails_after = 1000

    async def fetch(self, ref: BlobRef, table: PieceTable | None, n: int) -> bytes:
        self.asked.append((ref.digest, n))
        if len(self.asked) > self.fails_after:
            raise TransferError("the line is down")
        data = self.bytes[ref.digest]
        piece = data if table is None else data[slice(*table.bounds(n))]
        return bytes(len(piece)) if self.lies else piece


@pytest.fixture
def store(tmp_path: Path):
    with no_leaks(), opened_store(tmp_path / "edge") as one:
        store_blob(one, VIDEO)
        store_blob(one, POSTER)
        install(one, Library(one), 1, LESSON)
        yield one


async def scrub(store: BlobStore, upstream: Upstream | None = None, budget_bytes: int = 0) -> ScrubReport:
    plan = plan_scrub(candidates(store), budget_bytes)
    return await run_scrub(store, Library(store), plan, NOW, upstream.fetch if upstream else None)


async def test_a_sound_store(store: BlobStore) -> None:
    told: list[tuple[str, int, int]] = []
    plan = plan_scrub(candidates(store), 0)
    report = await run_scrub(store, Library(store), plan, NOW, None, lambda *step: told.append(step))
    assert report == ScrubReport(pieces_checked=6 + 1 + 1 + 1, bad=(), repaired=0, left=0)
    assert told[-1][1] == told[-1][2] == plan.bytes
    assert {one.scrubbed_at for one in candidates(store)} == {NOW}


async def test_a_flipped_byte_is_named_and_not_served(store: BlobStore) -> None:
    flip(store.path(VIDEO.digest), 3 * PIECE + 1)
    token = store.index.change_token()
    report = await scrub(store)
    assert [(one.digest, one.piece, one.names, one.repaired) for one in report.bad] == [
        (VIDEO.digest, 3, ("kj-1/file-0.bin",), False)
    ]
    assert not store.has(VIDEO.digest)
    assert store.index.change_token() != token
    assert Library(store).lacking() == {VIDEO.digest: ("kj-1",)}
    again = await scrub(store, budget_bytes=1)
    assert [one.piece for one in again.bad] == [3], "known rot is looked at first"


async def test_repair_fetches_only_what_is_rotten(store: BlobStore) -> None:
    for n in (1, 4):
        flip(store.path(VIDEO.digest), n * PIECE)
    flip(store.path(POSTER.digest), 0)
    upstream = Upstream(VIDEO, POSTER)
    report = await scrub(store, upstream)
    assert sorted(upstream.asked) == sorted([(POSTER.digest, 0), (VIDEO.digest, 1), (VIDEO.digest, 4)])
    assert (len(report.bad), report.repaired) == (3, 3)
    assert store.load(VIDEO.digest) == VIDEO.data
    assert store.load(POSTER.digest) == POSTER.data
    assert (await scrub(store)).bad == ()


async def test_tables_and_catalogs_are_repaired_too(store: BlobStore) -> None:
    library = Library(store)
    catalog = library.catalogs()[0].ref
    assert VIDEO.ref.table
    for digest in (VIDEO.ref.table, catalog.digest):
        flip(store.path(digest), 20)
    flip(store.path(VIDEO.digest), 0)
    upstream = Upstream(VIDEO)
    upstream.bytes[catalog.digest] = store.path(catalog.digest).read_bytes()  # a source with the same rot
    report = await scrub(store, upstream)
    names = {one.names: one.repaired for one in report.bad}
    assert names == {
        ("kj-1/file-0.bin",): True,
        ("kj-1/file-0.bin (piece table)",): True,
        ("catalog 1",): False,
    }
    assert store.load(VIDEO.digest) == VIDEO.data
    assert store.table(VIDEO.ref) == VIDEO.table


async def test_lies_and_a_dead_line_change_nothing(store: BlobStore) -> None:
    for n in (1, 4):
        flip(store.path(VIDEO.digest), n * PIECE)
    rotten = store.path(VIDEO.digest).read_bytes()
    liar = Upstream(VIDEO)
    liar.lies = True
    assert (await scrub(store, liar)).repaired == 0
    dead = Upstream(VIDEO)
    dead.fails_after = 0
    assert (await scrub(store, dead)).repaired == 0
    assert store.path(VIDEO.digest).read_bytes() == rotten
    assert not store.has(VIDEO.digest)


async def test_a_line_that_breaks_in_between_is_resumed_by_the_next_sync(store: BlobStore) -> None:
    for n in (1, 4):
        flip(store.path(VIDEO.digest), n * PIECE)
    weak = Upstream(VIDEO)
    weak.fails_after = 1
    assert (await scrub(store, weak)).repaired == 0
    assert not store.has(VIDEO.digest)
    with store.begin(VIDEO.ref, VIDEO.table) as partial:
        assert len(partial.missing()) < 6
        partial.write_pieces(0, VIDEO.data)
        partial.finish()
    assert store.load(VIDEO.digest) == VIDEO.data


@pytest.mark.parametrize("how", ["gone", "short", "long", "empty"])
async def test_files_of_the_wrong_length(store: BlobStore, how: str) -> None:
    path = store.path(VIDEO.digest)
    data = path.read_bytes()
    if how == "gone":
        path.unlink()
    else:
        path.write_bytes({"short": data[: 2 * PIECE + 1], "long": data + b"x", "empty": b""}[how])
    upstream = Upstream(VIDEO)
    report = await scrub(store, upstream)
    # What was good on the disk is neither called bad nor fetched.
    assert report.repaired == len(report.bad) == len(upstream.asked) == {"short": 4, "long": 0}.get(how, 6)
    assert store.has(VIDEO.digest)
    assert path.read_bytes() == VIDEO.data


async def test_a_damaged_mark_is_corrected_by_sha256(store: BlobStore) -> None:
    with sqlite3.connect(store.paths.index) as db:
        db.execute("UPDATE marks SET marks = CAST('rubbish' AS BLOB)")
    db.close()
    report = await scrub(store)
    assert report.bad == ()
    marks = dict(store.index.read("SELECT digest, marks FROM marks"))
    assert [len(marks[one.digest]) for one in (VIDEO, POSTER)] == [48, 8]
    flip(store.path(VIDEO.digest), 0)
    assert [one.piece for one in (await scrub(store)).bad] == [0]


async def test_rot_that_healed_is_served_again(store: BlobStore) -> None:
    store.mark_rotten(VIDEO.digest, [2])
    assert not store.has(VIDEO.digest)
    report = await scrub(store)
    assert report.bad == ()
    assert store.has(VIDEO.digest)


async def test_stray_files_are_adopted_or_set_aside(store: BlobStore) -> None:
    extra = make_blob(77, "extra")
    with store.index.write() as db:
        db.execute("DELETE FROM blobs WHERE digest = ?", (VIDEO.digest,))
    for digest, data in ((extra.digest, extra.data), ("ab" + "0" * 62, b"no")):
        path = store.path(Digest(digest))
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data)
    await scrub(store)
    assert store.ref(VIDEO.digest) == VIDEO.ref
    assert store.load(extra.digest) == extra.data
    assert [path.name for path in store.paths.quarantine.iterdir()] == ["ab" + "0" * 62]


async def test_a_damaged_index_stops_the_scrub_and_is_made_again(store: BlobStore) -> None:
    plan = plan_scrub(candidates(store), 0)
    store.close()
    damaged = BlobStore.open(store.paths)
    with store.paths.index.open("r+b") as file:
        for at in range(4096 * 2, store.paths.index.stat().st_size, 4096):
            file.seek(at)
            file.write(b"rust" * 20)
    damaged.index._reading().execute("PRAGMA shrink_memory")
    with pytest.raises(StorageDamagedError):
        await run_scrub(damaged, Library(damaged), plan, NOW)
    damaged.close()
    with opened_store(store.paths.root) as again:
        assert Library(again).installed() == {"kj-1": LESSON}
        assert (await scrub(again)).bad == ()


@pytest.mark.parametrize("point", ["scrub:marked", "partial:demoted", "partial:written", "finish:renamed"])
async def test_killed_while_repairing(store: BlobStore, point: str) -> None:
    flip(store.path(VIDEO.digest), PIECE)
    code = (
        "import asyncio\nfrom edge.store.scrub import *\nfrom edge.store.scrub_plan import plan_scrub\n"
        f"blob = make_blob({VIDEO.ref.size}, 'video')\n"
        "async def fetch(ref, table, n):\n    return blob.piece(n)\n"
        "with BlobStore.open(paths) as store:\n"
        "    asyncio.run(run_scrub(store, Library(store), plan_scrub(candidates(store), 0), 5, fetch))\n"
    )
    run_killed(code, store.paths.root, point)
    assert not store.has(VIDEO.digest)
    done = run_code(code, store.paths.root)
    assert done.returncode == 0, done.stderr
    with store.begin(VIDEO.ref, VIDEO.table) as partial:
        for n in partial.missing():
            partial.write_pieces(n, VIDEO.piece(n))
        partial.finish()
    assert store.load(VIDEO.digest) == VIDEO.data


def _candidate(n: int, size: int, at: int, rotten: bool) -> Candidate:
    return Candidate(Digest(f"{n:064x}"), size, PIECE, Instant(at), rotten)


def test_the_plan_reads_rot_first_then_the_longest_unread() -> None:
    blobs = [_candidate(1, 10, 50, False), _candidate(2, 20, 0, False), _candidate(3, 30, 90, True)]
    plan = plan_scrub(blobs, 0)
    assert [(int(item.digest, 16), item.reason) for item in plan.items] == [
        (3, Reason.ROTTEN),
        (2, Reason.NEVER_READ),
        (1, Reason.LONGEST_UNREAD),
    ]
    assert (plan.bytes, plan.left) == (60, 0)
    assert plan_scrub([], 0).items == ()


@given(
    st.lists(st.tuples(st.integers(0, 10 * PIECE), st.integers(0, 9), st.booleans()), max_size=30),
    st.integers(0, 30 * PIECE),
)
def test_a_plan_keeps_its_budget_and_leaves_nothing_out(blobs: list[tuple[int, int, bool]], budget: int) -> None:
    made = [_candidate(n, *blob) for n, blob in enumerate(blobs)]
    plan = plan_scrub(made, budget)
    assert len(plan.items) + plan.left == len(made)
    assert plan.bytes == sum(item.size for item in plan.items)
    assert plan.pieces == sum(item.pieces for item in plan.items)
    if budget:
        assert plan.bytes <= budget or len(plan.items) == 1
        assert plan.items or not made
    else:
        assert plan.left == 0
