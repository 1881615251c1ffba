"""Regions and the enrolment of edges."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key
from sqlalchemy import Row, select
from sqlalchemy.ext.asyncio import AsyncEngine
from support.releases import PROVINCE, AddressIn, Edge, ManualClock, open_releases

from manifests.bundle import Bundle, decode_bundle, encode_bundle
from manifests.errors import ConfigurationError, InputError
from manifests.instants import dump_instant
from manifests.names import Region
from origin.database.engine import open_database, reading
from origin.database.tables import audit, edges
from origin.stations.regions import load_regions
from origin.stations.registry import enroll


@pytest.fixture
async def engine(tmp_path: Path, address_in: AddressIn) -> AsyncIterator[AsyncEngine]:
    async with open_database(address_in(tmp_path)) as engine:
        yield engine


async def _enroll(engine: AsyncEngine, county: str = "410122", **changes: object) -> Bundle:
    parts: dict[str, object] = {"name": "", "upstreams": ("http://10.1.2.3:8080/",), "root_json": "{}"}
    parts |= {"clock": ManualClock(1_800_000_000), "publisher": PROVINCE}
    return await enroll(engine, county, **(parts | changes))


async def _edges(engine: AsyncEngine) -> list[Row[Any]]:
    async with reading(engine) as connection:
        return list(await connection.execute(select(edges).order_by(edges.c.region, edges.c.serial)))


def test_henan_is_whole() -> None:
    regions = load_regions()
    counties = regions.within(PROVINCE, "county")
    assert len(regions.within(PROVINCE, "province")) == 1
    assert len(regions.within(PROVINCE, "city")) == 18
    assert len(counties) == 157
    assert {kind: sum(row.name.endswith(kind) for row in counties) for kind in "区县市"} == {
        "区": 54,
        "县": 82,
        "市": 21,
    }
    assert len({row.code for row in regions.rows}) == len({row.name for row in regions.rows}) == 176
    assert all(row.as_of == "2023-06-30" and row.source for row in regions.rows)
    assert [row.name for row in regions.within(Region("410100"), "county")][:3] == ["中原区", "二七区", "管城回族区"]


@pytest.mark.parametrize(
    ("text", "code"),
    [("410122", "410122"), ("中牟县", "410122"), ("中牟", "410122"), ("济源市", "419001"), ("郑州", "410100")],
)
def test_a_region_is_found_by_code_or_name(text: str, code: str) -> None:
    assert load_regions().find(text).code == code


@pytest.mark.parametrize("text", ["410199", "", "没有县", "新乡", "41012", "4101220", "<b>"])
def test_an_unknown_or_ambiguous_region_is_refused(text: str) -> None:
    with pytest.raises(InputError):
        load_regions().find(text)


def test_a_province_without_rows_goes_by_code() -> None:
    assert load_regions().find("330102").name == "330102"


async def test_a_bundle_carries_what_an_edge_needs(engine: AsyncEngine) -> None:
    bundle = decode_bundle(encode_bundle(await _enroll(engine, "中牟县", name="中牟一号")))
    assert (bundle.publisher, bundle.region, bundle.region_name) == ("410000", "410122", "中牟县")
    assert bundle.upstreams == ("http://10.1.2.3:8080",)
    assert bundle.issued == dump_instant(ManualClock(1_800_000_000)())
    assert bundle.identity is not None
    private = load_pem_private_key(bundle.identity.private_key.encode(), None)
    assert private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw).hex() == bundle.identity.public_key
    (row,) = await _edges(engine)
    assert (row.code, row.name, row.public_key) == ("410122-1", "中牟一号", bundle.identity.public_key)


async def test_each_enrolment_is_an_edge_of_its_own_and_is_written_down(engine: AsyncEngine) -> None:
    bundles = await asyncio.gather(*(_enroll(engine, with_key=n > 0) for n in range(3)), _enroll(engine, "410100"))
    assert [row.code for row in await _edges(engine)] == ["410100-1", "410122-1", "410122-2", "410122-3"]
    assert len({bundle.identity.key_id if bundle.identity else None for bundle in bundles}) == 4
    async with reading(engine) as connection:
        details = [row.detail for row in await connection.execute(select(audit))]
    assert len(details) == 4
    assert not any("PRIVATE" in detail for detail in details)


@pytest.mark.parametrize(
    ("county", "changes", "error"),
    [
        ("410199", {}, InputError),
        ("410000", {}, InputError),
        ("330102", {}, InputError),
        ("410322", {"publisher": Region("410100")}, InputError),
        ("410122", {"name": "a\nb"}, InputError),
        ("410122", {"upstreams": ()}, ConfigurationError),
        ("410122", {"upstreams": ("ftp://x",)}, ConfigurationError),
        ("410122", {"upstreams": ("http://user:secret@x",)}, ConfigurationError),
    ],
)
async def test_what_cannot_be_enrolled_is_told(
    engine: AsyncEngine, county: str, changes: dict[str, object], error: type[Exception]
) -> None:
    with pytest.raises(error):
        await _enroll(engine, county, **changes)
    assert await _edges(engine) == []


async def test_an_edge_starts_from_the_newest_root(engine: AsyncEngine, tmp_path: Path) -> None:
    async with open_releases(tmp_path / "origin") as releases:
        await releases.establish()
        await releases.rotate("snapshot")
        bundle = await _enroll(engine, root_json=await releases.root_text())
        edge = Edge(tmp_path / "edge", tmp_path / "origin", bundle.root)
        edge.poll()
        assert "2.root.json" not in edge.asked
