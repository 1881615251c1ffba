"""Workers: one port, several processes; deaths, drains, taken ports, bad directories."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families
from support.edge_store import make_blob
from support.portal import HandClock, Shop, file_of, get, lesson, served
from support.raw_http import Connection

from edge.paths import Paths
from edge.serve.server import serve
from edge.store.configuration import read_settings
from manifests.errors import ConfigurationError

VIDEO = make_blob(20_000_000, "v")
MEDIA = "/media/kj-1/a.mp4"


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    made = Shop(tmp_path)
    made.put(VIDEO)
    made.install(lesson("kj-1", file_of(VIDEO, "a.mp4")))
    made.close()
    return made


def children() -> list[int]:
    """Worker processes of this one."""
    found = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split()
    return [pid for pid in map(int, found) if b"edge.serve.worker" in Path(f"/proc/{pid}/cmdline").read_bytes()]


async def metric(port: int, name: str) -> float:
    reply = await get(port, "/metrics")
    return sum(
        sample.value
        for family in text_string_to_metric_families(reply.body.decode())
        for sample in family.samples
        if sample.name == name
    )


async def test_two_workers_share_port_and_figures_and_a_dead_one_comes_back(shop: Shop) -> None:
    async with served(shop.paths.root, workers=2) as port:
        for _ in range(40):
            assert (await get(port, MEDIA, Range="bytes=5-9")).body == VIDEO.data[5:10]
        async with asyncio.timeout(
            60
        ):  # an answer is counted once its last byte is out, and another worker may be asked
            while await metric(port, "yuanjiao_edge_ranges_total") != 40:
                await asyncio.sleep(0.02)
        assert await metric(port, "yuanjiao_edge_workers") == 2
        before = children()
        assert len(before) == 2
        os.kill(before[0], signal.SIGKILL)
        async with asyncio.timeout(60):
            while len(children()) < 2 or set(children()) == set(before):
                await asyncio.sleep(0.02)
            while await metric(port, "yuanjiao_edge_worker_restarts_total") != 1:
                await asyncio.sleep(0.02)
        assert (await get(port, MEDIA, Range="bytes=5-9")).status == 206
        async with asyncio.timeout(60):
            while await metric(port, "yuanjiao_edge_ranges_total") < 41:
                await asyncio.sleep(0.02)
    assert children() == []


async def test_running_answer_ends_whole_and_idle_connections_close_at_stop(shop: Shop) -> None:
    stop = asyncio.Event()
    ready: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    env = {"YUANJIAO_SERVE_SHUTDOWN_S": "20"}
    task = asyncio.create_task(serve(shop.paths.root, "127.0.0.1", 0, 1, env, HandClock(), ready.set_result, stop=stop))
    port = int((await ready).rpartition(":")[2])
    idle = await Connection.open(port)
    await idle.request(MEDIA, Range="bytes=0-0")
    busy = await Connection.open(port, limit=1 << 16)
    await busy.send(f"GET {MEDIA} HTTP/1.1\r\nHost: x\r\n\r\n")
    await busy.reader.readuntil(b"\r\n\r\n")
    stop.set()
    assert await idle.is_closed()
    with pytest.raises(ConnectionRefusedError):
        await Connection.open(port)
    body = await busy.reader.readexactly(len(VIDEO.data))
    assert body == VIDEO.data
    assert await busy.is_closed()
    await asyncio.wait_for(task, 60)
    await idle.close()
    await busy.close()


async def test_client_that_never_reads_does_not_hold_up_the_stop(shop: Shop) -> None:
    loop = asyncio.get_running_loop()
    async with served(shop.paths.root, env={"YUANJIAO_SERVE_SHUTDOWN_S": "1"}) as port:
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.setblocking(False)
        await loop.sock_connect(sock, ("127.0.0.1", port))
        await loop.sock_sendall(sock, f"GET {MEDIA} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        await loop.sock_recv(sock, 100)
        began = loop.time()
    assert loop.time() - began < 30
    sock.close()


@pytest.mark.parametrize("workers", [1, 2])
async def test_taken_port_is_a_configuration_error_before_any_worker(shop: Shop, workers: int) -> None:
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(ConfigurationError) as told:
            await serve(shop.paths.root, "127.0.0.1", port, workers, {}, HandClock(), stop=asyncio.Event())
    assert told.value.exit_code == 2
    assert str(port) in told.value.zh
    assert children() == []


async def test_address_of_another_machine_is_a_configuration_error(shop: Shop) -> None:
    with pytest.raises(ConfigurationError):
        await serve(shop.paths.root, "203.0.113.7", 0, 1, {}, HandClock(), stop=asyncio.Event())


def test_directory_that_is_no_edge_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="is missing") as told:
        read_settings(Paths(tmp_path), {})
    assert "edge init" in told.value.hint
    (tmp_path / "edge.toml").write_text("[serve]\nprot = 1\n")
    with pytest.raises(ConfigurationError, match="prot"):
        read_settings(Paths(tmp_path), {})


CODE = """
import asyncio, sys
from pathlib import Path
from edge.clock import system_clock
from edge.paths import Paths
from edge.serve.server import serve
tell = lambda address: print(address, flush=True)
asyncio.run(serve(Path(sys.argv[1]), "127.0.0.1", 0, int(sys.argv[2]), {}, system_clock, tell))
"""


@pytest.mark.parametrize(("workers", "number"), [("1", signal.SIGTERM), ("2", signal.SIGINT)])
async def test_signals_end_it_cleanly(shop: Shop, workers: str, number: signal.Signals) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", CODE, str(shop.paths.root), workers, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    async with asyncio.timeout(60):
        while not (line := await process.stdout.readline()).startswith(b"http://"):
            assert line
        port = int(line.decode().rpartition(":")[2])
        assert (await get(port, "/healthz")).status == 200
        process.send_signal(number)
        assert await process.wait() == 0


async def test_workers_end_with_a_killed_supervisor(shop: Shop) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", CODE, str(shop.paths.root), "2", stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    async with asyncio.timeout(60):
        while not (line := await process.stdout.readline()).startswith(b"http://"):
            assert line
        pids = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        assert len(pids) == 2
        process.kill()
        await process.wait()
        while any(Path(f"/proc/{pid}").exists() for pid in pids):
            await asyncio.sleep(0.02)
