"""The catalog's values, exactly as they stand on the wire (FORMAT.md section 4).

Instants stay ISO text here: they are compared and shown far more often than computed with, and ISO text of one
form sorts as time does. Fields unknown to this version are ignored on reading; `ext` is kept word for word.
`gc=False` halves the decoding of big catalogs; these values hold no reference cycles.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from manifests.digests import Digest
from manifests.pieces import MAX_BLOB_SIZE, MAX_PIECE_SIZE, MIN_PIECE_SIZE, PIECE_SIZE, BlobRef

FORMAT = "yuanjiao-catalog"
MAJOR = 1
# Minor 1 knows `streams`, minor 2 `pilot` and `credit`; a catalog that has none of them is written as minor 0, for it
# is one.
MINOR = 2
STREAMS_MINOR, PILOT_MINOR = 1, 2

MAX_COURSEWARE = 200_000
MAX_COLUMNS = 1_000
MAX_FILES = 200
MAX_STREAMS = 200
MAX_PATCHES = 16
MAX_RECALLS = 50_000
MAX_PILOTS = 1_000
MAX_AUDIENCE = 4_000

# `\Z` and not `$`, which would let a line break follow; `[0-9]` and not `\d`, which takes digits of all scripts.
MEDIA_TYPE = r"^[a-z0-9][a-z0-9.+-]{0,60}/[a-z0-9][a-z0-9.+-]{0,60}\Z"
Hex64 = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")]
InstantText = Annotated[str, Meta(pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z\Z")]
RegionText = Annotated[str, Meta(pattern=r"^[1-9][0-9]{5}\Z")]
# In the catalog itself a pattern per field costs as much as all other decoding: types say the length only, and
# catalog_rules.check_catalog checks the characters of all values at once.
_Hex64 = Annotated[str, Meta(min_length=64, max_length=64)]
_Instant = Annotated[str, Meta(min_length=20, max_length=20)]
_Region = Annotated[str, Meta(min_length=6, max_length=6)]
_MediaType = Annotated[str, Meta(min_length=3, max_length=123)]
IdText = Annotated[str, Meta(min_length=1, max_length=64)]
Label = Annotated[str, Meta(min_length=1, max_length=60)]
# JSON numbers are exact up to here in every reader, and SQLite's integers hold them.
MAX_INT = (1 << 53) - 1
Version = Annotated[int, Meta(ge=1, le=MAX_INT)]
Bytes = Annotated[int, Meta(ge=0, le=MAX_BLOB_SIZE)]
PieceBytes = Annotated[int, Meta(ge=MIN_PIECE_SIZE, le=MAX_PIECE_SIZE)]
Kind = Literal["video", "article", "document", "recording"]
Role = Literal["video", "audio", "poster", "document", "article", "picture", "subtitle", "rendition", "playlist"]
# What makes a video play as HLS. A reader of minor 0 refuses a catalog whose `files` name these roles, so that on the
# wire they stand in `streams`, which it passes over; in memory they are files like all others.
STREAM_ROLES = frozenset({"rendition", "playlist"})


class Patch(Struct, frozen=True, gc=False, omit_defaults=True, rename={"source": "from"}):
    """How to build a blob from another: fetch `blob` (the patch), apply it to the blob named `from`.

    That is an older blob, or the blob of a file that stands before this one in the same courseware.

    A patch longer than one piece has a piece table, as every blob.
    """

    source: _Hex64
    blob: _Hex64
    size: Bytes
    table: _Hex64 | None = None

    @property
    def ref(self) -> BlobRef:
        """The patch itself as a blob to fetch."""
        return BlobRef(Digest(self.blob), self.size, Digest(self.table) if self.table else None)


class File(Struct, frozen=True, gc=False, omit_defaults=True):
    """One file of a courseware: its stable name at the edge and the blob that it is now."""

    role: Role
    name: Annotated[str, Meta(min_length=1, max_length=200)]
    media_type: _MediaType
    blob: _Hex64
    size: Bytes
    table: _Hex64 | None = None
    piece_size: PieceBytes = PIECE_SIZE
    width: Annotated[int, Meta(ge=0, le=65535)] = 0
    height: Annotated[int, Meta(ge=0, le=65535)] = 0
    bitrate_bps: Annotated[int, Meta(ge=0, le=MAX_INT)] = 0
    duration_s: Annotated[float, Meta(ge=0)] = 0.0
    language: Annotated[str, Meta(max_length=35)] = ""
    patches: Annotated[tuple[Patch, ...], Meta(max_length=MAX_PATCHES)] = ()
    ext: dict[str, Any] = msgspec.field(default_factory=dict)

    @property
    def ref(self) -> BlobRef:
        """The file's bytes as a blob to fetch."""
        return BlobRef(Digest(self.blob), self.size, Digest(self.table) if self.table else None, self.piece_size)


