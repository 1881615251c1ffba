"""Releasing drafts: killed anywhere and taken up again, several processes, faults that are said and lose nothing."""

from __future__ import annotations

import asyncio
import hashlib
import json
import multiprocessing
import os
import shutil
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from support.console import PROVINCE, Browser, Console, console_at
from support.drafts import call, get, make_draft, release_due, save, step, upload
from support.media import make_mp4, make_png
from support.origins import copy_origin, found_origin, staged
from support.program import spawn
from support.receipts import article
from support.releases import AddressIn

from manifests.errors import BusyError
from origin import app
from origin.accounts.permissions import Role
from origin.clock import system_clock
from origin.database.engine import reading
from origin.database.listings import lesson_versions
from origin.publish.failpoints import DRAFT_POINTS, INGEST_POINTS, PUBLISH_POINTS, VARIABLE
from origin.publish.piloting import Pilots

POINTS = (*DRAFT_POINTS, *INGEST_POINTS[:1], *PUBLISH_POINTS)


@pytest.fixture(scope="module")
def founded(tmp_path_factory: pytest.TempPathFactory, address_in: AddressIn) -> Path:
    root = tmp_path_factory.mktemp("founded") / "origin"
    return found_origin(root, address_in(root))


@pytest.fixture
async def console(founded: Path, tmp_path: Path) -> AsyncIterator[Console]:
    async with console_at(copy_origin(founded, tmp_path / "origin")) as opened:
        yield opened


async def approved(console: Console, tmp_path: Path, **words: Any) -> tuple[Browser, dict[str, Any]]:
    """A draft that another person approved, and whoever may release it."""
    writer = await console.person("writer", Role.PROVINCE_ADMIN, PROVINCE)
    reviewer = await console.person("reviewer", Role.REVIEWER, PROVINCE)
    video = await upload(console, "writer", make_mp4(tmp_path / "麦田.mp4"))
    files = [{"upload": video, "name": "麦田.mp4"}]
    words = {"title": "小麦春管", "article": "<p>返青</p>", "columns": ["农业技术"], "files": files} | words
    draft = await make_draft(writer, **words)
    _, draft = await step(writer, draft, "submit")
    _, draft = await step(reviewer, draft, "approve")
    return writer, draft


def _release(root: str, point: str) -> None:
    os.environ[VARIABLE] = point

    async def run() -> None:
        async with app.open_origin(Path(root), {}, system_clock) as origin:
            await origin.drafts.releasing.run_due()

    asyncio.run(run())


def _die_at(root: Path, point: str) -> None:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    process = context.Process(target=_release, args=(str(root), point))
    process.start()
    process.join(120)
    assert process.exitcode == -signal.SIGKILL, point


