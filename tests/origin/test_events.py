"""Server-sent events: what is told to whom, what is caught up with, what ends a stream, and that nothing grows."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import update
from support.console import COUNTY, OTHER_COUNTY, PROVINCE, Browser, Console, console_at
from support.receipts import article, make_edge, sync

from manifests.instants import Instant
from manifests.names import Region
from origin.accounts.people import Account
from origin.accounts.permissions import Grant, Role
from origin.database.engine import writing
from origin.database.tables import sessions
from origin.web import events
from origin.web.changes import Marks, News, compare, read_marks
from origin.web.events import MOST_WAITING, Stream


@pytest.fixture
async def console(founded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Console]:
    monkeypatch.setattr(
        events.Events.__init__, "__kwdefaults__", {"look_s": 0.02, "heartbeat_s": 0.1, "session_s": 0.1}
    )
    async with console_at(Path(shutil.copytree(founded, tmp_path / "origin"))) as opened:
        yield opened


@dataclass
class Listener:
    """A browser's end of a stream."""

    answer: aiohttp.ClientResponse
    last: str = ""
    beats: int = 0
    told: list[tuple[str, object]] = field(default_factory=list)

    async def event(self) -> tuple[str, object]:
        """The next event."""
        name, data, text = "", "", ""
        async with asyncio.timeout(30):
            while True:
                raw = await self.answer.content.readline()
                if not raw:
                    return "end", None
                text = raw.decode().rstrip("\n")
                if text.startswith(":"):
                    self.beats += 1
                elif text.startswith("id: "):
                    self.last = text[4:]
                elif text.startswith("event: "):
                    name = text[7:]
                elif text.startswith("data: "):
                    data = text[6:]
                elif not text and name:
                    self.told.append((name, json.loads(data)))
                    return self.told[-1]

    async def until(self, name: str) -> object:
        """Read on to an event of this name; gives its data."""
        while True:
            found, data = await self.event()
            assert found != "end", self.told
            if found == name:
                return data


@asynccontextmanager
async def listening(person: Browser, query: str = "", last: str = "") -> AsyncIterator[Listener]:
    headers = {"Last-Event-ID": last} if last else {}
    async with person.session.get(f"{person.base}/api/v1/events{query}", headers=headers) as answer:
        assert answer.status == 200
        assert answer.headers["Content-Type"].startswith("text/event-stream")
        yield Listener(answer)


async def test_changes_are_told_to_those_whose_region_it_is(console: Console, tmp_path: Path) -> None:
    admin = await console.person("admin", Role.PROVINCE_ADMIN, PROVINCE)
    county = await console.person("viewer", Role.VIEWER, OTHER_COUNTY)
    await make_edge(console.origin, console.url, tmp_path / "edge", COUNTY)
    async with listening(admin) as all_of_it, listening(county) as other:
        assert await all_of_it.event() == ("refresh", {}), "the first look was not taken when the page was made"
        await sync(tmp_path / "edge")
        assert await all_of_it.until("edges") == {"edges": [f"{COUNTY}-1"]}
        await article(console.origin, tmp_path, "wheat")
        await all_of_it.until("overview")
        await other.until("overview")
        assert "edges" not in {name for name, _ in other.told}


async def test_the_coverage_of_a_lesson_is_told_to_its_page(console: Console, tmp_path: Path) -> None:
    viewer = await console.person("viewer", Role.VIEWER, PROVINCE)
    await make_edge(console.origin, console.url, tmp_path / "edge", COUNTY)
    for id_ in ("wheat", "maize"):
        await article(console.origin, tmp_path, id_)
    async with listening(viewer, "?lesson=wheat") as page, listening(viewer) as plain:
        await page.until("refresh")
        await sync(tmp_path / "edge")
        # The first proof of a lesson that nobody held is a change of its own only once it was looked at before.
        await page.until("edges")
        await console.origin.releases.recall("wheat", "有误")
        assert await page.until("lesson") == {"id": "wheat"}
        await plain.until("overview")
        assert "lesson" not in {name for name, _ in plain.told}


async def test_who_comes_back_catches_up_or_is_told_to_refresh(console: Console, tmp_path: Path) -> None:
    viewer = await console.person("viewer", Role.VIEWER, PROVINCE)
    async with listening(viewer) as kept:
        await kept.until("refresh")
        async with listening(viewer) as leaving:
            await article(console.origin, tmp_path, "one")
            await leaving.until("overview")
        last = leaving.last
        await article(console.origin, tmp_path, "two")
        await kept.until("overview")
        await kept.until("overview")
        async with listening(viewer, last=last) as back:
            assert await back.event() == ("overview", {})
            assert back.last != last
        for foreign in ("deadbeef-1", "x", f"{last.partition('-')[0]}-99999999", f"{last.partition('-')[0]}-²"):
            async with listening(viewer, last=foreign) as stranger:
                assert await stranger.event() == ("refresh", {})