class Pilot(Struct, frozen=True, gc=False, omit_defaults=True):
    """The next version of a courseware, for an edge of these regions only; all others go by the entry it stands in.

    Attributes:
        audience: of the pilot; `next` has the one that it is meant for in the end.
        next: a whole courseware of the same id and a higher version, which has no pilot itself.
    """

    audience: Annotated[tuple[_Region, ...], Meta(min_length=1, max_length=MAX_AUDIENCE)]
    next: Courseware


class Courseware(Struct, frozen=True, gc=False, omit_defaults=True):
    """One teaching item at one version.

    Attributes:
        audience: region codes it is meant for; never empty, the province's own code means everybody.
        priority: 0 to 9, higher first in the night's plan.
        files: in memory all of them; on the wire those that are no streams.
        streams: on the wire only, see `STREAM_ROLES`; `manifests.catalog` parts and joins them.
        credit: who made it.
        pilot: what some regions get instead; `manifests.catalog.resolve` leaves each edge what is meant for it.
    """

    id: IdText
    version: Version
    title: Annotated[str, Meta(min_length=1, max_length=200)]
    kind: Kind
    audience: Annotated[tuple[_Region, ...], Meta(min_length=1, max_length=MAX_AUDIENCE)]
    published: _Instant
    files: Annotated[tuple[File, ...], Meta(min_length=1, max_length=MAX_FILES)]
    columns: Annotated[tuple[IdText, ...], Meta(max_length=50)] = ()
    summary: Annotated[str, Meta(max_length=4000)] = ""
    expires: _Instant | None = None
    duration_s: Annotated[float, Meta(ge=0)] = 0.0
    priority: Annotated[int, Meta(ge=0, le=9)] = 5
    tags: Annotated[tuple[Label, ...], Meta(max_length=50)] = ()
    ext: dict[str, Any] = msgspec.field(default_factory=dict)
    streams: Annotated[tuple[File, ...], Meta(max_length=MAX_STREAMS)] = ()
    credit: Annotated[str, Meta(max_length=60)] = ""
    pilot: Pilot | None = None

    @property
    def size(self) -> int:
        """Bytes of all its files."""
        return sum(file.size for file in self.files)


class Column(Struct, frozen=True, gc=False, omit_defaults=True):
    """A themed list of courseware; the unit of subscription."""

    id: IdText
    title: Label
    order: Annotated[int, Meta(ge=-(1 << 31), lt=1 << 31)] = 0
    ext: dict[str, Any] = msgspec.field(default_factory=dict)


class Recall(Struct, frozen=True, gc=False, omit_defaults=True):
    """A courseware that must be gone from every screen: this version and all before it."""

    id: IdText
    version: Version
    reason: Annotated[str, Meta(min_length=1, max_length=500)]
    at: _Instant


class Catalog(Struct, frozen=True, gc=False, omit_defaults=True):
    """All that one publisher offers in one release; `version` rises by at least one per release."""

    format: str
    major: int
    publisher: _Region
    version: Version
    issued: _Instant
    minor: Annotated[int, Meta(ge=0, le=MAX_INT)] = 0
    columns: Annotated[tuple[Column, ...], Meta(max_length=MAX_COLUMNS)] = ()
    courseware: Annotated[tuple[Courseware, ...], Meta(max_length=MAX_COURSEWARE)] = ()
    recalls: Annotated[tuple[Recall, ...], Meta(max_length=MAX_RECALLS)] = ()
    ext: dict[str, Any] = msgspec.field(default_factory=dict)


class CatalogTarget(Struct, frozen=True, gc=False, omit_defaults=True):
    """What TUF's targets role says of the catalog beside length and digest: the `custom` object.

    Attributes:
        version: the catalog's own version, so that an edge knows it before the bytes are here.
        table: piece table of the catalog, when it is longer than one piece.
        patches: patches from recent catalogs.
    """

    version: Version
    table: Hex64 | None = None
    piece_size: PieceBytes = PIECE_SIZE
    patches: Annotated[tuple[Patch, ...], Meta(max_length=MAX_PATCHES)] = ()