@pytest.mark.timeout(600)  # as many processes as there are points, each with a database of its own
async def test_killed_at_any_point_it_is_released_once(founded: Path, tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    async with console_at(copy_origin(founded, ready)) as console:
        writer, draft = await approved(console, tmp_path)
        await step(writer, draft, "release")
    for point in POINTS:
        root = copy_origin(ready, tmp_path / point.replace(":", "-"))
        await asyncio.to_thread(_die_at, root, point)
        async with app.open_origin(root, {}, system_clock) as origin:
            await origin.drafts.releasing.run_due()
            assert await origin.drafts.releasing.run_due() == 0
            async with reading(origin.engine) as connection:
                found = await _draft(connection)
                versions = await lesson_versions(connection, found.courseware)
            # A number that was given out before the kill does not come back: there is one version, whatever its number.
            assert [one.number for one in versions] == [found.version], point
            assert found.state == "released", point
            _, catalog = await origin.releases.current_catalog()
            assert [one.title for one in catalog.courseware] == ["小麦春管"]
        assert staged(root) == []


async def test_what_goes_to_some_regions_first_is_released_once_too(founded: Path, tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    async with console_at(Path(shutil.copytree(founded, ready))) as console:
        writer, draft = await approved(console, tmp_path)
        for waves, status in (([["没有的县"]], 400), ([["110101"]], 400), ([["中牟县"], ["410200"]], 200)):
            body = {"step": "release", "revision": draft["revision"], "pilot": waves}
            got, _ = await call(writer, "POST", f"/drafts/{draft['number']}/step", body)
            assert got == status
    for point in ("draft:published", "publish:begun", "publish:timestamp-renamed"):
        root = Path(shutil.copytree(ready, tmp_path / point.replace(":", "-")))
        await asyncio.to_thread(_die_at, root, point)
        async with app.open_origin(root, {}, system_clock) as origin:
            await origin.drafts.releasing.run_due()
            async with reading(origin.engine) as connection:
                found = await _draft(connection)
            assert found.state == "released", point
            (looked,) = await Pilots(origin.releases).look_at_all()
            assert looked.pilot.waves == (("410122",), ("410200",))
            assert looked.pilot.version == found.version
            _, catalog = await origin.releases.current_catalog()
            assert [one.audience for one in catalog.courseware] == [("410122",)]


async def test_a_next_version_that_some_regions_try_is_released_once_too(
    console: Console, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await article(console.origin, tmp_path, "yumi", "第一版")
    writer = await console.person("writer", Role.PROVINCE_ADMIN, PROVINCE)
    reviewer = await console.person("reviewer", Role.REVIEWER, PROVINCE)
    _, draft = await call(writer, "POST", "/drafts", {"courseware": "yumi"})
    draft = await save(writer, draft, title="玉米再版")
    _, draft = await step(writer, draft, "submit")
    _, draft = await step(reviewer, draft, "approve")
    body = {"step": "release", "revision": draft["revision"], "pilot": [["410122"]]}
    assert (await call(writer, "POST", f"/drafts/{draft['number']}/step", body))[0] == 200
    releasing = console.origin.drafts.releasing
    finish = releasing._finish

    async def dies(*_: Any) -> None:
        raise BusyError("the process went away", zh="进程中断")

    monkeypatch.setattr(releasing, "_finish", dies)
    await releasing.run_due()
    monkeypatch.setattr(releasing, "_finish", finish)
    await releasing.run_due()
    async with reading(console.origin.engine) as connection:
        found = await _draft(connection)
    assert (found.state, found.version) == ("released", 2)
    (looked,) = await Pilots(console.origin.releases).look_at_all()
    assert (looked.pilot.version, looked.pilot.base) == (2, 1)


async def _draft(connection: Any) -> Any:
    from sqlalchemy import select

    from origin.database.tables_drafts import drafts

    return (await connection.execute(select(drafts))).one()


async def test_one_process_at_a_time_releases(console: Console, tmp_path: Path) -> None:
    writer, draft = await approved(console, tmp_path)
    await step(writer, draft, "release")
    releasing = console.origin.drafts.releasing
    results = await asyncio.gather(*(releasing.run_due() for _ in range(4)), return_exceptions=True)
    assert sum(isinstance(one, BusyError) for one in results) == 3
    assert (await get(writer, draft))["version"] == 1


async def test_what_cannot_be_published_goes_back_with_the_reason_and_the_others_go_out(
    console: Console, tmp_path: Path
) -> None:
    writer, draft = await approved(console, tmp_path)
    reviewer = await console.person("other", Role.REVIEWER, PROVINCE)
    good = await make_draft(writer, title="好稿", article="<p>x</p>")
    _, good = await step(writer, good, "submit")
    _, good = await step(reviewer, good, "approve")
    upload_id = draft["files"][0]["upload"]
    path = next((console.origin.paths.uploads / upload_id).iterdir())
    path.write_bytes(b"no video any more")
    await step(writer, draft, "release")
    await step(writer, good, "release")
    assert await release_due(console) == 2
    failed = await get(writer, draft)
    assert failed["state"] == "approved"
    assert failed["notes"][-1]["kind"] == "fail"
    assert failed["notes"][-1]["text"]
    assert str(console.origin.paths.root) not in failed["notes"][-1]["text"]
    assert (await get(writer, good))["state"] == "released"
    assert staged(console.origin.paths.root) == []


async def test_a_version_that_came_in_between_is_not_overwritten_unseen(console: Console, tmp_path: Path) -> None:
    await article(console.origin, tmp_path, "xiaomai", body="一")
    writer = await console.person("writer", Role.PROVINCE_ADMIN, PROVINCE)
    reviewer = await console.person("reviewer", Role.REVIEWER, PROVINCE)
    _, draft = await call(writer, "POST", "/drafts", {"courseware": "xiaomai"})
    draft = await save(writer, draft, summary="改")
    _, draft = await step(writer, draft, "submit")
    _, draft = await step(reviewer, draft, "approve")
    await article(console.origin, tmp_path, "xiaomai", body="别人的第二版")
    await step(writer, draft, "release")
    await release_due(console)
    draft = await get(writer, draft)
    assert draft["state"] == "approved"
    assert "其他版本" in draft["notes"][-1]["text"]
    current = await console.origin.releases.current("xiaomai")  # type: ignore[arg-type]
    assert current is not None
    assert current.version == 2
    _, draft = await step(reviewer, draft, "return", "请对照新版本")
    _, draft = await step(writer, draft, "submit")
    assert draft["base_version"] == 2
    _, draft = await step(reviewer, draft, "approve")
    await step(writer, draft, "release")
    await release_due(console)
    assert (await get(writer, draft))["version"] == 3


async def test_the_server_releases_by_itself_and_is_woken_by_the_button(console: Console, tmp_path: Path) -> None:
    writer, draft = await approved(console, tmp_path)
    running = asyncio.create_task(console.origin.drafts.releasing.run(3600))
    await asyncio.sleep(0)
    await step(writer, draft, "release")
    for _ in range(600):
        status, told = await call(writer, "GET", f"/drafts/{draft['number']}/progress")
        assert status == 200
        if told["state"] == "released":
            break
        await asyncio.sleep(0.1)
    assert told["version"] == 1
    running.cancel()
    await asyncio.wait({running})


async def test_a_revision_keeps_the_video_and_moves_nothing_but_words(console: Console, tmp_path: Path) -> None:
    writer, draft = await approved(console, tmp_path)
    await step(writer, draft, "release")
    await release_due(console)
    first = await console.origin.releases.current((await get(writer, draft))["courseware"])
    assert first is not None
    reviewer = await console.person("other", Role.REVIEWER, PROVINCE)
    _, again = await call(writer, "POST", "/drafts", {"courseware": first.id})
    assert set(again["document"]["kept"]) == {"麦田.mp4", "poster.jpg"}
    again = await save(writer, again, title="小麦春管（新题）")
    _, again = await step(writer, again, "submit")
    _, again = await step(reviewer, again, "approve")
    await step(writer, again, "release")
    await release_due(console)
    second = await console.origin.releases.current(first.id)  # type: ignore[arg-type]
    assert second is not None
    assert (second.version, second.title) == (2, "小麦春管（新题）")
    assert {one.name: one.blob for one in second.files} == {one.name: one.blob for one in first.files}


async def test_keys_from_a_drawer_release_a_draft_by_the_command(founded: Path, tmp_path: Path) -> None:
    root = copy_origin(founded, tmp_path / "origin")
    async with console_at(root) as console:
        _, draft = await approved(console, tmp_path)
    drawer = tmp_path / "drawer"
    drawer.mkdir()
    (root / "keys" / "targets.pem").rename(drawer / "targets.pem")
    number = str(draft["number"])
    told = await asyncio.to_thread(spawn, "origin", "release-draft", str(root), number, "--json")
    assert told.code == 2
    told = await asyncio.to_thread(spawn, "origin", "release-draft", str(root), number, "--keys", str(drawer), "--json")
    assert told.code == 0, told
    assert json.loads(told.out)["version"] == 1
    told = await asyncio.to_thread(spawn, "origin", "release-draft", str(root), number, "--keys", str(drawer))
    assert told.code == 2, "once"


async def test_the_poster_is_the_one_that_was_chosen(console: Console, tmp_path: Path) -> None:
    writer, draft = await approved(console, tmp_path)
    reviewer = await console.person("other", Role.REVIEWER, PROVINCE)
    picture = make_png(tmp_path / "封面.png")
    own = await upload(console, "writer", picture)
    video = {"upload": draft["files"][0]["upload"], "name": "麦田.mp4"}
    files = [video, {"upload": own, "name": "封面.png", "role": "poster"}]
    frame = (await call(writer, "GET", f"/drafts/{draft['number']}/frames"))[1]
    assert frame["frames"] == [1, 2, 3, 4, 5, 6]
    shown = {}
    for poster in ("file", "frame-2"):
        made = await make_draft(writer, title=f"封面 {poster}", files=files, poster=poster)
        _, made = await step(writer, made, "submit")
        _, made = await step(reviewer, made, "approve")
        await step(writer, made, "release")
        await release_due(console)
        item = await console.origin.releases.current((await get(writer, made))["courseware"])
        assert item is not None
        (shown[poster],) = [one for one in item.files if one.role == "poster"]
        assert not [one for one in item.files if one.role == "picture"]
    assert shown["file"].blob == hashlib.sha256(picture.read_bytes()).hexdigest()
    path = console.origin.paths.frames / video["upload"] / "2.jpg"
    assert shown["frame-2"].blob == hashlib.sha256(path.read_bytes()).hexdigest()
