"""What each address gives: header sets, names, what is unknown, what is not here yet, what was recalled."""

from __future__ import annotations

import asyncio
import json
import os
import unicodedata
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import pytest
from support.edge_store import flip, make_blob, recall_of
from support.portal import Shop, file_of, get, lesson, served, small
from support.raw_http import Connection, Reply

VIDEO = make_blob(200_000, "video")
REVISED = make_blob(210_000, "revised")
PDF = small(b"%PDF-1.4 small")
NOTE = small("# 标题".encode())
AWAY = make_blob(5000, "away")
NFC = unicodedata.normalize("NFC", "café 小麦.pdf")


@dataclass
class Site:
    shop: Shop
    port: int

    async def get(self, path: str, method: str = "GET", **headers: str) -> Reply:
        return await get(self.port, path, method, **headers)


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    shop = Shop(tmp_path)
    shop.put(VIDEO, PDF, NOTE)
    shop.install(
        lesson("kj-1", file_of(VIDEO, "课 1.mp4"), file_of(PDF, NFC, "document", "application/pdf")),
        lesson(
            "kj-2", file_of(NOTE, "a.md", "article", "text/markdown"), file_of(NOTE, "x.html", "article", "text/html")
        ),
        offered=[lesson("kj-3", file_of(AWAY, "away.mp4"))],
    )
    async with served(tmp_path) as port:
        yield Site(shop, port)
    shop.close()


