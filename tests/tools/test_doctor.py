"""Doctor's checks one by one: each finds its fault, says what to do, and is quiet when all is well."""

from __future__ import annotations

import asyncio
import socket
import sqlite3
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from email.utils import format_datetime
from pathlib import Path

import pytest
from aiohttp import web

from manifests.instants import Instant
from tools import doctor_machine as machine
from tools.doctor_edge import check_upstreams
from tools.doctor_model import Area, Finding, Level, check_expiry, verdict, verdict_error

NOW = Instant(1_795_000_000)
REMEDY = ("do it", "处理")
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def _levels(findings: object) -> list[Level]:
    return [one.level for one in findings]  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("behind_s", "level"),
    [(-86400, Level.OK), (0, Level.OK), (300, Level.OK), (301, Level.FAIL), (94_608_000, Level.FAIL)],
)
def test_clock_against_signed_time(behind_s: int, level: Level) -> None:
    found = machine.check_clock(NOW, Instant(NOW + behind_s), "the timestamp")
    assert found.level is level
    assert bool(found.remedy) is (level is Level.FAIL)


def test_clock_with_nothing_signed() -> None:
    assert machine.check_clock(NOW, None, "").level is Level.OK


def test_zone(monkeypatch: pytest.MonkeyPatch) -> None:
    assert machine.check_zone(NOW).level in {Level.OK, Level.WARN}


@pytest.mark.parametrize(
    ("reserve_bytes", "level"), [(0, Level.OK), (1 << 60, Level.FAIL)], ids=["plenty", "reserve reached"]
)
def test_free_space(tmp_path: Path, reserve_bytes: int, level: Level) -> None:
    found = list(machine.check_free(tmp_path, reserve_bytes))
    assert found[0].id == "disk.free"
    assert found[0].level is level
    assert found[0].area is Area.STORAGE


def test_absent_disk(tmp_path: Path) -> None:
    assert _levels(machine.check_free(tmp_path / "gone", 0)) == [Level.FAIL]
    assert machine.check_write(tmp_path / "gone").level is Level.FAIL
    assert _levels(machine.check_directories([tmp_path / "gone"])) == [Level.FAIL]


def test_write_probe_leaves_nothing(tmp_path: Path) -> None:
    assert machine.check_write(tmp_path).level in {Level.OK, Level.WARN}
    assert list(tmp_path.iterdir()) == []


