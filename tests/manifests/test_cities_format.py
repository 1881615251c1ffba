"""Cities beside the province: the example of FORMAT.md, what is refused, and that reading as one never goes wrong."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.formats import ISSUED, hex64, make_catalog, make_courseware, make_file

from manifests import model
from manifests.catalog import check_catalog, decode_catalog, encode_catalog
from manifests.cities import (
    check_beside,
    check_city,
    city_of_id,
    city_of_role,
    is_followed,
    merge_catalogs,
    parse_city,
    paths_of,
    role_of,
    target_of,
)
from manifests.errors import FormatError, InputError
from manifests.model import Catalog, Column, Courseware, Recall
from manifests.names import Region, is_metadata_name

PACKAGE = Path(model.__file__).parent
EXAMPLE = json.loads((PACKAGE / "examples" / "cities.json").read_text(encoding="utf-8"))
ZHENGZHOU, KAIFENG, PROVINCE = Region("410100"), Region("410200"), Region("410000")


def read(document: object) -> Catalog:
    return decode_catalog(json.dumps(document).encode())


def test_names() -> None:
    names = EXAMPLE["names"]
    assert (role_of(ZHENGZHOU), [paths_of(ZHENGZHOU)]) == (names["role"], names["paths"])
    assert target_of(ZHENGZHOU) == names["target"]
    assert is_metadata_name(names["metadata"])
    assert city_of_role(names["role"]) == ZHENGZHOU
    for region, cities in EXAMPLE["followed"].items():
        assert [one for one in (ZHENGZHOU, KAIFENG) if is_followed(one, Region(region))] == cities


def test_example() -> None:
    province, city, merged = read(EXAMPLE["province"]), read(EXAMPLE["city"]), EXAMPLE["merged"]
    check_city(city, ZHENGZHOU)
    check_beside(city, province)
    found = merge_catalogs(province, [city])
    assert [[one.id, one.title] for one in found.columns] == merged["columns"]
    assert [[one.id, one.version] for one in found.courseware] == merged["courseware"]
    assert [[one.id, one.version] for one in found.recalls] == merged["recalls"]
    assert found.version == merged["version"]
    text = (PACKAGE / "FORMAT.md").read_text(encoding="utf-8")
    for name in ("columns", "courseware", "recalls"):
        assert f"{name:10} {', '.join(f'{a} {b}' for a, b in merged[name])}" in text


@pytest.mark.parametrize("bad", EXAMPLE["refused"], ids=lambda bad: bad["why"])
def test_refused(bad: dict) -> None:
    catalog = read({**EXAMPLE["city"], **bad["set"]})
    with pytest.raises(FormatError):
        check_city(catalog, ZHENGZHOU)


def test_an_id_of_the_provinces_is_refused_and_never_shown_twice() -> None:
    province = make_catalog(courseware=(make_courseware(id="410100-a", title="省"),))
    city = make_catalog(publisher=ZHENGZHOU, courseware=(make_courseware(id="410100-a", audience=(ZHENGZHOU,)),))
    with pytest.raises(FormatError):
        check_beside(city, province)
    assert merge_catalogs(province, [city]).courseware == province.courseware


@pytest.mark.parametrize("text", ["410000", "410122", "420100", "41010", "", "城市"])
def test_no_city_of_the_province(text: str) -> None:
    with pytest.raises(InputError):
        parse_city(text, PROVINCE)


@pytest.mark.parametrize("role", ["cities-410000", "cities-410122", "cities-41010", "targets", "cities-410100-2"])
def test_no_citys_role(role: str) -> None:
    assert city_of_role(role) is None


def item(id_: str, version: int, audience: str, columns: Sequence[str]) -> Courseware:
    file = make_file(blob=hex64(sum(map(ord, id_)) + version), table=hex64(7))
    return make_courseware(id=id_, version=version, audience=(audience,), columns=tuple(columns), files=(file,))


def catalogs_of(publisher: str, prefix: str) -> st.SearchStrategy[Catalog]:
    names = st.sampled_from([f"{prefix}{name}" for name in ("a", "b", "c", "d")])
    lessons = st.dictionaries(names, st.tuples(st.integers(1, 4), st.sets(st.sampled_from("xyz"))), max_size=4)
    recalled = st.dictionaries(names, st.integers(1, 4), max_size=4)

    def make(offered: dict[str, tuple[int, set[str]]], recalls: dict[str, int], order: int) -> Catalog:
        items = [
            item(id_, version, publisher, sorted(columns))
            for id_, (version, columns) in sorted(offered.items())
            if version > recalls.get(id_, 0)
        ]
        return make_catalog(
            publisher=publisher,
            courseware=tuple(items),
            columns=tuple(Column(one, f"{publisher} {one}", order) for one in "xyz"),
            recalls=tuple(Recall(id_, version, "r", ISSUED) for id_, version in sorted(recalls.items())),
        )

    return st.builds(make, lessons, recalled, st.integers(-3, 3))


def provinces() -> st.SearchStrategy[Catalog]:
    """With ids of its own, and now and then one of a city: it may recall it, or had it before there were cities."""
    own, taken = catalogs_of(PROVINCE, "kj-"), catalogs_of(PROVINCE, "410100-")

    def join(one: Catalog, other: Catalog) -> Catalog:
        return msgspec.structs.replace(
            one, courseware=(*other.courseware, *one.courseware), recalls=(*other.recalls, *one.recalls)
        )

    return st.builds(join, own, taken)


CITIES = st.tuples(catalogs_of(ZHENGZHOU, "410100-"), catalogs_of(KAIFENG, "410200-"))


@given(provinces(), CITIES)
def test_as_one_it_is_a_catalog_in_which_the_province_stands(
    province: Catalog, cities: tuple[Catalog, Catalog]
) -> None:
    for city, code in zip(cities, (ZHENGZHOU, KAIFENG), strict=True):
        check_city(city, code)
    merged = merge_catalogs(province, cities)
    check_catalog(merged)
    assert decode_catalog(encode_catalog(merged)) == merged
    offered = {one.id: one for one in merged.courseware}
    assert all(offered[one.id] == one for one in province.courseware)
    titles = {one.id: one.title for one in merged.columns}
    assert all(titles[one.id] == one.title for one in province.columns)
    recalls = {one.id: one.version for one in merged.recalls}
    assert all(recalls[one.id] >= one.version for one in province.recalls)
    # Nothing is lost and nothing is made up: each lesson is somebody's, and a city's is absent for a reason.
    every = {one.id: one for catalog in (*reversed(cities), province) for one in catalog.courseware}
    assert all(every[id_] == one for id_, one in offered.items())
    said = {one.id: one.version for one in province.recalls}
    assert {id_ for id_ in every if id_ not in offered} == {
        id_ for id_, one in every.items() if city_of_id(id_) and one.version <= said.get(id_, 0)
    }


@given(provinces(), CITIES)
def test_the_order_of_cities_does_not_matter_and_a_city_touches_only_its_own(
    province: Catalog, cities: tuple[Catalog, Catalog]
) -> None:
    one, other = cities
    assert merge_catalogs(province, [one, other]).courseware == merge_catalogs(province, [other, one]).courseware
    assert merge_catalogs(province, [one, other]).recalls == merge_catalogs(province, [other, one]).recalls
    alone, both = merge_catalogs(province, [one]), merge_catalogs(province, [one, other])
    own = {item for item in (lesson.id for lesson in both.courseware) if city_of_id(item) == KAIFENG}
    assert {lesson.id for lesson in both.courseware} - own == {lesson.id for lesson in alone.courseware}
    assert merge_catalogs(province, []) is province
