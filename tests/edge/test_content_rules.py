"""The content endpoints against RFC 9110's table, on every kind of address."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from support.edge_store import make_blob
from support.http import CASES, SIZE, ask, check
from support.portal import Shop, file_of, lesson, served
from support.raw_http import Connection

BLOB = make_blob(SIZE, "rules")
ETAG = f'"{BLOB.digest}"'


@pytest.fixture
async def port(tmp_path: Path) -> AsyncIterator[int]:
    shop = Shop(tmp_path)
    shop.put(BLOB)
    shop.install(lesson("kj-1", file_of(BLOB, "小麦 1.mp4")))
    shop.close()
    async with served(tmp_path) as found:
        yield found


MEDIA = "/media/kj-1/%E5%B0%8F%E9%BA%A6%201.mp4"


@pytest.mark.parametrize(
    ("path", "media_type"), [(f"/blobs/{BLOB.digest}", "application/octet-stream"), (MEDIA, "video/mp4")]
)
async def test_rfc9110_table(port: int, path: str, media_type: str) -> None:
    """All cases on one kept connection, twice: first through the search, then from the open entry."""
    connection = await Connection.open(port)
    for _ in range(2):
        for case in CASES:
            reply = await ask(connection, path, case, ETAG)
            check(case, reply, BLOB.data, ETAG, media_type)
    await connection.close()
