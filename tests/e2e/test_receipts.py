"""Receipts end to end: edges sync from a real origin, tell it what they proved, and the origin can say so."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
from support.origins import found_origin
from support.province import ManualClock, Province
from support.receipts import (
    OTHER,
    article,
    backup,
    coverage,
    held,
    make_edge,
    open_edge,
    origin_at,
    outbox_of,
    post,
    restore,
    run_numbers,
    signer_of,
    sync,
    waiting,
)
from support.relay import Fault, Liar, Relay

from edge import app as edge_app
from manifests.errors import BusyError, InputError, NotFoundError, TransferError
from manifests.instants import dump_instant
from manifests.reports import Answer, Run
from origin import app as origin_app
from origin.app import Origin
from origin.clock import system_clock
from origin.publish.promising import promise
from origin.publish.publish import PublishRequest
from origin.stations.registry import accept_key
from origin.stations.states import held_by, latest_states

# Reports of a month without a line. Read here: when tests run, no setting of the machine is left.
MONTH = int(os.environ.get("YUANJIAO_TEST_REPORTS", "20000"))
CODE, OTHER_CODE = "410122-1", "410225-1"


@pytest.fixture(scope="module")
def founded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Read only: an origin with three lessons, one of them for another city's county only."""
    root = tmp_path_factory.mktemp("founded")
    found_origin(root / "origin")

    async def fill() -> None:
        async with origin_app.open_origin(root / "origin", {}, system_clock) as origin:
            await article(origin, root, "wheat")
            await article(origin, root, "maize")
            await article(origin, root, "local", audience=(OTHER,))

    asyncio.run(fill())
    return root / "origin"


@pytest.fixture
def root(founded: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(founded, tmp_path / "origin"))


@pytest.fixture
async def origin(root: Path) -> AsyncIterator[tuple[Origin, str]]:
    async with origin_at(root) as made:
        yield made


async def test_two_edges_prove_a_lesson_and_its_recall(tmp_path: Path, origin: tuple[Origin, str]) -> None:
    province, url = origin
    one = await make_edge(province, url, tmp_path / "one")
    two = await make_edge(province, url, tmp_path / "two", OTHER)
    await sync(one)
    wheat = (await coverage(province, "wheat")).spread
    assert wheat is not None
    assert (wheat.version, wheat.proved, wheat.meant) == (1, 1, 2)
    assert [(late.edge, late.heard, late.held) for late in wheat.tail] == [(OTHER_CODE, None, 0)]
    await sync(two)
    wheat = (await coverage(province, "wheat")).spread
    assert wheat is not None
    assert (wheat.proved, wheat.meant, wheat.tail) == (2, 2, ())
    assert wheat.first is not None
    assert wheat.median is not None
    assert wheat.last is not None
    assert wheat.first <= wheat.median <= wheat.last
    local = (await coverage(province, "local")).spread
    assert local is not None
    assert (local.proved, local.meant, local.slowest) == (1, 1, "兰考县"), "it is for that county only"
    await origin_app.recall(province, "wheat", "内容有误")
    await sync(one)
    gone = await coverage(province, "wheat")
    assert gone.spread is None
    assert gone.recall is not None
    assert (gone.recall.proved, gone.recall.meant, gone.recall.slowest) == (1, 2, "中牟县")
    assert [(late.edge, late.held) for late in gone.recall.tail] == [(OTHER_CODE, 1)]
    await sync(two)
    gone = await coverage(province, "wheat")
    assert gone.recall is not None
    assert (gone.recall.proved, gone.recall.meant, gone.recall.tail) == (2, 2, ())
    with pytest.raises(NotFoundError):
        await coverage(province, "nothing")
    with pytest.raises(NotFoundError):
        await coverage(province, "wheat", 7)


async def test_an_edge_that_never_had_a_lesson_proves_its_recall(tmp_path: Path, origin: tuple[Origin, str]) -> None:
    province, url = origin
    one = await make_edge(province, url, tmp_path / "one")
    await sync(one)
    await origin_app.recall(province, "local", "内容有误")
    recall = (await coverage(province, "local")).recall
    assert recall is not None
    assert recall.proved == 0, "its inventory is older than the recall"
    await sync(one)
    recall = (await coverage(province, "local")).recall
    assert recall is not None
    assert (recall.proved, recall.first) == (1, None)


