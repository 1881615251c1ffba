"""The editor's form as a draft to save, and back: numbered fields, instants in the province's time. Pure."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta, timezone
from typing import Any, Final

import msgspec

from manifests.errors import InputError
from manifests.instants import Instant, dump_instant, parse_instant
from manifests.names import Region, is_within, region_level
from origin.drafts.document import FIELDS, MAX_DRAFT_FILES, Document, DraftFile
from origin.drafts.markup import words_in
from origin.drafts.owners import PROVINCE, home_of
from origin.drafts.themes import plan_theme
from origin.stations.regions import RegionRow
from origin.web.api.models_drafts import Conflict, DraftFileInfo, DraftView

MOST_COLUMNS_SHOWN: Final = 200
# China keeps one time all the year round.
_BEIJING: Final = timezone(timedelta(hours=8))
_NOTE_CHARS: Final = 1900
_MOST_NOTES: Final = 40
_SEPARATORS: Final = re.compile(r"[、,，;；\n\r]+")

Fields = Mapping[str, str]


def read_wanted(fields: Fields, view: DraftView, columns: Sequence[str]) -> dict[str, Any]:
    """What the editor's form wants to be saved, as `drafts.save` takes it.

    Args:
        fields: of the form.
        view: the draft that the page showed; its files that may be kept.
        columns: titles of all columns there are, for the month's theme.

    Raises:
        InputError: bad data.
    """
    chosen = numbered(fields, "column", MOST_COLUMNS_SHOWN)
    document = {
        "title": fields.get("title", ""),
        "summary": fields.get("summary", "").replace("\r\n", "\n"),
        "columns": list(dict.fromkeys([*chosen, *split_list(fields.get("columns_new", ""))])),
        "theme": _theme(fields, columns),
        "audience": fields.get("audience", "").split() if fields.get("audience_all") != "1" else [],
        "priority": fields.get("priority", "5"),
        "tags": split_list(fields.get("tags", "")),
        "expires": read_beijing(fields.get("expires", "")),
        "article": fields.get("article", ""),
        "poster": fields.get("poster", "auto"),
        "credit": fields.get("credit", ""),
        "kept": [one.name for n, one in enumerate(view.base_files) if fields.get(f"kept-{n}")],
        "hls": fields.get("hls") == "1",
        "publisher": fields.get("publisher", "") or view.document.publisher,
    }
    return {
        "revision": fields.get("revision", ""),
        "document": document,
        "files": _files(fields),
        "publish_at": read_beijing(fields.get("publish_at", "")),
    }


def shown(wanted: Mapping[str, Any], view: DraftView) -> DraftView:
    """The draft with what was typed instead of what is saved, for a page that has to say what is wrong with it.

    It keeps the revision that was typed over: somebody else's change must not be overwritten by the next try.
    """
    # Built and not converted: what breaks a limit has to be shown as well, or it could not be mended.
    values: dict[str, Any] = dict(wanted["document"])
    values |= {name: tuple(value) for name, value in values.items() if isinstance(value, list)}
    document = Document(**{**values, "priority": _number(values["priority"], 5)})
    typed = tuple(DraftFile(**one) for one in wanted["files"])
    revision = _number(wanted["revision"], view.revision)
    known = {one.upload: one for one in view.files}
    files = tuple(
        msgspec.structs.replace(known[one.upload], name=one.name, role=one.role)
        if one.upload in known
        else DraftFileInfo(one.upload, one.name, one.role, "", "", 0, 0.0, "", "ready", "", "")
        for one in typed
    )
    return msgspec.structs.replace(
        view, revision=revision, document=document, files=files, publish_at=wanted["publish_at"]
    )


def marks_of(document: Document, files: Sequence[Any], publish_at: str | None) -> str:
    """A short mark of each field as a page shows it, by which it is known later who of two changed what."""
    named = [(one.upload, one.name, str(one.role)) for one in files]
    values: dict[str, Any] = {name: getattr(document, name) for name in FIELDS}
    values |= {"files": named, "publish_at": publish_at}
    digests = {name: hashlib.sha256(msgspec.json.encode(value)).hexdigest()[:16] for name, value in values.items()}
    return msgspec.json.encode(digests).decode()


def choices_of(both: Conflict, seen: str) -> dict[str, str]:
    """Whose version of each field that differs to begin with: of one that only one of the two changed, theirs."""
    try:
        base = msgspec.json.decode(seen or "{}", type=dict[str, str])
    except (msgspec.DecodeError, UnicodeError):
        base = {}
    mine = msgspec.json.decode(marks_of(both.mine, both.mine_files, both.mine_publish_at), type=dict[str, str])
    return {name: "theirs" if base.get(name) == mine[name] else "mine" for name in both.differing}


def left_out(fields: Fields, mine: Mapping[str, Any], theirs: Document, words: Callable[..., str]) -> list[str]:
    """What a merge leaves out, in portions for the draft's notes, so that nobody's text is lost."""
    parts = []
    for name in FIELDS:
        take = fields.get(f"take-{name}")
        if take is None:
            continue
        own, other = mine.get(name, ""), getattr(theirs, name)
        side, value = ("draft.merge_mine", own) if take == "theirs" else ("draft.merge_theirs", other)
        text = words_in(str(value)) if name == "article" else _told(value)
        if text:
            parts.append(f"{words('field.' + name)}（{words(side)}）：{text}")
    whole = "\n".join(parts)
    return [whole[at : at + _NOTE_CHARS] for at in range(0, min(len(whole), _NOTE_CHARS * _MOST_NOTES), _NOTE_CHARS)]


def read_beijing(text: str) -> str | None:
    """An instant on the wire of what a `datetime-local` field gives, in the province's time; None of nothing.

    Raises:
        InputError: bad data.
    """
    if not text.strip():
        return None
    try:
        local = datetime.strptime(text.strip()[:16], "%Y-%m-%dT%H:%M")  # noqa: DTZ007 - the zone is given below
        return dump_instant(Instant(int(local.replace(tzinfo=_BEIJING).timestamp())))
    except (ValueError, OverflowError) as error:
        raise InputError(f"time {text[:40]!a} is refused: 2026-12-01T08:00 is the form", zh="时间格式不对") from error


def show_beijing(text: str | None) -> str:
    """An instant on the wire as a `datetime-local` field takes it."""
    return "" if not text else datetime.fromtimestamp(parse_instant(text), _BEIJING).strftime("%Y-%m-%dT%H:%M")


def split_list(text: str) -> list[str]:
    """The parts of what somebody typed with any of the usual separators."""
    return [part.strip() for part in _SEPARATORS.split(text) if part.strip()]


def numbered(fields: Fields, name: str, most: int) -> list[str]:
    """The values of `name-0`, `name-1` and so on that are there and not empty."""
    return [fields[f"{name}-{n}"] for n in range(most) if fields.get(f"{name}-{n}")]


def audience_tree(rows: Iterable[RegionRow], view: DraftView, own: Region) -> list[dict[str, Any]]:
    """The tree of a draft's audience: of one's own region, as far as the word of its publisher goes.

    Whoever may choose the publisher gets the other cities too, `hidden`, for the script that shows them.
    """
    city = city_of_view(view)
    area = city if city is not None and not view.publishers and is_within(city, own) else own
    tree = region_tree(rows, view.document.audience, area)
    return [one | {"hidden": bool(city and view.publishers) and one["code"] != city} for one in tree]


def homes_of(view: DraftView) -> dict[str, Region]:
    """Who is meant when all are, by each publisher that may be chosen, and by the present one."""
    every = (*view.publishers, view.document.publisher)
    return {one: home_of(Region(view.region), None if one in {"", PROVINCE} else Region(one)) for one in every}


def city_of_view(view: DraftView) -> Region | None:
    """The city into whose catalog a draft goes, as its page shows it; None for the province's."""
    publisher = view.document.publisher
    return None if publisher in {"", PROVINCE} else Region(publisher)


