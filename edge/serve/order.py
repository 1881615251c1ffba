"""What the processes of `edge serve` have in common: their order, how they are told to end, the port they share.

Kept apart from what serves: the supervisor, which lives beside all others, does without an HTTP library's memory.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import resource
import signal
import socket
import sys
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field

import msgspec
import structlog

from edge.settings import Settings
from manifests.errors import ConfigurationError

_REASONS = {
    errno.EADDRINUSE: "端口已被其他程序占用",
    errno.EADDRNOTAVAIL: "不是本机的地址",
    errno.EACCES: "没有权限（1024 以下的端口需要管理员权限）",
}


class Order(msgspec.Struct, frozen=True):
    """What a worker process is told, and the keeper's.

    Attributes:
        listener: descriptor of the bound socket to listen on; -1 for the keeper.
        rows_file: descriptor of the shared counters; `row` of `rows` is this process's own.
    """

    root: str
    listener: int
    rows_file: int
    row: int
    rows: int
    settings: Settings


def listen(host: str, port: int, *, shared: bool) -> socket.socket:
    """Bind a TCP socket; the caller listens.

    Args:
        host: an address or a name of this machine.
        port: 0 chooses one.
        shared: let other sockets of this user bind the same port, for one per worker.

    Raises:
        ConfigurationError: the port is taken, or the address is not this machine's.
    """
    try:
        family, kind, proto, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        made = socket.socket(family, kind, proto)
        try:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if shared:
                made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            made.bind(address)
        except OSError:
            made.close()
            raise
    except OSError as error:
        reason = error.strerror or str(error)
        reason_zh = _REASONS.get(error.errno or 0, "地址无法识别" if isinstance(error, socket.gaierror) else reason)
        raise ConfigurationError(
            f"cannot listen on {host} port {port}: {reason}",
            zh=f"无法监听 {host} 端口 {port}：{reason_zh}",
            hint="stop the program that uses this port, or choose another (--port, serve.port)",
            hint_zh="请停止占用该端口的程序，或用 --port（或设置 serve.port）换一个端口",
        ) from error
    made.setblocking(False)
    return made


@dataclass(frozen=True, slots=True)
class Signals:
    """How a worker and its owner speak: `ready` is called once it listens, `stop` ends it.

    Attributes:
        renew: processes are to be replaced: all of the supervisor's, or this worker by its successor.
    """

    stop: asyncio.Event
    ready: Callable[[], None]
    renew: asyncio.Event = field(default_factory=asyncio.Event)


def raise_file_limit() -> None:
    """A socket, its duplicate and a file per viewer: take all the descriptors that the system allows."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def stop_on_signals(stop: asyncio.Event) -> None:
    """Set `stop` on SIGTERM and SIGINT."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)


async def wait_for_parent(stop: asyncio.Event) -> None:
    """End with the supervisor, also when that was killed: its end of the pipe closes then."""
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while await reader.read(1024):
        pass
    stop.set()


def ignore_hangup() -> None:
    """SIGHUP is the supervisor's; a terminal that closes sends it to the whole group."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)


def read_order(**bound: object) -> Order:
    """Be told what to do, as the first thing in a process of `edge serve`; `bound` stands in each line of its log.

    Whoever wants the log in another form sets structlog up before.
    """
    order = msgspec.json.decode(sys.stdin.buffer.readline(), type=Order)
    if not structlog.is_configured():
        structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    structlog.contextvars.bind_contextvars(**bound or {"worker": order.row})
    ignore_hangup()
    return order


async def work_beside(work: Coroutine[None, None, None]) -> None:
    """Run the work of a process beside the workers until it is told to stop, or the supervisor has ended."""
    stop = asyncio.Event()
    stop_on_signals(stop)
    parent = asyncio.create_task(wait_for_parent(stop))
    working, stopping = asyncio.create_task(work), asyncio.create_task(stop.wait())
    print("ready", flush=True)  # noqa: T201 - the word that the supervisor waits for
    try:
        await asyncio.wait({working, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            working.result()
    finally:
        for task in (working, stopping, parent):
            task.cancel()
        await asyncio.wait({working, stopping, parent})