async def test_a_stream_ends_with_its_session_and_lives_by_its_heartbeat(console: Console) -> None:
    viewer = await console.person("viewer", Role.VIEWER, PROVINCE)
    async with listening(viewer) as stream:
        await stream.until("refresh")
        async with writing(console.origin.engine) as connection:
            await connection.execute(update(sessions).values(ended_at=console.clock()))
        assert await stream.event() == ("end", None)
        assert stream.beats > 0
    async with viewer.session.get(f"{viewer.base}/api/v1/events") as answer:
        assert answer.status == 401


async def test_strangers_bad_ids_and_crowds_are_refused(console: Console, monkeypatch: pytest.MonkeyPatch) -> None:
    viewer = await console.person("viewer", Role.VIEWER, PROVINCE)
    async with viewer.session.get(f"{viewer.base}/api/v1/events?lesson=../x") as answer:
        assert answer.status == 400
    async with console.browser().session.get(f"{console.url}/api/v1/events") as answer:
        assert answer.status == 401
        assert (await answer.json())["error"]
    monkeypatch.setattr(events, "MOST_OF_ACCOUNT", 2)
    async with listening(viewer), listening(viewer), viewer.session.get(f"{viewer.base}/api/v1/events") as answer:
        assert answer.status == 429
    other = await console.person("other", Role.VIEWER, PROVINCE)
    async with listening(other) as stream:
        assert stream.answer.status == 200


async def test_a_server_that_stops_ends_its_streams_at_once(founded: Path, tmp_path: Path) -> None:
    async with console_at(Path(shutil.copytree(founded, tmp_path / "origin")), serve_shutdown_s="60") as console:
        viewer = await console.person("viewer", Role.VIEWER, PROVINCE)
        answer = await viewer.session.get(f"{viewer.base}/api/v1/events")
        stream = Listener(answer)
        await stream.until("refresh")
        ended = asyncio.create_task(stream.event())
        console.browsers.clear()  # they outlive the server here
    async with asyncio.timeout(30):
        assert await ended == ("end", None)
    answer.close()
    await viewer.session.close()


def test_what_is_not_read_becomes_one_refresh() -> None:
    stream = Stream(_person(PROVINCE), "wheat")
    for number in range(MOST_WAITING * 3):
        stream.put(number, News(True, {f"{COUNTY}-1": COUNTY}, frozenset({"wheat"})))
        assert len(stream.waiting) <= MOST_WAITING
    assert [name for _, name, _ in stream.waiting].count("refresh") == 1


def test_nothing_of_another_region_is_told() -> None:
    news = News(False, {f"{COUNTY}-1": COUNTY}, frozenset({"wheat"}))
    for region, names in ((OTHER_COUNTY, []), (COUNTY, ["overview", "edges"])):
        stream = Stream(_person(region), "")
        stream.put(1, news)
        assert [name for _, name, _ in stream.waiting] == names
        assert stream.wakes.is_set() == bool(names)


def _person(region: str) -> Account:
    return Account(1, "x", "x", Grant(Role.VIEWER, Region(region)), False, Instant(1), None)


marks = st.builds(
    Marks,
    st.tuples(st.integers(0, 2), st.just(0)),
    st.dictionaries(st.sampled_from("abc"), st.tuples(st.just(COUNTY), st.integers(0, 2), st.just(0)), max_size=3),
    st.dictionaries(st.sampled_from("xy"), st.tuples(st.integers(0, 2)), max_size=2),
)


@given(marks, marks)
def test_equal_looks_are_no_news_and_others_are(before: Marks, after: Marks) -> None:
    assert not compare(before, before)
    news = compare(before, after)
    assert news.is_release == (before.release != after.release)
    assert set(news.edges) == {
        code for code in {*before.edges, *after.edges} if before.edges.get(code) != after.edges.get(code)
    }
    # One that nobody listened to before may have moved since its page was made.
    assert news.lessons == {id_ for id_, mark in after.lessons.items() if before.lessons.get(id_) != mark}


async def test_a_look_asks_for_what_is_listened_to(console: Console, tmp_path: Path) -> None:
    await article(console.origin, tmp_path, "wheat")
    await make_edge(console.origin, console.url, tmp_path / "edge", COUNTY)
    await sync(tmp_path / "edge")
    plain = await read_marks(console.origin.engine, ())
    assert plain.lessons == {}
    assert plain.edges[f"{COUNTY}-1"][0] == COUNTY
    assert (await read_marks(console.origin.engine, {"wheat", "none"})).lessons.keys() == {"wheat"}
