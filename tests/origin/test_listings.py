"""The console's list of lessons against a plain model: found by any part of a title, paged without gaps."""

from __future__ import annotations

import itertools
import unicodedata
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy import insert
from sqlalchemy.ext.asyncio import AsyncEngine

from origin.database.engine import open_database, reading, sqlite_url, writing
from origin.database.listings import LessonFilter, list_lessons
from origin.database.tables import columns, courseware, placements, recalls, releases, versions

TITLES = ("冬小麦田间管理", "玉米100%增产", "小麦_玉米轮作", "Excel 入门", "党课：乡村振兴", "果树\\修剪")
COUNT = 60


def _rows() -> list[dict[str, object]]:
    return [
        {
            "courseware": f"kj-{n:03}",
            "number": 1,
            "release": 1,
            "title": f"{TITLES[n % len(TITLES)]} 第{n}讲",
            "kind": ("video", "article")[n % 2],
            "priority": 5,
            "duration_s": 0.0,
            "size_bytes": n,
            "published_at": 1000 + n // 3,  # several at one instant
            "document": "{}",
        }
        for n in range(COUNT)
    ]


@pytest.fixture
async def engine(tmp_path: Path) -> AsyncIterator[AsyncEngine]:
    async with open_database(sqlite_url(tmp_path / "o.sqlite")) as opened:
        release = {"number": 1, "kind": "publish", "state": "published", "note": "", "catalog_version": 1}
        release |= {"targets_version": 1, "catalog": "a" * 64, "begun_at": 1}
        rows = _rows()
        async with writing(opened) as connection:
            await connection.execute(insert(releases).values(**release))
            await connection.execute(insert(columns).values(id="c1", title="专栏", position=1, created_at=1))
            ids = [
                {"id": row["courseware"], "current": None if n == 7 else 1, "created_at": 1}
                for n, row in enumerate(rows)
            ]
            await connection.execute(insert(courseware), ids)
            await connection.execute(insert(versions), rows)
            kept = [{"courseware": row["courseware"], "version": 1, "column": "c1"} for row in rows[::5]]
            await connection.execute(insert(placements), kept)
            gone = {"courseware": "kj-007", "version": 1, "release": 1, "reason": "x", "at": 5}
            await connection.execute(insert(recalls).values(**gone))
        yield opened


TEXTS = (
    "",
    "麦",
    "小麦",
    "小麦 玉米",
    "100%",
    "%",
    "_",
    "\\",
    "excel",
    "ＥＸＣＥＬ",
    "第3讲",
    "kj-01",
    "没有",
    "党课：乡村",
)
KINDS = (("", ""), ("article", ""), ("", "c1"), ("video", "c1"))


def _has(row: dict[str, object], word: str) -> bool:
    spellings = {word.lower(), unicodedata.normalize("NFKC", word).lower()}
    return any(one in str(row["title"]).lower() or one in str(row["courseware"]) for one in spellings)


async def test_every_page_together_is_what_a_plain_search_finds(engine: AsyncEngine) -> None:
    for text, (kind, column) in itertools.product(TEXTS, KINDS):
        wanted = [
            str(row["courseware"])
            for n, row in enumerate(_rows())
            if n != 7
            and all(_has(row, word) for word in text.split())
            and kind in ("", row["kind"])
            and (not column or n % 5 == 0)
        ]
        found: list[str] = []
        async with reading(engine) as connection:
            for offset in range(0, COUNT + 17, 17):
                rows, total = await list_lessons(connection, LessonFilter(text, kind, column), offset, 17)
                assert total == len(wanted), text
                found += [row.courseware for row in rows]
        newest_first = sorted(wanted, key=lambda one: (1000 + int(one[3:]) // 3, one), reverse=True)
        assert found == newest_first, text
        assert found or text == "没有" or kind or column, text


async def test_what_was_recalled_is_listed_apart(engine: AsyncEngine) -> None:
    async with reading(engine) as connection:
        rows, total = await list_lessons(connection, LessonFilter(state="recalled"), 0, 50)
    assert ([row.courseware for row in rows], total) == (["kj-007"], 1)
