"""What waits in the outbox: on /healthz, on /metrics, on the operator's page and in doctor, without touching it."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from pathlib import Path

import pytest
from support.edge_store import make_blob
from support.portal import DAY, NOW, HandClock, Shop, file_of, get, lesson, served

from edge.report.backlog import LATE_S, Backlog, read_backlog
from edge.report.outbox import Outbox
from manifests.instants import Instant
from tools.doctor_edge import check_edge
from tools.doctor_model import Finding, Level

VIDEO = make_blob(5000, "v")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    shop = Shop(tmp_path)
    shop.put(VIDEO)
    shop.install(lesson("kj-1", file_of(VIDEO, "a.mp4")))
    shop.close()
    return tmp_path


def put(root: Path, *ages_s: int) -> None:
    with Outbox.open(root / "outbox.sqlite", Instant(NOW)) as outbox:
        for age_s in ages_s:
            outbox.append("run", b"{}", Instant(NOW - age_s))


async def doctor(root: Path) -> Finding:
    return next(one for one in await check_edge(root, {}, Instant(NOW)) if one.id == "reports")


def test_it_is_what_the_outbox_says(tmp_path: Path) -> None:
    path = tmp_path / "outbox.sqlite"
    assert read_backlog(path) == Backlog(0, None)
    assert not path.exists()
    with Outbox.open(path, Instant(NOW)) as outbox:
        assert read_backlog(path) == Backlog(0, None)
        numbers = [outbox.append("run", b"{}", Instant(NOW - n)) for n in range(4)]
        assert read_backlog(path) == Backlog(outbox.count_unsent(), outbox.oldest_unsent_at()) == Backlog(4, NOW)
        outbox.acknowledge(numbers[1])
        assert read_backlog(path) == Backlog(outbox.count_unsent(), outbox.oldest_unsent_at()) == Backlog(2, NOW - 2)
    before = sorted(tmp_path.iterdir())
    assert read_backlog(path) == Backlog(2, Instant(NOW - 2))
    assert sorted(tmp_path.iterdir()) == before
    path.write_bytes(b"no database")
    assert read_backlog(path) is None


@pytest.mark.parametrize(
    ("ages_s", "codes", "level"),
    [((), [], Level.OK), ((DAY, 5), [], Level.OK), ((LATE_S + 1, 5), ["reports"], Level.WARN)],
    ids=["none", "some", "late"],
)
async def test_it_is_shown(root: Path, ages_s: tuple[int, ...], codes: list[str], level: Level) -> None:
    put(root, *ages_s)
    (root / "edge.toml").write_text("[store]\nreserve_bytes = 1\n", "utf-8")
    async with served(root, HandClock(NOW)) as port:
        health = json.loads((await get(port, "/healthz")).body)
        metrics = (await get(port, "/metrics")).body.decode()
        page = (await get(port, "/operator")).body.decode()
    oldest = NOW - ages_s[0] if ages_s else 0
    assert health["reports"]["waiting"] == len(ages_s)
    assert bool(health["reports"]["oldest_at"]) is bool(ages_s)
    assert [reason["code"] for reason in health["reasons"]] == codes
    assert f"yuanjiao_edge_reports_waiting {float(len(ages_s))}" in metrics
    told = next(line for line in metrics.splitlines() if line.startswith("yuanjiao_edge_reports_oldest"))
    assert float(told.split()[1]) == oldest
    assert "待上报" in page
    found = await doctor(root)
    assert found.level is level
    assert str(len(ages_s)) in found.what or not ages_s


async def test_outbox_that_cannot_be_read_is_said(root: Path) -> None:
    (root / "outbox.sqlite").write_bytes(b"no database" * 1000)
    async with served(root, HandClock(NOW)) as port:
        health = json.loads((await get(port, "/healthz")).body)
        assert (await get(port, "/operator")).status == 200
    assert health["reports"] is None
    assert "reports" in [reason["code"] for reason in health["reasons"]]
    assert (await doctor(root)).level is Level.WARN


class Cells(HTMLParser):
    """Widths of the rows of each table, and whether a cell of it is empty."""

    def __init__(self) -> None:
        super().__init__()
        self.tables: list[list[int]] = []
        self.empty = 0
        self._has_text = True

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append(0)
        elif tag in {"td", "th"}:
            self.tables[-1][-1] += int(dict(attrs).get("colspan") or 1)
            self._has_text = False

    def handle_data(self, data: str) -> None:
        self._has_text = self._has_text or bool(data.strip())

    def handle_endtag(self, tag: str) -> None:
        if tag in {"td", "th"} and not self._has_text:
            self.empty += 1


async def test_tables_of_the_operator_have_no_empty_cells(root: Path) -> None:
    put(root, DAY)
    async with served(root, HandClock(NOW)) as port:
        cells = Cells()
        cells.feed((await get(port, "/operator")).body.decode())
    assert len(cells.tables) >= 3
    assert cells.empty == 0
    assert {len(set(rows)) for rows in cells.tables} == {1}
    assert {rows[0] for rows in cells.tables} == {2, 3}
