"""An origin and edges that report to it, over real sockets, in one process."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import msgspec
from sqlalchemy import select
from support.edges import FAST

from edge import app as edge_app
from edge.app import Edge
from edge.clock import Clock
from edge.report.outbox import Outbox
from edge.sync.report import SyncReport
from manifests.bundle import encode_bundle
from manifests.reports import REPORTS_PATH, Answer, Envelope, Report, decode_answer, encode_envelopes, make_report
from manifests.signing import Signer
from origin import app as origin_app
from origin.app import Origin
from origin.clock import system_clock
from origin.database.engine import reading
from origin.database.tables import holdings, runs
from origin.publish.publish import PublishRequest
from origin.stations.coverage import Coverage, coverage_of
from origin.web.server import running

COUNTY, OTHER = "410122", "410225"
CODE_OF = {COUNTY: f"{COUNTY}-1", OTHER: f"{OTHER}-1"}


@asynccontextmanager
async def origin_at(root: Path, port: int = 0, clock: Clock = system_clock) -> AsyncIterator[tuple[Origin, str]]:
    """An open origin that answers; and its address."""
    async with origin_app.open_origin(root, {}, clock) as origin:
        settings = origin.settings.serve
        async with running(origin_app.make_app(origin), "127.0.0.1", port, settings, origin.metrics) as bound:
            yield origin, f"http://127.0.0.1:{bound}"


async def make_edge(origin: Origin, url: str, root: Path, county: str = COUNTY, *, with_key: bool = True) -> Path:
    """Enrol an edge and make it."""
    bundle = await origin_app.enroll(origin, county, (url,), with_key)
    edge_app.init_edge(root, encode_bundle(bundle), system_clock)
    return root


@asynccontextmanager
async def open_edge(root: Path, *urls: str, clock: Clock = system_clock, **env: str) -> AsyncIterator[Edge]:
    """Open an edge; `env` overrides settings, names without their prefix."""
    own = {f"YUANJIAO_{name.upper()}": value for name, value in env.items()}
    if urls:
        own["YUANJIAO_UPSTREAM_URLS"] = ",".join(urls)
    async with edge_app.open_edge(root, FAST | own, clock) as edge:
        yield edge


async def sync(root: Path, *urls: str, clock: Clock = system_clock, **env: str) -> SyncReport:
    """Open an edge, sync it, close it."""
    async with open_edge(root, *urls, clock=clock, **env) as edge:
        report = await edge_app.sync(edge)
        assert isinstance(report, SyncReport)
        return report


async def article(origin: Origin, root: Path, id_: str, body: str = "文", **more: object) -> None:
    """Publish a small lesson, or its next version."""
    path = root / f"{id_}.md"
    path.write_text(f"# {id_}\n\n{body}\n", encoding="utf-8")
    await origin_app.publish(origin, PublishRequest(files=(path,), title=f"课件 {id_}", id=id_, **more))  # type: ignore[arg-type]


def outbox_of(root: Path, now: int = 1) -> Outbox:
    """An edge's outbox, while the edge is closed."""
    return Outbox.open(root / "outbox.sqlite", now)  # type: ignore[arg-type]


def signer_of(root: Path) -> Signer:
    """An edge's own key."""
    return Signer((root / "identity" / "key.pem").read_bytes())


def sign(signer: Signer, *reports: Report) -> list[Envelope]:
    """Reports in their envelopes."""
    return [signer.sign(one) for one in reports]


def waiting(root: Path, region: str = COUNTY) -> list[Envelope]:
    """What an edge would send next, signed."""
    signer = signer_of(root)
    with outbox_of(root) as outbox:
        rows = outbox.unsent(1000, 1 << 24)
    return sign(signer, *(make_report(region, one.number, one.kind, one.at, one.body, after=one.after) for one in rows))


async def post(url: str, envelopes: Sequence[Envelope] | bytes) -> tuple[int, Answer | str]:
    """Post a batch; the answer, or the text of a refusal."""
    data = envelopes if isinstance(envelopes, bytes) else encode_envelopes(envelopes)
    async with aiohttp.ClientSession() as session, session.post(url + REPORTS_PATH, data=data) as response:
        body = await response.read()
        return response.status, _plain(decode_answer(body)) if response.status == 200 else body.decode()


def _plain(answer: Answer) -> Answer:
    """An answer without what this origin always says of itself."""
    assert answer.kinds == ("watching",)
    return msgspec.structs.replace(answer, kinds=())


async def coverage(origin: Origin, id_: str, version: int | None = None) -> Coverage:
    """As the command reads it."""
    return await coverage_of(origin.engine, id_, version)


async def held(origin: Origin) -> dict[str, dict[str, int]]:
    """What each edge has proved, by its code."""
    found: dict[str, dict[str, int]] = {}
    async with reading(origin.engine) as connection:
        for row in await connection.execute(select(holdings)):
            found.setdefault(row.edge, {})[row.courseware] = row.version
    return found


async def run_numbers(origin: Origin) -> list[int]:
    """Numbers of all runs that were received."""
    async with reading(origin.engine) as connection:
        return list((await connection.execute(select(runs.c.number).order_by(runs.c.number))).scalars())


async def backup(origin: Origin, path: Path) -> None:
    """Copy the database as it is now."""
    async with origin.engine.connect() as connection:
        await connection.execution_options(isolation_level="AUTOCOMMIT")
        raw = await connection.get_raw_connection()
        driver = raw.driver_connection
        assert driver is not None
        await driver.execute("VACUUM INTO ?", (str(path),))


def restore(root: Path, old: Path) -> None:
    """Put the old reports beside the newest library: what a restore and a repair of the releases leave."""
    db = sqlite3.connect(root / "origin.sqlite")
    db.execute("ATTACH ? AS old", (str(old),))
    for table in ("holdings", "receipts", "runs", "states", "reporting"):
        db.execute(f"DELETE FROM main.{table}")
        db.execute(f"INSERT INTO main.{table} SELECT * FROM old.{table}")
    db.commit()
    db.close()