def test_directories(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    assert _levels(machine.check_directories([tmp_path])) == [Level.OK]
    tmp_path.chmod(0o777)
    assert _levels(machine.check_directories([tmp_path])) == [Level.FAIL]


@pytest.mark.parametrize(
    ("mode", "level"), [(0o600, Level.OK), (0o400, Level.OK), (0o640, Level.FAIL), (0o604, Level.FAIL)]
)
def test_private_file(tmp_path: Path, mode: int, level: Level) -> None:
    key = tmp_path / "key.pem"
    key.write_text("x")
    key.chmod(mode)
    found = machine.check_private(key, "permissions.key")
    assert found.level is level
    assert ("chmod 600" in found.remedy) is (level is Level.FAIL)


def test_private_file_that_is_absent(tmp_path: Path) -> None:
    assert machine.check_private(tmp_path / "key.pem", "permissions.key").level is Level.FAIL


def test_sqlite(tmp_path: Path) -> None:
    path = tmp_path / "index.sqlite"
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE t (x TEXT)")
        db.executemany("INSERT INTO t VALUES (?)", [("a" * 500,)] * 500)
    db.close()
    assert machine.check_sqlite(path, "index", REMEDY).level is Level.OK
    data = bytearray(path.read_bytes())
    data[8192:16384] = b"\x55" * 8192
    path.write_bytes(data)
    assert machine.check_sqlite(path, "index", REMEDY).level is Level.FAIL
    path.write_bytes(b"this is no database" * 100)
    assert machine.check_sqlite(path, "index", REMEDY).level is Level.FAIL


async def _serve(handler: Handler, path: str) -> tuple[web.AppRunner, int]:
    app = web.Application()
    app.router.add_get(path, handler)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    return runner, runner.addresses[0][1]


async def test_port() -> None:
    assert (await machine.check_port("127.0.0.1", 0)).level is Level.OK
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen(1)
        port = taken.getsockname()[1]
        task = asyncio.create_task(machine.check_port("127.0.0.1", port))
        connection, _ = await asyncio.to_thread(taken.accept)
        connection.sendall(b"SSH-2.0-OpenSSH\r\n")
        connection.close()
        found = await task
    assert found.level is Level.FAIL
    assert f"{port}" in found.remedy
    assert (await machine.check_port("127.0.0.1", port)).level is Level.OK


async def test_port_that_we_serve() -> None:
    async def health(_request: web.Request) -> web.Response:
        return web.json_response({"status": "ok", "catalog_version": 3})

    runner, port = await _serve(health, "/healthz")
    try:
        assert (await machine.check_port("127.0.0.1", port)).level is Level.OK
    finally:
        await runner.cleanup()


def _timestamp(offset_s: int = 0, status: int = 200, body: bytes = b'{"signed": {"_type": "timestamp"}}') -> Handler:
    async def answer(_request: web.Request) -> web.Response:
        date = format_datetime(datetime.fromtimestamp(NOW + offset_s, UTC), usegmt=True)
        return web.Response(body=body, status=status, headers={"Date": date})

    return answer


async def _check(*handlers: Handler, more: tuple[str, ...] = ()) -> list[Finding]:
    started = [await _serve(handler, "/metadata/timestamp.json") for handler in handlers]
    try:
        urls = tuple(f"http://127.0.0.1:{port}" for _, port in started) + more
        return [one async for one in check_upstreams(urls, NOW)]
    finally:
        for runner, _ in started:
            await runner.cleanup()


async def test_upstream_that_answers() -> None:
    assert _levels(await _check(_timestamp())) == [Level.OK, Level.OK]


@pytest.mark.parametrize(("offset_s", "level"), [(300, Level.OK), (301, Level.FAIL), (-301, Level.FAIL)])
async def test_clock_against_the_upstream(offset_s: int, level: Level) -> None:
    assert (await _check(_timestamp(offset_s)))[1].level is level


@pytest.mark.parametrize(
    "handler",
    [_timestamp(status=404), _timestamp(status=500), _timestamp(status=302), _timestamp(body=b"<html>log in</html>")],
    ids=["404", "500", "redirect", "login page"],
)
async def test_upstream_that_answers_something_else(handler: Handler) -> None:
    (found,) = await _check(handler)
    assert (found.level, found.area) == (Level.FAIL, Area.TRANSFER)
    assert found.remedy
    assert found.remedy_zh


@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "http://no-such-host.invalid:8080"])
async def test_upstream_that_is_not_there(url: str) -> None:
    assert _levels(await _check(more=(url,))) == [Level.FAIL]
    # With another one that works it is only a warning.
    assert _levels(await _check(_timestamp(), more=(url,))) == [Level.OK, Level.OK, Level.WARN]


async def test_no_upstream() -> None:
    assert _levels(await _check()) == [Level.FAIL]


@pytest.mark.parametrize(("left_s", "level"), [(-1, Level.FAIL), (0, Level.FAIL), (3599, Level.WARN), (3600, Level.OK)])
def test_expiry(left_s: int, level: Level) -> None:
    assert check_expiry("root", Instant(NOW + left_s), NOW, 3600, REMEDY).level is level


def _finding(area: Area, level: Level) -> Finding:
    return Finding("x", level, area, f"{area} {level}", "", "do", "做")


def test_verdict_takes_the_worst_and_the_first_to_mend() -> None:
    ok, warn = _finding(Area.STORAGE, Level.OK), _finding(Area.STORAGE, Level.WARN)
    assert verdict([ok]) is Level.OK
    assert verdict([ok, warn]) is Level.WARN
    assert verdict_error([ok, warn]) is None
    codes = {Area.CONFIGURATION: 2, Area.TRUST: 3, Area.TRANSFER: 4, Area.STORAGE: 5}
    for area, code in codes.items():
        error = verdict_error([ok, warn, _finding(area, Level.FAIL)])
        assert error is not None
        assert error.exit_code == code
    every = [_finding(area, Level.FAIL) for area in codes]
    error = verdict_error(every)
    assert error is not None
    assert error.exit_code == 5
    assert "3 more" in error.message
