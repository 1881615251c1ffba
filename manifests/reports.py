"""Reports come up: what an edge says to the province, signed, numbered, idempotent (FORMAT.md section 9).

An envelope holds the exact text that was signed, so that nobody re-encodes before checking. Numbers rise by one per
edge and never come back; the origin applies them in order and answers a number that it has with the same receipt.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from manifests.errors import FormatError
from manifests.line import Line
from manifests.model import MAX_COURSEWARE, MAX_INT, Bytes, IdText, InstantText, RegionText, Version

REPORT_FORMAT = "yuanjiao-report"
REPORT_MAJOR = 1
MAX_REPORT_BYTES = 16 * 1024 * 1024
REPORTS_PATH = "/api/v1/reports"

Kind = Literal["inventory", "run", "state"]
Number = Annotated[int, Meta(ge=1, le=MAX_INT)]
Hex64 = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")]


class Envelope(Struct, frozen=True):
    """What travels: `text` is the JSON of a `Report`, `signature` the edge's Ed25519 over its UTF-8 bytes, in hex."""

    key_id: Annotated[str, Meta(min_length=1, max_length=64)]
    text: str
    signature: Annotated[str, Meta(pattern=r"^[0-9a-f]{128}\Z")]


class Report(Struct, frozen=True):
    """One report; `body` is an `Inventory`, `Run` or `State` by its kind."""

    format: str
    major: int
    region: RegionText
    number: Number
    kind: Kind
    at: InstantText
    body: msgspec.Raw


class Inventory(Struct, frozen=True, omit_defaults=True):
    """A receipt: what is proved here, as the change since the inventory before it.

    Attributes:
        catalog_version: the installed catalog.
        base: number of the inventory report that the change starts from; 0 when `held` is everything.
        held: courseware proved since then: id → version.
        gone: ids no longer here.
        recalls: ids gone because of a recall, with the recalled version.
        digest: SHA-256 over all that is held after the change, see `inventory_digest`.
        count: how many courseware that is.
    """

    catalog_version: Annotated[int, Meta(ge=0, le=MAX_INT)]
    digest: Hex64
    count: Annotated[int, Meta(ge=0, le=MAX_COURSEWARE)]
    base: Annotated[int, Meta(ge=0, le=MAX_INT)] = 0
    held: dict[IdText, Version] = msgspec.field(default_factory=dict)
    gone: tuple[IdText, ...] = ()
    recalls: dict[IdText, Version] = msgspec.field(default_factory=dict)


class Run(Struct, frozen=True, omit_defaults=True):
    """The outcome of one sync run; the words are the sync report's (see `edge sync --json`)."""

    catalog_version: Annotated[int, Meta(ge=0, le=MAX_INT)]
    complete: bool
    started: InstantText
    finished: InstantText
    bytes_fetched: Bytes = 0
    bytes_by_reason: dict[str, Bytes] = msgspec.field(default_factory=dict)
    sources: dict[str, Bytes] = msgspec.field(default_factory=dict)
    banned: tuple[str, ...] = ()
    deferred: dict[IdText, str] = msgspec.field(default_factory=dict)
    error: Annotated[str, Meta(max_length=1000)] = ""


class State(Struct, frozen=True, omit_defaults=True):
    """The planner's inputs, from which the origin can plan for this edge, and a courier can pack for it.

    Attributes:
        columns: subscribed column ids; empty: all.
        room_bytes: bytes that may still be taken on the disk.
        line: rate profile, window and caps.
        waiting_bytes: bytes that are planned and not here yet.
        held: id → version of all installed courseware; only in a state written to a file, else empty.
        partial: bytes proved of blobs that are begun, by digest.
        faults: what an operator should know, such as a disk that decays: short sentences.
    """

    region: RegionText
    catalog_version: Annotated[int, Meta(ge=0, le=MAX_INT)]
    line: Line
    room_bytes: Bytes
    waiting_bytes: Bytes = 0
    columns: tuple[IdText, ...] = ()
    held: dict[IdText, Version] = msgspec.field(default_factory=dict)
    partial: dict[Hex64, Bytes] = msgspec.field(default_factory=dict)
    faults: tuple[str, ...] = ()


class Answer(Struct, frozen=True, omit_defaults=True):
    """What the origin says to reports: all numbers up to `received` are kept for good.

    Attributes:
        want_full: the next inventory must be a full one, because this origin cannot build on the last.
    """

    received: Annotated[int, Meta(ge=0, le=MAX_INT)]
    want_full: bool = False


def inventory_bytes(held: dict[str, int]) -> bytes:
    """The text whose SHA-256 is an inventory's digest: `ID VERSION` lines, sorted by id, each ended by a line feed."""
    return "".join(f"{id_} {held[id_]}\n" for id_ in sorted(held)).encode()


def encode_report(report: Report) -> str:
    """The exact text to sign."""
    return msgspec.json.encode(report).decode()


def decode_report(text: str) -> Report:
    """Read a report whose signature was checked.

    Raises:
        FormatError: bad data; another format or major version included.
    """
    try:
        report = msgspec.json.decode(text, type=Report)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise FormatError(f"a report cannot be read: {error}", zh="上报内容无法读取") from error
    if report.format != REPORT_FORMAT or report.major != REPORT_MAJOR:
        raise FormatError(
            f"report of format {report.format[:40]!r} {report.major}; this program reads {REPORT_MAJOR}",
            zh="上报内容的格式版本不受支持",
        )
    return report


def decode_body(report: Report, kind: type[Any]) -> Any:
    """Read a report's body as the type that its kind names.

    Raises:
        FormatError: bad data.
    """
    try:
        return msgspec.json.decode(report.body, type=kind)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise FormatError(f"{report.kind} report {report.number}: {error}", zh="上报内容无法读取") from error
