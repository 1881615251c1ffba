"""The contract, held to from outside: one lesson's way from an admin's file to a county's edge, and away again."""

from __future__ import annotations

import hashlib
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from support.media import make_mp4, make_pdf
from support.program import contents, get, run, serving, spawn, succeed, wait_until


@dataclass(frozen=True)
class Province:
    """An origin that serves, one county's edge that has synced and serves, and what was said on the way."""

    root: Path
    origin: Path
    edge: Path
    url: str
    portal: str
    video: Path
    made: dict[str, Any]
    published: dict[str, Any]
    enrolled: dict[str, Any]
    synced: dict[str, Any]


@pytest.fixture(scope="module")
def province(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Province]:
    root = tmp_path_factory.mktemp("province")
    origin, edge = root / "origin", root / "edge"
    video = make_mp4(root / "小麦 返青.mp4", seconds=3, noise=True)
    made = succeed("origin", "init", origin, "--region", "410000", runner=spawn)
    with serving("origin", "serve", origin, "--host", "127.0.0.1", "--port", "0") as url:
        published = succeed(
            *("publish", video, "--origin", origin, "--title", "小麦返青期管理", "--id", "xiaomai"),
            *("--column", "农业技术", "--audience", "410100", "--priority", "7"),
            runner=spawn,
        )
        bundle = root / "410122.bundle.json"
        enrolled = succeed("origin", "enroll", origin, "410122", "--upstream", url, "--out", bundle, runner=spawn)
        succeed("edge", "init", edge, "--bundle", bundle, runner=spawn)
        synced = succeed("edge", "sync", edge, "--now", runner=spawn)
        with serving("edge", "serve", edge, "--host", "127.0.0.1", "--port", "0", "--workers", "1") as portal:
            yield Province(root, origin, edge, url, portal, video, made, published, enrolled, synced)


def test_publish_tells_what_the_contract_says(province: Province) -> None:
    told = province.published
    assert (told["id"], told["version"]) == ("xiaomai", 1)
    assert isinstance(told["catalog_version"], int)
    video = next(file for file in told["files"] if file["role"] == "video")
    data = province.video.read_bytes()
    assert video["sha256"] == hashlib.sha256(data).hexdigest()
    assert (video["size"], video["media_type"]) == (len(data), "video/mp4")
    assert all({"role", "sha256", "size", "media_type"} <= set(file) for file in told["files"])


def test_sha256sum_of_a_stored_file_prints_its_name(province: Province) -> None:
    for side in (province.origin, province.edge):
        stored = [path for path in (side / "blobs").rglob("*") if path.is_file()]
        assert stored
        assert all(hashlib.sha256(path.read_bytes()).hexdigest() == path.name for path in stored)


def test_keys_and_bundle_are_private(province: Province) -> None:
    private = [*(province.origin / "keys").glob("*.pem"), province.root / "410122.bundle.json"]
    private.append(province.edge / "identity" / "key.pem")
    assert len(private) == 6
    assert {path.stat().st_mode & 0o777 for path in private} == {0o600}
    assert province.enrolled["region"] == "410122"
    assert province.enrolled["region_name"] == "中牟县"


def test_sync_tells_what_the_contract_says(province: Province) -> None:
    told = province.synced
    assert (told["added"], told["updated"], told["removed"]) == (["xiaomai"], [], [])
    assert told["catalog_version"] == province.published["catalog_version"]
    assert told["complete"] is True
    assert told["deferred"] == []
    assert told["bytes_fetched"] > province.video.stat().st_size
    assert sum(told["sources"].values()) == told["bytes_fetched"]
    assert set(told) >= {"bytes_from_patches", "bytes_reused", "requests", "seconds"}


def test_both_sides_answer_the_same_content(province: Province) -> None:
    video = next(file for file in province.published["files"] if file["role"] == "video")
    data = province.video.read_bytes()
    for base in (province.url, province.portal):
        whole = get(f"{base}/blobs/{video['sha256']}")
        assert whole.status == 200
        assert whole.body == data
        assert whole.headers["etag"] == f'"{video["sha256"]}"'
        assert whole.headers["cache-control"] == "public, max-age=31536000, immutable"
        assert whole.headers["repr-digest"].startswith("sha-256=:")
        part = get(f"{base}/blobs/{video['sha256']}", Range="bytes=100-199", If_Range=whole.headers["etag"])
        assert (part.status, part.body) == (206, data[100:200])
        assert part.headers["content-range"] == f"bytes 100-199/{len(data)}"
        assert get(f"{base}/blobs/{video['sha256']}", If_None_Match=whole.headers["etag"]).status == 304
        assert get(f"{base}/blobs/{'0' * 64}").status == 404
        assert get(f"{base}/metadata/timestamp.json").status == 200
        assert get(f"{base}/targets/catalog.json").status == 200
        assert get(f"{base}/healthz").status == 200
        assert b"# TYPE yuanjiao_" in get(f"{base}/metrics").body


