"""Signed role files in the database, where several origin processes find what any of them signed."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from sqlalchemy import delete, func, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from origin.database.library import chunks
from origin.database.releases import allot
from origin.database.tables import role_files

_REVISION = "role_file"


async def put_role_file(connection: AsyncConnection, name: str, text: str) -> None:
    """Put a file under its name, in the place of what was there."""
    revision = (await allot(connection, {_REVISION: 0}))[_REVISION]
    await connection.execute(delete(role_files).where(role_files.c.name == name))
    await connection.execute(insert(role_files).values(name=name, revision=revision, body=text))


async def drop_role_files(connection: AsyncConnection, names: Collection[str]) -> None:
    """Remove files; absent ones are passed over."""
    for chunk in chunks(names):
        await connection.execute(delete(role_files).where(role_files.c.name.in_(chunk)))


async def newest_revision(connection: AsyncConnection) -> int:
    """Grows with every file that is put; 0 when there is none."""
    return int((await connection.execute(select(func.max(role_files.c.revision)))).scalar() or 0)


async def role_file_names(connection: AsyncConnection) -> frozenset[str]:
    """All names."""
    return frozenset((await connection.execute(select(role_files.c.name))).scalars())


async def role_files_since(connection: AsyncConnection, revision: int) -> Mapping[str, str]:
    """Text by name of all files that were put after a revision, in the order in which they were."""
    query = select(role_files.c.name, role_files.c.body).where(role_files.c.revision > revision)
    rows = await connection.execute(query.order_by(role_files.c.revision))
    return {row.name: row.body for row in rows}
