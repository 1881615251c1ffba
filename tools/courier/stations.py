"""Who a disk is for, and what is known of them: the one place where reports meet packing."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import select

from manifests.digests import Digest
from manifests.errors import FormatError, InputError, SignatureError
from manifests.reports import MAX_REPORT_BYTES, State, decode_envelope, read_body
from manifests.signing import open_envelope
from origin.app import Origin
from origin.database.engine import reading
from origin.database.tables import edges
from tools.courier.planner import Station

ALL = "all"
# Base of JSON's escapes: an envelope holds its report as a string.
_MAX_FILE_BYTES = 2 * MAX_REPORT_BYTES


@dataclass(frozen=True, slots=True)
class Target:
    """One series of disks is for this.

    Attributes:
        name: `all`, or region and key id of one edge.
        stations: the edges.
    """

    name: str
    stations: tuple[Station, ...]


async def all_stations(origin: Origin) -> Target:
    """Every enrolled edge; one of which nothing is known lacks everything.

    Raises:
        StorageError: environment.
    """
    async with reading(origin.engine) as connection:
        rows = await connection.execute(select(edges.c.region).order_by(edges.c.code))
        return Target(ALL, tuple(Station(row.region) for row in rows))


async def reported_station(origin: Origin, path: Path) -> Target:
    """The edge that wrote a state report, as the report has it.

    Raises:
        InputError: caller's mistake; the file cannot be read, or is no state report.
        SignatureError: bad data; no enrolled edge signed it.
        FormatError: bad data.
        StorageError: environment.
    """
    data = await asyncio.to_thread(_read, path)
    envelope = decode_envelope(data)
    async with reading(origin.engine) as connection:
        query = select(edges.c.region, edges.c.key_id, edges.c.public_key).where(edges.c.key_id == envelope.key_id)
        row = (await connection.execute(query)).one_or_none() if envelope.key_id.isprintable() else None
    if row is None:
        raise SignatureError(
            f"{path}: no enrolled edge has key {envelope.key_id[:64]!r}",
            zh=f"{path}：没有已开通的边缘服务器使用密钥 {envelope.key_id[:64]!r}",
        )
    report = open_envelope(envelope, row.public_key)
    state = read_body(report)
    if not isinstance(state, State):
        raise InputError(
            f"{path} is a report of kind {report.kind!r}, not a state",
            zh=f"{path} 不是状态报告",
            hint="have it written by `yuanjiao edge report DIR`",
            hint_zh="请在县级服务器上用 `yuanjiao edge report DIR` 生成",
        )
    if report.region != row.region or state.region != row.region:
        raise FormatError(
            f"{path} speaks of region {state.region}, its edge is of {row.region}", zh="报告与所属地区不符"
        )
    partial = {Digest(digest): size for digest, size in state.partial.items()}
    station = Station(row.region, frozenset(state.columns), state.held, partial)
    return Target(f"{row.region}-{row.key_id}", (station,))


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_FILE_BYTES + 1)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}", zh=f"无法读取 {path}：{error.strerror}") from error
    if len(data) > _MAX_FILE_BYTES:
        raise InputError(f"{path} is too long to be a report", zh=f"{path} 过大，不是状态报告")
    return data
