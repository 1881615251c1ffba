"""Uploads as values and rows: finding them, counting them, writing down how far they are.

An upload goes receiving → checking → ready, or refused with the reason. A draft names the uploads that it is made of;
an upload that a draft names is kept until the draft lets it go.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Final, Literal, NewType

import msgspec
from sqlalchemy import delete, exists, func, insert, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from manifests.digests import Digest
from manifests.instants import Instant
from manifests.names import Region
from origin.database.tables_drafts import draft_files, uploads
from origin.publish.media_job import Probe

UploadId = NewType("UploadId", str)
State = Literal["receiving", "checking", "ready", "refused"]

_IN_USE: Final = exists().where(draft_files.c.upload == uploads.c.id)


@dataclass(frozen=True, slots=True)
class Upload:
    """One file on its way in, or here.

    Attributes:
        account: whose it is.
        region: the account's, when the upload began.
        name: of the file, checked: it may stand in an address and on a disk.
        received_bytes: so many lie on the disk for good.
        digest: SHA-256 of all bytes, once they are here.
        place: names the directory that has the bytes; see `Shelf`.
        finding: what was found in the file, once it is ready.
        reason, reason_zh: why it was refused.
        touched_at: when something last came, or a draft let it go; it expires some days after.
    """

    id: UploadId
    account: int
    region: Region
    name: str
    size_bytes: int
    received_bytes: int
    state: State
    digest: Digest | None
    place: str
    finding: Probe | None
    reason: str
    reason_zh: str
    created_at: Instant
    touched_at: Instant


async def get_upload(connection: AsyncConnection, id_: str) -> Upload | None:
    """One upload, whoever asks; None when there is none."""
    row = (await connection.execute(select(uploads).where(uploads.c.id == id_))).one_or_none()
    return None if row is None else _upload_of(row)


async def get_uploads(connection: AsyncConnection, ids: Collection[str]) -> dict[str, Upload]:
    """Those uploads that there are, by id."""
    rows = await connection.execute(select(uploads).where(uploads.c.id.in_(ids)))
    return {row.id: _upload_of(row) for row in rows}


async def list_uploads(connection: AsyncConnection, account: int, most: int) -> list[Upload]:
    """The uploads of an account, newest first."""
    query = select(uploads).where(uploads.c.account == account)
    rows = await connection.execute(query.order_by(uploads.c.created_at.desc(), uploads.c.id).limit(most))
    return [_upload_of(row) for row in rows]


async def list_by_state(connection: AsyncConnection, place: str, state: State) -> list[Upload]:
    """The uploads of one place in a state, oldest first."""
    query = select(uploads).where(uploads.c.place == place, uploads.c.state == state)
    return [_upload_of(row) for row in await connection.execute(query.order_by(uploads.c.touched_at, uploads.c.id))]


async def all_ids(connection: AsyncConnection, place: str) -> set[str]:
    """Every upload of one place."""
    return set((await connection.execute(select(uploads.c.id).where(uploads.c.place == place))).scalars())


async def list_stale(connection: AsyncConnection, place: str, before: Instant, elsewhere: Instant) -> list[Upload]:
    """The uploads that no draft names and that nothing was done to for long.

    Args:
        connection: to the database.
        place: whose uploads they are.
        before: since when.
        elsewhere: since when for uploads of other places, whose own processes would have given them up long ago: those
            places are no more.
    """
    is_stale = or_(
        (uploads.c.place == place) & (uploads.c.touched_at < before),
        (uploads.c.place != place) & (uploads.c.touched_at < elsewhere),
    )
    query = select(uploads).where(is_stale, ~_IN_USE)
    return [_upload_of(row) for row in await connection.execute(query.order_by(uploads.c.touched_at))]


async def held_by(connection: AsyncConnection, account: int) -> tuple[int, int]:
    """How many uploads an account has, and the bytes that they declare; refused ones hold no bytes."""
    declared = func.coalesce(func.sum(uploads.c.size_bytes).filter(uploads.c.state != "refused"), 0)
    row = (await connection.execute(select(func.count(), declared).where(uploads.c.account == account))).one()
    return int(row[0]), int(row[1])


async def promised(connection: AsyncConnection, place: str) -> int:
    """Bytes that were let in at a place and have not come yet."""
    missing = func.coalesce(func.sum(uploads.c.size_bytes - uploads.c.received_bytes), 0)
    query = select(missing).where(uploads.c.place == place, uploads.c.state == "receiving")
    return int((await connection.execute(query)).scalar_one())


async def add_upload(connection: AsyncConnection, upload: Upload) -> None:
    """Write a new upload down."""
    await connection.execute(
        insert(uploads).values(
            id=upload.id,
            account=upload.account,
            region=upload.region,
            name=upload.name,
            size_bytes=upload.size_bytes,
            received_bytes=upload.received_bytes,
            state=upload.state,
            digest=upload.digest,
            place=upload.place,
            finding=None if upload.finding is None else msgspec.json.encode(upload.finding).decode(),
            reason=upload.reason,
            reason_zh=upload.reason_zh,
            created_at=upload.created_at,
            touched_at=upload.touched_at,
        )
    )


async def advance(
    connection: AsyncConnection, id_: UploadId, seen: int, received: int, now: Instant, digest: Digest | None
) -> bool:
    """Write down that so many bytes lie on the disk for good; False when it was not at `seen` any more.

    Args:
        connection: within a writing transaction.
        id_: of the upload.
        seen: where it stood.
        received: where it stands.
        now: the present instant.
        digest: of all bytes, when this was the last of them and somebody kept count; else it is made when checked.
    """
    there = (uploads.c.id == id_) & (uploads.c.state == "receiving") & (uploads.c.received_bytes == seen)
    values: dict[str, Any] = {"received_bytes": received, "touched_at": now}
    done = await connection.execute(update(uploads).where(there).values(**values))
    whole = (uploads.c.id == id_) & (uploads.c.state == "receiving") & (uploads.c.size_bytes == received)
    await connection.execute(update(uploads).where(whole).values(state="checking", digest=digest))
    return done.rowcount == 1


async def settle(
    connection: AsyncConnection,
    id_: UploadId,
    now: Instant,
    digest: Digest | None,
    finding: Probe | None,
    reason: str = "",
    reason_zh: str = "",
) -> bool:
    """Write down what was found; False when somebody else was quicker, or it is gone."""
    there = (uploads.c.id == id_) & (uploads.c.state == "checking")
    values = {
        "state": "ready" if finding is not None else "refused",
        "digest": digest,
        "finding": None if finding is None else msgspec.json.encode(finding).decode(),
        "reason": reason,
        "reason_zh": reason_zh,
        "touched_at": now,
    }
    return (await connection.execute(update(uploads).where(there).values(**values))).rowcount == 1


async def used_among(connection: AsyncConnection, ids: Collection[str]) -> set[str]:
    """Those of the uploads that a draft names."""
    query = select(draft_files.c.upload).where(draft_files.c.upload.in_(ids)).distinct()
    return set((await connection.execute(query)).scalars())


async def release(connection: AsyncConnection, ids: Collection[str], now: Instant) -> None:
    """Let uploads go that a draft named: unless another draft names them, they expire some days from now."""
    await connection.execute(update(uploads).where(uploads.c.id.in_(ids)).values(touched_at=now))


async def forget(connection: AsyncConnection, id_: str) -> bool:
    """Take an upload out of the database unless a draft names it; its bytes are removed after the transaction."""
    done = await connection.execute(delete(uploads).where(uploads.c.id == id_, ~_IN_USE))
    return done.rowcount == 1


def _upload_of(row: Any) -> Upload:
    return Upload(
        id=UploadId(row.id),
        account=row.account,
        region=Region(row.region),
        name=row.name,
        size_bytes=row.size_bytes,
        received_bytes=row.received_bytes,
        state=row.state,
        digest=None if row.digest is None else Digest(row.digest),
        place=row.place,
        finding=None if row.finding is None else msgspec.json.decode(row.finding, type=Probe),
        reason=row.reason,
        reason_zh=row.reason_zh,
        created_at=Instant(row.created_at),
        touched_at=Instant(row.touched_at),
    )
