"""The newest catalog, asked one lesson at a time; and the socket between workers and filler."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from support.edge_store import make_blob, recall_of
from support.portal import NOW, Shop, file_of, lesson

from edge.fill.link import call, listen
from edge.fill.messages import (
    DOWN,
    UP,
    Ended,
    FillError,
    Found,
    Lookup,
    Open,
    Proved,
    Trouble,
    error_of,
    frame,
    read_frame,
)
from edge.fill.offers import Offers, Release
from edge.store.blobs import BlobStore
from manifests.digests import Digest
from manifests.instants import Instant, dump_instant
from manifests.names import Region
from manifests.pieces import BlobRef
from manifests.streams import PLAYLIST_TYPE

VIDEO = make_blob(300_000, "offered")
SECOND = make_blob(310_000, "second")


def offers_of(shop: Shop, now: int = NOW, region: str = "410122") -> tuple[Offers, list[BlobRef]]:
    newest: list[BlobRef] = []

    async def store() -> BlobStore:
        return shop.store

    return Offers(lambda: Release(newest[-1], Instant(now)) if newest else None, store, Region(region)), newest


async def test_lessons_and_blobs_of_the_newest_catalog(tmp_path: Path) -> None:
    shop = Shop(tmp_path)
    offers, newest = offers_of(shop)
    assert await offers.lesson("kj-1") is None
    assert await offers.digest() == ""
    items = [
        lesson("kj-1", file_of(VIDEO, "a.mp4")),
        lesson("kj-2", file_of(SECOND, "b.mp4"), expires=dump_instant(Instant(NOW))),
    ]
    newest.append(shop.install(offered=items))
    found = await offers.lesson("kj-1")
    assert found == items[0]
    assert await offers.lesson_of(VIDEO.digest) == items[0]
    assert VIDEO.ref.table is not None
    assert await offers.lesson_of(Digest(VIDEO.ref.table)) == items[0]
    assert await offers.lesson("kj-2") is None, "it has expired"
    assert await offers.lesson_of(SECOND.digest) is None
    assert await offers.lesson("kj-0") is None
    assert await offers.lesson("kj-9") is None
    assert await offers.lesson_of(Digest("0" * 64)) is None
    newest.append(shop.install(recalls=(recall_of("kj-1"),)))
    assert await offers.lesson("kj-1") is None
    assert await offers.is_recalled("kj-1", 1)
    assert not await offers.is_recalled("kj-1", 2)
    shop.close()


async def test_a_lesson_alone_has_its_renditions_as_in_the_whole_catalog(tmp_path: Path) -> None:
    shop = Shop(tmp_path)
    offers, newest = offers_of(shop)
    several = lesson(
        "kj-1",
        file_of(VIDEO, "a.mp4"),
        file_of(make_blob(300, "master"), "a.m3u8", "playlist", PLAYLIST_TYPE),
        file_of(SECOND, "a.720p.mp4", "rendition"),
    )
    newest.append(shop.install(offered=[several]))
    assert await offers.lesson("kj-1") == several
    assert await offers.lesson_of(SECOND.digest) == several
    shop.close()


async def test_lessons_for_other_counties_are_not_offered_and_a_lost_catalog_offers_nothing(tmp_path: Path) -> None:
    shop = Shop(tmp_path)
    offers, newest = offers_of(shop, region="420100")
    newest.append(shop.install(offered=[lesson("kj-1", file_of(VIDEO, "a.mp4"))]))
    assert await offers.lesson("kj-1") is None
    assert await offers.is_readable()
    newest.append(BlobRef(Digest("1" * 64), 100))
    assert not await offers.is_readable()
    assert await offers.lesson("kj-1") is None
    shop.close()


async def test_the_line_leaves_no_file_and_its_path_may_be_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / ("很长的目录名" * 12)
    path.mkdir()
    listen(path).close()
    listener = listen(path)  # a dead process leaves nothing
    assert list(path.iterdir()) == []
    with pytest.raises(OSError, match="in use"):
        listen(path)
    heard: asyncio.Future[bytes | None] = asyncio.get_running_loop().create_future()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.set_result(await read_frame(reader))
        writer.write(frame(Found(1, b"{}")))
        writer.close()

    server = await asyncio.start_unix_server(accept, sock=listener)
    reader, writer = await call(path, 1 << 16)
    writer.write(frame(Lookup(1, "kj-1", "")))
    assert UP.decode(await heard or b"") == Lookup(1, "kj-1", "")
    assert DOWN.decode(await read_frame(reader) or b"") == Found(1, b"{}")
    assert await read_frame(reader) is None
    writer.close()
    server.close()
    with pytest.raises(ConnectionRefusedError):
        await call(tmp_path, 1 << 16)
    listener = listen(path)
    monkeypatch.setattr("edge.fill.link.os.geteuid", lambda: 4711)
    monkeypatch.setattr("edge.fill.link._TRUSTED", frozenset[int]())
    with pytest.raises(PermissionError):
        await call(path, 1 << 16)
    listener.close()


async def test_messages_come_back_as_they_went_and_broken_ones_are_told() -> None:
    trouble = Trouble("no source", "没有来源", "wait", "请稍候", 2.5)
    for message in (Proved(3, (1, 2)), Ended(4, trouble)):
        assert DOWN.decode(frame(message)[4:]) == message
    opened = Open(1, VIDEO.digest, VIDEO.ref.size, VIDEO.ref.table, VIDEO.ref.piece_size, "kj-1", True)
    assert UP.decode(frame(opened)[4:]).ref == VIDEO.ref  # type: ignore[union-attr]
    error = error_of(trouble)
    assert isinstance(error, FillError)
    assert (error.zh, error.retry_s, error.http_status) == ("没有来源", 2.5, 503)
    reader = asyncio.StreamReader()
    reader.feed_data(frame(Proved(3, (1, 2)))[:-1])
    reader.feed_eof()
    with pytest.raises(ConnectionError):
        await read_frame(reader)
    reader = asyncio.StreamReader()
    reader.feed_data(b"\xff\xff\xff\xff")
    with pytest.raises(ConnectionError):
        await read_frame(reader)
