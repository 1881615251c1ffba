"""How things stand: the overview, edges by their own reports, releases."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from manifests.errors import NotFoundError
from manifests.instants import Instant, dump_instant, parse_instant
from manifests.names import Region, is_within
from manifests.reports import Run
from origin.accounts.people import Actor
from origin.accounts.permissions import Action
from origin.database import listings
from origin.database.engine import reading
from origin.database.library import newest_release
from origin.publish import pilot_store
from origin.stations.regions import load_regions
from origin.stations.standing import Standing, edge_detail, standings
from origin.web.api.models import (
    PAGE,
    ByEdge,
    Edge,
    EdgeCounts,
    EdgeRow,
    Edges,
    EdgesWhere,
    Overview,
    ReleaseList,
    ReleaseRow,
    ReleasesWhere,
    RunRow,
)
from origin.web.api.operations import Desk, Nothing, Operation
from origin.web.api.texts import RegionNames, city_of, instant_text
from origin.web.status import HEARD_WITHIN_S, judge_for_people, read_status

MOST_RUNS: Final = 20
STOPPED_SHOWN_S: Final = 7 * 86400
MOST_DEFERRED: Final = 200


async def _overview(desk: Desk, actor: Actor, _where: Nothing, _body: Nothing) -> Overview:
    status = await read_status(desk.engine, desk.releases, desk.blobs, desk.publisher, desk.clock)
    rows = await _rows(desk, actor.account.region) if actor.may(Action.EDGES_READ, actor.account.region) else ()
    states = [row.state for row in rows]
    expires = {role: parse_instant(at) for role, at in status.expires.items()}
    findings = (*judge_for_people(expires, status.disk_free_bytes, desk.clock()), *await pilot_findings(desk))
    return Overview(
        publisher=status.publisher,
        release=status.release,
        catalog_version=status.catalog_version,
        lessons=status.courseware,
        edges=EdgeCounts(
            enrolled=len(rows),
            heard=states.count("heard"),
            silent=states.count("silent"),
            never=states.count("never"),
            current=sum(row.is_current for row in rows),
            with_faults=sum(bool(row.faults) for row in rows),
        ),
        expires=status.expires,
        findings=tuple(en for en, _ in findings),
        findings_zh=tuple(zh for _, zh in findings),
        disk_free_bytes=status.disk_free_bytes,
        now=status.now,
    )


async def pilot_findings(desk: Desk) -> list[tuple[str, str]]:
    """Pilots that stopped by themselves this week, and those that cannot go on, in English and Chinese."""
    async with reading(desk.engine) as connection:
        stopped = await pilot_store.stopped_since(connection, Instant(desk.clock() - STOPPED_SHOWN_S))
        is_running = bool(await pilot_store.running_pilots(connection))
    found = [
        (
            f"the pilot of {row.title} (version {row.version}) stopped by itself: {row.reason}",
            f"《{row.title}》第 {row.version} 版试点已自动停止：{row.reason_zh}",
        )
        for row in stopped
    ]
    if is_running and not await desk.releases.can_sign():
        en = "a pilot runs and the signing key is not here: yuanjiao origin pilots DIR --keys DIR does what is due"
        zh = "有试点正在进行，但签名密钥不在本机：请携带密钥运行 yuanjiao origin pilots DIR --keys 介质目录"
        found.append((en, zh))
    return found


async def _list(desk: Desk, actor: Actor, where: EdgesWhere, _body: Nothing) -> Edges:
    area = Region(where.region) if where.region else actor.account.region
    # Where the wish goes beyond one's own region, what lies inside both is told: nothing, mostly.
    rows = [row for row in await _rows(desk, actor.account.region) if is_within(Region(row.region), area)]
    if where.state:
        rows = [row for row in rows if (row.state == "heard") == (where.state == "heard")]
    return Edges(await _catalog_version(desk), tuple(rows))


async def _get(desk: Desk, actor: Actor, where: ByEdge, _body: Nothing) -> Edge:
    detail = await edge_detail(desk.engine, actor.account.region, where.code, MOST_RUNS)
    one = detail.standing
    line = one.state.line if one.state else None
    return Edge(
        edge=_row(one, await _catalog_version(desk), desk.clock(), RegionNames(load_regions())),
        enrolled=dump_instant(one.enrolled_at),
        has_key=one.has_key,
        held=detail.held,
        inventory=instant_text(one.inventory_at),
        want_full=one.want_full,
        state_at=instant_text(one.state_at),
        columns=one.state.columns if one.state else (),
        window=line.window if line else "",
        zone=line.zone if line else "",
        rates_bytes_per_s=tuple(map(float, line.rates)) if line else (),
        caps_bytes_per_s=line.caps if line else (),
        runs=tuple(_run(past.number, past.run, MOST_DEFERRED) for past in detail.runs),
    )


async def _releases(desk: Desk, _actor: Actor, where: ReleasesWhere, _body: Nothing) -> ReleaseList:
    async with reading(desk.engine) as connection:
        rows = await listings.list_releases(connection, where.before, PAGE + 1)
        counts = await listings.release_lessons(connection, [row.number for row in rows])
    shown = tuple(
        ReleaseRow(
            number=row.number,
            publisher=row.publisher or desk.publisher,
            kind=row.kind,
            state=row.state,
            note=row.note,
            catalog_version=row.catalog_version,
            lessons=counts.get(row.number, 0),
            begun=dump_instant(Instant(row.begun_at)),
            ended=instant_text(row.ended_at),
        )
        for row in rows[:PAGE]
    )
    return ReleaseList(shown, shown[-1].number if len(rows) > PAGE else None)


async def _rows(desk: Desk, area: Region) -> tuple[EdgeRow, ...]:
    return await edge_rows(desk, await standings(desk.engine, area))


async def edge_rows(desk: Desk, standing: Sequence[Standing]) -> tuple[EdgeRow, ...]:
    """Edges as lists show them.

    Raises:
        NotFoundError: environment; nothing was ever released.
    """
    catalog_version, now, names = await _catalog_version(desk), desk.clock(), RegionNames(load_regions())
    return tuple(_row(one, catalog_version, now, names) for one in standing)


async def _catalog_version(desk: Desk) -> int:
    async with reading(desk.engine) as connection:
        newest = await newest_release(connection)
    if newest is None:
        raise NotFoundError("nothing was ever released here", zh="此源站尚无任何发布")
    return newest.catalog_version


def _row(one: Standing, catalog_version: int, now: Instant, names: RegionNames) -> EdgeRow:
    city = city_of(one.region)
    heard = one.heard_at
    return EdgeRow(
        code=one.code,
        name=one.name,
        region=one.region,
        region_name=names.name(one.region),
        city=city,
        city_name=names.name(city),
        state="never" if heard is None else "heard" if heard > now - HEARD_WITHIN_S else "silent",
        heard=instant_text(heard),
        catalog_version=one.catalog_version,
        is_current=heard is not None and one.catalog_version >= catalog_version,
        room_bytes=one.state.room_bytes if one.state else None,
        waiting_bytes=one.state.waiting_bytes if one.state else None,
        faults=one.state.faults if one.state else (),
        run=_run(0, one.run, 0) if one.run else None,
    )


def _run(number: int, run: Run, most: int) -> RunRow:
    return RunRow(
        number=number,
        started=run.started,
        finished=run.finished,
        complete=run.complete,
        catalog_version=run.catalog_version,
        bytes_fetched=run.bytes_fetched,
        bytes_by_reason=run.bytes_by_reason,
        deferred_count=len(run.deferred),
        deferred=dict(list(run.deferred.items())[:most]),
        banned=run.banned,
        error=run.error,
    )


OPERATIONS = (
    Operation(
        "overview",
        "GET",
        "/overview",
        "The release, the edges of one's region, signatures, disk",
        "总览：当前发布、本地区边缘服务器、签名有效期、磁盘",
        _overview,
        answer=Overview,
        action=Action.RELEASES_READ,
    ),
    Operation(
        "edges.list",
        "GET",
        "/edges",
        "Edges of one's region, each with its newest report",
        "本地区的边缘服务器及最近一次上报",
        _list,
        where=EdgesWhere,
        answer=Edges,
        action=Action.EDGES_READ,
    ),
    Operation(
        "edges.get",
        "GET",
        "/edges/{code}",
        "One edge: what it holds, its line, its plan, the outcome of its last runs",
        "单台边缘服务器：持有课件、线路、计划和最近同步结果",
        _get,
        where=ByEdge,
        answer=Edge,
        action=Action.EDGES_READ,
    ),
    Operation(
        "releases.list",
        "GET",
        "/releases",
        "Releases, newest first",
        "发布记录，新的在前",
        _releases,
        where=ReleasesWhere,
        answer=ReleaseList,
        action=Action.RELEASES_READ,
    ),
)
