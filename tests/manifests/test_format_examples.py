"""FORMAT.md and its examples: the text shows what the files hold, and the programs do what both say."""

import hashlib
import json
import re
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
import pytest

from manifests import model, names, patches, pieces, ranges
from manifests.bundle import decode_bundle, encode_bundle
from manifests.catalog import decode_catalog, encode_catalog, item_for, parse_target
from manifests.digests import digest_of
from manifests.errors import InputError
from manifests.instants import dump_instant, parse_instant
from manifests.line import HORIZON_DAYS, NEWEST_SHARE, Line, completions, hour_of_week, learn, rate_at
from manifests.patch_plan import MAX_SEGMENT_BYTES, MIN_SEGMENT_BYTES, max_region
from manifests.streams import master_name, playlist_name, rendition_name, streams_of
from origin.publish.fragments import Fragmented, Segment
from origin.publish.playlists import Variant, average_bps, master_playlist, media_playlist, peak_bps

PACKAGE = Path(model.__file__).parent
EXAMPLES = PACKAGE / "examples"
TEXT = (PACKAGE / "FORMAT.md").read_text(encoding="utf-8")


def load(name: str) -> Any:
    return json.loads((EXAMPLES / name).read_text(encoding="utf-8"))


def block(label: str) -> str:
    found = re.search(rf"^```text {label}\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
    assert found, f"FORMAT.md has no block {label!r}"
    return found[1]


def test_text_lists_every_example_with_its_digest() -> None:
    listed = dict(re.findall(r"^\| `([a-z]+\.json)` \| `([0-9a-f]{64})` \|$", TEXT, re.MULTILINE))
    assert listed == {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in EXAMPLES.iterdir()}


def test_pieces() -> None:
    example = load("pieces.json")
    blob = example["blob"]
    data = (blob["repeat"] * (blob["size"] // len(blob["repeat"]) + 1)).encode()[: blob["size"]]
    builder = pieces.TableBuilder(example["piece_size"])
    builder.update(data)
    made = builder.finish()
    assert digest_of(data) == example["digest"]
    assert made == bytes.fromhex("".join(example["pieces"]))
    assert (len(made), digest_of(made)) == (example["table_size"], example["table"])
    table = pieces.parse_table(made, len(data), example["piece_size"])
    for n in range(len(table)):
        start, stop = table.bounds(n)
        table.check_piece(n, data[start:stop])
    for one in example["ranges"]:
        assert list(pieces.pieces_of_range(one["start"], one["stop"], table.piece_size)) == one["pieces"]
    shown = block("pieces").split()
    assert [shown[1], *shown[4:-2:3], shown[-1]] == [example["digest"], *example["pieces"], example["table"]]


def _lines(one: dict[str, Any]) -> bytes:
    def line(n: int) -> str:
        digest = hashlib.sha256(str(n).encode()).hexdigest()
        return f"{n:03} 冬小麦田间管理 {digest}{' 修订' if n == one['revised'] else ''}\n"

    text = "".join(line(n) for n in range(*one["lines"])).encode()
    assert (len(text), digest_of(text)) == (one["size"], one["digest"])
    return text


def test_patch() -> None:
    example = load("patch.json")
    old, new = _lines(example["old"]), _lines(example["new"])
    patch = bytes.fromhex(example["patch"]["hex"])
    assert (len(patch), digest_of(patch)) == (example["patch"]["size"], example["patch"]["digest"])
    parts = patches.apply_patch(
        lambda a, b: old[a:b], lambda a, b: patch[a:b], len(patch), old_size=len(old), new_size=len(new)
    )
    assert b"".join(parts) == new
    plan = patches.parse_header(patch, len(patch)).plan
    assert plan.segments == (patches.Segment(0, len(new), 0, len(old)),)
    assert patches.plan_patch(old, new) == plan
    shown = [line[6:54] for line in block("patch").splitlines()]
    assert bytes.fromhex(" ".join(shown)) == patch


def test_catalog() -> None:
    data = (EXAMPLES / "catalog.json").read_bytes()
    catalog = decode_catalog(data)
    assert encode_catalog(catalog) == data, "the example is canonical"
    assert data.decode().startswith(block("catalog").rstrip("\n"))
    assert f"{len(data):,} bytes" in TEXT
    assert [item.id for item in catalog.courseware] == ["kj-dongxiaomai", "kj-yibao2027"]
    assert catalog.courseware[0].ext == {"410100": {"review": "通过"}}
    entry = load("target.json")["catalog.json"]
    assert (entry["length"], entry["hashes"]) == (len(data), {"sha256": digest_of(data)})
    assert parse_target(entry["custom"], entry["length"]).version == catalog.version


def test_streams() -> None:
    example = load("streams.json")
    item = example["courseware"]
    catalog = json.loads((EXAMPLES / "catalog.json").read_bytes()) | {"minor": 1, "courseware": [item], "recalls": []}
    (read,) = decode_catalog(json.dumps(catalog).encode()).courseware
    assert [file.name for file in read.files] == [one["name"] for one in (*item["files"], *item["streams"])]
    found = streams_of(read, read.files[0])
    assert found is not None
    assert [file.name for file in found.renditions] == ["麦.720p.mp4"]
    assert found.renditions[0].patches[0].source == read.files[0].blob
    for file in read.files:
        if file.role == "playlist":
            data = example["playlists"][file.name].encode()
            assert (digest_of(data), len(data)) == (file.blob, file.size)
    assert block("master") == example["playlists"]["麦.m3u8"]
    assert block("media") == example["playlists"]["麦.720p.m3u8"]
    # The programs write just this.
    rendition = found.renditions[0]
    parts = [(1100, 925_500, 6), (926_600, 649_500, Fraction(9, 2))]
    made = Fragmented(1100, tuple(Segment(at, size, Fraction(seconds)) for at, size, seconds in parts))
    assert (made.size, float(made.duration_s)) == (rendition.size, rendition.duration_s)
    assert media_playlist(rendition.name, made) == block("media")
    variant = Variant(
        playlist_name("麦.mp4", "720p"),
        peak_bps(made),
        average_bps(made),
        "avc1.64001f,mp4a.40.2",
        rendition.width,
        rendition.height,
        Fraction(25),
    )
    assert master_playlist([variant]) == block("master")
    assert master_name("麦.mp4") == "麦.m3u8"
    assert rendition_name("麦.mp4", "audio") == "麦.audio.m4a"
    long = "麦" * 66 + "a.mp4"
    assert names.parse_file_name(rendition_name(long, "1080p")) == "麦" * 61 + ".1080p.mp4"
    assert f"cut to {names.MAX_FILE_NAME_BYTES - 15} bytes" in TEXT


def test_pilot() -> None:
    example = load("pilot.json")
    item = example["courseware"]
    catalog = json.loads((EXAMPLES / "catalog.json").read_bytes()) | {"minor": 2, "courseware": [item], "recalls": []}
    (read,) = decode_catalog(json.dumps(catalog).encode()).courseware
    for one in example["resolved"]:
        assert item_for(read, names.Region(one["region"])).version == one["version"], one["region"]
    assert read.pilot is not None
    assert read.pilot.next.files[0].patches[0].source == read.files[0].blob


def _members(title: str) -> set[str]:
    """Names in the first column of the table of FORMAT.md that is headed by `title`."""
    found = re.search(rf"^\| {title} \|.*\n\|[-|:]+\|\n((?:\|.*\n)+)", TEXT, re.MULTILINE)
    assert found, f"FORMAT.md has no table {title!r}"
    return {name.strip("* ") for row in found[1].splitlines() for name in row.split("|")[1].split(",")}


@pytest.mark.parametrize(
    ("title", "struct"),
    [
        ("catalog", model.Catalog),
        ("column", model.Column),
        ("courseware", model.Courseware),
        ("file", model.File),
        ("patch", model.Patch),
        ("pilot", model.Pilot),
        ("recall", model.Recall),
    ],
)
def test_tables_name_every_member(title: str, struct: Any) -> None:
    assert _members(title) == set(struct.__struct_encode_fields__)


def test_limits_in_the_text_are_those_of_the_programs() -> None:
    for value, words in (
        (model.MAX_COLUMNS, "at most 1,000; ordered"),
        (model.MAX_COURSEWARE, "at most 200,000;"),
        (model.MAX_RECALLS, "at most 50,000;"),
        (model.MAX_FILES, "1 to 200; names"),
        (model.MAX_PILOTS, "at most 1,000 in a catalog"),
        (model.MAX_AUDIENCE, "1 to 4,000; an edge takes part"),
        (model.MAX_PATCHES, "at most 16 |"),
        (names.MAX_TITLE_CHARS, "1 to 200 characters"),
        (names.MAX_SUMMARY_CHARS, "4,000 characters; line"),
        (names.MAX_REASON_CHARS, "1 to 500 characters"),
        (names.MAX_FILE_NAME_BYTES, "1 to 200 bytes of UTF-8"),
        (ranges.MAX_RANGES, "more than 32 ranges"),
        (ranges.MAX_RANGE_HEADER, "longer than 4,096 characters"),
    ):
        assert words in TEXT
        assert f"{value:,}" in words
    assert (MIN_SEGMENT_BYTES, MAX_SEGMENT_BYTES) == (16 << 10, 8 << 20)
    assert (max_region(0), max_region(1 << 30)) == (256 << 10, 16 << 20)
    assert (patches.MAX_SEGMENTS, pieces.MAX_BLOB_SIZE, pieces.PIECE_SIZE) == (1 << 18, 1 << 40, 262144)
    assert (pieces.MIN_PIECE_SIZE, pieces.MAX_PIECE_SIZE, pieces.MAX_TABLE_BYTES) == (64 << 10, 16 << 20, 16 << 20)


def test_bundle() -> None:
    data = (EXAMPLES / "bundle.json").read_bytes()
    bundle = decode_bundle(data)
    assert encode_bundle(bundle) == data
    assert _members("bundle") == set(bundle.__struct_fields__)


def test_line() -> None:
    example = load("line.json")
    line = msgspec.convert(example["line"], Line)
    assert _members("line") == set(Line.__struct_encode_fields__)
    zone = ZoneInfo(line.zone)
    for one in example["measured"]:
        at = parse_instant(one["at"])
        assert hour_of_week(at, zone) == example["hour"]
        line = msgspec.structs.replace(line, rates=learn(line.rates, at, zone, one["bytes_per_s"]))
    assert rate_at(line, at, zone) == line.rates[example["hour"]] == example["rate"]
    found = completions(line, parse_instant(example["now"]), zone, example["sizes"])
    assert [dump_instant(at) for at in found if at is not None] == example["completions"]
    rows = re.findall(r"^\| ([\d,]+) \| (\d{4}-\S+Z) \|", TEXT, re.MULTILINE)
    assert [(int(size.replace(",", "")), at) for size, at in rows] == list(
        zip(example["sizes"], example["completions"], strict=True)
    )
    assert f"Beyond {HORIZON_DAYS} days" in TEXT
    assert f"moves {NEWEST_SHARE} of the way" in TEXT


def _id(name: str) -> bool:
    return _is_taken(names.parse_courseware_id, name)


def _file(name: str) -> bool:
    return _is_taken(names.parse_file_name, name)


def _is_taken(parse: Callable[[str], str], name: str) -> bool:
    try:
        return parse(name) == name
    except InputError:
        return False


@pytest.mark.parametrize(
    ("kind", "is_good"),
    [("file_names", _file), ("courseware_ids", _id), ("metadata_names", names.is_metadata_name)],
)
def test_names(kind: str, is_good: Callable[[str], bool]) -> None:
    example = load("names.json")[kind]
    assert [name for name in example["accepted"] if not is_good(name)] == []
    assert [name for name in example["refused"] if is_good(name)] == []


def test_ranges() -> None:
    example = load("ranges.json")
    what = ranges.Representation(example["size"], example["etag"], example["media_type"])
    for one in example["answers"]:
        answer = ranges.plan_answer(one["method"], one["headers"], what)
        fields = dict(answer.fields)
        assert answer.status == one["status"], one
        assert [[part.range.start, part.range.stop] for part in answer.parts if part.range] == one["ranges"], one
        assert fields.get("Content-Range") == one.get("content_range"), one
        assert fields.get("Content-Length") == (str(one["content_length"]) if "content_length" in one else None), one
    rows = re.findall(r"^\| (?:GET|HEAD) \|.*\| (\d{3}) \|", TEXT, re.MULTILINE)
    assert [int(row) for row in rows] == [one["status"] for one in example["answers"]]
