"""What has changed since the last look, for pages that keep themselves up to date: one look for all streams together.

    look (once a second, while anybody listens) → marks → what differs from the marks before → news → every stream

News say *that* something changed, not what it is now: a page asks for that with its own rights. So the looks of several
origin processes over one database need not agree on anything.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Final

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncEngine

from origin.database.engine import reading
from origin.database.library import chunks
from origin.database.tables import PUBLISHED, edges, holdings, receipts, releases, reporting

MOST_LESSONS: Final = 200


@dataclass(frozen=True, slots=True)
class Marks:
    """What one look found; two that are equal mean that nothing changed.

    Attributes:
        release: number and instant of the newest release.
        edges: by code of the edge, its region and what of its reports was taken.
        lessons: by id, of those that are listened to, how many hold what since when.
    """

    release: tuple[int, int] = (0, 0)
    edges: Mapping[str, tuple[str, int, int]] = field(default_factory=dict)
    lessons: Mapping[str, tuple[int, ...]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class News:
    """What a look found to have changed.

    Attributes:
        is_release: there is a new release.
        edges: code → region of those that told something.
        lessons: ids of those whose coverage moved.
    """

    is_release: bool
    edges: Mapping[str, str]
    lessons: frozenset[str]

    def __bool__(self) -> bool:
        """Whether there is any."""
        return self.is_release or bool(self.edges) or bool(self.lessons)


async def read_marks(engine: AsyncEngine, lessons: Collection[str]) -> Marks:
    """Take a look; a few hundred short rows, whatever the province holds.

    Raises:
        StorageError: environment.
    """
    newest = select(func.max(releases.c.number), func.max(releases.c.ended_at)).where(releases.c.state == PUBLISHED)
    told = select(edges.c.code, edges.c.region, reporting.c.received, reporting.c.heard_at).join_from(
        edges, reporting, edges.c.code == reporting.c.edge, isouter=True
    )
    found: dict[str, tuple[int, ...]] = {}
    async with reading(engine) as connection:
        number, at = (await connection.execute(newest)).one()
        rows = (await connection.execute(told)).all()
        for chunk in chunks(sorted(lessons)[:MOST_LESSONS]):
            for table, mark in ((holdings, holdings.c.since), (receipts, receipts.c.gone_at)):
                query = select(table.c.courseware, func.count(), func.max(mark), func.sum(table.c.version))
                query = query.where(table.c.courseware.in_(chunk)).group_by(table.c.courseware)
                for row in await connection.execute(query):
                    found[row[0]] = (*found.get(row[0], ()), *(int(value) for value in row[1:]))
    return Marks(
        release=(number or 0, at or 0),
        edges={row.code: (row.region, row.received or 0, row.heard_at or 0) for row in rows},
        lessons=found,
    )


def compare(before: Marks, after: Marks) -> News:
    """What differs. A lesson that was not looked at before is news: it may have moved since its page was made."""
    moved = {code: mark[0] for code, mark in after.edges.items() if before.edges.get(code) != mark}
    gone = {code: mark[0] for code, mark in before.edges.items() if code not in after.edges}
    return News(
        is_release=before.release != after.release,
        edges=moved | gone,
        lessons=frozenset(id_ for id_, mark in after.lessons.items() if before.lessons.get(id_) != mark),
    )
