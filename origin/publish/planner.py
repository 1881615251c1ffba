"""What a release will change, decided without I/O: which drafts are new, which are new versions, which are neither.

Version numbers are given here and nowhere else: one above the highest that was ever given to the id, so a number that
went to a release that never landed is not given again. A draft that equals what is offered gets no number: publishing
twice is the same as publishing once, which is how a publish that was cut off after its release is repeated in peace.
"""

from __future__ import annotations

import base64
import hashlib
import unicodedata
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

import msgspec

from manifests.catalog import check_catalog
from manifests.cities import city_of_id
from manifests.errors import FormatError, InputError
from manifests.instants import Instant, dump_instant
from manifests.model import (
    FORMAT,
    MAJOR,
    MAX_COLUMNS,
    MAX_COURSEWARE,
    Catalog,
    Column,
    Courseware,
    File,
    Kind,
    Pilot,
    Recall,
)
from manifests.names import (
    CoursewareId,
    Region,
    is_within,
    parse_courseware_id,
    parse_credit,
    parse_label,
    parse_region,
    parse_summary,
    parse_title,
)
from manifests.pieces import BlobRef
from origin.database.library import Known
from origin.publish.pilot_plan import PilotWish, check_waves


@dataclass(frozen=True, slots=True)
class Draft:
    """A courseware as it shall be offered; its files' blobs are stored already.

    Attributes:
        columns: titles or ids; a title that no column has makes one.
        files: with their patches from earlier versions.
        originals: what was handed in, where it is not one of `files`.
        expires: instant text, None for never.
        publisher: the city whose catalog it belongs into; empty for the province's.
        pilot: to some regions first, to all when it proves good there; None: to all at once.
    """

    id: CoursewareId
    title: str
    kind: Kind
    columns: tuple[str, ...]
    audience: tuple[Region, ...]
    files: tuple[File, ...]
    originals: tuple[BlobRef, ...] = ()
    summary: str = ""
    duration_s: float = 0.0
    priority: int = 5
    tags: tuple[str, ...] = ()
    expires: str | None = None
    credit: str = ""
    publisher: str = ""
    pilot: PilotWish | None = None


class Action(StrEnum):
    """What becomes of a draft."""

    ADD = "add"
    UPDATE = "update"
    UNCHANGED = "unchanged"


@dataclass(frozen=True, slots=True)
class ItemPlan:
    """One draft's fate; `document` is what the catalog will say (or says, when unchanged).

    Attributes:
        base: what is offered before.
        pilot: the document goes to some regions first, all others keep the base.
    """

    document: Courseware
    action: Action
    reason: str
    originals: tuple[BlobRef, ...]
    base: Courseware | None = None
    pilot: PilotWish | None = None


@dataclass(frozen=True, slots=True)
class ReleasePlan:
    """All drafts of one release, in the order given."""

    items: tuple[ItemPlan, ...]
    new_columns: tuple[Column, ...]

    @property
    def changed(self) -> tuple[ItemPlan, ...]:
        """Items that need the release."""
        return tuple(item for item in self.items if item.action is not Action.UNCHANGED)

    @property
    def note(self) -> str:
        """The release in one line, for lists of releases."""
        changed = self.changed
        shown = ", ".join(f"{item.document.id} version {item.document.version}" for item in changed[:3])
        return shown if len(changed) <= 3 else f"{shown} and {len(changed) - 3} more"


def plan_release(
    drafts: Sequence[Draft], known: Mapping[str, Known], columns: Sequence[Column], now: Instant
) -> ReleasePlan:
    """Decide what a release of `drafts` changes.

    Args:
        drafts: what shall be offered.
        known: what the library has of their ids.
        columns: all columns there are.
        now: becomes the `published` instant of what changes.

    Raises:
        InputError: bad data; a draft breaks a rule that an edge would refuse the catalog for, or an id comes twice.
    """
    ids = [draft.id for draft in drafts]
    if len(set(ids)) != len(ids):
        raise InputError("one release cannot hold two drafts of the same id", zh="同一次发布中课件编号重复")
    shelf = _Shelf(columns)
    items = tuple(_plan_item(draft, known.get(draft.id), shelf, now) for draft in drafts)
    return ReleasePlan(items, tuple(shelf.new))


def assemble_catalog(
    publisher: Region,
    version: int,
    now: Instant,
    offered: Sequence[Courseware],
    columns: Sequence[Column],
    recalls: Collection[Recall],
) -> Catalog:
    """Build the catalog of a release; columns in which nothing is offered are left out.

    Raises:
        InputError: bad data; it would hold more than edges accept.
    """
    used = {column for item in offered for column in item.columns}
    used.update(column for item in offered if item.pilot is not None for column in item.pilot.next.columns)
    shown = tuple(column for column in columns if column.id in used)
    if len(offered) > MAX_COURSEWARE or len(shown) > MAX_COLUMNS:
        raise InputError(
            f"a catalog holds at most {MAX_COURSEWARE} courseware in {MAX_COLUMNS} columns",
            zh=f"目录最多容纳 {MAX_COURSEWARE} 个课件、{MAX_COLUMNS} 个专栏",
        )
    return Catalog(
        format=FORMAT,
        major=MAJOR,
        publisher=publisher,
        version=version,
        issued=dump_instant(now),
        columns=shown,
        courseware=tuple(offered),
        recalls=tuple(recalls),
    )


def on_trial(item: Courseware, areas: Sequence[Region], tried: Courseware | None) -> Courseware:
    """A courseware as the catalog says it while it goes to some regions only, or goes there in another version."""
    if tried is not None:
        return msgspec.structs.replace(item, pilot=Pilot(tuple(areas), tried))
    if not areas:
        return item
    return msgspec.structs.replace(item, audience=narrowed(item.audience, areas))


