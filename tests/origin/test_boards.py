"""Boards: tonight by city and edge, what was watched, their tables as files, and who is shown what."""

from __future__ import annotations

import io
import re
from pathlib import Path
from urllib.parse import unquote

import openpyxl
import pytest
from sqlalchemy import insert
from support.console import CITY, COUNTY, OTHER_CITY, OTHER_COUNTY, PROVINCE, Browser, Console
from support.receipts import article, make_edge, sync

from manifests.instants import Instant, dump_instant, parse_instant
from manifests.names import Region
from manifests.reports import HOUR_S, LessonWatched, Watched
from origin.accounts.permissions import Role
from origin.database.engine import writing
from origin.database.tables import edges
from origin.stations.regions import load_regions
from origin.stations.tiles import place_tiles
from origin.stations.tonight import night_of
from origin.stations.watched import ZONE, take_watching

PAGES = ("/console/boards", f"/console/boards?region={CITY}", "/console/boards/watching", "/console/wall")
LIMIT_BYTES = 500 * 1024


async def ask(person: Browser, path: str) -> dict[str, object]:
    async with person.session.get(f"{person.base}/api/v1{path}") as answer:
        assert answer.status == 200, await answer.text()
        found = await answer.json()
        assert isinstance(found, dict)
        return found


async def watch(console: Console, edge: str, at: int, **lessons: tuple[int, int, int]) -> None:
    told = Watched(dump_instant(Instant(at)), 9, {id_: LessonWatched(*one) for id_, one in lessons.items()})
    async with writing(console.origin.engine) as connection:
        await take_watching(connection, edge, Region(edge[:6]), [told], console.clock())


def test_every_city_has_a_tile_of_its_own() -> None:
    cities = [row.code for row in load_regions().within(Region("410000"), "city")]
    places = place_tiles(cities)
    assert len(set(places.values())) == len(cities) == 18
    assert all(1 <= column <= 7 and 1 <= row <= 8 for column, row in places.values())
    other = place_tiles([f"42{number:02}00" for number in range(1, 18)])
    assert len(set(other.values())) == 17


@pytest.mark.parametrize(
    ("now", "since"),
    [
        ("2026-11-27T09:59:59Z", "2026-11-26T10:00:00Z"),
        ("2026-11-27T10:00:00Z", "2026-11-27T10:00:00Z"),
        ("2026-11-27T22:00:00Z", "2026-11-27T10:00:00Z"),
    ],
)
def test_a_night_begins_at_six_in_the_evening(now: str, since: str) -> None:
    assert night_of(parse_instant(now), ZONE) == parse_instant(since)


async def test_tonight_follows_the_edges(console: Console, tmp_path: Path) -> None:
    admin = await console.person("admin", Role.PROVINCE_ADMIN, PROVINCE)
    await make_edge(console.origin, console.url, tmp_path / "one", COUNTY)
    await make_edge(console.origin, console.url, tmp_path / "two", OTHER_COUNTY)
    console.clock.now = parse_instant(dump_instant(Instant(console.clock())))
    await article(console.origin, tmp_path, "wheat")
    await article(console.origin, tmp_path, "local", audience=(Region(CITY),))
    told = await ask(admin, "/boards/tonight")
    assert (told["lessons"], told["pairs"], told["proved"], told["more"]) == (2, 3, 0, False)
    assert [one["outcome"] for one in told["edges"]] == ["never", "never"]  # type: ignore[attr-defined, index]
    await sync(tmp_path / "one")
    told = await ask(admin, "/boards/tonight")
    assert (told["pairs"], told["proved"]) == (3, 2)
    assert told["curve"][-1]["proved"] == 2  # type: ignore[index]
    cities = {one["code"]: one for one in told["cities"]}  # type: ignore[attr-defined, index]
    assert (cities[CITY]["done"], cities[CITY]["edges"], cities[OTHER_CITY]["silent"]) == (1, 1, 1)
    assert len(cities) == 18
    city = await ask(admin, f"/boards/tonight?region={CITY}")
    assert (city["pairs"], city["proved"], len(city["edges"])) == (2, 2, 1)  # type: ignore[arg-type]


