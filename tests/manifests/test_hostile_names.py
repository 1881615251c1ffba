"""Names from outside: what is refused, what is kept, and that refusing is by rule and not by chance."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from manifests.errors import InputError
from manifests.names import (
    Region,
    is_metadata_name,
    is_within,
    parse_courseware_id,
    parse_file_name,
    parse_label,
    parse_reason,
    parse_region,
    parse_summary,
    parse_title,
    region_level,
)

GOOD_NAMES = [
    "冬小麦田间管理.mp4",
    "lesson-01_final (2).mp4",
    "a",
    "café.pdf",
    "β-胡萝卜素.pdf",
    "α射线.mp4",
    "урок 3.mp4",
    "50%增产.mp4",
    "第一讲\uff1a概论.mp4",
    "第一讲\u3000概论.mp4",
    "𠮷野家.jpg",
    "a..b",
    "console.log",
    "com10.txt",
    "x" * 200,
    "农" * 66 + "ab",
]

BAD_NAMES = {
    "empty": "",
    "dot": ".",
    "traversal": "..",
    "traversal below": "../etc/passwd",
    "traversal inside": "a/../../b",
    "backslash": "..\\windows\\system32",
    "absolute": "/etc/passwd",
    "drive": "C:evil.mp4",
    "stream": "a.mp4:hidden",
    "null byte": "a\0.mp4",
    "line break": "a\n.mp4",
    "carriage return": "a\r\nSet-Cookie: x",
    "escape": "a\x1b[2J.mp4",
    "delete": "a\x7f.mp4",
    "C1 control": "a\x85.mp4",
    "right-to-left override": "lesson\u202e4pm.exe",
    "right-to-left mark": "lesson\u200f.mp4",
    "Arabic letter mark": "lesson\u061c.mp4",
    "isolate": "lesson\u2066.mp4",
    "zero width space": "les\u200bson.mp4",
    "zero width joiner": "les\u200dson.mp4",
    "byte order mark": "\ufefflesson.mp4",
    "soft hyphen": "les\u00adson.mp4",
    "tag characters": "lesson\U000e0041.mp4",
    "line separator": "a\u2028b",
    "paragraph separator": "a\u2029b",
    "private use": "a\ue000b",
    "noncharacter": "a\uffffb",
    "noncharacter block": "a\ufdd0b",
    "noncharacter above": "a\U0010fffeb",
    "lone surrogate": "a\ud800b",
    "hidden": ".bashrc",
    "trailing dot": "a.",
    "trailing space": "a ",
    "leading space": " a",
    "trailing ideographic space": "a\u3000",
    "trailing no-break space": "a\u00a0",
    "wildcard": "*.mp4",
    "question": "a?.mp4",
    "pipe": "a|b",
    "quote": 'a"b',
    "markup": "<script>.mp4",
    "201 bytes": "x" * 201,
    "201 bytes of Han": "农" * 67,
    "over-long": "x" * 100_000,
    "Cyrillic a in a Latin word": "p\u0430ypal.mp4",
    "Greek omicron in a Latin word": "g\u03bfogle.mp4",
    "Armenian in a Latin word": "\u0585ffice.mp4",
    "Cherokee in a Latin word": "\u13a0pple.mp4",
    "full-width Latin beside Cyrillic": "\uff41\u0430.mp4",
    "Cyrillic after a combining mark": "p\u0323\u0308\u0430y.mp4",
    "Cyrillic extension": "lesson.\u0435\u0445\u0435",
    "mixed extension": "lesson.\u0440df",
    "Latin word after an honest one": "урок p\u0430y.mp4",
    "reserved": "CON",
    "reserved with extension": "nul.mp4",
    "reserved with two": "aux.tar.gz",
    "reserved, superscript": "COM¹.txt",
    "reserved, space before the dot": "con .txt",
    "reserved console": "CONIN$",
    "reserved port": "lpt9.pdf",
}


@pytest.mark.parametrize("name", GOOD_NAMES)
def test_names_that_are_kept(name: str) -> None:
    assert parse_file_name(name) == unicodedata.normalize("NFC", name)


@pytest.mark.parametrize("name", BAD_NAMES.values(), ids=BAD_NAMES.keys())
def test_names_that_are_refused(name: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_file_name(name)
    # What is shown to a person is safe to show: one line, no control or direction marks.
    assert caught.value.message.isprintable()
    assert caught.value.zh.isprintable()
    assert "文件名" in caught.value.zh


def test_names_come_back_in_nfc() -> None:
    assert parse_file_name("cafe\u0301.pdf") == "caf\u00e9.pdf"


@given(st.text(max_size=80))
def test_accepted_names_are_safe_and_stable(text: str) -> None:
    try:
        name = parse_file_name(text)
    except InputError:
        return
    assert parse_file_name(name) == name, "accepted once, accepted again"
    assert "/" not in name
    assert "\\" not in name
    assert name not in {".", ".."}
    assert name == name.strip()
    assert 1 <= len(name.encode()) <= 200
    assert not any(unicodedata.category(char) in {"Cc", "Cf", "Cs", "Co", "Zl", "Zp"} for char in name)


@given(st.text(alphabet="农村_-. ()aZ09冬", min_size=1, max_size=70))
def test_the_short_way_agrees_with_the_long_one(text: str) -> None:
    refused = text[0] in ". " or text[-1] in ". " or len(text.encode()) > 200
    if refused:
        with pytest.raises(InputError):
            parse_file_name(text)
    else:
        assert parse_file_name(text) == text


@pytest.mark.parametrize("good", ["a", "0", "kj-0001", "a.b_c-d", "x" * 64, "com10", "conx"])
def test_courseware_ids(good: str) -> None:
    assert parse_courseware_id(good) == good


@pytest.mark.parametrize(
    "bad",
    [
        "", ".", "..", "-a", "a-", ".a", "a.", "_a", "a..b", "A", "课件", "a b", "a/b", "a\\b", "a%2fb", "a\n", "\na",
        "x" * 65, "con", "nul.json", "com1", "é", "ａ", "a\0", "a:b",
    ],
)  # fmt: skip
def test_courseware_ids_that_are_refused(bad: str) -> None:
    with pytest.raises(InputError, match="courseware id"):
        parse_courseware_id(bad)


@pytest.mark.parametrize(
    "bad", ["", "41012", "4101222", "010000", "41012a", "410122\n", " 410122", "４１０１２２", "٤١٠١٢٢"]
)
def test_region_codes_that_are_refused(bad: str) -> None:
    with pytest.raises(InputError):
        parse_region(bad)


@pytest.mark.parametrize(
    ("region", "area", "inside"),
    [
        ("410122", "410000", True),
        ("410122", "410100", True),
        ("410122", "410122", True),
        ("410122", "410121", False),
        ("410122", "410200", False),
        ("410122", "420000", False),
        ("410100", "410122", False),
        ("410000", "410100", False),
        ("410000", "410000", True),
    ],
)
def test_regions_lie_inside_each_other(region: str, area: str, inside: bool) -> None:
    assert is_within(Region(parse_region(region)), Region(area)) is inside


def test_region_levels() -> None:
    assert [region_level(Region(code)) for code in ("410000", "410100", "410122")] == ["province", "city", "county"]


@pytest.mark.parametrize(
    "name", ["root.json", "1.root.json", "12.targets.json", "999999999.snapshot.json", "timestamp.json"]
)
def test_metadata_names(name: str) -> None:
    assert is_metadata_name(name)


@pytest.mark.parametrize(
    "name",
    [
        "", "root", "0.root.json", "01.root.json", "1.timestamp.json", "-1.root.json", "1..root.json", "../root.json",
        "root.json\n", "١.root.json", "1.root.json.bak", "x.root.json", "ROOT.json", "1234567890.root.json",
        "cities.json", "root.json/", "1.root.json%00",
    ],
)  # fmt: skip
def test_metadata_names_that_are_refused(name: str) -> None:
    assert not is_metadata_name(name)


@pytest.mark.parametrize(
    "title", ["冬小麦田间管理", "<script>alert(1)</script>", "a" * 200, "农" * 200, "👨‍👩‍👧 家庭教育"]
)
def test_titles_that_are_kept(title: str) -> None:
    assert parse_title(f"  {title} ") == title


@pytest.mark.parametrize(
    "title",
    ["", "   ", "\u3000", "\u200b\u200d", "a" * 201, "农" * 1400, "a\nb", "a\tb", "a\0b", "a\u202eb", "a\u200fb",
     "a\u2028b", "a\x1b[31mb", "\u0301", "a\ud800", "\ue000", "a\ufffe"],
)  # fmt: skip
def test_titles_that_are_refused(title: str) -> None:
    with pytest.raises(InputError, match="title") as caught:
        parse_title(title)
    assert caught.value.message.isprintable()
    assert caught.value.zh.startswith("标题")


def test_other_lines_have_their_own_limits() -> None:
    assert parse_label("x" * 60) == "x" * 60
    assert parse_reason("x" * 500) == "x" * 500
    assert parse_summary("a\nb\n") == "a\nb"
    for parse, text in ((parse_label, "x" * 61), (parse_reason, "x" * 501), (parse_summary, "x" * 4001)):
        with pytest.raises(InputError):
            parse(text)
    for text in ("a\rb", "a\u202eb", "a\0b"):
        with pytest.raises(InputError):
            parse_summary(text)
