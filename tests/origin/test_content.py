"""The content endpoints over bare sockets: ranges, conditions and faults, byte for byte."""

import asyncio
import base64
import hashlib
import json
import os
import random
import re
import socket
from pathlib import Path
from typing import Self

import pytest
from aiohttp import web
from support.raw_http import Connection
from support.storage_contract import stage

from manifests.digests import Digest
from origin.metrics import Metrics
from origin.storage.local import LocalStorage
from origin.web.content import Content

SIZE = 3 * 1024 * 1024 + 17
DATA = random.Random(22).randbytes(SIZE)  # the same in every process: its name stands in test ids
NAME = hashlib.sha256(DATA).hexdigest()
ETAG = f'"{NAME}"'
SMALL = b"0123456789"
SMALL_NAME = hashlib.sha256(SMALL).hexdigest()


class Elsewhere:
    """The same blobs without a file of this machine, as object storage is."""

    def __init__(self, inner: LocalStorage) -> None:
        self.inner = inner
        self.size = inner.size
        self.read = inner.read
        self.address = inner.address

    def local_path(self, digest):
        return None


class Running:
    """A server with blobs and metadata in it."""

    def __init__(self, root: Path, remote: bool = False, stall_s: float = 30) -> None:
        self.root = root
        self.local = LocalStorage(root / "blobs")
        self.storage = Elsewhere(self.local) if remote else self.local
        self.metrics = Metrics()
        self.catalog: Digest | None = Digest(SMALL_NAME)
        self.metadata = root / "metadata"
        self.stall_s = stall_s
        self.port = 0

    async def __aenter__(self) -> Self:
        self.metadata.mkdir()
        for data, name in ((DATA, NAME), (SMALL, SMALL_NAME)):
            # Written straight to its place: two hundred tests need no fsync.
            path = self.root / "blobs" / name[:2] / name
            path.parent.mkdir(parents=True)
            path.write_bytes(data)

        async def current(city: str):
            return None if city else self.catalog

        app = web.Application()
        app.add_routes(Content(self.storage, self.metadata, current, self.metrics, self.stall_s).routes())
        self.runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
        await self.runner.setup()
        await web.TCPSite(self.runner, "127.0.0.1", 0).start()
        self.port = self.runner.addresses[0][1]
        return self

    async def __aexit__(self, *_) -> None:
        await self.runner.cleanup()

    def check_identity(self) -> None:
        for resource in ("metadata", "targets", "blobs"):
            begun = sum(
                sample.value
                for family in self.metrics.registry.collect()
                for sample in family.samples
                if sample.name == "yuanjiao_origin_answers_total" and sample.labels["resource"] == resource
            )
            ended = self.metrics.value("answers_completed", resource=resource) + sum(
                self.metrics.value("answers_broken", resource=resource, reason=reason)
                for reason in ("left", "stalled", "storage", "stopped")
            )
            assert begun == ended + self.metrics.value("answers_in_flight", resource=resource)


@pytest.fixture(params=[False, True], ids=["local", "elsewhere"])
async def server(tmp_path, request):
    async with Running(tmp_path, remote=request.param) as running:
        yield running
        running.check_identity()


@pytest.fixture
async def client(server):
    connection = await Connection.open(server.port)
    yield connection
    await connection.close()


def range_of(first: int, last: int) -> tuple[int, bytes, str]:
    return 206, DATA[first : last + 1], f"bytes {first}-{last}/{SIZE}"


