"""What strangers, liars and broken lines can do to the origin's inbox: nothing that was not proved."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from hypothesis import given, settings
from hypothesis import strategies as st
from support.origins import copy_origin, found_origin
from support.receipts import CODE_OF, COUNTY, OTHER, held, make_edge, origin_at, post, run_numbers, sign, signer_of
from support.releases import AddressIn

from manifests.errors import FormatError
from manifests.instants import Instant
from manifests.reports import (
    MAX_BATCH,
    MAX_BATCH_BYTES,
    REPORTS_PATH,
    Answer,
    Inventory,
    Report,
    Run,
    State,
    encode_envelopes,
    inventory_digest,
    make_report,
    read_body,
)
from manifests.signing import Signer
from origin.app import Origin
from origin.clock import system_clock
from origin.stations.folding import Holding, Opened, fold
from origin.stations.receipts import receive
from origin.stations.registry import _make_identity
from origin.web.reports import Reports

NOW = Instant(1_795_000_000)
RUN = Run(catalog_version=1, complete=True, started="2026-11-18T14:00:00Z", finished="2026-11-18T14:00:01Z")


def inventory(held: dict[str, int], base: int = 0, gone: tuple[str, ...] = (), **more: object) -> Inventory:
    """A full inventory, or with a base the change to one."""
    after = dict(more.pop("after", held))  # type: ignore[call-overload]
    digest = inventory_digest(after)
    return Inventory(1, digest, len(after), base=base, held=held, gone=gone, **more)  # type: ignore[arg-type]


def report(number: int, body: Inventory | Run | State, *, after: int | None = None, region: str = COUNTY) -> Report:
    kind = {Inventory: "inventory", Run: "run", State: "state"}[type(body)]
    before = number - 1 if after is None else after
    return make_report(region, number, kind, NOW, body, after=before)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def founded(tmp_path_factory: pytest.TempPathFactory, address_in: AddressIn) -> Path:
    root = tmp_path_factory.mktemp("founded") / "origin"
    return found_origin(root, address_in(root))


@pytest.fixture
async def origin(founded: Path, tmp_path: Path) -> AsyncIterator[tuple[Origin, str]]:
    async with origin_at(copy_origin(founded, tmp_path / "origin")) as made:
        yield made


@pytest.fixture
async def signer(origin: tuple[Origin, str], tmp_path: Path) -> Signer:
    return signer_of(await make_edge(*origin, tmp_path / "one"))


async def test_a_batch_is_taken_once(origin: tuple[Origin, str], signer: Signer) -> None:
    province, url = origin
    batch = sign(signer, report(1, inventory({"a": 1})), report(2, RUN))
    assert await post(url, batch) == (200, Answer(2))
    assert await post(url, batch) == (200, Answer(2))
    assert await held(province) == {CODE_OF[COUNTY]: {"a": 1}}
    assert await run_numbers(province) == [2]
    assert province.metrics.value("reports", outcome="repeated") == 2


async def test_a_delta_that_cannot_be_built_on_wants_a_full_inventory(
    origin: tuple[Origin, str], signer: Signer
) -> None:
    province, url = origin
    await post(url, sign(signer, report(1, inventory({"a": 1}))))
    odd = inventory({"c": 1}, base=1, after={"a": 1, "b": 1, "c": 1})
    assert await post(url, sign(signer, report(2, odd))) == (200, Answer(2, want_full=True))
    assert await held(province) == {CODE_OF[COUNTY]: {"a": 1}}, "nothing of it is believed"
    assert await post(url, sign(signer, report(3, RUN))) == (200, Answer(3, want_full=True))
    whole = inventory({"a": 1, "b": 1, "c": 1})
    assert await post(url, sign(signer, report(4, whole))) == (200, Answer(4))
    assert await held(province) == {CODE_OF[COUNTY]: {"a": 1, "b": 1, "c": 1}}


async def test_a_gap_is_closed_by_a_full_inventory_or_not_at_all(origin: tuple[Origin, str], signer: Signer) -> None:
    province, url = origin
    await post(url, sign(signer, report(1, inventory({"a": 1}))))
    lost = sign(signer, report(4, RUN), report(5, inventory({"b": 1}, base=1, after={"a": 1, "b": 1})))
    assert await post(url, lost) == (200, Answer(1))
    meant = sign(signer, report(4, RUN, after=1))
    assert await post(url, meant) == (200, Answer(4)), "what lay between was superseded, says the edge"
    assert await post(url, sign(signer, report(9, inventory({"b": 2})))) == (200, Answer(9))
    assert await held(province) == {CODE_OF[COUNTY]: {"b": 2}}
    assert province.metrics.value("reports", outcome="left") == 2


async def test_what_is_refused_changes_nothing(origin: tuple[Origin, str], signer: Signer, tmp_path: Path) -> None:
    province, url = origin
    other = signer_of(await make_edge(province, url, tmp_path / "two", OTHER))
    stranger = Signer(_make_identity().private_key.encode())
    good = report(1, inventory({"a": 1}))
    replayed = sign(signer, good)
    stolen = [type(one)(other.key_id, one.text, one.signature) for one in replayed]
    forged = [type(one)(signer.key_id, one.text.replace('"a"', '"b"'), one.signature) for one in replayed]
    cases = [
        (403, sign(stranger, good)),
        (403, stolen),
        (403, forged),
        (403, sign(other, good)),  # its own key, another county's region
        (400, sign(signer, good) + sign(other, report(1, RUN, region=OTHER))),
        (400, []),
        (400, sign(signer, report(1, inventory({"../../etc/passwd": 1})))),
        (400, sign(signer, report(1, inventory({"A": 1})))),
        (400, sign(signer, report(1, inventory({"x' OR 1=1 --": 1})))),
        (400, sign(signer, report(1, inventory({}, base=1, gone=("<script>",))))),
        (400, sign(signer, report(1, Run(1, True, "2026-13-41T00:00:00Z", "2026-11-18T14:00:01Z")))),
    ]
    for status, batch in cases:
        got, _ = await post(url, batch)
        assert got == status, batch
    assert await held(province) == {}
    assert await run_numbers(province) == []
    assert province.metrics.value("report_batches", outcome="taken") == 0
    assert province.metrics.value("report_batches", outcome="failed") == 0
    assert await post(url, sign(signer, good)) == (200, Answer(1))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"null",
        b"{}",
        b"[" * 100_000,
        b'[{"key_id": "\\ud800", "text": "\\ud800", "signature": "' + b"0" * 128 + b'"}]',
        b'[{"key_id": "\\u0000", "text": "x", "signature": "' + b"0" * 128 + b'"}]',
        b'[{"key_id": "x", "text": "x", "signature": "00"}]',
        b"\xff\xfe[]",
        b"[" + b",".join([b'{"key_id":"x","text":"","signature":"' + b"0" * 128 + b'"}'] * (MAX_BATCH + 1)) + b"]",
    ],
    ids=["empty", "null", "object", "deep", "surrogate", "nul", "short", "utf16", "many"],
)
async def test_malformed_bodies(origin: tuple[Origin, str], data: bytes) -> None:
    province, url = origin
    status, text = await post(url, data)
    assert status in {400, 403}
    assert "Traceback" not in str(text)
    assert province.metrics.value("report_batches", outcome="failed") == 0


@pytest.mark.parametrize("text", ["", "[]", '{"format":"yuanjiao-report"}', "\x00", '{"format":"x"' + "," * 50])
async def test_signed_nonsense_is_malformed(origin: tuple[Origin, str], signer: Signer, text: str) -> None:
    _, url = origin
    signature = signer._key.sign(text.encode()).hex()
    data = json.dumps([{"key_id": signer.key_id, "text": text, "signature": signature}]).encode()
    assert (await post(url, data))[0] == 400


async def test_bodies_that_are_too_long_or_coded(origin: tuple[Origin, str]) -> None:
    _, url = origin
    async with aiohttp.ClientSession() as session:
        request = b"POST /api/v1/reports HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % (MAX_BATCH_BYTES + 1)
        host, port = url.removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(request)
        assert (await asyncio.wait_for(reader.readline(), 60)).startswith(b"HTTP/1.1 413")
        writer.close()
        async with session.post(url + REPORTS_PATH, data=b"x", headers={"Content-Encoding": "gzip"}) as response:
            assert response.status == 400


async def test_a_body_that_does_not_come_is_given_up(founded: Path, tmp_path: Path) -> None:
    async with origin_at(copy_origin(founded, tmp_path / "origin")) as (province, _):
        inbox = Reports(province.engine, system_clock, province.metrics, 90, portion_s=0.05, body_s=0.3)
        application = web.Application()
        application.add_routes(inbox.routes())
        runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        reader, writer = await asyncio.open_connection(*runner.addresses[0])
        writer.write(b"POST /api/v1/reports HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n[")
        assert (await asyncio.wait_for(reader.readline(), 60)).startswith(b"HTTP/1.1 408")
        assert province.metrics.value("report_batches", outcome="late") == 1
        writer.close()
        await runner.cleanup()


async def test_where_an_edge_stands(origin: tuple[Origin, str], signer: Signer) -> None:
    _, url = origin
    await post(url, sign(signer, report(7, inventory({}))))
    async with aiohttp.ClientSession() as session:
        async with session.get(f"{url}{REPORTS_PATH}?key={signer.key_id}") as response:
            assert await response.json() == {"received": 7, "kinds": ["watching"]}
        for key in ("0" * 16, "", "%00", "x" * 5000):
            async with session.get(f"{url}{REPORTS_PATH}?key={key}") as response:
                assert response.status in {400, 403}


async def test_old_runs_are_forgotten_and_carried_reports_do_not_count_as_heard(
    origin: tuple[Origin, str], signer: Signer
) -> None:
    province, url = origin
    first = sign(signer, report(1, inventory({})), report(2, RUN))
    taken = await receive(province.engine, first, Instant(NOW + 3600), carried=True)
    assert (taken.edge, taken.applied) == (CODE_OF[COUNTY], 2)
    async with aiohttp.ClientSession() as session, session.get(f"{url}/metrics") as response:
        assert "yuanjiao_origin_edges_heard 0.0" in await response.text()
    assert await run_numbers(province) == [2]
    await receive(province.engine, sign(signer, report(3, RUN)), Instant(NOW + 91 * 86400), run_days=90)
    assert await run_numbers(province) == []


async def test_the_same_batch_by_line_and_by_courier_at_once(origin: tuple[Origin, str], signer: Signer) -> None:
    province, _ = origin
    batch = sign(signer, report(1, inventory({"a": 1})), *(report(n, RUN) for n in range(2, 40)))
    taken = await asyncio.gather(*(receive(province.engine, batch, system_clock()) for _ in range(4)))
    assert sorted(one.applied for one in taken) == [0, 0, 0, 39]
    assert await run_numbers(province) == list(range(2, 40))


IDS = st.dictionaries(st.sampled_from(["a", "b", "c", "d"]), st.integers(1, 3))


@settings(max_examples=150, deadline=None)
@given(st.lists(IDS, min_size=1, max_size=6), st.integers(0, 10_000))
def test_any_order_and_any_repetition_come_to_the_same(steps: list[dict[str, int]], seed: int) -> None:
    """Against the naive model: what the edge held last is what the origin believes, once everything has come."""
    reports: list[Opened] = []
    before: dict[str, int] = {}
    for number, now in enumerate(steps, 1):
        gone = tuple(sorted(set(before) - set(now)))
        new = {id_: version for id_, version in now.items() if before.get(id_) != version}
        body = inventory(now if number == 1 else new, base=number - 1, gone=gone, after=now)
        reports.append(Opened(report(number, body), body))
        before = now
    rng = random.Random(seed)
    received, full, kept = 0, False, dict[str, Holding]()
    for _ in range(200):
        if received == len(steps):
            break
        start = rng.randrange(len(reports))
        batch = reports[start : start + rng.randint(1, 3)]
        out = fold(received, full, kept, batch, NOW)
        assert out.received >= received
        received, full = out.received, out.want_full
        kept = out.held if out.held is not None else kept
    assert received == len(steps)
    assert not full
    assert {id_: one.version for id_, one in kept.items()} == before


def test_a_state_with_a_window_that_is_none_is_refused() -> None:
    from manifests.line import Line

    bad = State("410122", 1, Line(window="25:00-06:00"), 0)
    with pytest.raises(FormatError):
        read_body(report(1, bad))
    assert encode_envelopes([]) == b"[]"
