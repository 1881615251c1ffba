"""Uploads by tus: what the protocol demands, what a broken line costs, who may and how much."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from pathlib import Path

import pytest
from sqlalchemy import update
from support.console import CITY, OTHER_CITY, PROVINCE, Console, console_at
from support.media import make_png
from support.origins import copy_origin, found_origin
from support.releases import AddressIn
from support.uploads import OCTETS, Sender, intake_of, make_token, sender

from origin.accounts.permissions import Role
from origin.database.engine import writing
from origin.database.tables_drafts import uploads

MIB = 1 << 20
TEXT = "# 冬小麦返青期管理\n\n先看苗情，再定水肥。\n".encode()


@pytest.fixture(scope="module")
def founded(address_in: AddressIn, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("founded") / "origin"
    return found_origin(root, address_in(root))


@pytest.fixture
async def console(founded: Path, tmp_path: Path) -> AsyncIterator[Console]:
    root = copy_origin(founded, tmp_path / "origin")
    small = {
        "uploads_file_bytes": str(64 * MIB),
        "uploads_account_bytes": str(100 * MIB),
        "uploads_account_files": "12",
    }
    async with console_at(root, **small, uploads_floor_bytes="0") as opened:
        yield opened


@pytest.fixture
async def studio(console: Console) -> Sender:
    return sender(await console.person("studio", Role.CONTRIBUTOR, CITY))


def _files(console: Console) -> list[Path]:
    return sorted(one for one in console.origin.paths.uploads.glob("*/*") if one.is_file())


def _is_held(path: Path) -> bool:
    # By looking, not by trying: a lock of ours, however short, would be in the way.
    return any(f":{path.stat().st_ino} " in line for line in Path("/proc/locks").read_text().splitlines())


async def _until(fact: Callable[[], bool]) -> None:
    for _ in range(1000):
        if fact():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it never came true")


async def test_the_server_says_what_it_can_to_everybody(console: Console) -> None:
    told = await sender(console.browser()).ask("OPTIONS", "/api/v1/uploads")
    assert told.status == 204
    assert told.headers["Tus-Version"] == "1.0.0"
    assert set(told.headers["Tus-Extension"].split(",")) == {"creation", "checksum", "expiration", "termination"}
    assert told.headers["Tus-Max-Size"] == str(64 * MIB)
    assert "sha1" in told.headers["Tus-Checksum-Algorithm"].split(",")


async def test_a_file_comes_in_pieces_and_is_what_was_sent(console: Console, studio: Sender) -> None:
    data = TEXT * 60_000
    path = await studio.begin("小麦.md", len(data))
    at = 0
    for size in (1, 70_000, 1_500_000, len(data)):
        told = await studio.send(path, at, data[at : at + size])
        at = min(at + size, len(data))
        assert (told.status, told.offset) == (204, at)
        assert ("Upload-Expires" in told.headers) == (at < len(data))
        stands = await studio.head(path)
        assert (stands.status, stands.offset, stands.headers["Upload-Length"]) == (200, at, str(len(data)))
        assert stands.headers["Cache-Control"] == "no-store"
        assert at == len(data) or _files(console)[0].read_bytes()[:at] == data[:at]
        assert stands.headers["Upload-Metadata"] == f"filename {base64.b64encode('小麦.md'.encode()).decode()}"
    found = await studio.checked(path)
    assert found["sha256"] == hashlib.sha256(data).hexdigest()
    # Far longer than any article: the same rule as when it is published, and nothing is left behind.
    assert found["state"] == "refused"
    assert "小麦.md" in found["reason_zh"]
    assert _files(console) == []


async def test_what_is_found_in_a_file_is_told(studio: Sender, tmp_path: Path) -> None:
    found = await studio.checked(await studio.whole("讲义.md", TEXT))
    assert (found["state"], found["finding"]["kind"]) == ("ready", "article")
    found = await studio.checked(await studio.whole("图.png", make_png(tmp_path / "a.png", 20, 10).read_bytes()))
    assert (found["finding"]["media_type"], found["finding"]["width"]) == ("image/png", 20)
    found = await studio.checked(await studio.whole("假.mp4", TEXT))
    assert found["state"] == "refused"
    assert found["finding"] is None
    assert found["reason_zh"]


@pytest.mark.parametrize(
    ("method", "more", "status"),
    [
        ("PATCH", {"Tus_Resumable": "0.2.2"}, 412),
        ("HEAD", {"Tus_Resumable": "2"}, 412),
        ("DELETE", {"Tus_Resumable": "2"}, 412),
        ("PATCH", {"Content_Type": "application/json"}, 415),
        ("PATCH", {"Content_Encoding": "gzip"}, 415),
        ("PATCH", {"Upload_Offset": "1"}, 409),
        ("PATCH", {"Upload_Offset": "-1"}, 400),
        ("PATCH", {"Upload_Offset": "９"}, 400),
        ("PATCH", {"Upload_Offset": "1e3"}, 400),
        ("PATCH", {"Upload_Checksum": "crc32 AAAA"}, 400),
        ("PATCH", {"Upload_Checksum": "sha1"}, 400),
        ("POST", {}, 400),
    ],
)
async def test_what_the_protocol_refuses_changes_nothing(
    studio: Sender, method: str, more: dict[str, str], status: int
) -> None:
    path = await studio.begin("讲义.md", len(TEXT))
    fields = {"Upload_Offset": "0", "Content_Type": OCTETS, **more}
    told = await studio.ask(method, path, TEXT if method in {"PATCH", "POST"} else None, **fields)
    assert told.status == status
    assert told.headers["Tus-Resumable"] == "1.0.0"
    assert ("Tus-Version" in told.headers) == (status == 412)
    assert (await studio.head(path)).offset == 0
    assert (await studio.send(path, 0, TEXT)).status == 204


async def test_more_bytes_than_were_announced_are_refused(studio: Sender) -> None:
    path = await studio.begin("讲义.md", len(TEXT))
    assert (await studio.send(path, 0, TEXT + b"more")).status == 413

    async def unannounced() -> AsyncIterator[bytes]:
        yield TEXT
        yield b"more"

    assert (await studio.send(path, 0, unannounced())).status == 413
    at = (await studio.head(path)).offset
    assert (await studio.send(path, at, TEXT[at:])).status == 204
    assert (await studio.checked(path))["sha256"] == hashlib.sha256(TEXT).hexdigest()


async def test_a_chunk_with_a_wrong_checksum_leaves_nothing(console: Console, studio: Sender) -> None:
    path = await studio.begin("讲义.md", len(TEXT))
    for algorithm in ("sha1", "sha256", "md5"):
        right = base64.b64encode(hashlib.new(algorithm, TEXT[:20]).digest()).decode()
        wrong = base64.b64encode(hashlib.new(algorithm, b"else").digest()).decode()
        told = await studio.send(path, 0, TEXT[:20], Upload_Checksum=f"{algorithm} {wrong}")
        assert told.status == 460
        assert (await studio.head(path)).offset == 0
    assert (await studio.send(path, 0, TEXT[:20], Upload_Checksum=f"md5 {right}")).offset == 20
    assert (await studio.send(path, 20, TEXT[20:])).status == 204
    assert (await studio.checked(path))["sha256"] == hashlib.sha256(TEXT).hexdigest()


async def test_a_line_that_breaks_costs_what_was_in_flight_and_nothing_else(console: Console, studio: Sender) -> None:
    data = TEXT * 50
    path = await studio.begin("讲义.md", len(data))
    sent, go = asyncio.Event(), asyncio.Event()

    async def breaking() -> AsyncIterator[bytes]:
        yield data[:1000]
        sent.set()
        await go.wait()
        raise OSError("the line breaks")

    task = asyncio.create_task(studio.send(path, 0, breaking()))
    await sent.wait()
    await _until(lambda: _is_held(_files(console)[0]))
    assert (await studio.send(path, 0, data)).status == 423
    go.set()
    with pytest.raises(OSError, match="request body"):
        await task
    await _until(lambda: not _is_held(_files(console)[0]))
    assert (await studio.head(path)).offset == 1000
    assert (await studio.send(path, 1000, data[1000:])).offset == len(data)
    assert (await studio.checked(path))["sha256"] == hashlib.sha256(data).hexdigest()


async def test_who_sends_nothing_makes_way_for_who_comes_next(
    console: Console, studio: Sender, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = TEXT * 50
    path = await studio.begin("讲义.md", len(data))
    go = asyncio.Event()

    async def silent() -> AsyncIterator[bytes]:
        yield data[:1000]
        await go.wait()

    task = asyncio.create_task(studio.send(path, 0, silent()))
    await _until(lambda: _is_held(_files(console)[0]))
    assert (await studio.send(path, 0, data)).status == 423
    monkeypatch.setattr("origin.drafts.receiving.QUIET_S", 0.0)
    # The silent one is cut off; where it stood is told, and from there it goes on.
    told = await studio.send(path, 0, data)
    assert told.status in {204, 409}
    at = (await studio.head(path)).offset
    assert at in {1000, len(data)}
    if at == 1000:
        assert (await studio.send(path, 1000, data[1000:])).status == 204
    go.set()
    with suppress(OSError):
        assert (await task).status == 408
    assert (await studio.checked(path))["sha256"] == hashlib.sha256(data).hexdigest()


async def test_ten_senders_of_one_upload_make_one_file(console: Console, studio: Sender) -> None:
    data = TEXT * 20
    path = await studio.begin("讲义.md", len(data))
    every = await asyncio.gather(*(studio.send(path, 0, data) for _ in range(10)))
    statuses = sorted(told.status for told in every)
    assert statuses.count(204) == 1
    assert set(statuses) <= {204, 409, 423}
    assert (await studio.checked(path))["sha256"] == hashlib.sha256(data).hexdigest()


async def test_ten_uploads_of_one_file_are_ten_files(console: Console, studio: Sender) -> None:
    paths = await asyncio.gather(*(studio.whole("讲义.md", TEXT) for _ in range(10)))
    assert len(set(paths)) == 10
    for path in paths:
        assert (await studio.checked(path))["state"] == "ready"
    assert len(_files(console)) == 10


async def test_limits_are_told_before_the_first_byte(console: Console, studio: Sender) -> None:
    assert (await studio.create("大.mp4", 64 * MIB + 1)).status == 413
    assert (await studio.create("空.mp4", 0)).status == 400
    first = await studio.begin("大.mp4", 60 * MIB)
    refused = await studio.create("二.mp4", 60 * MIB)
    assert refused.status == 413
    assert "配额" in json.loads(refused.text)["error_zh"]
    assert (await studio.ask("DELETE", first)).status == 204
    assert (await studio.head(first)).status == 404
    assert (await studio.create("二.mp4", 60 * MIB)).status == 201
    for number in range(11):
        assert (await studio.create(f"{number}.md", 10)).status == 201
    assert (await studio.create("多.md", 10)).status == 413
    # Somebody else's quota is their own.
    other = sender(await console.person("other", Role.CONTRIBUTOR, OTHER_CITY))
    assert (await other.create("大.mp4", 60 * MIB)).status == 201


async def test_a_full_disk_lets_nothing_in_and_keeps_what_is_here(founded: Path, tmp_path: Path) -> None:
    root = copy_origin(founded, tmp_path / "origin")
    async with console_at(root, uploads_floor_bytes=str(1 << 43)) as console:
        person = sender(await console.person("studio", Role.CONTRIBUTOR, CITY))
        assert (await person.create("讲义.md", len(TEXT))).status == 507
        assert _files(console) == []


async def test_somebody_elses_upload_is_not_there(console: Console, studio: Sender) -> None:
    path = await studio.whole("讲义.md", TEXT)
    await studio.checked(path)
    near = sender(await console.person("near", Role.CONTRIBUTOR, CITY))
    far = sender(await console.person("far", Role.CITY_ADMIN, OTHER_CITY))
    watcher = sender(await console.person("watcher", Role.VIEWER, PROVINCE))
    nobody = sender(console.browser())
    for person in (near, far, watcher):
        for method in ("HEAD", "GET", "DELETE"):
            assert (await person.ask(method, path)).status == 404, (person, method)
        assert (await person.send(path, 0, TEXT)).status == 404
    assert (await watcher.create("讲义.md", 10)).status == 403
    for method in ("HEAD", "GET", "DELETE"):
        assert (await nobody.ask(method, path)).status == 401
    # Who reviews in the region may look, not touch.
    admin = sender(await console.person("admin", Role.CITY_ADMIN, CITY))
    assert (await admin.look(path))["name"] == "讲义.md"
    assert (await admin.ask("DELETE", path)).status == 404
    listed = json.loads((await studio.ask("GET", "/api/v1/uploads")).text)
    assert [one["id"] for one in listed["uploads"]] == [path.rpartition("/")[2]]
    assert listed["held_bytes"] == len(TEXT)


async def test_a_change_from_another_site_is_refused(console: Console, studio: Sender) -> None:
    path = await studio.begin("讲义.md", len(TEXT))
    for method in ("PATCH", "DELETE"):
        fields = {"Upload_Offset": "0", "Content_Type": OCTETS, "Origin": "https://evil.example"}
        assert (await studio.ask(method, path, TEXT, **fields)).status == 403
    assert (await studio.head(path)).offset == 0


async def test_a_session_that_ends_in_mid_upload_costs_nothing(console: Console) -> None:
    browser = await console.person("studio", Role.CONTRIBUTOR, CITY)
    studio = sender(browser)
    data = TEXT * 1000
    path = await studio.begin("讲义.txt", len(data))
    assert (await studio.send(path, 0, data[:30_000])).status == 204
    console.clock.now += 30 * 86400 // 10  # three days: longer than a session may be idle
    told = await studio.send(path, 30_000, data[30_000:])
    assert told.status == 401
    assert (await studio.head(path)).status == 401
    await browser.sign_in("studio")
    assert (await studio.head(path)).offset == 30_000
    assert (await studio.send(path, 30_000, data[30_000:])).offset == len(data)
    assert (await studio.checked(path))["sha256"] == hashlib.sha256(data).hexdigest()


async def test_a_session_that_is_ended_while_bytes_flow_stops_them(
    console: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("origin.web.tus._COUNT_S", 0.0)
    browser = await console.person("studio", Role.CONTRIBUTOR, CITY)
    studio = sender(browser)
    size = 8 * MIB
    path = await studio.begin("课.mp4", size)

    async def flowing() -> AsyncIterator[bytes]:
        yield b"x" * (2 * MIB)
        await browser.submit("/console/me", "/console/logout")
        for _ in range(6):
            yield b"x" * MIB

    with suppress(OSError):  # it was still sending when the other side had enough
        assert (await studio.send(path, 0, flowing())).status == 401
    await browser.sign_in("studio")
    assert 0 < (await studio.head(path)).offset < size


async def test_what_nobody_wants_expires(console: Console, studio: Sender) -> None:
    part = await studio.begin("半.mp4", 1000)
    await studio.send(part, 0, b"x" * 10)
    whole = await studio.whole("讲义.md", TEXT)
    await studio.checked(whole)
    intake = intake_of(console)
    assert await intake.sweep() == 0
    stranger = console.origin.paths.uploads / ("0" * 32)
    stranger.mkdir()
    console.clock.now += 15 * 86400
    assert await intake.sweep(wall=lambda: stranger.stat().st_mtime + 2 * 86400) == 3
    assert _files(console) == []
    assert not stranger.exists()


async def test_an_upload_whose_bytes_are_gone_is_begun_anew(console: Console, studio: Sender) -> None:
    path = await studio.begin("讲义.md", len(TEXT))
    assert (await studio.send(path, 0, TEXT[:20])).offset == 20
    shutil.rmtree(_files(console)[0].parent)
    assert (await studio.head(path)).status == 404
    assert (await studio.send(path, 20, TEXT[20:])).status == 503
    assert (await studio.ask("DELETE", path)).status == 204


async def test_another_machines_upload_is_not_taken_for_lost(console: Console, studio: Sender) -> None:
    path = await studio.begin("讲义.md", len(TEXT))
    async with writing(console.origin.engine) as connection:
        await connection.execute(update(uploads).values(place="elsewhere"))
    assert (await studio.head(path)).status == 503
    assert (await studio.send(path, 0, TEXT)).status == 503
    # Its own machine gives it up in time; if that is no more, any other does, much later.
    console.clock.now += 20 * 86400
    assert await intake_of(console).sweep() == 0
    console.clock.now += 40 * 86400
    assert await intake_of(console).sweep() == 1


async def test_a_token_sends_files_without_a_session(console: Console) -> None:
    browser = await console.person("admin", Role.PROVINCE_ADMIN, PROVINCE)
    script = sender(console.browser(), await make_token(browser, "lessons:publish"))
    assert (await script.checked(await script.whole("讲义.md", TEXT)))["state"] == "ready"
    reader = sender(console.browser(), await make_token(browser, "lessons:read"))
    assert (await reader.create("讲义.md", 10)).status == 403
