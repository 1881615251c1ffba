"""How far a courseware has come, and how far a recall: proved edge by edge, with the tail by name.

An edge has proved a version when its inventory says so. It has proved a recall when an inventory that it made under
the recall's catalog, or a later one, does not have the lesson: so one that never had it proves it too.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median_low
from typing import Any

import msgspec
from msgspec import Struct
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from manifests.cities import is_followed
from manifests.errors import NotFoundError
from manifests.instants import Instant, dump_instant
from manifests.model import Courseware
from manifests.names import Region, is_within
from manifests.reports import Run, State
from origin.database.engine import reading
from origin.database.library import chunks, read_document
from origin.database.offerings import trials
from origin.database.tables import (
    PUBLISHED,
    courseware,
    edges,
    holdings,
    recalls,
    receipts,
    releases,
    reporting,
    runs,
    states,
    versions,
)
from origin.stations.offered import Offered, offered_as


class Straggler(Struct, frozen=True):
    """An edge that has not proved it.

    Attributes:
        heard: when it was last heard from; None: never.
        held: the version that it holds instead, 0 for none.
        why: what its last run says, in the words of the run; empty when it says nothing.
    """

    edge: str
    name: str
    region: str
    heard: str | None
    held: int
    why: str


class Proof(Struct, frozen=True):
    """An edge that has proved it, and when."""

    edge: str
    name: str
    region: str
    at: str


class Spread(Struct, frozen=True):
    """Proofs of one thing.

    Attributes:
        version: of the courseware; of a recall, the highest version recalled.
        meant: enrolled edges that it is meant for.
        proved: how many of them have proved it.
        first, median, last: when; None where no instant is known.
        slowest: name of the edge that was last.
        proofs: of those whose instant is known, in the order of time.
    """

    version: int
    meant: int
    proved: int
    first: str | None
    median: str | None
    last: str | None
    slowest: str
    tail: tuple[Straggler, ...]
    proofs: tuple[Proof, ...] = ()


class Coverage(Struct, frozen=True):
    """What is known of one courseware.

    Attributes:
        spread: of the version asked for; None when it is recalled and none was asked for.
        recall: of its newest recall.
        recalled_at: when it was recalled.
    """

    id: str
    title: str
    spread: Spread | None
    recall: Spread | None
    recalled_at: str | None


@dataclass(frozen=True, slots=True)
class _Edge:
    code: str
    name: str
    region: str
    heard_at: Instant | None
    catalog_version: int
    inventory_at: Instant | None
    columns: frozenset[str]
    cities: Mapping[str, int]

    def reads(self, publisher: str) -> bool:
        """Whether the catalog of a city, or for an empty name the province's, is meant for it."""
        return not publisher or is_followed(Region(publisher), Region(self.region))

    def version_of(self, publisher: str) -> int:
        """The version of that catalog that it proved to have."""
        return self.cities.get(publisher, 0) if publisher else self.catalog_version


async def coverage_of(
    engine: AsyncEngine, courseware_id: str, version: int | None = None, area: Region | None = None
) -> Coverage:
    """Look up how far a courseware, and its recall if there is one, has come.

    Args:
        engine: the origin's database.
        courseware_id: checked by the caller.
        version: None for the current one.
        area: of whose edges it is told; None for all.

    Raises:
        NotFoundError: bad data; no such courseware or version.
        StorageError: environment.
    """
    async with reading(engine) as connection:
        item, is_offered = await _version(connection, courseware_id, version)
        every = [one for one in await _edges(connection) if area is None or is_within(Region(one.region), area)]
        query = select(holdings.c.edge, holdings.c.version, holdings.c.since)
        rows = await connection.execute(query.where(holdings.c.courseware == courseware_id))
        held = {row.edge: (int(row.version), Instant(row.since)) for row in rows}
        recall = await _recall(connection, courseware_id)
        gone = await _gone(connection, courseware_id, recall.version) if recall else {}
        trial = (await trials(connection, [courseware_id])).get(courseware_id)
        spread = _spread(offered_as(item, trial), every, held) if is_offered or version is not None else None
        back = _recall_spread(recall, every, held, gone) if recall else None
        late = {one.edge for part in (spread, back) if part for one in part.tail}
        why = await _reasons(connection, courseware_id, late)
    return Coverage(
        id=item.id,
        title=item.title,
        spread=_explained(spread, why),
        recall=_explained(back, why),
        recalled_at=dump_instant(recall.at) if recall else None,
    )


async def _version(connection: AsyncConnection, id_: str, number: int | None) -> tuple[Courseware, bool]:
    """The version asked for, else the offered one, else the newest that ever was; and whether it is offered."""
    query = (
        select(versions.c.number, versions.c.document, courseware.c.current)
        .join_from(versions, courseware, versions.c.courseware == courseware.c.id)
        .join(releases, versions.c.release == releases.c.number)
        .where(versions.c.courseware == id_, releases.c.state == PUBLISHED)
        .order_by(versions.c.number.desc())
    )
    rows = (await connection.execute(query)).all()
    wanted = number if number is not None else (rows[0].current if rows else None) or (rows[0].number if rows else None)
    for row in rows:
        if row.number == wanted:
            return read_document(row.document), row.current == row.number
    what, what_zh = ("", "") if number is None else (f" version {number} of", f"第 {number} 版")
    raise NotFoundError(f"there is no{what} courseware {id_!r}", zh=f"没有课件 {id_!r}{what_zh}")


