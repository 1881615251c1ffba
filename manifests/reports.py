"""Reports come up: what an edge says to the province, signed, numbered, idempotent (FORMAT.md section 9).

An envelope holds the exact text that was signed, so that nobody re-encodes before checking. Numbers rise by one per
edge and never come back; the origin applies them in order and answers a number that it has with the same receipt.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Annotated, Any, Literal, NamedTuple, assert_never

import msgspec
from msgspec import Meta, Struct

from manifests.digests import digest_of
from manifests.errors import FormatError, InputError
from manifests.instants import Instant, dump_instant, parse_instant
from manifests.line import Line, parse_window
from manifests.model import MAX_COURSEWARE, MAX_INT, Bytes, IdText, InstantText, RegionText, Version
from manifests.names import parse_courseware_id

REPORT_FORMAT = "yuanjiao-report"
REPORT_MAJOR = 1
MAX_REPORT_BYTES = 16 * 1024 * 1024
REPORTS_PATH = "/api/v1/reports"
MAX_BATCH = 1000
# The text stands as a JSON string in its envelope, where quotes are escaped: a third more at most for what we write.
MAX_BATCH_BYTES = MAX_REPORT_BYTES + MAX_REPORT_BYTES // 2
MAX_ANSWER_BYTES = 4096

Kind = Literal["inventory", "run", "state", "watching"]
# Kinds that came after the first three: who sends them asks first whether they are taken (see `Answer.kinds`).
WATCHING: Literal["watching"] = "watching"
HOUR_S = 3600
MAX_WATCHED = 20_000
Number = Annotated[int, Meta(ge=1, le=MAX_INT)]
Hex64 = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")]


class Envelope(Struct, frozen=True):
    """What travels: `text` is the JSON of a `Report`, `signature` the edge's Ed25519 over its UTF-8 bytes, in hex."""

    key_id: Annotated[str, Meta(min_length=1, max_length=64)]
    text: str
    signature: Annotated[str, Meta(pattern=r"^[0-9a-f]{128}\Z")]


class Report(Struct, frozen=True):
    """One report; `body` is an `Inventory`, `Run`, `State` or `Watched` by its kind.

    Attributes:
        after: number of the report before this one; what lies between was superseded before it was sent, and will
            never come. With it a reader tells a gap that is meant from one that is a loss.
    """

    format: str
    major: int
    region: RegionText
    number: Number
    kind: Kind
    at: InstantText
    body: msgspec.Raw
    after: Annotated[int, Meta(ge=0, le=MAX_INT)] = 0


class Inventory(Struct, frozen=True, omit_defaults=True):
    """A receipt: what is proved here, as the change since the inventory before it.

    Attributes:
        catalog_version: the installed catalog of the province.
        cities: of each city whose catalog is installed beside it, its version.
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
    cities: Annotated[dict[RegionText, Version], Meta(max_length=1000)] = msgspec.field(default_factory=dict)


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
    waits: bool = False


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


class LessonWatched(NamedTuple):
    """One lesson in one hour: times begun, terminals, bytes that they took."""

    plays: Bytes
    terminals: Bytes
    bytes: Bytes


class Watched(Struct, frozen=True, omit_defaults=True):
    """What terminals watched at an edge in one hour. Told again, an hour only grows.

    Attributes:
        hour: its beginning, a whole hour of UTC.
        terminals: how many watched anything.
        lessons: id → times begun, terminals, bytes.
    """

    hour: InstantText
    terminals: Bytes
    lessons: Annotated[dict[IdText, LessonWatched], Meta(max_length=MAX_WATCHED)] = msgspec.field(default_factory=dict)


class Answer(Struct, frozen=True, omit_defaults=True):
    """What the origin says to reports: all numbers up to `received` are kept for good.

    Attributes:
        want_full: the next inventory must be a full one, because this origin cannot build on the last.
        kinds: kinds that it takes beside `inventory`, `run` and `state`; an older origin names none.
    """

    received: Annotated[int, Meta(ge=0, le=MAX_INT)]
    want_full: bool = False
    kinds: tuple[str, ...] = ()


Body = Inventory | Run | State | Watched


def inventory_bytes(held: dict[str, int]) -> bytes:
    """The text whose SHA-256 is an inventory's digest: `ID VERSION` lines, sorted by id, each ended by a line feed."""
    return "".join(f"{id_} {held[id_]}\n" for id_ in sorted(held)).encode()


