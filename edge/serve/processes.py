"""Child processes of `edge serve`: how one is started and told what to do, waited for, relieved and ended."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
from asyncio.subprocess import PIPE, Process
from dataclasses import dataclass
from typing import Literal

import msgspec
import structlog

from edge.serve.order import Order
from edge.settings import Settings

READY_S = 60.0
# After the time that answers get to end, the process gets so long to end itself.
GRACE_S = 5.0
# Stands for the exit code of a process that the system did not let us start.
NOT_STARTED = -1

Socket = socket.socket

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Post:
    """A process to keep alive.

    Attributes:
        row: its number, and its first row in the counters.
        name: what it is: serving is not ready without its workers, and cannot go on when one never comes up.
    """

    row: int
    command: tuple[str, ...]
    name: Literal["worker", "keeper", "filler"] = "worker"

    @property
    def is_worker(self) -> bool:
        """Whether it serves."""
        return self.name == "worker"


class Child:
    """One process; `row` is its own in the counters. A process that could not be started has ended already."""

    def __init__(self, post: Post, row: int, process: Process | None) -> None:
        self.post = post
        self.row = row
        self.is_ready = False
        self.process = process

    @property
    def has_ended(self) -> bool:
        """Whether it is gone."""
        return self.process is None or self.process.returncode is not None

    async def wait(self) -> int:
        """Its exit code, once it has ended."""
        return NOT_STARTED if self.process is None else await self.process.wait()

    async def end(self, within_s: float) -> None:
        """Tell it to end, and see to it."""
        self._send(signal.SIGTERM)
        await self._ended_within(within_s + GRACE_S)

    async def retire(self, within_s: float) -> None:
        """Tell a worker that its successor is there, and see to it that it ends."""
        self._send(signal.SIGUSR1)
        await self._ended_within(within_s + GRACE_S)

    async def kill(self) -> None:
        """Have it gone."""
        self.abandon()
        await self.wait()

    def abandon(self) -> None:
        """Kill it; the loop sees it off."""
        self._send(signal.SIGKILL)

    async def _ended_within(self, seconds: float) -> None:
        try:
            await asyncio.wait_for(self.wait(), seconds)
        except TimeoutError:
            _log.error(f"{self.post.name}_killed", row=self.post.row)
            await self.kill()

    def _send(self, number: signal.Signals) -> None:
        if self.process is not None and self.process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self.process.send_signal(number)


class Launcher:
    """Starts processes, each with its order; `settings` are those that the next ones get."""

    def __init__(self, order: Order) -> None:
        self._order = order
        self.settings: Settings = order.settings

    async def start(self, post: Post, row: int, listener: Socket | None) -> Child:
        """Start a process and tell it what to do."""
        number = listener.fileno() if listener is not None else -1
        order = msgspec.structs.replace(self._order, row=row, listener=number, settings=self.settings)
        files = (order.rows_file, number) if listener is not None else (order.rows_file,)
        try:
            process = await asyncio.create_subprocess_exec(*post.command, stdin=PIPE, stdout=PIPE, pass_fds=files)
        except OSError as error:  # no memory or no process to spare just now: the others go on
            _log.error(f"{post.name}_not_started", row=post.row, error=str(error))
            return Child(post, row, None)
        if process.stdin is not None:  # always, with PIPE
            process.stdin.write(msgspec.json.encode(order) + b"\n")
            with contextlib.suppress(ConnectionError):  # dead already: its exit code tells
                await process.stdin.drain()
        return Child(post, row, process)

    async def is_ready(self, child: Child) -> bool:
        """Wait until a process says that it is ready; one that says nothing in time is killed."""
        if child.is_ready or child.process is None or child.process.stdout is None:
            return child.is_ready
        post = child.post
        try:
            line = await asyncio.wait_for(child.process.stdout.readline(), READY_S)
        except TimeoutError:
            _log.error(f"{post.name}_not_ready", row=post.row, after_s=READY_S)
            child.abandon()
            return False
        child.is_ready = line.strip() == b"ready"
        if child.is_ready:
            _log.info(f"{post.name}_ready", row=post.row, pid=child.process.pid)
        return child.is_ready
