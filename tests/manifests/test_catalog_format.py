"""Catalogs: the canonical form, what is kept, comparing, and what a target says of one."""

import json
import random
from pathlib import Path
from typing import Any, Literal

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.formats import ISSUED, catalogs, hex64, make_catalog, make_courseware, make_file

from manifests import model
from manifests.catalog import blobs_of, decode_catalog, diff_catalogs, encode_catalog, is_for, parse_target
from manifests.errors import FormatError, RollbackError
from manifests.model import STREAM_ROLES, Catalog, Column, Patch, Recall
from manifests.names import Region
from manifests.pieces import PIECE_SIZE, BlobRef

EXAMPLES = Path(model.__file__).parent / "examples"

some = settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow], deadline=None)


@some
@given(catalogs())
def test_round_trip_is_canonical(catalog: Catalog) -> None:
    data = encode_catalog(catalog)
    back = decode_catalog(data)
    assert encode_catalog(back) == data
    assert back.courseware == tuple(sorted(catalog.courseware, key=lambda item: item.id))
    assert back.recalls == tuple(sorted(catalog.recalls, key=lambda recall: recall.id))
    assert b"\n" not in data
    # The form can be had without this program: sorted keys, no blanks, UTF-8. (Floats of other writers may differ.)
    plain = json.dumps(json.loads(data), sort_keys=True, ensure_ascii=False, separators=(",", ":")).encode()
    assert decode_catalog(plain) == back


@some
@given(catalogs(), st.randoms(use_true_random=False))
def test_order_of_the_lists_does_not_matter_to_the_writer(catalog: Catalog, rng: random.Random) -> None:
    def mixed(items: tuple[Any, ...]) -> tuple[Any, ...]:
        return tuple(rng.sample(items, len(items)))

    other = msgspec.structs.replace(
        catalog,
        columns=mixed(catalog.columns),
        courseware=mixed(catalog.courseware),
        recalls=mixed(catalog.recalls),
    )
    assert encode_catalog(other) == encode_catalog(catalog)


def test_unknown_fields_are_ignored_and_ext_is_kept() -> None:
    document = json.loads(encode_catalog(make_catalog()))
    document |= {"minor": 7, "colour": [1, {"a": None}], "ext": {"省": {"x": [1.5, "y", None, True]}}}
    document["courseware"][0] |= {"mood": "good", "ext": {"n": 1}}
    document["courseware"][0]["files"][0] |= {"codec": "h264", "ext": {"n": 2}}
    catalog = decode_catalog(json.dumps(document).encode())
    again = json.loads(encode_catalog(catalog))
    assert catalog.minor == 7
    assert "colour" not in again
    assert "mood" not in again["courseware"][0]
    assert again["ext"] == document["ext"]
    assert again["courseware"][0]["ext"] == {"n": 1}
    assert again["courseware"][0]["files"][0]["ext"] == {"n": 2}


def test_defaults_are_left_out() -> None:
    file = json.loads(encode_catalog(make_catalog()))["courseware"][0]["files"][0]
    assert sorted(file) == ["blob", "media_type", "name", "role", "size", "table"]


def test_columns_stand_in_their_own_order() -> None:
    columns = (Column("b", "二", 2), Column("a", "二", 2), Column("c", "一", -5))
    catalog = decode_catalog(encode_catalog(make_catalog(columns=columns)))
    assert [column.id for column in catalog.columns] == ["c", "a", "b"]


@pytest.mark.parametrize(
    "change",
    [
        {"title": ""},
        {"title": "x" * 201},
        {"version": 0},
        {"audience": ("41",)},
        {"ext": {"a": 1j}},
        {"duration_s": float("nan")},
        {"duration_s": float("inf")},
        {"files": ()},
        {"files": (make_file(blob="x" * 64),)},
    ],
    ids=str,
)
def test_the_writer_refuses_what_a_reader_would(change: dict[str, Any]) -> None:
    with pytest.raises(FormatError):
        encode_catalog(make_catalog(courseware=(make_courseware(**change),)))


def test_diff() -> None:
    kept, old, gone = (make_courseware(id=f"kj-{n}") for n in (1, 2, 3))
    new, fresh = make_courseware(id="kj-2", version=2), make_courseware(id="kj-4")
    recall = Recall("kj-3", 1, "内容有误", ISSUED)
    before = make_catalog(version=1, courseware=(kept, old, gone))
    after = make_catalog(version=2, courseware=(kept, new, fresh), recalls=(recall,))
    diff = diff_catalogs(before, after)
    assert (diff.added, diff.updated, diff.removed, diff.recalled) == ((fresh,), (new,), (gone,), (recall,))
    first = diff_catalogs(None, after)
    assert (first.added, first.updated, first.removed) == (after.courseware, (), ())
    again = msgspec.structs.replace(recall, version=2)
    wider = msgspec.structs.replace(after, version=3, recalls=(again,))
    assert diff_catalogs(after, wider).recalled == (again,)


def test_diff_refuses_what_goes_back() -> None:
    now = make_catalog(version=5)
    assert diff_catalogs(now, make_catalog(version=5)).updated == ()
    with pytest.raises(RollbackError):
        diff_catalogs(now, make_catalog(version=4))
    with pytest.raises(RollbackError):
        diff_catalogs(now, make_catalog(version=5, courseware=()))
    with pytest.raises(FormatError):
        diff_catalogs(now, make_catalog(version=6, publisher="410100"))


def test_audience() -> None:
    item = make_courseware(audience=("410100", "410223"))
    assert is_for(item, Region("410122"))
    assert is_for(item, Region("410223"))
    assert not is_for(item, Region("410224"))
    assert is_for(make_courseware(), Region("410224"))


