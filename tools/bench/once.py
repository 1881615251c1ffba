"""One publish in a process of its own, probe aside: `python -m tools.bench.once ORIGIN FILE` prints JSON.

The bench measures this process from outside for memory; the time of the run itself is told by the process, because
the target leaves out starting Python and looking into the file.
"""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path

import msgspec

from origin.app import open_origin, publish
from origin.clock import system_clock
from origin.publish.request import PublishRequest
from tools.logs import QUIET, configure_logs


async def publish_once(root: Path, file: Path) -> float:
    """Plan, then publish, which plans again; seconds of publishing less those of planning, which is the probe."""
    async with open_origin(root, {}, system_clock) as origin:
        request = PublishRequest(files=(file,), title="bench", id="bench", hls=False)
        await origin.publishing.plan(request)  # the first one also starts a worker and loads PyAV
        began_s = time.monotonic()
        await origin.publishing.plan(request)
        probed_s = time.monotonic()
        await publish(origin, request)
        return (time.monotonic() - probed_s) - (probed_s - began_s)


def main() -> None:
    """Entry of the process."""
    configure_logs(level=QUIET)
    seconds = asyncio.run(publish_once(Path(sys.argv[1]), Path(sys.argv[2])))
    sys.stdout.buffer.write(msgspec.json.encode({"seconds": seconds}))


if __name__ == "__main__":
    main()
