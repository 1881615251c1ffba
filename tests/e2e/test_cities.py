"""Cities end to end: the real programs, two cities that publish, edges of both, an edge behind another, a disk."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.media import make_pdf
from support.program import get, run, serving, succeed

ZHENGZHOU, KAIFENG = "410100", "410200"
NO_RESERVE = {"YUANJIAO_STORE_RESERVE_BYTES": "0"}


class Home:
    """An origin with two cities, and its address."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.origin = root / "origin"
        self.url = ""

    def publish(self, name: str, text: str, city: str = "", *more: object) -> Any:
        """Publish a leaflet, or its next version."""
        path = self.root / f"{name}.md"
        path.write_text(f"# {name}\n\n{text}\n", encoding="utf-8")
        of_city = ("--publisher", city) if city else ()
        whole = f"{city}-{name}" if city else name
        return succeed("publish", path, "--origin", self.origin, "--title", name, "--id", whole, *of_city, *more)

    def edge(self, county: str, *upstreams: str) -> Path:
        """An edge of a county, made when there is none."""
        root = self.root / county
        if not root.exists():
            bundle = self.root / f"{county}.json"
            succeed("origin", "enroll", self.origin, county, "--upstream", self.url, "--out", bundle)
            succeed("edge", "init", root, "--bundle", bundle)
            urls = ", ".join(f'"{one}"' for one in upstreams or (self.url,))
            report = f'[report]\nurl = "{self.url}"\n'
            (root / "edge.toml").write_text(f"[upstream]\nurls = [{urls}]\n{report}", encoding="utf-8")
        return root

    def sync(self, county: str, *upstreams: str) -> Any:
        """Sync an edge."""
        return succeed("edge", "sync", self.edge(county, *upstreams), "--now", **NO_RESERVE)

    def seen(self, county: str) -> set[str]:
        """What an edge shows."""
        with serving("edge", "serve", self.edge(county), "--host", "127.0.0.1", "--port", "0", **NO_RESERVE) as url:
            found = json.loads(get(f"{url}/api/courseware").body)
            return {one["id"] for one in found}


