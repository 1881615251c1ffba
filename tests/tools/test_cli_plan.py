"""`edge sync --dry-run`, a run's promise and fact, `edge why`: what a person reads, and what a program does."""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from rich.console import Console
from support.program import run
from support.province import DAY, ManualClock, Province, Site

from edge import app
from edge.clock import system_clock
from edge.sync.promise import Fact, Promised
from edge.sync.report import Deferred, SyncReport
from manifests.instants import Instant, dump_instant
from manifests.pieces import PIECE_SIZE
from tools.output import Language, Output
from tools.plan_table import fact_table

RNG = random.Random(8)


@pytest.fixture
def province() -> Province:
    made = Province(ManualClock(int(time.time())))
    made.lesson("film", {"video.mp4": RNG.randbytes(3 * PIECE_SIZE)}, title="冬小麦[返青]")
    made.lesson("huge", {"video.mp4": RNG.randbytes(9 * PIECE_SIZE)}, priority=1)
    made.lesson("later", {"x.pdf": b"x"}, published=dump_instant(Instant(made.clock() + 3 * DAY)))
    made.lesson("other", {"x.pdf": b"y"}, audience=("410200",))
    made.release()
    return made


@pytest.fixture
def site(province: Province) -> Iterator[Site]:
    """In a thread of its own: commands have their own event loop in this one."""
    ready, stop = threading.Event(), threading.Event()
    made = province.site()

    async def serve() -> None:
        async with made.running():
            ready.set()
            await asyncio.to_thread(stop.wait)

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    assert ready.wait(10)
    yield made
    stop.set()
    thread.join(10)


@pytest.fixture
def edge(tmp_path: Path, province: Province, site: Site) -> Path:
    app.init_edge(tmp_path, province.bundle(site.url), system_clock)
    settings = tmp_path / "edge.toml"
    # All day at a rate that takes the first lesson today and the second in weeks.
    text = '[sync]\nwindow = "00:00-24:00"\nline_bytes_per_s = 1\n[store]\nreserve_bytes = 0\n'
    settings.write_text(text, encoding="utf-8")
    return tmp_path


def test_a_dry_run_prints_the_plan_as_a_table(edge: Path) -> None:
    done = run("edge", "sync", edge, "--dry-run")
    assert done.code == 0
    lines = done.out.splitlines()
    row = next(line for line in lines if "film" in line)
    for text in ("新增", "《冬小麦[返青]》", "video.mp4 分片", "768.1 KiB", "今晚时段已满，预计"):
        assert text in row
    assert "之前不开放" in next(line for line in lines if "later" in line)
    assert not any("other" in line for line in lines), "what is not for this edge is not in its plan"
    assert lines[-1].startswith("今晚可完成 3.0 MiB 中的 0 B；《冬小麦[返青]》")
    english = run("edge", "sync", edge, "--dry-run", YUANJIAO_LANG="en")
    assert "0 B of 3.0 MiB fits tonight; film " in english.out
    assert "tonight is full; expected " in english.out
    now = run("edge", "sync", edge, "--dry-run", "--now")
    assert "立即传输 3.0 MiB，预计" in now.out


def test_a_dry_run_tells_programs_all_of_it(edge: Path) -> None:
    told = (run("edge", "sync", edge, "--dry-run", "--json")).json
    assert {"catalog_version", "items", "bytes_expected", "bytes_from_patches", "bytes_reused", "not_wanted"} <= set(
        told
    )
    assert [item["id"] for item in told["items"]] == ["film", "huge", "later"]
    assert [item.get("fits") for item in told["items"]] == [False, False, None]
    assert told["items"][0]["expected"] < told["items"][1]["expected"]
    assert told["promise"]["bytes"] == told["bytes_expected"]
    assert told["promise"]["items_tonight"] == 0
    assert told["promise"]["summary"]
    assert told["promise"]["summary_zh"]


def test_a_run_tells_promise_and_fact_and_then_why_the_rest_is_not_here(edge: Path) -> None:
    before = run("edge", "why", edge)
    assert (before.code, before.out.strip()) == (0, "尚无目录：本边缘服务器还没有完成过同步")
    told = (run("edge", "sync", edge, "--now", "--json")).json
    assert list(told["promised"]) == ["film", "huge"]
    assert told["promised"]["film"].keys() == {"title", "expected", "bytes"}
    assert told["fact"].keys() == {"film", "huge"}
    assert all(told["fact"][id_]["bytes"] == told["promised"][id_]["bytes"] for id_ in told["fact"])
    absent = (run("edge", "why", edge, "--json")).json["absent"]
    assert [(one["id"], one["cause"]) for one in absent] == [("later", "not-yet"), ("other", "audience")]
    table = run("edge", "why", edge)
    assert "不面向本地区。" in next(line for line in table.out.splitlines() if "other" in line)
    one = run("edge", "why", edge, "later", YUANJIAO_LANG="en")
    assert one.out.startswith("It is not to be shown before ")
    here = run("edge", "why", edge, "film")
    assert here.out.strip() == "film 已在本地"
    unknown = run("edge", "why", edge, "nobody")
    assert (unknown.code, unknown.out) == (2, "")
    assert "nobody" in unknown.err
    bad = run("edge", "why", edge, "../etc")
    assert bad.code == 2


def test_the_table_after_a_run() -> None:
    report = SyncReport(
        catalog_version=1,
        promised={
            "a": Promised("课a", "2026-11-24T16:59:00Z", 2048),
            "b": Promised("课b", None, 4096),
        },
        fact={"a": Fact("2026-11-24T17:30:00Z", 3072)},
        deferred=(Deferred("b", "line is down", "线路中断"),),
    )
    for language, words in (
        (Language.ZH, ["课a", "2.0 KiB", "3.0 KiB", "周三 00:59", "周三 01:30", "线路中断"]),
        (Language.EN, ["promised", "fetched", "Wednesday 00:59", "Wednesday 01:30", "line is down"]),
    ):
        text = StringIO()
        table = fact_table(report, Output(language), Instant(1_795_528_800), ZoneInfo("Asia/Shanghai"))
        Console(file=text, width=160).print(table)
        assert [word for word in words if word not in text.getvalue()] == []