async def test_what_is_new_is_told_and_nothing_else(tmp_path: Path, origin: tuple[Origin, str]) -> None:
    province, url = origin
    one = await make_edge(province, url, tmp_path / "one")
    async with Relay(url).running() as relay:
        await sync(one, relay.url)
        relay.forget()
        await sync(one, relay.url)
        assert relay.bytes_both < 2000
        assert province.metrics.value("report_batches", outcome="taken") == 1
        await article(province, tmp_path, "wheat", "再版")
        await sync(one, relay.url)
    assert (await held(province)) == {CODE: {"wheat": 2, "maize": 1}}
    assert province.metrics.value("reports", outcome="applied") == 6
    states = await latest_states(province.engine)
    assert [(one.code, one.name, one.region) for one in states] == [(CODE, "中牟县", "410122")]
    assert states[0].state is not None
    assert states[0].at is not None
    assert states[0].state.catalog_version == 5
    assert states[0].state.line.window == "22:00-06:00"
    assert states[0].state.held == {}, "on the line, inventories say that"
    assert await held_by(province.engine, CODE) == {"wheat": 2, "maize": 1}
    path = tmp_path / "next.md"
    path.write_text("# 明天\n", encoding="utf-8")
    request = PublishRequest(files=(path,), title="明天")
    told = await promise(province.publishing, province.engine, request, "06:00")
    assert (told.edges, told.in_time) == (1, 1), "the promise is made from what the edge told"


async def test_an_edge_that_only_takes_some_columns_is_not_waited_for(
    tmp_path: Path, origin: tuple[Origin, str]
) -> None:
    province, url = origin
    await article(province, tmp_path, "crop", columns=("农业技术",))
    _, catalog = await province.releases.current_catalog()
    column = catalog.columns[0].id
    one = await make_edge(province, url, tmp_path / "one")
    await sync(one, sync_columns=column)
    crop, wheat = (await coverage(province, "crop")).spread, (await coverage(province, "wheat")).spread
    assert crop is not None
    assert wheat is not None
    assert (crop.proved, crop.meant) == (1, 1)
    assert (wheat.proved, wheat.meant) == (0, 0)


async def test_a_month_of_sync_failures_is_told_as_one(tmp_path: Path, origin: tuple[Origin, str]) -> None:
    province, url = origin
    one = await make_edge(province, url, tmp_path / "one")
    async with Relay(url).running() as relay:
        await sync(one, relay.url)
        relay.faults = lambda _: Fault(refuse=True)
        for _ in range(3):
            with pytest.raises(TransferError):
                await sync(one, relay.url)
        with outbox_of(one) as outbox:
            kinds = [row.kind for row in outbox.unsent(100, 1 << 20)]
        assert kinds.count("run") == 1, "the same failure again is no news"
        assert kinds.count("state") <= 1
        relay.faults = lambda _: Fault()
        await sync(one, relay.url)
    assert len(await run_numbers(province)) == 3
    with outbox_of(one) as outbox:
        assert outbox.count_unsent() == 0


async def test_why_a_lesson_is_late_stands_in_the_tail(tmp_path: Path, origin: tuple[Origin, str]) -> None:
    province, url = origin
    one = await make_edge(province, url, tmp_path / "one")
    report = await sync(one, store_quota_bytes="1")
    assert [late.id for late in report.deferred] == ["maize", "wheat"]
    wheat = (await coverage(province, "wheat")).spread
    assert wheat is not None
    assert [(late.edge, late.why) for late in wheat.tail] == [(CODE, report.deferred[1].reason_zh)]
    assert wheat.tail[0].heard is not None


async def test_an_origin_from_an_old_backup_is_sent_what_is_kept(tmp_path: Path, root: Path) -> None:
    one = tmp_path / "one"
    async with origin_at(root) as (province, url):
        await make_edge(province, url, one)
        await sync(one)
        old = tmp_path / "old.sqlite"
        await backup(province, old)
        await article(province, tmp_path, "rye")
        await sync(one)
        numbers = await run_numbers(province)
    restore(root, old)
    async with origin_at(root, int(url.rpartition(":")[2])) as (province, url):
        assert len(await run_numbers(province)) == 1
        await sync(one, sync_columns="none")
        assert (await run_numbers(province))[:2] == numbers, "what was received before is sent again"
        with outbox_of(one) as outbox:
            assert outbox.count_unsent() == 0


