"""Processes kept alive: started, restarted with growing pauses when they die, replaced when told, ended together.

They share nothing but the port (SO_REUSEPORT, workers only) and the counters' memory. Each worker's socket is bound
here and handed down: a worker and its successor listen on the same one, so that nobody is refused between them. Of a
worker that died it is closed at once, and the system gives newcomers to the others. The keeper of the night and the
filler stand beside the workers: whatever becomes of them, they serve.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import structlog

from edge.metrics import Cell, Counters
from edge.serve.order import Signals
from edge.serve.processes import Child, Launcher, Post, Socket
from edge.settings import Settings
from manifests.errors import ConfigurationError, StorageError

FIRST_PAUSE_S = 0.2
LONGEST_PAUSE_S = 30.0
# A process that ran so long was sound; the pauses begin again from the first.
SOUND_S = 60.0
# Deaths before the very first "ready": the cause is not chance, and the operator is watching.
MOST_FAILED_STARTS = 3

# -P: a folder named `edge` where the operator stands must not be taken for this package.
WORKER = (sys.executable, "-P", "-m", "edge.serve.worker")

_RESTARTS = {"worker": Cell.RESTARTS, "keeper": Cell.KEEPER_RESTARTS, "filler": Cell.FILLER_RESTARTS}

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be kept alive.

    Attributes:
        posts: the processes.
        bind: makes a worker's socket on the shared port.
        reread: reads the settings again, for processes that replace others.
        spare_row: of the counters; a successor's, while both live.
    """

    posts: Sequence[Post]
    bind: Callable[[], Socket]
    reread: Callable[[], Settings]
    spare_row: int


class Supervisor:
    """Keeps processes alive until told to stop."""

    def __init__(self, launcher: Launcher, counters: Counters, signals: Signals, plan: Plan) -> None:
        self._launcher = launcher
        self._counters = counters
        self._signals = signals
        self._plan = plan
        self._ready: set[int] = set()
        self._workers = {post.row for post in plan.posts if post.is_worker}
        self._spare_row = plan.spare_row
        self._rows = {post.row: post.row for post in plan.posts}
        self._sockets: dict[int, Socket] = {}
        self._successors: dict[int, Child] = {}
        self._relieved: set[int] = set()
        self.children: dict[int, Child] = {}

    async def run(self) -> None:
        """Serve until told to stop.

        Raises:
            StorageError: environment; a worker died again and again before it could serve.
        """
        try:
            async with asyncio.TaskGroup() as tasks:
                renewing = tasks.create_task(self._renew_when_told())
                keeping = [tasks.create_task(self._keep(post)) for post in self._plan.posts]
                await self._signals.stop.wait()
                if keeping:
                    await asyncio.wait(keeping)
                renewing.cancel()
        except ExceptionGroup as group:
            for error in group.exceptions:
                if isinstance(error, StorageError):
                    raise error from None  # the group says nothing more
            raise
        finally:
            for child in self._successors.values():  # whose predecessor was still there at the end
                await child.kill()
            for one in self._sockets.values():
                one.close()

    async def _keep(self, post: Post) -> None:
        pause_s, failures = FIRST_PAUSE_S, 0
        stop = self._signals.stop
        loop = asyncio.get_running_loop()
        while not stop.is_set():
            began = loop.time()
            code = await self._run_once(post)
            if stop.is_set():
                return
            if post.row in self._relieved:
                self._relieved.discard(post.row)
                continue
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
            try:
                await asyncio.wait_for(stop.wait(), pause_s)
            except TimeoutError:
                pause_s = min(pause_s * 2, LONGEST_PAUSE_S)

    async def _run_once(self, post: Post) -> int:
        """Be with one process of a post until it ends: with its successor where one waits already."""
        child = self._successors.pop(post.row, None)
        if child is None:
            child = await self._launcher.start(post, self._rows[post.row], self._socket(post))
        else:
            self._rows[post.row] = child.row
        self.children[post.row] = child
        ending = asyncio.create_task(self._end_on_stop(child))
        try:
            if await self._launcher.is_ready(child):
                self._welcome(post)
            return await child.wait()
        finally:
            ending.cancel()
            del self.children[post.row]
            await child.kill()
            self._counters.forget(child.row)
            if post.row not in self._successors and post.row in self._sockets:
                self._sockets.pop(post.row).close()

    def _socket(self, post: Post) -> Socket | None:
        """A worker's socket; it stays open here, for its successor."""
        if not post.is_worker:
            return None
        if post.row not in self._sockets:
            self._sockets[post.row] = self._plan.bind()
        return self._sockets[post.row]

    def _welcome(self, post: Post) -> None:
        is_first = post.row not in self._ready
        self._ready.add(post.row)
        if is_first and post.is_worker and self._workers <= self._ready:
            self._signals.ready()

    async def _end_on_stop(self, child: Child) -> None:
        await self._signals.stop.wait()
        await child.end(self._launcher.settings.serve.shutdown_s)

    async def _renew_when_told(self) -> None:
        renew = self._signals.renew
        while True:
            await renew.wait()
            renew.clear()
            try:
                self._launcher.settings = await asyncio.to_thread(self._plan.reread)
            except ConfigurationError as error:
                _log.error("not_renewed", reason=error.message, hint=error.hint)
                continue
            for post in self._plan.posts:
                if self._signals.stop.is_set() or not await self._renew(post):
                    break
            else:
                _log.info("renewed", processes=len(self._plan.posts))

    async def _renew(self, post: Post) -> bool:
        """Replace one process; False when its successor does not come up, and then the old one stays."""
        old = self.children.get(post.row)
        if old is None:
            return True  # it died just now, and whatever comes up is new
        if not post.is_worker:  # one keeper at a time, and one filler: workers outlive its pause
            self._relieved.add(post.row)
            await old.end(self._launcher.settings.serve.shutdown_s)
            return True
        child = await self._launcher.start(post, self._spare_row, self._socket(post))
        with contextlib.ExitStack() as surplus:
            surplus.callback(child.abandon)
            if not await self._launcher.is_ready(child):
                _log.error("not_renewed", row=post.row, reason="the new process does not come up; the old one stays")
                return False
            if self.children.get(post.row) is not old:
                return True
            surplus.pop_all()
        self._spare_row = old.row
        self._relieved.add(post.row)
        self._successors[post.row] = child
        await old.retire(self._launcher.settings.serve.shutdown_s)
        return True