def narrowed(audience: Sequence[str], areas: Sequence[str]) -> tuple[str, ...]:
    """The regions that lie in both; empty when none does."""
    inner = {one for one in areas if any(is_within(Region(one), Region(area)) for area in audience)}
    inner |= {one for one in audience if any(is_within(Region(one), Region(area)) for area in areas)}
    return tuple(sorted(inner))


def column_id(title: str) -> str:
    """The id of the column that a title makes: the same title gives the same id on any machine."""
    digest = hashlib.sha256(title.encode()).digest()
    return "zl-" + base64.b32encode(digest[:5]).decode("ascii").lower()


class _Shelf:
    """Columns while a release is planned; new ones are remembered."""

    def __init__(self, columns: Sequence[Column]) -> None:
        self._by_id = {column.id: column for column in columns}
        self._by_title = {column.title: column for column in columns}
        self._next = max((column.order for column in columns), default=0) + 1
        self.new: list[Column] = []

    def place(self, text: str) -> Column:
        """The column of this id or title."""
        title = unicodedata.normalize("NFC", text).strip(" ")
        column = self._by_id.get(title) or self._by_title.get(title)
        if column is not None:
            return column
        title = parse_label(text)
        column = Column(id=column_id(title), title=title, order=self._next)
        self._next += 1
        self._by_id[column.id] = self._by_title[title] = column
        self.new.append(column)
        return column


def _plan_item(draft: Draft, known: Known | None, shelf: _Shelf, now: Instant) -> ItemPlan:
    highest = known.highest if known else 0
    current = known.current if known else None
    _check_own(draft, known)
    document = _document(draft, highest + 1, shelf, now)
    if current is not None and substance(document) == substance(current):
        return ItemPlan(current, Action.UNCHANGED, f"version {current.version} is the same", draft.originals)
    if draft.pilot is not None:
        check_waves(draft.pilot.waves, document.audience)
        if known is not None and known.is_on_trial:
            raise InputError(
                f"courseware {draft.id} has a pilot that runs already",
                zh=f"课件 {draft.id} 已有试点正在进行",
                hint="let it end, or stop it",
                hint_zh="请等待其结束，或先停止该试点",
            )
    if current is not None:
        reason = f"version {current.version} differs"
        return ItemPlan(document, Action.UPDATE, reason, draft.originals, current, draft.pilot)
    reason = "the id is new" if highest == 0 else "earlier versions are not offered any more"
    return ItemPlan(document, Action.ADD, reason, draft.originals, None, draft.pilot)


def _check_own(draft: Draft, known: Known | None) -> None:
    """A city's ids are its own, and nobody else's; an id that is taken stays with whose it is."""
    owner = city_of_id(draft.id) or ""
    if known is not None:
        owner = known.publisher
    if owner == draft.publisher:
        _check_within(draft)
        return
    raise InputError(
        f"courseware id {draft.id!r} is not one of {draft.publisher or 'the province'}"
        + (f": ids of that city begin with {draft.publisher}-" if draft.publisher else ""),
        zh=f"课件编号 {draft.id!r} 不属于{draft.publisher or '省级发布者'}"
        + (f"，该市的编号应以 {draft.publisher}- 开头" if draft.publisher else ""),
        hint="choose another id with --id, or name the publisher with --publisher",
        hint_zh="请用 --id 另取编号，或用 --publisher 指定发布者",
    )


def _check_within(draft: Draft) -> None:
    for area in draft.audience if draft.publisher else ():
        if not is_within(area, Region(draft.publisher)):
            raise InputError(
                f"audience {area} lies outside {draft.publisher}, which publishes",
                zh=f"受众地区 {area} 不在发布者 {draft.publisher} 范围内",
            )


def _document(draft: Draft, version: int, shelf: _Shelf, now: Instant) -> Courseware:
    columns = [shelf.place(text) for text in draft.columns]
    document = Courseware(
        id=parse_courseware_id(draft.id),
        version=version,
        title=parse_title(draft.title),
        kind=draft.kind,
        audience=tuple(sorted({parse_region(region) for region in draft.audience})),
        published=dump_instant(now),
        files=draft.files,
        columns=tuple(dict.fromkeys(column.id for column in columns)),
        summary=parse_summary(draft.summary),
        expires=draft.expires,
        duration_s=draft.duration_s,
        priority=draft.priority,
        tags=tuple(dict.fromkeys(parse_label(tag, "tag", "标签") for tag in draft.tags)),
        credit=parse_credit(draft.credit),
    )
    check_document(document, columns)
    return document


def check_document(document: Courseware, columns: Sequence[Column]) -> None:
    """Read the document as an edge will; building a Struct checks none of its limits."""
    try:
        again = msgspec.json.decode(msgspec.json.encode(document), type=Courseware)
        held = tuple({column.id: column for column in columns}.values())
        check_catalog(
            Catalog(
                format=FORMAT,
                major=MAJOR,
                publisher=document.audience[0],
                version=1,
                issued=document.published,
                columns=held,
                courseware=(again,),
            )
        )
    except (msgspec.ValidationError, FormatError) as error:
        raise InputError(
            f"courseware {document.id} is refused: {error}", zh=f"课件 {document.id} 不合规：{error}"
        ) from error


def substance(document: Courseware) -> Courseware:
    """What makes two versions different: not their number, their hour, or how to patch to them."""
    files = tuple(msgspec.structs.replace(file, patches=()) for file in document.files)
    return msgspec.structs.replace(document, version=1, published="", files=files)
