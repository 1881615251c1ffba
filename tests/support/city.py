"""Several edges of one city under test, each served over a real socket and syncing in this process."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from support.edges import FAST, edge_at, run
from support.portal import HandClock, served
from support.province import ManualClock, Province, Site

from edge import app
from edge.app import Edge
from edge.sync.report import SyncReport

GROUP = 1024 * 1024


@dataclass
class Member:
    """One edge of the city; `url` is how its siblings know it."""

    url: str
    edge: Edge


def free_ports(count: int) -> list[int]:
    """Ports that nobody listened on just now."""
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in held]
    for one in held:
        one.close()
    return ports


@asynccontextmanager
async def city(
    root: Path,
    province: Province,
    clock: ManualClock,
    upstreams: Sequence[str],
    *,
    strangers: Sequence[str] = (),
    before: Callable[[int, Path], None] | None = None,
    **env: str,
) -> AsyncIterator[list[Member]]:
    """Open and serve one edge per upstream; each knows all others, and the `strangers`, as siblings.

    Args:
        root: holds the edges' directories.
        province: its release is what they follow.
        clock: of all.
        upstreams: address of the one upstream of each edge.
        strangers: further addresses given as siblings: dead, or liars.
        before: called with number and directory of each edge when it was made, before it is opened.
        env: further settings of all edges.
    """
    ports = free_ports(len(upstreams))
    urls = [f"http://127.0.0.1:{port}" for port in ports]
    async with AsyncExitStack() as stack:
        members = []
        for number, (url, upstream, port) in enumerate(zip(urls, upstreams, ports, strict=True)):
            home = root / f"edge-{number}"
            if not (home / "edge.toml").exists():
                app.init_edge(home, province.bundle(upstream), clock)
            if before is not None:
                before(number, home)
            siblings = ",".join([one for one in urls if one != url] + list(strangers))
            # Room for a busy machine, on which all members and the province share one loop.
            patient = {"upstream_progress_timeout_s": "1.5"}
            more = patient | {"upstream_own_url": url, "upstream_siblings": siblings, **env}
            edge = await stack.enter_async_context(edge_at(home, province, clock, upstream, **more))
            await stack.enter_async_context(served(home, HandClock(clock()), env=FAST, port=port))
            members.append(Member(url, edge))
        yield members


async def sync_all(members: Sequence[Member]) -> list[SyncReport]:
    """All at once."""
    return list(await asyncio.gather(*(run(member.edge) for member in members)))


def content_bytes(site: Site, digest: str, size: int) -> int:
    """Bytes of one blob that a site was asked for."""
    total = 0
    for path, field in site.requests:
        if path.endswith(digest):
            first, _, last = field.removeprefix("bytes=").partition("-")
            total += int(last) - int(first) + 1 if field else size
    return total
