"""Who a disk is for, and what is known of them: the one place where reports meet packing."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from sqlalchemy import select

from manifests.digests import Digest
from manifests.errors import FormatError, InputError, SignatureError
from manifests.reports import MAX_REPORT_BYTES, State, decode_envelope, read_body
from manifests.signing import open_envelope
from origin.app import Origin
from origin.database.engine import reading
from origin.database.tables import edges
from origin.stations.states import held_by, latest_states
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


class Enrolled(NamedTuple):
    """One edge as it was enrolled."""

    code: str
    region: str
    key_id: str
    public_key: str


async def all_stations(origin: Origin) -> Target:
    """Every enrolled edge as it last reported; one that never reported lacks everything.

    Raises:
        StorageError: environment.
    """
    stations = []
    # An id is one string for all edges: 160 edges may hold 50,000 lessons each.
    ids: dict[str, str] = {}
    for edge in await latest_states(origin.engine):
        columns = frozenset(edge.state.columns) if edge.state is not None else frozenset[str]()
        found = await held_by(origin.engine, edge.code)
        held = {ids.setdefault(id_, id_): version for id_, version in found.items()}
        stations.append(Station(edge.region, columns, held))
    return Target(ALL, tuple(stations))


async def enrolled(origin: Origin, key_id: str) -> Enrolled:
    """The edge that has this key.

    Raises:
        SignatureError: bad data; none has.
        StorageError: environment.
    """
    async with reading(origin.engine) as connection:
        query = select(edges.c.code, edges.c.region, edges.c.key_id, edges.c.public_key)
        row = (await connection.execute(query.where(edges.c.key_id == key_id))).one_or_none()
    if row is None:
        raise SignatureError(
            f"no enrolled edge has key {key_id[:64]!r}", zh=f"没有已开通的边缘服务器使用密钥 {key_id[:64]!r}"
        )
    return Enrolled(row.code, row.region, row.key_id, row.public_key)


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
    known = await enrolled(origin, envelope.key_id)
    report = open_envelope(envelope, known.public_key)
    state = read_body(report)
    if not isinstance(state, State):
        raise InputError(
            f"{path} is a report of kind {report.kind!r}, not a state",
            zh=f"{path} 不是状态报告",
            hint="have it written by `yuanjiao edge report DIR`",
            hint_zh="请在县级服务器上用 `yuanjiao edge report DIR` 生成",
        )
    if report.region != known.region or state.region != known.region:
        raise FormatError(
            f"{path} speaks of region {state.region}, its edge is of {known.region}", zh="报告与所属地区不符"
        )
    partial = {Digest(digest): size for digest, size in state.partial.items()}
    station = Station(known.region, frozenset(state.columns), state.held, partial)
    return Target(f"{known.region}-{known.key_id}", (station,))


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_FILE_BYTES + 1)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}", zh=f"无法读取 {path}：{error.strerror}") from error
    if len(data) > _MAX_FILE_BYTES:
        raise InputError(f"{path} is too long to be a report", zh=f"{path} 过大，不是状态报告")
    return data
