"""A courier disk at an edge: what proves is installed, what does not is refused by name, whoever made it."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest
from support.courier import blob_file, import_at, preview_at, write_disk
from support.edges import edge_at, run, stored
from support.province import DAY, ManualClock, Province

from edge.sync.planner import Action, How
from edge.upstream.body import Body
from edge.upstream.disk import open_disk
from manifests.errors import (
    ConfigurationError,
    ExpiredError,
    FormatError,
    RollbackError,
    SignatureError,
    TransferError,
    UntrustedError,
)
from manifests.pieces import PIECE_SIZE

RNG = random.Random(31)
FILM, NEWER, LEAFLET = RNG.randbytes(5 * PIECE_SIZE + 77), RNG.randbytes(3 * PIECE_SIZE), RNG.randbytes(3000)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def province(clock: ManualClock) -> Province:
    made = Province(clock)
    made.lesson("film", {"film.mp4": FILM})
    made.lesson("leaflet", {"leaflet.pdf": LEAFLET})
    made.release()
    return made


async def test_an_edge_without_any_line_gets_all(tmp_path: Path, province: Province, clock: ManualClock) -> None:
    write_disk(province, tmp_path, part_bytes=1 << 19)
    report = await import_at(tmp_path / "edge", province, clock, tmp_path)
    assert report.added == ("film", "leaflet")
    assert report.exit_code == 0
    assert list(report.sources) == [f"courier:{tmp_path}/yuanjiao-courier"]
    async with edge_at(tmp_path / "edge", province, clock) as edge:
        assert stored(edge, "film", "film.mp4") == FILM
    again = await import_at(tmp_path / "edge", province, clock, tmp_path)
    assert (again.added, again.bytes_fetched < 1000) == ((), True)


async def test_what_a_disk_lacks_waits(tmp_path: Path, province: Province, clock: ManualClock) -> None:
    write_disk(province, tmp_path, ["leaflet"])
    plan = await preview_at(tmp_path / "edge", province, clock, tmp_path)
    assert [(one.id, one.action) for one in plan.items] == [("leaflet", Action.ADD), ("film", Action.DEFER)]
    report = await import_at(tmp_path / "edge", province, clock, tmp_path)
    assert report.added == ("leaflet",)
    assert [one.id for one in report.deferred] == ["film"]
    assert "another disk" in report.deferred[0].reason
    assert report.exit_code == 0
    # The disk settled nothing: the line brings the rest, and only the rest.
    async with province.site().running() as site, edge_at(tmp_path / "edge", province, clock, site.url) as edge:
        online = await run(edge)
        assert online.added == ("film",)
        assert site.asked(province.lessons["leaflet"].files[0].blob) == 0


async def test_the_disk_goes_on_where_the_night_stopped(tmp_path: Path, province: Province, clock: ManualClock) -> None:
    blob = province.lessons["film"].files[0].blob
    mirror = province.mirror()
    data = bytearray(mirror.content.blobs[blob])
    data[4 * PIECE_SIZE] ^= 1
    mirror.content.blobs[blob] = bytes(data)
    async with mirror.running() as site, edge_at(tmp_path / "edge", province, clock, site.url) as edge:
        assert (await run(edge)).exit_code == 3
    write_disk(province, tmp_path)
    report = await import_at(tmp_path / "edge", province, clock, tmp_path)
    assert report.added == ("film",)
    assert report.bytes_fetched < 2 * PIECE_SIZE


async def test_a_disk_with_the_patch_alone_updates(tmp_path: Path, clock: ManualClock) -> None:
    province = Province(clock)
    province.lesson("film", {"film.mp4": FILM})
    province.release()
    await import_at(tmp_path / "edge", province, clock, write_disk(province, tmp_path / "one").parent)
    province.lesson("film", {"film.mp4": FILM[: 3 * PIECE_SIZE] + b"new" + FILM[3 * PIECE_SIZE :]})
    province.release()
    write_disk(province, tmp_path / "two", patches=True)
    plan = await preview_at(tmp_path / "edge", province, clock, tmp_path / "two")
    assert [file.how for file in plan.items[0].files] == [How.PATCH]
    report = await import_at(tmp_path / "edge", province, clock, tmp_path / "two")
    assert (report.updated, report.exit_code) == (("film",), 0)
    assert report.bytes_fetched < PIECE_SIZE
    # Another edge, which holds no older version, cannot build it from this disk and says so.
    other = await import_at(tmp_path / "other", province, clock, tmp_path / "two")
    assert [one.id for one in other.deferred] == ["film"]


async def test_a_recall_travels(tmp_path: Path, province: Province, clock: ManualClock) -> None:
    await import_at(tmp_path / "edge", province, clock, write_disk(province, tmp_path / "one").parent)
    province.recall("film")
    province.release()
    write_disk(province, tmp_path / "two", ["leaflet"])
    assert (await import_at(tmp_path / "edge", province, clock, tmp_path / "two")).recalled == ("film",)


async def test_a_recalled_lesson_goes_although_its_new_version_is_elsewhere(
    tmp_path: Path, province: Province, clock: ManualClock
) -> None:
    await import_at(tmp_path / "edge", province, clock, write_disk(province, tmp_path / "one").parent)
    province.recall("film")
    province.lesson("film", {"film.mp4": NEWER})
    province.release()
    write_disk(province, tmp_path / "two", ["leaflet"])
    report = await import_at(tmp_path / "edge", province, clock, tmp_path / "two")
    assert report.recalled == ("film",)
    assert [one.id for one in report.deferred] == ["film"]


async def test_a_timestamp_may_expire_on_the_way(tmp_path: Path, province: Province, clock: ManualClock) -> None:
    write_disk(province, tmp_path)
    clock.move(DAY + 29 * DAY)
    async with edge_at(tmp_path / "edge", province, clock) as edge:
        floor = edge.trust.now()
    report = await import_at(tmp_path / "edge", province, clock, tmp_path)
    assert (report.added, report.freshness) == (("film", "leaflet"), "stale")
    async with edge_at(tmp_path / "edge", province, clock) as edge:
        assert edge.trust.now() >= floor


async def test_the_grace_is_the_disks_alone(tmp_path: Path, province: Province, clock: ManualClock) -> None:
    clock.move(5 * DAY)
    async with province.site().running() as site, edge_at(tmp_path / "edge", province, clock, site.url) as edge:
        with pytest.raises(ExpiredError):
            await run(edge)


async def test_a_disk_too_old_is_refused(tmp_path: Path, province: Province, clock: ManualClock) -> None:
    write_disk(province, tmp_path)
    clock.move(DAY + 30 * DAY)
    with pytest.raises(ExpiredError, match=r"yuanjiao-courier/metadata/timestamp\.json"):
        await import_at(tmp_path / "edge", province, clock, tmp_path)


async def test_expired_targets_have_no_grace(tmp_path: Path, province: Province, clock: ManualClock) -> None:
    clock.move(365 * DAY)
    province.renew()
    province.sign_snapshot()
    province.renew()
    write_disk(province, tmp_path)
    with pytest.raises(ExpiredError, match="targets"):
        await import_at(tmp_path / "edge", province, clock, tmp_path)


async def test_an_older_disk_gives_its_files_to_the_newer_catalog(
    tmp_path: Path, province: Province, clock: ManualClock
) -> None:
    write_disk(province, tmp_path)
    clock.move(60)
    province.recall("leaflet")
    province.release()
    blob = province.lessons["film"].files[0].blob
    mirror = province.mirror()
    del mirror.content.blobs[blob]
    async with mirror.running() as site, edge_at(tmp_path / "edge", province, clock, site.url) as edge:
        assert (await run(edge)).exit_code == 4
    report = await import_at(tmp_path / "edge", province, clock, tmp_path)
    # Not the leaflet, which the newer catalog has recalled.
    assert (report.added, report.catalog_version, report.exit_code) == (("film",), 2, 0)


async def test_a_mixed_release_is_refused(tmp_path: Path, province: Province, clock: ManualClock) -> None:
    await import_at(tmp_path / "edge", province, clock, write_disk(province, tmp_path / "one").parent)
    clock.move(60)
    old = dict(province.content.metadata)
    province.lesson("third", {"third.pdf": b"third"})
    province.release()
    folder = write_disk(province, tmp_path / "two")
    (folder / "metadata" / "2.snapshot.json").write_bytes(old["1.snapshot.json"])
    with pytest.raises(RollbackError, match=r"yuanjiao-courier/metadata/2\.snapshot\.json"):
        await import_at(tmp_path / "edge", province, clock, tmp_path / "two")


async def test_a_rolled_back_catalog_is_refused(tmp_path: Path, province: Province, clock: ManualClock) -> None:
    """Somebody with the online keys only signs a newer timestamp over older targets."""
    old = dict(province.content.metadata)
    province.lesson("third", {"third.pdf": b"third"})
    province.release()
    await import_at(tmp_path / "edge", province, clock, write_disk(province, tmp_path / "one").parent)
    province.versions["targets"] = 1
    province.sign_snapshot()
    province.renew()
    folder = write_disk(province, tmp_path / "two")
    (folder / "metadata" / "1.targets.json").write_bytes(old["1.targets.json"])
    with pytest.raises(RollbackError, match="yuanjiao-courier/metadata/"):
        await import_at(tmp_path / "edge", province, clock, tmp_path / "two")


async def test_a_forged_role_is_refused(tmp_path: Path, province: Province, clock: ManualClock) -> None:
    folder = write_disk(province, tmp_path)
    path = folder / "metadata" / "1.targets.json"
    path.write_bytes(path.read_bytes().replace(b'"length"', b'"lenght"'))
    with pytest.raises(UntrustedError, match=r"yuanjiao-courier/metadata/1\.targets\.json"):
        await import_at(tmp_path / "edge", province, clock, tmp_path)


async def test_another_provinces_disk_is_refused(tmp_path: Path, province: Province, clock: ManualClock) -> None:
    other = Province(clock, region="420000")
    other.lesson("film", {"film.mp4": FILM})
    other.release()
    write_disk(other, tmp_path / "honest")
    with pytest.raises(ConfigurationError, match="420000"):
        await import_at(tmp_path / "edge", province, clock, tmp_path / "honest")
    write_disk(other, tmp_path / "lying", publisher=province.region)
    with pytest.raises((SignatureError, RollbackError)):
        await import_at(tmp_path / "edge", province, clock, tmp_path / "lying")


@pytest.mark.parametrize("damage", ["flipped", "short", "long", "link", "pipe", "folder"])
async def test_a_bad_blob_costs_its_own_lesson(
    tmp_path: Path, province: Province, clock: ManualClock, damage: str
) -> None:
    folder = write_disk(province, tmp_path)
    path = blob_file(folder, province.lessons["film"].files[0].blob)
    data = path.read_bytes()
    secret = tmp_path / "secret"
    secret.write_bytes(data)
    match damage:
        case "flipped":
            path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
        case "short":
            path.write_bytes(data[:-1])
        case "long":
            path.write_bytes(data + b"\0")
        case "link":
            path.unlink()
            path.symlink_to(secret)
        case "pipe":
            path.unlink()
            os.mkfifo(path)
        case "folder":
            path.unlink()
            path.mkdir()
    report = await import_at(tmp_path / "edge", province, clock, tmp_path)
    assert (report.added, report.exit_code) == (("leaflet",), 3)
    assert str(path) in report.error
    assert str(path) in report.deferred[0].reason


@pytest.mark.parametrize("name", ["yuanjiao-courier", "metadata", "blobs", "courier.json", "metadata/timestamp.json"])
async def test_links_on_the_medium_are_not_followed(
    tmp_path: Path, province: Province, clock: ManualClock, name: str
) -> None:
    folder = write_disk(province, tmp_path)
    path = folder if name == "yuanjiao-courier" else folder / name
    away = tmp_path / "away"
    path.rename(away)
    path.symlink_to(away)
    with pytest.raises(FormatError, match="a link"):
        await import_at(tmp_path / "edge", province, clock, tmp_path)


async def test_a_listed_blob_that_is_not_there_is_a_failed_transfer(
    tmp_path: Path, province: Province, clock: ManualClock
) -> None:
    folder = write_disk(province, tmp_path)
    blob_file(folder, province.lessons["film"].files[0].blob).unlink()
    report = await import_at(tmp_path / "edge", province, clock, tmp_path)
    assert (report.added, report.exit_code) == (("leaflet",), 4)


async def test_a_disk_that_was_pulled_out_early_gives_what_it_has(
    tmp_path: Path, province: Province, clock: ManualClock
) -> None:
    folder = write_disk(province, tmp_path, complete=False, part_bytes=1 << 19)
    film = province.lessons["film"].files[0].blob
    (folder / "blobs" / film[:2] / f"{film}.002").unlink()
    report = await import_at(tmp_path / "edge", province, clock, tmp_path)
    assert (report.added, report.exit_code) == (("leaflet",), 0)
    assert [one.id for one in report.deferred] == ["film"]


@pytest.mark.parametrize(
    ("text", "error"),
    [
        (b"", FormatError),
        (b"[]", FormatError),
        (b'{"format":"other"}', FormatError),
        (b'{"format":"yuanjiao-courier","major":2}', FormatError),
        (b'{"format":"yuanjiao-courier","major":1}', FormatError),
        (b"[" * 100_000, FormatError),
        (b"\xff\xfe", FormatError),
    ],
)
def test_a_strange_courier_file_is_refused(tmp_path: Path, text: bytes, error: type[Exception]) -> None:
    (tmp_path / "yuanjiao-courier").mkdir()
    (tmp_path / "yuanjiao-courier" / "courier.json").write_bytes(text)
    with pytest.raises(error):
        open_disk(tmp_path)


def test_a_folder_without_a_disk_is_a_mistake(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="is no courier disk"):
        open_disk(tmp_path)


async def test_only_names_of_the_format_are_read(tmp_path: Path, province: Province) -> None:
    disk = open_disk(write_disk(province, tmp_path))
    for path in ("/metadata/../courier.json", "/courier.json", "/metadata/courier.json", "/metadata/1.Root.json"):
        with pytest.raises(TransferError, match="no such resource"):
            await disk.get_bytes(path, 1000)
    for path in ("/blobs/../courier.json", "/blobs/" + "A" * 64, "/metadata/1.root.json"):
        with pytest.raises(TransferError, match="no such resource"):
            await disk.fill(path, Body(0, 1, 1))
    with pytest.raises(TransferError, match="at most 10"):
        await disk.get_bytes("/metadata/1.root.json", 10)
