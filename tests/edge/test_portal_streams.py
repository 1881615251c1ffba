"""What pages, the API and `/media/` say of a video that also plays as HLS; without a browser."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.portal import Shop, file_of, get, lesson, served, small

from edge.serve import pages, vendor
from manifests.model import Courseware

TYPES = {".m3u8": "application/vnd.apple.mpegurl", ".mp4": "video/mp4", ".m4a": "audio/mp4"}


def adaptive(shop: Shop, id_: str, *heights: int) -> Courseware:
    """A lesson whose video has pictures of these heights."""
    files = [file_of(small(b"video"), "麦.mp4"), file_of(small(b"WEBVTT\n"), "麦.vtt", "subtitle", "text/vtt")]
    names = ["麦.m3u8", *(f"麦.{height}p.m3u8" for height in heights), *(f"麦.{height}p.mp4" for height in heights)]
    for name in [*names, "麦.audio.m4a"]:
        kind = Path(name).suffix
        height = int(name.split(".")[1][:-1]) if kind == ".mp4" else 0
        role = "playlist" if kind == ".m3u8" else "rendition"
        files.append(file_of(small(name.encode()), name, role, TYPES[kind], height=height))
    shop.put(*(small(name.encode()) for name in [*names, "麦.audio.m4a"]), small(b"video"), small(b"WEBVTT\n"))
    return lesson(id_, *files)


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    shop = Shop(tmp_path)
    shop.install(adaptive(shop, "kj-many", 720, 480), adaptive(shop, "kj-one", 720))
    shop.close()
    return shop


async def test_pages_and_api_name_the_playlist(shop: Shop) -> None:
    async with served(shop.paths.root) as port:
        many = (await get(port, "/lessons/kj-many", Accept="text/html")).body.decode()
        one = (await get(port, "/lessons/kj-one", Accept="text/html")).body.decode()
        told = json.loads((await get(port, "/api/courseware/kj-one")).body)
        address = "/media/kj-many/%E9%BA%A6.m3u8"
        assert f'data-hls="{address}"' in many
        assert "adaptive.js" in many
        assert (vendor.HLS_SCRIPT in many) == (vendor.hls_version() is not None)
        assert 'src="/media/kj-many/%E9%BA%A6.mp4"' in many, "without scripts the plain file plays"
        assert "data-hls" not in one
        assert "adaptive.js" not in one, "one picture needs no HLS: the plain file has it as well"
        assert {file["name"]: file.get("hls") for file in told["files"] if file["role"] == "video"} == {
            "麦.mp4": "/media/kj-one/%E9%BA%A6.m3u8"
        }


async def test_each_file_has_its_own_media_type(shop: Shop) -> None:
    async with served(shop.paths.root) as port:
        told = json.loads((await get(port, "/api/courseware/kj-many")).body)
        for file in told["files"]:
            kind = (await get(port, file["url"])).headers["content-type"]
            wanted = {**TYPES, ".vtt": "text/vtt; charset=utf-8"}[Path(file["name"]).suffix]
            assert (file["name"], kind) == (file["name"], wanted)
        answer = await get(port, "/media/kj-many/%E9%BA%A6.720p.mp4", Range="bytes=2-5")
        assert (answer.status, answer.body) == (206, "麦.720p.mp4".encode()[2:6])


async def test_without_hls_js_the_portal_does_without(
    shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vendor, "FOLDER", tmp_path / "none")
    monkeypatch.setattr(pages, "FOLDER", tmp_path / "none")
    assert vendor.hls_version() is None
    async with served(shop.paths.root) as port:
        html = (await get(port, "/lessons/kj-many", Accept="text/html")).body.decode()
        assert "adaptive.js" in html
        assert vendor.HLS_SCRIPT not in html
        assert (await get(port, f"/static/{vendor.HLS_SCRIPT}")).status == 404
