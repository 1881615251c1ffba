"""Catalogs that must be refused: a table of bad JSON, and one broken rule at a time."""

import contextlib
import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.formats import ISSUED, hex64, make_catalog, make_courseware

from manifests.catalog import decode_catalog, encode_catalog
from manifests.errors import FormatError
from manifests.model import Column, Recall

BASE = json.loads(
    encode_catalog(
        make_catalog(
            columns=(Column("zl-1", "农业", 1), Column("zl-2", "政策", 2)),
            courseware=(make_courseware(columns=("zl-1",)), make_courseware(id="kj-0002")),
            recalls=(Recall("kj-0009", 1, "内容有误", ISSUED), Recall("kj-0010", 1, "内容有误", ISSUED)),
        )
    )
)
HEAD = '{"format":"yuanjiao-catalog","major":1,"publisher":"410000","version":1,"issued":"2026-11-24T02:56:09Z"'

BAD_JSON = {
    "nothing": b"",
    "blank": b"  ",
    "null": b"null",
    "number": b"1",
    "text": b'"yuanjiao-catalog"',
    "list": b"[]",
    "empty object": b"{}",
    "cut off": HEAD.encode(),
    "trailing bytes": HEAD.encode() + b"}x",
    "two documents": (HEAD + "}" + HEAD + "}").encode(),
    "trailing comma": HEAD.encode() + b",}",
    "comment": b"// x\n" + HEAD.encode() + b"}",
    "single quotes": b"{'format':1}",
    "byte order mark": b"\xef\xbb\xbf" + HEAD.encode() + b"}",
    "UTF-16": (HEAD + "}").encode("utf-16"),
    "not UTF-8 in a text": HEAD.encode() + b',"ext":{"a":"\xff"}}',
    "overlong UTF-8": HEAD.encode() + b',"columns":[{"id":"a","title":"\xc0\xaf"}]}',
    "lone surrogate": HEAD.encode() + b',"columns":[{"id":"a","title":"\\ud800"}]}',
    "raw control character": HEAD.encode() + b',"columns":[{"id":"a","title":"a\nb"}]}',
    "NaN": HEAD.encode() + b',"ext":{"a":NaN}}',
    "Infinity": HEAD.encode() + b',"ext":{"a":-Infinity}}',
    "number too large": HEAD.encode() + b',"ext":{"a":1e999}}',
    "leading zero": HEAD.replace('"version":1', '"version":01').encode() + b"}",
    "hexadecimal": HEAD.replace('"version":1', '"version":0x1').encode() + b"}",
    "deep lists": HEAD.encode() + b',"junk":' + b"[" * 200_000 + b"]" * 200_000 + b"}",
    "deep objects": HEAD.encode() + b',"ext":{"a":' + b'{"a":' * 100_000 + b"1" + b"}" * 100_000 + b"}}",
    "deep and cut off": b"[" * 1_000_000,
    "zip file": b"PK\x03\x04" + bytes(100),
    "web page": b"<!doctype html><title>404</title>",
    "another format": b'{"format":"yuanjiao-bundle","major":1}',
    "version zero": HEAD.replace('"version":1', '"version":0').encode() + b"}",
    "version as text": HEAD.replace('"version":1', '"version":"1"').encode() + b"}",
    "version as truth": HEAD.replace('"version":1', '"version":true').encode() + b"}",
    "version with a fraction": HEAD.replace('"version":1', '"version":1.5').encode() + b"}",
    "version past 2^53": HEAD.replace('"version":1', '"version":9007199254740992').encode() + b"}",
    "version of 400 digits": HEAD.replace('"version":1', '"version":' + "9" * 400).encode() + b"}",
    "publisher missing": HEAD.replace('"publisher":"410000",', "").encode() + b"}",
    "publisher too short": HEAD.replace("410000", "41").encode() + b"}",
    "publisher with a line break": HEAD.replace("410000", "41000\\n").encode() + b"}",
    "publisher in other digits": HEAD.replace("410000", "\u0664\u0661\u0660\u0660\u0660\u0660").encode() + b"}",
    "issued in another form": HEAD.replace("2026-11-24T02:56:09Z", "2026-11-24 02:56:09Z").encode() + b"}",
    "issued on no day": HEAD.replace("2026-11-24T02", "2026-02-30T02").encode() + b"}",
    "columns null": HEAD.encode() + b',"columns":null}',
    "courseware an object": HEAD.encode() + b',"courseware":{}}',
    "too many columns": HEAD.encode() + b',"columns":[' + b",".join([b'{"id":"a","title":"a"}'] * 1001) + b"]}",
    "ext a list": HEAD.encode() + b',"ext":[]}',
}