async def eventually(check: Callable[[], Awaitable[bool]], within_s: float = 60.0) -> float:
    """Ask again until it holds; returns how long that took."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    async with asyncio.timeout(within_s):
        while not await check():
            await asyncio.sleep(0.02)
    return loop.time() - began


async def test_blob_header_set_is_the_contract(site: Site) -> None:
    reply = await site.get(f"/blobs/{VIDEO.digest}")
    assert reply.body == VIDEO.data
    headers = dict(reply.headers)
    assert headers.pop("date").endswith("GMT")
    assert headers.pop("repr-digest").startswith("sha-256=:")
    assert headers == {
        "content-type": "application/octet-stream",
        "content-length": "200000",
        "etag": f'"{VIDEO.digest}"',
        "accept-ranges": "bytes",
        "cache-control": "public, max-age=31536000, immutable",
        "x-content-type-options": "nosniff",
    }


async def test_media_is_revalidated_and_named(site: Site) -> None:
    path = "/media/kj-1/" + quote(NFC)
    reply = await site.get(path)
    assert reply.body == PDF.data
    assert reply.headers["content-type"] == "application/pdf"
    assert reply.headers["cache-control"] == "no-cache"
    assert reply.headers["content-disposition"] == f"inline; filename*=UTF-8''{quote(NFC, safe='')}"
    assert reply.headers["etag"] == f'"{PDF.digest}"'
    assert (await site.get(path, If_None_Match=reply.headers["etag"])).status == 304


@pytest.mark.parametrize("target", ["/media/kj-1/" + quote("课 1.mp4"), f"/blobs/{VIDEO.digest}", "/metadata/none"])
async def test_head_and_get_have_one_header_set(site: Site, target: str) -> None:
    one, other = await site.get(target), await site.get(target, "HEAD")
    assert other.body == b""
    assert {**one.headers, "date": ""} == {**other.headers, "date": ""}


async def test_names_in_other_spellings_are_the_same_name(site: Site) -> None:
    decomposed = unicodedata.normalize("NFD", NFC)
    assert decomposed != NFC
    assert (await site.get("/media/kj-1/" + quote(decomposed))).body == PDF.data
    assert (await site.get(f"http://edge.example/media/kj-1/{quote(NFC)}")).status == 200  # absolute form
    assert (await site.get(f"/media/kj-1/{quote(NFC)}?t=1")).status == 200


async def test_text_gets_its_charset_and_foreign_types_cannot_run(site: Site) -> None:
    reply = await site.get("/media/kj-2/a.md")
    assert reply.headers["content-type"] == "text/markdown; charset=utf-8"
    reply = await site.get("/media/kj-2/x.html")
    assert "sandbox" in reply.headers["content-security-policy"]
    assert "content-security-policy" not in (await site.get("/media/kj-1/" + quote("课 1.mp4"))).headers


@pytest.mark.parametrize(
    "path",
    [
        "/media/kj-1/none.mp4",
        "/media/kj-9/a.mp4",
        "/media/kj-1",
        "/media/kj-1/a/b",
        "/media/kj-1/..%2f..%2fedge.toml",
        "/media/..%2f..%2f/edge.toml",
        "/blobs/" + "0" * 64,
        "/blobs/" + "A" * 64,
        "/blobs/..%2fedge.toml",
        "/blobs/",
        "/targets/other.json",
        "/targets/" + "0" * 64 + ".catalog.json",
        "/metadata/state.json",
        "/metadata/..%2fstate.json",
        "/metadata/7.snapshot.json",
        "/static/none.css",
        "/static/..%2fpages.py",
        "/nothing",
        "//",
    ],
)
async def test_unknown_is_404_in_chinese(site: Site, path: str) -> None:
    reply = await site.get(path)
    assert reply.status == 404
    assert "没有找到" in reply.body.decode()
    assert reply.headers["cache-control"] == "no-store"


@pytest.mark.parametrize(
    "path", ["/media/kj-3/away.mp4", f"/blobs/{AWAY.digest}", "/lessons/kj-3", "/api/courseware/kj-3"]
)
async def test_known_but_not_here_is_503_and_says_when(site: Site, path: str) -> None:
    reply = await site.get(path)
    assert reply.status == 503
    assert int(reply.headers["retry-after"]) > 0
    assert "尚未传到本站" in reply.body.decode()


@pytest.mark.parametrize("path", ["/", f"/blobs/{VIDEO.digest}", "/media/kj-1/x", "/healthz", "/nothing"])
async def test_other_methods_are_405_with_allow(site: Site, path: str) -> None:
    connection = await Connection.open(site.port)
    for method in ("POST", "PUT", "DELETE", "OPTIONS", "PATCH"):
        reply = await connection.request(path, method)
        assert (reply.status, reply.headers["allow"]) == (405, "GET, HEAD")
    await connection.close()


async def test_address_that_is_not_utf8_is_refused(site: Site) -> None:
    assert (await site.get("/media/kj-1/%ff%fe")).status == 400


async def test_catalog_is_a_target_under_both_names(site: Site) -> None:
    trust = json.loads(site.shop.paths.trust_state.read_bytes())
    for name, cache in (("catalog.json", "no-cache"), (f"{trust['digest']}.catalog.json", "immutable")):
        reply = await site.get(f"/targets/{name}")
        assert reply.headers["content-type"] == "application/json"
        assert reply.headers["etag"] == f'"{trust["digest"]}"'
        assert cache in reply.headers["cache-control"]
        assert json.loads(reply.body)["format"] == "yuanjiao-catalog"


async def test_metadata_maps_published_names_to_what_was_verified(site: Site) -> None:
    trust = site.shop.paths.trust
    (trust / "root_history").mkdir()
    (trust / "root_history" / "1.root.json").write_text('{"signed": {"version": 1}}')
    (trust / "root_history" / "2.root.json").write_text('{"signed": {"version": 2}}')
    (trust / "root.json").symlink_to("root_history/2.root.json")
    for name in ("timestamp", "snapshot", "targets"):
        (trust / f"{name}.json").write_text(f'{{"signed": {{"version": 7, "_type": "{name}"}}}}')
    for name, status, cache in (
        ("1.root.json", 200, "immutable"),
        ("2.root.json", 200, "immutable"),
        ("3.root.json", 404, ""),
        ("root.json", 200, "no-cache"),
        ("timestamp.json", 200, "no-cache"),
        ("7.snapshot.json", 200, "immutable"),
        ("6.snapshot.json", 404, ""),
        ("7.targets.json", 200, "immutable"),
        ("7.timestamp.json", 404, ""),
    ):
        reply = await site.get(f"/metadata/{name}")
        assert reply.status == status, name
        assert cache in reply.headers["cache-control"]
    whole = await site.get("/metadata/timestamp.json")
    part = await site.get("/metadata/timestamp.json", Range="bytes=2-5")
    assert (part.status, part.body) == (206, whole.body[2:6])
    assert (await site.get("/metadata/timestamp.json", If_None_Match=whole.headers["etag"])).status == 304


async def test_recall_by_another_process_is_effective_without_being_told(site: Site) -> None:
    path = "/media/kj-1/" + quote("课 1.mp4")
    assert (await site.get(path)).status == 200
    site.shop.install(recalls=(recall_of("kj-1"),))

    async def is_gone() -> bool:
        return (await site.get(path)).status == 404

    await eventually(is_gone)
    site.shop.store.delete([VIDEO.digest])

    async def blob_is_gone() -> bool:
        return (await site.get(f"/blobs/{VIDEO.digest}")).status == 404

    await eventually(blob_is_gone)
    assert (await site.get("/lessons/kj-1")).status == 404
    assert (await site.get("/api/courseware/kj-1")).status == 404


async def test_revision_changes_the_validator_under_the_same_name(site: Site) -> None:
    path = "/media/kj-1/" + quote("课 1.mp4")
    old = (await site.get(path)).headers["etag"]
    site.shop.put(REVISED)
    site.shop.install(lesson("kj-1", file_of(REVISED, "课 1.mp4"), version=2))

    async def is_new() -> bool:
        return (await site.get(path, "HEAD")).headers["etag"] != old

    await eventually(is_new)
    reply = await site.get(path, Range="bytes=0-9", If_Range=old)
    assert (reply.status, reply.body) == (200, REVISED.data)


async def test_lost_and_rotten_blobs_are_not_here_and_come_back(site: Site) -> None:
    path = "/media/kj-2/a.md"
    assert (await site.get(path)).status == 200
    file = site.shop.paths.blob(NOTE.digest)
    file.rename(file.with_suffix(".away"))

    async def is_away() -> bool:
        return (await site.get(path)).status == 503

    await eventually(is_away)
    file.with_suffix(".away").rename(file)
    assert (await site.get(path)).body == NOTE.data
    flip(file, 0)
    site.shop.store.mark_rotten(NOTE.digest, [0])
    await eventually(is_away)


async def test_file_of_another_length_is_a_fault_and_not_padded(site: Site) -> None:
    os.truncate(site.shop.paths.blob(PDF.digest), 5)
    reply = await site.get("/media/kj-1/" + quote(NFC))
    assert reply.status == 503
    assert PDF.data[:5] not in reply.body
