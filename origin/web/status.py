"""How the origin is: /healthz for machines, / for people, /metrics for Prometheus."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec
from aiohttp import web
from jinja2 import Environment, PackageLoader
from msgspec import Struct
from sqlalchemy import Table, func, select
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from manifests.cities import city_of_role
from manifests.instants import Instant, dump_instant, parse_instant
from manifests.words import show_bytes
from origin.clock import Clock
from origin.database.engine import reading
from origin.database.library import newest_release
from origin.database.tables import courseware, edges, reporting
from origin.metrics import Metrics
from origin.publish.release import Releases
from origin.storage.faults import storage_faults

WARN_BEFORE_S = 30 * 86400
"""A root or targets signature that ends within a month is a matter for somebody now: its key may lie in a drawer."""
LOW_DISK_BYTES = 1 << 30
HEARD_WITHIN_S = 86400

_ROLES_OF_PEOPLE = ("root", "targets")


class OriginStatus(Struct, frozen=True):
    """What /healthz tells, as JSON.

    Attributes:
        status: `ok`, or `degraded` with the reasons in `findings`.
        release: number of the present release.
        edges_heard: enrolled edges whose reports came within a day.
        expires: instant text by role.
    """

    status: str
    findings: tuple[str, ...]
    publisher: str
    release: int
    catalog_version: int
    courseware: int
    edges: int
    edges_heard: int
    expires: dict[str, str]
    disk_free_bytes: int
    now: str


async def read_status(
    engine: AsyncEngine, releases: Releases, blobs: Path, publisher: str, clock: Clock
) -> OriginStatus:
    """Look at everything that tells how the origin is.

    Raises:
        StorageError: environment; database or metadata cannot be read.
        ConfigurationError: environment; nothing was ever released.
    """
    async with reading(engine) as connection:
        newest = await newest_release(connection)
        offered = await _count(connection, courseware, offered_only=True)
        enrolled = await _count(connection, edges)
        since = select(func.count()).select_from(reporting).where(reporting.c.heard_at > clock() - HEARD_WITHIN_S)
        heard = int((await connection.execute(since)).scalar_one())
    expires = await releases.expiries()
    with storage_faults("looking at the disk"):
        free = (await asyncio.to_thread(shutil.disk_usage, blobs)).free
    now = clock()
    findings = judge(expires, free, now)
    return OriginStatus(
        status="degraded" if findings else "ok",
        findings=findings,
        publisher=publisher,
        release=newest.number if newest else 0,
        catalog_version=newest.catalog_version if newest else 0,
        courseware=offered,
        edges=enrolled,
        edges_heard=heard,
        expires={role: dump_instant(at) for role, at in expires.items()},
        disk_free_bytes=free,
        now=dump_instant(now),
    )


def judge(expires: dict[str, Instant], free_bytes: int, now: Instant) -> tuple[str, ...]:
    """What somebody should look after; pure."""
    return tuple(en for en, _ in judge_for_people(expires, free_bytes, now))


def judge_for_people(expires: dict[str, Instant], free_bytes: int, now: Instant) -> tuple[tuple[str, str], ...]:
    """The same in English and Chinese; pure."""
    findings = [(f"{role} has expired", f"{role} 签名已过期") for role, at in expires.items() if at <= now]
    findings += [
        (f"{role} expires at {dump_instant(expires[role])}", f"{role} 签名将于 {dump_instant(expires[role])} 到期")
        for role in expires
        if (role in _ROLES_OF_PEOPLE or city_of_role(role)) and now < expires[role] <= now + WARN_BEFORE_S
    ]
    if free_bytes < LOW_DISK_BYTES:
        findings.append((f"only {free_bytes} bytes are free", f"磁盘仅剩 {show_bytes(free_bytes)}"))
    return tuple(findings)


async def _count(connection: AsyncConnection, table: Table, *, offered_only: bool = False) -> int:
    query = select(func.count()).select_from(table)
    if offered_only:
        query = query.where(table.c.current.is_not(None))
    return int((await connection.execute(query)).scalar_one())


StatusReader = Callable[[], Awaitable[OriginStatus]]


class StatusPages:
    """Handlers of /, /healthz and /metrics."""

    def __init__(self, read: StatusReader, metrics: Metrics, name: str) -> None:
        self._read = read
        self._metrics = metrics
        self._name = name
        templates = Environment(loader=PackageLoader("origin.web"), autoescape=True)
        self._page = templates.get_template("status.html.j2")

    def routes(self) -> list[web.RouteDef]:
        """The routes to add to an application."""
        return [web.get("/", self.page), web.get("/healthz", self.health), web.get("/metrics", self.figures)]

    async def health(self, _request: web.Request) -> web.StreamResponse:
        """JSON, with 200 as long as content can be served at all: degraded is for people, not for load balancers."""
        body = msgspec.json.encode(await self._read())
        return web.Response(body=body, content_type="application/json", headers={"Cache-Control": "no-store"})

    async def page(self, _request: web.Request) -> web.StreamResponse:
        """A plain page for whoever opens the address in a browser."""
        text = self._page.render(status=await self._read(), name=self._name)
        headers = {
            "Cache-Control": "no-store",
            "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'",
            "X-Content-Type-Options": "nosniff",
        }
        return web.Response(text=text, content_type="text/html", headers=headers)

    async def figures(self, _request: web.Request) -> web.StreamResponse:
        """Prometheus text; gauges are read at the moment of asking."""
        status = await self._read()
        self._metrics.set("release", status.release)
        self._metrics.set("courseware", status.courseware)
        self._metrics.set("edges", status.edges)
        self._metrics.set("edges_heard", status.edges_heard)
        self._metrics.set("disk_free_bytes", status.disk_free_bytes)
        for role, at in status.expires.items():
            self._metrics.set("expires_seconds", parse_instant(at), role=role)
        return web.Response(
            body=self._metrics.text(), headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"}
        )