async def test_an_origin_from_an_old_backup_gets_a_full_inventory_for_what_is_not_kept(
    tmp_path: Path, root: Path
) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    async with origin_at(root) as (province, url):
        await make_edge(province, url, one)
        old = tmp_path / "old.sqlite"
        await backup(province, old)
        await sync(one)
        proved = await held(province)
    with outbox_of(one) as outbox, outbox._write():
        outbox._db.execute("DELETE FROM reports")
    restore(root, old)
    async with origin_at(root, int(url.rpartition(":")[2])) as (province, url):
        assert await held(province) == {}
        await article(province, tmp_path, "maize", "再版")
        await sync(one)
        assert await held(province) == {CODE: {**proved[CODE], "maize": 2}}
        assert not two.exists()


async def test_a_lost_outbox_goes_on_above_its_old_numbers(tmp_path: Path, origin: tuple[Origin, str]) -> None:
    province, url = origin
    one = await make_edge(province, url, tmp_path / "one")
    # The first outbox begins tomorrow; the clock is set right before it is lost.
    await sync(one, clock=lambda: system_clock() + 70_000)  # type: ignore[arg-type,return-value]
    before = await run_numbers(province)
    (one / "outbox.sqlite").unlink()
    for suffix in ("-wal", "-shm"):
        (one / f"outbox.sqlite{suffix}").unlink(missing_ok=True)
    await article(province, tmp_path, "maize", "再版")
    await sync(one)
    after = await run_numbers(province)
    assert after[0] == before[0]
    assert after[1] > before[0]
    assert await held(province) == {CODE: {"wheat": 1, "maize": 2}}


async def test_a_damaged_outbox_is_put_aside(tmp_path: Path, origin: tuple[Origin, str]) -> None:
    province, url = origin
    one = await make_edge(province, url, tmp_path / "one")
    await sync(one)
    (one / "outbox.sqlite").write_bytes(b"rot" * 5000)
    await article(province, tmp_path, "maize", "再版")
    assert (await sync(one)).complete
    assert await held(province) == {CODE: {"wheat": 1, "maize": 2}}
    assert (one / "outbox.sqlite.damaged").exists()


async def test_two_syncs_at_once_tell_it_once(tmp_path: Path, origin: tuple[Origin, str]) -> None:
    province, url = origin
    one = await make_edge(province, url, tmp_path / "one")
    outcomes = await asyncio.gather(sync(one), sync(one), return_exceptions=True)
    assert all(not isinstance(one, BaseException) or isinstance(one, BusyError) for one in outcomes)
    await sync(one)
    assert await held(province) == {CODE: {"wheat": 1, "maize": 1}}
    assert province.metrics.value("reports", outcome="repeated") == 0


async def test_a_batch_twice_and_out_of_order(tmp_path: Path, origin: tuple[Origin, str]) -> None:
    province, url = origin
    one = await make_edge(province, url, tmp_path / "one")
    await sync(one, report_url="http://127.0.0.1:9")
    await article(province, tmp_path, "maize", "再版")
    await sync(one, report_url="http://127.0.0.1:9")
    batch = waiting(one)
    assert len(batch) == 5, "inventory and run twice, and only the newest state"
    status, answer = await post(url, batch[3:])
    assert (status, answer) == (200, Answer(0)), "one before these is missing"
    assert await held(province) == {}
    for _ in range(2):
        status, answer = await post(url, batch)
        assert status == 200
        assert isinstance(answer, Answer)
        assert not answer.want_full
        assert await held(province) == {CODE: {"wheat": 1, "maize": 2}}
    assert province.metrics.value("reports", outcome="repeated") == 5
    assert len(await run_numbers(province)) == 2
    assert (await sync(one)).complete
    with outbox_of(one) as outbox:
        assert outbox.count_unsent() == 0


