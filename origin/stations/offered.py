"""Which lessons lately published are for which edge: by audience and columns, and as far as a trial goes by now."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Final

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from manifests.instants import Instant, parse_instant
from manifests.model import Courseware
from manifests.names import Region, is_within
from origin.database.library import read_document
from origin.database.offerings import Trial, trials
from origin.database.tables import courseware, versions

_ALL: Final[tuple[Region, ...]] = ()


@dataclass(frozen=True, slots=True)
class Offered:
    """One version of a lesson that some edges are offered.

    Attributes:
        only: it goes to these regions alone; empty: wherever it is meant for.
        but: these regions get another version.
    """

    item: Courseware
    only: tuple[Region, ...] = _ALL
    but: tuple[Region, ...] = _ALL

    @property
    def group(self) -> tuple[object, ...]:
        """What decides whose it is: lessons that share it are for the same edges."""
        return self.item.audience, self.item.columns, self.only, self.but

    def is_for(self, region: Region, columns: Collection[str]) -> bool:
        """Tell whether an edge of this region, with these columns (none: all), takes it."""
        if not _is_in(region, map(Region, self.item.audience)) or _is_in(region, self.but):
            return False
        if self.only and not _is_in(region, self.only):
            return False
        return not columns or any(column in columns for column in self.item.columns)


def offered_as(item: Courseware, trial: Trial | None) -> Offered:
    """One version as far as it is offered, if its lesson is on trial."""
    if trial is None:
        return Offered(item)
    if trial.tried is None or trial.tried.version == item.version:
        return Offered(item, only=trial.areas)
    return Offered(item, but=trial.areas)


async def lately_offered(connection: AsyncConnection, since: Instant, now: Instant, most: int) -> list[Offered]:
    """What was published between two instants and is offered, the newest first; documents are few, so decoded here."""
    query = (
        select(versions.c.courseware, versions.c.document)
        .join(courseware, (courseware.c.id == versions.c.courseware) & (courseware.c.current == versions.c.number))
        .where(versions.c.published_at >= since, versions.c.published_at <= now)
        .order_by(versions.c.published_at.desc(), versions.c.courseware)
        .limit(most)
    )
    rows = (await connection.execute(query)).all()
    tried = await trials(connection)
    found = [offered_as(read_document(row.document), tried.get(row.courseware)) for row in rows]
    new = [one.tried for one in tried.values() if one.tried is not None]
    found += [offered_as(one, tried[one.id]) for one in new if since <= parse_instant(one.published) <= now]
    return found[:most]


def _is_in(region: Region, areas: Iterable[Region]) -> bool:
    return any(is_within(region, area) for area in areas)