def region_tree(rows: Iterable[RegionRow], chosen: Sequence[str], area: Region) -> list[dict[str, Any]]:
    """Cities with their counties for check boxes, of one's own area.

    Returns:
        For each city: code, name, whether it is `on`, whether some of its counties are (`part`), and its counties.
    """
    within = [row for row in rows if is_within(row.code, area)]
    picked = set(chosen)
    cities: dict[str, dict[str, Any]] = {}
    for row in within:
        if region_level(row.code) == "city":
            on = row.code in picked
            cities[row.code] = {"code": row.code, "name": row.name, "on": on, "part": False, "counties": []}
    for row in within:
        if region_level(row.code) != "county":
            continue
        code = row.code[:4] + "00"
        city = cities.setdefault(code, {"code": "", "name": "", "on": False, "part": False, "counties": []})
        on = row.code in picked
        city["counties"].append({"code": row.code, "name": row.name, "on": on})
        city["part"] = city["part"] or (on and not city["on"])
    return [city for city in cities.values() if city["counties"] or city["code"]]


def _number(text: str, otherwise: int) -> int:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 16 else otherwise


def _told(value: Any) -> str:
    return "、".join(map(str, value)) if isinstance(value, list | tuple) else str(value or "")


def _theme(fields: Fields, columns: Sequence[str]) -> str:
    theme = fields.get("theme", "")
    if theme != "new":
        return theme
    return plan_theme(fields.get("theme_month", "").strip(), fields.get("theme_title", ""), columns).column


def _files(fields: Fields) -> list[dict[str, str]]:
    found = []
    for n in range(2 * MAX_DRAFT_FILES):
        upload = fields.get(f"file-{n}-upload")
        if upload and not fields.get(f"file-{n}-drop"):
            role = fields.get(f"file-{n}-role", "file")
            found.append({"upload": upload, "name": fields.get(f"file-{n}-name", ""), "role": role})
    return found