def test_people_and_players_find_it_on_the_edge(province: Province) -> None:
    assert "小麦返青期管理" in get(f"{province.portal}/").body.decode()
    assert "xiaomai" in get(f"{province.portal}/api/courseware").body.decode()
    assert "小麦返青期管理" in get(f"{province.portal}/api/courseware/xiaomai").body.decode()
    name = next(file["name"] for file in province.published["files"] if file["role"] == "video")
    part = get(f"{province.portal}/media/xiaomai/{quote(name)}", Range="bytes=-10")
    assert (part.status, part.body) == (206, province.video.read_bytes()[-10:])


def test_nothing_new_is_a_small_poll(province: Province) -> None:
    told = succeed("edge", "sync", province.edge)
    assert (told["added"], told["updated"], told["removed"]) == ([], [], [])
    assert told["requests"] <= 3
    assert told["bytes_fetched"] <= 2000


def test_scrub_finds_and_repairs_rot(province: Province) -> None:
    clean = succeed("edge", "scrub", province.edge)
    assert clean["pieces_checked"] >= 2
    assert (clean["bad"], clean["repaired"]) == ([], 0)
    video = next(file for file in province.published["files"] if file["role"] == "video")
    blob = next((province.edge / "blobs").rglob(video["sha256"]))
    data = bytearray(blob.read_bytes())
    data[1000] ^= 1
    blob.chmod(0o644)
    blob.write_bytes(data)
    bad = run("edge", "scrub", province.edge, "--json")
    assert bad.code == 5
    assert len(bad.json["bad"]) == 1
    assert len(bad.err.splitlines()) == 1
    repaired = succeed("edge", "scrub", province.edge, "--repair")
    assert repaired["repaired"] == 1
    assert blob.read_bytes() == province.video.read_bytes()


def test_dry_runs_change_nothing(province: Province, tmp_path: Path) -> None:
    pdf = make_pdf(tmp_path / "a.pdf")
    # The edge itself is served meanwhile, and writes what serving writes.
    edge = Path(shutil.copytree(province.edge, province.root / "still"))
    # What stood in a copied database's log when it was copied goes into the database as soon as anybody opens it.
    with closing(sqlite3.connect(edge / "index.sqlite")) as index:
        index.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    before = contents(province.origin), contents(edge)
    plan = succeed("publish", pdf, "--origin", province.origin, "--title", "制度汇编", "--dry-run")
    assert [file["treatment"] for file in plan["files"]] == ["keep"]
    recalled = succeed("recall", "xiaomai", "--origin", province.origin, "--reason", "试", "--dry-run")
    assert recalled["version"] == 1
    succeed("keys", "rotate", "timestamp", "--origin", province.origin, "--dry-run")
    out = tmp_path / "b.json"
    succeed("origin", "enroll", province.origin, "410225", "--upstream", province.url, "--out", out, "--dry-run")
    succeed("origin", "init", tmp_path / "o", "--dry-run")
    succeed("edge", "init", tmp_path / "e", "--bundle", province.root / "410122.bundle.json", "--dry-run")
    succeed("edge", "sync", edge, "--dry-run")
    succeed("edge", "scrub", edge, "--repair", "--dry-run")
    assert (contents(province.origin), contents(edge)) == before
    assert [path.name for path in tmp_path.iterdir()] == ["a.pdf"]


def test_doctor_is_content(province: Province) -> None:
    for side, kind in ((province.origin, "origin"), (province.edge, "edge")):
        told = succeed("doctor", side)
        assert told["kind"] == kind
        assert told["verdict"] in {"ok", "warn"}
        ids = {finding["id"].rpartition(".")[0] or finding["id"] for finding in told["findings"]}
        assert ids >= {"configuration", "disk", "clock", "permissions", "metadata", "port"}
        assert all(finding["remedy"] for finding in told["findings"] if finding["level"] != "ok")


def test_the_edge_of_another_county_does_not_get_it(province: Province) -> None:
    bundle, edge = province.root / "410225.bundle.json", province.root / "edge2"
    succeed("origin", "enroll", province.origin, "410225", "--upstream", province.url, "--out", bundle)
    succeed("edge", "init", edge, "--bundle", bundle)
    told = succeed("edge", "sync", edge)
    assert (told["added"], told["complete"]) == ([], True)


def test_recalled_is_gone_everywhere(province: Province) -> None:
    # A copy of the edge, so that the other tests keep theirs.
    edge = province.root / "edge3"
    shutil.copytree(province.edge, edge)
    told = succeed("recall", "xiaomai", "--origin", province.origin, "--reason", "内容有误")
    assert told["catalog_version"] > province.synced["catalog_version"]
    with serving("edge", "serve", edge, "--host", "127.0.0.1", "--port", "0", "--workers", "1") as portal:
        assert get(f"{portal}/api/courseware/xiaomai").status == 200
        assert succeed("edge", "sync", edge)["removed"] == ["xiaomai"]
        digest = next(file["sha256"] for file in province.published["files"] if file["role"] == "video")
        wait_until(lambda: get(f"{portal}/api/courseware/xiaomai").status in {404, 410})
        assert get(f"{portal}/blobs/{digest}").status in {404, 410}
        assert not list((edge / "blobs").rglob(digest))
