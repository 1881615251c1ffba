"""What this edge knows of its line: its settings and what it measured, put together for planners and reports."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import tzinfo
from typing import Annotated
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec
import structlog
from msgspec import Meta, Struct

from edge.paths import Paths
from edge.settings import Sync
from edge.store.disk import replace_file
from edge.sync.window import Schedule, jitter_of
from manifests.errors import ConfigurationError, FormatError
from manifests.line import HOURS_OF_DAY, HOURS_OF_WEEK, Line, Rate, Window, parse_window

_FORMAT = "yuanjiao-line"
_MAJOR = 1

_log = structlog.get_logger(__name__)


class _Profile(Struct, frozen=True):
    """What stands in `line.json`; beside the index and not in it, for weeks of measuring cannot be rebuilt."""

    format: str
    major: int
    rates: Annotated[tuple[Rate, ...], Meta(min_length=HOURS_OF_WEEK, max_length=HOURS_OF_WEEK)]


def zone_of(settings: Sync) -> tzinfo:
    """The county's time zone.

    Raises:
        ConfigurationError: bad data; no such zone.
    """
    try:
        return ZoneInfo(settings.zone)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ConfigurationError(
            f"sync.zone {settings.zone!r} is no time zone",
            zh=f"sync.zone 的值 {settings.zone!r} 不是有效的时区",
            hint="write an IANA name such as Asia/Shanghai",
            hint_zh="请填写 Asia/Shanghai 这样的时区名",
        ) from error


def line_of(settings: Sync, rates: Sequence[int] = ()) -> Line:
    """The line by these settings, with the rates that were measured.

    Raises:
        ConfigurationError: bad data; caps that are not 24, a window that is none.
    """
    try:
        parse_window(settings.window)
    except FormatError as error:
        raise ConfigurationError(f"sync.window: {error.message}", zh=f"sync.window：{error.zh}") from error
    count = len(settings.caps_bytes_per_s)
    if count not in {0, HOURS_OF_DAY}:
        raise ConfigurationError(
            f"sync.caps_bytes_per_s has {count} values where 24 belong, one for each hour, or none",
            zh=f"sync.caps_bytes_per_s 有 {count} 个值，应为 24 个（每小时一个）或留空",
        )
    return Line(
        zone=settings.zone,
        window=settings.window,
        rates=tuple(rates),
        caps=settings.caps_bytes_per_s,
        default_rate=settings.line_bytes_per_s,
    )


def read_rates(paths: Paths) -> tuple[int, ...]:
    """The rate of each hour of the week as measured so far; empty when nothing was, or what was kept is damaged."""
    try:
        profile = msgspec.json.decode(paths.line.read_bytes(), type=_Profile)
    except FileNotFoundError:
        return ()
    except (OSError, msgspec.DecodeError, UnicodeError, RecursionError) as error:
        _log.warning("line profile not read; it is learnt anew", reason=str(error)[:200])
        return ()
    return profile.rates if (profile.format, profile.major) == (_FORMAT, _MAJOR) else ()


def keep_rates(paths: Paths, rates: tuple[int, ...]) -> None:
    """Write down what was measured.

    Raises:
        StorageError: environment; what was there stays.
    """
    replace_file(paths.line, msgspec.json.encode(_Profile(_FORMAT, _MAJOR, rates)))


def schedule_of(settings: Sync, region: str, rates: Sequence[int] = ()) -> Schedule:
    """The nights of the edge of a region, by these settings and what was measured.

    Raises:
        ConfigurationError: bad data; see `line_of` and `zone_of`.
    """
    line, zone = line_of(settings, rates), zone_of(settings)
    window = parse_window(line.window)
    return Schedule(
        window=window,
        zone=zone,
        line=line,
        jitter_s=jitter_of(region, settings.jitter_minutes, window),
        poll_s=settings.poll_s,
        day_share=settings.day_share,
        viewer_share=settings.viewer_share,
    )


def command_schedule(schedule: Schedule, *, ignore_window: bool) -> Schedule:
    """What a person's command keeps to: the window itself or none, at once; and the caps."""
    return replace(schedule, jitter_s=0, window=Window(0, 0) if ignore_window else schedule.window)
