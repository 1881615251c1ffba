"""Writing releases: a release is begun with all that belongs to it, then marked published or abandoned.

Every function works within the caller's transaction. Until `mark_published`, nothing that was written here is offered.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec
from sqlalchemy import Table, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from manifests.instants import Instant, parse_instant
from manifests.model import Column, Courseware, Recall
from manifests.pieces import BlobRef
from origin.database.library import chunks
from origin.database.offerings import (
    NewOffering,
    abandon_pilots,
    begin_offerings,
    settle_offerings,
)
from origin.database.tables import (
    ABANDONED,
    BEGUN,
    PUBLISHED,
    allotments,
    audit,
    columns,
    courseware,
    files,
    originals,
    placements,
    recalls,
    releases,
    versions,
)

_ENCODER: Final = msgspec.json.Encoder(order="sorted")


@dataclass(frozen=True, slots=True)
class NewRelease:
    """A release to begin.

    Attributes:
        kind: init, publish, recall, renew, rotate, restore, pilot, pilot_done or pilot_stop.
        note: what a person reads in the list of releases.
        catalog: known from the start only when the release keeps the catalog that was there.
        publisher: a city's code, empty for the province.
    """

    number: int
    kind: str
    note: str
    catalog_version: int
    targets_version: int
    begun_at: Instant
    catalog: BlobRef | None = None
    publisher: str = ""


@dataclass(frozen=True, slots=True)
class NewVersion:
    """One version that belongs to a release."""

    document: Courseware
    originals: tuple[BlobRef, ...] = ()


async def allot(connection: AsyncConnection, floors: Mapping[str, int]) -> dict[str, int]:
    """Give out the next number of each name, never one given out before.

    Args:
        connection: within a writing transaction.
        floors: name → a number known to be in use, whatever the database says (it may come from a backup).
    """
    rows = await connection.execute(select(allotments).where(allotments.c.name.in_(list(floors))))
    highest = {row.name: row.highest for row in rows}
    given = {name: max(highest.get(name, 0), floor) + 1 for name, floor in floors.items()}
    for name, number in given.items():
        if name in highest:
            await connection.execute(update(allotments).where(allotments.c.name == name).values(highest=number))
        else:
            await connection.execute(insert(allotments).values(name=name, highest=number))
    return given


async def begin_release(
    connection: AsyncConnection,
    release: NewRelease,
    *,
    new_columns: Sequence[Column] = (),
    new_versions: Sequence[NewVersion] = (),
    recall: Recall | None = None,
    new_offerings: Sequence[NewOffering] = (),
) -> None:
    """Write down all that a release will bring, as begun."""
    now = release.begun_at
    await connection.execute(
        insert(releases).values(
            number=release.number,
            kind=release.kind,
            state=BEGUN,
            note=release.note,
            publisher=release.publisher,
            catalog_version=release.catalog_version,
            targets_version=release.targets_version,
            begun_at=now,
            **_catalog_values(release.catalog),
        )
    )
    await _insert(
        connection,
        columns,
        ({"id": c.id, "title": c.title, "position": c.order, "created_at": now} for c in new_columns),
    )
    # An update's id is there already; an added one may be, from a release that was abandoned.
    await _insert_missing_ids(connection, [one.document.id for one in new_versions], release)
    await _insert(connection, versions, (_version_values(one.document, release) for one in new_versions))
    await _insert(connection, files, (values for one in new_versions for values in _file_values(one.document)))
    await _insert(
        connection, placements, (values for one in new_versions for values in _placement_values(one.document))
    )
    await _insert(connection, originals, (values for one in new_versions for values in _original_values(one)))
    if recall is not None:
        await connection.execute(
            insert(recalls).values(
                courseware=recall.id,
                version=recall.version,
                release=release.number,
                reason=recall.reason,
                at=parse_instant(recall.at),
            )
        )
    await begin_offerings(connection, release.number, now, new_offerings)


async def record_catalog(connection: AsyncConnection, number: int, catalog: BlobRef) -> None:
    """Note the catalog that was stored for a release."""
    await connection.execute(update(releases).where(releases.c.number == number).values(**_catalog_values(catalog)))


async def mark_published(connection: AsyncConnection, number: int, now: Instant) -> None:
    """Make a release the present one: its versions are offered, what it recalls is not."""
    await connection.execute(update(releases).where(releases.c.number == number).values(state=PUBLISHED, ended_at=now))
    landed = (
        select(versions.c.number)
        .where(versions.c.courseware == courseware.c.id, versions.c.release == number)
        .scalar_subquery()
    )
    await connection.execute(
        update(courseware)
        .where(courseware.c.id.in_(select(versions.c.courseware).where(versions.c.release == number)))
        .values(current=landed, trial=None)
    )
    await connection.execute(
        update(courseware)
        .where(courseware.c.id.in_(select(recalls.c.courseware).where(recalls.c.release == number)))
        .values(current=None, trial=None)
    )
    # Last, for it has the last word: a version that some regions try first is not the current one.
    await settle_offerings(connection, number, now)
    await _audit_release(connection, number, now, "published")


async def mark_abandoned(connection: AsyncConnection, number: int, now: Instant) -> None:
    """Give up a release of which no edge can have seen anything. Its numbers stay used."""
    await connection.execute(update(releases).where(releases.c.number == number).values(state=ABANDONED, ended_at=now))
    await abandon_pilots(connection, number, now)
    await _audit_release(connection, number, now, "abandoned")


async def note_audit(connection: AsyncConnection, now: Instant, action: str, detail: str) -> None:
    """Write one line into the audit table."""
    await connection.execute(insert(audit).values(at=now, action=action, detail=detail))


async def _audit_release(connection: AsyncConnection, number: int, now: Instant, how: str) -> None:
    row = (await connection.execute(select(releases.c.kind, releases.c.note).where(releases.c.number == number))).one()
    await note_audit(connection, now, row.kind, f"release {number} {how}: {row.note}")


async def _insert(connection: AsyncConnection, table: Table, rows: Iterable[dict[str, Any]]) -> None:
    every = list(rows)
    if every:
        await connection.execute(insert(table), every)


async def _insert_missing_ids(connection: AsyncConnection, ids: Sequence[str], release: NewRelease) -> None:
    have: set[str] = set()
    for chunk in chunks(ids):
        rows = await connection.execute(select(courseware.c.id).where(courseware.c.id.in_(chunk)))
        have.update(row.id for row in rows)
    fresh = {"created_at": release.begun_at, "publisher": release.publisher}
    await _insert(connection, courseware, ({"id": one, **fresh} for one in ids if one not in have))


def _catalog_values(catalog: BlobRef | None) -> dict[str, Any]:
    if catalog is None:
        return {}
    return {
        "catalog": catalog.digest,
        "catalog_size": catalog.size,
        "catalog_table": catalog.table,
        "catalog_piece_size": catalog.piece_size,
    }


def _version_values(item: Courseware, release: NewRelease) -> dict[str, Any]:
    return {
        "courseware": item.id,
        "number": item.version,
        "release": release.number,
        "title": item.title,
        "kind": item.kind,
        "priority": item.priority,
        "duration_s": item.duration_s,
        "size_bytes": item.size,
        "published_at": parse_instant(item.published),
        "expires_at": parse_instant(item.expires) if item.expires else None,
        "document": _ENCODER.encode(item).decode(),
    }


def _file_values(item: Courseware) -> Iterable[dict[str, Any]]:
    for file in item.files:
        yield {
            "courseware": item.id,
            "version": item.version,
            "name": file.name,
            "role": file.role,
            "media_type": file.media_type,
            "blob": file.blob,
            "size_bytes": file.size,
            "piece_table": file.table,
            "piece_size": file.piece_size,
        }


def _placement_values(item: Courseware) -> Iterable[dict[str, Any]]:
    for column in item.columns:
        yield {"courseware": item.id, "version": item.version, "column": column}


def _original_values(one: NewVersion) -> Iterable[dict[str, Any]]:
    # The same original may have given several files; it is kept once.
    for ref in {ref.digest: ref for ref in one.originals}.values():
        yield {
            "courseware": one.document.id,
            "version": one.document.version,
            "blob": ref.digest,
            "size_bytes": ref.size,
            "piece_table": ref.table,
            "piece_size": ref.piece_size,
        }
