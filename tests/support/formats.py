"""Values and strategies for tests of the formats."""

from __future__ import annotations

import random
from typing import Any

import msgspec
from hypothesis import strategies as st

from manifests.model import FORMAT, MAJOR, MAX_INT, Catalog, Column, Courseware, File, Patch, Pilot, Recall
from manifests.pieces import PIECE_SIZE

ISSUED = "2026-11-24T02:56:09Z"


def hex64(seed: int) -> str:
    """A blob name that nothing has to have."""
    return random.Random(seed).randbytes(32).hex()


def make_file(**changes: Any) -> File:
    values: dict[str, Any] = {
        "role": "video",
        "name": "冬小麦.mp4",
        "media_type": "video/mp4",
        "blob": hex64(1),
        "size": 300_000,
        "table": hex64(2),
    }
    return File(**(values | changes))


def make_courseware(**changes: Any) -> Courseware:
    values: dict[str, Any] = {
        "id": "kj-0001",
        "version": 1,
        "title": "冬小麦田间管理",
        "kind": "video",
        "audience": ("410000",),
        "published": ISSUED,
        "files": (make_file(),),
    }
    return Courseware(**(values | changes))


def make_catalog(**changes: Any) -> Catalog:
    values: dict[str, Any] = {
        "format": FORMAT,
        "major": MAJOR,
        "publisher": "410000",
        "version": 1,
        "issued": ISSUED,
        "courseware": (make_courseware(),),
    }
    return Catalog(**(values | changes))


_han = st.text(alphabet="农村党员干部现代远程教育冬小麦田间管理", min_size=1, max_size=12)
_ids = st.from_regex(r"[a-z][a-z0-9]{0,6}(-[a-z0-9]{1,5})?", fullmatch=True).filter(
    lambda text: not text.startswith(("con", "prn", "aux", "nul", "com", "lpt"))
)
_digests = st.binary(min_size=32, max_size=32).map(bytes.hex)
_regions = st.from_regex(r"[1-9][0-9]{5}", fullmatch=True)
_ext = st.dictionaries(st.text(max_size=5), st.integers(-5, 5) | st.text(max_size=5) | st.none(), max_size=2)


@st.composite
def patches_of(draw: st.DrawFn, blob: str) -> Patch:
    size = draw(st.integers(28, 3 * PIECE_SIZE))
    table = draw(_digests) if size > PIECE_SIZE else None
    return Patch(draw(_digests.filter(lambda one: one != blob)), draw(_digests), size, table)


@st.composite
def files(draw: st.DrawFn, name: str) -> File:
    piece_size = draw(st.sampled_from([PIECE_SIZE, 65536, 1 << 20]))
    size = draw(st.integers(0, 1 << 32))
    blob = draw(_digests)
    return make_file(
        name=name,
        blob=blob,
        size=size,
        piece_size=piece_size,
        table=draw(_digests) if size > piece_size else None,
        duration_s=draw(st.floats(0, 1e5)),
        patches=tuple(draw(st.lists(patches_of(blob), max_size=2))),
        ext=draw(_ext),
    )


@st.composite
def on_trial(draw: st.DrawFn, item: Courseware) -> Courseware:
    """The courseware, perhaps with a pilot of a higher version."""
    if item.version == MAX_INT or not draw(st.booleans()):
        return item
    following = msgspec.structs.replace(
        item,
        version=draw(st.integers(item.version + 1, MAX_INT)),
        title=draw(_han),
        files=(draw(files("下一版.mp4")),),
        audience=tuple(draw(st.lists(_regions, min_size=1, max_size=2))),
    )
    return msgspec.structs.replace(
        item, pilot=Pilot(tuple(draw(st.lists(_regions, min_size=1, max_size=3))), following)
    )


@st.composite
def catalogs(draw: st.DrawFn) -> Catalog:
    """Any catalog that follows the rules."""
    columns = draw(st.lists(_ids, unique=True, max_size=3))
    items = []
    for one in draw(st.lists(_ids, unique=True, max_size=4)):
        names = draw(st.lists(_han, unique=True, min_size=1, max_size=3))
        item = make_courseware(
            id=one,
            version=draw(st.integers(2, 2**53 - 1)),
            title=draw(_han),
            summary=draw(_han | st.just("")),
            audience=tuple(draw(st.lists(_regions, min_size=1, max_size=3))),
            columns=tuple(draw(st.lists(st.sampled_from(columns), max_size=2))) if columns else (),
            files=tuple(draw(files(f"{name}.mp4")) for name in names),
            priority=draw(st.integers(0, 9)),
            expires=draw(st.none() | st.just("2027-01-01T00:00:00Z")),
            credit=draw(_han | st.just("")),
            ext=draw(_ext),
        )
        items.append(draw(on_trial(item)))
    gone = draw(st.lists(_ids, unique=True, max_size=3))
    return make_catalog(
        version=draw(st.integers(1, 2**53 - 1)),
        columns=tuple(Column(one, "专栏", draw(st.integers(-9, 9))) for one in columns),
        courseware=tuple(items),
        recalls=tuple(Recall(one, 1, "内容有误", ISSUED) for one in gone),
        ext=draw(_ext),
    )
