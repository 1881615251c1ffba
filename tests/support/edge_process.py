"""An edge's sync as a process of its own, to be killed: `python -m support.edge_process DIR UPSTREAM NOW`."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

from edge import app
from manifests.instants import Instant


async def main(root: str, upstream: str, now: str) -> None:
    env = {"YUANJIAO_UPSTREAM_URLS": upstream, "YUANJIAO_STORE_RESERVE_BYTES": "0", **os.environ}
    async with app.open_edge(Path(root), env, lambda: Instant(int(now))) as edge:
        await app.sync(edge)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
