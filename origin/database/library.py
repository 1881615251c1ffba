"""What the library knows: the questions that a release, the console and a publish ask.

Reads only, always in bulk; a catalog of fifty thousand lessons must not cost fifty thousand queries. Writing belongs
to `origin.database.releases`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec
from sqlalchemy import ColumnElement, func, select
from sqlalchemy.engine import RowMapping
from sqlalchemy.ext.asyncio import AsyncConnection

from manifests.digests import Digest
from manifests.instants import Instant, dump_instant
from manifests.model import MAX_RECALLS, Column, Courseware, File, Recall
from manifests.pieces import BlobRef
from origin.database.tables import (
    BEGUN,
    PUBLISHED,
    columns,
    courseware,
    files,
    originals,
    recalls,
    releases,
    versions,
)

# SQLite allows 32766 parameters, older builds 999.
_CHUNK: Final = 900

_DECODER: Final = msgspec.json.Decoder(Courseware)


@dataclass(frozen=True, slots=True)
class Known:
    """What the library has of one courseware id.

    Attributes:
        current: the document that is offered now; None when it was recalled or never landed.
        highest: the highest version number ever given out, abandoned ones too.
        publisher: whose it is: a city's code, empty for the province.
        is_on_trial: the current version, or a newer one, goes to some regions only.
    """

    current: Courseware | None
    highest: int
    publisher: str = ""
    is_on_trial: bool = False


@dataclass(frozen=True, slots=True)
class ReleaseRow:
    """One release as the database has it; `catalog` is None until its catalog was stored."""

    number: int
    kind: str
    state: str
    catalog_version: int
    targets_version: int
    catalog: BlobRef | None
    publisher: str = ""


def read_document(text: str) -> Courseware:
    """Decode a version's document."""
    return _DECODER.decode(text)


def chunks(ids: Iterable[str]) -> Iterator[Sequence[str]]:
    """Ids in portions that fit into one statement."""
    every = list(ids)
    for start in range(0, len(every), _CHUNK):
        yield every[start : start + _CHUNK]


def _is_current() -> ColumnElement[bool]:
    return (versions.c.courseware == courseware.c.id) & (versions.c.number == courseware.c.current)


async def known(connection: AsyncConnection, ids: Iterable[str]) -> Mapping[str, Known]:
    """What the library has of these ids; unknown ones are left out."""
    found: dict[str, Known] = {}
    for chunk in chunks(ids):
        offered = await connection.execute(
            select(courseware.c.id, courseware.c.trial, versions.c.document)
            .join_from(courseware, versions, _is_current())
            .where(courseware.c.id.in_(chunk))
        )
        documents = {row.id: (row.document, row.trial is not None) for row in offered}
        highest = await connection.execute(
            select(versions.c.courseware, courseware.c.publisher, func.max(versions.c.number).label("highest"))
            .join(courseware, versions.c.courseware == courseware.c.id)
            .where(versions.c.courseware.in_(chunk))
            .group_by(versions.c.courseware, courseware.c.publisher)
        )
        for row in highest:
            text, is_on_trial = documents.get(row.courseware, (None, False))
            current = read_document(text) if text else None
            found[row.courseware] = Known(current, row.highest, row.publisher, is_on_trial)
    return found


async def publisher_of(connection: AsyncConnection, courseware_id: str) -> str | None:
    """Whose a courseware is: a city's code, empty for the province; None when it is unknown."""
    query = select(courseware.c.publisher).where(courseware.c.id == courseware_id)
    return (await connection.execute(query)).scalar_one_or_none()


async def ids_of(connection: AsyncConnection, publisher: str) -> set[str]:
    """Ids of all courseware that a publisher ever had."""
    rows = await connection.execute(select(courseware.c.id).where(courseware.c.publisher == publisher))
    return set(rows.scalars())


async def offered_documents(connection: AsyncConnection, publisher: str = "") -> list[tuple[str, str]]:
    """Id and document of everything that a publisher offers now; decode it off the event loop."""
    rows = await connection.execute(
        select(courseware.c.id, versions.c.document)
        .join_from(courseware, versions, _is_current())
        .where(courseware.c.publisher == publisher)
    )
    return [(row.id, row.document) for row in rows]


async def all_columns(connection: AsyncConnection) -> tuple[Column, ...]:
    """All columns, in their order."""
    rows = await connection.execute(select(columns).order_by(columns.c.position, columns.c.id))
    return tuple(Column(id=row.id, title=row.title, order=row.position) for row in rows)


async def published_recalls(connection: AsyncConnection, publisher: str = "") -> dict[str, Recall]:
    """A publisher's newest recall of each id, by id; when there are too many for a catalog, the newest ones."""
    rows = await connection.execute(
        select(recalls)
        .join(releases, recalls.c.release == releases.c.number)
        .where(releases.c.state == PUBLISHED, releases.c.publisher == publisher)
        .order_by(recalls.c.release.desc())
    )
    found: dict[str, Recall] = {}
    for row in rows:
        if len(found) == MAX_RECALLS:
            break
        found.setdefault(
            row.courseware,
            Recall(id=row.courseware, version=row.version, reason=row.reason, at=dump_instant(Instant(row.at))),
        )
    return found


