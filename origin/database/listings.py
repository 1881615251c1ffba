"""What lists for people ask of the library: pages, searches, histories. Reads only.

A search looks for each of its words anywhere in the title, or in the id: with fifty thousand lessons that is one pass
over an index, which needs no word boundaries, so Chinese is found by one character as by ten.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import ColumnElement, Select, and_, func, select
from sqlalchemy.engine import Row
from sqlalchemy.ext.asyncio import AsyncConnection

from origin.database.tables import (
    PUBLISHED,
    columns,
    courseware,
    files,
    originals,
    placements,
    recalls,
    releases,
    versions,
)

_MOST_WORDS = 8


@dataclass(frozen=True, slots=True)
class LessonFilter:
    """Which lessons are wanted; empty values do not filter.

    Attributes:
        text: words, all of which must be there.
        column: id of a column.
        state: offered now, or recalled and not offered again.
        publisher: a city's code, empty for the province; None for all.
    """

    text: str = ""
    kind: str = ""
    column: str = ""
    state: Literal["offered", "recalled"] = "offered"
    publisher: str | None = None


async def list_lessons(
    connection: AsyncConnection, wanted: LessonFilter, offset: int, most: int
) -> tuple[list[Row[Any]], int]:
    """A page of lessons, newest first, and how many there are in all.

    Returns:
        Rows with courseware, number, title, kind, duration_s, size_bytes, published_at, expires_at, priority,
        publisher.
    """
    key = (versions.c.courseware, versions.c.number)
    order = (versions.c.published_at.desc(), versions.c.courseware.desc())
    # Which ones, from the index alone; then what is shown of them: fifty rows are looked up, however deep the page.
    found = _matching(select(*key), wanted).order_by(*order).limit(most).offset(offset).subquery()
    fields = (
        *(*key, versions.c.title, versions.c.kind, versions.c.priority, versions.c.duration_s),
        *(versions.c.size_bytes, versions.c.published_at, versions.c.expires_at, courseware.c.publisher),
    )
    is_found = and_(versions.c.courseware == found.c.courseware, versions.c.number == found.c.number)
    shown = select(*fields).join_from(versions, courseware, versions.c.courseware == courseware.c.id)
    page: Select[Any] = shown.join(found, is_found).order_by(*order)
    total = await _count(connection, wanted)
    if total <= offset:
        return [], total
    return list((await connection.execute(page)).all()), total


async def column_titles(connection: AsyncConnection) -> dict[str, str]:
    """All columns by id, in their order."""
    rows = await connection.execute(select(columns).order_by(columns.c.position, columns.c.id))
    return {row.id: row.title for row in rows}


async def lesson_versions(connection: AsyncConnection, id_: str) -> list[Row[Any]]:
    """Every version of a lesson that was published, newest first, with its release and document."""
    query = (
        select(versions, releases.c.catalog_version, releases.c.note)
        .join(releases, versions.c.release == releases.c.number)
        .where(versions.c.courseware == id_, releases.c.state == PUBLISHED)
        .order_by(versions.c.number.desc())
    )
    return list((await connection.execute(query)).all())


async def lesson_files(connection: AsyncConnection, id_: str, version: int) -> tuple[list[Row[Any]], list[Row[Any]]]:
    """Files of one version, and the originals they were made from."""
    found = await connection.execute(
        select(files).where(files.c.courseware == id_, files.c.version == version).order_by(files.c.role, files.c.name)
    )
    kept = await connection.execute(
        select(originals).where(originals.c.courseware == id_, originals.c.version == version)
    )
    return list(found.all()), list(kept.all())


async def publishers(connection: AsyncConnection) -> tuple[str, ...]:
    """Cities of which there are lessons, by code."""
    query = select(courseware.c.publisher).where(courseware.c.publisher != "").distinct()
    return tuple(sorted((await connection.execute(query)).scalars()))


async def current_version(connection: AsyncConnection, id_: str) -> int | None:
    """The version that is offered now."""
    return (await connection.execute(select(courseware.c.current).where(courseware.c.id == id_))).scalar_one_or_none()


async def lesson_recalls(connection: AsyncConnection, id_: str) -> list[Row[Any]]:
    """Every recall of a lesson, newest first."""
    query = (
        select(recalls)
        .join(releases, recalls.c.release == releases.c.number)
        .where(recalls.c.courseware == id_, releases.c.state == PUBLISHED)
        .order_by(recalls.c.release.desc())
    )
    return list((await connection.execute(query)).all())


async def list_releases(connection: AsyncConnection, before: int | None, most: int) -> list[Row[Any]]:
    """Releases of every state, newest first, those with smaller numbers than `before`."""
    query = select(releases).order_by(releases.c.number.desc()).limit(most)
    if before is not None:
        query = query.where(releases.c.number < before)
    return list((await connection.execute(query)).all())


async def release_lessons(connection: AsyncConnection, numbers: Sequence[int]) -> dict[int, int]:
    """How many lessons each of these releases brought."""
    query = select(versions.c.release, func.count()).where(versions.c.release.in_(numbers)).group_by(versions.c.release)
    return {row[0]: row[1] for row in await connection.execute(query)}


async def _count(connection: AsyncConnection, wanted: LessonFilter) -> int:
    query: Select[Any] = select(func.count())
    if wanted == LessonFilter():
        query = query.select_from(courseware).where(courseware.c.current.is_not(None))
    else:
        query = _matching(query, wanted)
    return int((await connection.execute(query)).scalar_one())


def _matching(query: Select[Any], wanted: LessonFilter) -> Select[Any]:
    query = query.select_from(versions).join(courseware, versions.c.courseware == courseware.c.id)
    if wanted.state == "recalled":
        last = (
            select(recalls.c.courseware, func.max(recalls.c.version).label("version"))
            .join(releases, recalls.c.release == releases.c.number)
            .where(releases.c.state == PUBLISHED)
            .group_by(recalls.c.courseware)
            .subquery()
        )
        joined = and_(versions.c.courseware == last.c.courseware, versions.c.number == last.c.version)
        query = query.join(last, joined).where(courseware.c.current.is_(None))
    else:
        query = query.where(versions.c.number == courseware.c.current)
    if wanted.publisher is not None:
        query = query.where(courseware.c.publisher == wanted.publisher)
    if wanted.kind:
        query = query.where(versions.c.kind == wanted.kind)
    if wanted.column:
        at = and_(placements.c.courseware == versions.c.courseware, placements.c.version == versions.c.number)
        query = query.join(placements, at).where(placements.c.column == wanted.column)
    for word in unicodedata.normalize("NFC", wanted.text).split()[:_MOST_WORDS]:
        # As typed, and as half-width letters: a title keeps its full-width colon, an input method may give Ｅｘｃｅｌ.
        plain = unicodedata.normalize("NFKC", word)
        query = query.where(_has(word) | _has(plain) if plain != word else _has(word))
    return query


def _has(word: str) -> ColumnElement[bool]:
    found = versions.c.title.icontains(word, autoescape=True)
    # Ids are of ASCII only: a Chinese word need not be looked for in them.
    return found | versions.c.courseware.icontains(word, autoescape=True) if word.isascii() else found
