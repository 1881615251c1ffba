"""The demo's province: one origin, its counties, and the three things that happen to it (publish, sync, recall)."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from edge.app import init_edge
from edge.sync.report import SyncReport
from manifests.bundle import encode_bundle
from manifests.model import Catalog
from manifests.names import Region
from manifests.pieces import BlobRef
from origin.app import Origin, enroll, publish, recall
from origin.clock import system_clock
from origin.publish.request import PublishRequest
from tools.demo_table import SyncRow, digests_of, naive_bytes, sort_traffic
from tools.files import write_private
from tools.output import Progress
from tools.processes import run_json
from tools.relay import Relay
from tools.samples import Sample

# One lesson shows what HLS costs on a line; all of them would cost the demo's first minute.
STREAMED = "kj-dapengshucai"


@dataclass(frozen=True, slots=True)
class County:
    """One county's edge, and the relay that is its line."""

    name: str
    directory: Path
    line: Relay


@dataclass
class Province:
    """What the demo acts on.

    Attributes:
        rows: one per sync and county, for the table.
    """

    origin: Origin
    counties: list[County] = field(default_factory=list)
    rows: list[SyncRow] = field(default_factory=list)
    _catalogs: list[Catalog] = field(default_factory=list)
    _refs: list[BlobRef] = field(default_factory=list)

    async def enroll(self, code: str, directory: Path, line: Relay) -> County:
        """Hand a county its bundle and make its edge from it."""
        bundle = await enroll(self.origin, Region(code), (line.url,))
        data = encode_bundle(bundle)
        write_private(directory.with_suffix(".bundle.json"), data)
        await asyncio.to_thread(init_edge, directory, data, system_clock)
        county = County(bundle.region_name, directory, line)
        self.counties.append(county)
        return county

    async def publish(self, sample: Sample, files: tuple[Path, ...], progress: Progress) -> None:
        """Publish a sample, or a new version of it."""
        request = PublishRequest(
            files=files,
            title=sample.title,
            id=sample.id,
            columns=(sample.column,),
            summary=sample.summary,
            hls=sample.id == STREAMED,
        )
        await publish(self.origin, request, progress)

    async def recall(self, courseware_id: str, reason: str) -> None:
        """Take a lesson back."""
        await recall(self.origin, courseware_id, reason)

    async def sync(self, reason: str) -> None:
        """Sync all counties beside each other, each by a process of its own, and count what crossed their lines."""
        ref, catalog = await self.origin.releases.current_catalog()
        self._refs.append(ref)
        self._catalogs.append(catalog)
        rows = await asyncio.gather(*(self._sync_county(county, reason) for county in self.counties))
        self.rows.extend(rows)

    async def _sync_county(self, county: County, reason: str) -> SyncRow:
        county.line.drain()
        began_s = time.monotonic()
        told = await run_json(("edge", "sync", str(county.directory), "--now"))
        seconds = time.monotonic() - began_s
        report = msgspec.convert(told, SyncReport)
        exchanges = county.line.drain()
        changed = {*report.added, *report.updated}
        items = [item for item in self._catalogs[-1].courseware if item.id in changed]
        return SyncRow(
            county=county.name,
            reason=reason,
            crossed=sort_traffic(exchanges, digests_of(self._catalogs, self._refs)),
            naive_bytes=naive_bytes(self._refs[-1].size, items),
            requests=len(exchanges),
            seconds=seconds,
        )
