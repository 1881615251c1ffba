"""An origin that sends edges to its bucket: who is sent there, who is not, and an edge that syncs that way."""

import dataclasses
import io
import logging
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
from support.edges import FAST, PATIENT
from support.media import make_pdf
from support.object_store import environment
from support.origins import request
from support.storage_contract import stage
from support.strict_store import StrictStore

from edge import app as edge_app
from manifests.bundle import encode_bundle
from manifests.errors import ObjectStorageError
from origin import app
from origin.clock import system_clock
from origin.opening import Origin
from origin.storage.s3 import open_s3
from origin.web.server import running
from tools.doctor_origin import check_origin
from tools.doctor_redirects import check_places
from tools.logs import configure_logs

ASKS = {"Yuanjiao-Redirects": "1"}


def document(path: Path) -> Path:
    """A document of several pieces."""
    make_pdf(path)
    path.write_bytes(path.read_bytes() + b"\n%" + os.urandom(600_000).hex().encode() + b"\n%%EOF\n")
    return path


async def found_at(root: Path, env: dict[str, str]) -> None:
    await app.init_origin(root, "410000", passphrase=None, clock=system_clock, env=env)


@asynccontextmanager
async def serving(root: Path, env: dict[str, str]) -> AsyncIterator[tuple[Origin, str]]:
    async with app.open_origin(root, env, system_clock) as origin:
        made = app.make_app(origin)
        async with running(made, "127.0.0.1", 0, origin.settings.serve, origin.metrics) as port:
            yield origin, f"http://127.0.0.1:{port}"


@pytest.fixture
async def guard(bucket) -> AsyncIterator[StrictStore]:
    async with StrictStore(bucket.endpoint).running() as running_guard:
        yield running_guard


@pytest.fixture
async def env(bucket, guard, tmp_path) -> dict[str, str]:
    """Of an origin whose edges reach its bucket through the guard."""
    env = environment(bucket) | {
        "YUANJIAO_STORAGE_REDIRECT_S": "600",
        "YUANJIAO_STORAGE_REDIRECT_ENDPOINT": guard.url,
    }
    await found_at(tmp_path / "origin", env)
    return env


async def test_only_who_asks_for_it_is_sent_to_the_bucket(env, guard, tmp_path) -> None:
    async with serving(tmp_path / "origin", env) as (origin, url), aiohttp.ClientSession() as session:
        data = document(tmp_path / "a.pdf").read_bytes()
        blob = (await app.publish(origin, request(tmp_path / "a.pdf", id="kj-1"))).files[0].blob

        async def ask(path: str, method: str = "GET", **headers: str) -> tuple[int, dict[str, str], bytes]:
            fields = {name.replace("_", "-"): value for name, value in headers.items()}
            async with session.request(method, url + path, headers=fields, allow_redirects=False) as answer:
                return answer.status, dict(answer.headers), await answer.read()

        status, fields, body = await ask(f"/blobs/{blob}", Yuanjiao_Redirects="1", Range="bytes=10-19")
        assert (status, body, fields["Cache-Control"]) == (307, b"", "no-store")
        assert fields["Location"].startswith(f"{guard.url}/")
        assert "X-Amz-Expires=600&" in fields["Location"]
        async with session.get(fields["Location"]) as answer:
            assert await answer.read() == data
        assert origin.metrics.value("redirects") == 1
        assert origin.metrics.value("answers", resource="blobs", status="307") == 1
        assert origin.metrics.value("answers_completed", resource="blobs") == 1
        assert origin.metrics.value("sent_bytes", resource="blobs") == 0

        assert (await ask(f"/blobs/{blob}"))[::2] == (200, data)
        assert (await ask(f"/blobs/{blob}", Yuanjiao_Redirects="0", Range="bytes=10-19"))[::2] == (206, data[10:20])
        assert (await ask(f"/blobs/{blob}", "HEAD", Yuanjiao_Redirects="1"))[0] == 200
        assert (await ask("/targets/catalog.json", Yuanjiao_Redirects="1"))[0] == 200
        assert (await ask("/metadata/timestamp.json", Yuanjiao_Redirects="1"))[0] == 200
        assert (await ask(f"/blobs/{'0' * 64}", Yuanjiao_Redirects="1"))[0] == 404
        assert (await ask("/blobs/nonsense", Yuanjiao_Redirects="1"))[0] == 404
        assert origin.metrics.value("redirects") == 1


