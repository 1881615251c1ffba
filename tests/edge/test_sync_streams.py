"""A lesson's fragmented copy is built by a patch from its video, whether that is here or only just came."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
from support.edges import edge_at, preview, run, stored
from support.province import COUNTY, PROVINCE, ManualClock, Province, Site

from edge.sync.carried import Carried, plan_carried
from edge.sync.planner import Here, How, Wanted
from manifests.digests import digest_of
from manifests.model import FORMAT, MAJOR, Catalog, Courseware, File, Patch
from manifests.names import Region
from manifests.pieces import PIECE_SIZE, BlobRef
from tools.courier.planner import Room, Station, plan_export

RNG = random.Random(20261127)
VIDEO = RNG.randbytes(12 * PIECE_SIZE)
# As a remux is: a header of its own, and a few bytes of it between long runs of the same samples.
COPY = RNG.randbytes(700) + b"".join(VIDEO[at : at + 90_000] + RNG.randbytes(40) for at in range(0, len(VIDEO), 90_000))


def put_lesson(province: Province, id_: str, *, patch: Patch | None = None, is_first: bool = False) -> Courseware:
    """A video and its copy, which may stand before it, as it never should."""
    item = province.lesson(id_, {"a.mp4": VIDEO})
    ref = province.blob(COPY)
    patches = (patch or province.patch(item.files[0].blob, COPY),)
    # Streams always stand behind files on the wire; only a file can stand before the video.
    copy = File(
        "video" if is_first else "rendition",
        "a.720p.mp4",
        "video/mp4",
        ref.digest,
        ref.size,
        ref.table,
        patches=patches,
    )
    files = (copy, *item.files) if is_first else (*item.files, copy)
    province.lessons[id_] = msgspec.structs.replace(item, files=files)
    return province.lessons[id_]


@pytest.fixture
async def site(province: Province) -> AsyncIterator[Site]:
    async with Site(province.content).running() as found:
        yield found


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def province(clock: ManualClock) -> Province:
    return Province(clock)


async def test_a_first_sync_fetches_the_video_and_a_patch(
    tmp_path: Path, province: Province, clock: ManualClock, site: Site
) -> None:
    item = put_lesson(province, "film")
    province.release()
    async with edge_at(tmp_path, province, clock, site.url) as edge:
        plan = await preview(edge)
        assert [file.how for file in plan.items[0].files] == [How.PIECES, How.PATCH]
        site.forget()
        report = await run(edge)
        assert stored(edge, "film", "a.720p.mp4") == COPY
        assert stored(edge, "film", "a.mp4") == VIDEO
        assert report.bytes_from_patches == len(COPY)
        assert site.asked(item.files[1].blob) == 0
        assert len(VIDEO) < site.bytes_sent < 1.01 * len(VIDEO)
        assert plan.bytes_expected == pytest.approx(site.bytes_sent, rel=0.01)


async def test_an_edge_that_has_the_video_fetches_the_patch_alone(
    tmp_path: Path, province: Province, clock: ManualClock, site: Site
) -> None:
    province.lesson("film", {"a.mp4": VIDEO})
    province.release()
    async with edge_at(tmp_path, province, clock, site.url) as edge:
        await run(edge)
        put_lesson(province, "film")
        province.release()
        site.forget()
        await run(edge)
        assert stored(edge, "film", "a.720p.mp4") == COPY
        assert site.bytes_sent < 0.02 * len(COPY)


async def test_two_lessons_with_the_same_video_fetch_it_once(
    tmp_path: Path, province: Province, clock: ManualClock, site: Site
) -> None:
    put_lesson(province, "film")
    put_lesson(province, "again")
    province.release()
    async with edge_at(tmp_path, province, clock, site.url) as edge:
        await run(edge)
        for id_ in ("film", "again"):
            assert stored(edge, id_, "a.720p.mp4") == COPY
        assert site.bytes_sent < 1.02 * len(VIDEO)


def test_a_disk_with_the_video_and_the_patch_is_enough(province: Province, clock: ManualClock) -> None:
    item = put_lesson(province, "film")
    catalog = Catalog(FORMAT, MAJOR, PROVINCE, 1, item.published, columns=province.columns, courseware=(item,))
    video, copy = item.files
    carried = {video.blob, video.table, copy.table, copy.patches[0].blob, copy.patches[0].table}
    wanted = Wanted(Region(COUNTY))
    for at_hand, ways in ((carried, [How.PIECES, How.PATCH]), (carried - {copy.patches[0].blob}, None)):
        disk = Carried(frozenset(one for one in at_hand if one))
        (plan,) = plan_carried(Here({}, set(), {}, 1 << 40), catalog, wanted, clock(), disk).items
        assert ([file.how for file in plan.files] or None) == ways
    # The export plans by the same rule: what it packs is what the import can build from.
    packed = plan_export(
        catalog, BlobRef(digest_of(b"c"), 1), [Station(COUNTY)], {}, Room(1 << 40, 4096, 1 << 30), clock()
    )
    assert packed.items[0].blobs.keys() == {one for one in carried if one}


@pytest.mark.parametrize("fault", ["rotten", "absent", "first"])
async def test_pieces_come_where_the_patch_does_not(
    tmp_path: Path, province: Province, clock: ManualClock, site: Site, fault: str
) -> None:
    item = put_lesson(province, "film", is_first=fault == "first")
    copy = next(file for file in item.files if file.name == "a.720p.mp4")
    if fault == "rotten":
        province.content.flip(copy.patches[0].blob, 60)
    if fault == "absent":
        del province.content.blobs[copy.patches[0].blob]
    province.release()
    async with edge_at(tmp_path, province, clock, site.url) as edge:
        report = await run(edge)
        assert report.complete
        assert stored(edge, "film", "a.720p.mp4") == COPY
        assert report.bytes_fetched > len(VIDEO) + len(COPY)


async def test_a_line_cut_between_the_video_and_its_copy_costs_nothing(
    tmp_path: Path, province: Province, clock: ManualClock, site: Site
) -> None:
    item = put_lesson(province, "film")
    patch = item.files[1].patches[0]
    province.release()
    kept = province.content.blobs.pop(patch.blob), province.content.blobs.pop(item.files[1].blob)
    async with edge_at(tmp_path, province, clock, site.url) as edge:
        assert not (await run(edge)).complete
    province.content.blobs |= dict(zip((patch.blob, item.files[1].blob), kept, strict=True))
    async with edge_at(tmp_path, province, clock, site.url) as edge:
        site.forget()
        assert (await run(edge)).complete
        assert stored(edge, "film", "a.720p.mp4") == COPY
        assert site.bytes_sent < 0.02 * len(COPY)