@pytest.mark.parametrize("data", BAD_JSON.values(), ids=BAD_JSON.keys())
def test_bad_json(data: bytes) -> None:
    with pytest.raises(FormatError) as caught:
        decode_catalog(data)
    assert caught.value.exit_code == 3


def test_the_base_is_good() -> None:
    decode_catalog(HEAD.encode() + b"}")
    decode_catalog(json.dumps(BASE).encode())


@pytest.mark.parametrize("major", [0, 2, 99])
def test_another_major_version_is_named_as_such(major: int) -> None:
    document = {"format": "yuanjiao-catalog", "major": major, "all": "else may differ", "version": "x"}
    with pytest.raises(FormatError, match=f"major version {major}") as caught:
        decode_catalog(json.dumps(document).encode())
    assert "newer yuanjiao" in caught.value.hint


def _set(*path: Any, value: Any) -> Callable[[Any], None]:
    def change(document: Any) -> None:
        for step in path[:-1]:
            document = document[step]
        document[path[-1]] = value

    return change


def _item(name: str, value: Any) -> Callable[[Any], None]:
    return _set("courseware", 0, name, value=value)


def _file(name: str, value: Any) -> Callable[[Any], None]:
    return _set("courseware", 0, "files", 0, name, value=value)


def _patch(**fields: Any) -> Callable[[Any], None]:
    return _file("patches", [{"from": hex64(7), "blob": hex64(8), "size": 100} | fields])


