"""Figures: each has a definition, and they add up after a storm."""

from __future__ import annotations

import asyncio
import os
import random
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families
from support.edge_store import make_blob
from support.portal import Shop, file_of, get, lesson, served
from support.raw_http import Connection

from edge.exposition import State, dump_metrics
from edge.metric_table import METRICS
from edge.metrics import Cell, Counters, Result, shared_rows

VIDEO = make_blob(300_000, "v")
AWAY = make_blob(1000, "away")
STATE = State("stale", 7, 3, 9, 1000, 5, {"http://10.0.0.9:80": 60.0})


def read(text: bytes) -> dict[tuple[str, str], float]:
    return {
        (sample.name, next(iter(sample.labels.values()), "")): sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
    }


@pytest.fixture
def counters() -> Counters:
    rows = shared_rows(2)
    made = Counters(rows, 0, 2)
    os.close(rows)
    return made


def test_every_row_is_exposed_and_nothing_else(counters: Counters) -> None:
    families = list(text_string_to_metric_families(dump_metrics(counters, STATE).decode()))
    assert {family.name for family in families} == {row.name.removesuffix("_total") for row in METRICS}
    by_name = {row.name.removesuffix("_total"): row for row in METRICS}
    for family in families:
        row = by_name[family.name]
        assert (family.type, family.documentation) == (row.kind, row.help_en)
        assert row.help_zh
        assert {label for sample in family.samples for label in sample.labels} <= {row.label}


def test_processes_add_up_and_a_reborn_one_goes_on(counters: Counters) -> None:
    rows = shared_rows(2)
    one, two = Counters(rows, 0, 2), Counters(rows, 1, 2)
    one.add(Result.HIT, 3)
    two.add(Result.HIT, 4)
    two.set(Cell.CONNECTIONS, 5)
    assert one.total(Result.HIT) == two.total(Result.HIT) == 7
    reborn = Counters(rows, 1, 2)
    assert reborn.total(Result.HIT) == 7
    assert reborn.total(Cell.CONNECTIONS) == 0
    os.close(rows)
    for each in (one, two, reborn):
        each.close()


def test_state_is_one_of_three(counters: Counters) -> None:
    values = read(dump_metrics(counters, STATE))
    assert [values["yuanjiao_edge_freshness", word] for word in ("fresh", "stale", "expired")] == [0, 1, 0]
    assert values["yuanjiao_edge_catalog_version", ""] == 7


async def test_identity_after_a_storm(tmp_path: Path) -> None:
    shop = Shop(tmp_path)
    shop.put(VIDEO)
    shop.install(lesson("kj-1", file_of(VIDEO, "a.mp4")), offered=[lesson("kj-2", file_of(AWAY, "a.mp4"))])
    shop.close()
    rng = random.Random(11)
    acts = {
        "/media/kj-1/a.mp4": Result.HIT,
        f"/blobs/{VIDEO.digest}": Result.HIT,
        "/": Result.HIT,
        "/api/courseware": Result.HIT,
        "/media/kj-2/a.mp4": Result.NOT_HERE,
        "/nothing": Result.NOT_FOUND,
        "/columns/nongye?page=x": Result.REFUSED,
    }
    wanted = dict.fromkeys(Result, 0)
    ranges = 0
    async with served(tmp_path) as port:

        async def client(plan: list[tuple[str, bool]]) -> None:
            connection = await Connection.open(port)
            for path, is_range in plan:
                await connection.request(path, **({"Range": "bytes=0-9"} if is_range else {}))
            await connection.close()

        plans = [[(rng.choice(list(acts)), rng.random() < 0.5) for _ in range(30)] for _ in range(12)]
        for plan in plans:
            for path, is_range in plan:
                wanted[acts[path]] += 1
                ranges += is_range and ("/media/kj-1" in path or "/blobs" in path)
        await asyncio.gather(*(client(plan) for plan in plans))
        for _ in range(5):  # and some who leave in the middle
            connection = await Connection.open(port)
            await connection.send("GET /media/kj-1/a.mp4 HTTP/1.1\r\nHost: x\r\n\r\n" * 3)
            await connection.reader.readexactly(1000)
            connection.writer.transport.abort()
        async with asyncio.timeout(60):
            while True:
                values = read((await get(port, "/metrics")).body)
                answers = {one: values["yuanjiao_edge_answers_total", one.name.lower()] for one in Result}
                # The request for the metrics itself is begun and not ended while it is answered.
                if values["yuanjiao_edge_requests_total", ""] == sum(answers.values()) + 1:
                    break
    assert {one: answers[one] for one in (Result.NOT_HERE, Result.NOT_FOUND, Result.REFUSED, Result.ERROR)} == {
        one: wanted[one] for one in (Result.NOT_HERE, Result.NOT_FOUND, Result.REFUSED, Result.ERROR)
    }
    assert answers[Result.HIT] >= wanted[Result.HIT]
    assert values["yuanjiao_edge_ranges_total", ""] == ranges
