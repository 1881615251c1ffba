"""The small API: shape, choosing, paging, validators."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from support.edge_store import make_blob
from support.portal import NOW, Shop, file_of, get, lesson, served, small

VIDEO = make_blob(150_000, "v")
POSTER = small(b"\xff\xd8\xff poster")


@pytest.fixture
async def port(tmp_path: Path) -> AsyncIterator[int]:
    shop = Shop(tmp_path)
    shop.put(VIDEO, POSTER)
    poster = file_of(POSTER, "poster.jpg", "poster", "image/jpeg")
    shop.install(
        lesson("kj-a", file_of(VIDEO, "课 1.mp4"), poster, duration_s=61.5, published=NOW),
        *(lesson(f"kj-{n}", file_of(VIDEO, "a.mp4"), columns=("dangjian",), published=NOW - 60 - n) for n in range(8)),
    )
    shop.close()
    async with served(tmp_path) as found:
        yield found


async def ids(port: int, query: str) -> list[str]:
    return [item["id"] for item in json.loads((await get(port, f"/api/courseware{query}")).body)]


async def test_one_courseware(port: int) -> None:
    reply = await get(port, "/api/courseware/kj-a")
    assert reply.headers["content-type"] == "application/json"
    item = json.loads(reply.body)
    assert {
        key: item[key] for key in ("id", "version", "title", "kind", "columns", "duration_s", "published", "size")
    } == {
        "id": "kj-a",
        "version": 1,
        "title": "小麦春季管理",
        "kind": "video",
        "columns": ["nongye"],
        "duration_s": 61.5,
        "published": "2026-11-24T04:00:00Z",
        "size": 150_000 + len(POSTER.data),
    }
    assert item["poster"] == "/media/kj-a/poster.jpg"
    assert item["files"][0] == {
        "name": "课 1.mp4",
        "role": "video",
        "media_type": "video/mp4",
        "size": 150_000,
        "sha256": VIDEO.digest,
        "url": "/media/kj-a/%E8%AF%BE%201.mp4",
    }
    for file in item["files"]:
        assert (await get(port, file["url"], "HEAD")).headers["etag"] == f'"{file["sha256"]}"'
    assert (await get(port, "/api/courseware/none")).status == 404


async def test_list_is_latest_first_and_filtered(port: int) -> None:
    assert await ids(port, "") == ["kj-a", *(f"kj-{n}" for n in range(8))]
    assert await ids(port, "?column=nongye") == ["kj-a"]
    assert await ids(port, "?column=none") == []


async def test_list_is_paged(port: int) -> None:
    reply = await get(port, "/api/courseware?column=dangjian&limit=3")
    seen = [item["id"] for item in json.loads(reply.body)]
    assert reply.headers["x-total-count"] == "8"
    while "link" in reply.headers:
        following, rel = reply.headers["link"].split(">; ")
        assert rel == 'rel="next"'
        reply = await get(port, following[1:])
        seen += [item["id"] for item in json.loads(reply.body)]
    assert seen == [f"kj-{n}" for n in range(8)]
    assert await ids(port, "?offset=999") == []


@pytest.mark.parametrize("query", ["limit=0", "limit=501", "limit=x", "limit=-1", "offset=-1", "offset=1e3", "limit=²"])
async def test_bounds_are_told(port: int, query: str) -> None:
    from urllib.parse import quote

    reply = await get(port, "/api/courseware?" + quote(query, safe="="))
    assert reply.status == 400
    assert "应为" in reply.body.decode()


async def test_validator(port: int) -> None:
    for path in ("/api/courseware", "/api/courseware/kj-a"):
        reply = await get(port, path)
        assert reply.headers["cache-control"] == "no-cache"
        again = await get(port, path, If_None_Match=reply.headers["etag"])
        assert (again.status, again.body) == (304, b"")
        assert (await get(port, path, "HEAD")).headers["content-length"] == str(len(reply.body))