WHOLE = (200, DATA, None)
CASES = {
    "no range": ({}, WHOLE),
    "first bytes": ({"Range": "bytes=0-99"}, range_of(0, 99)),
    "one byte": ({"Range": "bytes=7-7"}, range_of(7, 7)),
    "open end": ({"Range": f"bytes={SIZE - 5}-"}, range_of(SIZE - 5, SIZE - 1)),
    "suffix": ({"Range": "bytes=-20"}, range_of(SIZE - 20, SIZE - 1)),
    "suffix over all": ({"Range": f"bytes=-{SIZE * 2}"}, range_of(0, SIZE - 1)),
    "end beyond": ({"Range": f"bytes=10-{SIZE * 3}"}, range_of(10, SIZE - 1)),
    "over portions": ({"Range": "bytes=100-2500000"}, range_of(100, 2500000)),
    "spaces and case": ({"Range": "Bytes= 3-5 "}, range_of(3, 5)),
    "adjacent joined": ({"Range": "bytes=0-4,5-9"}, range_of(0, 9)),
    "start beyond": ({"Range": f"bytes={SIZE}-"}, (416, b"", f"bytes */{SIZE}")),
    "suffix of nothing": ({"Range": "bytes=-0"}, (416, b"", f"bytes */{SIZE}")),
    "other unit": ({"Range": "lines=0-5"}, WHOLE),
    "malformed": ({"Range": "bytes=a-b"}, WHOLE),
    "no dash": ({"Range": "bytes=5"}, WHOLE),
    "backwards": ({"Range": "bytes=9-3"}, WHOLE),
    "empty": ({"Range": "bytes="}, WHOLE),
    "minus": ({"Range": "bytes=--5"}, WHOLE),
    "too many": ({"Range": "bytes=" + ",".join(f"{i * 10}-{i * 10}" for i in range(40))}, WHOLE),
    "if-range same": ({"Range": "bytes=0-9", "If-Range": ETAG}, range_of(0, 9)),
    "if-range other": ({"Range": "bytes=0-9", "If-Range": '"other"'}, WHOLE),
    "if-range weak": ({"Range": "bytes=0-9", "If-Range": f"W/{ETAG}"}, WHOLE),
    "if-range date": ({"Range": "bytes=0-9", "If-Range": "Tue, 24 Nov 2026 00:00:00 GMT"}, WHOLE),
    "if-none-match same": ({"If-None-Match": ETAG}, (304, b"", None)),
    "if-none-match weak": ({"If-None-Match": f"W/{ETAG}"}, (304, b"", None)),
    "if-none-match list": ({"If-None-Match": f'"a", {ETAG}'}, (304, b"", None)),
    "if-none-match any": ({"If-None-Match": "*"}, (304, b"", None)),
    "if-none-match other": ({"If-None-Match": '"a"'}, WHOLE),
    "if-none-match before range": ({"If-None-Match": ETAG, "Range": "bytes=0-9"}, (304, b"", None)),
    "if-match same": ({"If-Match": ETAG, "Range": "bytes=0-9"}, range_of(0, 9)),
    "if-match other": ({"If-Match": '"a"'}, (412, b"", None)),
    "dates ignored": ({"If-Modified-Since": "Tue, 24 Nov 2099 00:00:00 GMT"}, WHOLE),
}


@pytest.mark.parametrize("case", CASES)
async def test_get(client, case):
    headers, (status, body, content_range) = CASES[case]
    reply = await client.request(f"/blobs/{NAME}", **headers)
    assert (reply.status, reply.headers.get("content-range")) == (status, content_range)
    assert reply.body == body
    if status in {200, 206, 304, 412}:
        assert reply.headers["etag"] == ETAG
    if status in {200, 206}:
        assert reply.headers["accept-ranges"] == "bytes"
        assert reply.headers["cache-control"] == "public, max-age=31536000, immutable"
        encoded = base64.b64encode(hashlib.sha256(DATA).digest()).decode()
        assert reply.headers["repr-digest"] == f"sha-256=:{encoded}:"
    if status == 304:
        assert "content-length" not in reply.headers
    # The connection is in step: the next answer begins where it should.
    assert (await client.request(f"/blobs/{SMALL_NAME}")).body == SMALL


@pytest.mark.parametrize("case", CASES)
async def test_head_has_the_fields_of_get_without_range(client, case):
    headers, _ = CASES[case]
    head = await client.request(f"/blobs/{NAME}", method="HEAD", **headers)
    without = {name: value for name, value in headers.items() if name not in {"Range", "If-Range"}}
    get = await client.request(f"/blobs/{NAME}", **without)
    ignored = {"date"}
    assert head.status == get.status
    assert {k: v for k, v in head.headers.items() if k not in ignored} == {
        k: v for k, v in get.headers.items() if k not in ignored
    }


@pytest.mark.parametrize(
    "ranges",
    [((0, 9), (100, 199)), ((2000000, 2000009), (5, 5), (SIZE - 3, SIZE - 1)), ((0, 1500000), (1600000, 1600001))],
)
async def test_multiple_ranges(client, ranges):
    reply = await client.request(f"/blobs/{NAME}", Range="bytes=" + ", ".join(f"{a}-{b}" for a, b in ranges))
    assert reply.status == 206
    assert "content-range" not in reply.headers
    boundary = re.fullmatch(r"multipart/byteranges; boundary=(\S+)", reply.headers["content-type"]).group(1)
    rest = reply.body
    for index, (first, last) in enumerate(ranges):
        head = (
            (b"" if index == 0 else b"\r\n")
            + f"--{boundary}\r\nContent-Type: application/octet-stream\r\n"
            f"Content-Range: bytes {first}-{last}/{SIZE}\r\n\r\n".encode()
        )
        assert rest.startswith(head)
        rest = rest[len(head) :]
        assert rest[: last - first + 1] == DATA[first : last + 1]
        rest = rest[last - first + 1 :]
    assert rest == f"\r\n--{boundary}--\r\n".encode()