GOOD_PATCH = _patch()
BROKEN = {
    "courseware out of order": _set("courseware", 1, "id", value="kj-0000"),
    "courseware repeated": _set("courseware", 1, "id", value="kj-0001"),
    "columns out of order": _set("columns", 0, "order", value=3),
    "column repeated": _set("columns", 1, value={"id": "zl-1", "title": "x", "order": 9}),
    "column id of capitals": _set("columns", 1, "id", value="ZL-2"),
    "column without title": _set("columns", 1, "title", value=""),
    "column order past 32 bits": _set("columns", 1, "order", value=1 << 31),
    "recalls out of order": _set("recalls", 0, "id", value="kj-0099"),
    "recall repeated": _set("recalls", 0, "id", value="kj-0010"),
    "recall of what is offered": _set("recalls", 0, "id", value="kj-0001"),
    "recall without reason": _set("recalls", 0, "reason", value=""),
    "recall with a control character": _set("recalls", 0, "reason", value="a\x1b[0m"),
    "recall at no time": _set("recalls", 0, "at", value="2026-11-24T99:56:09Z"),
    "recall of a hostile id": _set("recalls", 0, "id", value="../x"),
    "id with traversal": _item("id", "kj/../../x"),
    "id over-long": _item("id", "k" * 65),
    "id reserved": _item("id", "con"),
    "version negative": _item("version", -1),
    "title missing": lambda document: document["courseware"][0].pop("title"),
    "title empty": _item("title", ""),
    "title over-long": _item("title", "x" * 201),
    "title of two lines": _item("title", "a\nb"),
    "title with override": _item("title", "a\u202eb"),
    "summary with escape": _item("summary", "a\x1bb"),
    "summary over-long": _item("summary", "x" * 4001),
    "tag of two lines": _item("tags", ["a\nb"]),
    "kind unknown": _item("kind", "game"),
    "audience empty": _item("audience", []),
    "audience no region": _item("audience", ["41000x"]),
    "audience from zero": _item("audience", ["010000"]),
    "published nowhere": _item("published", "2026-00-24T02:56:09Z"),
    "expires before published": _item("expires", "2026-11-24T02:56:09Z"),
    "expires on no day": _item("expires", "2027-02-30T02:56:09Z"),
    "column unknown": _item("columns", ["zl-9"]),
    "priority 10": _item("priority", 10),
    "duration negative": _item("duration_s", -0.5),
    "no files": _item("files", []),
    "too many files": lambda document: document["courseware"][0].update(
        files=[document["courseware"][0]["files"][0] | {"name": f"{n}"} for n in range(201)]
    ),
    "two files of one name": lambda document: document["courseware"][0].update(
        files=[document["courseware"][0]["files"][0] | {"name": name} for name in ("a.MP4", "A.mp4")]
    ),
    "file name with traversal": _file("name", "../../etc/passwd"),
    "file name reserved": _file("name", "nul.mp4"),
    "file name with override": _file("name", "a\u202eb"),
    "file name not in NFC": _file("name", "cafe\u0301.mp4"),
    "file name over-long": _file("name", "农" * 67),
    "file name disguised": _file("name", "p\u0430ypal.mp4"),
    "role unknown": _file("role", "virus"),
    "media type of capitals": _file("media_type", "Video/MP4"),
    "media type with a line break": _file("media_type", "video/mp4\n"),
    "media type with a parameter": _file("media_type", "text/html; charset=utf-8"),
    "media type without slash": _file("media_type", "video"),
    "blob too short": _file("blob", hex64(1)[:-1]),
    "blob of capitals": _file("blob", "AB" * 32),
    "blob with a line break": _file("blob", hex64(1)[:-1] + "\n"),
    "blob with blanks": _file("blob", hex64(1)[:-2] + "  "),
    "blob in other digits": _file("blob", "\u0664" * 64),
    "blob that is a path": _file("blob", "../" + "a" * 61),
    "size negative": _file("size", -1),
    "size over a tebibyte": _file("size", (1 << 40) + 1),
    "size with a fraction": _file("size", 1.5),
    "table missing": lambda document: document["courseware"][0]["files"][0].pop("table"),
    "table of a small file": _file("size", 262144),
    "table wrong": _file("table", "x" * 64),
    "table over its limit": _file("size", 1 << 38),
    "piece size 3": _file("piece_size", 3),
    "piece size no power of two": _file("piece_size", 300_000),
    "width past 16 bits": _file("width", 65536),
    "language over-long": _file("language", "x" * 36),
    "language with a control character": _file("language", "zh\0"),
    "patch from itself": _patch(**{"from": hex64(1)}),
    "patch without table": _patch(size=300_000),
    "small patch with table": _patch(table=hex64(9)),
    "patch of a wrong name": _patch(blob="z" * 64),
    "patch with a wrong table": _patch(size=300_000, table="z" * 64),
    "too many patches": _file("patches", [{"from": hex64(7), "blob": hex64(8), "size": 100}] * 17),
}


@pytest.mark.parametrize("change", BROKEN.values(), ids=BROKEN.keys())
def test_one_broken_rule(change: Callable[[Any], object]) -> None:
    document = json.loads(json.dumps(BASE))
    change(document)
    with pytest.raises(FormatError) as caught:
        decode_catalog(json.dumps(document).encode())
    assert caught.value.message.isprintable()


def test_a_good_patch_is_good() -> None:
    document = json.loads(json.dumps(BASE))
    GOOD_PATCH(document)
    decode_catalog(json.dumps(document).encode())


@settings(max_examples=150)
@given(st.data())
def test_a_damaged_document_is_read_or_refused_but_never_breaks(data: st.DataObject) -> None:
    document = bytearray(json.dumps(BASE, ensure_ascii=False).encode())
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(document) - 1))
        document[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=4))
    with contextlib.suppress(FormatError):
        decode_catalog(bytes(document))
