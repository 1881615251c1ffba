"""The operator's page: next run, last run, state, sources, bytes by reason, and why something is not here."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from support.edge_store import make_blob
from support.portal import NOW, HandClock, Shop, file_of, get, lesson, served

from edge.reasons import UpstreamReason
from edge.serve.night import MOST_ROWS
from edge.sync.report import Deferred, SyncReport

VIDEO = make_blob(9000, "v")
EVIL = "<script>alert(1)</script>"
WORK = SyncReport(
    catalog_version=1,
    added=("kj-1", "kj-2"),
    updated=("kj-3",),
    bytes_fetched=5 << 20,
    seconds=75.0,
    complete=False,
    sources={"http://10.1.0.1:8080": 5 << 20},
    finished="2026-11-23T19:30:00Z",
    error=f"line gone {EVIL}",
    error_zh=f"线路中断 {EVIL}",
)
LAST = SyncReport(
    catalog_version=1,
    deferred=tuple(Deferred(f"kj-{one:03}", f"waits {EVIL}", f"等待 {EVIL}") for one in range(MOST_ROWS + 5)),
    more_deferred=7,
    banned={"http://10.1.0.2:8080": 600.0},
    finished="2026-11-24T03:59:00Z",
)


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    made = Shop(tmp_path)
    made.put(VIDEO)
    made.install(lesson("kj-1", file_of(VIDEO, "a.mp4")))
    return made


@pytest.fixture
async def port(shop: Shop) -> AsyncIterator[int]:
    clock = HandClock(NOW)
    async with served(shop.paths.root, clock, env={"YUANJIAO_SYNC_JITTER_MINUTES": "0"}) as found:
        yield found
    shop.close()


async def page(port: int, path: str = "/operator") -> str:
    reply = await get(port, path)
    assert (reply.status, reply.headers["content-type"]) == (200, "text/html; charset=utf-8")
    return reply.body.decode()


async def test_before_the_first_run(port: int) -> None:
    html = await page(port)
    assert "运行状态" in html
    assert "2026-11-24 22:00 至 2026-11-25 06:00" in html
    assert "下次同步" in html
    assert "未运行" in html
    assert "本机应有的课件均已到位" in html
    assert all(reason.zh in html for reason in UpstreamReason)


async def test_after_runs_in_both_languages(port: int, shop: Shop) -> None:
    shop.library.set_meta("last_work", WORK)
    shop.library.set_meta("last_sync", LAST)
    html = await page(port)
    for text in (
        "2026-11-24 03:30",
        "新增 2、更新 1、移除 0；取得 5.0 MB，用时 01:15",
        "还有 0 个课件未到：线路中断 &lt;script&gt;",
        "http://10.1.0.1:8080",
        "曾发送错误内容，10:00 内最后使用",
        "等待 &lt;script&gt;",
        "另有 12 个课件未列出",
    ):
        assert text in html, text
    assert EVIL not in html
    assert html.count("<th>kj-") == MOST_ROWS
    english = await page(port, "/operator?lang=en")
    for text in ("Next sync", "line gone", "Why not here?", "12 more lessons", "a new version of a lesson"):
        assert text in english
    assert "<h1>运行状态" not in english


async def test_it_is_linked_from_every_footer_and_survives_foreign_notes(port: int, shop: Shop) -> None:
    assert 'href="/operator"' in await page(port, "/")
    for note in ({"complete": "perhaps"}, ["x"], "text"):
        shop.library.set_meta("last_sync", note)
        shop.library.set_meta("last_work", note)
        assert "尚无记录" in await page(port)