async def _edges(connection: AsyncConnection) -> list[_Edge]:
    query = (
        select(edges, reporting, states.c.document)
        .join_from(edges, reporting, edges.c.code == reporting.c.edge, isouter=True)
        .join(states, edges.c.code == states.c.edge, isouter=True)
        .order_by(edges.c.region, edges.c.serial)
    )
    return [
        _Edge(
            code=row.code,
            name=row.name,
            region=row.region,
            heard_at=row.heard_at,
            catalog_version=row.catalog_version or 0,
            inventory_at=row.inventory_at,
            cities=msgspec.json.decode(row.cities or "{}", type=dict[str, int]),
            columns=frozenset(msgspec.json.decode(row.document, type=State).columns) if row.document else frozenset(),
        )
        for row in await connection.execute(query)
    ]


async def _recall(connection: AsyncConnection, id_: str) -> Any:
    """The newest published recall, with the catalog that carries it."""
    query = (
        select(recalls.c.version, recalls.c.at, releases.c.catalog_version, releases.c.publisher)
        .join_from(recalls, releases, recalls.c.release == releases.c.number)
        .where(recalls.c.courseware == id_, releases.c.state == PUBLISHED)
        .order_by(recalls.c.release.desc())
        .limit(1)
    )
    return (await connection.execute(query)).one_or_none()


async def _gone(connection: AsyncConnection, id_: str, version: int) -> dict[str, Instant]:
    query = select(receipts.c.edge, func.min(receipts.c.gone_at).label("at"))
    query = query.where(receipts.c.courseware == id_, receipts.c.version >= version).group_by(receipts.c.edge)
    return {row.edge: Instant(row.at) for row in await connection.execute(query)}


def _spread(offered: Offered, every: Sequence[_Edge], held: Mapping[str, tuple[int, Instant]]) -> Spread:
    version = offered.item.version
    meant = [one for one in every if offered.is_for(Region(one.region), one.columns)]
    proved = {one.code: held[one.code][1] for one in meant if held.get(one.code, (0, 0))[0] >= version}
    return _made(version, meant, proved, len(proved), held)


def _recall_spread(
    recall: Any, every: Sequence[_Edge], held: Mapping[str, tuple[int, Instant]], gone: Mapping[str, Instant]
) -> Spread:
    """A recall is meant for all who read its catalog, whoever the lesson was meant for."""
    every = [one for one in every if one.reads(recall.publisher)]
    proved = [
        one
        for one in every
        if one.version_of(recall.publisher) >= recall.catalog_version
        and not 0 < held.get(one.code, (0, Instant(0)))[0] <= recall.version
    ]
    when = {one.code: gone[one.code] for one in proved if one.code in gone}
    return _made(recall.version, every, when, len(proved), held, {one.code for one in proved})


def _made(
    version: int,
    meant: Sequence[_Edge],
    when: Mapping[str, Instant],
    count: int,
    held: Mapping[str, tuple[int, Instant]],
    proved: Iterable[str] = (),
) -> Spread:
    """Put a spread together; `when` has those proofs of which the instant is known."""
    instants = sorted(when.values())
    done = {*when, *proved}
    timed = sorted((one for one in meant if one.code in when), key=lambda one: (when[one.code], one.code))
    return Spread(
        version=version,
        meant=len(meant),
        proved=count,
        first=dump_instant(instants[0]) if instants else None,
        median=dump_instant(median_low(instants)) if instants else None,
        last=dump_instant(instants[-1]) if instants else None,
        slowest=timed[-1].name if timed else "",
        tail=tuple(
            Straggler(
                edge=one.code,
                name=one.name,
                region=one.region,
                heard=dump_instant(one.heard_at) if one.heard_at is not None else None,
                held=held.get(one.code, (0, Instant(0)))[0],
                why="",
            )
            for one in meant
            if one.code not in done
        ),
        proofs=tuple(Proof(one.code, one.name, one.region, dump_instant(when[one.code])) for one in timed),
    )


async def _reasons(connection: AsyncConnection, id_: str, late: Iterable[str]) -> dict[str, str]:
    """What the last run of each late edge says of this courseware, or of itself."""
    why: dict[str, str] = {}
    for chunk in chunks(sorted(late)):
        last = select(runs.c.edge, func.max(runs.c.number).label("number")).where(runs.c.edge.in_(chunk))
        newest = last.group_by(runs.c.edge).subquery()
        query = select(runs.c.edge, runs.c.document).join(
            newest, (runs.c.edge == newest.c.edge) & (runs.c.number == newest.c.number)
        )
        for row in await connection.execute(query):
            run = msgspec.json.decode(row.document, type=Run)
            why[row.edge] = run.deferred.get(id_, "") or run.error
    return why


def _explained(spread: Spread | None, why: Mapping[str, str]) -> Spread | None:
    if spread is None:
        return None
    tail = tuple(msgspec.structs.replace(one, why=why.get(one.edge, "")) for one in spread.tail)
    return msgspec.structs.replace(spread, tail=tail)