async def previous_documents(connection: AsyncConnection, courseware_id: str, most: int) -> list[Courseware]:
    """The last published versions of one courseware, newest first."""
    rows = await connection.execute(
        select(versions.c.document)
        .join(releases, versions.c.release == releases.c.number)
        .where(versions.c.courseware == courseware_id, releases.c.state == PUBLISHED)
        .order_by(versions.c.number.desc())
        .limit(most)
    )
    return [read_document(row.document) for row in rows]


async def files_of_versions(
    connection: AsyncConnection, wanted: Mapping[str, Collection[int]]
) -> dict[tuple[str, int], tuple[File, ...]]:
    """Files of these versions of these ids, by id and version; unknown ones are left out."""
    found: dict[tuple[str, int], tuple[File, ...]] = {}
    for chunk in chunks(wanted):
        rows = await connection.execute(
            select(versions.c.courseware, versions.c.number, versions.c.document).where(
                versions.c.courseware.in_(chunk)
            )
        )
        for row in rows:
            if row.number in wanted[row.courseware]:
                found[row.courseware, row.number] = read_document(row.document).files
    return found


async def used_blobs(connection: AsyncConnection, digests: Iterable[Digest]) -> set[Digest]:
    """Which of these blobs are a file, or an original, of some version."""
    used: set[Digest] = set()
    for chunk in chunks(digests):
        for column in (files.c.blob, originals.c.blob):
            rows = await connection.execute(select(column).where(column.in_(chunk)))
            used.update(Digest(row[0]) for row in rows)
    return used


async def begun_releases(connection: AsyncConnection) -> list[ReleaseRow]:
    """Releases that neither landed nor were given up, oldest first."""
    rows = await connection.execute(select(releases).where(releases.c.state == BEGUN).order_by(releases.c.number))
    return [_release(row) for row in rows.mappings()]


async def newest_release(connection: AsyncConnection, publisher: str = "") -> ReleaseRow | None:
    """The newest published release of a publisher."""
    query = select(releases).where(releases.c.state == PUBLISHED, releases.c.publisher == publisher)
    rows = await connection.execute(query.order_by(releases.c.number.desc()).limit(1))
    row = rows.mappings().first()
    return _release(row) if row is not None else None


async def newest_number(connection: AsyncConnection) -> int:
    """The highest number of a release, whoever's and of whatever state."""
    return int((await connection.execute(select(func.max(releases.c.number)))).scalar() or 0)


async def publishers(connection: AsyncConnection) -> list[str]:
    """Everybody who ever published: cities' codes, empty for the province."""
    rows = await connection.execute(select(releases.c.publisher).where(releases.c.state == PUBLISHED).distinct())
    return sorted(row.publisher for row in rows)


async def release_of(connection: AsyncConnection, number: int) -> ReleaseRow | None:
    """One release by its number."""
    row = (await connection.execute(select(releases).where(releases.c.number == number))).mappings().first()
    return _release(row) if row is not None else None


async def originals_of(connection: AsyncConnection, wanted: Mapping[str, int]) -> dict[str, tuple[BlobRef, ...]]:
    """What was handed in for one version of each of these ids; those for which nothing is kept are left out."""
    found: dict[str, tuple[BlobRef, ...]] = {}
    for chunk in chunks(wanted):
        for row in await connection.execute(select(originals).where(originals.c.courseware.in_(chunk))):
            if row.version == wanted[row.courseware]:
                table = Digest(row.piece_table) if row.piece_table else None
                ref = BlobRef(Digest(row.blob), row.size_bytes, table, row.piece_size)
                found[row.courseware] = (*found.get(row.courseware, ()), ref)
    return found


async def recent_catalogs(connection: AsyncConnection, most: int, publisher: str = "") -> list[BlobRef]:
    """The last catalogs that a publisher published, newest first, each once."""
    newest = func.max(releases.c.number).label("newest")
    same = (
        releases.c.catalog,
        releases.c.catalog_size,
        releases.c.catalog_table,
        releases.c.catalog_piece_size,
    )
    rows = await connection.execute(
        select(*same, newest)
        .where(releases.c.state == PUBLISHED, releases.c.publisher == publisher)
        .group_by(*same)
        .order_by(newest.desc())
        .limit(most)
    )
    return [ref for row in rows.mappings() if (ref := _catalog(row)) is not None]


def _release(row: RowMapping) -> ReleaseRow:
    return ReleaseRow(
        number=row["number"],
        kind=row["kind"],
        state=row["state"],
        catalog_version=row["catalog_version"],
        targets_version=row["targets_version"],
        catalog=_catalog(row),
        publisher=row["publisher"],
    )


def _catalog(row: RowMapping) -> BlobRef | None:
    if row["catalog"] is None:
        return None
    table = Digest(row["catalog_table"]) if row["catalog_table"] else None
    return BlobRef(Digest(row["catalog"]), row["catalog_size"], table, row["catalog_piece_size"])