async def test_a_key_that_the_origin_does_not_know(tmp_path: Path, origin: tuple[Origin, str]) -> None:
    province, url = origin
    one = await make_edge(province, url, tmp_path / "one", with_key=False)
    key = signer_of(one).public_key
    assert (await sync(one)).complete
    assert await held(province) == {}
    assert province.metrics.value("report_batches", outcome="taken") == 0
    with outbox_of(one) as outbox:
        assert outbox.count_unsent() == 3
    assert await accept_key(province.engine, "中牟县", key, system_clock) == CODE
    await sync(one)
    assert await held(province) == {CODE: {"wheat": 1, "maize": 1}}
    other = await make_edge(province, url, tmp_path / "other", OTHER, with_key=False)
    with pytest.raises(InputError):
        await accept_key(province.engine, CODE, signer_of(other).public_key, system_clock)
    with pytest.raises(InputError):
        await accept_key(province.engine, OTHER_CODE, key, system_clock)
    with pytest.raises(InputError):
        await accept_key(province.engine, OTHER_CODE, "00", system_clock)
    with pytest.raises(NotFoundError):
        await accept_key(province.engine, "410122-9", key, system_clock)


async def test_upstreams_that_take_no_reports_are_passed_over(tmp_path: Path, origin: tuple[Origin, str]) -> None:
    province, url = origin
    one = await make_edge(province, url, tmp_path / "one")
    async with Province(ManualClock()).site().running() as sibling, Relay(sibling.url).running() as relay:
        await sync(one, relay.url, url)
        assert await held(province) == {CODE: {"wheat": 1, "maize": 1}}
        await article(province, tmp_path, "maize", "再版")
        await sync(one, relay.url, url, report_url="http://127.0.0.1:9")
        assert await held(province) == {CODE: {"wheat": 1, "maize": 1}}
        relay.forget()
        async with open_edge(one, relay.url, url) as edge:
            sent = await edge_app.send_reports(edge)
        assert (sent.waiting, sent.error) == (0, "")
        assert relay.connections == 0, "it is not asked again for an hour"
    assert await held(province) == {CODE: {"wheat": 1, "maize": 2}}


async def test_the_reports_of_a_month_offline(tmp_path: Path, origin: tuple[Origin, str]) -> None:
    """20,000; a hundred thousand with YUANJIAO_TEST_REPORTS=100000, which takes half a minute."""
    province, url = origin
    one = await make_edge(province, url, tmp_path / "one")
    await sync(one, report_url="http://127.0.0.1:9")
    instant = dump_instant(system_clock())
    body = msgspec.json.encode(Run(1, False, instant, instant, error="上游连接失败"))
    with outbox_of(one) as outbox:
        with outbox._write():
            for _ in range(MONTH):
                outbox._append("run", body, system_clock(), {})
        waiting_before = outbox.count_unsent()
    assert waiting_before == MONTH + 3
    async with Relay(url, lambda n: Fault(cut_after=20_000) if n < 2 else Fault()).running() as relay:
        while True:
            async with open_edge(one, relay.url, report_timeout_s="60") as edge:
                sent = await edge_app.send_reports(edge)
            if not sent.waiting:
                break
    assert len(await run_numbers(province)) == MONTH + 1
    assert province.metrics.value("reports", outcome="applied") == waiting_before, "each was applied once"
    assert await held(province) == {CODE: {"wheat": 1, "maize": 1}}
    assert (one / "outbox.sqlite").stat().st_size < 100 << 20


async def test_a_report_that_the_origin_cannot_read_holds_up_no_other(
    tmp_path: Path, origin: tuple[Origin, str]
) -> None:
    province, url = origin
    one = await make_edge(province, url, tmp_path / "one")
    await sync(one, report_url="http://127.0.0.1:9")
    with outbox_of(one) as outbox:
        outbox.append("run", b'{"of":"a later version"}', system_clock())
    await sync(one)
    assert await held(province) == {CODE: {"wheat": 1, "maize": 1}}
    assert len(await run_numbers(province)) == 1
    with outbox_of(one) as outbox:
        assert outbox.count_unsent() == 0


async def test_an_answer_that_is_none_is_not_believed(tmp_path: Path, origin: tuple[Origin, str]) -> None:
    province, url = origin
    one = await make_edge(province, url, tmp_path / "one")
    for body in (b"<html>log in</html>", b'{"received":9007199254740991}', b'{"received":-1}', b"{" + b"1" * 9999):
        head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: %d\r\n\r\n"
        raw = head % len(body) + body
        async with Liar(lambda _path, _range, raw=raw: raw).running() as liar:  # type: ignore[misc]
            await sync(one, report_url=liar.url)
        assert liar.requests
        with outbox_of(one) as outbox:
            assert outbox.count_unsent() >= 3
            assert outbox.highest < 1 << 40
    await sync(one)
    assert await held(province) == {CODE: {"wheat": 1, "maize": 1}}
