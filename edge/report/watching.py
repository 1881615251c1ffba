"""From lines of the access log to what was watched: which terminal took what of which lesson, in which hour. Pure.

    line → view (a lesson's file, or an article's page) → begun anew or going on, by the half hour before

Pictures, subtitles and playlists are not watched: lists of lessons load posters, and players load the rest by
themselves. Lines of answers to other edges (`/blobs/…`) do not count.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from functools import lru_cache
from typing import NamedTuple
from urllib.parse import unquote

import msgspec

from manifests.errors import InputError
from manifests.instants import Instant
from manifests.names import parse_courseware_id
from manifests.reports import HOUR_S

# A terminal that took nothing of a lesson for so long begins it anew.
PAUSE_S = 1800
_NOT_WATCHED = re.compile(r"(?i)\.(?:jpe?g|png|gif|webp|svg|bmp|vtt|srt|m3u8)\Z")
_PATH = re.compile(rb"/(media|lessons)/([^/?\s\"]{1,200})(?:/([^/?\s\"]{1,800}))?(?:\?[^\s\"]*)?\Z")
_COMBINED = re.compile(
    rb"(\S+) - - \[(\d\d)/(\w{3})/(\d{4}):(\d\d):(\d\d):(\d\d) ([+-]\d\d)(\d\d)\] "
    rb'"GET (\S+) HTTP/1\.[01]" (20[06]) (\d+) '
)
_MONTHS = {
    month: number for number, month in enumerate(b"Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split(), start=1)
}


class View(NamedTuple):
    """A terminal took something of a lesson.

    Attributes:
        is_page: it opened the lesson's page, which is watching only if the lesson is an article.
    """

    address: str
    courseware: str
    is_page: bool
    bytes: int
    at: Instant


class Terminal(NamedTuple):
    """A terminal and a lesson that it watched; for an hour as a whole the lesson is empty."""

    address: str
    courseware: str


@dataclass(slots=True)
class Counted:
    """What some lines come to.

    Attributes:
        figures: (hour, lesson) → times begun and bytes.
        terminals: hour → who watched what in it.
        seen: when each terminal last took something of each lesson.
    """

    figures: dict[tuple[int, str], tuple[int, int]] = field(default_factory=dict)
    terminals: dict[int, set[Terminal]] = field(default_factory=dict)
    seen: dict[Terminal, Instant] = field(default_factory=dict)


class _JsonLine(msgspec.Struct):
    at: str
    address: str
    method: str
    target: str
    status: int
    bytes: int


_JSON = msgspec.json.Decoder(_JsonLine)


def parse_view(line: bytes) -> View | None:
    """Read one line in either form of the log; None for whatever is no view."""
    if b"/media/" not in line and b"/lessons/" not in line:
        return None
    return _parse_json(line) if line.startswith(b"{") else _parse_combined(line)


def count(views: Iterable[View], seen: Mapping[Terminal, Instant], is_article: Callable[[str], bool]) -> Counted:
    """Add views up.

    Args:
        views: in the order of the log.
        seen: what is known of those who watched before.
        is_article: tells lessons that are read on their page.
    """
    out = Counted()
    for view in views:
        if view.is_page and not is_article(view.courseware):
            continue
        hour, who = view.at - view.at % HOUR_S, Terminal(view.address, view.courseware)
        last = out.seen.get(who, seen.get(who))
        is_begun = last is None or view.at - last > PAUSE_S
        plays, size = out.figures.get((hour, view.courseware), (0, 0))
        out.figures[hour, view.courseware] = (plays + is_begun, size + view.bytes)
        out.terminals.setdefault(hour, set()).update((who, Terminal(view.address, "")))
        # Processes write their lines one after another, not in the order of time.
        out.seen[who] = max(view.at, last or view.at)
    return out


def _parse_combined(line: bytes) -> View | None:
    match = _COMBINED.match(line)
    if match is None:
        return None
    address, day, month, year, hour, minute, second, zone, zone_minutes, target, _, size = match.groups()
    midnight = _midnight(year, month, day, zone, zone_minutes)
    if midnight is None:
        return None
    at = midnight + int(hour) * 3600 + int(minute) * 60 + int(second)
    return _view(address.decode("ascii", "replace"), target, int(size), at)


def _parse_json(line: bytes) -> View | None:
    try:
        one = _JSON.decode(line)
        at = int(datetime.fromisoformat(one.at).timestamp())
    except (msgspec.DecodeError, ValueError, OverflowError):
        return None
    if one.method != "GET" or one.status not in {200, 206}:
        return None
    return _view(one.address, one.target.encode("utf-8", "replace"), one.bytes, at)


def _view(address: str, target: bytes, size: int, at: int) -> View | None:
    found = _path(target)
    if found is None or size <= 0:
        return None
    courseware, is_page = found
    return View(address, courseware, is_page, size, Instant(at))


# Players ask range by range: nearly every target was looked at before.
@lru_cache(4096)
def _path(target: bytes) -> tuple[str, bool] | None:
    match = _PATH.match(target)
    if match is None:
        return None
    kind, id_, name = match.groups()
    is_page = kind == b"lessons"
    if is_page == (name is not None):
        return None
    try:
        courseware = parse_courseware_id(unquote(id_.decode("ascii", "replace")))
    except InputError:
        return None
    if name is not None and _NOT_WATCHED.search(unquote(name.decode("ascii", "replace"))):
        return None
    return courseware, is_page


@lru_cache(16)
def _midnight(year: bytes, month: bytes, day: bytes, zone: bytes, minutes: bytes) -> int | None:
    ahead = timedelta(hours=int(zone), minutes=int(zone[:1] + minutes))
    try:
        return int(datetime(int(year), _MONTHS[month], int(day), tzinfo=timezone(ahead)).timestamp())
    except (KeyError, ValueError, OverflowError):
        return None
