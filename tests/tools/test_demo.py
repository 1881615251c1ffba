"""The demo: the whole story once, and that it ends with everything that it started; its parts apart."""

from __future__ import annotations

import asyncio
import io
import os
import re
import signal
import subprocess
from pathlib import Path

import pytest
from aiohttp import ClientSession, web
from rich.console import Console
from support.program import PROGRAM, get

from manifests.errors import BusyError, ConfigurationError
from manifests.model import Catalog, Courseware, File, Patch
from manifests.pieces import BlobRef
from tools.demo import fresh_directory
from tools.demo_table import Purpose, SyncRow, digests_of, naive_bytes, purpose_of, sort_traffic, traffic_table
from tools.output import Language, Output
from tools.relay import Exchange, open_relay

A, B, C, D, E = (letter * 64 for letter in "abcde")


def _running(directory: Path) -> list[int]:
    """Processes whose command line names the directory."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if os.fsencode(directory) in path.read_bytes():
                found.append(int(path.parent.name))
        except OSError:
            continue
    return found


def test_the_whole_demo(tmp_path: Path) -> None:
    directory = tmp_path / "demo"
    command = [*PROGRAM, "demo", "--dir", str(directory), "--port", "0", "--no-browser"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        lines: list[str] = []
        while not (lines and lines[-1].startswith("http://")):
            lines.append(process.stdout.readline())
            assert lines[-1], process.communicate()[1]
        portal = lines[-1].strip()
        text = "".join(lines)
        for words in ("中牟县", "兰考县", "首次同步", "一课剪去片头", "撤回一课", "99."):
            assert words in text
        page = get(portal).body.decode()
        assert "冬小麦田间管理" in page
        assert "村级财务管理" not in page
        assert len(_running(directory)) >= 3
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=60)
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()
    assert (process.returncode, out, err) == (0, "", "")
    assert _running(directory) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_early_end_leaves_nothing_running(tmp_path: Path, number: signal.Signals) -> None:
    directory = tmp_path / "demo"
    command = [*PROGRAM, "demo", "--dir", str(directory), "--port", "0", "--no-browser"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline().startswith("[")
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert err.strip() == ""
    assert _running(directory) == []


def test_a_directory_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(ConfigurationError), fresh_directory(tmp_path):
        pass
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


def test_an_earlier_demo_is_cleared_and_a_running_one_is_not(tmp_path: Path) -> None:
    with fresh_directory(tmp_path / "demo"):
        (tmp_path / "demo" / "edge").mkdir()
        (tmp_path / "demo" / "edge" / "x").write_text("x")
        (tmp_path / "outside").write_text("x")
        (tmp_path / "demo" / "link").symlink_to(tmp_path / "outside")
        with pytest.raises(BusyError), fresh_directory(tmp_path / "demo"):
            pass
        assert (tmp_path / "demo" / "edge" / "x").exists()
    with fresh_directory(tmp_path / "demo"):
        assert [path.name for path in (tmp_path / "demo").iterdir()] == [".yuanjiao-demo"]
    assert (tmp_path / "outside").exists()


def _catalog() -> Catalog:
    patch = Patch(source=D, blob=C, size=10)
    file = File(role="video", name="a.mp4", media_type="video/mp4", blob=A, size=1 << 20, table=B, patches=(patch,))
    at = "2026-11-24T00:00:00Z"
    item = Courseware(id="a", version=1, title="a", kind="video", audience=("410000",), published=at, files=(file,))
    return Catalog(
        format="yuanjiao-catalog",
        major=1,
        publisher="410000",
        version=1,
        issued=at,
        courseware=(item,),
    )


def test_traffic_is_sorted_by_purpose() -> None:
    catalog = _catalog()
    digests = digests_of([catalog], [BlobRef(E, 9, None)])  # type: ignore[arg-type]
    paths = {
        "/metadata/timestamp.json": Purpose.METADATA,
        f"/blobs/{A}": Purpose.PIECE,
        f"/blobs/{B}": Purpose.TABLE,
        f"/blobs/{C}": Purpose.PATCH,
        f"/blobs/{E}": Purpose.CATALOG,
        f"/blobs/{'f' * 64}": Purpose.CATALOG,  # a patch between catalogs
    }
    assert {path: purpose_of(path, digests) for path in paths} == paths
    crossed = sort_traffic([Exchange("GET", path, 200, 10, 90) for path in paths], digests)
    assert crossed[Purpose.CATALOG] == 200
    assert sum(crossed.values()) == 600
    assert naive_bytes(500, catalog.courseware) == 500 + (1 << 20)


@pytest.mark.parametrize("language", list(Language))
def test_table_shows_what_was_saved(language: Language) -> None:
    crossed = dict.fromkeys(Purpose, 0) | {Purpose.PATCH: 1024}
    row = SyncRow("中牟县", "一课剪去片头", crossed, 1 << 20, 5, 0.5)
    console = Console(width=160, record=True, file=io.StringIO())
    console.print(traffic_table([row], Output(language)))
    assert re.search(r"1\.0 KiB.*1\.0 MiB.*99\.9%", console.export_text())


async def test_relay_counts_every_byte_and_passes_them_unchanged() -> None:
    body = os.urandom(300_000)

    async def answer(request: web.Request) -> web.Response:
        if request.path == "/none":
            return web.Response(status=304)
        return web.Response(body=body, headers={"X-Path": request.path})

    app = web.Application()
    app.router.add_get("/{name}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        async with open_relay("127.0.0.1", runner.addresses[0][1]) as relay, ClientSession() as session:
            for _ in range(3):
                async with session.get(f"{relay.url}/big") as reply:
                    assert await reply.read() == body
            async with session.head(f"{relay.url}/head") as reply:
                assert reply.status == 200
            async with session.get(f"{relay.url}/none") as reply:
                assert reply.status == 304
            exchanges = relay.drain()
            assert relay.exchanges == []
    finally:
        await runner.cleanup()
    assert [one.path for one in exchanges] == ["/big", "/big", "/big", "/head", "/none"]
    assert [one.status for one in exchanges] == [200, 200, 200, 200, 304]
    assert all(len(body) + 50 < one.received_bytes < len(body) + 500 for one in exchanges[:3])
    assert all(0 < one.received_bytes < 500 for one in exchanges[3:])
    assert all(20 < one.sent_bytes < 500 for one in exchanges)


async def test_relay_survives_a_dead_upstream() -> None:
    async with open_relay("127.0.0.1", 9) as relay:
        reader, writer = await asyncio.open_connection("127.0.0.1", int(relay.url.rpartition(":")[2]))
        assert await reader.read() == b""
        writer.close()
