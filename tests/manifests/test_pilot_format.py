"""Pilots in a catalog: who gets which version, what older readers see, what is refused."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec import Struct
from support.formats import catalogs, hex64, make_catalog, make_courseware, make_file

from manifests.catalog import (
    decode_catalog,
    encode_catalog,
    is_for,
    item_for,
    items_of,
    resolve,
    variants_of,
)
from manifests.errors import FormatError
from manifests.model import MAX_PILOTS, Catalog, Courseware, Pilot
from manifests.names import Region, is_within

some = settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow], deadline=None)
REGIONS = st.from_regex(r"[1-9][0-9]{5}", fullmatch=True).map(Region)

BASE = make_courseware(version=3)
NEXT = make_courseware(version=4, title="修订", files=(make_file(blob=hex64(3)),))


def with_pilot(audience: tuple[str, ...] = ("410122",), following: Courseware = NEXT) -> Courseware:
    return msgspec.structs.replace(BASE, pilot=Pilot(audience, following))


def catalog_with(*items: Courseware) -> Catalog:
    return make_catalog(courseware=items)


def test_each_region_has_one_version() -> None:
    item = with_pilot(("410122", "410300"))
    for region, version in (("410122", 4), ("410123", 3), ("410305", 4), ("410300", 4), ("410100", 3)):
        assert item_for(item, Region(region)).version == version
    assert item_for(item, Region("410123")) == BASE
    catalog = decode_catalog(encode_catalog(catalog_with(item)))
    assert resolve(catalog, Region("410122")).courseware == (NEXT,)
    assert resolve(catalog, Region("410123")).courseware == (BASE,)
    assert list(items_of(catalog)) == [BASE, NEXT]


def test_a_region_that_the_next_version_is_not_meant_for_loses_the_lesson_as_it_will_in_the_end() -> None:
    item = with_pilot(("410122",), msgspec.structs.replace(NEXT, audience=("410300",)))
    assert not is_for(item_for(item, Region("410122")), Region("410122"))
    assert is_for(item_for(item, Region("410123")), Region("410123"))


@some
@given(catalogs(), REGIONS)
def test_resolving_leaves_each_lesson_once_and_no_pilot(catalog: Catalog, region: Region) -> None:
    left = resolve(catalog, region)
    assert [item.id for item in left.courseware] == [item.id for item in catalog.courseware]
    assert resolve(left, region) == left, "once is enough"
    for before, after in zip(catalog.courseware, left.courseware, strict=True):
        assert after.pilot is None
        assert after in variants_of(before)
        takes_part = before.pilot is not None and any(is_within(region, Region(one)) for one in before.pilot.audience)
        assert (after.version > before.version) == takes_part
    # What is left is a catalog like any other.
    assert (
        resolve(decode_catalog(encode_catalog(left)), region).courseware
        == decode_catalog(encode_catalog(left)).courseware
    )


class _OldCourseware(Struct):
    id: str
    version: int
    audience: tuple[str, ...]


class _OldCatalog(Struct):
    """What a reader of minor 1 takes of a catalog, as far as it matters here."""

    major: int
    minor: int = 0
    courseware: tuple[_OldCourseware, ...] = ()


@some
@given(catalogs())
def test_an_older_reader_sees_the_entry_without_its_pilot(catalog: Catalog) -> None:
    data = encode_catalog(catalog)
    old = msgspec.json.decode(data, type=_OldCatalog)
    assert old.major == 1
    assert (old.minor == 2) == any(item.pilot or item.credit for item in catalog.courseware)
    assert [(item.id, item.version) for item in old.courseware] == sorted(
        (item.id, item.version) for item in catalog.courseware
    )


def test_streams_of_the_next_version_are_parted_and_joined_like_those_of_any() -> None:
    rendition = make_file(role="rendition", name="冬小麦.720p.mp4", blob=hex64(5))
    following = msgspec.structs.replace(NEXT, files=(*NEXT.files, rendition))
    data = encode_catalog(catalog_with(with_pilot(following=following)))
    wire = json.loads(data)["courseware"][0]["pilot"]["next"]
    assert [file["role"] for file in wire["files"]] == ["video"]
    assert [file["role"] for file in wire["streams"]] == ["rendition"]
    (read,) = decode_catalog(data).courseware
    assert read.pilot is not None
    assert read.pilot.next == following


def _document(**changes: Any) -> bytes:
    document = json.loads(encode_catalog(catalog_with(with_pilot())))
    pilot = document["courseware"][0]["pilot"]
    for name, value in changes.items():
        if name == "audience":
            pilot["audience"] = value
        else:
            pilot["next"][name] = value
    return json.dumps(document).encode()


@pytest.mark.parametrize(
    "changes",
    [
        {"audience": []},
        {"audience": ["41012x"]},
        {"audience": ["410122"] * 4001},
        {"version": 3},
        {"version": 2},
        {"id": "kj-0002"},
        {"files": []},
        {"title": "a\nb"},
        {"columns": ["zl-9"]},
        {"expires": "2026-11-24T02:56:09Z"},
        {"published": "2026-13-24T02:56:09Z"},
        {"audience": None},
        {"pilot": {"audience": ["410122"], "next": json.loads(msgspec.json.encode(NEXT))}},
        {"files": [json.loads(msgspec.json.encode(make_file(role="rendition")))]},
        {"files": [json.loads(msgspec.json.encode(make_file(blob="x" * 64)))]},
        {"files": [json.loads(msgspec.json.encode(make_file(name="../x")))]},
        {"files": [json.loads(msgspec.json.encode(make_file(table=None)))]},
    ],
    ids=str,
)
def test_a_pilot_that_breaks_a_rule_breaks_the_catalog(changes: dict[str, Any]) -> None:
    decode_catalog(_document())
    with pytest.raises(FormatError):
        decode_catalog(_document(**changes))


def test_a_thousand_pilots_are_enough() -> None:
    items = [
        msgspec.structs.replace(
            BASE, id=f"kj-{n:04}", pilot=Pilot(("410122",), msgspec.structs.replace(NEXT, id=f"kj-{n:04}"))
        )
        for n in range(MAX_PILOTS + 1)
    ]
    encode_catalog(catalog_with(*items[:MAX_PILOTS]))
    with pytest.raises(FormatError, match="pilots"):
        encode_catalog(catalog_with(*items))


def test_pilots_within_pilots_without_end_are_refused() -> None:
    deep = b'"pilot":{"audience":["410122"],"next":{' * 50_000
    data = _document()
    at = data.index(b'"pilot"')
    with pytest.raises(FormatError):
        decode_catalog(data[:at] + deep + data[at:])
