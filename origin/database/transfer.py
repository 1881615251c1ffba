"""A whole library as rows: out of one database, into another of either kind, or into a file.

Rows go in the order in which tables refer to each other. What is loaded is all there or not at all; a mark tells a
library whose owner was not done with it (the rest of a move or a restore) from one that somebody uses.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterable, AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec
from sqlalchemy import delete, func, insert, select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from manifests.errors import ConfigurationError, StorageDamagedError
from origin.database.schema import schema
from origin.database.tables import allotments, leases, role_files

# They belong to running processes, not to the library.
_LEFT_OUT: Final = frozenset({leases.name, role_files.name})
_BATCH: Final = 500
_UNFINISHED: Final = "unfinished"
_MODULUS: Final = 1 << 256

Row = tuple[str, dict[str, Any]]
"""A table's name and a row of it."""


@dataclass(slots=True)
class Tally:
    """Counts and a sum over rows that does not depend on their order; equal tallies are equal libraries."""

    counts: dict[str, int] = field(default_factory=dict)
    total: int = 0

    def add(self, table: str, row: Mapping[str, Any]) -> None:
        """Take a row in."""
        self.counts[table] = self.counts.get(table, 0) + 1
        digest = hashlib.sha256(msgspec.json.encode([table, row], order="sorted")).digest()
        self.total = (self.total + int.from_bytes(digest)) % _MODULUS


async def read_rows(connection: AsyncConnection) -> AsyncIterator[Row]:
    """All rows, tables that are referred to before those that refer."""
    for table in schema.sorted_tables:
        if table.name in _LEFT_OUT:
            continue
        async for row in await connection.stream(select(table).execution_options(yield_per=_BATCH)):
            # Plain texts: SQLAlchemy's own kind carries how it is to be quoted.
            values = {str(column): value for column, value in row._asdict().items()}
            if table is not allotments or values["name"] != _UNFINISHED:
                yield str(table.name), values


async def tally(connection: AsyncConnection) -> Tally:
    """Counts and sum of what a database holds."""
    found = Tally()
    async for table, row in read_rows(connection):
        found.add(table, row)
    return found


async def load_rows(connection: AsyncConnection, rows: AsyncIterable[Row]) -> Tally:
    """Fill an empty database, or one whose filling was not finished, and mark it as unfinished.

    Args:
        connection: within a writing transaction.
        rows: from `read_rows`.

    Returns:
        Of what was given; compare it with `tally` of what is there.

    Raises:
        ConfigurationError: bad data; the database holds a library already.
        StorageDamagedError: bad data; a row of a table that this program does not have.
    """
    await _make_room(connection)
    given, table, batch = Tally(), "", list[dict[str, Any]]()
    async for name, row in rows:
        given.add(name, row)
        if name != table or len(batch) == _BATCH:
            await _insert(connection, table, batch)
            table, batch = name, []
        batch.append(row)
    await _insert(connection, table, batch)
    await connection.execute(insert(allotments).values(name=_UNFINISHED, highest=1))
    await _advance_serials(connection)
    return given


async def is_unfinished(connection: AsyncConnection) -> bool:
    """Whether whoever loaded this library was cut off before its settings named it."""
    query = select(allotments.c.name).where(allotments.c.name == _UNFINISHED)
    return (await connection.execute(query)).first() is not None


async def finish(connection: AsyncConnection) -> None:
    """Take the mark away, if there is one: from now on it is somebody's library."""
    await connection.execute(delete(allotments).where(allotments.c.name == _UNFINISHED))


async def close_library(connection: AsyncConnection) -> None:
    """Have a SQLite library refuse every change from now on, whichever process asks; reading goes on."""
    for table in schema.sorted_tables:
        for act in ("INSERT", "UPDATE", "DELETE"):
            await connection.exec_driver_sql(
                f'CREATE TRIGGER "moved_{table.name}_{act}" BEFORE {act} ON "{table.name}" '
                "BEGIN SELECT RAISE(ABORT, 'the library was moved to another database'); END"
            )


async def reopen_library(connection: AsyncConnection) -> None:
    """Undo `close_library`; nothing happens where it was not done."""
    for table in schema.sorted_tables:
        for act in ("INSERT", "UPDATE", "DELETE"):
            await connection.exec_driver_sql(f'DROP TRIGGER IF EXISTS "moved_{table.name}_{act}"')


async def _make_room(connection: AsyncConnection) -> None:
    marks = select(func.count()).select_from(allotments)
    unfinished = (await connection.execute(marks.where(allotments.c.name == _UNFINISHED))).scalar_one()
    if not unfinished and (await connection.execute(marks)).scalar_one():
        raise ConfigurationError(
            "the database holds a library already; it is not overwritten",
            zh="目标数据库中已有课件库，不会覆盖",
            hint="name an empty database",
            hint_zh="请指定一个空数据库",
        )
    for table in reversed(schema.sorted_tables):
        await connection.execute(delete(table))


async def _insert(connection: AsyncConnection, name: str, rows: list[dict[str, Any]]) -> None:
    if not rows:
        return
    table = schema.tables.get(name)
    if table is None or name in _LEFT_OUT:
        raise StorageDamagedError(
            f"the library has a table {name[:40]!r}, which this program does not have",
            zh=f"课件库中有本程序没有的表 {name[:40]!r}",
            hint="use the version of yuanjiao that wrote it, or a newer one",
            hint_zh="请使用写出该文件的版本或更新的版本",
        )
    await connection.execute(insert(table), rows)


async def _advance_serials(connection: AsyncConnection) -> None:
    """A server numbers rows by itself from where it last was, not from what was loaded."""
    if connection.dialect.name == "sqlite":
        return
    for table in schema.sorted_tables:
        column = table.autoincrement_column
        if column is None or column.foreign_keys:
            continue
        sequence = (
            await connection.execute(
                text("SELECT pg_get_serial_sequence(:table, :column)"), {"table": table.name, "column": column.name}
            )
        ).scalar()
        highest = (await connection.execute(select(func.max(column)))).scalar()
        if sequence is not None and highest is not None:
            await connection.execute(text("SELECT setval(:name, :value)"), {"name": sequence, "value": highest})