def test_refs_and_sums() -> None:
    file = make_file(size=PIECE_SIZE + 1, patches=(Patch(hex64(5), hex64(6), 28),))
    assert file.ref == BlobRef(hex64(1), PIECE_SIZE + 1, hex64(2))  # type: ignore[arg-type]
    assert file.patches[0].ref == BlobRef(hex64(6), 28)  # type: ignore[arg-type]
    item = make_courseware(files=(file, make_file(name="b.jpg", size=2, table=None, blob=hex64(9))))
    assert item.size == PIECE_SIZE + 3
    assert blobs_of([item]) == {hex64(1), hex64(9)}


def test_target() -> None:
    custom = {"version": 3, "table": hex64(1), "patches": [{"from": hex64(2), "blob": hex64(3), "size": 99}], "new": 1}
    target = parse_target(custom, PIECE_SIZE + 1)
    assert (target.version, target.piece_size) == (3, PIECE_SIZE)
    assert target.patches[0] == Patch(hex64(2), hex64(3), 99)


@pytest.mark.parametrize(
    "custom",
    [
        None,
        {},
        [],
        {"version": 0},
        {"version": "1"},
        {"version": 2**53},
        {"version": 1, "table": "x" * 64},
        {"version": 1, "table": hex64(1) + "\n"},
        {"version": 1, "piece_size": 65537},
        {"version": 1, "patches": [{"from": hex64(2), "blob": "X" * 64, "size": 99}]},
        {"version": 1, "patches": [{"from": hex64(2)[:-2] + "  ", "blob": hex64(3), "size": 99}]},
        {"version": 1, "patches": [{"from": hex64(2), "blob": hex64(3), "size": PIECE_SIZE + 1}]},
        {"version": 1, "patches": [{"from": hex64(2), "blob": hex64(3), "size": 9}] * 17},
    ],
    ids=str,
)
def test_targets_that_are_refused(custom: Any) -> None:
    with pytest.raises(FormatError):
        parse_target(custom)


def test_target_of_a_long_catalog_has_a_table() -> None:
    for size, table in ((PIECE_SIZE + 1, None), (PIECE_SIZE, hex64(1))):
        with pytest.raises(FormatError, match="piece table"):
            parse_target({"version": 1, "table": table}, size)


class _OldFile(msgspec.Struct):
    """A file as a reader of minor 0 knows it."""

    role: Literal["video", "audio", "poster", "document", "article", "picture", "subtitle"]
    name: str


class _OldCourseware(msgspec.Struct):
    id: str
    files: list[_OldFile]


class _OldCatalog(msgspec.Struct):
    courseware: list[_OldCourseware]
    minor: int = 0


def streamed(*roles: str) -> Catalog:
    plain = decode_catalog((EXAMPLES / "catalog.json").read_bytes())
    first, *rest = plain.courseware
    extra = tuple(
        msgspec.structs.replace(first.files[0], role=role, name=f"{n}.x", patches=()) for n, role in enumerate(roles)
    )
    return msgspec.structs.replace(
        plain, courseware=(msgspec.structs.replace(first, files=(*first.files, *extra)), *rest)
    )


def test_streams_are_files_in_memory_and_a_member_of_their_own_on_the_wire() -> None:
    catalog = streamed("playlist", "rendition")
    data = encode_catalog(catalog)
    read = decode_catalog(data)
    assert read.minor == 1
    assert read.courseware == catalog.courseware
    assert encode_catalog(read) == data
    old = msgspec.json.decode(data, type=_OldCatalog)
    assert [file.name for file in old.courseware[0].files] == [
        file.name for file in catalog.courseware[0].files if file.role not in STREAM_ROLES
    ]


def test_a_catalog_without_streams_is_written_as_before() -> None:
    data = (EXAMPLES / "catalog.json").read_bytes()
    assert b'"minor"' not in data
    assert encode_catalog(decode_catalog(data)) == data


@pytest.mark.parametrize(("member", "role"), [("files", "rendition"), ("streams", "video"), ("streams", "none")])
def test_roles_stand_where_they_belong(member: str, role: str) -> None:
    document = json.loads(encode_catalog(streamed("playlist")))
    document["courseware"][0][member][0]["role"] = role
    with pytest.raises(FormatError):
        decode_catalog(json.dumps(document).encode())


def test_names_differ_over_files_and_streams() -> None:
    document = json.loads(encode_catalog(streamed("playlist")))
    document["courseware"][0]["streams"][0]["name"] = document["courseware"][0]["files"][0]["name"]
    with pytest.raises(FormatError, match="same name"):
        decode_catalog(json.dumps(document).encode())


def test_a_credit_is_kept_and_readers_of_earlier_minor_versions_pass_it_over() -> None:
    data = encode_catalog(make_catalog(courseware=(make_courseware(credit="郑州市远教办 李四"),)))
    back = decode_catalog(data)
    assert (back.minor, back.courseware[0].credit) == (2, "郑州市远教办 李四")
    plain = encode_catalog(make_catalog(courseware=(make_courseware(),)))
    assert b"credit" not in plain
    assert b"minor" not in plain
    earlier = msgspec.json.decode(data, type=_OldCatalog)
    assert earlier.courseware[0].id == back.courseware[0].id


@pytest.mark.parametrize("credit", ["x" * 61, "李\n四", "李\u202e四", 5, None])
def test_a_credit_that_is_no_line_is_refused(credit: object) -> None:
    document = json.loads(encode_catalog(make_catalog()))
    document["courseware"][0]["credit"] = credit
    with pytest.raises(FormatError):
        decode_catalog(json.dumps(document).encode())
