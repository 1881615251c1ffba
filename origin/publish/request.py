"""What a person asks to publish, checked before anything is read: a bad title must not cost an hour of transcoding."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from manifests.cities import parse_city
from manifests.errors import FormatError, InputError
from manifests.instants import Instant, parse_instant
from manifests.model import MAX_FILES
from manifests.names import (
    CoursewareId,
    Region,
    is_within,
    parse_courseware_id,
    parse_credit,
    parse_file_name,
    parse_label,
    parse_region,
    parse_summary,
    parse_title,
)
from origin.publish.pilot_plan import PilotWish, check_waves

MAX_COLUMNS = 50
MAX_TAGS = 50
MAX_AUDIENCE = 4000

_LANGUAGE = re.compile(r".*\.([a-z]{2,3}(?:-[A-Za-z0-9]{2,8})?)\.[A-Za-z]+")


@dataclass(frozen=True, slots=True)
class PublishRequest:
    """A courseware as the command line or the console hands it in, unchecked.

    Attributes:
        id: empty or None to derive it from the first file.
        columns: titles or ids.
        audience: region codes; empty for all of the publisher's region.
        publisher: code of the city that publishes; empty for the province.
        expires: instant text, None for never.
        hls: False for videos that shall not play as HLS, whatever the settings say.
        credit: who made it; empty for nobody.
        pilot: to some regions first; None: to all at once.
    """

    files: tuple[Path, ...]
    title: str
    id: str | None = None
    columns: tuple[str, ...] = ()
    audience: tuple[str, ...] = ()
    priority: int = 5
    summary: str = ""
    tags: tuple[str, ...] = ()
    expires: str | None = None
    hls: bool = True
    credit: str = ""
    publisher: str = ""
    pilot: PilotWish | None = None


@dataclass(frozen=True, slots=True)
class Headline:
    """The checked words of a request: all that is not a file."""

    title: str
    id: CoursewareId | None
    columns: tuple[str, ...]
    audience: tuple[Region, ...]
    priority: int
    summary: str
    tags: tuple[str, ...]
    expires: str | None
    credit: str = ""
    publisher: str = ""
    pilot: PilotWish | None = None


def check_request(request: PublishRequest, province: Region, now: Instant) -> Headline:
    """Check everything that can be checked without opening a file.

    Raises:
        InputError: bad data; names the first thing that is wrong.
    """
    _check_count(len(request.files), MAX_FILES, "files", "文件")
    if not request.files:
        raise InputError("no file to publish", zh="没有要发布的文件")
    _check_count(len(request.columns), MAX_COLUMNS, "columns", "专栏")
    _check_count(len(request.tags), MAX_TAGS, "tags", "标签")
    _check_count(len(request.audience), MAX_AUDIENCE, "audience regions", "受众地区")
    if not 0 <= request.priority <= 9:
        raise InputError(f"priority {request.priority} is refused: 0 to 9", zh="优先级应为 0 到 9")
    for path in request.files:
        parse_file_name(path.name)
    city = parse_city(request.publisher, province) if request.publisher not in {"", province} else ""
    audience = _audience(request.audience, Region(city or province))
    if request.pilot is not None:
        check_waves(request.pilot.waves, audience)
    return Headline(
        title=parse_title(request.title),
        id=parse_courseware_id(request.id) if request.id else None,
        columns=tuple(dict.fromkeys(parse_label(column) for column in request.columns)),
        audience=audience,
        priority=request.priority,
        summary=parse_summary(request.summary),
        tags=tuple(dict.fromkeys(parse_label(tag, "tag", "标签") for tag in request.tags)),
        expires=_expires(request.expires, now),
        credit=parse_credit(request.credit),
        publisher=city,
        pilot=request.pilot,
    )


def language_of(name: str) -> str:
    """The language that a subtitle's name tells (`lesson.zh.srt`), Chinese when it tells none."""
    match = _LANGUAGE.fullmatch(name)
    return match[1] if match else "zh"


def _check_count(count: int, most: int, what: str, what_zh: str) -> None:
    if count > most:
        raise InputError(f"{count} {what} are refused: at most {most}", zh=f"{what_zh}过多（{count}），最多 {most}")


def _audience(codes: tuple[str, ...], publisher: Region) -> tuple[Region, ...]:
    regions = tuple(dict.fromkeys(parse_region(code) for code in codes)) or (publisher,)
    for region in regions:
        if not is_within(region, publisher):
            raise InputError(
                f"audience {region} is refused: it lies outside {publisher}, for which is published",
                zh=f"受众地区 {region} 不在本源站的发布范围（{publisher}）内",
            )
    return regions


def _expires(text: str | None, now: Instant) -> str | None:
    if text is None:
        return None
    try:
        at = parse_instant(text)
    except FormatError as error:
        raise InputError(str(error), zh=f"到期时间 {text[:40]!r} 格式不对，应形如 2026-12-31T00:00:00Z") from error
    if at <= now:
        raise InputError(f"expiry {text} is not in the future", zh=f"到期时间 {text} 不在将来")
    return text