async def test_pipelined_requests_are_answered_in_order(client):
    head = "GET /blobs/{} HTTP/1.1\r\nHost: x\r\nRange: bytes={}\r\n\r\n"
    await client.send(head.format(NAME, "0-2000000") + head.format(SMALL_NAME, "2-3") + head.format(NAME, "5-6"))
    assert (await client.reply()).body == DATA[:2000001]
    assert (await client.reply()).body == b"23"
    assert (await client.reply()).body == DATA[5:7]


async def test_http_1_0_closes(server):
    connection = await Connection.open(server.port)
    await connection.send(f"GET /blobs/{SMALL_NAME} HTTP/1.0\r\n\r\n")
    assert (await connection.reply()).body == SMALL
    assert await connection.is_closed()
    await connection.close()


@pytest.mark.parametrize(
    "path",
    [
        "/blobs/" + "0" * 64,
        "/blobs/" + NAME.upper(),
        "/blobs/" + NAME[:-1],
        "/blobs/..%2f..%2fetc%2fpasswd",
        "/blobs/%00",
        "/metadata/2.root.json",
        "/metadata/origin.toml",
        "/metadata/..%2forigin.toml",
        "/metadata/0.root.json",
        "/metadata/9.timestamp.json",
        "/targets/other.json",
        "/targets/" + "0" * 64 + ".catalog.json",
        "/targets/..%2fcatalog.json",
    ],
)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_what_is_not_here_costs_few_bytes(client, path, method):
    reply = await client.request(path, method=method)
    assert (reply.status, reply.body) == (404, b"")
    assert reply.head_bytes < 160


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
async def test_other_methods_are_refused(client, method):
    reply = await client.request(f"/blobs/{SMALL_NAME}", method=method, Content_Length="0")
    assert reply.status == 405
    assert set(reply.headers["allow"].split(",")) == {"GET", "HEAD"}


async def test_metadata_is_fresh_after_each_rename(server, client):
    path = server.metadata / "timestamp.json"
    for text in ("one", "two", "three, longer"):
        path.with_name("x.tmp").write_text(text)
        path.with_name("x.tmp").replace(path)
        reply = await client.request("/metadata/timestamp.json")
        assert reply.body.decode() == text
        assert reply.headers["cache-control"] == "no-cache"
        assert reply.headers["content-type"] == "application/json"
        again = await client.request("/metadata/timestamp.json", If_None_Match=reply.headers["etag"])
        assert again.status == 304
    path.unlink()
    assert (await client.request("/metadata/timestamp.json")).status == 404


async def test_a_bare_name_is_the_role_of_the_current_release(server, client):
    def put(name, **meta):
        signed = {"meta": {part: {"version": version} for part, version in meta.items()}, "name": name}
        (server.metadata / name).write_text(json.dumps({"signed": signed}))

    for number in (1, 2, 10):
        put(f"{number}.root.json")
    put("3.targets.json")
    put("4.targets.json")
    put("7.snapshot.json", **{"targets.json": 3})
    put("8.snapshot.json", **{"targets.json": 4})  # of a release that is being made
    put("timestamp.json", **{"snapshot.json": 7})
    for name, numbered in (("root", 10), ("targets", 3), ("snapshot", 7)):
        reply = await client.request(f"/metadata/{name}.json")
        assert json.loads(reply.body)["signed"]["name"] == f"{numbered}.{name}.json"
        assert reply.headers["cache-control"] == "no-cache"


@pytest.mark.parametrize("name", ["root", "targets", "snapshot"])
async def test_a_bare_name_before_any_release_is_404(client, name):
    assert (await client.request(f"/metadata/{name}.json")).status == 404


async def test_versioned_metadata_is_immutable(server, client):
    (server.metadata / "1.root.json").write_bytes(b"{}")
    reply = await client.request("/metadata/1.root.json", Range="bytes=1-1")
    assert (reply.status, reply.body) == (206, b"}")
    assert reply.headers["cache-control"].endswith("immutable")


