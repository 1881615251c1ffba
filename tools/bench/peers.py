"""The servers that people would use instead, as Debian packages them, each on one core like ours and set up fairly."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from manifests.errors import ConfigurationError
from tools.bench.measure import Bench, has
from tools.processes import serving

READY_S = 20.0
SERVER_CORE, CLIENT_CORE = 0, 1

_NGINX = """daemon off; worker_processes {workers}; pid {root}/nginx.pid; error_log {root}/nginx.err;
events {{ worker_connections 4096; }}
http {{
  access_log off; sendfile on; keepalive_requests 100000000; default_type application/octet-stream;
  client_body_temp_path {root}/t1; proxy_temp_path {root}/t2; fastcgi_temp_path {root}/t3;
  uwsgi_temp_path {root}/t4; scgi_temp_path {root}/t5;
  server {{ listen 127.0.0.1:{port} backlog=4096; root {files}; tcp_nopush {nopush}; }}
}}
"""
_CADDY = """{{
  admin off
  auto_https off
}}
http://127.0.0.1:{port} {{
  root * {files}
  file_server
}}
"""


@dataclass(frozen=True, slots=True)
class Target:
    """A server under test.

    Attributes:
        pid: its first process; its children belong to it.
        paths: of the files on it, by what they are: `big`, `whole`, `small`.
    """

    name: str
    port: int
    pid: int
    paths: dict[str, str]


@contextmanager
def on_core(core: int | None) -> Iterator[None]:
    """Children started in the block run on one core, or on all; they inherit it."""
    before = os.sched_getaffinity(0)
    cores = sorted(before)
    os.sched_setaffinity(0, before if core is None else {cores[core % len(cores)]})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@asynccontextmanager
async def ours(
    root: Path, log: Path, paths: dict[str, str], workers: int = 1, core: int | None = SERVER_CORE
) -> AsyncIterator[Target]:
    """Our edge."""
    arguments = ("edge", "serve", str(root), "--host", "127.0.0.1", "--port", "0", "--workers", str(workers))
    async with AsyncExitStack() as stack:
        with on_core(core):
            address = await stack.enter_async_context(serving(arguments, log))
        port = int(address.rpartition(":")[2])
        yield Target("ours", port, _listening_root(root), paths)


@asynccontextmanager
async def nginx(
    bench: Bench, files: Path, paths: dict[str, str], *, nopush: bool, workers: int = 1, core: int | None = SERVER_CORE
) -> AsyncIterator[Target]:
    """Nginx with sendfile, and `tcp_nopush` on or off: neither is best for all lengths."""
    name = "nginx" if nopush else "nginx (no nopush)"
    root = bench.fresh(f"nginx-{nopush}-{workers}")
    root.mkdir()
    port = free_port()
    config = root / "nginx.conf"
    text = _NGINX.format(root=root, files=files, port=port, nopush="on" if nopush else "off", workers=workers)
    config.write_text(text, "utf-8")
    async with _running(name, ("nginx", "-c", str(config), "-e", str(root / "start.err")), port, core) as pid:
        yield Target(name, port, pid, paths)


@asynccontextmanager
async def caddy(bench: Bench, files: Path, paths: dict[str, str]) -> AsyncIterator[Target]:
    """Caddy's file server; Go sees one core."""
    root = bench.fresh("caddy")
    root.mkdir()
    port = free_port()
    config = root / "Caddyfile"
    config.write_text(_CADDY.format(port=port, files=files), "utf-8")
    command = ("caddy", "run", "--config", str(config), "--adapter", "caddyfile")
    async with _running("Caddy", command, port, SERVER_CORE, {"XDG_DATA_HOME": str(root), "HOME": str(root)}) as pid:
        yield Target("Caddy", port, pid, paths)


@asynccontextmanager
async def varnish(bench: Bench, behind: int, paths: dict[str, str], size: int) -> AsyncIterator[Target]:
    """Varnish with everything in memory, filled from a server on port `behind`."""
    port = free_port()
    root = bench.fresh("varnish")
    store = f"malloc,{2 * size // (1 << 20) + 512}M"
    command = (
        *("varnishd", "-F", "-j", "none", "-n", str(root), "-a", f"127.0.0.1:{port}", "-b", f"127.0.0.1:{behind}"),
        *("-s", store, "-t", "86400", "-p", "thread_pool_min=100"),
    )
    async with _running("Varnish", command, port, SERVER_CORE) as pid:
        for path in paths.values():
            await asyncio.to_thread(_fill, port, path)
        yield Target("Varnish", port, pid, paths)


def installed() -> list[str]:
    """Which of the peers there are."""
    return [name for name, program in (("nginx", "nginx"), ("Caddy", "caddy"), ("Varnish", "varnishd")) if has(program)]


def tree(pid: int) -> list[int]:
    """A process and all its descendants."""
    try:
        children = [
            int(child)
            for task in Path(f"/proc/{pid}/task").iterdir()
            for child in (task / "children").read_text().split()
        ]
    except OSError:
        return []
    return [pid, *(one for child in children for one in tree(child))]


def cpu_s(pid: int) -> float:
    """Processor time that a process and its living descendants have taken so far."""
    total = 0.0
    for one in tree(pid):
        try:
            fields = Path(f"/proc/{one}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        total += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return total


def free_port() -> int:
    """A port that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@asynccontextmanager
async def _running(
    name: str, command: Sequence[str], port: int, core: int | None, env: dict[str, str] | None = None
) -> AsyncIterator[int]:
    with on_core(core):
        process = subprocess.Popen(  # noqa: ASYNC220 - a moment, and nothing else runs meanwhile
            command, env={**os.environ, **(env or {})}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
    try:
        ends = time.monotonic() + READY_S
        while not _is_up(port):
            if time.monotonic() > ends or process.poll() is not None:
                raise ConfigurationError(f"bench: {name} does not come up")
            await asyncio.sleep(0.05)
        yield process.pid
    finally:
        process.terminate()
        process.wait(10)


def _is_up(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True


def _fill(port: int, path: str) -> None:
    with socket.create_connection(("127.0.0.1", port), 60) as sock:
        sock.sendall(f"GET {path} HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n".encode("ascii"))
        while sock.recv(1 << 20):
            pass


def _listening_root(root: Path) -> int:
    """Our `edge serve` for this directory; a child of ours."""
    for pid in tree(os.getpid())[1:]:
        try:
            words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if b"serve" in words and str(root).encode() in words:
            return pid
    raise ConfigurationError("bench: our own server is not among the children")
