"""Syncs that are to be killed, each a process that starts at once: `python -m support.edge_lives DIR UPSTREAM NOW`.

Everything is imported before the first; each line read forks one, whose id is printed, and how it ended once it did.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from support.edge_process import main

PYTHONPATH = os.pathsep.join(str(Path(__file__).parents[up]) for up in (2, 1))


class Lives:
    """The parent of all lives of one edge, as the test has it."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def begin(self) -> int:
        """Start a sync; its process id."""
        assert self._process.stdin is not None
        self._process.stdin.write(b"\n")
        return await self.number()

    async def number(self) -> int:
        """The next number that is told: after an id, the exit status, negative for a signal."""
        assert self._process.stdout is not None
        return int(await asyncio.wait_for(self._process.stdout.readline(), 60))


@asynccontextmanager
async def lives(root: Path, url: str, now: int, **env: str) -> AsyncIterator[Lives]:
    """Be ready to start syncs of the edge at `root` until the block ends; `env` are settings without their prefix."""
    own = {f"YUANJIAO_{name.upper()}": value for name, value in env.items()}
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "support.edge_lives", str(root), url, str(now)),
        env=os.environ | own | {"PYTHONPATH": PYTHONPATH},
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        yield Lives(process)
    finally:
        assert process.stdin is not None
        process.stdin.close()
        await asyncio.wait_for(process.wait(), 60)


def _parent(arguments: list[str]) -> None:
    for _ in sys.stdin:
        pid = os.fork()
        if pid == 0:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            status = 1
            try:
                asyncio.run(main(*arguments))
                status = 0
            finally:
                os._exit(status)
        print(pid, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)


if __name__ == "__main__":
    _parent(sys.argv[1:])