async def test_the_catalog_by_both_names(server, client):
    plain = await client.request("/targets/catalog.json")
    hashed = await client.request(f"/targets/{SMALL_NAME}.catalog.json")
    assert plain.body == hashed.body == SMALL
    assert plain.headers["cache-control"] == "no-cache"
    assert hashed.headers["cache-control"].endswith("immutable")
    assert plain.headers["etag"] == hashed.headers["etag"] == f'"{SMALL_NAME}"'
    server.catalog = None
    assert (await client.request("/targets/catalog.json")).status == 404


async def test_a_client_that_stops_reading_is_cut_off(tmp_path):
    async with Running(tmp_path, stall_s=0.3) as server:
        big = os.urandom(1 << 16) * 512  # 32 MiB: more than both sockets' buffers hold
        staged, digest, size = stage(tmp_path / "s", big)
        await server.local.put(staged, digest, size)
        connection = await Connection.open(server.port, limit=1 << 10)
        await connection.send(f"GET /blobs/{digest} HTTP/1.1\r\nHost: x\r\n\r\n")
        async with asyncio.timeout(60):
            while not server.metrics.value("answers_broken", resource="blobs", reason="stalled"):
                await asyncio.sleep(0.02)
        await connection.close()
        server.check_identity()


@pytest.mark.parametrize("remote", [False, True], ids=["local", "elsewhere"])
async def test_a_slow_client_that_takes_bytes_all_the_time_is_not_cut_off(tmp_path, remote):
    rate = 1_000_000  # bytes a second: a portion of 1 MiB takes longer than the stall deadline
    async with Running(tmp_path, remote=remote, stall_s=0.5) as server:
        staged, digest, size = stage(tmp_path / "s", bytes(2_000_000))
        await server.local.put(staged, digest, size)
        loop = asyncio.get_running_loop()
        client = socket.socket()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 32_768)
        client.setblocking(False)
        await loop.sock_connect(client, ("127.0.0.1", server.port))
        while not server.runner.server.connections:
            await asyncio.sleep(0.01)
        (there,) = server.runner.server.connections
        # As on a long thin line, whose buffers do not hold the whole answer at once.
        there.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 32_768)
        await loop.sock_sendall(client, f"GET /blobs/{digest} HTTP/1.0\r\n\r\n".encode())
        got, began_s = 0, loop.time()
        while portion := await loop.sock_recv(client, rate // 20):
            got += len(portion)
            await asyncio.sleep(began_s + got / rate - loop.time())
        client.close()
        assert got > size
        assert server.metrics.value("answers_completed", resource="blobs") == 1


async def test_a_client_that_leaves_is_counted(tmp_path):
    async with Running(tmp_path) as server:
        staged, digest, size = stage(tmp_path / "s", bytes(64 << 20))
        await server.local.put(staged, digest, size)
        connection = await Connection.open(server.port, limit=1 << 10)
        await connection.send(f"GET /blobs/{digest} HTTP/1.1\r\nHost: x\r\n\r\n")
        await connection.reader.readuntil(b"\r\n\r\n")
        connection.writer.transport.abort()
        async with asyncio.timeout(60):
            while not server.metrics.value("answers_broken", resource="blobs", reason="left"):
                await asyncio.sleep(0.02)
        server.check_identity()


async def test_a_blob_that_ends_early_elsewhere_breaks_the_connection(tmp_path):
    async with Running(tmp_path, remote=True) as server:

        async def promised(_):
            return SIZE

        server.storage.size = promised
        os.truncate(server.local.local_path(Digest(NAME)), 1000)
        connection = await Connection.open(server.port)
        await connection.send(f"GET /blobs/{NAME} HTTP/1.1\r\nHost: x\r\n\r\n")
        await connection.reader.readuntil(b"\r\n\r\n")
        with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
            await connection.reader.readexactly(SIZE)
        await connection.close()
        assert server.metrics.value("answers_broken", resource="blobs", reason="storage") == 1


async def test_a_file_cut_while_it_is_sent_breaks_the_connection(tmp_path):
    async with Running(tmp_path) as server:
        staged, digest, size = stage(tmp_path / "s", bytes(64 << 20))
        await server.local.put(staged, digest, size)
        connection = await Connection.open(server.port, limit=1 << 10)
        await connection.send(f"GET /blobs/{digest} HTTP/1.1\r\nHost: x\r\n\r\n")
        await connection.reader.readuntil(b"\r\n\r\n")
        os.truncate(server.local.local_path(digest), 0)
        with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
            await connection.reader.readexactly(size)
        await connection.close()
        assert server.metrics.value("answers_broken", resource="blobs", reason="storage") == 1