async def test_nobody_sees_beyond_their_region(console: Console, tmp_path: Path) -> None:
    await make_edge(console.origin, console.url, tmp_path / "one", COUNTY)
    await article(console.origin, tmp_path, "wheat")
    await watch(console, f"{COUNTY}-1", console.clock() // HOUR_S * HOUR_S, wheat=(5, 5, 5))
    there = await console.person("there", Role.VIEWER, CITY)
    other = await console.person("other", Role.COUNTY_OPERATOR, OTHER_COUNTY)
    author = await console.person("author", Role.CONTRIBUTOR, CITY)
    assert (await ask(there, "/boards/watching"))["total"]["plays"] == 5  # type: ignore[index]
    assert (await ask(other, "/boards/watching"))["total"]["plays"] == 0  # type: ignore[index]
    assert (await ask(other, "/boards/tonight"))["edges"] == []
    for path in (
        f"/boards/tonight?region={COUNTY}",
        f"/boards/watching?region={CITY}",
        "/boards/watching?region=410000",
    ):
        async with other.session.get(f"{other.base}/api/v1{path}") as answer:
            assert answer.status == 404, path
    for path in (*PAGES, "/console/boards/tonight.xlsx", "/console/boards/proof/wheat.csv"):
        assert (await author.get(path)).status == 403, path
    assert "/console/boards" not in (await author.get("/console")).text
    assert (await author.get("/console/lessons/wheat")).status == 200
    proof = await ask(other, "/lessons/wheat/proof")
    assert (proof["meant"], proof["edges"], proof["pledge"]["edges"]) == (0, [], 0)  # type: ignore[index]


async def test_what_was_watched_by_lesson_column_area_day_and_hour(console: Console, tmp_path: Path) -> None:
    admin = await console.person("admin", Role.PROVINCE_ADMIN, PROVINCE)
    for id_, column in (("wheat", "农业"), ("maize", "农业"), ("party", "党建")):
        await article(console.origin, tmp_path, id_, columns=(column,))
    for region in (COUNTY, OTHER_COUNTY):
        values = {"code": f"{region}-1", "region": region, "serial": 1, "name": region, "enrolled_at": 1}
        async with writing(console.origin.engine) as connection:
            await connection.execute(insert(edges).values(values))
    hour = console.clock() // HOUR_S * HOUR_S
    await watch(console, f"{COUNTY}-1", hour, wheat=(5, 4, 100), party=(1, 1, 10))
    await watch(console, f"{OTHER_COUNTY}-1", hour - 86400, maize=(2, 2, 20), gone=(1, 1, 1))
    told = await ask(admin, "/boards/watching")
    assert told["total"] == {"key": "", "name": "", "plays": 9, "terminal_hours": 18, "bytes": 131}
    rows = {name: [(one["key"], one["plays"]) for one in told[name]] for name in ("lessons", "areas", "days")}  # type: ignore[attr-defined]
    assert rows["lessons"] == [("wheat", 5), ("maize", 2), ("gone", 1), ("party", 1)]
    assert [(key, plays) for key, plays in rows["areas"] if plays] == [(CITY, 6), (OTHER_CITY, 3)]
    assert [plays for _, plays in rows["days"]][-2:] == [3, 6]
    assert len(rows["days"]) == 30
    titles = {one["key"]: one["name"] for one in told["lessons"]}  # type: ignore[attr-defined, index]
    assert (titles["wheat"], titles["gone"]) == ("课件 wheat", "gone"), "what the library has forgotten shows its id"
    columns = {one["name"]: (one["key"], one["plays"]) for one in told["columns"]}  # type: ignore[attr-defined, index]
    assert {name: plays for name, (_, plays) in columns.items()} == {"农业": 7, "党建": 1}
    assert sum(one["plays"] for one in told["hours"]) == 9  # type: ignore[attr-defined, index]
    one = await ask(admin, f"/boards/watching?column={columns['党建'][0]}")
    assert (one["total"]["plays"], one["hours"]) == (1, [])  # type: ignore[index]
    day = (await ask(admin, "/boards/watching"))["last"]
    one = await ask(admin, f"/boards/watching?first={day}&last={day}&region={CITY}")
    assert (one["total"]["plays"], len(one["days"]), one["region_name"]) == (6, 1, "郑州市")  # type: ignore[index, arg-type]
    for query in ("first=2026-02-30", "first=2026-01-02&last=2026-01-01", "first=1990-01-01", "last=x"):
        async with admin.session.get(f"{admin.base}/api/v1/boards/watching?{query}") as answer:
            assert answer.status == 400, query


async def test_every_board_is_a_table_without_scripts_and_a_file(console: Console, tmp_path: Path) -> None:
    await make_edge(console.origin, console.url, tmp_path / "edge", COUNTY)
    await article(console.origin, tmp_path, "wheat")
    await sync(tmp_path / "edge")
    await watch(console, f"{COUNTY}-1", console.clock() // HOUR_S * HOUR_S, wheat=(5, 5, 5))
    viewer = await console.person("viewer", Role.VIEWER, PROVINCE)
    for path in (*PAGES, "/console/lessons/wheat", f"/console/edges/{COUNTY}-1"):
        page = await viewer.get(path)
        assert page.status == 200, path
        assert "data-chart" in page.text or "edges/" in path, path
        assert "中牟县" in page.text or path in {"/console/boards/watching", "/console/wall"}, path
    for language in ("zh-CN", "en"):
        await viewer.get(f"/console?lang={language}")
        for name in ("tonight", "watching", "edges", f"edge/{COUNTY}-1", "proof/wheat"):
            async with viewer.session.get(f"{viewer.base}/console/boards/{name}.xlsx") as answer:
                assert answer.status == 200, name
                field = answer.headers["Content-Disposition"]
                assert field.isascii()
                assert unquote(field).endswith(".xlsx")
                book = openpyxl.load_workbook(io.BytesIO(await answer.read()))
                assert book.worksheets[0].max_row > 1, name
            async with viewer.session.get(f"{viewer.base}/console/boards/{name}.csv") as answer:
                assert (await answer.read()).startswith(b"\xef\xbb\xbf")
                assert answer.headers["Content-Type"].startswith("text/csv")
    assert (await viewer.get("/console/boards/tonight.exe")).status == 404
    assert (await viewer.get("/console/boards/proof/none.xlsx")).status == 404


async def test_boards_of_a_whole_province_are_light(console: Console, tmp_path: Path) -> None:
    rows = [
        {"code": f"{row.code}-1", "region": row.code, "serial": 1, "name": row.name, "enrolled_at": 1}
        for row in load_regions().rows
        if row.level == "county"
    ]
    async with writing(console.origin.engine) as connection:
        await connection.execute(insert(edges), rows)
    for number in range(3):
        await article(console.origin, tmp_path, f"kj-{number}")
    viewer = await console.person("viewer", Role.VIEWER, PROVINCE)
    for path in (*PAGES, "/console", "/console/lessons/kj-1", "/console/edges", f"/console/edges/{COUNTY}-1"):
        page = await viewer.get(path)
        assert page.status == 200, path
        weight = len(page.text.encode())
        for file in set(re.findall(r'(?:src|href)="(/console/static/[^"]+)"', page.text)):
            if "echarts" not in file:
                weight += len((await viewer.get(file)).text.encode())
        assert weight <= LIMIT_BYTES, (path, weight)


async def test_foretelling_is_for_ones_own_region(console: Console, tmp_path: Path) -> None:
    for folder, county in (("one", COUNTY), ("two", OTHER_COUNTY)):
        await make_edge(console.origin, console.url, tmp_path / folder, county)
        await sync(tmp_path / folder)
    admin = await console.person("admin", Role.PROVINCE_ADMIN, PROVINCE)
    viewer = await console.person("viewer", Role.VIEWER, CITY)

    async def foretell(person: Browser, **body: object) -> tuple[int, dict[str, object]]:
        async with person.session.post(
            f"{person.base}/api/v1/promises", json={"bytes": 1000} | body, headers={"Origin": person.base}
        ) as answer:
            return answer.status, await answer.json()

    status, told = await foretell(admin)
    assert (status, told["edges"], told["counties"]) == (200, 2, 2)
    status, told = await foretell(viewer)
    assert (status, told["edges"]) == (200, 1)
    assert OTHER_COUNTY not in str(told)
    assert (await foretell(viewer, audience=[OTHER_CITY]))[1]["edges"] == 0
    assert (await foretell(admin, audience=[COUNTY], by="23:30"))[1]["by"] == "23:30"
    assert (await foretell(admin, by="25:00"))[0] == 400
