"""The shelf: what is shown here, as one frozen value that requests read and a library change replaces whole.

Pure: built from values, asked by requests. A recall is therefore effective in the instant the new shelf stands; and so
is the end of a lesson's time, with or without a line.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from manifests.catalog import is_for, item_for, variants_of
from manifests.digests import Digest
from manifests.instants import Instant, dump_instant
from manifests.model import Catalog, Column, Courseware, File
from manifests.names import Region

# Lessons in no column are shown under this id; a real column cannot have it (ids begin with a letter or digit).
LOOSE = "-"


@dataclass(frozen=True, slots=True)
class Shelf:
    """Installed courseware in the orders that pages need.

    Attributes:
        newest: ids, latest published first.
        by_column: ids per column id (and `LOOSE`), latest published first; columns without lessons are absent.
        ended: installed lessons whose time is over: not shown, and removed with the next sync.
        since, until: instants between which this shelf is right, as far as time goes; empty for no bound.
    """

    token: int = -1
    catalog_version: int = 0
    columns: tuple[Column, ...] = ()
    lessons: Mapping[str, Courseware] = field(default_factory=dict)
    newest: tuple[str, ...] = ()
    by_column: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    ended: Mapping[str, Courseware] = field(default_factory=dict)
    since: str = ""
    until: str = ""

    def is_right_at(self, now: Instant) -> bool:
        """Tell whether no lesson's time has ended since; a clock that was set back gives lessons their time again."""
        text = dump_instant(now)
        return self.since <= text and (not self.until or text < self.until)

    def file(self, courseware: str, name: str) -> File | None:
        """One installed file by the two names of its address."""
        item = self.lessons.get(courseware)
        if item is None:
            return None
        return next((file for file in item.files if file.name == name), None)

    def column_title(self, column: str) -> str:
        """A column's title; empty when it is not known."""
        return next((one.title for one in self.columns if one.id == column), "")


def make_shelf(
    token: int, catalog_version: int, columns: Sequence[Column], installed: Mapping[str, Courseware], now: Instant
) -> Shelf:
    """Put installed courseware in order, what has its time at `now`."""
    at = dump_instant(now)
    ended = {id_: item for id_, item in installed.items() if item.expires is not None and item.expires <= at}
    lessons = {id_: item for id_, item in installed.items() if id_ not in ended}
    # Sorting is stable: by id where the instants are equal. Instants of one text form sort as time does.
    newest = sorted(sorted(lessons), key=lambda one: lessons[one].published, reverse=True)
    known = {column.id for column in columns}
    by_column: dict[str, list[str]] = {}
    for one in newest:
        places = [column for column in lessons[one].columns if column in known] or [LOOSE]
        for column in places:
            by_column.setdefault(column, []).append(one)
    return Shelf(
        token,
        catalog_version,
        tuple(sorted(columns, key=lambda column: (column.order, column.id))),
        lessons,
        tuple(newest),
        {column: tuple(ids) for column, ids in by_column.items()},
        ended,
        max((item.expires or "" for item in ended.values()), default=""),
        min((item.expires for item in lessons.values() if item.expires is not None), default=""),
    )


@dataclass(frozen=True, slots=True)
class Offered:
    """What the newest verified catalog offers here, installed or not: tells *not here yet* from *unknown*."""

    names: Mapping[str, frozenset[str]] = field(default_factory=dict)
    blobs: frozenset[bytes] = frozenset()
    expiries: Mapping[str, str] = field(default_factory=dict)

    def has(self, courseware: str, now: Instant) -> bool:
        """Whether it may still come: what has expired never will."""
        ends = self.expiries.get(courseware)
        return courseware in self.names and (ends is None or ends > dump_instant(now))

    def has_file(self, courseware: str, name: str, now: Instant) -> bool:
        """Whether this file of it may still come."""
        return self.has(courseware, now) and name in self.names[courseware]

    def has_blob(self, digest: Digest) -> bool:
        """Whether the catalog names this blob."""
        return bytes.fromhex(digest) in self.blobs


def make_offered(catalog: Catalog, region: Region) -> Offered:
    """Keep of a catalog only what a miss asks for: names per lesson for `region`, and digests at 32 bytes each."""
    items = [item for one in catalog.courseware if is_for(item := item_for(one, region), region)]
    # Whoever syncs from here may be in a pilot when this edge is not, and the other way round.
    passed_on = (item for one in catalog.courseware for item in variants_of(one) if is_for(item, region))
    return Offered(
        {item.id: frozenset(file.name for file in item.files) for item in items},
        frozenset(_digests(file for item in passed_on for file in item.files)),
        {item.id: item.expires for item in items if item.expires is not None},
    )


def _digests(files: Iterable[File]) -> Iterable[bytes]:
    for file in files:
        yield bytes.fromhex(file.blob)
        if file.table:
            yield bytes.fromhex(file.table)
        for patch in file.patches:
            yield bytes.fromhex(patch.blob)
            if patch.table:
                yield bytes.fromhex(patch.table)
