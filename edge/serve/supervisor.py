"""Processes kept alive: started, restarted with growing pauses when they die, ended together.

They share nothing but the port (SO_REUSEPORT, workers only) and the counters' memory. A worker that dies costs its own
connections; the port stays bound by the supervisor's own socket, which never listens. The keeper of the night and the
filler stand beside the workers: whatever becomes of them, they serve.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import msgspec
import structlog

from edge.metrics import Cell, Counters
from edge.serve.worker import Order, Signals
from manifests.errors import StorageError

FIRST_PAUSE_S = 0.2
LONGEST_PAUSE_S = 30.0
# A process that ran so long was sound; the pauses begin again from the first.
SOUND_S = 60.0
READY_S = 60.0
# Deaths before the very first "ready": the cause is not chance, and the operator is watching.
MOST_FAILED_STARTS = 3
# Stands for the exit code of a process that the system did not let us start.
NOT_STARTED = -1

# -P: a folder named `edge` where the operator stands must not be taken for this package.
WORKER = (sys.executable, "-P", "-m", "edge.serve.worker")

_RESTARTS = {"worker": Cell.RESTARTS, "keeper": Cell.KEEPER_RESTARTS, "filler": Cell.FILLER_RESTARTS}

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Post:
    """A process to keep alive.

    Attributes:
        row: its own in the counters.
        name: what it is: serving is not ready without its workers, and cannot go on when one never comes up.
    """

    row: int
    command: tuple[str, ...]
    name: Literal["worker", "keeper", "filler"] = "worker"

    @property
    def is_worker(self) -> bool:
        """Whether it serves."""
        return self.name == "worker"


class Supervisor:
    """Keeps processes alive until told to stop."""

    def __init__(self, order: Order, counters: Counters, signals: Signals, posts: Sequence[Post]) -> None:
        self._order = order
        self._posts = tuple(posts)
        self._counters = counters
        self._signals = signals
        self._ready: set[int] = set()
        self._workers = {post.row for post in posts if post.is_worker}
        self.processes: dict[int, Process] = {}

    async def run(self) -> None:
        """Serve until told to stop.

        Raises:
            StorageError: environment; a worker died again and again before it could serve.
        """
        try:
            async with asyncio.TaskGroup() as tasks:
                for post in self._posts:
                    tasks.create_task(self._keep(post))
        except ExceptionGroup as group:
            for error in group.exceptions:
                if isinstance(error, StorageError):
                    raise error from None  # the group says nothing more
            raise

    async def _keep(self, post: Post) -> None:
        pause_s, failures = FIRST_PAUSE_S, 0
        stop = self._signals.stop
        loop = asyncio.get_running_loop()
        while not stop.is_set():
            began = loop.time()
            code = await self._run_once(post)
            if stop.is_set():
                return
            failures += 1
            if post.is_worker and post.row not in self._ready and failures >= MOST_FAILED_STARTS:
                raise StorageError(
                    f"worker {post.row} died {failures} times before it could serve (last exit code {code})",
                    zh=f"工作进程 {post.row} 启动失败 {failures} 次（退出码 {code}）",
                    hint="see the lines above; `yuanjiao doctor DIR` checks this edge",
                    hint_zh="请查看上面的日志，或运行 `yuanjiao doctor DIR` 检查本机",
                )
            if loop.time() - began > SOUND_S:
                pause_s = FIRST_PAUSE_S
            _log.error(f"{post.name}_died", row=post.row, exit_code=code, restart_in_s=pause_s)
            self._counters.add(_RESTARTS[post.name])
            self._counters.forget(post.row)
            try:
                await asyncio.wait_for(stop.wait(), pause_s)
            except TimeoutError:
                pause_s = min(pause_s * 2, LONGEST_PAUSE_S)

    async def _run_once(self, post: Post) -> int:
        order = msgspec.structs.replace(self._order, row=post.row)
        try:
            process = await asyncio.create_subprocess_exec(
                *post.command, stdin=PIPE, stdout=PIPE, pass_fds=(order.rows_file,)
            )
        except OSError as error:  # no memory or no process to spare just now: the others go on
            _log.error(f"{post.name}_not_started", row=post.row, error=str(error))
            return NOT_STARTED
        self.processes[post.row] = process
        ending = asyncio.create_task(self._end_on_stop(post, process))
        try:
            if process.stdin is not None and process.stdout is not None:  # always, with PIPE
                process.stdin.write(msgspec.json.encode(order) + b"\n")
                with contextlib.suppress(ConnectionError):  # dead already: its exit code tells
                    await process.stdin.drain()
                await self._wait_ready(post, process, process.stdout)
            return await process.wait()
        finally:
            ending.cancel()
            del self.processes[post.row]
            if process.returncode is None:  # cancelled ourselves
                process.kill()
                await process.wait()

    async def _wait_ready(self, post: Post, process: Process, output: asyncio.StreamReader) -> None:
        try:
            line = await asyncio.wait_for(output.readline(), READY_S)
        except TimeoutError:
            _log.error(f"{post.name}_not_ready", row=post.row, after_s=READY_S)
            process.kill()
            return
        if line.strip() == b"ready":
            _log.info(f"{post.name}_ready", row=post.row, pid=process.pid)
            is_first = post.row not in self._ready
            self._ready.add(post.row)
            if is_first and post.is_worker and self._workers <= self._ready:
                self._signals.ready()

    async def _end_on_stop(self, post: Post, process: Process) -> None:
        await self._signals.stop.wait()
        if process.returncode is None:
            process.terminate()
        await asyncio.sleep(self._order.settings.serve.shutdown_s + 5)
        if process.returncode is None:
            _log.error(f"{post.name}_killed", pid=process.pid)
            process.kill()
