"""The operator's page: next run, last run, state, sources, bytes by reason, and why something is not here."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import quote

import msgspec
import pytest
from support.edge_store import make_blob
from support.portal import NOW, HandClock, Shop, file_of, get, lesson, served

from edge.reasons import UpstreamReason
from edge.serve import absences
from edge.serve.night import MOST_ROWS
from edge.settings import Settings
from edge.store.usage import Usage
from edge.sync.report import Deferred, SyncReport
from manifests.instants import Instant, dump_instant
from manifests.model import Recall
from manifests.names import Region

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
    deferred=(Deferred("kj-7", f"waits {EVIL}", f"等待 {EVIL}"),),
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
    shop.install(offered=[lesson("kj-7", file_of(VIDEO, "b.mp4"), title=f"课 {EVIL}")])
    html = await page(port)
    for text in (
        "2026-11-24 03:30",
        "新增 2、更新 1、移除 0；取得 5.0 MB，用时 01:15",
        "还有 0 个课件未到：线路中断 &lt;script&gt;",
        "http://10.1.0.1:8080",
        "曾发送错误内容，10:00 内最后使用",
        "课 &lt;script&gt;",
        "上次获取失败：等待 &lt;script&gt;",
    ):
        assert text in html, text
    assert EVIL not in html
    english = await page(port, "/operator?lang=en")
    for text in (
        "Next sync",
        "line gone",
        "Why not here?",
        "The last attempt failed: waits",
        "a new version of a lesson",
    ):
        assert text in english
    assert "<h1>运行状态" not in english


async def test_it_is_linked_from_every_footer_and_survives_foreign_notes(port: int, shop: Shop) -> None:
    assert 'href="/operator"' in await page(port, "/")
    for note in ({"complete": "perhaps"}, ["x"], "text"):
        shop.library.set_meta("last_sync", note)
        shop.library.set_meta("last_work", note)
        assert "尚无记录" in await page(port)


async def test_the_whole_catalog_is_explained_page_by_page_and_searched(port: int, shop: Shop) -> None:
    far = [lesson(f"yuan-{n:03}", file_of(VIDEO, "b.mp4"), title=f"远方的课 {n}") for n in range(MOST_ROWS + 5)]
    far = [msgspec.structs.replace(one, audience=("440000",)) for one in far]
    near = lesson("jin-1", file_of(VIDEO, "b.mp4"), title="近处的课")
    gone = Recall("che-1", 1, "有误", dump_instant(Instant(NOW - 60)))
    shop.install(offered=[*far, near], recalls=(gone,))
    html = await page(port)
    assert "近处的课" in html
    assert "等待传输（" in html
    assert "省级源站已撤回" in html
    assert (html.count("不面向本地区。"), "第 1 / 2 页" in html) == (MOST_ROWS - 2, True)
    assert f"全部 {len(far) + 2}" in html
    assert f"不面向本地区 {len(far)}" in html
    last = await page(port, "/operator?page=9")
    assert (last.count("不面向本地区。"), "近处的课" in last) == (7, False)
    found = await page(port, "/operator?q=%E8%BF%91%E5%A4%84&lang=en")
    assert "It waits for its turn on the line" in found
    assert "It is not meant for this region." not in found
    cause = await page(port, "/operator?cause=audience&q=YUAN-00")
    assert cause.count("不面向本地区。") == 10
    none = await page(port, f"/operator?q={quote(EVIL)}")
    assert "没有符合条件的课件" in none
    assert EVIL not in none
    assert (await get(port, "/operator?page=x")).status == 400


async def test_what_the_catalog_says_is_worked_out_once_for_many(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    worked: list[Instant] = []
    real = absences.explain

    def explain(*args: object, **more: object) -> object:
        worked.append(args[6])  # type: ignore[arg-type]
        return real(*args, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(absences, "explain", explain)
    shop.install(offered=[lesson("jin-1", file_of(VIDEO, "b.mp4"))])
    found = absences.Absences(shop.paths, Settings(), shop.store, shop.library, Usage(shop.paths.usage))
    asked = absences.Asked("", None, 1, 10)
    many = [found.find(("a",), Region("410122"), Instant(NOW), asked) for _ in range(8)]
    assert [one.count for one in await asyncio.gather(*many)] == [1] * 8
    assert worked == [NOW]
    monkeypatch.setattr(absences, "KEEP_S", -1.0)
    await found.find(("a",), Region("410122"), Instant(NOW + 1), asked)
    await found.find(("b",), Region("410122"), Instant(NOW + 2), asked)
    assert worked == [NOW, NOW + 2], "again when something has changed"
