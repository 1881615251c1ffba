"""Taking reports in: whose they are, that they are theirs, and writing down what they prove, each exactly once.

A batch is of one edge and lands in one transaction, or not at all. Whoever sends it again, by line or by courier, in
whatever order, changes nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

import msgspec
from sqlalchemy import delete, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from manifests.errors import FormatError, SignatureError
from manifests.instants import Instant
from manifests.names import Region
from manifests.reports import Answer, Envelope, Inventory, read_body
from manifests.signing import open_envelope
from origin.database.engine import reading, writing
from origin.database.library import chunks
from origin.database.tables import edges, holdings, receipts, reporting, runs, states
from origin.stations.folding import Folded, Holding, Opened, Receipt, fold
from origin.stations.watched import take_watching

DAY_S: Final = 86400


class UnknownKeyError(SignatureError):
    """No enrolled edge has this key."""


class Taken(NamedTuple):
    """What became of a batch.

    Attributes:
        edge: code of the edge.
        applied, repeated, left: reports taken, known already, and left out because one before them is missing.
    """

    answer: Answer
    edge: str
    applied: int
    repeated: int
    left: int


class _Sender(NamedTuple):
    code: str
    region: str
    public_key: str


async def received_of(engine: AsyncEngine, key_id: str) -> Answer:
    """Where the reports of an edge stand; for an edge that has lost its outbox.

    Raises:
        UnknownKeyError: bad data.
        StorageError: environment.
    """
    async with reading(engine) as connection:
        sender = await _sender(connection, key_id)
        row = (await connection.execute(select(reporting).where(reporting.c.edge == sender.code))).one_or_none()
    return Answer(row.received, row.want_full) if row else Answer(0)


async def receive(
    engine: AsyncEngine, envelopes: Sequence[Envelope], now: Instant, *, run_days: int = 90, carried: bool = False
) -> Taken:
    """Take in a batch of one edge.

    Args:
        engine: the origin's database.
        envelopes: in the order of their numbers; at least one.
        now: the origin's clock.
        run_days: runs are forgotten after so long.
        carried: it came by courier, so it does not say that the edge can be heard now.

    Raises:
        UnknownKeyError: bad data; no enrolled edge has this key.
        SignatureError: bad data; another key signed, or the report is of another county.
        FormatError: bad data; a report that cannot be read, or reports of several edges.
        StorageError: environment; nothing was changed.
    """
    if not envelopes:
        raise FormatError("no report in the list", zh="上报列表为空")
    if len({one.key_id for one in envelopes}) != 1:
        raise FormatError("reports of several edges in one list", zh="一次上报中含有多台边缘服务器的内容")
    async with reading(engine) as connection:
        sender = await _sender(connection, envelopes[0].key_id)
    batch = await asyncio.to_thread(_open, sender, envelopes)
    async with writing(engine) as connection:
        folded = await _write(connection, sender.code, batch, now, carried)
        if folded.watched:
            await take_watching(connection, sender.code, Region(sender.region), folded.watched, now)
        await connection.execute(delete(runs).where(runs.c.edge == sender.code, runs.c.at < now - run_days * DAY_S))
    left = len(batch) - folded.applied - folded.repeated
    return Taken(Answer(folded.received, folded.want_full), sender.code, folded.applied, folded.repeated, left)


async def _sender(connection: AsyncConnection, key_id: str) -> _Sender:
    query = select(edges.c.code, edges.c.region, edges.c.public_key).where(edges.c.key_id == key_id)
    row = (await connection.execute(query)).one_or_none() if key_id.isprintable() else None
    if row is None:
        raise UnknownKeyError(
            f"no enrolled edge has key {key_id[:64]!r}",
            zh=f"没有已开通的边缘服务器使用密钥 {key_id[:64]!r}",
            hint="tell the origin its key with `yuanjiao origin accept-key`",
            hint_zh="请在源站用 `yuanjiao origin accept-key` 登记其公钥",
        )
    return _Sender(row.code, row.region, row.public_key)


def _open(sender: _Sender, envelopes: Sequence[Envelope]) -> list[Opened]:
    batch: list[Opened] = []
    for envelope in envelopes:
        report = open_envelope(envelope, sender.public_key)
        if report.region != sender.region:
            raise SignatureError(
                f"a report of region {report.region} signed by the edge {sender.code}",
                zh=f"边缘服务器 {sender.code} 上报了其他地区（{report.region}）的内容",
            )
        batch.append(Opened(report, read_body(report)))
    return batch


async def _write(
    connection: AsyncConnection, edge: str, batch: Sequence[Opened], now: Instant, carried: bool
) -> Folded:
    standing = select(reporting).where(reporting.c.edge == edge).with_for_update()
    row = (await connection.execute(standing)).one_or_none()
    received, want_full = (row.received, row.want_full) if row else (0, False)
    is_news = any(isinstance(one.body, Inventory) and one.report.number > received for one in batch)
    before = await _held(connection, edge) if is_news else {}
    folded = await asyncio.to_thread(fold, received, want_full, before, batch, now)
    heard = max(row.heard_at if row else 0, folded.newest_at) if carried else now
    values: dict[str, Any] = {"received": folded.received, "heard_at": heard, "want_full": folded.want_full}
    if folded.inventory is not None:
        number, at, body = folded.inventory
        values |= {"inventory": number, "inventory_at": at, "catalog_version": body.catalog_version}
        values["cities"] = msgspec.json.encode(body.cities, order="sorted").decode()
    if row:
        await connection.execute(update(reporting).where(reporting.c.edge == edge).values(values))
    else:
        await connection.execute(
            insert(reporting).values({"inventory": 0, "catalog_version": 0} | values | {"edge": edge})
        )
    if folded.held is not None:
        await _write_held(connection, edge, before, folded.held)
    await _write_receipts(connection, edge, folded.receipts)
    await _write_runs(connection, edge, folded)
    await _write_state(connection, edge, folded)
    return folded


async def _held(connection: AsyncConnection, edge: str) -> dict[str, Holding]:
    query = select(holdings.c.courseware, holdings.c.version, holdings.c.since).where(holdings.c.edge == edge)
    return {row[0]: Holding(row[1], Instant(row[2])) for row in await connection.execute(query)}


async def _write_held(
    connection: AsyncConnection, edge: str, before: Mapping[str, Holding], after: Mapping[str, Holding]
) -> None:
    await _drop(connection, edge, (id_ for id_, one in before.items() if after.get(id_) != one))
    new = [
        {"courseware": id_, "edge": edge, "version": one.version, "since": one.since}
        for id_, one in after.items()
        if before.get(id_) != one
    ]
    if new:
        await connection.execute(insert(holdings), new)


async def _drop(connection: AsyncConnection, edge: str, ids: Iterable[str]) -> None:
    for chunk in chunks(ids):
        await connection.execute(delete(holdings).where(holdings.c.edge == edge, holdings.c.courseware.in_(chunk)))


async def _write_receipts(connection: AsyncConnection, edge: str, found: Sequence[Receipt]) -> None:
    """The first proof of each stands."""
    fresh = {(one.courseware, one.version): one for one in reversed(found)}
    for chunk in chunks(sorted({id_ for id_, _ in fresh})):
        query = select(receipts.c.courseware, receipts.c.version).where(
            receipts.c.edge == edge, receipts.c.courseware.in_(chunk)
        )
        for row in (await connection.execute(query)).all():
            fresh.pop((row.courseware, row.version), None)
    if fresh:
        await connection.execute(insert(receipts), [{**one._asdict(), "edge": edge} for one in fresh.values()])


async def _write_runs(connection: AsyncConnection, edge: str, folded: Folded) -> None:
    rows = [
        {"edge": edge, "number": number, "at": at, "complete": run.complete, "document": _text(run)}
        for number, at, run in folded.runs
    ]
    if rows:
        await connection.execute(insert(runs), rows)


async def _write_state(connection: AsyncConnection, edge: str, folded: Folded) -> None:
    if folded.state is not None:
        number, at, state = folded.state
        await connection.execute(delete(states).where(states.c.edge == edge))
        await connection.execute(insert(states).values(edge=edge, number=number, at=at, document=_text(state)))


def _text(value: msgspec.Struct) -> str:
    return msgspec.json.encode(value).decode()