@pytest.mark.parametrize("kind", ["local", "s3"])
async def test_nobody_is_sent_anywhere_without_the_setting(bucket, tmp_path, kind) -> None:
    env = environment(bucket) if kind == "s3" else {"YUANJIAO_STORAGE_REDIRECT_S": "600"}
    await found_at(tmp_path / "origin", env)
    async with serving(tmp_path / "origin", env) as (origin, url), aiohttp.ClientSession() as session:
        blob = (await app.publish(origin, request(document(tmp_path / "a.pdf"), id="kj-1"))).files[0].blob
        async with session.get(f"{url}/blobs/{blob}", headers=ASKS, allow_redirects=False) as answer:
            assert answer.status == 200


async def test_an_edge_syncs_from_the_bucket_and_through_the_origin_where_that_fails(env, guard, tmp_path) -> None:
    out = io.StringIO()
    configure_logs(out, terminal=False, level=logging.DEBUG)
    async with serving(tmp_path / "origin", env) as (origin, url):
        file = (await app.publish(origin, request(document(tmp_path / "a.pdf"), id="kj-1"))).files[0]
        bundle = encode_bundle(await app.enroll(origin, "410122", (url,)))
        own = FAST | {f"YUANJIAO_{name.upper()}": value for name, value in PATIENT.items()}
        followed = own | {"YUANJIAO_UPSTREAM_REDIRECTS": guard.url.removeprefix("http://")}

        async def sync(name: str, edge_env: dict[str, str]) -> None:
            edge_app.init_edge(tmp_path / name, bundle, system_clock)
            async with edge_app.open_edge(tmp_path / name, edge_env, system_clock) as edge:
                assert (await edge_app.sync(edge, now=True)).complete
                assert edge.store.path(file.blob).read_bytes() == (tmp_path / "a.pdf").read_bytes()

        await sync("edge", followed)
        assert {path.rpartition("/")[2] for path, _ in guard.passed} >= {file.blob, file.table}
        assert guard.refused == []
        assert origin.metrics.value("sent_bytes", resource="blobs") == 0, "metadata and the catalog, nothing else"

        # The bucket's clock is so far ahead that whatever is signed has ended.
        guard.ahead_s = 700
        await sync("late", followed)
        assert guard.refused[:2] == ["RequestHasExpired"] * 2
        assert origin.metrics.value("sent_bytes", resource="blobs") >= file.size

        guard.passed.clear()
        await sync("plain", own)
        assert guard.passed == []
    logged = out.getvalue()
    assert "by way of" in logged
    assert "X-Amz-Signature=" not in logged.replace("X-Amz-Signature=[redacted]", "")


async def test_what_is_signed_is_for_one_blob_one_host_and_a_while(bucket, guard, tmp_path) -> None:
    staged, digest, size = stage(tmp_path / "s", b"lesson")
    options = dataclasses.replace(bucket, redirect_s=60, redirect_endpoint=guard.url)
    async with open_s3(options) as storage, aiohttp.ClientSession() as session:
        await storage.put(staged, digest, size)
        address = await storage.address(digest)
        assert address is not None
        for changed, status in (
            (address, 200),
            (address.replace(digest, "0" * 64), 403),
            (address.replace("X-Amz-Expires=60", "X-Amz-Expires=3600"), 403),
            (address.replace("127.0.0.1", "localhost"), 403),
            (address.partition("?")[0], 403),
        ):
            async with session.get(changed) as answer:
                assert answer.status == status
        guard.ahead_s = 61
        async with session.get(address) as answer:
            assert answer.status == 403
    async with open_s3(dataclasses.replace(options, endpoint="http://127.0.0.1:9", attempts=1)) as storage:
        with pytest.raises(ObjectStorageError):
            await storage.address(digest)


async def test_doctor_tries_an_address(env, guard, tmp_path) -> None:
    async def found(root: Path, env: dict[str, str]) -> tuple[str, str]:
        findings = await check_origin(root, env, system_clock())
        one = next(one for one in findings if one.id == "storage.redirects")
        assert "Signature" not in one.what + one.remedy
        return one.level, one.what + one.remedy

    assert (await found(tmp_path / "origin", env))[0] == "ok"
    guard.ahead_s = 700
    level, text = await found(tmp_path / "origin", env)
    assert (level, "clock" in text) == ("fail", True)
    env["YUANJIAO_STORAGE_REDIRECT_ENDPOINT"] = "http://127.0.0.1:9"
    level, text = await found(tmp_path / "origin", env)
    assert (level, "storage.redirect_endpoint" in text) == ("warn", True)
    await found_at(tmp_path / "local", {})
    assert (await found(tmp_path / "local", {"YUANJIAO_STORAGE_REDIRECT_S": "9"}))[0] == "warn"


async def test_doctor_of_an_edge_knocks_at_each_place(guard) -> None:
    places = (guard.url.removeprefix("http://"), "127.0.0.1:9", "no-such-host.invalid")
    assert [one.level async for one in check_places(places)] == ["ok", "warn", "warn"]
