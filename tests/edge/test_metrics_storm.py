"""The figures add up after a storm over real worker processes, some of which are killed in the middle of it."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import socket
from collections import Counter
from contextlib import suppress
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families
from support.edge_store import make_blob
from support.portal import Shop, file_of, get, lesson, served
from support.raw_http import Connection

from edge.metrics import Closed, Result

VIDEO = make_blob(30_000_000, "v")
AWAY = make_blob(1000, "away")
MEDIA = "/media/kj-1/a.mp4"
HEAD = " HTTP/1.1\r\nHost: x\r\n"
# What a client sends, and the result that it is counted under; None is a request that cannot be read.
ACTS: dict[str, Result | None] = {
    f"GET {MEDIA}{HEAD}Range: bytes=0-9\r\n\r\n": Result.HIT,
    f"GET {MEDIA}{HEAD}Range: bytes=99999999-\r\n\r\n": Result.HIT,
    f"HEAD {MEDIA}{HEAD}\r\n": Result.HIT,
    f"GET /blobs/{VIDEO.digest}{HEAD}Range: bytes=0-9,20-29\r\n\r\n": Result.HIT,
    f"GET /{HEAD}\r\n": Result.HIT,
    f"GET /api/courseware{HEAD}\r\n": Result.HIT,
    f"GET /media/kj-2/a.mp4{HEAD}\r\n": Result.NOT_HERE,
    f"GET /nothing{HEAD}\r\n": Result.NOT_FOUND,
    f"POST /{HEAD}Content-Length: 3\r\n\r\nabc": Result.REFUSED,
    f"GET /columns/nongye?page=x{HEAD}\r\n": Result.REFUSED,
    f"GET {MEDIA}{HEAD}X : y\r\n\r\n": None,
}
UNREADABLE = next(text for text, result in ACTS.items() if result is None)
READABLE = [text for text in ACTS if text != UNREADABLE]
Figures = dict[tuple[str, str], float]


async def figures(port: int) -> Figures:
    text = (await get(port, "/metrics")).body.decode()
    return {
        (sample.name.removeprefix("yuanjiao_edge_"), next(iter(sample.labels.values()), "")): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def differences(found: Figures) -> tuple[float, float]:
    """What the two identities lack; the request for the figures itself is begun and not ended, and its connection is
    open and perhaps not in the gauge yet."""
    answers = sum(found["answers_total", one.name.lower()] for one in Result)
    closed = sum(found["connections_closed_total", one.name.lower()] for one in Closed)
    open_now = found["connections_accepted_total", ""] - closed
    return found["requests_total", ""] - answers - 1, abs(open_now - found["connections", ""])


async def settled(port: int) -> Figures:
    """The figures once all who left are noticed."""
    async with asyncio.timeout(60):
        while True:
            found = await figures(port)
            if differences(found)[0] == 0 and differences(found)[1] <= 1:
                return found
            await asyncio.sleep(0.1)


async def both_are_back(port: int) -> None:
    async with asyncio.timeout(60):
        while True:
            with suppress(ConnectionError, asyncio.IncompleteReadError):
                if (await figures(port))["worker_restarts_total", ""] == 2:
                    return
            await asyncio.sleep(0.1)


async def client(port: int, rng: random.Random, done: Counter[Result | None]) -> None:
    """Some requests on a connection, sometimes several before the first answer; some leave in the middle."""
    with suppress(ConnectionError, asyncio.IncompleteReadError):  # of a worker that is killed
        connection = await Connection.open(port)
        for _ in range(rng.randrange(1, 8)):
            texts = rng.choices(READABLE, k=rng.choice([1, 1, 3])) if rng.random() < 0.9 else [UNREADABLE]
            await connection.send("".join(texts))
            for text in texts:
                await connection.reply(has_body=not text.startswith("HEAD"))
                done[ACTS[text]] += 1
                if ACTS[text] is None:
                    await connection.close()
                    return
        if rng.random() < 0.3:
            await connection.send(f"GET {MEDIA}{HEAD}\r\n" * 2)
            await connection.reader.readexactly(500)
            connection.writer.transport.abort()
        await connection.close()


async def slow_client(port: int) -> socket.socket:
    """One that has the beginning of a long answer and takes no more for now."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.setblocking(False)
    loop = asyncio.get_running_loop()
    await loop.sock_connect(sock, ("127.0.0.1", port))
    await loop.sock_sendall(sock, f"GET {MEDIA}{HEAD}\r\n".encode())
    assert await loop.sock_recv(sock, 20)
    return sock


def workers() -> list[int]:
    found = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split()
    return [pid for pid in map(int, found) if b"edge.serve.worker" in Path(f"/proc/{pid}/cmdline").read_bytes()]


async def test_identities_hold_after_a_storm_and_kills(tmp_path: Path) -> None:
    shop = Shop(tmp_path)
    shop.put(VIDEO)
    shop.install(lesson("kj-1", file_of(VIDEO, "a.mp4")), offered=[lesson("kj-2", file_of(AWAY, "a.mp4"))])
    shop.close()
    rng = random.Random(5)
    done: Counter[Result | None] = Counter()
    async with served(tmp_path, workers=2, env={"YUANJIAO_SERVE_STALL_S": "30"}) as port:
        await asyncio.gather(*(client(port, rng, done) for _ in range(60)))
        calm = await settled(port)
        for result in (Result.NOT_HERE, Result.NOT_FOUND, Result.REFUSED):
            assert calm["answers_total", result.name.lower()] == done[result]
        assert calm["unreadable_total", ""] == done[None]
        assert calm["answers_total", "lost"] == 0

        slow = [await slow_client(port) for _ in range(6)]
        storm = [asyncio.create_task(client(port, rng, done)) for _ in range(60)]
        for pid in workers():
            os.kill(pid, signal.SIGKILL)
        await asyncio.gather(*storm)
        for sock in slow:
            sock.close()
        await both_are_back(port)
        await asyncio.gather(*(client(port, rng, done) for _ in range(30)))
        found = await settled(port)
    assert found["answers_total", "lost"] >= len(slow)
    assert found["connections_closed_total", "lost"] >= len(slow)
    # A kill takes nothing away that was counted.
    assert found["unreadable_total", ""] >= done[None]
    for result in (Result.HIT, Result.NOT_HERE, Result.NOT_FOUND, Result.REFUSED):
        assert found["answers_total", result.name.lower()] >= done[result]
    begun = found["answer_begin_seconds_count", ""]
    assert 0 < begun <= found["requests_total", ""]
    assert found["answer_begin_seconds_bucket", "+Inf"] == begun
