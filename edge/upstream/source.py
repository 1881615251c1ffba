"""What a sync asks of a source: exact bytes of a path, or a clear error. A line and a courier disk are both one."""

from __future__ import annotations

from typing import Protocol

from edge.upstream.body import Arrived, Body, Traffic
from edge.upstream.gate import Gate


class Source(Protocol):
    """Where bytes come from; `edge.upstream.client.Upstream` and `edge.upstream.disk.Disk` are sources."""

    @property
    def url(self) -> str:
        """Its address, by which it is known in reports."""
        ...

    @property
    def traffic(self) -> Traffic:
        """What it has sent so far."""
        ...

    def where(self, digest: str) -> str:
        """Where a blob lies there, for messages."""
        ...

    async def get_bytes(self, path: str, limit: int, expected_size: int | None = None) -> bytes:
        """A whole small resource; see `Upstream.get_bytes`."""
        ...

    async def get_range(self, path: str, start: int, stop: int, total: int) -> bytes:
        """A byte range; see `fill`."""
        ...

    async def fill(self, path: str, body: Body, arrived: Arrived | None = None, gate: Gate | None = None) -> None:
        """A byte range into `body`; see `Upstream.fill`."""
        ...