def inventory_digest(held: dict[str, int]) -> str:
    """An inventory's digest."""
    return digest_of(inventory_bytes(held))


def make_report(region: str, number: int, kind: Kind, at: Instant, body: Body | bytes, *, after: int = 0) -> Report:
    """Put a report together; `body` may be JSON already."""
    raw = body if isinstance(body, bytes) else msgspec.json.encode(body)
    return Report(REPORT_FORMAT, REPORT_MAJOR, region, number, kind, dump_instant(at), msgspec.Raw(raw), after=after)


def encode_report(report: Report) -> str:
    """The exact text to sign."""
    return msgspec.json.encode(report).decode()


def decode_report(text: str) -> Report:
    """Read a report whose signature was checked.

    Raises:
        FormatError: bad data; another format or major version included.
    """
    report: Report = _decode(text, Report, "a report")
    if report.format != REPORT_FORMAT or report.major != REPORT_MAJOR:
        raise FormatError(
            f"report of format {report.format[:40]!r} {report.major}; this program reads {REPORT_MAJOR}",
            zh="上报内容的格式版本不受支持",
        )
    parse_instant(report.at)
    return report


def decode_body(report: Report, kind: type[Any]) -> Any:
    """Read a report's body as the type that its kind names.

    Raises:
        FormatError: bad data.
    """
    return _decode(report.body, kind, f"{report.kind} report {report.number}")


def read_body(report: Report) -> Body:
    """Read a report's body whole: its type by its kind, and every id, digest and instant in it checked.

    Raises:
        FormatError: bad data.
    """
    body: Body = decode_body(report, _BODIES[report.kind])
    match body:
        case Inventory():
            _check_ids(body.held, body.gone, body.recalls)
        case Run():
            _check_ids(body.deferred)
            for text in (body.started, body.finished):
                parse_instant(text)
        case State():
            _check_ids(body.held, body.columns)
            parse_window(body.line.window)
        case Watched():
            _check_ids(body.lessons)
            if parse_instant(body.hour) % HOUR_S:
                raise FormatError(f"{body.hour} does not begin an hour", zh="观看统计的时间不是整点")
        case _:
            assert_never(body)
    return body


def encode_envelopes(envelopes: Sequence[Envelope]) -> bytes:
    """What is posted: a JSON list, in the order of their numbers."""
    return msgspec.json.encode(envelopes)


def decode_envelopes(data: bytes) -> list[Envelope]:
    """Read what was posted.

    Raises:
        FormatError: bad data; too many of them included.
    """
    envelopes: list[Envelope] = _decode(data, list[Envelope], "the list of reports")
    if len(envelopes) > MAX_BATCH:
        raise FormatError(f"{len(envelopes)} reports at once; at most {MAX_BATCH}", zh="一次上报的条数过多")
    return envelopes


def encode_envelope(envelope: Envelope) -> bytes:
    """One envelope as a file."""
    return msgspec.json.encode(envelope) + b"\n"


def decode_envelope(data: bytes) -> Envelope:
    """Read one envelope, such as a file that `yuanjiao edge report` wrote.

    Raises:
        FormatError: bad data.
    """
    envelope: Envelope = _decode(data, Envelope, "the envelope")
    return envelope


def decode_answer(data: bytes) -> Answer:
    """Read what the origin said.

    Raises:
        FormatError: bad data.
    """
    answer: Answer = _decode(data, Answer, "the answer to reports")
    return answer


_BODIES: dict[Kind, type[Any]] = {"inventory": Inventory, "run": Run, "state": State, "watching": Watched}


def _decode(data: bytes | str | msgspec.Raw, kind: Any, what: str) -> Any:
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise FormatError(f"{what} cannot be read: {error}", zh="上报内容无法读取") from error


def _check_ids(*lists: Iterable[str]) -> None:
    try:
        for ids in lists:
            for id_ in ids:
                parse_courseware_id(id_)
    except InputError as error:
        raise FormatError(error.message, zh=error.zh) from error
