"""`edge evict` and `edge pin`, and what doctor says of an edge whose plan does not fit its disk."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.edge_store import Made, make_blob, store_blob
from support.program import run
from support.province import DAY, ManualClock, Province

from edge import app
from edge.clock import system_clock
from edge.paths import Paths
from edge.store.blobs import BlobStore
from edge.store.eviction import BIG_BYTES
from edge.store.usage import Usage
from manifests.instants import Instant
from tools.doctor_edge import check_edge
from tools.doctor_model import Level

SIZE = BIG_BYTES
FILMS = [make_blob(SIZE, f"film {n}", 65536) for n in range(3)]


@pytest.fixture
def edge(tmp_path: Path) -> Path:
    """An edge on which terminals have pulled through more than its quota."""
    app.init_edge(tmp_path, Province(ManualClock()).bundle("http://127.0.0.1:9"), system_clock)
    settings = f"[store]\nreserve_bytes = 0\nquota_bytes = {5 * SIZE // 2}\n"
    (tmp_path / "edge.toml").write_text(settings, encoding="utf-8")
    with BlobStore.open(Paths(tmp_path)) as store, Usage.open(Paths(tmp_path).usage) as usage:
        for n, film in enumerate(FILMS):
            store_blob(store, film)
            usage.note_pulled(film.digest, f"kj-{n}", SIZE, Instant(1000 + n))
            usage.note_used({film.digest: 3 - n}, Instant(2000))
    return tmp_path


def here(edge: Path) -> list[Made]:
    with BlobStore.open(Paths(edge), read_only=True) as store:
        return [film for film in FILMS if store.has(film.digest)]


def test_it_keeps_to_the_watermarks_as_the_dry_run_said(edge: Path) -> None:
    told = run("edge", "evict", edge, "--dry-run", "--json").json
    assert [one["ids"] for one in told["plan"]["victims"]] == [["kj-2"]]
    assert (told["freed_bytes"], told["dry_run"]) == (0, True)
    assert "将淘汰 1 个课件" in run("edge", "evict", edge, "--dry-run").out
    assert here(edge) == FILMS
    done = run("edge", "evict", edge)
    assert (done.code, here(edge)) == (0, FILMS[:2])
    assert "终端点播时取得" in done.out
    assert "已淘汰 1 个课件" in done.out
    assert run("edge", "evict", edge, "--json").json["plan"]["victims"] == []


def test_room_for_more_than_all_costs_nobody_his_lesson(edge: Path) -> None:
    done = run("edge", "evict", edge, "--bytes", 9 * SIZE)
    assert done.code == 5
    assert "无法腾出" in done.err
    assert run("edge", "evict", edge, "--bytes", 2 * SIZE, "--json").json["plan"]["is_enough"]
    assert here(edge) == []


def test_a_pinned_lesson_stays(edge: Path) -> None:
    assert run("edge", "pin", edge, "kj-2", "--dry-run", "--json").json == {"pinned": [], "dry_run": True}
    assert run("edge", "pin", edge, "kj-2").code == 0
    assert "kj-2" in run("edge", "pin", edge).out
    assert [one["ids"] for one in run("edge", "evict", edge, "--json").json["plan"]["victims"]] == [["kj-1"]]
    assert run("edge", "pin", edge, "kj-2", "--remove", "--json").json["pinned"] == []
    assert run("edge", "pin", edge, "--remove").code == 2
    assert run("edge", "pin", edge, "../x").code == 2


async def test_doctor_names_an_edge_that_evicts_planned_lessons_night_after_night(edge: Path) -> None:
    async def level(now: int) -> Level:
        findings = await check_edge(edge, {}, Instant(now))
        return next(one.level for one in findings if one.id == "disk.evictions")

    now = 1_800_000_000
    with Usage.open(Paths(edge).usage) as usage:
        for day in range(3):
            usage.note_evicted({FILMS[0].digest: SIZE}, Instant(now - day * DAY), "planned")
        assert await level(now) is Level.OK
        usage.note_evicted({FILMS[0].digest: SIZE}, Instant(now - 4 * DAY), "planned")
    assert await level(now) is Level.WARN
    assert await level(now + 8 * DAY) is Level.OK