@pytest.fixture(scope="module")
def founded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Read only: both cities may publish and did."""
    home = Home(tmp_path_factory.mktemp("cities"))
    succeed("origin", "init", home.origin)
    home.publish("sheng", "province")
    for city in (ZHENGZHOU, KAIFENG):
        told = succeed("origin", "city", home.origin, city)
        assert (told["city"], told["changed"]) == (city, True)
        home.publish("shi", city, city)
    home.publish("xian", "county", ZHENGZHOU, "--audience", "410122")
    return home.root


@pytest.fixture
def home(founded: Path, tmp_path: Path) -> Iterator[Home]:
    shutil.copytree(founded / "origin", tmp_path / "origin")
    made = Home(tmp_path)
    with serving("origin", "serve", made.origin, "--host", "127.0.0.1", "--port", "0") as made.url:
        yield made


def test_each_sees_its_own_and_the_provinces(home: Home) -> None:
    report = home.sync("410122")
    assert (report["complete"], report["catalog_version"], report["cities"]) == (True, 2, {ZHENGZHOU: 2})
    home.sync("410203")
    assert home.seen("410122") == {"sheng", "410100-shi", "410100-xian"}
    assert home.seen("410203") == {"sheng", "410200-shi"}
    assert home.sync("410181")["added"] == ["410100-shi", "sheng"]
    assert home.sync("410302")["added"] == ["sheng"]


def test_the_commands_say_what_they_would_do_and_refuse_what_they_must(home: Home) -> None:
    assert [one["city"] for one in succeed("origin", "city", home.origin)["cities"]] == [ZHENGZHOU, KAIFENG]
    told = succeed("origin", "city", home.origin, "410300", "--dry-run")
    assert (told["changed"], told["dry_run"]) == (True, True)
    assert succeed("origin", "city", home.origin, ZHENGZHOU, "--dry-run")["changed"] is False
    assert succeed("origin", "city", home.origin, ZHENGZHOU)["changed"] is False
    for bad in ("410122", "420100", "410000", "nowhere"):
        assert run("origin", "city", home.origin, bad).code == 2
    make_pdf(home.root / "a.pdf")
    common = ("publish", home.root / "a.pdf", "--origin", home.origin, "--title", "明白纸")
    for bad in (
        ("--publisher", "410300"),
        ("--publisher", "410122"),
        ("--publisher", ZHENGZHOU, "--audience", "410203"),
        ("--publisher", ZHENGZHOU, "--id", "mingbaizhi"),
        ("--id", "410100-mingbaizhi"),
        ("--id", "410100-shi"),
    ):
        done = run(*common, *bad)
        assert done.code == 2, bad
    done = succeed(*common, "--publisher", ZHENGZHOU)
    assert done["id"].startswith("410100-kj-")


def test_a_key_is_replaced_and_the_right_withdrawn_and_edges_follow(home: Home) -> None:
    home.sync("410122")
    succeed("keys", "rotate", "cities-410100", "--origin", home.origin)
    home.publish("shi", "by the new key", ZHENGZHOU)
    assert home.sync("410122")["updated"] == ["410100-shi"]
    assert succeed("origin", "city", home.origin, ZHENGZHOU, "--revoke")["changed"]
    report = home.sync("410122")
    assert (sorted(report["removed"]), report["cities"]) == (["410100-shi", "410100-xian"], {})
    assert home.seen("410122") == {"sheng"}
    assert run("origin", "city", home.origin, "--revoke").code == 2
    succeed("origin", "city", home.origin, ZHENGZHOU)
    assert sorted(home.sync("410122")["added"]) == ["410100-shi", "410100-xian"]


def test_the_key_may_lie_in_a_drawer(home: Home) -> None:
    drawer = home.root / "drawer"
    drawer.mkdir()
    (home.origin / "keys" / "cities-410100.pem").rename(drawer / "cities-410100.pem")
    path = home.root / "new.md"
    path.write_text("# new\n", encoding="utf-8")
    common = ("publish", path, "--origin", home.origin, "--title", "新", "--publisher", ZHENGZHOU)
    refused = run(*common)
    assert refused.code == 2
    assert "cities-410100" in refused.err
    succeed(*common, "--keys", drawer)
    home.publish("sheng", "the province needs nothing of it")
    assert home.sync("410122")["cities"] == {ZHENGZHOU: 3}


def test_a_recall_is_proved_by_the_citys_own_catalog(home: Home) -> None:
    for county in ("410122", "410181", "410203"):
        home.sync(county)
    succeed("recall", "410100-shi", "--origin", home.origin, "--reason", "内容有误")
    told = succeed("coverage", "410100-shi", "--origin", home.origin)
    assert (told["recall"]["meant"], told["recall"]["proved"]) == (2, 0)
    assert home.sync("410122")["recalled"] == ["410100-shi"]
    told = succeed("coverage", "410100-shi", "--origin", home.origin)
    assert (told["recall"]["meant"], told["recall"]["proved"]) == (2, 1)
    assert [one["region"] for one in told["recall"]["tail"]] == ["410181"]


def test_an_edge_behind_an_edge_of_another_city_gets_its_own_citys_word(home: Home) -> None:
    """Role files of all cities are passed on; catalog and lessons then come from whoever has them."""
    home.sync("410203")
    node = home.edge("410203")
    with serving("edge", "serve", node, "--host", "127.0.0.1", "--port", "0", **NO_RESERVE) as url:
        held = get(f"{url}/metadata/cities-410100.json")
        assert held.status == 200
        assert get(f"{home.url}/metadata/cities-410100.json").body == held.body
        report = home.sync("410122", url, home.url)
        assert (report["complete"], report["cities"]) == (True, {ZHENGZHOU: 2})
    with serving("edge", "serve", home.edge("410122"), "--host", "127.0.0.1", "--port", "0", **NO_RESERVE) as parent:
        target = get(f"{parent}/targets/cities/410100/catalog.json")
        assert target.body == get(f"{home.url}/targets/cities/410100/catalog.json").body
        assert get(f"{parent}/targets/cities/410200/catalog.json").status == 404
        digest = target.headers["etag"].strip('"')
        assert get(f"{home.url}/targets/cities/410100/{digest}.catalog.json").body == target.body
        assert get(f"{parent}/targets/cities/410100/{digest}.catalog.json").body == target.body
        assert home.sync("410181", parent)["added"] == ["410100-shi", "sheng"]


def test_a_courier_disk_carries_the_citys_catalog_too(home: Home) -> None:
    stick = home.root / "stick"
    stick.mkdir()
    edge = home.edge("410122", "http://127.0.0.1:9")
    succeed("courier", "export", "--origin", home.origin, "--to", stick, "--all")
    report = succeed("courier", "import", stick, "--edge", edge, **NO_RESERVE)
    assert sorted(report["added"]) == ["410100-shi", "410100-xian", "sheng"]
    assert report["cities"] == {ZHENGZHOU: 2}


def test_backup_and_restore_bring_the_cities_along(home: Home) -> None:
    home.sync("410122")
    succeed("origin", "backup", home.origin, home.root / "backup", "--with-keys")
    home.publish("shi", "after the backup", ZHENGZHOU)
    home.sync("410122")
    other = Home(home.root)
    other.origin = home.root / "restored"
    succeed("origin", "restore", home.root / "backup", other.origin)
    with serving("origin", "serve", other.origin, "--host", "127.0.0.1", "--port", "0") as url:
        toml = home.edge("410122") / "edge.toml"
        toml.write_text(toml.read_text(encoding="utf-8").replace(home.url, url), encoding="utf-8")
        report = home.sync("410122")
        assert report["complete"]
        other.publish("shi", "after the restore", ZHENGZHOU)
        assert home.sync("410122")["updated"] == ["410100-shi"]


def test_doctor_and_the_status_know_the_cities(home: Home) -> None:
    assert b"cities-410100 expires" in get(f"{home.url}/").body
    assert "cities-410100" in run("doctor", home.origin, "--json").out
    home.sync("410122")
    done = run("doctor", home.edge("410122"), "--json")
    assert done.code == 0, done.out
