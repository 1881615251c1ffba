"""The courier from the command line: packed at a real origin, imported at an edge that has no line at all."""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
from support.program import run, spawn, succeed
from support.small_disk import fill, small_disk

from manifests.courier import decode_courier
from manifests.names import is_metadata_name
from origin import app
from origin.clock import system_clock
from origin.publish.failpoints import COURIER_POINTS, VARIABLE
from tools.courier.export import Options, plan_disk, run_export
from tools.courier.medium import Medium
from tools.courier.stations import all_stations

SIZES = {"kj-a": 700_000, "kj-b": 900_000, "kj-c": 40_000}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An origin with three lessons, and the bundle of an edge whose upstream is never there."""
    root = tmp_path_factory.mktemp("courier")
    origin = root / "origin"
    succeed("origin", "init", origin)
    for n, (id_, size) in enumerate(SIZES.items()):
        path = root / f"{id_}.pdf"
        path.write_bytes(b"%PDF-1.4\n" + random.Random(n).randbytes(size) + b"\n%%EOF\n")
        succeed("publish", path, "--origin", origin, "--title", f"课件 {id_}", "--id", id_, "--priority", str(9 - n))
    succeed(
        *("origin", "enroll", origin, "410122", "--upstream", "http://127.0.0.1:9"),
        *("--out", root / "bundle.json"),
    )
    return root


@pytest.fixture
def province(made: Path, tmp_path: Path) -> Path:
    """A copy to work on: origin, edge, and an empty medium."""
    shutil.copytree(made / "origin", tmp_path / "origin")
    succeed("edge", "init", tmp_path / "edge", "--bundle", made / "bundle.json")
    (tmp_path / "disk").mkdir()
    return tmp_path


def export(province: Path, *more: str | Path, to: str = "disk") -> Any:
    return succeed("courier", "export", "--origin", province / "origin", "--to", province / to, *(more or ("--all",)))


def bring(province: Path, disk: str = "disk") -> Any:
    return succeed("courier", "import", province / disk, "--edge", province / "edge", YUANJIAO_STORE_RESERVE_BYTES="0")


def listing(disk: Path) -> dict[str, int]:
    return {str(one.relative_to(disk)): one.stat().st_size for one in sorted(disk.rglob("*")) if one.is_file()}


def test_an_edge_without_a_line_plays_what_was_carried(province: Path) -> None:
    dry = export(province, "--all", "--dry-run")
    assert [item["id"] for item in dry["plan"]["items"]] == ["kj-a", "kj-b", "kj-c"]
    assert listing(province / "disk") == {}
    done = export(province)
    assert (done["complete"], done["lessons"], done["left"]) == (True, ["kj-a", "kj-b", "kj-c"], [])
    folder = province / "disk" / "yuanjiao-courier"
    courier = decode_courier((folder / "courier.json").read_bytes())
    assert (courier.publisher, courier.part, courier.parts, courier.complete) == ("410000", 1, 1, True)
    assert all(is_metadata_name(one.name) for one in (folder / "metadata").iterdir())
    brought = bring(province)
    assert (brought["added"], brought["complete"]) == (["kj-a", "kj-b", "kj-c"], True)
    # Nothing is written twice, and nothing is fetched twice.
    assert export(province)["bytes_written"] == 0
    assert bring(province)["added"] == []


def test_a_report_of_the_edge_packs_only_what_it_lacks(province: Path) -> None:
    export(province, "--all", "--max-size", "800k")
    assert bring(province)["added"] == ["kj-a", "kj-c"]
    report = province / "edge.report.json"
    succeed("edge", "report", province / "edge", "--out", report)
    (province / "second").mkdir()
    done = export(province, "--edge-report", report, to="second")
    assert done["lessons"] == ["kj-b"]
    assert done["target"].startswith("410122-")
    assert bring(province, "second")["added"] == ["kj-b"]


def test_a_report_that_was_changed_is_refused(province: Path) -> None:
    report = province / "edge.report.json"
    succeed("edge", "report", province / "edge", "--out", report)
    text = report.read_text()
    report.write_text(text.replace("410122", "410322"))
    arguments = ("courier", "export", "--origin", province / "origin", "--to", province / "disk", "--edge-report")
    assert run(*arguments, report).code == 3
    report.write_text("{}")
    assert run(*arguments, report).code == 3
    assert run(*arguments, province / "absent").code == 2
    assert listing(province / "disk") == {}


def test_two_disks_carry_what_one_cannot(province: Path) -> None:
    first = export(province, "--all", "--max-size", "800k")
    assert (first["lessons"], first["left"], first["part"], first["parts"]) == (["kj-a", "kj-c"], ["kj-b"], 1, 3)
    assert sum(listing(province / "disk").values()) <= 800_000
    again = run("courier", "export", "--origin", province / "origin", "--all", "--to", province / "disk", "--next")
    assert again.code == 2
    assert "第 1 张" in again.err or "part 1" in again.err
    (province / "second").mkdir()
    second = export(province, "--all", "--next", to="second")
    assert (second["lessons"], second["part"], second["series"]) == (["kj-b"], 2, first["series"])
    one = bring(province)
    assert (one["added"], one["complete"], [item["id"] for item in one["deferred"]]) == (
        ["kj-a", "kj-c"],
        True,
        ["kj-b"],
    )
    assert bring(province, "second")["added"] == ["kj-b"]


def test_names_on_the_medium_are_safe_for_fat(province: Path) -> None:
    export(province)
    allowed = set("abcdefghijklmnopqrstuvwxyz0123456789.-")
    for path in (province / "disk").rglob("*"):
        assert set(path.name) <= allowed, path
        assert not path.is_symlink()
        assert path.name[-1] != "."


def test_long_blobs_lie_in_parts(province: Path) -> None:
    async def pack() -> None:
        medium = Medium(province / "disk")
        async with app.open_origin(province / "origin", {}, system_clock) as origin:
            target = await all_stations(origin)
            with medium.locked():
                packing = await plan_disk(origin, medium, target, Options(part_bytes=1 << 18))
                await run_export(origin, medium, packing, lambda *_: None)

    asyncio.run(pack())
    names = listing(province / "disk")
    assert max(size for name, size in names.items() if "/blobs/" in name) == 1 << 18
    assert sum(name.endswith(".002") for name in names) == 2
    assert bring(province)["added"] == ["kj-a", "kj-b", "kj-c"]


@pytest.mark.parametrize("point", COURIER_POINTS)
def test_killed_at_any_point_the_next_run_goes_on(province: Path, point: str) -> None:
    arguments = ("courier", "export", "--origin", province / "origin", "--all", "--to", province / "disk")
    killed = spawn(*arguments, **{VARIABLE: point})
    assert killed.code == -signal.SIGKILL
    before = {name for name in listing(province / "disk") if "/blobs/" in name and not name.endswith(".tmp")}
    done = export(province)
    assert done["complete"]
    assert done["bytes_kept"] >= sum(listing(province / "disk")[name] for name in before)
    assert not [name for name in listing(province / "disk") if name.endswith(".tmp")]
    assert bring(province)["added"] == ["kj-a", "kj-b", "kj-c"]


def test_a_half_written_disk_can_be_imported(province: Path) -> None:
    arguments = ("courier", "export", "--origin", province / "origin", "--all", "--to", province / "disk")
    assert spawn(*arguments, **{VARIABLE: "courier:signed"}).code == -signal.SIGKILL
    report = bring(province)
    assert (report["added"], report["complete"], len(report["deferred"])) == ([], True, 3)
    export(province)
    assert bring(province)["added"] == ["kj-a", "kj-b", "kj-c"]


@pytest.mark.parametrize("point", ["sync:verified", "partial:written", "sync:proved", "install:written"])
def test_an_import_that_was_killed_goes_on(province: Path, point: str) -> None:
    export(province)
    arguments = ("courier", "import", province / "disk", "--edge", province / "edge")
    assert spawn(*arguments, **{VARIABLE: point}).code == -signal.SIGKILL
    bring(province)
    held = succeed("edge", "scrub", province / "edge")
    assert held["bad"] == []
    assert bring(province)["bytes_fetched"] < 2000


def test_a_medium_that_fills_up_ends_in_its_own_exit_code(province: Path) -> None:
    with small_disk(province / "small", "3m") as disk:
        done = export(province, to="small")
        assert done["complete"]
        fill(disk / "other")
        shutil.rmtree(disk / "yuanjiao-courier")
        (disk / "other").write_bytes(bytes(400_000))
        cut = export(province, to="small")
        assert cut["complete"]
        assert cut["bytes_planned"] < 3_000_000
    with small_disk(province / "tiny", "64k"):
        full = run("courier", "export", "--origin", province / "origin", "--all", "--to", province / "tiny")
        assert full.code == 5


def test_a_medium_filled_by_others_meanwhile(province: Path) -> None:
    """The plan said it fits; then somebody copies films onto the disk."""

    async def pack(disk: Path) -> None:
        medium = Medium(disk)
        async with app.open_origin(province / "origin", {}, system_clock) as origin:
            target = await all_stations(origin)
            with medium.locked():
                packing = await plan_disk(origin, medium, target, Options())
                fill(disk / "other")
                await run_export(origin, medium, packing, lambda *_: None)

    with small_disk(province / "small", "3m") as disk:
        with pytest.raises(Exception, match="no space left"):
            asyncio.run(pack(disk))
        (disk / "other").unlink()
        assert export(province, to="small")["complete"]


@pytest.mark.parametrize("name", ["", "blobs", "metadata", "shard"])
def test_an_export_follows_no_link(province: Path, name: str) -> None:
    away = province / "away"
    away.mkdir()
    if name == "shard":
        blobs = (one for one in (province / "origin" / "blobs").rglob("*") if one.is_file())
        name = f"blobs/{max(blobs, key=lambda one: one.stat().st_size).parent.name}"
    link = province / "disk" / "yuanjiao-courier" / name
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(away)
    done = run("courier", "export", "--origin", province / "origin", "--all", "--to", province / "disk")
    assert done.code == 3
    assert listing(away) == {}


def test_links_in_place_of_files_are_replaced(province: Path) -> None:
    export(province)
    precious = province / "precious"
    precious.write_bytes(b"precious")
    folder = province / "disk" / "yuanjiao-courier"
    for path in [*folder.rglob("*.json"), *(folder / "blobs").rglob("*")]:
        if path.is_file():
            path.unlink()
            path.symlink_to(precious)
            path.with_name(path.name + ".tmp").symlink_to(precious)
    export(province)
    assert precious.read_bytes() == b"precious"
    assert not [path for path in folder.rglob("*") if path.is_symlink()]
    assert bring(province)["added"] == ["kj-a", "kj-b", "kj-c"]


def test_check_mends_what_rotted_on_the_medium(province: Path) -> None:
    export(province)
    blobs = province / "disk" / "yuanjiao-courier" / "blobs"
    path = max((one for one in blobs.rglob("*") if one.is_file()), key=lambda one: one.stat().st_size)
    data = bytearray(path.read_bytes())
    data[1000] ^= 1
    path.write_bytes(data)
    refused = run("courier", "import", province / "disk", "--edge", province / "edge")
    assert refused.code == 3
    assert path.name in refused.err
    assert export(province)["bytes_written"] == 0
    assert export(province, "--all", "--check")["bytes_written"] == len(data)
    assert len(bring(province)["added"]) == 1


def test_a_blob_that_rotted_at_the_origin_is_not_packed(province: Path) -> None:
    blobs = province / "origin" / "blobs"
    path = max((one for one in blobs.rglob("*") if one.is_file()), key=lambda one: one.stat().st_size)
    data = bytearray(path.read_bytes())
    data[1000] ^= 1
    path.write_bytes(data)
    done = run("courier", "export", "--origin", province / "origin", "--all", "--to", province / "disk", "--json")
    assert done.code == 5
    assert (list(done.json["failed"]), done.json["lessons"]) == (["kj-b"], ["kj-a", "kj-c"])
    assert bring(province)["added"] == ["kj-a", "kj-c"]


def test_two_exports_do_not_write_one_medium(province: Path) -> None:
    with Medium(province / "disk").locked():
        busy = spawn("courier", "export", "--origin", province / "origin", "--all", "--to", province / "disk")
    assert busy.code == 4


@pytest.mark.parametrize(
    "arguments",
    [
        ("--to", "disk"),
        ("--to", "disk", "--all", "--edge-report", "x"),
        ("--to", "absent", "--all"),
        ("--to", "disk", "--all", "--max-size", "many"),
    ],
)
def test_wrong_usage_is_told(province: Path, arguments: tuple[str, ...]) -> None:
    given = [str(province / one) if one in {"disk", "absent"} else one for one in arguments]
    assert run("courier", "export", "--origin", province / "origin", *given).code == 2
    assert listing(province / "disk") == {}


def take_home(province: Path, disk: str = "disk") -> Any:
    return succeed("courier", "return", province / disk, "--origin", province / "origin")


def test_reports_travel_home_with_the_disk(province: Path) -> None:
    export(province)
    assert take_home(province)["edges"] == []
    carried = bring(province)["carried"]
    assert carried["reports"] >= 2
    assert carried["error"] == ""
    arguments = ("courier", "return", province / "disk", "--origin", province / "origin", "--dry-run")
    assert [succeed(*arguments)["applied"] for _ in range(2)] == [carried["reports"]] * 2
    first = take_home(province)
    assert (first["applied"], first["refused"]) == (carried["reports"], {})
    again = take_home(province)
    assert (again["applied"], again["edges"][0]["repeated"]) == (0, carried["reports"])
    # The next disk for all leaves out what the receipts prove.
    succeed("publish", fourth(province), "--origin", province / "origin", "--title", "第四课", "--id", "kj-d")
    (province / "second").mkdir()
    assert export(province, "--all", to="second")["lessons"] == ["kj-d"]
    assert bring(province, "second")["added"] == ["kj-d"]
    assert take_home(province, "second")["applied"] > 0


def fourth(province: Path) -> Path:
    path = province / "kj-d.pdf"
    path.write_bytes(b"%PDF-1.4\n" + random.Random(4).randbytes(20_000) + b"\n%%EOF\n")
    return path


def returned(disk: Path) -> Path:
    (path,) = (disk / "yuanjiao-courier" / "return").glob("*/outbox-*.json")
    return path


@pytest.mark.parametrize("damage", ["changed", "foreign", "garbage", "link", "pipe", "huge"])
def test_reports_that_do_not_prove_are_refused(province: Path, damage: str) -> None:
    export(province)
    bring(province)
    path = returned(province / "disk")
    data = path.read_bytes()
    match damage:
        case "changed":
            path.write_bytes(data.replace(b"kj-a", b"kj-z"))
        case "foreign":
            other = path.parent.with_name("410322-" + "0" * 16)
            path.parent.rename(other)
            path = other / path.name
        case "garbage":
            path.write_bytes(b"[" * 100_000)
        case "link":
            path.rename(province / "away")
            path.symlink_to(province / "away")
        case "pipe":
            path.unlink()
            os.mkfifo(path)
        case "huge":
            with path.open("r+b") as file:
                file.truncate(1 << 30)
    done = run("courier", "return", province / "disk", "--origin", province / "origin", "--json")
    assert done.code == 3
    assert list(done.json["refused"]) == [f"{path.parent.name}/{path.name}"]
    assert done.json["applied"] == 0
    # An honest disk still brings them.
    bring(province)
    if damage == "foreign":
        shutil.rmtree(path.parent)
    assert take_home(province)["applied"] > 0


def test_strangers_names_on_the_way_back_are_left_alone(province: Path) -> None:
    export(province)
    bring(province)
    back = province / "disk" / "yuanjiao-courier" / "return"
    (back / "..evil").mkdir()
    (back / "readme.txt").write_text("x")
    (returned(province / "disk").parent / "outbox-x.json").write_text("x")
    home = take_home(province)
    assert (len(home["edges"]), home["refused"]) == (1, {})


def test_a_medium_that_takes_no_reports_hinders_no_import(province: Path) -> None:
    export(province)
    (province / "disk" / "yuanjiao-courier" / "return").symlink_to(province)
    done = bring(province)
    assert done["added"] == ["kj-a", "kj-b", "kj-c"]
    assert "link" in done["carried"]["error"]
    assert not list(province.glob("410122-*"))


def test_a_refused_disk_still_takes_reports_home(province: Path) -> None:
    export(province)
    bring(province)
    (province / "second").mkdir()
    export(province, to="second")
    path = province / "second" / "yuanjiao-courier" / "metadata" / "timestamp.json"
    path.write_bytes(path.read_bytes().replace(b'"sig"', b'"gis"'))
    assert run("courier", "import", province / "second", "--edge", province / "edge").code == 3
    assert take_home(province, "second")["applied"] > 0
